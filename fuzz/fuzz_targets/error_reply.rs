//! A reply that is no success, with its status and headers. The promises are in `collector::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| collector::fuzz::error_reply(input));
