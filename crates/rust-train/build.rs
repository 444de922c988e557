//! What executables are linked with, and which commit they are of.

use std::process::Command;

#[path = "../torch-ext/rpath.rs"]
mod rpath;

fn main() {
    rpath::main();
    // Whoever changes the program has commits all the time, and would build it anew for each.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let git = |arguments: &[&str]| {
            let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
            Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
        };
        if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
            println!("cargo::rerun-if-changed={log}");
        }
        if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
            println!("cargo::rustc-env=RUST_TRAIN_COMMIT={commit}");
        }
    }
}
