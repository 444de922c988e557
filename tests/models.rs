//! Models in a job of several ranks: frozen parts, and evaluation that is shared.

use std::fs;
use std::path::Path;

use multi_rank_tests::{Mpirun, Outcome, binary};

fn rust_train(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    let outcome = Mpirun::new(ranks).directory(folder).run(&binary("rust-train"), arguments.split_whitespace());
    outcome.expect_success();
    outcome
}

/// The keys whose values differ between two files of weights.
fn changed(folder: &Path, left: &str, right: &str) -> Vec<String> {
    let [left, right] = [left, right].map(|run| weights::read(&folder.join(run).join("last.safetensors")).unwrap());
    let pairs = left.entries().iter().zip(right.entries());
    let differing = pairs.filter(|((left_key, left), (right_key, right))| {
        assert_eq!(left_key, right_key);
        left.bytes() != right.bytes()
    });
    differing.map(|((key, _), _)| key.clone()).collect()
}

#[test]
fn a_frozen_backbone_stays_until_it_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let run = |flags: &str| rust_train(2, folder.path(), &format!("--model cifar_resnet20 --max-steps 20 {flags}"));
    run("--epochs 1 --output first");
    let from_first = "--weights first/last.safetensors --freeze backbone";
    run(&format!("{from_first} --epochs 1 --output frozen"));
    let mut head = changed(folder.path(), "first", "frozen");
    head.sort_unstable();
    assert_eq!(head, ["linear.bias", "linear.weight"]);
    // 22 steps are an epoch: the second one trains everything.
    let thawed =
        format!("--model cifar_resnet20 {from_first} --freeze-epochs 1 --epochs 2 --max-steps 30 --output thawed");
    let outcome = rust_train(2, folder.path(), &thawed);
    assert!(outcome.stderr.contains("everything is trained from here on"), "{}", outcome.stderr);
    assert!(changed(folder.path(), "frozen", "thawed").len() > 60);
}

#[test]
fn ranks_share_an_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    for (split, class, channel) in [("train", "blue", 2), ("train", "red", 0), ("val", "blue", 2), ("val", "red", 0)] {
        let class = folder.path().join("colours").join(split).join(class);
        fs::create_dir_all(&class).unwrap();
        for number in 0..11_u8 {
            let mut pixel = [40 + number; 3];
            pixel[channel] = 200;
            image::RgbImage::from_pixel(20, 16, image::Rgb(pixel)).save(class.join(format!("{number}.png"))).unwrap();
        }
    }
    rust_train(1, folder.path(), "--data colours --model lenet --image-size 16 --batch 4 --epochs 1 --output run");
    let flags = "eval --data colours --model lenet --image-size 16 --weights run/last.safetensors --json --batch 4";
    let scores = [1, 2, 3].map(|ranks| {
        let outcome = rust_train(ranks, folder.path(), flags);
        let scores: serde_json::Value = serde_json::from_str(outcome.stdout.trim()).unwrap();
        assert_eq!(scores["samples"], 22, "{scores}");
        (scores["top1"].as_f64().unwrap(), scores["loss"].as_f64().unwrap())
    });
    for (top1, loss) in scores {
        assert!(top1 == scores[0].0 && (loss - scores[0].1).abs() < 1e-6, "{scores:?}");
    }
}
