//! The service, built to die at a step of the commit protocol (`CRASH_AT`). For the crash test.

fn main() -> std::process::ExitCode {
    coffer_server::main()
}
