//! Bad input: one clear line, said once however many ranks there are, exit status 2, before any work.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use multi_rank_tests::{Mpirun, Outcome, binary};

fn image(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(32, 32, image::Rgb([9, 90, 200])).save(path).unwrap();
}

fn rust_train(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    let launcher = Mpirun::new(ranks).directory(folder).timeout(Duration::from_secs(60));
    launcher.run(&binary("rust-train"), arguments.split_whitespace())
}

#[test]
fn every_fault_is_said_once() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    for name in [
        "good/train/ant/1.png",
        "good/train/ant/2.png",
        "good/val/ant/1.png",
        "unseen/train/ant/1.png",
        "unseen/val/bee/1.png",
    ] {
        image(&folder.join(name));
    }
    image(&folder.join("unseen/val/ant/1.png"));
    for name in ["no-classes/train", "no-classes/val", "empty/train/ant", "empty/val/ant"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    image(&folder.join("broken/train/ant/1.png"));
    image(&folder.join("broken/val/ant/1.png"));
    fs::write(folder.join("broken/train/ant/2.png"), "no image").unwrap();
    fs::write(folder.join("nine.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\n").unwrap();
    fs::write(folder.join("twice.txt"), "ant\nant\n").unwrap();
    fs::create_dir(folder.join("old-run")).unwrap();
    fs::write(folder.join("old-run/plan.toml"), "").unwrap();
    fs::create_dir(folder.join("nothing")).unwrap();

    let cases = [
        ("--data no-such-folder", "no-such-folder: no such folder"),
        ("cache --data no-such-folder", "no-such-folder: no such folder"),
        ("cache --summary --data no-such-folder", "no-such-folder: no such folder"),
        ("cache", "--data: name a folder of images"),
        ("--data nine.txt", "nine.txt: cannot be opened as HDF5"),
        ("--data no-classes", "no-classes/train: no class in it"),
        ("--data empty", "empty/train/ant: no readable image in it"),
        ("--data broken --batch 2", "broken/train/ant/2.png: not a readable image"),
        ("--data unseen", "unseen/val: class 'bee' is not in train"),
        ("--data good --batch 4", "--batch 4: there are only 2 training images"),
        ("--data good --classes twice.txt", "twice.txt:2: class 'ant' stands here a second time"),
        ("--classes nine.txt", "--classes nine.txt: 9 names, and digits has 10 classes"),
        ("--classes no-such.txt", "no-such.txt: cannot read the classes file"),
        (
            "--batch 63",
            "--batch: a global batch of 63 cannot be shared evenly by 2 ranks; nearest batches that fit: 62, 64",
        ),
        ("--model resnet19", "no model is called 'resnet19'"),
        ("--device tpu", "invalid device 'tpu' in 'tpu'"),
        ("--device cuda", "there is no NVIDIA GPU on this machine"),
        ("--device 0,0", "device 0 is listed twice"),
        ("--weights no-such.safetensors", "no-such.safetensors"),
        ("--output old-run", "old-run: a run is there already"),
        ("--data good --batch 2 --output old-run", "old-run: a run is there already"),
        ("--data good --batch 2 --weights no-such.safetensors", "no-such.safetensors"),
        ("--trace no-such-folder/trace.json", "--trace no-such-folder/trace.json: No such file"),
        ("--time-limit 8s", "--time-limit 8s: 10 s of it are kept for saving"),
        ("--lr -0.1", "--lr -0.1: must be a number above 0"),
        ("--lr 0", "--lr 0: must be a number above 0; --eval-only scores a model"),
        ("--weight-decay -1e-4", "--weight-decay -0.0001: must be a number of at least 0"),
        ("--momentum 1.5", "--momentum 1.5: must be a number of at least 0 and below 1"),
        ("--epochs 18446744073709551615", "--epochs 18446744073709551615: must be at most"),
        ("--batch 18446744073709551614", "--batch 18446744073709551614, --accumulate 1: must be at most"),
        ("--batch 18446744073709551616", "invalid value '18446744073709551616' for '--batch"),
        ("--optimizer lars --nesterov true", "--nesterov true: LARS has no such form"),
        (
            "--data good --model resnet18 --image-size 32 --batch 2 --accumulate 1",
            "--batch 2: leaves BatchNorm one value a channel in training",
        ),
        ("--epochs many", "invalid value 'many' for '--epochs"),
        ("--no-such-flag", "unexpected argument '--no-such-flag'"),
    ];
    for (arguments, words) in cases {
        let outcome = rust_train(2, folder, arguments);
        let case = format!("{arguments}: {outcome:?}");
        assert_eq!(outcome.status, Some(2), "{case}");
        assert_eq!(outcome.error_lines().len(), 1, "{case}");
        assert!(outcome.error_lines()[0].contains(words), "{case}");
        assert!(!outcome.stderr.contains("epoch 1"), "{case}");
    }
    for folder in ["good", "unseen"] {
        let made = fs::read_dir(root.path().join(folder).join(".rust-train")).map_or(0, Iterator::count);
        assert_eq!(made, 0, "no cache of a run that never began");
    }
    let runs = fs::read_dir(folder.join("runs")).map_or(0, Iterator::count);
    assert_eq!(runs, 0, "no results of a run that never began");
}

#[test]
fn a_report_of_nothing_is_said_once() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("nothing")).unwrap();
    fs::create_dir(root.path().join("broken")).unwrap();
    fs::write(root.path().join("broken/metrics.jsonl"), "{\"step\": 0").unwrap();
    fs::write(root.path().join("broken/evaluation.json"), "[]").unwrap();
    for (run, words) in [
        ("no-such-run", "error: no-such-run: No such file or directory (os error 2)"),
        ("nothing", "error: nothing: no run has written anything there: neither metrics.jsonl nor evaluation.json"),
        ("broken", "error: broken/evaluation.json: line 1: "),
    ] {
        let command =
            Command::new(binary("rust-train")).args(["report", run]).current_dir(root.path()).output().unwrap();
        let text = String::from_utf8(command.stderr).unwrap();
        assert_eq!((command.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.starts_with(words), "{text}");
    }
}

