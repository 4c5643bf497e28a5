//! See `tests::fuzz::options`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tests::fuzz::options(data);
});
