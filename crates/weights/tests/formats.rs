//! Files that torch and NumPy wrote (`files/make.py`), and our own, read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use weights::{Dtype, StateDict, Tensor, read, write_pth, write_safetensors};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}

/// Key, type, shape and values of every tensor, sorted by key.
fn contents(state: &StateDict) -> Vec<(String, Dtype, Vec<usize>, Vec<f32>)> {
    let one =
        |(name, tensor): &(String, Tensor)| (name.clone(), tensor.dtype(), tensor.shape().to_vec(), tensor.to_f32());
    let mut contents: Vec<_> = state.entries().iter().map(one).collect();
    contents.sort_by(|left, right| left.0.cmp(&right.0));
    contents
}

fn expected() -> Vec<(String, Dtype, Vec<usize>, Vec<f32>)> {
    vec![
        ("bn.double".to_owned(), Dtype::F64, vec![1], vec![0.25]),
        ("bn.half".to_owned(), Dtype::F16, vec![2], vec![1.5, -2.0]),
        ("bn.num_batches_tracked".to_owned(), Dtype::I64, vec![], vec![7.0]),
        ("conv.transposed".to_owned(), Dtype::F32, vec![3, 2], [0., 3., 1., 4., 2., 5.].map(|x| x / 8.0).to_vec()),
        ("conv.weight".to_owned(), Dtype::F32, vec![3, 2, 2], (0..12).map(|x| x as f32 / 8.0).collect()),
    ]
}

#[test]
fn what_torch_and_numpy_wrote_is_read() {
    for name in ["plain.pth", "wrapped.pth", "legacy.pth", "stored.npz", "deflated.npz"] {
        assert_eq!(contents(&read(&file(name)).unwrap()), expected(), "{name}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let original = read(&file("plain.pth")).unwrap();
    let (pth, safetensors) = (folder.path().join("w.pth"), folder.path().join("w.safetensors"));
    write_pth(&pth, original.entries()).unwrap();
    write_safetensors(&safetensors, original.entries(), &Default::default()).unwrap();
    for path in [&pth, &safetensors] {
        assert_eq!(contents(&read(path).unwrap()), expected(), "{}", path.display());
    }
    // In the order of the file, every time.
    let order =
        || -> Vec<String> { read(&safetensors).unwrap().into_entries().into_iter().map(|(key, _)| key).collect() };
    assert!((0..10).all(|_| order() == order()));
    // What the file says of itself, and the same bytes every time.
    let metadata: BTreeMap<_, _> = (0..20).map(|number| (format!("key {number}"), "\"ä\" ".repeat(number))).collect();
    write_safetensors(&safetensors, original.entries(), &metadata).unwrap();
    let found = read(&safetensors).unwrap();
    assert_eq!(found.metadata()["format"], "pt");
    assert!(metadata.iter().all(|(key, value)| &found.metadata()[key] == value));
    assert_eq!(contents(&found), expected());
    let first = std::fs::read(&safetensors).unwrap();
    write_safetensors(&safetensors, original.entries(), &metadata).unwrap();
    assert_eq!(std::fs::read(&safetensors).unwrap(), first);
    // Same weights, same bytes.
    let first = std::fs::read(&pth).unwrap();
    write_pth(&pth, original.entries()).unwrap();
    assert_eq!(std::fs::read(&pth).unwrap(), first);
}

#[test]
fn a_whole_module_is_refused_by_the_name_of_its_class() {
    let error = read(&file("module.pth")).unwrap_err().to_string();
    assert!(error.contains("module.pth: data.pkl: wants torch.nn.modules.container.Sequential"), "{error}");
    assert!(error.contains("nothing was run. Save model.state_dict() alone"), "{error}");
}

#[test]
fn real_weights_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/weights");
    if !folder.exists() {
        eprintln!("SKIPPED: the real weights, because {} is not there", folder.display());
        return;
    }
    let legacy = read(&folder.join("akamaster_resnet20-12fca82f.th")).unwrap();
    let same = read(&folder.join("resnet20-12fca82f.module-prefix-stripped.safetensors")).unwrap();
    let float = |state: &StateDict| {
        let mut contents = contents(state);
        contents.retain(|entry| entry.1 == Dtype::F32);
        contents
    };
    assert_eq!(float(&legacy), float(&same));
    let squeezenet = read(&folder.join("face2age_squeezenet.pth")).unwrap();
    assert_eq!(squeezenet.entries()[0].0, "features.0.weight");
    assert_eq!(squeezenet.entries().last().unwrap().1.shape(), [1]);
}
