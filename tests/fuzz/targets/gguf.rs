//! Feeds [`outpost_fuzz::gguf`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outpost_fuzz::gguf(bytes);
});
