#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    halligan_fuzz::archive::check(data);
});
