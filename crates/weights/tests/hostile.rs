//! Files that are broken or mean harm: each is refused with a reason, without a panic and without much memory.

use std::alloc::System;
use std::io::{Cursor, Write};
use std::path::Path;

use cap::Cap;
use proptest::prelude::*;
use weights::{Bytes, StateDict, parse};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Most memory that reading a small file may take, in bytes; more ends the test's process.
const MOST_MEMORY: usize = 256 << 20;

fn refuse(bytes: Vec<u8>) -> String {
    MEMORY.set_limit(MEMORY.allocated() + MOST_MEMORY).expect("the limit is above what is in use");
    parse(Bytes::new(bytes)).expect_err("it should be refused")
}

fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A pickle of one tensor: its storage's values, and offset, shape and strides.
fn tensor(elements: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let integer = |number: &i32| [&b"J"[..], &number.to_le_bytes()].concat();
    let tuple = |sides: &[i32]| [b"(".to_vec(), sides.iter().flat_map(integer).collect(), b"t".to_vec()].concat();
    let mut pickle = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    pickle.extend(b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu");
    pickle.extend(integer(&elements));
    pickle.extend(b"tQ");
    pickle.extend(integer(&offset));
    pickle.extend(tuple(shape));
    pickle.extend(tuple(strides));
    pickle.extend(b"\x89NtRs.");
    pickle
}

fn pth(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    archive(&[("archive/data.pkl", pickle), ("archive/data/0", storage)], CompressionMethod::Stored)
}

#[test]
fn the_recipe_of_the_others_is_sound() {
    let state = parse(Bytes::new(pth(&tensor(4, 0, &[2, 2], &[2, 1]), &[0; 16]))).unwrap();
    assert_eq!(state.entries()[0].1.shape(), [2, 2]);
}

#[test]
fn sizes_that_the_file_does_not_have_are_refused() {
    for ((elements, offset, shape, strides), words) in [
        ((1 << 30, 0, &[2, 2][..], &[2, 1][..]), "its storage of 1073741824 F32 has 16 bytes"),
        ((4, 0, &[1 << 30, 1 << 30], &[1, 1]), "reaches beyond its storage"),
        ((4, 0, &[i32::MAX, i32::MAX, i32::MAX], &[0, 0, 0]), "more values than memory has addresses"),
        ((4, 0, &[1 << 30], &[0]), "reaches beyond its storage"),
        ((4, 3, &[2], &[1]), "reaches beyond its storage"),
        ((4, 0, &[2], &[i32::MAX]), "reaches beyond its storage"),
        ((4, -1, &[2], &[1]), "a size of -1"),
        ((4, 0, &[-2], &[1]), "a size of -2"),
        ((4, 0, &[2, 2], &[1]), "cannot be"),
        ((4, 0, &[1; 40], &[1; 40]), "40 axes"),
    ] {
        let error = refuse(pth(&tensor(elements, offset, shape, strides), &[0; 16]));
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn views_cannot_multiply_the_file() {
    // A thousand transposed views of one storage of 4 MB.
    let one = tensor(1 << 20, 0, &[1 << 10, 1 << 10], &[1, 1 << 10]);
    let body = &one[3 + 6..one.len() - 2];
    let mut pickle = b"\x80\x02}".to_vec();
    for number in 0..1000 {
        let key = number.to_string();
        pickle.extend([&b"X"[..], &(key.len() as u32).to_le_bytes(), key.as_bytes(), body, b"s"].concat());
    }
    pickle.push(b'.');
    let error = refuse(pth(&pickle, &vec![0; 4 << 20]));
    assert!(error.contains("the views of the file together are larger than it"), "{error}");
}

#[test]
fn code_in_a_zip_is_refused_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("pwned");
    let command = format!("touch {}", target.display());
    let length = (command.len() as u32).to_le_bytes();
    let pickle = [b"\x80\x02cposix\nsystem\nX", &length[..], command.as_bytes(), b"\x85R."].concat();
    let error = refuse(pth(&pickle, &[]));
    assert!(error.contains("data.pkl: wants posix.system"), "{error}");
    assert!(!target.exists());
}

#[test]
fn bombs_do_not_go_off() {
    // A gigabyte of zeros in a megabyte.
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (268435456,), }";
    let mut array = b"\x93NUMPY\x01\x00".to_vec();
    array.extend((header.len() as u16).to_le_bytes());
    array.extend(header.bytes());
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("w.npy", SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)).unwrap();
    zip.write_all(&array).unwrap();
    for _ in 0..1024 {
        zip.write_all(&[0; 1 << 20]).unwrap();
    }
    let error = refuse(zip.finish().unwrap().into_inner());
    assert!(error.contains("would inflate to"), "{error}");
    // A pickle that is compressed is none of torch's.
    let error = refuse(archive(&[("a/data.pkl", &[b'N'; 1 << 20])], CompressionMethod::Deflated));
    assert!(error.contains("data.pkl is compressed"), "{error}");
}

