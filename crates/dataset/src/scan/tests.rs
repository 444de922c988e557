//! What is listed, and what is said of what cannot be.

use super::*;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

/// A tree of files, each with its own name as its contents; names that end with `/` are folders.
pub(crate) fn tree(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        if file.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
    }
    root
}

fn classes(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn paths(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(|sample| sample.path.to_str().unwrap()).collect()
}

#[test]
fn classes_and_samples_come_in_torchvisions_order() {
    let root = tree(&[
        "train/bee/b.png",
        "train/bee/B.JPG",
        "train/bee/.ipynb_checkpoints/b-checkpoint.png",
        "train/bee/@eaDir/b.png/thumb.jpg",
        "train/bee/__MACOSX/._b.png",
        "train/bee/b.heic",
        "train/bee/deep/a.png",
        "train/bee/deep/er/a.png",
        "train/bee/deep-er/a.png",
        "train/bee/Deep/z.png",
        "train/ant/1.webp",
        "train/ant/note.txt",
        "train/.hidden/x.png",
        "train/stray.png",
        "val/ant/1.png",
        "val/bee/1.png",
        "test/ant/1.png",
        "test/bee/1.png",
    ]);
    std::os::unix::fs::symlink(root.path().join("val/bee"), root.path().join("train/bee/link")).unwrap();
    std::os::unix::fs::symlink(root.path().join("val/ant/1.png"), root.path().join("train/ant/2.png")).unwrap();
    let listing = Listing::scan(root.path(), None).unwrap();
    assert_eq!(listing.classes, ["ant", "bee"]);
    let expected = [
        "train/ant/1.webp",
        "train/ant/2.png",
        "train/bee/B.JPG",
        "train/bee/b.png",
        "train/bee/Deep/z.png",
        "train/bee/deep/a.png",
        "train/bee/deep-er/a.png",
        "train/bee/deep/er/a.png",
        "train/bee/link/1.png",
    ];
    assert_eq!(paths(&listing.train), expected);
    assert_eq!(listing.split(Split::Test).len(), 2);
    let listed = Listing::scan(root.path(), Some(&classes(&["bee", "ant"]))).unwrap();
    assert_eq!((listed.train[0].path.as_path(), listed.train[0].class), (Path::new("train/bee/B.JPG"), 0));
}

#[test]
fn one_split_needs_no_other_and_a_folder_without_splits_is_one() {
    let root = tree(&["val/ant/1.png", "val/cat/1.png", "flat/ant/2.png", "flat/cat/deep/3.png"]);
    let scan = |path: &Path, names: Option<&[String]>| Listing::scan_split(path, Split::Val, names, &unwatched);
    let found = scan(root.path(), None).unwrap();
    assert_eq!((found.classes.as_slice(), found.val.len()), (&classes(&["ant", "cat"])[..], 2));
    let named = scan(root.path(), Some(&classes(&["cat", "bee", "ant"]))).unwrap();
    assert_eq!(named.val.iter().map(|sample| sample.class).collect::<Vec<_>>(), [0, 2]);
    let flat = scan(&root.path().join("flat"), Some(&classes(&["ant", "bee", "cat"]))).unwrap();
    assert_eq!(paths(&flat.val), ["ant/2.png", "cat/deep/3.png"]);
    assert_eq!(flat.val[1].class, 2);
    let error = scan(root.path(), Some(&classes(&["ant", "bee"]))).unwrap_err().to_string();
    assert!(error.ends_with("val: class 'cat' is none of the model's"), "{error}");
    let error = Listing::scan_split(root.path(), Split::Test, None, &unwatched).unwrap_err().to_string();
    assert!(error.contains("test: no such folder"), "{error}");
}

#[test]
fn images_are_set_aside_to_validate_on() {
    let files = |prefix: &str| -> Vec<String> {
        ["ant", "bee"]
            .iter()
            .flat_map(|class| (0..20).map(move |index| format!("{prefix}{class}/{index}.png")))
            .collect()
    };
    let nested = files("train/");
    let root = tree(&nested.iter().map(String::as_str).collect::<Vec<_>>());
    let split = ValSplit::new(0.1);
    let scan = |root: &Path, names: Option<&[String]>| Listing::scan_watched(root, names, split, &unwatched);
    let listing = scan(root.path(), None).unwrap();
    assert_eq!((listing.train.len(), listing.val.len()), (36, 4));
    assert_eq!(listing.val.iter().map(|sample| sample.class).collect::<Vec<_>>(), [0, 0, 1, 1]);
    let all = Listing::scan(root.path(), None).unwrap().train;
    assert_eq!(all.iter().filter(|sample| listing.val.contains(sample)).count(), 4);
    assert!(listing.train.iter().all(|sample| !listing.val.contains(sample)));
    // What evaluation finds is what training left, whatever the order of the classes.
    let names = classes(&["bee", "ant"]);
    let aside = Listing::scan_set_aside(root.path(), split.unwrap(), Some(&names), &unwatched).unwrap();
    let sorted = |listing: &Listing| {
        let mut paths: Vec<_> = listing.val.iter().map(|sample| sample.path.clone()).collect();
        paths.sort();
        paths
    };
    assert_eq!((sorted(&aside), aside.train.len()), (sorted(&listing), 0));

    let flat = files("");
    let flat = tree(&flat.iter().map(String::as_str).collect::<Vec<_>>());
    let listing = scan(flat.path(), None).unwrap();
    assert_eq!((listing.train.len(), listing.val.len()), (36, 4));
    assert_eq!(Listing::scan_set_aside(flat.path(), split.unwrap(), None, &unwatched).unwrap().val, listing.val);
    let error = Listing::scan(flat.path(), None).unwrap_err().to_string();
    assert!(error.ends_with("in DIR itself, add --val-split 0.1"), "{error}");

    fs::create_dir(root.path().join("val")).unwrap();
    let error = scan(root.path(), None).unwrap_err().to_string();
    assert!(error.ends_with("val: has images to validate on; leave --val-split out"), "{error}");
}

#[test]
fn lists_keep_their_order() {
    let root = tree(&["x/1.png", "x/2.png", "y/3.png"]);
    let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
    write("train.tsv", "# training\nx/2.png\tcat\n\ny/3.png\tant\r\nx/1.png\tcat\n");
    write("val.tsv", &format!("{}\tant\nx/1.png\tcat\n", root.path().join("y/3.png").display()));
    let listing = Listing::scan(root.path(), None).unwrap();
    assert_eq!(listing.classes, ["ant", "cat"]);
    assert_eq!(paths(&listing.train), ["x/2.png", "y/3.png", "x/1.png"]);
    assert_eq!(listing.train.iter().map(|sample| sample.class).collect::<Vec<_>>(), [1, 0, 1]);
    assert_eq!(listing.val[0].size, 7);
    assert!(listing.test.is_empty());
}

#[test]
fn folders_are_called_as_people_call_them() {
    let composed = "train/caf\u{e9}/1.png";
    let cases: &[(&[&str], [usize; 3])] = &[
        (&["Train/ant/1.png", "Valid/ant/1.png", "TEST/ant/1.png"], [1, 1, 1]),
        (&["training/ant/1.png", "validation/ant/1.png", "Testing/ant/1.png"], [1, 1, 1]),
        // Several spellings: the usual one.
        (&["train/ant/1.png", "train/ant/2.png", "Train/bee/1.png", "val/ant/1.png"], [2, 1, 0]),
        // Test images without labels; classes without images to validate on.
        (&["train/ant/1.png", "train/bee/1.png", "val/ant/1.png", "test/1.png"], [2, 1, 0]),
        (&["train/ant/1.png", "train/bee/1.png", "val/ant/1.png", "val/bee/"], [2, 1, 0]),
        // As macOS and Linux write them.
        (&[composed, "val/cafe\u{301}/1.png", "val/cafe\u{301}/2.png"], [1, 2, 0]),
        (&[composed, "train/cafe\u{301}/1.png", "val/caf\u{e9}/1.png"], [2, 1, 0]),
    ];
    for (files, counts) in cases {
        let root = tree(files);
        let listing = Listing::scan(root.path(), None).unwrap();
        assert_eq!(Split::ALL.map(|split| listing.split(split).len()), *counts, "{files:?}");
    }
    let flat = tree(&["train/ant/1.png", "train/bee/1.png", "val/1.png", "val/2.png", "#x/3.png"]);
    fs::write(flat.path().join("val.tsv"), "# images\tclasses\nval/1.png\tbee\n#val/2.png\tbee\n#x/3.png\tant\n")
        .unwrap();
    let listing = Listing::scan(flat.path(), None).unwrap();
    assert_eq!(paths(&listing.val), ["val/1.png", "#x/3.png"]);
    assert_eq!(listing.val[0].class, 1);
    // The same in tables, whose classes a file names as Linux does.
    fs::write(flat.path().join("t.csv"), "image,label\nval/1.png,cafe\u{301}\nval/2.png,ant\n").unwrap();
    let table =
        TableSpec { path: flat.path().join("t.csv"), kind: crate::images::LabelKind::Class, ..TableSpec::default() };
    let names = classes(&["caf\u{e9}", "ant"]);
    assert_eq!(Listing::of_table(flat.path(), &table, Some(&names), None, &unwatched).unwrap().classes, names);
    // A class may be called as a split, where there are none.
    let vehicles = tree(&["Train/1.png", "Bus/1.png", "Bus/2.png"]);
    let listing = Listing::scan_watched(vehicles.path(), None, ValSplit::new(0.4), &unwatched).unwrap();
    assert_eq!(listing.classes, ["Bus", "Train"]);
}

#[test]
fn every_fault_has_its_words() {
    let whole = &["train/ant/1.png", "train/bee/1.png", "val/ant/1.png", "val/bee/1.png"];
    let cases: &[(&[&str], Option<&[&str]>, &str)] = &[
        (&[], None, "train: no such folder; --data wants DIR/train/<class>/*"),
        (&["train/", "val/"], None, "train: no class in it"),
        (&["train/ant/", "val/ant/1.png"], None, "train/ant: no readable image in it"),
        (&["train/ant/1.txt", "val/ant/1.png"], None, "train/ant: no readable image in it"),
        (&["train/ant/1.png", "val/ant/1.png", "val/bee/1.png"], None, "val: class 'bee' is not in train"),
        (whole, Some(&["ant"]), "train: class 'bee' is not in the classes file"),
        (whole, Some(&["ant", "bee", "cat"]), "train: class 'cat' of the classes file has no folder here"),
    ];
    for (files, listed, words) in cases {
        let root = tree(files);
        let error = Listing::scan(root.path(), listed.map(classes).as_deref()).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        assert!(error.to_string().contains(words), "{error} does not say: {words}");
    }
    let error = Listing::scan(Path::new("/no/such/folder"), None).unwrap_err();
    assert!(error.to_string().starts_with("/no/such/folder: no such folder"), "{error}");
}

#[test]
fn names_may_be_any_bytes() {
    let root = tree(&["train/ant/1.png", "val/ant/1.png"]);
    let name = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    for split in ["train", "val"] {
        let class = root.path().join(split).join(name(b"caf\xe9"));
        fs::create_dir_all(class.join(name(b"\xff"))).unwrap();
        fs::write(class.join(name(b"\xff")).join(name(b"\xfe.png")), "").unwrap();
    }
    let listing = Listing::scan(root.path(), None).unwrap();
    assert_eq!(listing.classes, ["ant", r"caf\xe9"]);
    assert_eq!(listing.train[1].path.as_os_str(), name(b"train/caf\xe9/\xff/\xfe.png"));
    // But for the folders, which nobody else asks for.
    let without = Listing { folders: Vec::new(), ..listing.clone() };
    assert_eq!(Listing::from_bytes(root.path(), &listing.to_bytes()).unwrap(), without);
    let classes = classes(&[r"caf\xe9", "ant"]);
    assert_eq!(Listing::scan(root.path(), Some(&classes)).unwrap().train[0].class, 0);

    fs::create_dir(root.path().join(r"train/caf\xe9")).unwrap();
    fs::write(root.path().join(r"train/caf\xe9/1.png"), "").unwrap();
    let error = Listing::scan(root.path(), None).unwrap_err();
    assert!(error.is_bad_input(), "{error}");
    assert!(error.to_string().contains(r"train: two classes are the same text, 'caf\xe9'"), "{error}");
}

#[test]
fn a_link_to_a_folder_above_is_refused() {
    let root = tree(&["train/ant/1.png", "val/ant/1.png"]);
    std::os::unix::fs::symlink(root.path().join("train"), root.path().join("train/ant/again")).unwrap();
    let error = Listing::scan(root.path(), None).unwrap_err();
    assert!(error.to_string().contains("train/ant/again: links to a folder that it lies in"), "{error}");
}

#[test]
fn a_watch_sees_every_file_and_may_break_off() {
    let root = tree(&["train/ant/1.png", "train/ant/deep/2.png", "val/ant/1.png"]);
    let most = std::sync::atomic::AtomicUsize::new(0);
    let until = |limit: usize| {
        let watch = |done: usize| {
            most.fetch_max(done, std::sync::atomic::Ordering::Relaxed);
            if done < limit { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
        };
        Listing::scan_watched(root.path(), None, None, &watch)
    };
    assert_eq!(until(100).unwrap(), Listing::scan(root.path(), None).unwrap());
    // Two class folders, four entries in them, and three sizes.
    let all = most.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(all, 2 + 4 + 3);
    for limit in 1..=all {
        assert!(matches!(until(limit), Err(Error::Interrupted)), "{limit}");
    }
}

#[test]
fn a_folder_of_very_many_files() {
    let root = tree(&["train/ant/", "val/ant/1.png"]);
    for number in 0..100_000 {
        File::create(root.path().join(format!("train/ant/{number}.png"))).unwrap();
    }
    let listing = Listing::scan(root.path(), None).unwrap();
    assert_eq!(listing.train.len(), 100_000);
    assert!(listing.train.is_sorted_by(|a, b| a.path < b.path));
}
