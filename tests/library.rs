//! Programs of somebody's own, which use the trainer as a library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use multi_rank_tests::{Mpirun, Outcome, announced_pid, binary};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn own_model() -> String {
    fs::read_to_string(root().join("crates/rust-train/examples/own_model.rs")).unwrap()
}

/// Runs an example on two ranks in `folder`, into the folder of its name.
fn run(folder: &Path, example: &str, flags: &str) -> Outcome {
    let arguments = flags.split_whitespace().chain(["--output", example]);
    let outcome = Mpirun::new(2).directory(folder).run(&binary(&format!("examples/{example}")), arguments);
    outcome.expect_success();
    outcome
}

/// What the last evaluation of an example found.
fn evaluation(folder: &Path, example: &str) -> Value {
    let text = fs::read_to_string(folder.join(example).join("evaluation.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_example_of_the_documentation_trains() {
    let shown = fs::read_to_string(root().join("docs/library.md")).unwrap();
    assert!(shown.contains(&own_model()), "docs/library.md shows another program than the example");

    let folder = tempfile::tempdir().unwrap();
    let outcome = run(folder.path(), "own_model", "--epochs 2");
    assert!(outcome.stderr.contains("my-net at 8×8 pixels"), "{outcome:?}");
    let weights = weights::read(&folder.path().join("own_model/best.safetensors")).unwrap();
    let names: Vec<_> = weights.entries().iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"head.weight") && names.contains(&"norm.running_mean"), "{names:?}");

    // Its own weights are a start; another model's are refused in one line.
    let job = Mpirun::new(2).directory(folder.path());
    let again = ["--weights", "own_model/best.safetensors", "--epochs", "1", "--output", "again"];
    job.run(&binary("examples/own_model"), again).expect_success();
    let refused = job.run(&binary("rust-train"), ["--weights", "own_model/best.safetensors", "--output", "never"]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
}

/// Each learns what it is about, by its own measure, and no example is long.
#[test]
fn tasks_of_one_s_own_are_learned() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("own_loss", "--epochs 6", "top1", 0.9..=1.0),
        ("two_heads", "--epochs 10 --lr 0.05", "odd", 0.9..=1.0),
        ("segmentation", "--epochs 6 --lr 0.05", "iou", 0.9..=1.0),
        ("regression", "--epochs 10 --optimizer adamw --lr 0.003", "mae", 0.0..=1.5),
    ];
    for (example, flags, metric, range) in cases {
        run(folder.path(), example, flags);
        let found = evaluation(folder.path(), example);
        let value = found[metric].as_f64().unwrap();
        assert!(range.contains(&value), "{example}: {metric} {value}");
        let page = fs::read_to_string(folder.path().join(example).join("report.html")).unwrap();
        let title = found["metrics"][0]["title"].as_str().unwrap();
        assert!(page.contains(&format!("Best {title}")), "{example}: {title}");
        let csv = fs::read_to_string(folder.path().join(example).join("metrics.csv")).unwrap();
        assert!(csv.lines().next().unwrap().split(',').any(|column| column == metric), "{csv}");
    }
    for entry in fs::read_dir(root().join("crates/rust-train/examples")).unwrap() {
        let path = entry.unwrap().path();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        let most = if path.ends_with("regression.rs") { 60 } else { 80 };
        assert!(lines <= most, "{}: {lines} lines", path.display());
    }
}

#[test]
fn a_small_network_learns_from_a_trained_one() {
    let folder = tempfile::tempdir().unwrap();
    let job = Mpirun::new(2).directory(folder.path());
    job.run(&binary("rust-train"), ["--epochs", "6", "--output", "teacher"]).expect_success();
    run(folder.path(), "distillation", "--model lenet --lr 0.05 --epochs 12");
    let found = evaluation(folder.path(), "distillation");
    assert!(found["top1"].as_f64().unwrap() > 0.8, "{}", found["top1"]);
}

/// A task's run is stopped and goes on bit for bit, as any other; and so does its best model by its own measure.
#[test]
fn a_task_of_one_s_own_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "--model lenet --optimizer adamw --lr 0.003 --batch 62 --epochs 4";
    run(folder.path(), "regression", flags);
    let job = Mpirun::new(2).directory(folder.path());
    let part = format!("{flags} --output part --resume auto");
    let mut stopped = job.start(&binary("examples/regression"), part.split_whitespace());
    let stderr = stopped.wait_until(|stderr| stderr.contains("epoch 1:"));
    kill_process(announced_pid(1, &stderr).expect("every rank announces its process"), Signal::USR1).unwrap();
    assert_eq!(stopped.wait().status, Some(75));
    job.run(&binary("examples/regression"), part.split_whitespace()).expect_success();
    for file in ["last.safetensors", "best.safetensors"] {
        let bytes = |run: &str| fs::read(folder.path().join(run).join(file)).unwrap();
        assert!(bytes("regression") == bytes("part"), "{file}");
    }
    // The lowest error is the best.
    let errors: Vec<_> = fs::read_to_string(folder.path().join("part/metrics.jsonl"))
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["mae"].as_f64())
        .collect();
    let again = "--model lenet --batch 62 --eval-only --weights part/best.safetensors --output scored";
    job.run(&binary("examples/regression"), again.split_whitespace()).expect_success();
    let best = evaluation(folder.path(), "scored")["mae"].as_f64().unwrap();
    let lowest = errors.iter().copied().fold(f64::INFINITY, f64::min);
    assert!((best - lowest).abs() < 1e-4, "{best}, and the record has {errors:?}");
}

