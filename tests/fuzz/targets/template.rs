//! Feeds [`outpost_fuzz::template`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outpost_fuzz::template(bytes);
});
