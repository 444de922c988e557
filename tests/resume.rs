//! A run that was stopped, or died, goes on as if it had not: under mpirun, with real signals, kills and damaged files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use multi_rank_tests::{Mpirun, Outcome, announced_pid, binary};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

const FAULTY: &str = env!("CARGO_BIN_EXE_faults-program");

/// Runs `flags` in `folder`, with a fault if one is named.
fn run(program: &Path, ranks: usize, folder: &Path, fault: &str, flags: &str) -> Outcome {
    let job = Mpirun::new(ranks).directory(folder).variable("FAULT", fault);
    job.run(program, flags.split_whitespace())
}

fn lines(folder: &Path, run: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a run wrote down that does not depend on how fast it was.
fn results(folder: &Path, run: &str) -> Vec<Value> {
    let mut lines = lines(folder, run);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.retain(|key, _| {
            ["step", "loss", "lr", "epoch", "train_loss", "val_loss", "top1", "top5"].contains(&key.as_str())
        });
    }
    lines
}

/// Asserts that two runs ended with the same bits, and saw the same on the way.
fn assert_same(folder: &Path, left: &str, right: &str, case: &str) {
    assert_eq!(results(folder, left), results(folder, right), "{case}: metrics");
    for name in ["last.safetensors", "best.safetensors"] {
        let [left, right] = [left, right].map(|run| fs::read(folder.join(run).join(name)).unwrap());
        assert!(left == right, "{case}: {name} differs");
    }
}

fn checkpoints(folder: &Path, run: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join(run).join("checkpoints")).unwrap();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn a_run_that_was_stopped_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (own, catalogue) = (PathBuf::from(FAULTY), binary("rust-train"));
    // Ranks, flags, and the steps after which it is stopped, one after the other.
    let cases = [
        (&own, 2, "--lr 0.05", vec![30, 7, 3]),
        (&own, 3, "--batch 63 --optimizer adamw --lr 0.005 --clip-norm 1", vec![25]),
        (&own, 4, "--optimizer lamb --lr 0.02 --zero --accumulate 2", vec![17]),
        (&own, 2, "--precision fp16 --optimizer adam --lr 0.002 --bucket-mb 1 --mixup 0.2", vec![23]),
        (&own, 1, "--lr 0.05", vec![40]),
        (&own, 3, "--batch 63 --lr 0.05 --ema 0.9", vec![31]),
        (&own, 2, "--optimizer adamw-schedule-free --schedule constant --lr 0.005 --zero", vec![29]),
        (&catalogue, 2, "--lr 0.1 --sync-bn", vec![]),
        (&catalogue, 2, "--freeze backbone --freeze-epochs 1", vec![]),
    ];
    for (index, (program, ranks, flags, stops)) in cases.into_iter().enumerate() {
        let case = format!("{ranks} ranks, {flags}");
        let (whole, parts) = (format!("{index}-whole"), format!("{index}-parts"));
        let flags = format!("--epochs 3 --seed 7 {flags}");
        run(program, ranks, folder.path(), "", &format!("{flags} --output {whole}")).expect_success();
        let resume = format!("{flags} --output {parts} --resume auto");
        for after in &stops {
            // Passes are counted by each process anew, and each process but the first makes one more to rehearse.
            let stopped = run(program, ranks, folder.path(), &format!("usr1:{}:{after}", ranks - 1), &resume);
            assert_eq!(stopped.status, Some(75), "{case}: {stopped:?}");
            assert!(stopped.stderr.contains("stopped by a signal after step"), "{case}: {stopped:?}");
        }
        if index == 1 {
            // In the middle of the evaluation after the second epoch.
            let stopped = run(program, ranks, folder.path(), "evaluation-usr1:2:2", &resume);
            assert_eq!(stopped.status, Some(75), "{case}: {stopped:?}");
            assert!(stopped.stderr.contains("stopped by a signal after step 44"), "{case}: {stopped:?}");
        }
        if stops.is_empty() {
            stop_somewhere(program, ranks, folder.path(), &resume);
        }
        run(program, ranks, folder.path(), "", &resume).expect_success();
        assert_same(folder.path(), &whole, &parts, &case);
        // There is nothing left to do, and nothing is done.
        let again = run(program, ranks, folder.path(), "", &resume);
        again.expect_success();
        assert_same(folder.path(), &whole, &parts, &case);
    }
}

