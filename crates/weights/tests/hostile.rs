//! Files that are broken or mean harm: each is refused with a reason, without a panic and without much memory.

use std::alloc::System;
use std::fs::File;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use cap::Cap;
use proptest::prelude::*;
use weights::{Bytes, StateDict, parse};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Memory is counted for the whole process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Reads `bytes` with what a file of this size may take, 64 MB and 4 times its size, one of the four being the file itself.
/// More ends the test's process.
fn bounded(bytes: Vec<u8>) -> Result<StateDict, String> {
    let most = (64 << 20) + 3 * bytes.len();
    MEMORY.set_limit(MEMORY.allocated() + most).expect("the limit is above what is in use");
    let state = parse(Bytes::new(bytes));
    MEMORY.set_limit(usize::MAX).expect("no limit is above every other");
    state
}

fn refuse(bytes: Vec<u8>) -> String {
    let reason = bounded(bytes).expect_err("it should be refused");
    assert!(!reason.contains('\n') && reason.len() < 2000, "{reason}");
    reason
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
    let _alone = alone();
    let state = parse(Bytes::new(pth(&tensor(4, 0, &[2, 2], &[2, 1]), &[0; 16]))).unwrap();
    assert_eq!(state.entries()[0].1.shape(), [2, 2]);
}

#[test]
fn sizes_that_the_file_does_not_have_are_refused() {
    let _alone = alone();
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
    let _alone = alone();
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
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("pwned");
    let command = format!("touch {}", target.display());
    let length = (command.len() as u32).to_le_bytes();
    let pickle = [b"\x80\x02cposix\nsystem\nX", &length[..], command.as_bytes(), b"\x85R."].concat();
    let error = refuse(pth(&pickle, &[]));
    assert!(error.contains("holds an object, posix.system, and no dict of tensors; nothing was run"), "{error}");
    assert!(!target.exists());
}

#[test]
fn bombs_do_not_go_off() {
    let _alone = alone();
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

/// A pickle of `start`, then `again` as often as a megabyte has room for it.
fn megabyte(start: &[u8], again: &[u8]) -> Vec<u8> {
    let mut pickle = start.to_vec();
    pickle.extend(again.repeat((1 << 20) / again.len()));
    pickle.push(b'.');
    pickle
}

#[test]
fn what_a_pickle_uses_again_is_not_copied_again() {
    let _alone = alone();
    let many = |value: &[u8], count: usize| [&b"\x80\x02("[..], &value.repeat(count), b"tq\x00"].concat();
    // torch.Size of one long tuple, again and again: 5.9 GB, once.
    let sizes = [&many(b"K\x01", 250_000)[..], b"ctorch\nSize\nq\x01"].concat();
    let one = tensor(4, 0, &[1; 16], &[1; 16]);
    let tensors = [&one[..one.len() - 3], b"q\x00}"].concat(); // its arguments lie on the stack, and in the memo
    let at = |needle: &[u8], bytes: &[u8]| bytes.windows(needle.len()).position(|part| part == needle).unwrap();
    let function = at(b"ctorch._utils", &one);
    let call = &one[function..at(b"((X", &one)];
    let arguments = &one[at(b"((X", &one)..one.len() - 3];
    let rebuilt = [b"\x80\x02", call, b"q\x01", arguments, b"q\x02R0}"].concat();
    let parameter =
        [b"\x80\x02", call, arguments, b"Rq\x00ctorch._utils\n_rebuild_parameter\nq\x01h\x00\x88}\x87q\x020}"].concat();
    let key = [b"\x80\x02X\x00\x00\x08\x00", &vec![b'k'; 1 << 19][..], b"q\x00"].concat();
    let storage = [b"\x80\x02", &arguments[1..at(b"Q", arguments)], b"q\x00}"].concat();
    let tensors_of_one_name = [&key[..], &rebuilt[2..rebuilt.len() - 2], b"q\x010}"].concat();
    for (what, pickle) in [
        ("sizes", megabyte(&sizes, b"h\x01h\x00\x85R0")),
        ("tensors", megabyte(&rebuilt, b"h\x01h\x02R0")),
        ("parameters", megabyte(&parameter, b"h\x01h\x02R0")),
        ("storages", megabyte(&storage, b"h\x00Q0")),
        ("one long name", megabyte(&tensors_of_one_name, b"h\x00h\x01s")),
        ("dicts", megabyte(b"\x80\x02}q\x00", b"}h\x00h\x00s")),
        ("lists", megabyte(b"\x80\x02}", b"]Na")),
        ("tuples", megabyte(b"\x80\x02}", b")\x85")),
        ("the memo", megabyte(b"\x80\x02}", b"\x94")),
        ("groups", megabyte(b"\x80\x02", b"(")),
        ("the stack", megabyte(b"\x80\x02}", b"2")),
        // A group that begins below an empty stack took the room of the whole stack with it.
        ("room", megabyte(&[b"(", &vec![b'N'; 500_000][..], b"1"].concat(), b"(t0")),
        ("what is left out", megabyte(&tensors, b"h\x00Na")),
    ] {
        let error = refuse(pth(&pickle, &[0; 16]));
        assert!(!error.is_empty(), "{what}");
    }
    let twice = [&tensors_of_one_name[..], &b"h\x00h\x01s".repeat(10_000), b"."].concat();
    let error = refuse(pth(&twice, &[0; 16]));
    assert!(error.contains("the key kkkkkkkk") && error.contains("… is there twice"), "{error}");
}

#[test]
fn a_zip_of_many_entries_takes_no_time_and_no_memory() {
    let _alone = alone();
    // 20,000 arrays, deflated: each was once looked up in a directory that was read anew.
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
    let array = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
    let names: Vec<_> = (0..20_000).map(|number| format!("{number}.npy")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), &array[..])).collect();
    let start = Instant::now();
    assert_eq!(bounded(archive(&entries, CompressionMethod::Deflated)).unwrap().entries().len(), 20_000);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // More than any network has.
    let names: Vec<_> = (0..70_000).map(|number| format!("{number}.npy")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let error = refuse(archive(&entries, CompressionMethod::Stored));
    assert!(error.contains("a zip file of 70000 entries; at most 65536 are read"), "{error}");
}