/// Variables of a launcher that is not there, and those of one that MPI has nothing to do with.
#[test]
fn what_looks_like_several_processes_and_is_none_is_told() {
    let root = tempfile::tempdir().unwrap();
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "1")], "type unset OMPI_COMM_WORLD_SIZE"),
        (&[("PMI_SIZE", "4"), ("PMI_RANK", "3")], "type unset PMI_SIZE"),
        (&[("WORLD_SIZE", "4"), ("RANK", "2")], "WORLD_SIZE=4 is set as if torchrun had started 4 tasks"),
        (&[("WORLD_SIZE", "4")], "start it with mpirun or srun"),
    ];
    for (variables, words) in cases {
        let mut command = Command::new(binary("rust-train"));
        let output = command
            .args(["--max-steps", "1"])
            .current_dir(root.path())
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{variables:?}: {text}");
        assert!(
            text.starts_with("error: ") && text.lines().count() == 1 && text.contains(words),
            "{variables:?}: {text}"
        );
    }
    assert!(!root.path().join("runs").exists());

    // Three processes as torchrun starts them: one of them says it.
    let script = root.path().join("torchrun");
    fs::write(
        &script,
        "#!/bin/bash\nfor RANK in 0 1 2; do RANK=$RANK WORLD_SIZE=3 \"$@\" & done; wait $(jobs -p)\nwait\n",
    )
    .unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new(&script).arg(binary("rust-train")).current_dir(root.path()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("type mpirun -n 3, or srun, in the place of torchrun"), "{text}");
}

#[test]
fn singletons_are_not_a_job() {
    // Taking away what a rank needs to find the others leaves N processes that each think they are alone.
    let folder = tempfile::tempdir().unwrap();
    let alone = "exec env -i PATH=\"$PATH\" OMPI_COMM_WORLD_SIZE=\"$OMPI_COMM_WORLD_SIZE\" \
        OMPI_COMM_WORLD_RANK=\"$OMPI_COMM_WORLD_RANK\" \"$0\"";
    let program = binary("rust-train");
    let arguments = ["-c", alone, program.to_str().unwrap()];
    let outcome = Mpirun::new(3).directory(folder.path()).run(Path::new("bash"), arguments);
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
    let lines = outcome.error_lines();
    assert_eq!(lines.len(), 1, "{outcome:?}");
    assert!(lines[0].contains("mpirun started 3 tasks, but MPI sees only one"), "{outcome:?}");
    assert!(!folder.path().join("runs").exists());
}
