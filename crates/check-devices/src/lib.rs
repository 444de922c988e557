//! Judges devices, ranks and batch before a job is submitted.
//!
//! Runs on a login node in milliseconds: it links neither MPI nor CUDA nor libtorch, and uses the very arithmetic
//! (`layout`) that the trainer runs.

mod cli;
mod machine;
mod resolve;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use cli::Cli;
use resolve::resolve;

/// Runs the program: exit status 0 where the layout works, 1 where it does not, 2 on wrong usage.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print(); // where stderr is closed there is nobody to tell
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let report = resolve(&cli, machine::nvidia_devices);
    let mut out = std::io::stdout().lock();
    match report {
        Ok(report) => {
            let shown = write!(out, "{report}").and_then(|()| out.flush());
            match shown {
                Ok(()) if report.fits() => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