#[test]
fn hooks_are_called_and_may_end_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = run(folder.path(), "own_loop", "--model lenet --lr 0.05 --batch 32 --epochs 50");
    assert!(outcome.stderr.contains("the program ends the run after epoch"), "{outcome:?}");
    let lines = outcome.stdout.lines().count();
    assert!((2..50).contains(&lines), "{outcome:?}");
    assert!(outcome.stdout.lines().last().unwrap().contains("100.0 % right"), "{outcome:?}");
    // The run is over: the same script, submitted again, trains nothing.
    let again = run(folder.path(), "own_loop", "--model lenet --lr 0.05 --batch 32 --epochs 50 --resume auto");
    assert!(again.stdout.is_empty() && again.stderr.contains("done: top-1 100.00 %"), "{again:?}");
}

#[test]
fn flags_that_a_program_has_no_use_for_are_refused() {
    let cases = [
        ("segmentation", "--mixup 0.2", "--mixup: the task of this program does not know it"),
        ("own_loss", "--class-weights balanced", "--class-weights balanced: the task of this program does not know it"),
        ("own_loop", "--data x", "--data x: this program brings its own images"),
    ];
    for (example, flags, words) in cases {
        let refused = Mpirun::new(2).run(&binary(&format!("examples/{example}")), flags.split_whitespace());
        assert_eq!(refused.status, Some(2), "{refused:?}");
        assert_eq!(refused.stderr.matches(words).count(), 1, "{refused:?}");
    }
}

/// The blocks of docs/library.md that stand for files, in their order: Cargo.toml, .cargo/config.toml, build.rs.
fn files_of_a_package() -> [String; 3] {
    let text = fs::read_to_string(root().join("docs/library.md")).unwrap();
    let (_, steps) = text.split_once("## In a package of its own").unwrap();
    let blocks: Vec<_> = steps.split("```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap().1).collect();
    let files = [blocks[0], blocks[1], blocks[2]];
    files.map(|block| block.replace("/path/to/rust-train", root().to_str().unwrap()))
}

/// The workspace's way to build for tests, as a package elsewhere must say it: so what is built already need not be built anew,
/// which takes minutes. There our packages are not members, and so would be optimized as everybody else's.
fn profiles_of_the_workspace() -> String {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut profile = text.parse::<toml::Table>().unwrap();
    profile.retain(|table, _| table == "profile");
    profile["profile"].as_table_mut().unwrap().retain(|name, _| name == "dev");
    let packages = profile["profile"]["dev"]["package"].as_table_mut().unwrap();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        packages.entry(name).or_insert_with(|| toml::toml! { opt-level = 0 }.into());
    }
    toml::to_string(&profile).unwrap()
}

/// What docs/library.md says, in a fresh folder: nothing is exported, and no more than five lines of files are written
/// beside the manifest and the program.
#[test]
fn a_package_outside_the_workspace_builds_and_starts() {
    let folder = tempfile::tempdir().unwrap();
    let [manifest, config, build] = files_of_a_package();
    assert!(config.lines().count() + build.lines().count() <= 5, "{config}{build}");
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("Cargo.toml", &format!("{manifest}\n{}", profiles_of_the_workspace()));
    write(".cargo/config.toml", &config);
    write("build.rs", &build);
    write("src/main.rs", &own_model());
    // The versions that the workspace was tested with, so that nothing is asked of the network; and what it has built.
    fs::copy(root().join("Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();
    let target = target();
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--offline", "--quiet"]).current_dir(folder.path()).env("CARGO_TARGET_DIR", &target);
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0"); // nobody looks into it
    for (name, _) in std::env::vars_os() {
        // What cargo and the workspace's configuration say to this test is not said to a package elsewhere.
        let name = name.to_string_lossy().into_owned();
        let is_cargo = name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if is_cargo || ["LIBTORCH", "CUDA_HOME", "LD_LIBRARY_PATH"].contains(&name.as_str()) {
            cargo.env_remove(name);
        }
    }
    let built = cargo.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let job = Mpirun::new(2).directory(folder.path()).variable("LD_LIBRARY_PATH", "");
    let outcome = job.run(&target.join("debug/my-training"), ["--epochs", "1", "--output", "run"]);
    outcome.expect_success();
    assert!(folder.path().join("run/best.safetensors").is_file(), "{outcome:?}");
}

/// The folder in which the workspace is built.
fn target() -> PathBuf {
    let program = binary("rust-train");
    program.parent().and_then(Path::parent).unwrap().to_owned()
}