/// Stops a run with a signal to rank 0, somewhere in its second epoch.
fn stop_somewhere(program: &Path, ranks: usize, folder: &Path, flags: &str) {
    let launcher = Mpirun::new(ranks).directory(folder);
    let mut job = launcher.start(program, flags.split_whitespace());
    let stderr = job.wait_until(|stderr| stderr.contains("epoch 1:"));
    kill_process(announced_pid(0, &stderr).expect("every rank announces its process"), Signal::TERM).unwrap();
    let outcome = job.wait();
    assert_eq!(outcome.status, Some(75), "{outcome:?}");
}

#[test]
fn it_goes_on_at_another_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let program = binary("rust-train");
    // Without BatchNorm, whose statistics are of each rank's part of the batch.
    let flags = "--model lenet --lr 0.05 --epochs 3 --seed 3";
    run(&program, 2, folder.path(), "", &format!("{flags} --output whole")).expect_success();
    stop_somewhere(&program, 2, folder.path(), &format!("{flags} --output begun"));
    let state = fs::read(checkpoints(folder.path(), "begun").last().unwrap().join("state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    let begun = state["position"]["step"].as_u64().unwrap() as usize;
    let expected = lines(folder.path(), "whole");
    for ranks in [1, 2, 4] {
        let name = format!("with-{ranks}");
        let resume = format!("{flags} --output {name} --resume begun");
        let outcome = run(&program, ranks, folder.path(), "", &resume);
        outcome.expect_success();
        let said = format!(
            "resumes after step {begun}, in epoch {}{}",
            begun / 22 + 1,
            if ranks == 2 { "" } else { ", saved by 2 ranks" }
        );
        assert!(outcome.stderr.contains(&said), "{outcome:?}");
        let got = lines(folder.path(), &name);
        let loss = |lines: &[Value], step: usize| {
            let line = lines.iter().find(|line| line["step"] == step).expect("every step has its line");
            line["loss"].as_f64().unwrap()
        };
        for step in begun..66 {
            let (expected, got) = (loss(&expected, step), loss(&got, step));
            let tolerance = if ranks == 2 { 0.0 } else { 1e-3 };
            assert!((got - expected).abs() <= tolerance * expected, "{ranks} ranks, step {step}: {got} for {expected}");
        }
    }
}

#[test]
fn whoever_is_killed_loses_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let program = PathBuf::from(FAULTY);
    let flags = "--epochs 4 --lr 0.05 --seed 7 --checkpoint-steps 1";
    run(&program, 2, folder.path(), "", &format!("{flags} --output whole")).expect_success();

    // One rank, in the middle of a step: the job ends, and goes on from what was saved.
    let resume = format!("{flags} --output rank --resume auto");
    for fault in ["kill:1:11", "kill:0:29", "panic:1:9"] {
        let outcome = run(&program, 2, folder.path(), fault, &resume);
        assert!(!matches!(outcome.status, Some(0 | 75)), "{fault}: {outcome:?}");
        assert!(outcome.elapsed < Duration::from_secs(15), "{fault}: {outcome:?}");
    }
    run(&program, 2, folder.path(), "", &resume).expect_success();
    assert_same(folder.path(), "whole", "rank", "a killed rank");

    // The whole job, while checkpoints are being written, twenty times.
    let resume = format!("{flags} --output job --resume auto");
    let (mut kills, mut from) = (0, Vec::new());
    while kills < 20 {
        let launcher = Mpirun::new(2).directory(folder.path());
        let mut job = launcher.start(&program, resume.split_whitespace());
        let stderr = job.wait_until(|stderr| announced_pid(0, stderr).is_some() && announced_pid(1, stderr).is_some());
        let pids = [0, 1].map(|rank| announced_pid(rank, &stderr).unwrap());
        // Wait for a checkpoint on its way; the kill comes a little later, each time at another moment.
        let start = Instant::now();
        while unfinished(folder.path(), "job") == 0 && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(137 * kills));
        for pid in pids {
            let _ = kill_process(pid, Signal::KILL); // it may have come to its end
        }
        let outcome = job.wait();
        if outcome.status == Some(0) {
            break; // the machine was faster than the kills; what is left is still compared
        }
        from.extend(outcome.stderr.lines().find(|line| line.contains("resumes after step")).map(ToOwned::to_owned));
        assert!(!outcome.stderr.contains("not usable"), "a checkpoint was half there: {outcome:?}");
        kills += 1;
    }
    assert!(kills >= 10, "only {kills} kills hit the run, which went on so: {from:#?}");
    run(&program, 2, folder.path(), "", &resume).expect_success();
    assert_same(folder.path(), "whole", "job", "a killed job");
    assert_eq!(unfinished(folder.path(), "job"), 0, "what killed runs left is gone");
}

