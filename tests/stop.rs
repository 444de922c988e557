//! However a rank ends, the whole job ends soon, with an exit status and a message that name it.

use std::path::Path;
use std::time::Duration;

use multi_rank_tests::{Mpirun, announced_pid, binary, is_open_mpi};
use rustix::process::{Signal, kill_process};

#[test]
fn one_rank_takes_all_along() {
    let program = Path::new(env!("CARGO_BIN_EXE_stop-program"));
    // How a rank leaves, what must be written about it, and the exit status where the rank chooses it.
    let cases = [
        ("panic", "error: rank {} on", "out of cheese", Some(1)),
        ("thread-panic", "error: rank {} on", "out of cheese", Some(1)),
        ("error", "error: rank {} on", "out of cheese", Some(3)),
        ("kill", "process rank {} with PID", "signal 9", None),
        ("kill", "asked to end while waiting in all-reduce (sum of 1000 f32)", "for rank {} on", None),
        ("exit", "", "exit", None),
        ("interrupt-twice", "", "Exit code:    130", None),
        ("kill-midway", "asked to end while waiting in all-reduce (sum of 50000000 f32)", "for rank {} on", None),
        (
            "stall",
            "gave up after 2 s in all-reduce (sum of 1000 f32) of channel control",
            "waiting for rank {}",
            Some(1),
        ),
        // In the middle of a transfer: all ranks had come.
        ("freeze", "gave up after 2 s in all-reduce (sum of 50000000 f32) of", "waiting for rank {}", Some(1)),
        ("other-collective", "the ranks called different collectives: rank {} on", "called barrier", Some(1)),
        ("other-size", "the ranks called different collectives: rank {} on", "(sum of 999 f32)", Some(1)),
    ];
    for (how, place, reason, status) in cases {
        for (ranks, who) in [(2, 0), (3, 1), (3, 2)] {
            let job = Mpirun::new(ranks).timeout(Duration::from_secs(30));
            let outcome = job.run(program, [how, &who.to_string()]);
            let case = format!("{how} of rank {who} of {ranks}: {outcome:?}");
            assert!(outcome.elapsed < Duration::from_secs(10), "{case}");
            assert!(outcome.status != Some(0) && (status.is_none() || outcome.status == status), "{case}");
            // What MPICH's launcher does about a lost rank: it kills the others at once, and says less.
            if !is_open_mpi() && ["kill", "kill-midway", "exit", "interrupt-twice"].contains(&how) {
                assert!(!how.starts_with("kill") || outcome.says_killed(who), "{case}");
                continue;
            }
            let [place, reason] = [place, reason].map(|text| text.replace("{}", &who.to_string()));
            // Of two ranks that disagree, either may be the one that is wrong.
            let named = outcome.stderr.contains(&place) || (ranks == 2 && place.contains("different"));
            assert!(named && outcome.stderr.contains(&reason), "{case}");
        }
    }
}

#[test]
fn an_mpi_that_does_not_end_holds_nobody() {
    let program = Path::new(env!("CARGO_BIN_EXE_stop-program"));
    let outcome = Mpirun::new(3).timeout(Duration::from_secs(30)).run(program, ["no-end", "2"]);
    assert!(outcome.elapsed < Duration::from_secs(10), "{outcome:?}");
    let word = "warning: all ranks are done, but MPI_Finalize has not ended for 2s: leaving without it";
    assert_eq!((outcome.stderr.matches(word).count(), outcome.status), (1, Some(7)), "{outcome:?}");
}

#[test]
fn a_killed_trainer_ends_the_job() {
    let folder = tempfile::tempdir().unwrap();
    for who in [0, 1] {
        let launcher = Mpirun::new(2).directory(folder.path());
        let mut job = launcher.start(&binary("rust-train"), ["--epochs", "1000"]);
        let stderr = job.wait_until(|stderr| stderr.contains("epoch 2:"));
        let killed = std::time::Instant::now();
        kill_process(announced_pid(who, &stderr).expect("every rank announces its process"), Signal::KILL).unwrap();
        let outcome = job.wait();
        assert!(killed.elapsed() < Duration::from_secs(10), "{outcome:?}");
        assert_ne!(outcome.status, Some(0), "{outcome:?}");
        assert!(outcome.says_killed(who), "{outcome:?}");
    }
}

#[test]
fn ranks_that_take_no_part_in_a_measurement_wait_for_it_and_hear_signals() {
    let folder = tempfile::tempdir().unwrap();
    let launcher = Mpirun::new(2).directory(folder.path());
    let measured = launcher.run(&binary("rust-train"), ["bench", "--window", "2", "--windows", "2", "--timeout", "2"]);
    measured.expect_success();

    for who in [0, 1] {
        let output = format!("bench-{who}");
        let flags = ["bench", "--window", "100", "--output", &output];
        let mut job = launcher.start(&binary("rust-train"), flags);
        let stderr = job.wait_until(|stderr| announced_pid(1, stderr).is_some());
        std::thread::sleep(Duration::from_secs(3));
        let start = std::time::Instant::now();
        kill_process(announced_pid(who, &stderr).expect("every rank announces its process"), Signal::TERM).unwrap();
        let outcome = job.wait();
        assert!(start.elapsed() < Duration::from_secs(5), "{outcome:?}");
        assert_eq!(outcome.status, Some(75), "{outcome:?}");
        assert!(outcome.stderr.contains("stopped by a signal while measuring; no results are written"), "{outcome:?}");
        assert!(!folder.path().join(output).join("scaling.json").exists());
    }
}

#[test]
fn a_signal_to_one_rank_stops_all_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    for (who, signal) in [(1, Signal::TERM), (0, Signal::USR1), (1, Signal::INT)] {
        let launcher = Mpirun::new(2).directory(folder.path());
        let output = format!("{who}-{signal:?}");
        let mut job = launcher.start(&binary("rust-train"), ["--epochs", "1000", "--output", &output]);
        let stderr = job.wait_until(|stderr| stderr.contains("epoch 2:"));
        kill_process(announced_pid(who, &stderr).expect("every rank announces its process"), signal).unwrap();
        let outcome = job.wait();
        assert_eq!(outcome.status, Some(75), "{outcome:?}");
        assert!(outcome.stderr.contains("stopped by a signal after step"), "{outcome:?}");
        assert!(folder.path().join(output).join("last.safetensors").exists());
    }
}
