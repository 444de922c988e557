//! The main job, under mpirun.

use std::fs;
use std::path::Path;

use multi_rank_tests::{Mpirun, Outcome, announced_pid, binary, can_make_nodes};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

fn rust_train(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    let outcome = Mpirun::new(ranks).directory(folder).run(&binary("rust-train"), arguments.split_whitespace());
    outcome.expect_success();
    outcome
}

fn metric(folder: &Path, run: &str, key: &str) -> Vec<f64> {
    multi_rank_tests::metric(&folder.join(run), key)
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

    // The weights that were saved are the model: a step at hardly any rate leaves what they score.
    let weights = format!("--weights {run}/last.safetensors --epochs 1 --lr 1e-9 --max-steps 1 --output again");
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

#[test]
fn an_average_of_the_weights_is_what_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let schedule_free = "--optimizer adamw-schedule-free --schedule constant";
    let shared = format!("{schedule_free} --zero");
    let kinds = ["--ema 0.9", "--swa 2", schedule_free, &shared];
    for (kind, flags) in kinds.into_iter().enumerate() {
        let flags = format!("--model lenet --epochs 3 --optimizer adamw --lr 0.005 --seed 2 --output {kind} {flags}");
        let flags = flags.replacen("--optimizer adamw ", "", usize::from(kind > 1));
        rust_train(2, folder.path(), &flags);
        let again = format!("--weights {kind}/last.safetensors --model lenet --eval-only --output {kind}-again");
        rust_train(2, folder.path(), &again);
        let text = fs::read_to_string(folder.path().join(format!("{kind}-again/evaluation.json"))).unwrap();
        let evaluation: Value = serde_json::from_str(&text).unwrap();
        let scored = metric(folder.path(), &kind.to_string(), "val_loss")[2];
        let again = evaluation["loss"].as_f64().unwrap();
        assert!((scored - again).abs() < 1e-4, "{flags}: {scored} in the run, {again} of what it saved");
    }
    // Each rank has a part of what the average is made of.
    let scored = |run| metric(folder.path(), run, "val_loss");
    assert_eq!(scored("2"), scored("3"));
}

/// The losses of the first steps under `flags`.
fn losses(ranks: usize, folder: &Path, name: &str, flags: &str) -> Vec<f64> {
    let flags = format!("--epochs 1 --max-steps 20 --batch 48 --warmup 0 --seed 5 {flags} --output {name}");
    rust_train(ranks, folder, &flags);
    metric(folder, name, "loss")
}

#[test]
fn what_saves_time_or_memory_changes_no_number() {
    let folder = tempfile::tempdir().unwrap();
    // Model and optimizer; what both runs have; what the second has; the largest difference between their losses.
    let cases = [
        ("cifar_resnet20", "--lr 0.1", "--zero", 0.0),
        ("lenet", "--optimizer adamw --lr 0.005 --clip-grad-norm 1", "--zero", 0.0),
        ("cifar_resnet20", "--optimizer lamb --lr 0.02", "--zero --bucket-mb 1", 0.0),
        ("cifar_resnet20", "--optimizer lars --lr 10", "--zero", 0.0),
        ("cifar_resnet20", "--lr 0.1", "--recompute blocks --bucket-mb 1", 0.0),
        ("cifar_resnet20", "--lr 0.005 --precision bf16", "--recompute blocks", 0.0),
        ("cifar_resnet20", "--lr 0.1 --drop-path 0.2 --virtual-ranks 4", "--recompute blocks", 0.0),
        ("cifar_resnet20", "--optimizer muon --lr 0.01", "--zero", 0.0),
        ("lenet", "--optimizer adamw-schedule-free --schedule constant --lr 0.005", "--zero", 0.0),
        ("lenet", "--optimizer adam --lr 0.005", "--accumulate 4", 1e-3),
        ("lenet", "--optimizer adam --lr 0.005 --no-norm-decay", "--compress-gradients fp16", 1e-2),
        ("cifar_resnet20", "--lr 0.005", "--compress-gradients bf16", 5e-2),
        ("cifar_resnet20", "--lr 0.005", "--precision bf16", 5e-2),
        // Loss scaling begins with steps that overflow and are skipped.
        ("cifar_resnet20", "--lr 0.005", "--precision fp16", 0.5),
        ("cifar_resnet20", "--lr 0.1", "--compare-replicas 1", 0.0),
        ("cifar_resnet20", "--lr 0.005 --sync-bn", "--channels-last", 5e-2),
    ];
    for (case, (model, both, second, tolerance)) in cases.into_iter().enumerate() {
        let plain = losses(2, folder.path(), &format!("{case}-plain"), &format!("--model {model} {both}"));
        let other = losses(2, folder.path(), &format!("{case}-other"), &format!("--model {model} {both} {second}"));
        assert_eq!((plain.len(), other.len()), (20, 20));
        for (step, (plain, other)) in plain.iter().zip(&other).enumerate() {
            let difference = (plain - other).abs() / plain;
            assert!(difference <= tolerance, "{model} {both}, {second}, step {step}: {plain} and {other}");
        }
        let learned = plain[0] - plain.last().unwrap();
        assert!(learned > 0.05, "{model} {both} learns nothing: {plain:?}");
    }
}