#[test]
fn names_and_keys_that_are_there_twice_are_refused() {
    // Two entries of one name: written with two names of one length, then renamed in the bytes.
    let mut bytes = archive(&[("a/data.pkl", b"N."), ("a/data.pkX", b"N.")], CompressionMethod::Stored);
    while let Some(at) = bytes.windows(10).position(|name| name == b"a/data.pkX") {
        bytes[at + 9] = b'l';
    }
    assert!(refuse(bytes).contains("a name twice"));
    // One key twice in a dict.
    let one = tensor(4, 0, &[4], &[1]);
    let pair = &one[3..one.len() - 1];
    let twice = [b"\x80\x02}", pair, pair, b"."].concat();
    assert!(refuse(pth(&twice, &[0; 16])).contains("the key w is there twice"));
    let header = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    assert!(refuse(file).contains("the key w is there twice"));
}

#[test]
fn other_files_are_named() {
    for (bytes, words) in [
        (&b""[..], "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x93NUMPY\x01\x00", "a single array"),
        (b"\x80\x04N.", "a pickle, but none that torch.save writes"),
        (b"nonsense", "no file of weights"),
        (b"PK\x03\x04nonsense", "broken zip"),
    ] {
        let error = refuse(bytes.to_vec());
        assert!(error.contains(words), "{error}");
    }
    let text = archive(&[("readme.txt", b"hello")], CompressionMethod::Stored);
    assert!(refuse(text).contains("holds no weights: it has readme.txt"));
    let empty = archive(&[("a/data.pkl", b"\x80\x02}X\x01\x00\x00\x00aNs.")], CompressionMethod::Stored);
    assert!(refuse(empty).contains("holds no state dict"), "a dict without tensors");
}

const SAMPLES: [&str; 5] = ["plain.pth", "wrapped.pth", "legacy.pth", "stored.npz", "deflated.npz"];

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)).unwrap()
}

fn safetensors() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let state: StateDict = parse(Bytes::new(sample("plain.pth"))).unwrap();
    weights::write_safetensors(&path, state.entries()).unwrap();
    std::fs::read(path).unwrap()
}

/// Whatever the bytes are: an answer, no panic, not much memory; and what is accepted can be read to its end.
fn survive(bytes: Vec<u8>) {
    MEMORY.set_limit(MEMORY.allocated() + MOST_MEMORY).expect("the limit is above what is in use");
    if let Ok(state) = parse(Bytes::new(bytes)) {
        for (_, tensor) in state.entries() {
            assert_eq!(tensor.bytes().len(), tensor.shape().iter().product::<usize>() * tensor.dtype().size());
            tensor.to_f32();
        }
    }
}

#[test]
fn every_truncation_is_survived() {
    for bytes in SAMPLES.map(sample).into_iter().chain([safetensors()]) {
        for length in 0..bytes.len() {
            assert!(parse(Bytes::new(bytes[..length].to_vec())).is_err(), "cut at {length} of {}", bytes.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn any_change_is_survived(
        which in 0..6_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        splice in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..64_usize)),
    ) {
        let mut bytes = SAMPLES.get(which).map_or_else(safetensors, |name| sample(name));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some((from, to, length)) = splice {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
            bytes.splice(to..to, piece);
        }
        survive(bytes);
    }

    #[test]
    fn any_pickle_is_survived(program in prop::collection::vec(
        prop::sample::select(b"()]}.0126NtsuaebQRJKMXqhrj\x85\x86\x87\x88\x89\x8a\x94\x80\x02\x00\x01\xff".to_vec()), 0..200,
    )) {
        survive(pth(&program, &[0; 64]));
    }
}
