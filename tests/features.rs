//! What is made of a network's features over several ranks: linear probes and nearest neighbours, under mpirun.

use std::fs;
use std::path::Path;

use multi_rank_tests::{metric, rust_train};
use serde_json::Value;

/// The only epoch of a run.
fn epoch(folder: &Path, run: &str) -> Value {
    let text = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let epochs: Vec<_> = lines.filter(|line| line.get("epoch").is_some()).collect();
    assert_eq!(epochs.len(), 1, "{text}");
    epochs[0].clone()
}

fn evaluation(folder: &Path, run: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(run).join("evaluation.json")).unwrap()).unwrap()
}

fn train(folder: &Path) {
    rust_train(2, folder, "--model lenet --epochs 3 --optimizer adamw --lr 0.003 --output trained").expect_success();
}

#[test]
fn a_linear_probe_is_the_same_on_any_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder);
    let before = *metric(&folder.join("trained"), "top1").last().unwrap();
    let probe = "--model lenet --weights trained --linear-probe --batch 48 --lr 77 --seed";
    for ranks in [1, 2, 3] {
        rust_train(ranks, folder, &format!("{probe} {ranks} --output {ranks}")).expect_success();
    }
    let alone = epoch(folder, "1");
    // Of the same features the best head is at least as good as the one that was being trained.
    assert!(alone["top1"].as_f64().unwrap() >= before, "{alone} after {before}");
    for ranks in ["2", "3"] {
        let other = epoch(folder, ranks);
        for key in ["train_loss", "val_loss", "top1"] {
            let (one, other) = (alone[key].as_f64().unwrap(), other[key].as_f64().unwrap());
            assert!((one - other).abs() < 1e-5, "{key} of {ranks} ranks: {other}, not {one}");
        }
    }
    // What is saved is a model like any other, whose backbone has not moved.
    rust_train(1, folder, "eval 2 --output again").expect_success();
    let again = evaluation(folder, "again")["loss"].as_f64().unwrap();
    assert!((again - alone["val_loss"].as_f64().unwrap()).abs() < 1e-4, "{again}");
    let features = |run: &str| {
        rust_train(1, folder, &format!("eval {run} --features {run}.tsv")).expect_success();
        fs::read_to_string(folder.join(format!("{run}.tsv"))).unwrap()
    };
    let (own, probed) = (features("trained"), features("2"));
    assert_eq!(own, probed);
    assert_eq!(own.lines().next().unwrap().split('\t').count(), 2 + 84, "LeNet's features");
    // It is over.
    let over = epoch(folder, "2");
    rust_train(2, folder, &format!("{probe} 2 --output 2 --resume auto")).expect_success();
    assert_eq!(epoch(folder, "2"), over);
}

#[test]
fn neighbours_are_found_across_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder);
    let knn = "--model lenet --weights trained --eval-only --batch 48 --knn";
    for ranks in [1, 2, 3] {
        rust_train(ranks, folder, &format!("{knn} 20 --output {ranks}")).expect_success();
    }
    let alone = evaluation(folder, "1");
    let top1 = |evaluation: &Value| evaluation["metrics"]["top1"].as_f64().or(evaluation["top1"].as_f64()).unwrap();
    assert!(top1(&alone) > 0.8, "{alone}");
    for ranks in ["2", "3"] {
        let other = evaluation(folder, ranks);
        assert_eq!(top1(&alone), top1(&other));
        let (one, other) = (alone["loss"].as_f64().unwrap(), other["loss"].as_f64().unwrap());
        assert!((one - other).abs() < 1e-5, "{ranks} ranks: {other}, not {one}");
    }
}

#[test]
fn neighbours_are_those_of_the_weights_that_are_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = "--model lenet --epochs 2 --optimizer adamw --lr 0.003";
    rust_train(2, folder, &format!("{train} --ema 0.99 --output averaged")).expect_success();
    let knn = "--eval-only --knn 20";
    rust_train(2, folder, &format!("{train} --ema 0.99 --resume averaged {knn} --output resumed")).expect_success();
    let saved = "--model lenet --weights averaged/last.safetensors";
    rust_train(2, folder, &format!("{saved} {knn} --output saved")).expect_success();
    let loss = |run| evaluation(folder, run)["loss"].as_f64().unwrap();
    assert!((loss("resumed") - loss("saved")).abs() < 1e-5, "{} and {}", loss("resumed"), loss("saved"));
}

#[test]
fn what_has_no_features_to_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder);
    let cases = [
        ("--linear-probe", "--linear-probe: of which weights? Name them with --weights or --pretrained"),
        ("--weights trained --linear-probe --mixup 0.2", "--mixup: a linear probe does not know it; leave it out"),
        ("--weights trained --linear-probe --probe-penalty 0", "--probe-penalty 0: must be a number above 0"),
        ("--weights trained --probe-penalty 1", "--probe-penalty 1: is for --linear-probe"),
        ("--weights trained --knn 3", "--knn 3: evaluates, and trains nothing; add --eval-only"),
        ("--weights trained --eval-only --knn 2000", "--knn 2000: there are only 1442 training images"),
        ("--weights trained --eval-only --knn 0", "--knn: must be at least 1"),
    ];
    for (case, (flags, expected)) in cases.into_iter().enumerate() {
        let refused = rust_train(2, folder, &format!("--model lenet {flags} --output refused-{case}"));
        let said = refused.stderr.matches(expected).count();
        assert_eq!((refused.status, said), (Some(2), 1), "{flags}: {}", refused.stderr);
    }
}
