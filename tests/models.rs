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

/// So many images of each of two classes, `folder`/blue and `folder`/red.
fn colours(folder: &Path, count: u8) {
    for (class, channel) in [("blue", 2), ("red", 0)] {
        let class = folder.join(class);
        fs::create_dir_all(&class).unwrap();
        for number in 0..count {
            let mut pixel = [40 + number; 3];
            pixel[channel] = 60 + number * 3;
            image::RgbImage::from_pixel(20, 16, image::Rgb(pixel)).save(class.join(format!("{number}.png"))).unwrap();
        }
    }
}

#[test]
fn a_share_of_the_training_images_validates_the_run() {
    let folder = tempfile::tempdir().unwrap();
    colours(&folder.path().join("flat"), 24);
    colours(&folder.path().join("divided/train"), 24);
    let mut scored = Vec::new();
    for (ranks, data, cache, seed) in [(1, "flat", "none", 0), (2, "flat", "pixels", 1), (3, "divided", "encoded", 2)] {
        let run = format!("run-{ranks}");
        let flags = format!("--data {data} --val-split 0.25 --cache-format {cache} --seed {seed} --output {run}");
        let flags = format!("{flags} --model lenet --image-size 16 --batch 6 --epochs 2");
        let trained = rust_train(ranks, folder.path(), &flags);
        assert!(trained.stderr.contains("36 training and 12 validation images"), "{}", trained.stderr);
        let said = trained.stderr.split("done: ").nth(1).unwrap().split(" at best").next().unwrap();
        // The run's own number comes out of the run and of its file, on any number of ranks.
        let evals =
            [(3, format!("eval {run}")), (1, format!("eval {run}/best.safetensors --data {data} --val-split 0.25"))];
        for (ranks, eval) in evals {
            let outcome = rust_train(ranks, folder.path(), &eval);
            assert!(
                outcome.stdout.contains("of 12 right") && outcome.stdout.contains(said),
                "{eval}: {}",
                outcome.stdout
            );
        }
        // Nothing that it was trained on is taken for something that it was not.
        let other = rust_train(1, folder.path(), &format!("eval {run}/best.safetensors --data {data}"));
        let (count, words) = match data {
            "flat" => (48, "all images of flat are evaluated; if the run was trained on them, --val-split 0.25"),
            _ => (12, "evaluated are the images that the run's --val-split 0.25 sets aside from divided"),
        };
        assert!(other.stdout.contains(&format!("of {count} right")), "{}", other.stdout);
        assert!(other.stderr.contains(words), "{}", other.stderr);
        let logits = format!("eval {run} --logits {run}.tsv");
        rust_train(1, folder.path(), &logits);
        let table = fs::read_to_string(folder.path().join(format!("{run}.tsv"))).unwrap();
        scored.push(table.lines().map(|line| line.split('\t').next().unwrap().replace(data, "")).collect::<Vec<_>>());
    }
    assert_eq!(scored[0], scored[1], "whatever the seed, the ranks and the cache");
    assert_eq!(scored[2].len(), 12);
    // Two shares have two caches, and none takes the other's.
    let files = fs::read_dir(folder.path().join("flat/.rust-train")).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.ends_with("-val-split-0.25.h5")), "{names:?}");
    // The images of a run may have become others.
    fs::remove_file(folder.path().join("flat/blue/0.png")).unwrap();
    for number in 1..6 {
        fs::remove_file(folder.path().join(format!("flat/red/{number}.png"))).unwrap();
    }
    let outcome = rust_train(1, folder.path(), "eval run-1");
    assert!(
        outcome.stderr.contains("the run was scored on 12 validation images, and now there are 11"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn ranks_share_an_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        colours(&folder.path().join("colours").join(split), 11);
    }
    rust_train(1, folder.path(), "--data colours --model lenet --image-size 16 --batch 4 --epochs 1 --output run");
    let flags = "eval --data colours --model lenet --image-size 16 --weights run/last.safetensors --json --batch 4";
    let scores = [1, 2, 3].map(|ranks| {
        let outcome = rust_train(ranks, folder.path(), flags);
        let scores: serde_json::Value = serde_json::from_str(outcome.stdout.trim()).unwrap();
        assert_eq!(scores["samples"], 22, "{scores}");
        (scores["top1"].as_f64().unwrap(), scores["loss"].as_f64().unwrap())
    });
    // Images of one colour are their own mirror images.
    let outcome = rust_train(2, folder.path(), &format!("{flags} --test-flip"));
    let flipped: serde_json::Value = serde_json::from_str(outcome.stdout.trim()).unwrap();
    let flipped = (flipped["top1"].as_f64().unwrap(), flipped["loss"].as_f64().unwrap());
    for (top1, loss) in scores.into_iter().chain([flipped]) {
        assert!(top1 == scores[0].0 && (loss - scores[0].1).abs() < 1e-6, "{scores:?}");
    }
}
