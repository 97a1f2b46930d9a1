//! The service.

fn main() -> std::process::ExitCode {
    coffer_server::main()
}
