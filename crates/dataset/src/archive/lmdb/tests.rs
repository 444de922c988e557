//! Databases as liblmdb has written one, and as they are laid out here, whole and broken. A value that is no image is no file.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use proptest::prelude::*;

use super::super::tests::folder;
use super::*;
use crate::scan::{ArchiveSet, Names};
use crate::{Listing, Split, unwatched};

const PAGE: usize = 4096;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// What takes pages of its own, and is shown as "long".
const LONG: &str = match str::from_utf8(&[b'x'; 9000]) {
    Ok(text) => text,
    Err(_) => panic!("ASCII"),
};

/// A page: its number, kind, and what it says of its nodes or pages.
fn page(number: usize, kind: u16, last: [u16; 2]) -> Vec<u8> {
    let mut page = [&(number as u64).to_le_bytes()[..], &[0; 2], &kind.to_le_bytes()].concat();
    page.extend(last.iter().flat_map(|number| number.to_le_bytes()));
    page
}

/// A database of one leaf with these values, which are put into pages of their own where they are longer than half a page.
fn database(values: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let (mut nodes, mut places, mut overflow) = (Vec::new(), Vec::new(), Vec::<u8>::new());
    for (key, value) in values {
        places.push(nodes.len());
        let is_big = value.len() > PAGE / 2;
        nodes.extend((value.len() as u32).to_le_bytes());
        nodes.extend([u8::from(is_big), 0]);
        nodes.extend((key.len() as u16).to_le_bytes());
        nodes.extend_from_slice(key);
        if is_big {
            let (number, pages) = (3 + overflow.len() / PAGE, (16 + value.len()).div_ceil(PAGE));
            nodes.extend((number as u64).to_le_bytes());
            let start = overflow.len();
            overflow.extend(page(number, 4, [pages as u16, 0]));
            overflow.extend_from_slice(value);
            overflow.resize(start + pages * PAGE, 0);
        } else {
            nodes.extend_from_slice(value);
        }
        nodes.resize(nodes.len().next_multiple_of(2), 0);
    }
    let start = PAGE - nodes.len();
    let mut leaf = page(2, 2, [16 + 2 * places.len() as u16, start as u16]);
    leaf.extend(places.iter().flat_map(|place| ((start + place) as u16).to_le_bytes()));
    leaf.resize(start, 0);
    leaf.extend(nodes);
    let meta = |number: usize| {
        let mut meta = page(number, 8, [0, 0]);
        meta.extend(0xbeef_c0de_u32.to_le_bytes());
        meta.extend(1_u32.to_le_bytes());
        meta.extend([0; 16]);
        meta.extend((PAGE as u32).to_le_bytes());
        meta.extend([0; 44]);
        // Page 1 is the older one, of nothing.
        let (keys, root) = if number == 0 { (values.len() as u64, 2) } else { (0, u64::MAX) };
        meta.extend([0; 32]);
        meta.extend([keys, root, 0, 1 - number as u64].iter().flat_map(|number| number.to_le_bytes()));
        meta.resize(PAGE, 0);
        meta
    };
    [meta(0), meta(1), leaf, overflow].concat()
}

/// What stands for an image file.
fn png(text: &str) -> Vec<u8> {
    [PNG, text.as_bytes()].concat()
}

fn index_of(bytes: &[u8], spec: &ArchiveSpec) -> Result<Contents> {
    contents(bytes, spec, &Counter::new(&unwatched)).map_err(|fault| fault.of(Path::new("db")))
}

/// The images of a split as "class text", as they are read.
fn list(root: &Path, split: Split, spec: &ArchiveSpec) -> Result<Vec<String>> {
    let set = ArchiveSet::find(root)?.ok_or_else(|| Error::Input("no archives".to_owned()))?;
    let indices =
        set.paths().iter().map(|path| super::super::index(path, spec, &unwatched)).collect::<Result<Vec<_>>>()?;
    let listing = Listing::of_archives(&set, &indices, Names::Found)?;
    let files = listing.files();
    let one = |sample: &crate::Sample| {
        let mut bytes = Vec::new();
        files.read(&sample.path, sample.size, sample.member, &mut bytes)?;
        let text = bytes.strip_prefix(PNG).unwrap_or(&bytes);
        let text = if text == LONG.as_bytes() { "long".into() } else { String::from_utf8_lossy(text) };
        Ok(format!("{} {text}", listing.classes[sample.class]))
    };
    listing.split(split).iter().map(one).collect()
}

