//! Feeds [`outpost_fuzz::seats::intake`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outpost_fuzz::seats::intake(bytes);
});
