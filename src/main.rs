//! The `procrt` program: arguments in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    procrt::cli::main(std::env::args_os())
}