/// Checkpoints on their way.
fn unfinished(folder: &Path, run: &str) -> usize {
    let Ok(entries) = fs::read_dir(folder.join(run).join("checkpoints")) else { return 0 };
    entries
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with('.')))
        .count()
}

#[test]
fn signals_stop_all_ranks_at_one_step() {
    let folder = tempfile::tempdir().unwrap();
    // In step 13: while the next one is under way, all know of it.
    for (fault, ranks) in [("usr1:1:12", 3), ("usr1:all:12", 3), ("term-twice:1:12", 2)] {
        let output = fault.replace(':', "-");
        let batch = if ranks == 3 { 63 } else { 64 };
        let flags = format!("--batch {batch} --epochs 50 --output {output}");
        let outcome = run(Path::new(FAULTY), ranks, folder.path(), fault, &flags);
        assert_eq!(outcome.status, Some(75), "{fault}: {outcome:?}");
        assert_eq!(outcome.stderr.matches("stopped by a signal after step 14").count(), 1, "{fault}: {outcome:?}");
        assert!(checkpoints(folder.path(), &output)[0].ends_with("step-00000014"));
        assert_eq!(lines(folder.path(), &output).len(), 14);
    }
    // A budget of time.
    let start = Instant::now();
    let flags = "--epochs 100000 --time-limit 14s --output limit";
    let outcome = run(Path::new(FAULTY), 2, folder.path(), "", flags);
    assert_eq!(outcome.status, Some(75), "{outcome:?}");
    assert!(outcome.stderr.contains("stopped by its time limit after step"), "{outcome:?}");
    assert!(start.elapsed() < Duration::from_secs(14), "{outcome:?}");
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "--epochs 3 --lr 0.05 --seed 7";
    let program = Path::new(FAULTY);
    run(program, 2, folder.path(), "", &format!("{flags} --output whole")).expect_success();
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("is damaged, its hash is another", |place| {
            let path = place.join("optimizer.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            fs::write(path, bytes).unwrap();
        }),
        ("is damaged, its hash is another", |place| {
            let path = place.join("model.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("state.json", |place| fs::write(place.join("state.json"), "{\"form\": 1,").unwrap()),
        ("No such file", |place| fs::remove_file(place.join("model.safetensors")).unwrap()),
    ];
    for (index, (words, damage)) in damages.into_iter().enumerate() {
        let output = format!("damaged-{index}");
        let resume = format!("{flags} --output {output} --resume auto");
        let stopped = run(program, 2, folder.path(), "usr1:0:50", &resume);
        assert_eq!(stopped.status, Some(75), "{stopped:?}");
        damage(checkpoints(folder.path(), &output).last().unwrap());
        let outcome = run(program, 2, folder.path(), "", &resume);
        outcome.expect_success();
        assert!(outcome.stderr.contains("not usable") && outcome.stderr.contains(words), "{words}: {outcome:?}");
        assert!(outcome.stderr.contains("resumes after step 44"), "{outcome:?}");
        assert_same(folder.path(), "whole", &output, words);
    }
    // None is left: that is an error, and nothing is begun anew in silence.
    for place in checkpoints(folder.path(), "damaged-0") {
        fs::write(place.join("state.json"), "").unwrap();
    }
    let outcome = run(program, 2, folder.path(), "", &format!("{flags} --output damaged-0 --resume auto"));
    assert_eq!((outcome.status, outcome.error_lines().len()), (Some(1), 1), "{outcome:?}");
    assert!(outcome.stderr.contains("none of 2 checkpoints is whole"), "{outcome:?}");
}

#[test]
fn what_goes_wrong_on_one_rank_is_known_to_all() {
    let folder = tempfile::tempdir().unwrap();
    // The fault, flags, exit status, and what must be said.
    let cases = [
        ("nan:1:5", "", Some(1), vec!["rank 1 on ", "the loss of step 6 is NaN or infinite"]),
        ("nan:1:5", "--on-nan skip", Some(0), vec!["the loss of step 6 is NaN or infinite on rank 1", "left out"]),
        ("nan-input:1:5", "", Some(1), vec!["rank 1 on ", "the loss of step 6 is NaN or infinite"]),
        ("memory:1:5", "", Some(1), vec!["rank 1 on ", "step 6: out of memory", "--accumulate"]),
        ("memory-above:1:10", "--batch auto", Some(0), vec!["in 4 micro-batches of 8 images a rank"]),
        ("memory:1:5", "--batch auto:64", Some(0), vec!["out of memory on rank 1; from here on in 2 micro-batches"]),
        ("memory-backward:1:5", "", Some(1), vec!["rank 1 on ", "step 6: out of memory", "--accumulate"]),
        (
            "memory-backward:1:5",
            "--batch auto:64",
            Some(0),
            vec!["out of memory on rank 1; from here on in 2 micro-batches"],
        ),
        // Ranks meet within a pass: none can go on without another. (With --batch auto one pass more is made before.)
        ("memory:1:5", "--sync-bn", Some(1), vec!["rank 1 on ", "step 6: out of memory, and with --sync-bn"]),
        ("memory-backward:1:5", "--sync-bn", Some(1), vec!["rank 1 on ", "step 6: out of memory, and with --sync-bn"]),
        ("memory:1:5", "--sync-bn --batch auto:64", Some(1), vec!["step 5: out of memory, and with --sync-bn"]),
        ("memory-above:1:0", "--batch auto", Some(2), vec!["--batch auto: the memory does not suffice"]),
        (
            "stop:1:5",
            "--watchdog 2",
            Some(1),
            vec!["no step has ended for 2 s; this rank is in step 6: backward", "waiting for rank 1 on"],
        ),
        (
            "hang:0:5",
            "--watchdog 2",
            Some(1),
            vec![
                "rank 0/2",
                "no step has ended for 2 s; this rank is in step 6: forward",
                "no step has ended for 2 s; this rank is in step 6: backward",
                "waiting for rank 0 on",
            ],
        ),
    ];
    for (index, (fault, flags, status, words)) in cases.into_iter().enumerate() {
        let flags = format!("--epochs 1 --output {index} {flags}");
        let outcome = run(Path::new(FAULTY), 2, folder.path(), fault, &flags);
        assert_eq!(outcome.status, status, "{fault}: {outcome:?}");
        assert!(outcome.elapsed < Duration::from_secs(20), "{fault}: {outcome:?}");
        assert!(!outcome.stderr.contains("frame #"), "libtorch's C++ frames: {outcome:?}");
        for words in words {
            assert!(outcome.stderr.contains(words), "{fault}, '{words}': {outcome:?}");
        }
    }
    // The step that was left out changed nothing, on any rank, and has no loss.
    let skipped = lines(folder.path(), "1");
    assert!(skipped[5]["loss"].is_null() && skipped[6]["loss"].is_f64(), "{skipped:?}");
    // A step that was tried again in smaller parts, and the one that was under way, are made, each once.
    for index in ["5", "7"] {
        let again = lines(folder.path(), index);
        let steps: Vec<_> = again.iter().filter_map(|line| line.get("step")?.as_u64()).collect();
        assert_eq!(steps, (0..22).collect::<Vec<_>>());
        assert!(again.iter().all(|line| line.get("loss").is_none_or(Value::is_f64)), "{again:?}");
    }
}

#[test]
fn where_one_ranks_kernels_are_wrong_no_rank_uses_them() {
    let folder = tempfile::tempdir().unwrap();
    for (fault, kernels) in [("", "fused"), ("kernels:1:0", "libtorch's")] {
        let outcome = run(Path::new(FAULTY), 2, folder.path(), fault, &format!("--epochs 1 --output {kernels}"));
        outcome.expect_success();
        let warnings: Vec<_> = outcome.stderr.lines().filter(|line| line.contains("are computed one by one")).collect();
        assert_eq!(warnings.len(), usize::from(kernels != "fused"), "{outcome:?}");
        assert!(
            warnings.iter().all(|line| line.contains("rank 1") && line.contains("a kernel differs")),
            "{warnings:?}"
        );
        // Of all ranks, or two would stand there.
        let state = fs::read_to_string(checkpoints(folder.path(), kernels)[0].join("state.json")).unwrap();
        assert!(state.contains(&format!("\"kernels\": \"{kernels}\"")), "{state}");
    }
}

#[test]
fn what_changes_the_mathematics_is_refused_field_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let program = binary("rust-train");
    let begin = "--model lenet --epochs 2 --max-steps 30 --output run";
    run(&program, 2, folder.path(), "", begin).expect_success();
    let go_on = "--model lenet --epochs 2 --output run --resume auto";
    let refused = run(&program, 2, folder.path(), "", &format!("{go_on} --lr 0.02 --mixup 0.3"));
    assert_eq!((refused.status, refused.error_lines().len()), (Some(2), 1), "{refused:?}");
    for words in
        ["  lr: 0.1, now 0.02", "  max-steps: 30, now not given", "  mixup: 0.0, now 0.3", "--allow-changed-plan"]
    {
        assert!(refused.stderr.contains(words), "'{words}': {refused:?}");
    }
    // What decides about nothing may change, and what is allowed to.
    let flags = format!("{go_on} --max-steps 30 --watchdog 100 --keep-checkpoints 3 --loader-threads 1");
    run(&program, 2, folder.path(), "", &flags).expect_success();
    let allowed = run(&program, 2, folder.path(), "", &format!("{go_on} --lr 0.02 --allow-changed-plan"));
    allowed.expect_success();
    assert!(allowed.stderr.contains("lr: 0.1, now 0.02") && allowed.stderr.contains("resumes after step 30"));
    assert_eq!(lines(folder.path(), "run").iter().filter(|line| line.get("step").is_some()).count(), 44);
}

/// A run in a folder of so little space that checkpoints do not fit when something else takes it. The shell script is
/// given the program.
#[test]
fn a_full_disk_loses_nothing() {
    let can_mount = Command::new("unshare").args(["--mount", "--map-root-user", "true"]).status();
    if !can_mount.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: this system lets nobody mount a small disk");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
        set -e
        mount -t tmpfs -o size=16m tmpfs . && cd "$PWD"
        train() { mpirun --oversubscribe --bind-to none -n 2 "$0" --model lenet --lr 0.05 --seed 7 "$@"; }
        train --epochs 30 --output whole
        train --epochs 30 --output short 2>log &
        until grep -q "epoch 1:" log; do sleep 0.01; done
        fallocate -l 1g filler 2>/dev/null || dd if=/dev/zero of=filler bs=64k 2>/dev/null || true
        until grep -q "tried again later" log; do sleep 0.01; done
        rm filler
        wait $! && cmp whole/last.safetensors short/last.safetensors && echo "survived"
        cat log >&2
        train --epochs 30 --output run --resume auto 2>log &
        until grep -q "epoch 1:" log; do sleep 0.01; done
        fallocate -l 1g filler 2>/dev/null || dd if=/dev/zero of=filler bs=64k 2>/dev/null || true
        wait $! && echo "ended well" || echo "ended with $?"
        cat log >&2
        rm filler
        train --epochs 30 --output run --resume auto
        cmp whole/last.safetensors run/last.safetensors && echo "the same"
    "#;
    let variables = [("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")];
    let output = Command::new("timeout")
        .args(["120", "unshare", "--mount", "--map-root-user", "bash", "-c", script])
        .arg(binary("rust-train"))
        .envs(variables)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && out.contains("the same"), "{out}\n{err}");
    assert!(out.contains("survived"), "{out}\n{err}");
    assert!(out.contains("ended with 1") && err.contains("No space left on device"), "{out}\n{err}");
}

