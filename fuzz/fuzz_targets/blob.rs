//! A blob's bytes, to the decoder. The promises are in `collector::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| collector::fuzz::blob(input));
