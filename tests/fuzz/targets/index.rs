//! Feeds [`outpost_fuzz::index`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outpost_fuzz::index(bytes);
});
