//! Feeds [`outpost_fuzz::generation`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outpost_fuzz::generation(bytes);
});
