//! Bad input: one clear line, said once however many ranks there are, exit status 2, before any work.

use std::fs;
use std::path::Path;
use std::time::Duration;

use multi_rank_tests::{Mpirun, Outcome, binary};

fn picture(path: &Path) {
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
    for name in ["good/train/ant/1.png", "good/val/ant/1.png", "unseen/train/ant/1.png", "unseen/train/bee/1.png"] {
        picture(&folder.join(name));
    }
    picture(&folder.join("unseen/val/ant/1.png"));
    for name in ["no-classes/train", "no-classes/val", "empty/train/ant", "empty/val/ant"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    picture(&folder.join("broken/train/ant/1.png"));
    picture(&folder.join("broken/val/ant/1.png"));
    fs::write(folder.join("broken/train/ant/2.png"), "no picture").unwrap();
    fs::write(folder.join("nine.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\n").unwrap();
    fs::write(folder.join("twice.txt"), "ant\nant\n").unwrap();
    fs::create_dir(folder.join("old-run")).unwrap();

    let cases = [
        ("--data no-such-folder", "no-such-folder: no such folder"),
        ("cache --data no-such-folder", "no-such-folder: no such folder"),
        ("cache --summary --data no-such-folder", "no-such-folder: no such folder"),
        ("cache", "--data: name a folder of pictures"),
        ("--data nine.txt", "nine.txt: cannot be opened as HDF5"),
        ("--data no-classes", "no-classes/train: no class in it"),
        ("--data empty", "empty/train/ant: no readable picture in it"),
        ("--data broken", "broken/train/ant/2.png: not a readable picture"),
        ("--data unseen", "unseen/val: class 'bee' of train has no folder here"),
        ("--data good --batch 4", "--batch 4: there are only 1 training pictures"),
        ("--data good --classes twice.txt", "twice.txt:2: class 'ant' stands here a second time"),
        ("--classes nine.txt", "nine.txt: 9 classes, and the digits are 10"),
        ("--classes no-such.txt", "no-such.txt: cannot read the classes file"),
        (
            "--batch 63",
            "--batch: a global batch of 63 cannot be shared evenly by 2 ranks; nearest batches that fit: 62, 64",
        ),
        ("--model resnet19", "no model is called 'resnet19'"),
        ("--device tpu", "'tpu' in device 'tpu' is no device"),
        ("--device cuda", "no CUDA device is visible here"),
        ("--device 0,0", "device 0 is listed twice"),
        ("--weights no-such.safetensors", "no-such.safetensors"),
        ("--output old-run", "old-run: exists already"),
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
    let runs = fs::read_dir(folder.join("runs")).map_or(0, Iterator::count);
    assert_eq!(runs, 0, "no results of a run that never began");
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