#[test]
fn what_liblmdb_has_written() {
    // By py-lmdb 3.0.0 (liblmdb 0.9.36) in two transactions: 160 values put, each third removed, each third made longer, each third made
    // short; three levels of pages, and values in pages of their own.
    let packed = include_bytes!("liblmdb-0.9.36.mdb.gz");
    let mut bytes = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
    let found = index_of(&bytes, &ArchiveSpec::default()).unwrap();
    assert_eq!((found.entries.len(), found.left_out.0.len()), (106, 0));
    for entry in &found.entries {
        let number: usize = entry.name.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let times = if number % 3 == 1 { 1 + number * 7 } else { 1 };
        let expected = png(&format!("{number} ").repeat(times));
        assert!(bytes[entry.at as usize..][..entry.size as usize] == expected, "{number}");
    }
    assert!(found.entries.is_sorted_by_key(|entry| entry.name.clone()));
    // Cut anywhere, it is refused, or what was wanted is before.
    for pages in 0..bytes.len() / PAGE {
        match index_of(&bytes[..pages * PAGE + 100], &ArchiveSpec::default()) {
            Ok(same) => assert_eq!(same, found),
            Err(error) => assert!(error.to_string().contains("cut off") || pages == 0, "{pages}: {error}"),
        }
    }
}

