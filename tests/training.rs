//! The main job, under mpirun.

use std::fs;
use std::path::Path;

use multi_rank_tests::{Mpirun, Outcome, binary, can_make_nodes};
use serde_json::Value;

fn rust_train(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    let outcome = Mpirun::new(ranks).directory(folder).run(&binary("rust-train"), arguments.split_whitespace());
    outcome.expect_success();
    outcome
}

/// The lines of a run's metrics that have this key, and its values.
fn metric(folder: &Path, run: &str, key: &str) -> Vec<f64> {
    let text = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line.get(key)?.as_f64()).collect()
}

#[test]
fn two_ranks_learn_the_digits() {
    let folder = tempfile::tempdir().unwrap();
    rust_train(2, folder.path(), "");
    let run = "runs/digits-cifar_resnet20";
    let best = metric(folder.path(), run, "top1").into_iter().fold(0.0, f64::max);
    assert!(best >= 0.97, "top-1 {best}");
    assert_eq!(metric(folder.path(), run, "top1").len(), 20);
    assert_eq!(metric(folder.path(), run, "loss").len(), 20 * (1442 / 64));

    // The weights that were saved are the model: one more epoch at rate zero scores the same.
    let weights = format!("--weights {run}/last.safetensors --epochs 1 --lr 0 --max-steps 1 --output again");
    rust_train(1, folder.path(), &weights);
    let (last, again) = (metric(folder.path(), run, "top1")[19], metric(folder.path(), "again", "top1")[0]);
    assert!((last - again).abs() < 0.02, "{last} when it was saved, {again} when it was loaded");
}

#[test]
fn the_mathematics_do_not_depend_on_the_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    for ranks in [1, 2, 4] {
        let flags = format!("--model lenet --lr 0.05 --seed 3 --max-steps 40 --epochs 2 --output {ranks}");
        rust_train(ranks, folder.path(), &flags);
    }
    let alone = metric(folder.path(), "1", "loss");
    assert_eq!(alone.len(), 40);
    for ranks in ["2", "4"] {
        for (step, (&expected, got)) in alone.iter().zip(metric(folder.path(), ranks, "loss")).enumerate().take(20) {
            let difference = (got - expected).abs() / expected;
            assert!(difference < 1e-4, "step {step} of {ranks} ranks: {got} instead of {expected}");
        }
        // Every sample is evaluated once: the scores are counts of the same samples.
        let scores = |run| metric(folder.path(), run, "top1");
        assert!((scores("1")[1] - scores(ranks)[1]).abs() < 0.02);
    }
}

/// Two classes that a network can tell apart: red and blue, in every shade.
fn coloured_folder(root: &Path) {
    for (split, count) in [("train", 48u8), ("val", 10)] {
        for (class, channel) in [("blue", 2), ("red", 0)] {
            let folder = root.join(split).join(class);
            fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let mut pixel = [40 + number; 3];
                pixel[channel] = 200;
                let picture = image::RgbImage::from_pixel(40, 30, image::Rgb(pixel));
                picture.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn a_folder_is_cached_once() {
    let folder = tempfile::tempdir().unwrap();
    coloured_folder(&folder.path().join("colours"));
    let flags = "--data colours --image-size 16 --batch 16 --epochs 4 --warmup 0 --lr 0.02";
    let first = rust_train(2, folder.path(), &format!("{flags} --output first"));
    assert!(first.stderr.contains("building the dataset cache"), "{first:?}");
    let best = metric(folder.path(), "first", "top1").into_iter().fold(0.0, f64::max);
    assert!(best > 0.9, "top-1 {best}");

    let cache = folder.path().join("colours/.rust-train/pixels-16-bilinear-as-stored.h5");
    let built = fs::metadata(&cache).unwrap().modified().unwrap();
    let second =
        rust_train(3, folder.path(), &format!("{flags} --batch 18 --output second").replace("--batch 16 ", ""));
    assert!(second.stderr.contains("reusing the dataset cache"), "{second:?}");
    assert_eq!(fs::metadata(&cache).unwrap().modified().unwrap(), built);

    // One picture more, and the cache is not the folder's any more.
    fs::copy(folder.path().join("colours/val/red/1.png"), folder.path().join("colours/train/red/new.png")).unwrap();
    let third = rust_train(2, folder.path(), &format!("{flags} --output third --max-steps 1"));
    assert!(third.stderr.contains("have changed since"), "{third:?}");
}

#[test]
fn nodes_share_a_cache_or_build_their_own() {
    if !can_make_nodes() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    coloured_folder(&folder.path().join("colours"));
    let built = |outcome: &Outcome| outcome.stderr.matches("building the dataset cache").count();
    let flags = "--data colours --image-size 16 --batch 16 --epochs 1 --max-steps 2";
    let launcher = Mpirun::new(4).nodes(2).directory(folder.path());
    let shared = launcher.run(&binary("rust-train"), flags.split(' '));
    shared.expect_success();
    assert_eq!(built(&shared), 1, "{shared:?}");
    assert!(shared.stderr.contains("local rank 1 of 2 on node 1 of 2"), "{shared:?}");

    let local = folder.path().join("local");
    fs::create_dir(&local).unwrap();
    let flags = format!("{flags} --cache local");
    let own = launcher.node_local(&local, "64m").run(&binary("rust-train"), flags.split(' '));
    own.expect_success();
    assert_eq!(built(&own), 2, "{own:?}");
}
