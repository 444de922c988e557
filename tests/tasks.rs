//! Files of arrays, of any number of channels, and the tasks that are learned from them: one class, several labels, numbers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use multi_rank_tests::arrays::{Made, SIDE, bytes, made, noise, npz};
use multi_rank_tests::{Mpirun, Outcome, binary, one_rank};
use serde_json::Value;
use zip::CompressionMethod;

/// A file whose labels are for `task`.
fn write(path: &Path, task: &str, channels: usize, method: CompressionMethod) {
    let mut arrays = Vec::new();
    for (split, count, seed) in [("train", 320, 1), ("val", 97, 2)] {
        let Made { images, brightest, bright, brightness } = made(count, channels, seed);
        let (descr, width, labels) = match task {
            "classify" => ("<i8", 1, bytes(&brightest, i64::to_le_bytes)),
            "multilabel" => ("|u1", 4, bright),
            _ => ("<f8", 4, bytes(&brightness, f64::to_le_bytes)),
        };
        let shape = vec![count, channels, SIDE, SIDE];
        arrays.push((format!("{split}_images"), "<f4", shape, bytes(&images, f32::to_le_bytes)));
        arrays.push((format!("{split}_labels"), descr, vec![count, width], labels));
    }
    let arrays: Vec<_> = arrays
        .iter()
        .map(|(name, descr, shape, bytes)| (name.as_str(), *descr, shape.clone(), bytes.clone()))
        .collect();
    npz(path, method, &arrays);
}

fn mpirun(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    let launcher = Mpirun::new(ranks).directory(folder).timeout(Duration::from_secs(240));
    launcher.run(&binary("rust-train"), arguments.split_whitespace())
}

/// What an evaluation prints: equal to the last digit on any number of ranks.
fn evaluation(folder: &Path, ranks: usize, run: &str) -> String {
    mpirun(ranks, folder, &format!("eval {run} --batch 8 --json")).expect_success().stdout.clone()
}

#[test]
fn every_task_learns_and_scores_alike_on_any_number_of_ranks() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let cases = [
        ("classify", 5, CompressionMethod::Stored, "--lr 0.02", "top1", 0.85),
        ("multilabel", 2, CompressionMethod::Deflated, "--lr 0.02", "map", 0.85),
        ("multilabel", 1, CompressionMethod::Stored, "--loss asymmetric --mixup 0.2", "map", 0.8),
        ("regress", 12, CompressionMethod::Stored, "--lr 0.02 --intensity-jitter 0.05 --noise 0.05", "r2", 0.8),
        ("regress", 3, CompressionMethod::Stored, "--lr 0.02 --loss huber", "r2", 0.8),
    ];
    for (number, (task, channels, method, flags, metric, least)) in cases.into_iter().enumerate() {
        let run = format!("run-{number}");
        write(&folder.join("set.npz"), task, channels, method);
        let train = format!(
            "--data set.npz --task {task} --model lenet --image-size {SIDE} --crop-padding 0 --no-flip --epochs 25 --batch 32 {flags} \
             --output {run}"
        );
        let trained = mpirun(2, folder, &train);
        trained.expect_success();
        assert!(
            trained.stderr.contains(&format!("the images have {channels} channel"))
                && trained.stderr.contains("and 12×12 pixels"),
            "{}",
            trained.stderr
        );
        let scored: Vec<String> = [1, 2, 4].map(|ranks| evaluation(folder, ranks, &run)).into();
        assert!(scored.windows(2).all(|pair| pair[0] == pair[1]), "{task}: {scored:?}");
        let value: Value = serde_json::from_str(&scored[0]).unwrap();
        assert!(value[metric].as_f64().unwrap() > least, "{task} {flags}: {} {}", value[metric], trained.stderr);
        if task == "regress" {
            assert_eq!(value["outputs"].as_array().unwrap().len(), 4);
            // In the targets' own unit, which lies about 1000.
            let rmse = value["rmse"].as_f64().unwrap();
            assert!((0.1..10.0).contains(&rmse), "{rmse}");
        }
        let page = fs::read_to_string(folder.join(&run).join("report.html")).unwrap();
        assert_eq!(page.contains("Scores of each output"), task != "classify");
    }
}

#[test]
fn a_run_of_another_task_goes_on_with_the_same_bits() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write(&folder.join("set.npz"), "regress", 4, CompressionMethod::Stored);
    let flags = "--data set.npz --task regress --lr 0.02 --model cifar_resnet20 --image-size 12 --no-flip --epochs 3 --batch 32";
    let flags = format!("{flags} --checkpoint-steps 7 --keep-checkpoints 9");
    mpirun(2, folder, &format!("{flags} --output whole")).expect_success();
    let resume = "--resume whole/checkpoints/step-00000014";
    mpirun(2, folder, &format!("{flags} --output parts {resume}")).expect_success();
    let weights = |run: &str| fs::read(folder.join(run).join("last.safetensors")).unwrap();
    assert!(weights("whole") == weights("parts"), "the weights differ");
    let other = mpirun(2, folder, &format!("{flags} --loss l1 --output other {resume}"));
    assert_eq!(other.error_lines().len(), 1, "{}", other.stderr);
    assert!(other.stderr.contains("loss"), "{}", other.stderr);
}

