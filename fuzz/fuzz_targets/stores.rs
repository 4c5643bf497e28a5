//! See `tests::fuzz::stores`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tests::fuzz::stores(data);
});