#[test]
fn directories_of_torch_are_read_whatever_their_length() {
    let _alone = alone();
    let pickle = tensor(4, 0, &[2, 2], &[2, 1]);
    for stem in 1..40 {
        let folder = "n".repeat(stem);
        let names = [format!("{folder}/data.pkl"), format!("{folder}/data/0")];
        let zip = archive(&[(&names[0], &pickle), (&names[1], &[0; 16])], CompressionMethod::Stored);
        assert_eq!(parse(Bytes::new(with_wide_end(zip))).unwrap().entries().len(), 1, "a stem of {stem} characters");
    }
}

/// The zip file as torch ends it: with the records that have room for 64 bits.
fn with_wide_end(mut zip: Vec<u8>) -> Vec<u8> {
    let end = zip.len() - 22;
    let field = |at: usize| u64::from(u32::from_le_bytes(zip[end + at..end + at + 4].try_into().unwrap()));
    let (size, start) = (field(12), field(16));
    let mut wide = b"PK\x06\x06".to_vec();
    wide.extend(44_u64.to_le_bytes());
    wide.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // versions, disks
    for number in [2, 2, size, start] {
        wide.extend(number.to_le_bytes());
    }
    wide.extend(b"PK\x06\x07\0\0\0\0");
    wide.extend((end as u64).to_le_bytes());
    wide.extend(1_u32.to_le_bytes());
    // The last one keeps its numbers, which fit: from them a reader may reckon that something stands before the file.
    wide.extend(&zip[end..]);
    zip.truncate(end);
    zip.extend(wide);
    zip
}

#[test]
fn directories_that_lie_are_refused() {
    let _alone = alone();
    let zip = pth(&tensor(4, 0, &[2, 2], &[2, 1]), &[0; 16]);
    let end = zip.len() - 22;
    let changed = |at: usize, bytes: &[u8]| {
        let mut zip = zip.clone();
        zip[at..at + bytes.len()].copy_from_slice(bytes);
        refuse(zip)
    };
    let directory = u32::from_le_bytes(zip[end + 16..end + 20].try_into().unwrap()) as usize;
    assert!(changed(end + 10, &[1, 0]).contains("its directory is longer than its entries"));
    assert!(changed(end + 10, &[3, 0]).contains("its directory is none"));
    assert!(changed(end + 16, &[0xfe; 4]).contains("it has no directory"));
    assert!(changed(directory + 42, &[0xfe; 4]).contains("is cut off in archive/data.pkl"), "where the entry begins");
    assert!(changed(directory + 20, &[0xfe; 4]).contains("is cut off in archive/data.pkl"), "how long it is");
    assert!(changed(directory + 46, b"b").contains("is cut off in brchive/data.pkl"), "another name before the bytes");
    assert!(
        changed(directory + 46, &[0xff]).contains("xffrchive/data.pkl"),
        "a name that is not text, nor that before the bytes"
    );
    assert!(changed(directory + 8, &[1]).contains("has an encrypted entry, archive/data.pkl"));
    let mut inflated = archive(&[("w.npy", &[7; 100])], CompressionMethod::Deflated);
    let directory = inflated.len() - 22 - 51;
    inflated[directory + 24] = 99; // says it has a byte less than it has
    assert!(refuse(inflated).contains("w.npy: is not an array"));
}