/// What the two lines of an epoch say, for each epoch.
fn epochs(folder: &Path, run: &str) -> Vec<u64> {
    lines(folder, run).iter().filter_map(|line| line.get("epoch")?.as_u64()).collect()
}

fn steps(folder: &Path, run: &str) -> Vec<u64> {
    lines(folder, run).iter().filter_map(|line| line.get("step")?.as_u64()).collect()
}

#[test]
fn another_batch_goes_on_at_the_same_place() {
    let folder = tempfile::tempdir().unwrap();
    let (program, faulty) = (binary("rust-train"), PathBuf::from(FAULTY));
    let small = "--model lenet --batch 32 --epochs 2 --output";
    let large = "--batch 64 --epochs 4 --resume auto --allow-changed-plan --output";
    // At the end of an epoch: 45 steps of 32 in each of the first two, 22 of 64 in each of the others.
    run(&program, 1, folder.path(), "", &format!("{small} up")).expect_success();
    let up = run(&program, 1, folder.path(), "", &format!("--model lenet {large} up"));
    up.expect_success();
    assert!(up.stderr.contains("resumes after step 90, in epoch 3"), "{up:?}");
    assert_eq!(epochs(folder.path(), "up"), [1, 2, 3, 4]);
    assert_eq!(steps(folder.path(), "up"), (0..90 + 44).collect::<Vec<_>>());
    let rates: Vec<_> = lines(folder.path(), "up").iter().filter_map(|line| line.get("lr")?.as_f64()).collect();
    // A cosine over four epochs, the first of which warms up, is at a quarter of its way down after two.
    assert!((rates[90] - 0.05 * (1.0 + (std::f64::consts::PI / 3.0).cos())).abs() < 1e-9, "{}", rates[90]);
    // In the middle of one: 21 steps of 32 are 672 of 1442 samples, and 12 steps of 64 are left.
    let stopped = run(&faulty, 1, folder.path(), "usr1:0:64", "--batch 32 --epochs 2 --output middle");
    assert_eq!(stopped.status, Some(75), "{stopped:?}");
    run(&faulty, 1, folder.path(), "", &format!("{large} middle")).expect_success();
    assert_eq!(epochs(folder.path(), "middle"), [1, 2, 3, 4]);
    assert_eq!(steps(folder.path(), "middle"), (0..66 + 12 + 44).collect::<Vec<_>>());
    // And down again.
    run(&program, 1, folder.path(), "", "--model lenet --batch 64 --epochs 1 --output down").expect_success();
    let down = "--model lenet --batch 32 --epochs 3 --resume auto --allow-changed-plan --output down";
    run(&program, 1, folder.path(), "", down).expect_success();
    assert_eq!((epochs(folder.path(), "down"), steps(folder.path(), "down").len()), (vec![1, 2, 3], 22 + 90));
}