#[test]
fn weights_of_three_channels_are_adapted_and_said() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write(&folder.join("set.npz"), "classify", 5, CompressionMethod::Stored);
    mpirun(1, folder, "--model cifar_resnet20 --epochs 1 --output rgb").expect_success();
    let flags = "--data set.npz --model cifar_resnet20 --image-size 12 --no-flip --epochs 1 --batch 32";
    let strict = mpirun(2, folder, &format!("{flags} --weights rgb --output other"));
    assert_eq!(strict.status, Some(2), "{}", strict.stderr);
    let tuned = mpirun(2, folder, &format!("{flags} --weights rgb --weights-match head --output other"));
    tuned.expect_success();
    let said = "conv1.weight is of images of 3 channels, and is adapted to 5";
    assert_eq!(tuned.stderr.matches(said).count(), 1, "{}", tuned.stderr);
    let other = mpirun(2, folder, "eval rgb --data set.npz");
    assert!(other.stderr.contains("--data: has 4 classes") || other.stderr.contains("channels"), "{}", other.stderr);
    let mut predict = one_rank();
    let predict = predict.current_dir(folder).args(["predict", "set.npz", "--weights", "other"]).output().unwrap();
    let error = String::from_utf8_lossy(&predict.stderr);
    assert!(predict.status.code() == Some(2) && error.contains("eval --logits FILE"), "{error}");
}

#[test]
fn every_fault_is_said_once_with_its_place() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write(&folder.join("classes.npz"), "classify", 2, CompressionMethod::Stored);
    write(&folder.join("flags.npz"), "multilabel", 2, CompressionMethod::Stored);
    write(&folder.join("numbers.npz"), "regress", 2, CompressionMethod::Stored);
    write(&folder.join("packed.npz"), "classify", 2, CompressionMethod::Deflated);
    for name in ["classes.npz", "packed.npz"] {
        let whole = fs::read(folder.join(name)).unwrap();
        fs::write(folder.join(format!("cut-{name}")), &whole[..whole.len() / 2]).unwrap();
        let mut damaged = whole.clone();
        damaged[whole.len() / 4..whole.len() / 4 + 64].fill(0x5a);
        fs::write(folder.join(format!("damaged-{name}")), damaged).unwrap();
    }
    let floats = |count: usize, of: fn(usize) -> f32| bytes(&(0..count).map(of).collect::<Vec<_>>(), f32::to_le_bytes);
    let labels = || ("y_train", "|u1", vec![64], [0u8, 1].repeat(32));
    let images = |name: &'static str, shape: [usize; 4], of: fn(usize) -> f32| {
        (name, "<f4", shape.to_vec(), floats(shape.iter().product(), of))
    };
    npz(
        &folder.join("nan.npz"),
        CompressionMethod::Stored,
        &[
            images("x_train", [64, 12, 12, 1], |index| if index == 144 * 3 + 25 { f32::NAN } else { noise(index) }),
            labels(),
        ],
    );
    npz(
        &folder.join("other.npz"),
        CompressionMethod::Stored,
        &[
            images("x_train", [64, 12, 12, 1], noise),
            labels(),
            images("x_val", [64, 12, 12, 3], noise),
            ("y_val", "|u1", vec![64], [0u8, 1].repeat(32)),
        ],
    );
    let usual = "--model lenet --image-size 12 --batch 32 --epochs 1 --output out";
    let cases = [
        ("--data cut-classes.npz", "cut-classes.npz: is a broken zip file, or is cut off"),
        ("--data damaged-packed.npz", "damaged-packed.npz: "),
        (
            "--data nan.npz",
            "nan.npz: image 3: not a readable image: channel 0 has NaN, infinite or missing values; --nan mean",
        ),
        ("--data other.npz", "other.npz: its training images have 1 channels, and others 3"),
        ("--data flags.npz", "those of image 0 are neither one class nor shares"),
        ("--data numbers.npz --task multilabel", "--task multilabel needs 0 or 1 for each class"),
        ("--data classes.npz --images photos", "--images photos: nothing of that name; it holds train_images"),
        ("--data classes.npz --labels names", "no labels (--labels names)"),
        ("--data classes.npz --color-jitter 0.4", "--color-jitter: needs colours"),
        ("--data classes.npz --auto-augment rand", "--auto-augment: needs colours"),
        (
            "--data classes.npz --normalize imagenet",
            "--normalize imagenet: is for images of 3 channels, and these have 2",
        ),
        ("--data classes.npz --mean 1,2,3 --std 1", "--mean: has 3 values, and the images have 2 channels"),
        ("--data classes.npz --mean 1 --std 0", "--std 0: must be numbers above 0"),
        ("--data classes.npz --loss mse", "--loss mse: --task classify does not know it; it has ce, bce"),
        (
            "--data numbers.npz --task regress --loss bce",
            "--loss bce: --task regress does not know it; it has mse, l1, huber",
        ),
        (
            "--data flags.npz --task multilabel --label-smoothing 0.1",
            "--label-smoothing: --task multilabel does not know it",
        ),
        ("--task regress", "--task regress: needs --table FILE, a CSV with the labels of the images, or --data FILE"),
        ("--nan mean", "--nan: is for --data"),
        ("--noise 0.1", "--noise: is for images that are not 8-bit RGB"),
    ];
    for (arguments, words) in cases {
        let size = if arguments.starts_with("--task") || arguments.starts_with("--n") { "8" } else { "12" };
        let outcome = mpirun(2, folder, &format!("{arguments} {}", usual.replace("12", size)));
        assert_eq!(outcome.status, Some(2), "{arguments}: {}", outcome.stderr);
        let lines = outcome.error_lines();
        assert!(lines.len() == 1 && lines[0].contains(words), "{arguments}: {lines:?}");
        fs::remove_dir_all(folder.join("out")).ok();
    }
    let filled = mpirun(2, folder, &format!("--data nan.npz --nan mean {usual}"));
    filled.expect_success();
}
