//! Feeds [`outpost_fuzz::grammar`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outpost_fuzz::grammar(bytes);
});
