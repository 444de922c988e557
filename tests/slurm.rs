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
        let first = text.lines().map(str::trim).find(|line| line.starts_with("srun ")).unwrap();
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
    export DEVICE=cpu BATCH=64 FLAGS=${FLAGS:---epochs 8}
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
    // Nothing is saved yet: what ends is the preflight. It leaves what Slurm leaves of a step that is killed while it
    // starts, and the step of this number cannot start in the next turn.
    let early = "
        step() { squeue -hs -j $job -o %i | grep '[.]0$'; }
        until step; do sleep 0.05; done; scontrol requeue $job; while step; do sleep 0.05; done
        touch $SLURM_SANDBOX/spool-n1/stepd.slurm.pmix.$job.0";
    let (log, weights) = run("early", early);
    assert!(weights == whole && !log.contains("going on from") && log.contains("launch failed"), "{log}");
}

/// On four nodes, preempted, cancelled, on with one, on with two of three: the same bits as on one node without interruption.
#[test]
fn an_elastic_job_takes_what_is_free_and_ends_with_the_same_bits() {
    let Some(sandbox) = Sandbox::new(4) else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, turns: &str| {
        let script = format!(
            "export BATCH=64 VIRTUAL=8 FLAGS='--epochs 6 --ema 0.9' OUTPUT={name}
             train() {{ sbatch --parsable --nodes=$1 --ntasks-per-node=2 --output={name}.log $ROOT/slurm/train-elastic.sbatch; }}
             {turns}
             ended $job; cat {name}.log"
        );
        let outcome = sandbox.clone().timeout(Duration::from_secs(300)).run(folder.path(), &script);
        let log = outcome.expect_success().stdout.clone();
        assert!(log.contains("COMPLETED\n"), "{name}: {log}");
        (log, fs::read(folder.path().join(name).join("last.safetensors")).unwrap())
    };
    let (_, one) = run("one", "job=$(train 1)");
    let turns = "
        job=$(train 4); wait_for 'epoch 2:' elastic.log; srun -p high -N4 --exclusive --mpi=none true
        wait_for 'going on from' elastic.log; wait_for 'epoch 3:' elastic.log; scancel $job; ended $job
        job=$(train 1); wait_for 'saved by 8 ranks' elastic.log; wait_for 'epoch 4:' elastic.log; scancel $job; ended $job
        job=$(train 3)";
    let (log, weights) = run("elastic", turns);
    for words in ["saved by 2 ranks", "3 nodes are there, and 2 are used: ranks are a power of two"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(weights == one, "other weights than on one node\n{log}");
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
             wait_for 'resumes after step' {loss}.log
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
fn each_rank_computes_on_the_gpu_that_slurm_gave_it() {
    let Some(sandbox) = Sandbox::new(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    // Flags of srun, --device, and for each rank: its node, its device, and what Slurm says that it may use.
    let too_few = "n1: --device 'cuda': 2 ranks on this node and 1 CUDA devices for them; start at most one rank per \
                   device, use --device cpu, or let ranks share a device with --ranks-per-device of 0";
    let shared = &["n1: 0 of 0,1", "n1: 1 of 0,1", "n2: 0 of 0,1", "n2: 1 of 0,1"];
    let cases: [(_, _, &[&str]); 9] = [
        ("-N2 --ntasks-per-node=2 --gpus-per-node=2", "cuda", shared),
        ("-N2 --ntasks-per-node=2 --gres=gpu:2", "cuda", shared),
        // One mask for each rank, not for each node.
        (
            "-N2 --ntasks-per-node=2 -n4 --gpus-per-task=1",
            "cuda",
            &["n1: 0 of 0", "n1: 1 of 1", "n2: 0 of 0", "n2: 1 of 1"],
        ),
        ("-N1 -n2 --gpus-per-task=2", "", &["n1: 0 of 0,1", "n1: 2 of 2,3"]),
        ("-N1 -n2 --gpus=4 --gpu-bind=map_gpu:3,1", "", &["n1: 3 of 3", "n1: 1 of 1"]),
        // The third and the fourth, while another job has the first two.
        ("-w n1 -n2 --gpus=2", "cuda", &["n1: 2 of 2,3", "n1: 3 of 2,3"]),
        ("-N1 -n2 --gpus=4", "3,1", &["n1: 3 of 0,1,2,3", "n1: 1 of 0,1,2,3"]),
        ("-N1 -n2 --gpus=1", "cuda", &[too_few, too_few]),
        ("-N1 -n1", "", &["n1: Cpu of "]),
    ];
    for (flags, request, expected) in cases {
        let script = format!(
            "if [[ '{flags}' = *'-w n1'* ]]; then
               srun -w n1 --gpus=2 --mpi=none bash -c 'echo begun >other; sleep 60' & wait_for begun other
             fi
             srun {flags} \"$BIN/devices-program\" '{request}'"
        );
        let outcome = sandbox.run(folder.path(), &script);
        let mut lines: Vec<_> = outcome.expect_success().stdout.lines().collect();
        lines.sort_unstable();
        let expected: Vec<_> = (0..).zip(expected).map(|(rank, chosen)| format!("rank {rank} on {chosen}")).collect();
        assert_eq!(lines, expected, "{flags} --device '{request}': {}", outcome.stderr);
    }
}

#[test]
fn launchers_are_understood_or_refused() {
    let Some(sandbox) = Sandbox::new(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("salloc -Q -N2 --ntasks-per-node=2 srun", 0, "rank 3/4 n2] pid "),
        ("salloc -Q -N2 --ntasks-per-node=2 mpirun", 0, "rank 3/4 n2] pid "),
        ("SLURM_MPI_TYPE=pmix srun -n2", 0, "rank 1/2 n1] pid "),
        ("srun --mpi=none -n2", 2, "no way to find the others: type srun --mpi=pmix"),
        ("srun --mpi=none -n1", 2, "in a shell of srun --pty, mpirun -n 1"),
        ("salloc -Q -n4", 0, "this Slurm job has 4 tasks, and only one trains: start rust-train with srun or mpirun"),
        // Three ranks on one node, and one on the other.
        ("srun -N2 -n4 --distribution=arbitrary -w n1,n1,n1,n2", 0, "3 ranks on n1 and 1 on n2: "),
    ];
    for (launcher, status, words) in cases {
        let outcome = sandbox.run(folder.path(), &format!("{launcher} \"$BIN/rust-train\" --max-steps 2"));
        let case = format!("{launcher}: {outcome:?}");
        assert_eq!(outcome.status, Some(status), "{case}");
        // mpirun brings the ranks' stderr on its stdout's terminal, if it has none of its own.
        assert_eq!(outcome.stderr.matches(words).count(), 1, "{case}");
        assert!(status == 0 || outcome.error_lines().len() == 1, "{case}");
    }
    // The doctor says it in the same words.
    let doctor = sandbox.run(folder.path(), "srun --mpi=none -n2 \"$BIN/rust-train\" doctor");
    assert_eq!(doctor.status, Some(2), "{doctor:?}");
    let said = doctor.stdout.matches("no way to find the others: type srun --mpi=pmix").count();
    assert_eq!(said, 1, "{doctor:?}");
}

#[test]
fn each_rank_can_have_a_log_of_its_own() {
    let Some(sandbox) = Sandbox::new(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = "export DEVICE=cpu LOGS=logs FLAGS='--max-steps 2'
        submit --ntasks-per-node=2 --cpus-per-task=1 --output=job.log $ROOT/slurm/train-multinode.sbatch";
    assert_eq!(sandbox.run(folder.path(), script).expect_success().stdout, "COMPLETED\n");
    for (rank, node) in [(0, 1), (1, 1), (2, 2), (3, 2)] {
        let log = fs::read_to_string(folder.path().join(format!("logs/rust-train-1-{rank}-n{node}.log"))).unwrap();
        let own = format!("rank {rank}/4 n{node}] ");
        assert!(log.contains(&own) && log.lines().all(|line| line.contains(&own)), "{log}");
    }
    let job = fs::read_to_string(folder.path().join("job.log")).unwrap();
    assert!(job.contains("ok: ") && !job.contains("rank 0/4"), "{job}");
}

#[test]
fn nodes_get_files_once_each() {
    let Some(sandbox) = Sandbox::new(3) else { return };
    let folder = tempfile::tempdir().unwrap();
    for (split, class) in [("train", "red"), ("train", "blue"), ("val", "red"), ("val", "blue")] {
        let place = folder.path().join("data").join(split).join(class);
        fs::create_dir_all(&place).unwrap();
        for number in 0..6 {
            image::RgbImage::from_pixel(16, 16, image::Rgb([number * 9; 3]))
                .save(place.join(format!("{number}.png")))
                .unwrap();
        }
    }
    fs::write(folder.path().join("weights.bin"), vec![7; 3_000_000]).unwrap();
    // On disks of each node's own: three caches. On the shared one: one. A file: one download for all nodes.
    let script = "
        train() { srun -N3 --ntasks-per-node=2 \"$BIN/rust-train\" --data data --batch 12 --image-size 16 --max-steps 1 --cache \"$1\"; }
        train $SLURM_SANDBOX/local
        mkdir shared; train shared
        python3 -m http.server 8000 2>requests.log >&2 & 
        until python3 -c 'import socket; socket.create_connection((\"ctl\", 8000))' 2>/dev/null; do sleep 0.1; done
        fetch() { srun -N3 --ntasks-per-node=2 \"$BIN/rust-train\" fetch http://ctl:8000/weights.bin --store $SLURM_SANDBOX/local/store; }
        fetch
        fetch
        srun -N3 --mpi=none bash -c 'cmp weights.bin $(find $SLURM_SANDBOX/local/store -name \"*weights.bin\") && echo same'";
    let outcome = sandbox.run(folder.path(), script);
    assert_eq!(outcome.expect_success().stdout.matches("same\n").count(), 3, "{outcome:?}");
    assert_eq!(outcome.stderr.matches("building the dataset cache").count(), 3 + 1, "{outcome:?}");
    let requests = fs::read_to_string(folder.path().join("requests.log")).unwrap();
    assert_eq!(requests.matches("\"GET /weights.bin").count(), 1, "{requests}");
}

#[test]
fn the_guides_commands_work() {
    let Some(sandbox) = Sandbox::new(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    // The scripts, but for no more cores than this machine may have.
    fs::create_dir_all(folder.path().join("slurm")).unwrap();
    for name in scripts() {
        let text = fs::read_to_string(root().join("slurm").join(&name)).unwrap();
        let smaller = text
            .replace("--ntasks-per-node=4", "--ntasks-per-node=2")
            .replace("--cpus-per-task=4", "--cpus-per-task=1");
        fs::write(folder.path().join("slurm").join(&name), smaller).unwrap();
    }
    fs::create_dir(folder.path().join("target")).unwrap();
    let binaries = binary("rust-train").parent().unwrap().to_owned();
    std::os::unix::fs::symlink(binaries, folder.path().join("target/release")).unwrap();

    let guide = fs::read_to_string(root().join("docs/clusters.md")).unwrap();
    let blocks = guide.split("```bash\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let (marked, run): (Vec<_>, Vec<_>) = blocks.partition(|block| block.starts_with("# not run: "));
    assert!(run.len() >= 8 && marked.len() <= 4, "{} run, {} not", run.len(), marked.len());
    for block in run {
        // Those that are told to stop had better still run then.
        let (length, ends) = if block.contains("scancel") {
            ("--epochs 1000", "COMPLETED|FAILED.*ExitCode=75:0")
        } else {
            ("--max-steps 2", "COMPLETED")
        };
        let script = format!(
            "export DEVICE=cpu FLAGS='{length}'
             {block}
             while squeue --noheader | grep -q .; do sleep 0.1; done
             if scontrol show jobs -o | grep JobState= | grep -vE 'JobState=({ends})'; then tail -n 50 *.log *.out; exit 1; fi"
        );
        let script =
            if block.contains("preflight") { script.replace(&format!("FLAGS='{length}'"), "FLAGS=") } else { script };
        sandbox.run(folder.path(), &script).expect_success();
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
