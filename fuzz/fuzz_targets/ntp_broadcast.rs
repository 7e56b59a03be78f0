//! Fuzzes `refclockd_fuzz::ntp_broadcast`; built without a fuzzer, it replays the files it is given.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| refclockd_fuzz::ntp_broadcast(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    refclockd_fuzz::replay(refclockd_fuzz::ntp_broadcast)
}
