//! Archives as others make them, whole and broken: what is found in them, read from them, and said of them. A file in one holds its
//! own name, so that it is known which was read.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use ::tar::{Builder, EntryType, Header};
use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, ZipWriter};
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::*;
use crate::scan::{ArchiveSet, Names};
use crate::{Listing, Split, ValSplit, unwatched};

/// A file of an archive: its name, and where it is no image, what is in it.
type File<'a> = (&'a str, &'a str);

fn tar(files: &[File<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = Header::new_gnu();
        let content = if text.is_empty() { name } else { text };
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // Not by `append_data`, which refuses what is to be refused here.
        let bytes = header.as_gnu_mut().unwrap();
        bytes.name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zip(files: &[File<'_>], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(if text.is_empty() { name } else { text }.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A table as `datasets` writes it: images, and labels as numbers with names or without.
fn table(images: &[Option<&str>], labels: &[Option<i64>], names: &[&str]) -> Vec<u8> {
    let schema = "message schema {
        optional group image { optional binary bytes; optional binary path (STRING); }
        optional int64 label;
    }";
    let features = serde_json::json!({"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}});
    let metadata = KeyValue::new("huggingface".to_owned(), features.to_string());
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![metadata])).build();
    let mut bytes = Vec::new();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    // Two groups of rows.
    let half = images.len().div_ceil(2);
    for (images, labels) in images.chunks(half).zip(labels.chunks(half)) {
        let mut group = writer.next_row_group().unwrap();
        for _ in ["bytes", "path"] {
            let values: Vec<_> = images.iter().flatten().map(|&image| ByteArray::from(image)).collect();
            let levels: Vec<i16> = images.iter().map(|image| if image.is_some() { 2 } else { 1 }).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
        }
        let values: Vec<_> = labels.iter().flatten().copied().collect();
        let levels: Vec<i16> = labels.iter().map(|label| i16::from(label.is_some())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

/// A folder of files, by their names.
pub(super) fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    root
}

fn list(root: &Path, names: Names<'_>, val_split: Option<ValSplit>) -> Result<Listing> {
    list_as(root, names, val_split, &ArchiveSpec::default())
}

fn list_as(root: &Path, names: Names<'_>, val_split: Option<ValSplit>, spec: &ArchiveSpec) -> Result<Listing> {
    let set = ArchiveSet::find(root)?.ok_or_else(|| Error::Input("no archives".to_owned()))?;
    let indices = set.paths().iter().map(|path| index(path, spec, &unwatched)).collect::<Result<Vec<_>>>()?;
    let mut listing = Listing::of_archives(&set, &indices, names)?;
    val_split.map_or(Ok(()), |val_split| listing.set_aside(&set, val_split))?;
    Ok(listing)
}

/// Each image as "class name", by what is read, after it is checked that others are told of it, too.
fn read(listing: &Listing, split: Split) -> Vec<String> {
    let bytes = listing.to_bytes();
    let listing = Listing::from_bytes(&listing.root, &bytes).unwrap();
    let files = listing.files();
    let one = |sample: &crate::Sample| {
        let mut bytes = Vec::new();
        assert!(files.read(&sample.path, sample.size, sample.member, &mut bytes).unwrap().is_none());
        format!("{} {}", listing.classes[sample.class], String::from_utf8(bytes).unwrap())
    };
    // Backwards, too: what comes before is found as well.
    let there: Vec<_> = listing.split(split).iter().map(one).collect();
    let mut back: Vec<_> = listing.split(split).iter().rev().map(one).collect();
    back.reverse();
    assert_eq!(there, back);
    there
}

const FOLDERS: &[File<'_>] = &[("b/2.png", ""), ("a/1.jpg", ""), ("a/deep/3.png", ""), ("b/note.txt", "")];
const KEYS: &[File<'_>] =
    &[("00.jpg", ""), ("00.cls", "1"), ("01.jpg", ""), ("01.cls", "0\n"), ("02.jpg", ""), ("02.cls", "1")];

#[test]
fn classes_are_folders_archives_or_what_is_told() {
    let by_folder = ["a a/1.jpg", "a a/deep/3.png", "b b/2.png"];
    let by_key = ["1 00.jpg", "0 01.jpg", "1 02.jpg"];
    let of_json: &[File<'_>] = &[
        ("x/0.a.png", ""),
        ("x/0.json", r#"{"label": "bee", "height": 3}"#),
        ("x/1.png", ""),
        ("x/1.json", r#"{"label": "ant"}"#),
        ("x/1.txt", "a caption"),
    ];
    let (stored, deflated) = (CompressionMethod::Stored, CompressionMethod::Deflated);
    let named = table(&[Some("p"), Some("q"), Some("r")], &[Some(1), Some(0), Some(1)], &["zoo", "ant"]);
    let long = "d/".repeat(60);
    let cases: &[(&str, Vec<(&str, Vec<u8>)>, &[&str])] = &[
        ("folders in a tar", vec![("train.tar", tar(FOLDERS))], &by_folder),
        ("in a zip", vec![("data/train.zip", zip(FOLDERS, stored))], &by_folder),
        ("deflated", vec![("TRAIN.ZIP", zip(FOLDERS, deflated))], &by_folder),
        ("compressed as a whole", vec![("train.tgz", gzip(&tar(FOLDERS)))], &by_folder),
        (
            "over two shards",
            vec![("x-train-1.tar", tar(&FOLDERS[..1])), ("x-train-2.tar", tar(&FOLDERS[1..]))],
            &by_folder,
        ),
        (
            "an archive a class",
            vec![("train/a.tar", tar(&[("./1.jpg", ""), ("3.png", "")])), ("train/café.tar", tar(&[("2.png", "")]))],
            &["a ./1.jpg", "a 3.png", "café 2.png"],
        ),
        (
            "below a folder of all",
            vec![("train.tar", tar(&[("all/train/b/1.png", ""), ("all/train/a/1.png", "")]))],
            &["a all/train/a/1.png", "b all/train/b/1.png"],
        ),
        ("one class", vec![("train.tar", tar(&[("a/1.png", ""), ("a/2.png", "")]))], &["a a/1.png", "a a/2.png"]),
        (
            "traces",
            vec![("train.zip", zip(&[("a/1.png", ""), ("__MACOSX/a/._1.png", ""), (".x/2.png", "")], stored))],
            &["a a/1.png"],
        ),
        (
            "absolute names",
            vec![("train.tar", tar(&[("/a/1.png", ""), ("/b/1.png", "")]))],
            &["a /a/1.png", "b /b/1.png"],
        ),
        ("WebDataset", vec![("train-000000.tar", tar(KEYS))], &by_key),
        ("WebDataset in the folder of a split", vec![("train/000000.tar", tar(KEYS))], &by_key),
        ("WebDataset with .json", vec![("train-0.tar", tar(of_json))], &["bee x/0.a.png", "ant x/1.png"]),
        ("a table", vec![("data/train-00000-of-00001.parquet", named)], &["ant p", "zoo q", "ant r"]),
        (
            "numbers alone",
            vec![("train.parquet", table(&[Some("p"), Some("q")], &[Some(2), Some(0)], &[]))],
            &["2 p", "0 q"],
        ),
        (
            "long names",
            vec![("train.tar", {
                let mut builder = Builder::new(Vec::new());
                let mut header = Header::new_gnu();
                header.set_size(4);
                builder.append_data(&mut header, format!("a/{long}x.png"), &b"long"[..]).unwrap();
                builder.into_inner().unwrap()
            })],
            &["d long"],
        ),
    ];
    for (what, archives, expected) in cases {
        let root = folder(archives);
        let listing = list(root.path(), Names::Found, None).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(read(&listing, Split::Train), *expected, "{what}");
    }
}

#[test]
fn splits_are_archives_or_folders_in_one() {
    let all: &[File<'_>] =
        &[("set/train/a/1.png", ""), ("set/Valid/a/2.png", ""), ("set/train/b/1.png", ""), ("set/test/b/3.png", "")];
    let inner = all.iter().map(|(name, text)| (&name[4..], *text)).collect::<Vec<_>>();
    let of = |names: [&str; 2]| tar(&names.map(|name| (name, "")));
    let shards = vec![
        ("imagenet-train-0.tar", of(["a/1.png", "b/1.png"])),
        ("imagenet-validation-0.tar", tar(&[("a/2.png", "")])),
        ("imagenet-test-0.tar", tar(&[("b/3.png", "")])),
        ("README.md", b"what it is".to_vec()),
    ];
    let stored = CompressionMethod::Stored;
    for (what, archives) in [
        ("all in one", vec![("everything.zip", zip(all, stored))]),
        ("without a folder of all", vec![("everything.tar", tar(&inner))]),
        ("shards by name", shards),
    ] {
        let root = folder(&archives);
        let listing = list(root.path(), Names::Found, None).unwrap_or_else(|error| panic!("{what}: {error}"));
        let count = Split::ALL.map(|split| read(&listing, split).len());
        assert_eq!((count, &listing.classes[..]), ([2, 1, 1], &["a".to_owned(), "b".to_owned()][..]), "{what}");
        if archives.len() == 1 {
            let path = root.path().join(archives[0].0);
            let alone = list(&path, Names::Found, None).unwrap();
            assert_eq!(read(&alone, Split::Train), read(&listing, Split::Train), "{what}, by its own path");
            assert_eq!(
                alone.files().path(&alone.train[0].path),
                path.join(listing.train[0].path.strip_prefix(archives[0].0).unwrap())
            );
        }
    }
}

#[test]
fn classes_are_those_that_are_named() {
    let root = folder(&[("train.tar", tar(KEYS)), ("val.tar", tar(&KEYS[..2]))]);
    let names = ["no".to_owned(), "yes".to_owned(), "perhaps".to_owned()];
    let listing = list(root.path(), Names::Listed(&names), None).unwrap();
    assert_eq!(read(&listing, Split::Train), ["yes 00.jpg", "no 01.jpg", "yes 02.jpg"]);
    let listing = list(root.path(), Names::Model(&names), None).unwrap();
    assert_eq!(read(&listing, Split::Val), ["yes 00.jpg"]);

    let root = folder(&[("train.tar", tar(FOLDERS))]);
    let other_order = ["b".to_owned(), "a".to_owned()];
    let listing = list(root.path(), Names::Listed(&other_order), ValSplit::new(0.5)).unwrap();
    assert_eq!((listing.train.len(), listing.val.len()), (2, 1));
    let listing = list(root.path(), Names::Listed(&other_order), None).unwrap();
    assert_eq!(read(&listing, Split::Train), ["b b/2.png", "a a/1.jpg", "a a/deep/3.png"]);

    // Two images with one key, of which one is meant; a key of its own in the .json.
    let two: &[File<'_>] = &[("0.jpg", ""), ("0.seg.png", ""), ("0.json", r#"{"species": 3}"#)];
    let root = folder(&[("train.tar", tar(two))]);
    let spec = ArchiveSpec { images: Some("jpg".to_owned()), labels: Some("species".to_owned()) };
    let listing = list_as(root.path(), Names::Found, None, &spec).unwrap();
    assert_eq!(read(&listing, Split::Train), ["3 0.jpg"]);
}

#[test]
fn faults_are_named() {
    let cut = |bytes: Vec<u8>, by: usize| bytes[..bytes.len() - by].to_vec();
    let stored = CompressionMethod::Stored;
    let linked = {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "a/1.png", "../1.png").unwrap();
        builder.into_inner().unwrap()
    };
    let sparse = {
        let mut builder = Builder::new(Vec::new());
        builder.append_pax_extensions([("GNU.sparse.major", &b"1"[..])]).unwrap();
        let mut header = Header::new_gnu();
        header.set_size(1);
        builder.append_data(&mut header, "a/1.png", &b"x"[..]).unwrap();
        builder.into_inner().unwrap()
    };
    let lie = {
        // Says that its few bytes become a gigabyte.
        let mut bytes = zip(&[("a/1.png", &"x".repeat(100))], CompressionMethod::Deflated);
        let directory = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
        bytes[directory + 24..directory + 28].copy_from_slice(&(1_u32 << 30).to_le_bytes());
        bytes
    };
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("train.tar", tar(&[("a/1.png", &"x".repeat(2000))])[..1024].to_vec(), "train.tar: is cut off in a/1.png"),
        ("train.tar", b"<html>404</html>".to_vec(), "train.tar: is no tar file"),
        ("train.tar", vec![b'x'; 2048], "train.tar: is no tar file"),
        ("train.tar", Vec::new(), "has no images to train on"),
        ("train.tar", tar(&[("../a/1.png", "")]), "train.tar: has a name that leads out of it: ../a/1.png"),
        ("train.tar", tar(&[("a/1.png", ""), ("a/1.png", "again")]), "train.tar: has a name twice: a/1.png"),
        ("train.tar", sparse, "train.tar: has a sparse file"),
        ("train.tar", linked, "has no images to train on"),
        (
            "train.tar",
            tar(&[("1.png", "")]),
            "train.tar/1.png: has no label; put the images of each class into a folder",
        ),
        (
            "train.tar",
            tar(&[("0.jpg", ""), ("0.cls", "3"), ("1.jpg", "")]),
            "train.tar/1.jpg: has no label, and others have",
        ),
        (
            "train.tar",
            tar(&[("0.jpg", ""), ("0.cls", "3"), ("1.cls", "4")]),
            "train.tar: tells the label of an image that is not in it: 1",
        ),
        ("train.tar", tar(&[("0.jpg", ""), ("0.cls", "3"), ("0.cls", "4")]), "train.tar: has a name twice: 0.cls"),
        (
            "train.tar",
            tar(&[("0.jpg", ""), ("0.png", ""), ("0.cls", "3")]),
            "tells one label of several images, 0.*; name the ending of one",
        ),
        ("train.tar", tar(&[("0.jpg", ""), ("0.cls", "-1")]), "train.tar/0.jpg: has the label -1, which is none of"),
        ("train.tar", tar(&[("0.jpg", ""), ("0.cls", " ")]), "train.tar: 0.cls: does not tell one label"),
        ("train.tar", tar(&[("0.jpg", ""), ("0.json", "{")]), "train.tar: 0.json: is no JSON"),
        (
            "train.tar",
            tar(&[("0.jpg", ""), ("0.json", r#"{"label": 0.5}"#)]),
            "0.json: its label is neither a whole number nor a name: 0.5",
        ),
        (
            "train.tar",
            tar(&[("0.jpg", ""), ("0.cls", "a"), ("1.jpg", ""), ("1.cls", "1")]),
            "has labels that are numbers, and labels that are names",
        ),
        ("train.tgz", cut(gzip(&tar(FOLDERS)), 40), "train.tgz: is "),
        ("train.zip", cut(zip(FOLDERS, stored), 30), "train.zip: is a broken zip file, or is cut off"),
        ("train.zip", zip(&[("../a/1.png", "")], stored), "train.zip: has a name that leads out of it"),
        ("train.zip", lie, "train.zip: a/1.png: says that "),
        ("train.parquet", cut(table(&[Some("p")], &[Some(0)], &[]), 9), "train.parquet: is no usable Parquet file"),
        ("train.parquet", b"PAR1".to_vec(), "train.parquet: is no usable Parquet file"),
        ("train.parquet", table(&[Some("p"), None], &[Some(0), Some(0)], &[]), "train.parquet: has no image in row 1"),
        (
            "train.parquet",
            table(&[Some("p"), Some("q")], &[Some(0), Some(7)], &["a", "b"]),
            "train.parquet/row 1/q: has the label 7 of 2 classes",
        ),
        (
            "train.parquet",
            table(&[Some("p"), Some("q")], &[Some(0), None], &["a", "b"]),
            "train.parquet/row 1/q: has no label",
        ),
        ("train-00001-of-00003.tar", tar(FOLDERS), "train-00002-of-00003.tar: is missing"),
    ];
    for (name, bytes, words) in cases {
        let root = folder(&[(name, bytes.clone())]);
        let error = list(root.path(), Names::Found, None).expect_err(words);
        assert!(error.is_bad_input(), "{words}: {error:?}");
        assert!(error.to_string().contains(words), "{words}\n{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }

    let root = folder(&[("train.tar", tar(FOLDERS)), ("val/a/1.png", Vec::new())]);
    let mixed = folder(&[("train/0.tar", tar(FOLDERS)), ("val/a/1.png", Vec::new())]);
    assert_eq!(ArchiveSet::find(root.path()).unwrap(), None, "folders come first");
    let error = list(mixed.path(), Names::Found, None).unwrap_err().to_string();
    assert!(error.contains("val: holds image files, and the images to train on are in archives"), "{error}");
}

#[test]
fn an_archive_that_changes_while_it_is_read_is_named() {
    let stored = CompressionMethod::Stored;
    for (name, bytes) in [
        ("train.tar", tar(FOLDERS)),
        ("train.tar.gz", gzip(&tar(FOLDERS))),
        ("train.zip", zip(FOLDERS, stored)),
        ("train.parquet", table(&[Some("p"), Some("q")], &[Some(0), Some(1)], &[])),
    ] {
        let root = folder(&[(name, bytes.clone())]);
        let listing = list(root.path(), Names::Found, None).unwrap();
        let path = root.path().join(name);
        let last = listing.train.last().unwrap();
        let read = || {
            let error = listing.files().read(&last.path, last.size, last.member, &mut Vec::new()).unwrap_err();
            format!("{:?} {error}", std::error::Error::source(&error))
        };
        fs::write(&path, &bytes[..20]).unwrap();
        assert!(read().contains(name), "{}", read());
        fs::remove_file(&path).unwrap();
        assert!(read().contains(name), "{}", read());
    }
}

#[test]
fn what_is_deflated_must_be_what_it_says() {
    let mut bytes = zip(&[("a/1.png", &"x".repeat(1000))], CompressionMethod::Deflated);
    let directory = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    bytes[directory + 24..directory + 28].copy_from_slice(&900_u32.to_le_bytes());
    let root = folder(&[("train.zip", bytes)]);
    let listing = list(root.path(), Names::Found, None).unwrap();
    let sample = &listing.train[0];
    let error =
        listing.files().read(&sample.path, sample.size, sample.member, &mut Vec::new()).unwrap_err().to_string();
    assert!(
        error.contains("a/1.png: not a readable image: it does not inflate to the bytes that the archive says"),
        "{error}"
    );
}

/// What lies beside what is meant, or is called unlike it: as people have it.
#[test]
fn what_is_meant_is_found_among_what_is_not() {
    let many = |folder: &str| -> Vec<String> { (0..10).map(|index| format!("{folder}/{index}.png")).collect() };
    let names = |all: &[&str]| -> Vec<u8> { tar(&all.iter().map(|name| (*name, "")).collect::<Vec<_>>()) };
    let strayed: Vec<String> =
        many("birds/ant").into_iter().chain(many("birds/bee")).chain(["birds/cover.png".to_owned()]).collect();
    let strayed: Vec<&str> = strayed.iter().map(String::as_str).collect();
    let cases: Vec<(&str, Vec<(&str, Vec<u8>)>, [usize; 3], &[&str])> = vec![
        (
            "beside the splits",
            vec![("set.tar", names(&["train/a/1.png", "train/b/1.png", "valid/a/2.png", "extra/3.png"]))],
            [2, 1, 0],
            &["a", "b"],
        ),
        (
            "trains",
            vec![("set.tar", names(&["car/1.png", "train/1.png", "bus/1.png"]))],
            [3, 0, 0],
            &["bus", "car", "train"],
        ),
        ("a stray image", vec![("train.tar", names(&strayed))], [20, 0, 0], &["ant", "bee"]),
        ("one class with folders", vec![("train.tar", names(&["a/1.png", "a/deep/2.png"]))], [2, 0, 0], &["a"]),
        (
            "a folder inside each class",
            vec![("train/ant.tar", names(&["images/1.png"])), ("train/bee.tar", names(&["images/2.png"]))],
            [2, 0, 0],
            &["ant", "bee"],
        ),
        (
            "classes by number",
            vec![("train/n01440764.tar", names(&["1.png"])), ("train/n01440765.tar", names(&["2.png"]))],
            [2, 0, 0],
            &["n01440764", "n01440765"],
        ),
        (
            "trains among archives",
            vec![("train/car.tar", names(&["1.png"])), ("train/train.tar", names(&["2.png"]))],
            [2, 0, 0],
            &["car", "train"],
        ),
        (
            "images to test on alone",
            vec![("set.tar", names(&["train/a/1.png", "train/b/1.png", "test/1.png"]))],
            [2, 0, 0],
            &["a", "b"],
        ),
        (
            "in shards of their own",
            vec![("train-0.tar", names(&["a/1.png"])), ("test-0.tar", names(&["1.png", "2.png"]))],
            [1, 0, 0],
            &["a"],
        ),
        (
            "numbered from 1",
            vec![("train-1-of-2.tar", names(&["a/1.png"])), ("train-2-of-2.tar", names(&["a/2.png"]))],
            [2, 0, 0],
            &["a"],
        ),
    ];
    for (what, archives, counts, classes) in cases {
        let root = folder(&archives);
        let listing = list(root.path(), Names::Found, None).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            (Split::ALL.map(|split| listing.split(split).len()), &listing.classes[..]),
            (counts, &classes.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()[..]),
            "{what}"
        );
    }
    let refused: Vec<(&str, Vec<(&str, Vec<u8>)>, &str)> = vec![
        (
            "a table without labels",
            vec![("train.parquet", table(&[Some("p"), Some("q")], &[None, None], &[]))],
            "row 0/p: has no label",
        ),
        (
            "shards without labels",
            vec![("train/shard0001.tar", names(&["1.png"])), ("train/shard0002.tar", names(&["2.png"]))],
            "has no label",
        ),
        (
            "numbered alike",
            vec![("train/cc12m_0001.tar", names(&["1.png"])), ("train/cc12m_0002.tar", names(&["2.png"]))],
            "has no label",
        ),
        (
            "a kind that is not read",
            vec![("train/ant.tar", names(&["1.png"])), ("train/bee.tar.xz", vec![1])],
            "bee.tar.xz: .tar.xz is not read here",
        ),
        (
            "very many classes",
            vec![("train.tar", tar(&[("0.png", ""), ("0.cls", "9223372036854775807")]))],
            "has the label 9223372036854775807; at most 1048576",
        ),
        (
            "numbers to validate on",
            vec![("train.tar", names(&["a/1.png"])), ("val.tar", tar(&[("0.png", ""), ("0.cls", "1")]))],
            "has labels that are numbers, and labels that are names",
        ),
        (
            "one archive behind the other",
            vec![("train.tar", [tar(FOLDERS), tar(FOLDERS)].concat())],
            "train.tar: goes on behind its end mark",
        ),
        (
            "the same, compressed",
            vec![("train.tgz", gzip(&[tar(FOLDERS), tar(FOLDERS)].concat()))],
            "train.tgz: goes on behind its end mark",
        ),
        (
            "names twice",
            vec![("train.parquet", table(&[Some("p")], &[Some(0)], &["a", "a"]))],
            "two classes are called 'a'",
        ),
        (
            "a shard that is missing",
            vec![("ds-1.0-train-00000-of-00002.tar", names(&["a/1.png"]))],
            "train-00001-of-00002.tar: is missing",
        ),
    ];
    for (what, archives, words) in refused {
        let root = folder(&archives);
        let error = list(root.path(), Names::Found, None).expect_err(what).to_string();
        assert!(error.contains(words), "{what}: {words}\n{error}");
    }
    // A .json that nobody needs, and a label that nobody has.
    let root = folder(&[(
        "train.tar",
        tar(&[
            ("0.png", ""),
            ("0.json", "{NaN"),
            ("0.cls", "a"),
            ("1.png", ""),
            ("1.cls", "a"),
            ("1.json", r#"{"label": null}"#),
        ]),
    )]);
    assert_eq!(list(root.path(), Names::Found, None).unwrap().train.len(), 2);
    let spec = ArchiveSpec { labels: Some("specis".to_owned()), ..ArchiveSpec::default() };
    let root = folder(&[("train.tar", tar(KEYS))]);
    let error = list_as(root.path(), Names::Found, None, &spec).unwrap_err().to_string();
    assert!(error.contains("train.tar: tells no label by 'specis' (--labels)"), "{error}");

    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(4);
    builder.append_data(&mut header, "blobs/ab12", &b"blob"[..]).unwrap();
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Link);
    header.set_size(0);
    builder.append_link(&mut header, "ant/1.png", "blobs/ab12").unwrap();
    let root = folder(&[("train.tar", builder.into_inner().unwrap())]);
    assert_eq!(read(&list(root.path(), Names::Found, None).unwrap(), Split::Train), ["ant blob"]);
}

/// The same images are set aside, whatever they lie in.
#[test]
fn what_is_set_aside_depends_on_the_images_alone() {
    let files: Vec<String> =
        ["ant", "bee"].iter().flat_map(|class| (0..12).map(move |index| format!("{class}/{index}.png"))).collect();
    let in_train: Vec<String> = files.iter().map(|file| format!("train/{file}")).collect();
    let of = |names: &[String]| names.iter().map(|name| (name.clone(), String::new())).collect::<Vec<_>>();
    let as_tar = |names: &[String]| {
        tar(&of(names).iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>())
    };
    let classes: Vec<(String, Vec<u8>)> = ["ant", "bee"]
        .iter()
        .map(|class| {
            (format!("train/{class}.tar"), as_tar(&(0..12).map(|index| format!("{index}.png")).collect::<Vec<_>>()))
        })
        .collect();
    let classes: Vec<(&str, Vec<u8>)> = classes.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let plain = folder(&in_train.iter().map(|name| (name.as_str(), name.as_bytes().to_vec())).collect::<Vec<_>>());
    let half = ValSplit::new(0.5);
    let expected = Listing::scan_watched(plain.path(), None, half, &unwatched).unwrap();
    let chosen = |listing: &Listing| -> Vec<String> {
        let name = |sample: &crate::Sample| format!("{} {}", sample.class, sample.path.file_name().unwrap().display());
        listing.val.iter().map(name).collect()
    };
    for (what, archives) in [
        ("a split by its name", vec![("x-train.tar", as_tar(&files))]),
        ("a folder inside", vec![("train.tar", as_tar(&in_train))]),
        ("shards", vec![("train-0.tar", as_tar(&files[..7])), ("train-1.tar", as_tar(&files[7..]))]),
        ("an archive a class", classes),
    ] {
        let root = folder(&archives);
        assert_eq!(chosen(&list(root.path(), Names::Found, half).unwrap()), chosen(&expected), "{what}");
    }
}

#[test]
fn a_table_that_its_reader_panics_at_is_refused() {
    // Found by the fuzzer: a dictionary that is shorter than it says.
    let root = folder(&[("train.parquet", include_bytes!("damaged/dictionary.parquet").to_vec())]);
    let error = list(root.path(), Names::Found, None).unwrap_err().to_string();
    assert!(
        error.contains("train.parquet: is no usable Parquet file: it is damaged") && !error.contains('\n'),
        "{error}"
    );
}
