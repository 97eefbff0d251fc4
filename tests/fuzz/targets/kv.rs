//! Feeds [`outpost_fuzz::kv`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outpost_fuzz::kv(bytes);
});
