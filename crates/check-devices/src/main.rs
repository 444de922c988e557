//! The preflight's binary: see the library for everything.

use std::process::ExitCode;

fn main() -> ExitCode {
    check_devices::main()
}