#[test]
fn headers_of_json_are_bounded() {
    let _alone = alone();
    let file = |header: String, data: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    };
    let one =
        |shape: &str, end: usize| format!(r#"{{"w":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,{end}]}}}}"#);
    assert_eq!(bounded(file(one("2,2", 4), 4)).unwrap().entries()[0].1.shape(), [2, 2]);
    for (file, words) in [
        (file(one(&vec!["1"; 4 << 20].join(","), 1), 1), "a tensor of more than 16 axes"),
        (file(one("4", 5), 5), "5 bytes are no U8 of shape [4]"),
        (file(one("4", 4), 9), "its tensors have 4 bytes, and 9 are there"),
        (file(one("9", 9), 4), "w: the bytes 0 to 9 are not those that follow"),
        (file(one("4294967296,4294967296", 0), 0), "more values than memory has addresses"),
        (file(one("4", 4).replace("[0,4]", "[1,5]"), 5), "w: the bytes 1 to 5 are not those that follow"),
        (file(one("4", 4).replace("[0,4]", "[4,0]"), 4), "w: the bytes 4 to 0 are not those that follow"),
        (file("[".repeat(1 << 20), 0), "not a file of weights"),
        (file(format!(r#"{{"__metadata__":{}"#, "[".repeat(1 << 20)), 0), "EOF while parsing a list"),
        (file(format!("{{{}", r#""a":1,"#.repeat(9)), 0), "has a broken header"),
    ] {
        let error = refuse(file);
        assert!(error.contains(words), "{error}");
    }
    let tensors: Vec<_> =
        (0..70_000).map(|number| format!(r#""{number}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#)).collect();
    assert!(refuse(file(format!("{{{}}}", tensors.join(",")), 0)).contains("more than 65536 tensors"));
    // Another text for each of a million keys, all of them nothing: refused at the first that is not a tensor.
    let keys: Vec<_> = (0..1_000_000).map(|number| format!(r#""{number}":0"#)).collect();
    assert!(refuse(file(format!("{{{}}}", keys.join(",")), 0)).contains("has a broken header"));
}

#[test]
fn a_sparse_file_of_a_terabyte_is_not_read_to_its_end() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let text = [b"\x80\x02X", &[0xff_u8; 4][..]].concat(); // a text of 4 GB
    let legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    for (name, start) in [
        ("legacy.pth", legacy.clone()),
        ("text.pth", [legacy, text].concat()),
        ("zip.pth", b"PK\x03\x04".to_vec()),
        ("header.safetensors", [&(1_u64 << 39).to_le_bytes()[..], b"{"].concat()),
        ("zeros.npz", Vec::new()),
    ] {
        let path = folder.path().join(name);
        let mut file = File::create(&path).unwrap();
        file.write_all(&start).unwrap();
        if let Err(error) = file.set_len(1 << 40) {
            eprintln!("SKIPPED: a sparse file of a terabyte, because {} holds none: {error}", folder.path().display());
            return;
        }
        MEMORY.set_limit(MEMORY.allocated() + (64 << 20)).expect("the limit is above what is in use");
        let time = Instant::now();
        let error = weights::read(&path).expect_err("it holds nothing").to_string();
        MEMORY.set_limit(usize::MAX).expect("no limit is above every other");
        assert!(error.contains(name) && time.elapsed() < Duration::from_secs(20), "{error}: {:?}", time.elapsed());
    }
}

#[test]
fn names_and_keys_that_are_there_twice_are_refused() {
    let _alone = alone();
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
    let _alone = alone();
    for (bytes, words) in [
        (&b""[..], "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x93NUMPY\x01\x00", "a single array"),
        (b"\x80\x04N.", "a pickle, but none that torch.save writes"),
        (b"nonsense", "not a file of weights"),
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
    weights::write_safetensors(&path, state.entries(), &Default::default()).unwrap();
    std::fs::read(path).unwrap()
}

/// Whatever the bytes are: an answer, no panic, not much memory; and what is accepted can be read to its end.
fn survive(bytes: Vec<u8>) {
    if let Ok(state) = bounded(bytes) {
        for (_, tensor) in state.entries() {
            assert_eq!(tensor.bytes().len(), tensor.shape().iter().product::<usize>() * tensor.dtype().size());
            tensor.to_f32();
        }
    }
}

#[test]
fn every_truncation_is_survived() {
    let _alone = alone();
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
        let _alone = alone();
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
        let _alone = alone();
        survive(pth(&program, &[0; 64]));
    }

    #[test]
    fn any_loop_is_survived(program in prop::collection::vec(
        prop::sample::select(b"()]}012Ntuaesb\x85\x86\x87\x88\x94QRh\x00\x01\x02\x03\x04\x05".to_vec()), 1..12,
    )) {
        let _alone = alone();
        // Something of each kind to use again: a tuple, the name of a function, its arguments, a storage, a tensor.
        let mut pickle = b"\x80\x02(K\x01K\x01K\x01tq\x00ctorch\nSize\nq\x01h\x00\x85q\x02(X\x07\x00\x00\x00storage".to_vec();
        pickle.extend(b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10tq\x03Qq\x04ctorch._utils\n");
        pickle.extend(b"_rebuild_tensor_v2\nq\x05(h\x04K\x00h\x00h\x00t");
        pickle.extend(program.repeat(200_000 / program.len()));
        survive(pth(&pickle, &[0; 64]));
    }
}
