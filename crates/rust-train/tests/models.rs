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
        ("lenet", &pickle, "wants posix.system, which no state dict needs; nothing was run"),
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