#[test]
fn synchronized_batch_norm_trains_as_one_rank_would() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "--model cifar_resnet20 --lr 0.01";
    let alone = losses(1, folder.path(), "alone", flags);
    let together = losses(3, folder.path(), "together", &format!("{flags} --sync-bn"));
    let apart = losses(3, folder.path(), "apart", flags);
    let difference =
        |other: &[f64]| alone.iter().zip(other).take(3).map(|(a, b)| (a - b).abs() / a).fold(0.0, f64::max);
    // Rounding takes other ways through ReLU; what each rank makes of its own part's statistics is far from that.
    assert!(difference(&together) < difference(&apart) / 5.0, "{alone:?}, {together:?}, {apart:?}");
}

#[test]
fn a_trace_shows_what_every_rank_did_when() {
    let folder = tempfile::tempdir().unwrap();
    losses(2, folder.path(), "run", "--model cifar_resnet20 --lr 0.05 --trace trace.json");
    let trace: Value = serde_json::from_slice(&fs::read(folder.path().join("trace.json")).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let spans = |rank: u64, name: &str| {
        let of_rank = events.iter().filter(move |event| event["ph"] == "X" && event["pid"] == rank);
        let times = |event: &Value| {
            let (start, duration) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
            (start, start + duration)
        };
        of_rank.filter(|event| event["name"].as_str().unwrap().starts_with(name)).map(times).collect::<Vec<_>>()
    };
    for rank in [0, 1] {
        let backward = spans(rank, "backward");
        for name in ["data wait", "forward", "optimizer"] {
            assert_eq!(spans(rank, name).len(), 20, "{name} of rank {rank}");
        }
        assert_eq!(backward.len(), 20);
        let within = |&(start, end): &(f64, f64)| backward.iter().any(|&(from, to)| from <= start && end <= to + 1e4);
        assert!(spans(rank, "all-reduce").iter().filter(|span| within(span)).count() >= 20, "rank {rank}");
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
                let image = image::RgbImage::from_pixel(40, 30, image::Rgb(pixel));
                image.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn auxiliary_heads_count_in_training_alone() {
    let folder = tempfile::tempdir().unwrap();
    coloured_folder(&folder.path().join("colours"));
    let flags = "--data colours --model googlenet --image-size 32 --batch 16 --epochs 1 --warmup 0 --lr 0.01 --seed 3";
    rust_train(2, folder.path(), &format!("{flags} --output plain"));
    rust_train(2, folder.path(), &format!("{flags} --aux-loss --output auxiliary"));
    let loss = |run: &str| metric(folder.path(), run, "loss")[0];
    // Of two classes a head that knows nothing has a loss of ln 2, and the two others count 0.3 times each.
    let [plain, auxiliary] = ["plain", "auxiliary"].map(loss);
    assert!((plain - 0.7).abs() < 0.2 && (auxiliary - plain - 0.6 * 0.7).abs() < 0.2, "{plain} and {auxiliary}");
    let scored = metric(folder.path(), "auxiliary", "val_loss")[0];
    let saved = weights::read(&folder.path().join("auxiliary/last.safetensors")).unwrap();
    assert!(saved.entries().iter().any(|(name, _)| name == "aux2.fc2.weight"));
    // The model is used without them, and goes on with them or without.
    rust_train(1, folder.path(), "eval auxiliary/last.safetensors --data colours --output again");
    let text = fs::read_to_string(folder.path().join("again/evaluation.json")).unwrap();
    let again = serde_json::from_str::<Value>(&text).unwrap()["loss"].as_f64().unwrap();
    assert!((scored - again).abs() < 1e-4, "{scored} in the run, {again} of what it saved");
    let further = format!("{flags} --max-steps 2 --weights auxiliary/last.safetensors");
    rust_train(2, folder.path(), &format!("{further} --aux-loss --output with"));
    rust_train(2, folder.path(), &format!("{further} --output without"));
    let head = "--weights plain/last.safetensors --weights-match head";
    rust_train(2, folder.path(), &format!("{flags} --max-steps 2 {head} --aux-loss --output new"));
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

    // One image more, and the cache is not the folder's any more.
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

#[test]
fn nobody_gets_threads_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "--model lenet --epochs 1000 --loader-threads 100000 --output out";
    let launcher = Mpirun::new(2).directory(folder.path()).variable("RAYON_NUM_THREADS", "50000");
    let mut job = launcher.start(&binary("rust-train"), flags.split(' '));
    let stderr = job.wait_until(|stderr| stderr.contains("epoch 1:"));
    // At most so many on this machine, and libtorch's and MPI's own.
    let most = 2 * 4 * std::thread::available_parallelism().map_or(1, usize::from) + 100;
    for rank in 0..2 {
        let pid = announced_pid(rank, &stderr).unwrap().as_raw_nonzero();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
        assert!(threads <= most, "{threads} threads of rank {rank}");
    }
    kill_process(announced_pid(0, &stderr).unwrap(), Signal::TERM).unwrap();
    let outcome = job.wait();
    assert_eq!(outcome.status, Some(75), "stopped: {outcome:?}");
    for flag in ["--loader-threads 100000: ", "RAYON_NUM_THREADS 50000: "] {
        let lines: Vec<_> = outcome.stderr.lines().filter(|line| line.contains(flag)).collect();
        assert!(matches!(lines[..], [line] if line.contains("for each core that this rank may use")), "{outcome:?}");
    }
}

/// NaN that comes in with the images of one rank: neither the step nor BatchNorm's running statistics keep anything of it.
#[test]
fn a_step_that_is_left_out_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = Path::new(env!("CARGO_BIN_EXE_faults-program"));
    for seed in 0..3 {
        let [whole, spoilt] = ["", "nan-input:1:40"].map(|fault| {
            let output = format!("{seed}-{}", if fault.is_empty() { "whole" } else { "spoilt" });
            let flags = format!("--epochs 10 --on-nan skip --seed {seed} --output {output}");
            let launcher = Mpirun::new(2).directory(folder.path()).variable("FAULT", fault);
            launcher.run(faulty, flags.split_whitespace()).expect_success();
            assert!(metric(folder.path(), &output, "val_loss").len() == 10, "no validation loss is NaN");
            *metric(folder.path(), &output, "top1").last().unwrap()
        });
        assert!(
            whole > 0.8 && (whole - spoilt).abs() <= 0.02,
            "seed {seed}: {whole} whole, {spoilt} with a step left out"
        );
    }
}

#[test]
fn training_needs_no_validation() {
    let folder = tempfile::tempdir().unwrap();
    for (index, class) in ["ant", "bee"].iter().cycle().take(16).enumerate() {
        let path = folder.path().join(format!("data/train/{class}/{index}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(32, 32, image::Rgb([index as u8 * 9, 90, 200])).save(path).unwrap();
    }
    for format in ["pixels", "encoded", "none"] {
        let flags = format!("--data data --cache-format {format} --batch 4 --epochs 2 --output {format}");
        let outcome = rust_train(2, folder.path(), &flags);
        assert_eq!(outcome.stderr.matches("no validation images").count(), 1, "{outcome:?}");
        assert!(
            outcome.stderr.contains("done: nothing to validate on") && !outcome.stderr.contains("NaN"),
            "{outcome:?}"
        );
        let run = folder.path().join(format);
        assert_eq!((metric(folder.path(), format, "epoch").len(), metric(folder.path(), format, "top1").len()), (2, 0));
        assert!(run.join("last.safetensors").is_file() && !run.join("best.safetensors").exists());
        let page = fs::read_to_string(run.join("report.html")).unwrap();
        let numbers_that_are_none = page.matches("NaN").count() - page.matches("isNaN").count(); // which its script asks
        assert!(page.contains("Training loss") && numbers_that_are_none == 0, "{page}");
        // It is over, and knows it.
        let again = rust_train(2, folder.path(), &format!("{flags} --resume auto"));
        assert!(again.stderr.contains("resumes after step 8"), "{again:?}");
    }
    let weights = "--weights pixels/last.safetensors";
    for arguments in [format!("--data data --batch 4 --eval-only {weights}"), format!("eval --data data {weights}")] {
        let launcher = Mpirun::new(1).directory(folder.path());
        let refused = launcher.run(&binary("rust-train"), arguments.split_whitespace());
        assert_eq!((refused.status, refused.error_lines().len()), (Some(2), 1), "{refused:?}");
    }
}

#[test]
fn patience_ends_a_run_that_gets_no_better() {
    let folder = tempfile::tempdir().unwrap();
    // So small a learning rate that no epoch is better than another but by chance.
    let flags = "--epochs 30 --lr 1e-9 --batch 480 --patience 2 --output run";
    let said = rust_train(2, folder.path(), flags).stderr;
    let scores = metric(folder.path(), "run", "top1");
    let best = scores.iter().copied().fold(0.0, f64::max);
    let first_best = scores.iter().position(|&score| score == best).unwrap() + 1;
    assert_eq!(scores.len(), first_best + 2, "{scores:?}");
    assert!(said.contains(&format!("the run ends after epoch {} (--patience)", scores.len())), "{said}");
    let again = rust_train(2, folder.path(), &format!("{flags} --resume auto")).stderr;
    assert!(again.contains("done: "), "it has come to its end: {again}");
    assert_eq!(metric(folder.path(), "run", "top1"), scores);
}
