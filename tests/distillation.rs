//! A run that learns from another model, under mpirun.

use std::fs;
use std::path::Path;

use multi_rank_tests::{metric, rust_train};

const STUDENT: &str = "--model lenet --batch 48 --optimizer adamw --lr 0.003 --warmup 0 --seed 5";

/// A model of the digits, in the run `teacher`.
fn train_teacher(folder: &Path) {
    rust_train(2, folder, "--model lenet --epochs 8 --optimizer adamw --lr 0.003 --seed 1 --output teacher")
        .expect_success();
}

#[test]
fn what_a_teacher_knows_needs_no_labels() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train_teacher(folder);
    // Whoever is the teacher has nothing to learn.
    let same =
        format!("{STUDENT} --weights teacher --teacher teacher --distillation-alpha 1 --max-steps 1 --output same");
    rust_train(2, folder, &same).expect_success();
    let losses = metric(&folder.join("same"), "loss");
    assert!(losses[0].abs() < 1e-6, "{losses:?}");

    let alone = format!("{STUDENT} --teacher teacher --distillation-alpha 1 --distillation-temperature 2 --epochs 10");
    rust_train(2, folder, &format!("{alone} --output soft")).expect_success();
    let top1 = *metric(&folder.join("soft"), "top1").last().unwrap();
    assert!(top1 > 0.75, "learned {top1} without a label");
    rust_train(2, folder, &format!("{STUDENT} --teacher teacher --distillation hard --epochs 10 --output hard"))
        .expect_success();
    let top1 = *metric(&folder.join("hard"), "top1").last().unwrap();
    assert!(top1 > 0.7, "learned {top1}");
}

#[test]
fn a_student_does_not_depend_on_the_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train_teacher(folder);
    // Images are mixed, and the teacher sees them so.
    let flags = format!(
        "{STUDENT} --teacher teacher --distillation-temperature 3 --mixup 0.2 --virtual-ranks 4 --epochs 2 --max-steps 40"
    );
    rust_train(1, folder, &format!("{flags} --output one")).expect_success();
    rust_train(2, folder, &format!("{flags} --checkpoint-steps 10 --output two")).expect_success();
    let bits = rust_train(1, folder, "compare-bits one two");
    bits.expect_success();
    assert_eq!(metric(&folder.join("one"), "loss"), metric(&folder.join("two"), "loss"));

    let plain = format!("{STUDENT} --teacher teacher --epochs 1 --max-steps 20");
    for ranks in [1, 2] {
        rust_train(ranks, folder, &format!("{plain} --accumulate 2 --output {ranks}")).expect_success();
    }
    for (one, two) in metric(&folder.join("1"), "loss").into_iter().zip(metric(&folder.join("2"), "loss")) {
        assert!((one - two).abs() / one < 1e-4, "{one} and {two}");
    }
    // The benchmark measures such a step, too.
    let bench = "bench --ranks 1,2 --windows 1 --window 0.1 --model lenet --batch 48 --teacher teacher --output bench";
    rust_train(2, folder, bench).expect_success();
}

#[test]
fn classes_are_told_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Red and blue images, and green ones that only the teacher has seen. Sorted, the names are in another order for it.
    let colours = [("teach", &["azure", "blue", "grass", "red"][..]), ("learn", &["blue", "red"])];
    for (data, classes) in colours {
        for (split, count) in [("train", 24), ("val", 8)] {
            for class in classes {
                let class_folder = folder.join(data).join(split).join(class);
                fs::create_dir_all(&class_folder).unwrap();
                for index in 0..count {
                    let shade = 100 + 5 * index as u8;
                    let pixel = match *class {
                        "azure" => [0, shade, shade],
                        "blue" => [0, 0, shade],
                        "grass" => [0, shade, 0],
                        _ => [shade, 0, 0],
                    };
                    let image = [b"P6\n32 32\n255\n".to_vec(), pixel.repeat(32 * 32)].concat();
                    fs::write(class_folder.join(format!("{index}.ppm")), image).unwrap();
                }
            }
        }
    }
    let flags = "--model lenet --batch 16 --epochs 8 --lr 0.02 --no-flip";
    rust_train(2, folder, &format!("--data teach {flags} --output teacher")).expect_success();
    assert!(*metric(&folder.join("teacher"), "top1").last().unwrap() > 0.9);
    let student = format!("--data learn {flags} --teacher teacher --distillation-alpha 1 --output student");
    rust_train(2, folder, &student).expect_success();
    let top1 = *metric(&folder.join("student"), "top1").last().unwrap();
    assert!(top1 > 0.9, "the student takes one class for another: {top1}");

    // What cannot be is said in one line, before anything is built.
    fs::write(folder.join("cut.safetensors"), b"no weights").unwrap();
    let cases = [
        ("--data learn --teacher missing", "missing: no such file or folder"),
        ("--data learn --teacher cut.safetensors", "--teacher: cut.safetensors"),
        ("--teacher teacher", "--teacher: tells 4 classes apart, --data has 10"),
        ("--data teach --teacher student", "--teacher: does not know the class 'azure' of --data; it knows blue, red"),
        ("--data learn --teacher teacher --teacher-model resnet18", "--teacher:"),
        ("--data learn --teacher-model lenet", "--teacher-model: no published weights of lenet are known"),
    ];
    for (case, (flags, expected)) in cases.into_iter().enumerate() {
        let refused = rust_train(2, folder, &format!("--model lenet --batch 16 {flags} --output refused-{case}"));
        let said = refused.stderr.matches(expected).count();
        assert_eq!((refused.status, said), (Some(2), 1), "{flags}: {}", refused.stderr);
        assert!(!folder.join(format!("refused-{case}")).join("metrics.jsonl").exists(), "{flags}");
    }
}

#[test]
fn a_run_with_a_teacher_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train_teacher(folder);
    let flags = format!("{STUDENT} --teacher teacher --epochs 2");
    rust_train(2, folder, &format!("{flags} --checkpoint-steps 20 --keep-checkpoints 9 --output whole"))
        .expect_success();
    let resume = "--resume whole/checkpoints/step-00000020 --output parts";
    rust_train(2, folder, &format!("{flags} {resume}")).expect_success();
    let losses = metric(&folder.join("whole"), "loss");
    assert_eq!(losses[20..], metric(&folder.join("parts"), "loss"));
    let read = |run: &str| fs::read(folder.join(run).join("last.safetensors")).unwrap();
    assert!(read("whole") == read("parts"));
    // Whoever is called so by now is another.
    rust_train(2, folder, "--model lenet --epochs 1 --seed 2 --output teacher-2").expect_success();
    fs::rename(folder.join("teacher"), folder.join("teacher-1")).unwrap();
    fs::rename(folder.join("teacher-2"), folder.join("teacher")).unwrap();
    let other = rust_train(2, folder, &format!("{flags} --resume whole/checkpoints/step-00000020 --output other"));
    assert_eq!(other.status, Some(2), "{}", other.stderr);
    assert!(other.stderr.contains("--teacher: its weights are others than those"), "{}", other.stderr);
    let changed = format!("{flags} --resume whole/checkpoints/step-00000020 --allow-changed-plan --output changed");
    rust_train(2, folder, &changed).expect_success();
    let other = rust_train(2, folder, &format!("{STUDENT} --epochs 2 --resume whole --output without"));
    assert_eq!(other.status, Some(2), "{}", other.stderr);
    assert!(other.stderr.contains("teacher"), "{}", other.stderr);
}
