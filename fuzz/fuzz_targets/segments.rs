//! See `tests::fuzz::segments`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tests::fuzz::segments(data);
});
