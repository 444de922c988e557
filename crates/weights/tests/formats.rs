//! Files that torch and NumPy wrote (`files/make.py`), and our own, read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use weights::{Dtype, StateDict, Tensor, Wanted, read, read_wanted, write_pth, write_safetensors};

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
    write_pth(&pth, original.entries(), 1).unwrap();
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
    write_pth(&pth, original.entries(), 1).unwrap();
    assert_eq!(std::fs::read(&pth).unwrap(), first);
}

#[test]
fn a_whole_module_is_refused_by_the_name_of_its_class() {
    let error = read(&file("module.pth")).unwrap_err().to_string();
    assert!(
        error.contains("module.pth: holds an object, torch.nn.modules.container.Sequential, and no dict"),
        "{error}"
    );
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

/// What other trainers write (`files/trainers.py`): the same two tensors, with what lies beside them and before their names.
#[test]
fn checkpoints_of_other_trainers_are_read() {
    let wanted = |key: Option<&str>, prefix: Option<&str>| Wanted {
        key: key.map(str::to_owned),
        prefix: prefix.map(str::to_owned),
    };
    let usual = || wanted(None, None);
    let cases = [
        ("timm.pth.tar", usual(), Ok(("", 0.0, 2))),
        ("timm.pth.tar", wanted(Some("state_dict_ema"), None), Ok(("", 9.0, 2))),
        ("torchvision.pth", usual(), Ok(("", 0.0, 2))),
        ("torchvision.pth", wanted(Some("model_ema"), Some("module")), Ok(("", 9.0, 2))),
        ("torchvision.pth", wanted(Some("model_ema"), None), Ok(("module.", 9.0, 3))),
        ("lightning.ckpt", usual(), Ok(("model.", 0.0, 2))),
        ("lightning.ckpt", wanted(None, Some("model")), Ok(("", 0.0, 2))),
        ("composer.pt", usual(), Ok(("", 0.0, 2))),
        ("composer.pt", wanted(Some("state.model"), None), Ok(("", 0.0, 2))),
        ("deepspeed.pt", usual(), Ok(("", 0.0, 2))),
        ("moco.pth", usual(), Ok(("encoder_q.", 0.0, 5))),
        ("moco.pth", wanted(None, Some("module.encoder_k.")), Ok(("", 9.0, 2))),
        ("averaged.pt", usual(), Ok(("module.", 0.0, 3))),
        ("fsdp.pt", usual(), Ok(("", 0.0, 2))),
        ("accelerate.bin", usual(), Ok(("", 0.0, 2))),
        ("best_so_far.pth", usual(), Ok(("", 0.0, 2))),
        ("beside.pth", usual(), Ok(("", 0.0, 2))),
        ("defaults.pth", usual(), Ok(("", 0.0, 2))),
        ("attributes.pth", usual(), Ok(("", 0.0, 2))),
        ("older.pth", usual(), Ok(("", 0.0, 2))),
        ("checkpoint_epoch_0100.pth", usual(), Ok(("", 0.0, 2))),
        ("average-alone.pth", wanted(Some("model_ema"), None), Ok(("", 9.0, 2))),
        ("average-alone.pth", usual(), Err("there is: model_ema, epoch. --weights-key names another")),
        ("nothing.pth", usual(), Err("holds no state dict; a dict of tensors is looked for, and under state_dict,")),
        ("timm.pth.tar", wanted(Some("ema"), None), Err("has no ema for --weights-key ema; there is: epoch, arch,")),
        ("timm.pth.tar", wanted(Some("args"), None), Err("--weights-key args: is no dict of tensors")),
        (
            "timm.pth.tar",
            wanted(Some("optimizer"), None),
            Err("--weights-key optimizer: has no tensors; there is: state"),
        ),
        (
            "moco.pth",
            wanted(None, Some("encoder_x")),
            Err("no name begins with --weights-prefix encoder_x; there are: "),
        ),
    ];
    for (name, wanted, expected) in cases {
        let found = read_wanted(&file("trainers").join(name), &wanted).map_err(|error| error.to_string());
        match (found, expected) {
            (Ok(found), Ok((prefix, first, count))) => {
                let at = |key: &str| {
                    found.entries().iter().find(|(own, _)| *own == format!("{prefix}{key}")).map(|(_, own)| own)
                };
                assert_eq!(
                    at("fc.weight").map(Tensor::to_f32),
                    Some((0..4).map(|x| first + x as f32).collect()),
                    "{name} {wanted:?}"
                );
                assert_eq!(at("fc.bias").map(Tensor::to_f32), Some(vec![first + 4.0, first + 5.0]), "{name}");
                assert_eq!(found.entries().len(), count, "{name}: {:?}", found.entries());
            }
            (Err(error), Err(words)) => assert!(error.contains(words) && !error.contains('\n'), "{name}: {error}"),
            (found, expected) => panic!("{name} {wanted:?}: {found:?}, not {expected:?}"),
        }
    }
}
