//! Bytes that a sink compresses. The promises are in `collector::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| collector::fuzz::compressed(input));
