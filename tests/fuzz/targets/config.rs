//! Feeds [`outpost_fuzz::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outpost_fuzz::config(bytes);
});
