//! What users do on a cluster, on a real Slurm: the scripts of `slurm/`, launchers, GPUs, ends of all kinds.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use multi_rank_tests::slurm::{Sandbox, root};
use multi_rank_tests::{Mpirun, binary};
use rustix::process::{Pid, Signal, kill_process};

/// The scripts of `slurm/`.
fn scripts() -> Vec<String> {
    let names = fs::read_dir(root().join("slurm")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".sbatch"));
    names.sort_unstable();
    names
}

/// The top-1 scores of a run's epochs.
fn top1(run: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter_map(|line| line["top1"].as_f64()).collect()
}

#[test]
fn every_script_passes_the_preflight_and_starts_with_one() {
    let scripts = scripts();
    assert!(scripts.len() >= 6, "{scripts:?}");
    for name in scripts {
        let path = root().join("slurm").join(&name);
        let judged = Command::new(binary("check-devices")).args(["--deny", "warnings"]).arg(&path).output().unwrap();
        assert!(judged.status.success(), "{name}: {}", String::from_utf8_lossy(&judged.stdout));
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().find(|line| line.starts_with("srun ")).unwrap();
        assert!(first.contains("check-devices\" --probe"), "{name}: {first}");
    }
}

#[test]
fn the_scripts_train_as_mpirun_does() {
    let Some(sandbox) = Sandbox::new(4) else { return };
    let folder = tempfile::tempdir().unwrap();
    let flags = "--epochs 3 --sync-bn";
    let by_hand = Mpirun::new(4).directory(folder.path());
    by_hand.run(&binary("rust-train"), format!("{flags} --output by-hand").split(' ')).expect_success();
    let expected = *top1(&folder.path().join("by-hand")).last().unwrap();
    assert!(expected > 0.8, "top-1 {expected}");

    let jobs = [
        ("two", "train-multinode.sbatch --ntasks-per-node=2", 4, 2),
        ("four", "train-multinode.sbatch --nodes=4 --ntasks-per-node=2", 8, 4),
        ("one", "train.sbatch", 4, 1),
        ("cpu", "train-cpu.sbatch", 4, 1),
    ];
    for (name, options, ranks, nodes) in jobs {
        let (script, options) = options.split_once(' ').unwrap_or((options, ""));
        let script = format!(
            "export DEVICE=cpu BATCH=64 FLAGS='{flags} --output {name}'
             submit --cpus-per-task=1 --output={name}.log {options} $ROOT/slurm/{script}; cat {name}.log"
        );
        let outcome = sandbox.run(folder.path(), &script);
        assert!(outcome.expect_success().stdout.starts_with("COMPLETED\n"), "{}", outcome.stdout);
        let log = fs::read_to_string(folder.path().join(format!("{name}.log"))).unwrap();
        // The preflight first, then the ranks, under the names of their nodes.
        let first = log.lines().position(|line| line.starts_with("ok: ")).expect(&log);
        let placed = format!("rank {}/{ranks} n{nodes}] pid ", ranks - 1);
        assert!(first < log.lines().position(|line| line.contains(&placed)).expect(&log), "{log}");
        let got = *top1(&folder.path().join(name)).last().unwrap();
        // Eight ranks add up in another order.
        let most = if ranks == 4 { 0.005 } else { 0.05 };
        assert!((got - expected).abs() <= most, "{name}: top-1 {got}, and {expected} under mpirun");
    }
}

/// How `train-requeue.sbatch` is submitted: four ranks on two nodes.
const REQUEUE: &str = "
    export DEVICE=cpu BATCH=64 FLAGS=${FLAGS:---epochs 4}
    train() { sbatch --parsable --ntasks-per-node=2 --cpus-per-task=1 --output=$1.log $ROOT/slurm/train-requeue.sbatch; }";

