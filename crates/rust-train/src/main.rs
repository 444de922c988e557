//! The trainer's binary: see the library for everything.

use std::process::ExitCode;

fn main() -> ExitCode {
    rust_train::main()
}