#[test]
fn labels_are_in_the_value_or_beside_it_or_the_databases_name() {
    let none = ArchiveSpec::default();
    let long = png(LONG);
    let pickled = |image: &[u8], label: u8| {
        let length = (image.len() as u32).to_le_bytes();
        [b"\x80\x04\x95\0\0\0\0\0\0\0\0B", &length[..], image, b"\x94K", &[label], b"\x86\x94."].concat()
    };
    let datum =
        |data: &[u8], label: u8| [b"\x22", &[data.len() as u8][..], data, b"\x28", &[label], b"\x38\x01"].concat();
    let bare = b"\x08\x03\x10\x01\x18\x02\x22\x06aabbcc\x28\x01".to_vec();
    type Case<'a> = (Vec<(&'a str, Vec<u8>)>, &'a [&'a str], &'a [&'a str]);
    let cases: [Case<'_>; 9] = [
        // As a folder is put into one for PyTorch: a file, or a folder of it.
        (
            vec![
                (
                    "train.lmdb",
                    database(&[
                        (b"0", pickled(&png("a"), 1)),
                        (b"1", pickled(&long, 0)),
                        (b"__len__", b"\x80\x04K\x02.".to_vec()),
                    ]),
                ),
                ("train.lmdb-lock", vec![]),
                ("val.lmdb/data.mdb", database(&[(b"0", pickled(&png("v"), 1))])),
                ("val.lmdb/lock.mdb", vec![]),
            ],
            &["1 a", "0 long"],
            &["1 v"],
        ),
        // Caffe's, in the folders that its examples make.
        (
            vec![
                (
                    "cifar_train_lmdb/data.mdb",
                    database(&[(b"00000000", datum(&png("a"), 1)), (b"00000001_n/b.png", datum(&png("b"), 0))]),
                ),
                ("cifar_train_lmdb/lock.mdb", vec![]),
                ("cifar_test_lmdb/data.mdb", database(&[(b"00000000", bare.clone())])),
            ],
            &["1 a", "0 b"],
            &[],
        ),
        // LSUN's.
        (
            vec![
                ("church_outdoor_train_lmdb/data.mdb", database(&[(b"a1", png("a")), (b"b2", long.clone())])),
                ("tower_train_lmdb/data.mdb", database(&[(b"a1", png("c"))])),
                ("church_outdoor_val_lmdb/data.mdb", database(&[(b"c3", png("v"))])),
                ("tower_val_lmdb/data.mdb", database(&[(b"c3", png("w"))])),
                ("test_lmdb/data.mdb", database(&[(b"c3", png("t"))])),
            ],
            &["church_outdoor a", "church_outdoor long", "tower c"],
            &["church_outdoor v", "tower w"],
        ),
        // Classes that are called as splits are, one database to validate on, and a class in the folder of a split.
        (
            vec![
                ("train_train_lmdb/data.mdb", database(&[(b"a1", png("a"))])),
                ("train_station_train_lmdb/data.mdb", database(&[(b"a1", png("b"))])),
                ("test_tube_train_lmdb/data.mdb", database(&[(b"a1", png("c"))])),
                ("train_val_lmdb/data.mdb", database(&[(b"c3", png("v"))])),
            ],
            &["test_tube c", "train a", "train_station b"],
            &["train v"],
        ),
        (
            vec![
                ("train/beach.lmdb", database(&[(b"1", png("a"))])),
                ("train/train_station.lmdb", database(&[(b"1", png("b"))])),
                ("val/train_station.lmdb", database(&[(b"1", png("v"))])),
            ],
            &["beach a", "train_station b"],
            &["train_station v"],
        ),
        // Small images under keys that a label's might be.
        (
            vec![("train.lmdb", database(&[(b"label_3/1.png", png("a")), (b"label_4/1.png", png("b"))]))],
            &["label_3 a", "label_4 b"],
            &[],
        ),
        // One of each class in the folders of splits, and one for a split.
        (
            vec![
                ("train/ant.lmdb", database(&[(b"1", png("a"))])),
                ("train/bee_lmdb/data.mdb", database(&[(b"1", png("b"))])),
            ],
            &["ant a", "bee b"],
            &[],
        ),
        // Text beside images, under keys of their own; and folders in keys.
        (
            vec![(
                "data.mdb",
                database(&[
                    (b"image-000000001", png("a")),
                    (b"image-000000002", png("b")),
                    (b"label-000000001", b"BMW X5, and more\n".to_vec()),
                    (b"label-000000002", b"ant".to_vec()),
                    (b"num-samples", b"50000".to_vec()),
                ]),
            )],
            &["BMW X5, and more a", "ant b"],
            &[],
        ),
        (
            vec![
                ("train/data.mdb", database(&[(b"ant/1.png", png("a")), (b"bee/1.png", png("b"))])),
                ("valid/data.mdb", database(&[(b"bee/2.png", png("v"))])),
            ],
            &["ant a", "bee b"],
            &["bee v"],
        ),
    ];
    for (files, train, val) in cases {
        let root = folder(&files);
        let found = list(root.path(), Split::Train, &none).unwrap_or_else(|error| panic!("{}: {error}", files[0].0));
        assert_eq!(found, train);
        assert_eq!(list(root.path(), Split::Val, &none).unwrap(), val);
    }

    // A name beside the image in a pickle is none, whatever it begins with.
    let image = png("a long one");
    let head = [b"\x80\x04}(X\x05\0\0\0imageB", &(image.len() as u32).to_le_bytes()[..]].concat();
    let tail = b"X\x05\0\0\0labelK\x01X\x04\0\0\0nameX\x0c\0\0\0P1 40023.JPGu.";
    let root = folder(&[("train.lmdb", database(&[(b"0", [&head[..], &image, tail].concat())]))]);
    assert_eq!(list(root.path(), Split::Train, &none).unwrap(), ["1 a long one"]);

    // Bare bytes are Caffe's blue, green and red, unless somebody says otherwise.
    let root = folder(&[("train.lmdb", database(&[(b"0", bare)]))]);
    let rgb = ArchiveSpec { images: Some("rgb".to_owned()), ..none.clone() };
    assert_eq!(list(root.path(), Split::Train, &none).unwrap(), ["1 P6\n2 1\n255\ncbacba"]);
    assert_eq!(list(root.path(), Split::Train, &rgb).unwrap(), ["1 P6\n2 1\n255\nabcabc"]);
    assert_eq!(list(&root.path().join("train.lmdb"), Split::Train, &rgb).unwrap(), ["1 P6\n2 1\n255\nabcabc"]);
}

