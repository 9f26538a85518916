//! A page of a listing, with its status and headers. The promises are in `collector::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| collector::fuzz::content_list(input));