#[test]
fn without_a_folder_the_unfinished_run_of_the_same_plan_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = PathBuf::from(FAULTY);
    let go =
        |fault: &str, flags: &str| run(&faulty, 1, folder.path(), fault, &format!("--epochs 2 --resume auto {flags}"));
    assert_eq!(go("usr1:0:25", "").status, Some(75));
    // Another plan begins a run of its own, and says which.
    let other = go("usr1:0:25", "--lr 0.05");
    assert_eq!(other.status, Some(75), "{other:?}");
    assert!(
        other.stderr.contains("there is no unfinished run of this plan") && other.stderr.contains("--output"),
        "{other:?}"
    );
    // One that was ended before its first checkpoint counts, too; one that another job holds does not.
    let third = go("kill:0:3", "--lr 0.02");
    assert!(third.status != Some(0) && folder.path().join("runs/digits-faulty-3/plan.toml").is_file(), "{third:?}");
    let first = go("", "");
    first.expect_success();
    assert!(
        first.stderr.contains("runs/digits-faulty is the newest unfinished run of this plan; --output"),
        "{first:?}"
    );
    let held = fs::File::create(folder.path().join("runs/digits-faulty-2/.lock")).unwrap();
    held.lock().unwrap();
    go("", "--lr 0.05").expect_success();
    drop(held);
    go("", "--lr 0.05").expect_success();
    go("", "--lr 0.02").expect_success();
    let ended = |run: &str| {
        (steps(folder.path(), &format!("runs/{run}")).len(), checkpoints(folder.path(), &format!("runs/{run}")).len())
    };
    for run in ["digits-faulty", "digits-faulty-2", "digits-faulty-3", "digits-faulty-4"] {
        assert_eq!(ended(run), (44, 2), "{run}");
    }
    assert!(!folder.path().join("runs/digits-faulty-5").exists());
}

