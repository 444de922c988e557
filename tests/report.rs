//! What a run leaves for people to look at, under mpirun: the same at any number of ranks, and for whoever resumes.

use std::fs;
use std::path::Path;

use multi_rank_tests::{Mpirun, Outcome, announced_pid, binary};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

fn rust_train(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    let outcome = Mpirun::new(ranks).directory(folder).run(&binary("rust-train"), arguments.split_whitespace());
    outcome.expect_success();
    outcome
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The digits under names that would be markup if they were not escaped.
fn hostile_classes(folder: &Path) {
    let names: String = (0..10).map(|digit| format!("<script>alert({digit})</script>\n")).collect();
    fs::write(folder.join("names"), names).unwrap();
}

/// The scalars of an event file, told by their records' lengths alone.
fn records(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut count = 0;
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        rest = &rest[8 + 4 + length + 4..];
        count += 1;
    }
    count
}

fn file_with(folder: &Path, prefix: &str) -> Vec<u8> {
    let named = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(prefix);
    let entry = fs::read_dir(folder).unwrap().map(Result::unwrap).find(named).unwrap();
    fs::read(entry.path()).unwrap()
}

#[test]
fn an_evaluation_is_the_same_at_any_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    hostile_classes(folder.path());
    // Few steps, so that the model is wrong about something.
    let flags = "--model lenet --lr 0.05 --batch 60 --classes names";
    rust_train(2, folder.path(), &format!("{flags} --epochs 2 --max-steps 30 --output run"));

    let run = folder.path().join("run");
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("&lt;script&gt;alert(3)&lt;/script&gt;") && !page.contains("<script>alert("));
    let outside = page.replace("http://www.w3.org/2000/svg", ""); // a name, not an address
    assert!(!outside.contains("http:") && !outside.contains("https:"), "the page asks for something from elsewhere");
    let csv = fs::read_to_string(run.join("metrics.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2, "{csv}");
    let columns = csv.lines().next().unwrap().split(',').count();
    assert!(csv.lines().all(|line| line.split(',').count() == columns), "{csv}");
    // The version, the start, two scalars a step, six an epoch.
    assert_eq!(records(&file_with(&run, "events.out.tfevents.")), 2 + 2 * 30 + 6 * 2);
    let session = &json(&run.join("environment.json"))["sessions"][0];
    assert_eq!((session["ranks"].as_array().unwrap().len(), &session["end"]["step"]), (2, &Value::from(30)));

    let evaluation = json(&run.join("evaluation.json"));
    assert!(evaluation["worst"].as_array().unwrap().len() > 5);
    for ranks in [1, 2, 3] {
        let output = format!("alone-{ranks}");
        let weights = "--weights run/last.safetensors --eval-only";
        rust_train(ranks, folder.path(), &format!("{flags} {weights} --output {output}"));
        let alone = json(&folder.path().join(output).join("evaluation.json"));
        for key in ["confusion", "classes", "samples", "top1", "top5"] {
            assert_eq!(alone[key], evaluation[key], "{key} of {ranks} ranks");
        }
        let what = |evaluation: &Value| -> Vec<Value> {
            let worst = evaluation["worst"].as_array().unwrap().iter();
            worst.map(|sample| Value::from(vec![sample["path"].clone(), sample["thumbnail"].clone()])).collect()
        };
        assert_eq!(what(&alone), what(&evaluation), "the worst samples of {ranks} ranks");
    }
    let refused = Mpirun::new(1).directory(folder.path()).run(&binary("rust-train"), ["--eval-only"]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
}

#[test]
fn a_resumed_run_leaves_the_same_curves() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "--epochs 4 --batch 62 --seed 2";
    rust_train(2, folder.path(), &format!("{flags} --output whole"));
    let launcher = Mpirun::new(2).directory(folder.path());
    let arguments = format!("{flags} --output stopped --resume auto");
    let mut job = launcher.start(&binary("rust-train"), arguments.split_whitespace());
    let stderr = job.wait_until(|stderr| stderr.contains("epoch 2:"));
    kill_process(announced_pid(1, &stderr).expect("every rank announces its process"), Signal::USR1).unwrap();
    assert_eq!(job.wait().status, Some(75));
    rust_train(2, folder.path(), &arguments);

    // What does not depend on how fast it was.
    let curves = |run: &str| -> Vec<Vec<String>> {
        let csv = fs::read_to_string(folder.path().join(run).join("metrics.csv")).unwrap();
        csv.lines().map(|line| line.split(',').take(5).map(str::to_owned).collect()).collect()
    };
    assert_eq!(curves("whole"), curves("stopped"));
    assert_eq!(curves("whole")[0], ["epoch", "train_loss", "val_loss", "top1", "top5"]);
    let evaluation = |run: &str| json(&folder.path().join(run).join("evaluation.json"));
    assert_eq!(evaluation("whole"), evaluation("stopped"));
    let sessions = json(&folder.path().join("stopped/environment.json"))["sessions"].clone();
    let ends: Vec<_> = sessions.as_array().unwrap().iter().map(|session| &session["end"]["how"]).collect();
    assert_eq!(ends, ["stopped by a signal", "done"]);

    // The page follows from the files beside it.
    let page = folder.path().join("stopped/report.html");
    let before = fs::read_to_string(&page).unwrap();
    assert!(before.contains("resumed"));
    fs::remove_file(&page).unwrap();
    rust_train(1, folder.path(), "report stopped");
    assert_eq!(fs::read_to_string(&page).unwrap(), before);
}

#[test]
fn a_benchmark_measures_every_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "bench --model lenet --window 0.1 --windows 3";
    let cases = [("--ranks 3,1 --batch 60 --weak", [20.0, 60.0]), ("--ranks 1,3 --batch 60 --strong", [60.0, 60.0])];
    for (case, (more, batches)) in cases.into_iter().enumerate() {
        let outcome = rust_train(3, folder.path(), &format!("{flags} {more} --output {case}"));
        assert!(outcome.stdout.contains("ranks  nodes  batch"), "{}", outcome.stdout);
        let output = folder.path().join(case.to_string());
        let scaling = json(&output.join("scaling.json"));
        let points = scaling["points"].as_array().unwrap();
        let number = |point: &Value, key: &str| point[key].as_f64().unwrap();
        assert_eq!(points.iter().map(|point| number(point, "ranks")).collect::<Vec<_>>(), [1.0, 3.0]);
        assert_eq!(points.iter().map(|point| number(point, "batch")).collect::<Vec<_>>(), batches);
        for point in points {
            let [slowest, median, fastest] =
                ["slowest", "images_per_second", "fastest"].map(|speed| number(point, speed));
            assert!(0.0 < slowest && slowest <= median && median <= fastest, "{point}");
            // The parts are those of the step: together they take as long as it does.
            let parts = point["parts"].as_object().unwrap();
            let step: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
            assert!((step * median / number(point, "batch") - 1.0).abs() < 0.05, "{point}");
            assert!(parts["forward"].as_f64().unwrap() > 0.0 && parts["backward"].as_f64().unwrap() > 0.0, "{point}");
        }
        assert_eq!(fs::read_to_string(output.join("scaling.csv")).unwrap().lines().count(), 3);
        assert!(fs::read_to_string(output.join("scaling.svg")).unwrap().starts_with("<svg"));
        assert!(fs::read_to_string(output.join("scaling.html")).unwrap().contains("Efficiency"));
    }
    for (flags, words) in [("--ranks 4", "the job has 3"), ("--batch 62", "cannot be shared evenly")] {
        let job = Mpirun::new(3).directory(folder.path());
        let refused = job.run(&binary("rust-train"), format!("bench {flags}").split_whitespace());
        assert_eq!(refused.status, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
}
