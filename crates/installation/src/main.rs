//! `rust-train` as pip installs it. The real program lies among Python's packages, and needs the libtorch of PyTorch's wheel,
//! which lies beside it: this one finds both, and puts the program in its own place. No Python is started.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use installation::{Diagnosis, Surroundings, find_libtorch, find_program};
use mpi::Launcher;

/// What `LD_LIBRARY_PATH` was: the program gives it back to what it starts in turn.
const RESTORED: &str = "RUST_TRAIN_LD_LIBRARY_PATH";

fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let surroundings = Surroundings { program, variable: &variable };
    let real = match find_program(&surroundings) {
        Ok(real) => real,
        Err(looked) => {
            let looked: Vec<_> = looked.iter().map(|place| place.display().to_string()).collect();
            return refuse(&format!(
                "the package rust_train is not whole: reinstall it (looked at {})",
                looked.join(", ")
            ));
        }
    };
    let libtorch = match find_libtorch(&surroundings) {
        Ok(libtorch) => libtorch,
        // The program itself cannot be loaded, and most of what the doctor says does not need it.
        Err(none) if is_doctor() => {
            let mut diagnosis = Diagnosis::of_machine(None);
            diagnosis.add("libtorch", Err(none.to_string()));
            if Launcher::speaks() {
                print!("{diagnosis}");
            }
            return ExitCode::from(2);
        }
        Err(none) => return refuse(&none.to_string()),
    };
    let error = start(&real, &libtorch.folder);
    refuse(&format!("{}: {error}", real.display()))
}

/// The subcommand, if it is this one; flags that stand before it take no value.
fn is_doctor() -> bool {
    let first = std::env::args_os().skip(1).find(|argument| !argument.to_string_lossy().starts_with('-'));
    first.is_some_and(|first| first == "doctor")
}

/// Puts `program` in the place of this one; comes back only with an error.
fn start(program: &Path, libtorch: &Path) -> std::io::Error {
    let before = std::env::var_os("LD_LIBRARY_PATH");
    let mut path = OsString::from(libtorch);
    if let Some(before) = before.as_deref().filter(|before| !before.is_empty()) {
        path.push(":");
        path.push(before);
    }
    Command::new(program)
        .arg0(OsStr::new("rust-train"))
        .args(std::env::args_os().skip(1))
        .env("LD_LIBRARY_PATH", path)
        .env(RESTORED, before.unwrap_or_default())
        .env("RUST_TRAIN_LAUNCHER", std::fs::read_link("/proc/self/exe").unwrap_or_default())
        .exec()
}

/// Says it once for all tasks of a launcher.
fn refuse(message: &str) -> ExitCode {
    if Launcher::speaks() {
        eprintln!("error: {message}");
    }
    ExitCode::from(2)
}