#[test]
fn a_second_job_leaves_a_run_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let program = binary("rust-train");
    let flags = "--model lenet --epochs 12 --output run --resume auto";
    let mut first = Mpirun::new(1).directory(folder.path()).start(&program, flags.split_whitespace());
    first.wait_until(|stderr| stderr.contains("epoch 2:"));
    let second = run(&program, 1, folder.path(), "", flags);
    assert_eq!((second.status, second.error_lines().len()), (Some(2), 1), "{second:?}");
    assert!(second.stderr.contains("--output run: another job is training there"), "{second:?}");
    first.wait().expect_success();
    let after = || (fs::read(folder.path().join("run/last.safetensors")).unwrap(), steps(folder.path(), "run"));
    let ended = after();
    assert_eq!(ended.1.len(), 12 * 22);
    run(&program, 1, folder.path(), "", flags).expect_success();
    assert!(after() == ended, "a run that is over is left as it is");
}

#[test]
fn a_record_that_is_gone_fails_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let program = binary("rust-train");
    let spoil: [(&str, fn(&Path)); 3] = [
        ("removed", |run| fs::remove_file(run.join("metrics.jsonl")).unwrap()),
        ("emptied", |run| fs::write(run.join("metrics.jsonl"), "").unwrap()),
        ("moved", |run| fs::rename(run, run.with_extension("elsewhere")).unwrap()),
    ];
    for (name, spoil) in spoil {
        let flags = format!("--model lenet --epochs 8 --output {name}");
        let mut job = Mpirun::new(1).directory(folder.path()).start(&program, flags.split_whitespace());
        job.wait_until(|stderr| stderr.contains("epoch 2:"));
        spoil(&folder.path().join(name));
        let outcome = job.wait();
        assert_eq!((outcome.status, outcome.error_lines().len()), (Some(1), 1), "{name}: {outcome:?}");
        let said = outcome.stderr.matches("metrics.jsonl: was removed, moved or replaced").count();
        assert!((1..=2).contains(&said) && outcome.stderr.contains("WARN"), "{name}: {outcome:?}");
    }
    assert!(!folder.path().join("moved").exists(), "nothing is made anew in its place");
}

