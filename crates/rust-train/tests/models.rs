//! The verbs about models as a user sees them: profile, export, eval, predict.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use backbones::{Backbone, Matching};
use tch::Device;

/// Exit status, standard output and error of `rust-train` with `arguments`.
fn rust_train(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("rust-train"));
    let output = command.args(arguments).env("RUST_LOG", "warn").output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("an exit status"), text(output.stdout), text(output.stderr))
}

fn lenet(folder: &Path) -> PathBuf {
    tch::manual_seed(1);
    let path = folder.join("lenet.safetensors");
    Backbone::new(architectures::architecture("lenet").unwrap().network(3), Device::Cpu).save(&path).unwrap();
    path
}

#[test]
fn a_profile_needs_no_weights_and_speaks_json() {
    let (status, output, error) = rust_train(&["profile", "--model", "resnet50", "--batch", "64", "--json"]);
    assert_eq!((status, error.as_str()), (0, ""));
    let profile: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!((profile["parameters"].as_u64(), profile["image_size"].as_u64()), (Some(25_557_032), Some(224)));
    assert_eq!(profile["macs"].as_u64(), Some(4_089_184_256));
    assert!(profile["training"]["total"].as_u64() > profile["inference"]["total"].as_u64());
}

#[test]
fn a_reader_may_leave_early() {
    let program = assert_cmd::cargo::cargo_bin!("rust-train");
    let mut profile = std::process::Command::new(program)
        .args(["profile", "--model", "densenet121"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(profile.stdout.take());
    let output = profile.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn weights_leave_in_every_format_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let weights = lenet(folder.path());
    for file in ["lenet.pth", "copy.safetensors", "lenet.pt", "lenet.onnx"] {
        let output = folder.path().join(file);
        let arguments = ["export", "--model", "lenet", "--weights", weights.to_str().unwrap(), "--output"];
        let (status, _, error) = rust_train(&[&arguments[..], &[output.to_str().unwrap()]].concat());
        assert_eq!((status, error.lines().count()), (0, 1), "{file}: {error}");
        assert!(error.contains("lenet.safetensors has no model card; assumed: 32×32 pixels, bilinear"), "{error}");
        assert!(output.metadata().unwrap().len() > 1000, "{file}");
    }
    let other = Backbone::new(architectures::architecture("lenet").unwrap().network(3), Device::Cpu);
    assert!(other.load(&folder.path().join("lenet.pth"), Matching::Strict).unwrap().is_empty());
    let same = Backbone::new(architectures::architecture("lenet").unwrap().network(3), Device::Cpu);
    same.load(&weights, Matching::Strict).unwrap();
    assert!(other.state().iter().zip(same.state()).all(|(left, right)| left.1.equal(&right.1)));
}

#[test]
fn bad_weights_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let weights = lenet(folder.path());
    let pickle = folder.path().join("evil.pth");
    std::fs::write(&pickle, b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02cposix\nsystem\n.")
        .unwrap();
    let output = folder.path().join("out.pth");
    for (model, weights, words) in [
        ("lenet", &pickle, "has a version of torch's older format that is not known"),
        ("cifar_resnet20", &weights, "does not fit cifar_resnet20:\n  key"),
        ("cifar_resnet20", &weights, "\nthey fit --model lenet"),
        ("lenet", &folder.path().join("none.pth"), "none.pth"),
    ] {
        let arguments = ["export", "--model", model, "--weights", weights.to_str().unwrap(), "--output"];
        let (status, _, error) = rust_train(&[&arguments[..], &[output.to_str().unwrap()]].concat());
        assert_eq!(status, 2, "{error}");
        assert!(error.starts_with("error: ") && error.contains(words), "{error}");
        assert!(!output.exists());
    }
    let (status, _, error) = rust_train(&["predict", "--model", "lenet", "no-such-image.png"]);
    assert_eq!(status, 2, "{error}");
    assert!(error.contains("no-such-image.png"), "{error}");
}

/// The weights and images beside the repository: akamaster's ResNet-20 gets 464 of the 500 images right, and its
/// logits are those that NumPy computed.
#[test]
fn real_weights_recognize_what_they_should() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let weights = shared.join("weights/akamaster_resnet20-12fca82f.th");
    let data = shared.join("cifar10-mini");
    if !weights.exists() || !data.exists() {
        eprintln!("SKIPPED: the real weights, because {} is not there", shared.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let logits = folder.path().join("logits.tsv");
    let flags = ["eval", "--model", "cifar_resnet20", "--weights", weights.to_str().unwrap(), "--data"];
    let flags = [&flags[..], &[data.to_str().unwrap(), "--logits", logits.to_str().unwrap()]].concat();
    let (status, output, error) = rust_train(&flags);
    assert_eq!(status, 0, "{error}");
    assert!(output.starts_with("464 of 500 right: top-1 92.80 %"), "{output}");

    let table = |path: &Path| -> Vec<(String, Vec<f64>)> {
        let text = std::fs::read_to_string(path).unwrap();
        let rows = text.lines().filter(|row| row.contains(".png"));
        let mut rows: Vec<_> = rows
            .map(|row| {
                let fields: Vec<_> = row.split('\t').collect();
                let name = Path::new(fields[0]).file_name().unwrap().to_string_lossy().into_owned();
                let numbers: Vec<f64> = fields[1..].iter().filter_map(|field| field.parse().ok()).collect();
                (name, numbers[numbers.len() - 10..].to_vec())
            })
            .collect();
        rows.sort_by(|left, right| left.0.cmp(&right.0));
        rows
    };
    let (ours, reference) =
        (table(&logits), table(&shared.join("weights/resnet20-12fca82f.cifar10-mini-val.logits.tsv")));
    assert_eq!((ours.len(), reference.len()), (500, 500));
    for ((name, ours), (reference_name, reference)) in ours.iter().zip(&reference) {
        assert_eq!(name, reference_name);
        assert!(ours.iter().zip(reference).all(|(left, right)| (left - right).abs() < 1e-3), "{name}");
    }
}

/// A run of one epoch on two colours, in `folder`/run, on images in `folder`/colours.
fn run_on_colours(folder: &Path) {
    for (class, colour) in [("blue", [30u8, 60, 200]), ("red", [200, 60, 30])] {
        for split in ["train", "val"] {
            let place = folder.join("colours").join(split).join(class);
            std::fs::create_dir_all(&place).unwrap();
            for number in 0..8u8 {
                let colour = colour.map(|value| value.saturating_add(number * 5));
                image::RgbImage::from_pixel(40, 33, image::Rgb(colour))
                    .save(place.join(format!("{number}.png")))
                    .unwrap();
            }
        }
    }
    let flags = "--data colours --model lenet --batch 4 --epochs 4 --keep-checkpoints 1 --output run --mean 0.4,0.5,0.6 --std 0.3";
    let (status, _, error) = rust_train_in(folder, flags);
    assert_eq!(status, 0, "{error}");
}

/// As [`rust_train`], in `folder`, with the words of `flags`.
fn rust_train_in(folder: &Path, flags: &str) -> (i32, String, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("rust-train"));
    let output = command.args(flags.split_whitespace()).current_dir(folder).env("RUST_LOG", "warn").output();
    let output = output.expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("an exit status"), text(output.stdout), text(output.stderr))
}

#[test]
fn a_run_is_a_model() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    run_on_colours(folder);
    let (status, scores, error) = rust_train_in(folder, "eval run");
    assert_eq!((status, error.as_str()), (0, ""), "nothing has to be assumed");
    assert!(scores.starts_with("16 of 16 right: top-1 100.00 %"), "{scores}");
    let checkpoint = std::fs::read_dir(folder.join("run/checkpoints")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(folder.join("colours/val/.hidden.png"), "").unwrap();
    let (_, last, _) = rust_train_in(folder, "eval run/last.safetensors");
    for (model, scores) in [("run/best.safetensors", &scores), ("run/", &scores), (checkpoint.to_str().unwrap(), &last)]
    {
        assert_eq!(rust_train_in(folder, &format!("eval {model}")), (0, scores.clone(), String::new()), "{model}");
        let with = rust_train_in(folder, &format!("eval --weights {model} --data colours --model lenet"));
        assert_eq!(with, (0, scores.clone(), String::new()), "{model}");
    }
    // Each export says the same of itself, and is the same file every time.
    for file in ["a.safetensors", "a.pth"] {
        rust_train_in(folder, &format!("export run --output {file}"));
        let again = rust_train_in(folder, &format!("eval {file} --data colours/val"));
        assert_eq!(again, (0, scores.clone(), String::new()), "{file}");
    }
    for file in ["a.pth", "a.pt", "a.onnx", "a.safetensors"] {
        let read = || {
            let (status, _, error) = rust_train_in(folder, &format!("export run --output {file}"));
            assert_eq!((status, error.as_str()), (0, ""), "{file}");
            std::fs::read(folder.join(file)).unwrap()
        };
        assert_eq!(blake3::hash(&read()), blake3::hash(&read()), "{file}");
        let card = b"\"network\":\"lenet\",\"classes\":[\"blue\",\"red\"]";
        let escaped = b"\\\"network\\\":\\\"lenet\\\"";
        let holds = |words: &[u8]| read().windows(words.len()).any(|window| window == words);
        assert!(file == "a.pth" || holds(card) || holds(escaped), "{file}");
    }
    // A run of an older program, whose weights have no card, has a plan.
    let bare = weights::read(&folder.join("run/best.safetensors")).unwrap();
    std::fs::create_dir(folder.join("old")).unwrap();
    weights::write_safetensors(&folder.join("old/best.safetensors"), bare.entries(), &Default::default()).unwrap();
    for name in ["plan.toml", "evaluation.json", "metrics.jsonl"] {
        std::fs::copy(folder.join("run").join(name), folder.join("old").join(name)).unwrap();
    }
    assert_eq!(rust_train_in(folder, "eval old"), (0, scores.clone(), String::new()));
    // What a flag says otherwise wins, and is said.
    let (status, other, error) = rust_train_in(folder, "eval run --std 0.5");
    assert_eq!((status, error.lines().count()), (0, 1), "{error}");
    assert!(error.contains("--std 0.5,0.5,0.5: the model card says 0.3,0.3,0.3; the flag wins") && other != scores);
    // Predictions have names; what is no image is left out of a folder.
    std::fs::write(folder.join("colours/val/red/9.png"), "no image").unwrap();
    let (status, guesses, error) = rust_train_in(folder, "predict colours/val/red --weights run --top 1 --json");
    assert_eq!(status, 0, "{error}");
    assert!(
        guesses.lines().count() == 8 && guesses.lines().all(|line| line.contains("\"class\":\"red\"")),
        "{guesses}"
    );
    assert!(error.contains("left out: colours/val/red/9.png: ") && error.contains("1 of 9 files cannot be decoded"));
    let readme = std::fs::read_to_string(folder.join("run/README.md")).unwrap();
    assert!(readme.contains("# lenet on colours") && readme.contains("| red | 8 | 1.000 |"), "{readme}");
}

#[test]
fn mistakes_that_people_make_have_remedies() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    run_on_colours(folder);
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    for name in ["empty", "begun", "others/val/dog", "others/val/blue"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    for class in ["dog", "blue"] {
        let image = format!("others/val/{class}/1.png");
        std::fs::copy(folder.join("colours/val/red/1.png"), folder.join(image)).unwrap();
    }
    write("begun/plan.toml", "");
    write("notes.txt", "no image");
    write("three.txt", "a\nb\nc\n");
    write("typo.toml", "label_smothing = 0.1\n");
    rust_train_in(folder, "export run --output run.pth");
    let card = std::fs::read_to_string(folder.join("run.pth.json")).unwrap();
    std::fs::copy(folder.join("run.pth"), folder.join("later.pth")).unwrap();
    write("later.pth.json", &card.replace("\"version\":1", "\"version\":9"));
    std::fs::copy(folder.join("run.pth"), folder.join("own.pth")).unwrap();
    write("own.pth.json", &card.replace("\"task\":\"classification\"", "\"task\":\"counting\""));
    std::fs::copy(folder.join("run.pth"), folder.join("bare.pth")).unwrap();
    for (arguments, words) in [
        ("eval no-such-run", "no-such-run: no such file or folder; name the folder of a run"),
        ("eval empty", "empty: is neither a run's folder nor a checkpoint's"),
        ("eval begun", "begun: the run has not come to its first checkpoint"),
        ("eval", "which weights? Name the folder of a run, a file with --weights, or --pretrained"),
        ("eval --pretrained --data colours", "--pretrained: needs --model"),
        ("eval run --model lenett", "no model is called 'lenett'; did you mean lenet?"),
        ("eval run --model cifar_resnet20", "they fit --model lenet"),
        ("eval bare.pth", "--data: names the images to evaluate on"),
        ("eval run --data empty", "empty: no class in it"),
        ("eval run --data no-such-data", "no-such-data: no such folder"),
        ("eval run --data others", "others/val: class 'dog' is none of the model's"),
        ("eval run --data notes.txt", "notes.txt: cannot be opened as HDF5"),
        ("eval run --image-size 2", "--image-size: lenet cannot take images of 2×2 pixels"),
        ("eval run --resize 20", "--resize 20: must be at least the 32 pixels that the network sees"),
        (
            "eval run --mean 123.7,116.3,103.5",
            "--mean 123.7,116.3,103.5: must be between 0 and 1; divide values of 0 to 255",
        ),
        ("eval run --std 0", "--std 0: must be above 0 and at most 1"),
        ("eval run --mean red", "'red' is neither auto, a number, nor one for each channel: R,G,B"),
        ("eval run --classes three.txt", "--classes: 3 names, and the weights tell 2 classes apart"),
        ("eval run --batch 0", "--batch 0: must be between 1 and"),
        (
            "eval later.pth --data colours",
            "later.pth.json: the model card has version 9, and this program reads up to 1",
        ),
        ("eval own.pth --data colours", "own.pth: was trained by a program of its own for the task 'counting'"),
        ("evl run", "unrecognized subcommand 'evl'"),
        ("predict colours/val", "which weights? Name the folder of a run"),
        ("predict no-such.png --weights run", "no-such.png: No such file"),
        ("predict notes.txt --weights run", "notes.txt: "),
        ("predict empty --weights run", "empty: has no images"),
        ("predict --weights run", "the following required arguments were not provided"),
        ("export run", "the following required arguments were not provided"),
        ("export run --output model.xyz", "--format: the ending of --output does not say which"),
        ("export run --output no-such/model.onnx", "--output no-such/model.onnx: No such file"),
        ("--data colours --batch 4 --weights run", "the weights are of lenet: --model lenet"),
        ("--data colours --batch 4 --weights empty", "empty: is neither a run's folder nor a checkpoint's"),
        ("--config cifar-10", "cifar-10: No such file or directory (os error 2); did you mean cifar10?"),
        ("--config typo.toml", "typo.toml:1: label_smothing: is not a flag of a training run"),
        ("--config typo.toml", "did you mean label-smoothing?"),
        ("--imagesize 64", "unexpected argument '--imagesize' found"),
        ("--patience 0", "--patience: must be at least 1"),
        ("--val-split 0.1", "--val-split: is for --data; digits are divided already"),
        ("--data colours --val-split 10", "--val-split 10: must be above 0 and below 1; 0.1 is a tenth of each class"),
        ("--data colours --val-split 0.1", "colours/val: has images to validate on; leave --val-split out"),
        ("eval run --val-split 0.1", "colours/val: has images to validate on; leave --val-split out"),
        ("--data colours/val --batch 4", "where each class has a folder in DIR itself, add --val-split 0.1"),
        ("models yolo", "models: no network is like that"),
    ] {
        let (status, output, error) = rust_train_in(folder, arguments);
        assert_eq!((status, output.as_str()), (2, ""), "{arguments}: {error}");
        assert!(error.contains(words), "{arguments}: {error}");
        assert_eq!(error.matches("error: ").count(), 1, "{arguments}: {error}");
    }
    assert!(!folder.join("model.xyz").exists() && !folder.join("runs").exists(), "nothing was begun");
}
