//! The body of a post to the webhook. The promises are in `collector::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| collector::fuzz::notification(input));