#[test]
fn another_optimizer_begins_anew_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let program = binary("rust-train");
    let optimizers = ["--momentum 0", "--momentum 0.9", "--optimizer adamw --lr 0.001", "--optimizer lars", "--zero"];
    run(&program, 2, folder.path(), "", "--model lenet --epochs 1 --output run --momentum 0").expect_success();
    for (index, optimizer) in optimizers.into_iter().enumerate() {
        let flags =
            format!("--model lenet --epochs {} --output run --resume auto --allow-changed-plan {optimizer}", index + 2);
        let outcome = run(&program, 2, folder.path(), "", &flags);
        outcome.expect_success();
        let begins_anew = outcome.stderr.contains("starts over");
        assert_eq!(begins_anew, index > 0, "{optimizer}: {outcome:?}");
    }
    assert_eq!(epochs(folder.path(), "run"), [1, 2, 3, 4, 5, 6]);
    let refused = run(&program, 2, folder.path(), "", "--epochs 9 --output run --resume auto --allow-changed-plan");
    assert_eq!((refused.status, refused.error_lines().len()), (Some(2), 1), "{refused:?}");
    assert!(refused.stderr.contains("the run is of lenet, and the model is cifar_resnet20"), "{refused:?}");
}

#[test]
fn a_time_limit_that_achieves_nothing_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = PathBuf::from(FAULTY);
    // Two steps, and 26 batches of evaluation, a second each: most of what is left when ten seconds are kept for saving.
    let flags = "--epochs 1 --batch 14 --max-steps 2 --output run --resume auto --time-limit 22s";
    let first = run(&faulty, 1, folder.path(), "slow-evaluation:0:1000", flags);
    assert_eq!(first.status, Some(75), "{first:?}");
    let second = run(&faulty, 1, folder.path(), "slow-evaluation:0:1000", flags);
    assert_eq!((second.status, second.error_lines().len()), (Some(1), 1), "{second:?}");
    assert!(second.stderr.contains("the time limit ended the evaluation of epoch 1 after "), "{second:?}");
    let (_, enough) = second.stderr.split_once("give at least ").unwrap();
    assert!(enough.split(' ').next().unwrap().parse::<u64>().unwrap() > 36, "{second:?}");
    run(&faulty, 1, folder.path(), "", flags).expect_success();

    let late = Mpirun::new(1).directory(folder.path()).variable("SLURM_JOB_END_TIME", "1700000000");
    let stale = late.run(&faulty, "--epochs 1 --output stale".split_whitespace());
    stale.expect_success();
    assert!(stale.stderr.contains("SLURM_JOB_END_TIME is ") && stale.stderr.contains("is ignored"), "{stale:?}");
}

#[test]
fn usr2_stops_as_usr1_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Mpirun::new(2)
        .directory(folder.path())
        .start(&binary("rust-train"), "--epochs 400 --output run".split_whitespace());
    let stderr = job.wait_until(|stderr| stderr.contains("epoch 1:"));
    kill_process(announced_pid(1, &stderr).expect("every rank announces its process"), Signal::USR2).unwrap();
    assert_eq!(job.wait().status, Some(75));
}
