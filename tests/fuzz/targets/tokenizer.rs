//! Feeds [`outpost_fuzz::tokenizer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outpost_fuzz::tokenizer(bytes);
});
