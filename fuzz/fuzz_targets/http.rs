//! See `tests::fuzz::http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tests::fuzz::http(data);
});