#[test]
fn faults_are_named() {
    let good = || database(&[(b"a", png("a")), (b"b", png(&"b".repeat(3000)))]);
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let [leaf, overflow] = [2 * PAGE, 3 * PAGE];
    let first = leaf + usize::from(u16::from_le_bytes([good()[leaf + 16], good()[leaf + 17]]));
    let main = 16 + 72;
    let circle = {
        // A branch whose first page is itself.
        let mut file = with(leaf + 10, &[1]);
        file[first..first + 6].copy_from_slice(&[2, 0, 0, 0, 0, 0]);
        file
    };
    let datum = |bytes: &[u8]| database(&[(b"k", bytes.to_vec())]);
    let cases: [(Vec<u8>, &str); 24] = [
        (vec![], "is no LMDB file"),
        (vec![0; 5000], "is no LMDB file"),
        (with(20, &[2]), "is an LMDB file of format 2; 1 is read"),
        (with(40, &[0, 0, 1]), "says that a page has 65536 bytes"),
        (with(40, &[1, 16, 0]), "says that a page has 4097 bytes"),
        (with(main + 4, &[4]), "several values under a key"),
        (with(main + 32, &[3]), "it says that it has 3 keys, and has 2"),
        (with(main + 40, &[9]), "is cut off: it has 4 pages, and page 9 is wanted"),
        (with(main + 40, &[0xff; 7]), "is cut off: it has 4 pages, and page"),
        (with(main + 40, &[3]), "page 3 is not that of a tree"),
        (with(leaf, &[7]), "page 2 is not that of a tree"),
        (with(leaf + 16, &[0xff, 0xff]), "node 0 of page 2 is not within it"),
        (with(first + 4, &[4]), "several values under a key"),
        (with(first, &[0xff, 0xff]), "node 0 of page 2 is not within it"),
        (with(overflow, &[9]), "page 3 is not that of a value of 3008 bytes"),
        (with(overflow + 12, &[0]), "page 3 is not that of a value of 3008 bytes"),
        (good()[..overflow + 2000].to_vec(), "is cut off"),
        (circle, "its pages lead in a circle"),
        (database(&[(b"b", png("a")), (b"a", png("b"))]), "its keys are not in their order"),
        (database(&[(b"a", png("a")), (b"a", png("b"))]), "its keys are not in their order"),
        (database(&[]), "has no images: it is empty"),
        (datum(b"text"), "has no images: 1 values that are no image"),
        (
            datum(b"\x08\x01\x10\x01\x18\x02\x35\0\0\x80\x3f\x35\0\0\0\0"),
            "under the key k lies a Datum of 2 numbers (float_data)",
        ),
        (
            datum(b"\x08\x03\x10\x01\x18\x02\x22\x05aabbc"),
            "5 bytes, which are neither an image file nor 3 channels of 1×2",
        ),
    ];
    for (file, words) in cases {
        let error = index_of(&file, &ArchiveSpec::default()).expect_err(words).to_string();
        assert!(error.contains(words), "{error}, and not: {words}");
    }
    for (values, words) in [
        (datum(b"\x08\x02\x10\x01\x18\x02\x22\x04aabb"), "2 channels of 1×2; 1 and 3 channels are read"),
        (datum(&[b"\x80\x04B\x08\0\0\0", PNG, b"K\x01K\x02\x87."].concat()), "an image file and 2 numbers"),
        (datum(&[b"\x80\x04B\x08\0\0\0", PNG, b"."].concat()), "an image file and no numbers"),
        (database(&[(b"../up.png", png("a"))]), "leads out of it: ../up.png"),
        (
            database(&[(b"image-1", png("a")), (b"label-1", b"a\nb".to_vec())]),
            "the label of the key image-1 does not tell one label",
        ),
    ] {
        let error = index_of(&values, &ArchiveSpec::default()).expect_err(words).to_string();
        assert!(error.contains(words), "{error}, and not: {words}");
    }
    let of = |images: &str, labels: Option<&str>| ArchiveSpec {
        images: Some(images.to_owned()),
        labels: labels.map(str::to_owned),
    };
    assert!(
        index_of(&good(), &of("jpg", None))
            .unwrap_err()
            .to_string()
            .contains("bgr or rgb there, for bare bytes, and not 'jpg'")
    );
    assert!(index_of(&good(), &of("rgb", Some("cls"))).unwrap_err().to_string().contains("leave --labels out"));

    // Images without a label are in no class.
    let root = folder(&[("train.lmdb", good())]);
    assert!(list(root.path(), Split::Train, &ArchiveSpec::default()).unwrap_err().to_string().contains("has no label"));
    // Keys that are numbers have names, too.
    let names = index_of(&database(&[(b"\x01\0\0\0", png("a"))]), &ArchiveSpec::default()).unwrap();
    assert_eq!(names.entries[0].name, Path::new("0x01000000"));
}

proptest! {
    #[test]
    fn any_damage_is_refused_or_bounded(changes in proptest::collection::vec((0..4 * PAGE, any::<u8>()), 1..40), length in 0..4 * PAGE) {
        let mut bytes = database(&[(b"a", png("a")), (b"b", png(&"b".repeat(3000)))]);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        for bytes in [&bytes[..], &bytes[..length]] {
            if let Ok(found) = index_of(bytes, &ArchiveSpec::default()) {
                for entry in found.entries.iter().filter(|entry| entry.packed == 0) {
                    prop_assert!(entry.at + entry.size <= bytes.len() as u64);
                }
            }
        }
    }
}
