//! The probe under mpirun.

use std::process::{Command, Output};

/// Runs the probe on `ranks` ranks; `None`, said aloud, where there is no mpirun.
fn probe(ranks: usize, flags: &str) -> Option<Output> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("mpirun");
    command.args(["-n", &ranks.to_string()]).current_dir(folder.path()).env("HOME", folder.path());
    let open_mpi = Command::new("mpirun").arg("--version").output().ok()?;
    if String::from_utf8_lossy(&open_mpi.stdout).contains("Open MPI") {
        command.args(["--oversubscribe", "--bind-to", "none"]);
        command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    }
    // mpirun gives rank 0 a terminal of its own.
    command.arg(env!("CARGO_BIN_EXE_check-devices-probe")).args(["--color", "never"]).args(flags.split_whitespace());
    command.output().ok()
}

#[test]
fn all_ranks_look_and_one_of_them_speaks() {
    let cases = [
        // An honest layout passes; both ranks took part in the sum.
        (2, "--probe --batch 64 --device cpu --ranks-per-node 2 --only B01,B03,D13,O01", 0, "ok: 4 checks passed"),
        (3, "--probe --batch 64 --device cpu --ranks-per-node 3 --only B01", 1, "error[B01]"),
        // Where nothing is said the ranks that are there are meant; flags mean others.
        (3, "--probe --batch 64 --device cpu --only B01", 1, "error[B01]"),
        (2, "--probe --batch 64 --device cpu --only B01", 0, "ranks                           2   (MPI)"),
        (
            2,
            "--probe --batch 63 --device cpu --only B01 --nodes 1 --ranks-per-node 3",
            0,
            "batch per rank                 21",
        ),
        (2, "--probe --batch 0", 2, "--batch: must be at least 1"),
    ];
    for (ranks, flags, status, words) in cases {
        let Some(output) = probe(ranks, flags) else {
            eprintln!("SKIPPED: there is no mpirun here");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{flags}: {text}");
        assert_eq!(text.matches(words).count(), 1, "{flags}: {text}");
    }
}