#[test]
fn interrupted_runs_end_as_if_they_had_not_been() {
    let Some(sandbox) = Sandbox::new(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, interrupt: &str| {
        let script = format!(
            "{REQUEUE}
             export OUTPUT={name}
             job=$(train {name})
             {interrupt}
             ended $job; cat {name}.log"
        );
        let outcome = sandbox.run(folder.path(), &script);
        let log = outcome.expect_success().stdout.clone();
        assert!(log.contains("COMPLETED\n"), "{name}: {log}");
        (log, fs::read(folder.path().join(name).join("last.safetensors")).unwrap())
    };
    let (_, whole) = run("whole", "");
    let interruptions = [
        // What the user does, or Slurm some minutes before the time limit (--signal).
        ("signalled", "wait_for 'epoch 2:' signalled.log; scancel --signal=USR1 $job"),
        ("preempted", "wait_for 'epoch 2:' preempted.log; srun -p high -N2 --exclusive --mpi=none true"),
        ("by-hand", "wait_for 'epoch 2:' by-hand.log; scontrol requeue $job"),
    ];
    for (name, interrupt) in interruptions {
        let (log, weights) = run(name, interrupt);
        let went_on = format!("going on from {name}/checkpoints/step-");
        assert!(log.contains("stopped by a signal after step") && log.contains(&went_on), "{log}");
        assert!(weights == whole, "{name}: other weights than without an interruption\n{log}");
    }
}

#[test]
fn a_cancelled_job_saves_and_does_not_come_back() {
    let Some(sandbox) = Sandbox::new(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "{REQUEUE}
         export OUTPUT=run; job=$(train run); wait_for 'epoch 2:' run.log; scancel $job
         ended $job; sleep 3; state $job; cat run.log"
    );
    let outcome = sandbox.run(folder.path(), &script);
    assert!(outcome.expect_success().stdout.starts_with("CANCELLED\nCANCELLED\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("stopped by a signal after step"), "{}", outcome.stdout);
}

#[test]
fn a_lost_rank_is_reported_and_the_next_job_goes_on() {
    let Some(sandbox) = Sandbox::new(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "{REQUEUE}
         export OUTPUT=run; job=$(train first); wait_for 'epoch 2:' first.log
         slurm-sandbox-node run n2 bash -c 'kill -KILL $(pgrep -x rust-train | tail -n 1)'
         ended $job; cat first.log
         ended $(train second); cat second.log"
    );
    let outcome = sandbox.run(folder.path(), &script);
    let log = &outcome.expect_success().stdout;
    let (first, second) = log.split_once("COMPLETED\n").expect(log);
    assert!(first.starts_with("FAILED\n") && first.contains("n2: task 3: Killed"), "{log}");
    assert!(second.contains("going on from run/checkpoints/step-") && second.contains("done: top-1"), "{log}");
}

#[test]
fn a_lost_node_is_replaced() {
    let Some(sandbox) = Sandbox::new(3) else { return };
    let folder = tempfile::tempdir().unwrap();
    // Slurm takes half a minute to miss a node; without its slurmd alone, the job trains on until then.
    for (loss, flags) in [("kill", "--epochs 6"), ("kill-slurmd", "--epochs 2000")] {
        let script = format!(
            "FLAGS='{flags}'; {REQUEUE}
             export OUTPUT={loss}; job=$(train {loss}); wait_for 'epoch 3:' {loss}.log
             slurm-sandbox-node {loss} n2
             wait_for 'goes on after step' {loss}.log
             [ {loss} = kill ] || scancel $job
             ended $job; cat {loss}.log"
        );
        let outcome = sandbox.clone().timeout(Duration::from_secs(180)).run(folder.path(), &script);
        let log = &outcome.expect_success().stdout;
        assert!(log.starts_with(if loss == "kill" { "COMPLETED\n" } else { "CANCELLED\n" }), "{log}");
        assert!(log.contains("NODE FAILURE") && log.contains("rank 3/4 n3] pid "), "{log}");
    }
}

#[test]
fn a_killed_sandbox_leaves_nothing() {
    let Some(sandbox) = Sandbox::new(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    for signal in [Signal::KILL, Signal::TERM] {
        let mut job =
            sandbox.start(folder.path(), "srun -N2 --mpi=none true; echo up >&2; srun -N2 --mpi=none sleep 4711");
        job.wait_until(|stderr| stderr.contains("up"));
        assert!(first_process_of(folder.path()).is_some());
        kill_process(Pid::from_raw(job.id() as i32).unwrap(), signal).unwrap();
        let outcome = job.wait();
        assert_eq!(outcome.status, if signal == Signal::TERM { Some(143) } else { None }, "{outcome:?}");
        let start = Instant::now();
        while let Some(process) = first_process_of(folder.path()) {
            assert!(start.elapsed() < Duration::from_secs(10), "{process} is left");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A process that was started from a script in `folder`, as its environment says.
fn first_process_of(folder: &Path) -> Option<String> {
    let mark = format!("PWD={}\0", folder.display());
    let marked = |process: &Path| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&mark)
    };
    let process = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()).find(|process| marked(process))?;
    fs::read_to_string(process.join("cmdline")).ok()
}
