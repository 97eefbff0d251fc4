//! Feeds [`outpost_fuzz::onnx`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outpost_fuzz::onnx(bytes);
});
