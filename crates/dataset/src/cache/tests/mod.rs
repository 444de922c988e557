//! Caches of 8-bit images, and what happens to caches of any kind.

mod numbers_and_masks;

use super::*;
use crate::images::ImageSet;
use crate::{Loader, LoaderConfig, MaskFolders, MaskRule, unwatched};
use std::ffi::OsString;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

const DECODING: Decoding = Decoding {
    exif_orientation: false,
    resample: Resample::Bilinear,
    numbers: None,
    is_exact: false,
    on_nan: OnNan::Fail,
    axes: None,
    fit: Fit::Crop,
};
const SMALL: Spec = Spec { contents: Contents::Pixels { side: 4, crop: 4 }, decoding: DECODING, masks: None };
const ENCODED: Spec = Spec { contents: Contents::Encoded, ..SMALL };

/// Two classes of images of 6×4 pixels, each filled with a number of its own.
fn folder() -> (tempfile::TempDir, Listing) {
    let root = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 70u8), ("val", 3), ("test", 1)] {
        for (class, base) in [("ant", 0), ("bee", 100)] {
            let folder = root.path().join(split).join(class);
            fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let image = image::RgbImage::from_pixel(6, 4, image::Rgb([base + number, number, 9]));
                image.save(folder.join(format!("{number:03}.png"))).unwrap();
            }
        }
    }
    let listing = Listing::scan(root.path(), None).unwrap();
    (root, listing)
}

fn build_at(path: &Path, listing: &Listing, spec: &Spec) {
    build(listing, spec, path, OnBadImage::Fail, &unwatched).unwrap();
}

fn current(path: &Path, listing: &Listing, spec: &Spec) -> Dataset {
    match open(path, &spec.fingerprint(listing), spec.decoding).unwrap() {
        Found::Current(dataset) => *dataset,
        other => panic!("{other:?}"),
    }
}

fn stale(path: &Path, listing: &Listing, spec: &Spec) -> String {
    match open(path, &spec.fingerprint(listing), spec.decoding).unwrap() {
        Found::Stale(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn nothing_left(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn reads_all(set: &ImageSet) -> Result<()> {
    (0..set.len()).try_for_each(|index| set.stored(index, &mut Vec::new()).map(drop))
}

#[test]
fn what_is_built_is_opened() {
    let (root, listing) = folder();
    let path = root.path().join("cache/pixels.h5");
    let done = AtomicUsize::new(0);
    build(&listing, &SMALL, &path, OnBadImage::Fail, &|count| {
        done.fetch_max(count, Ordering::Relaxed);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(done.into_inner(), 148);
    let dataset = current(&path, &listing, &SMALL);
    assert_eq!(dataset.classes, ["ant", "bee"]);
    let sets = (dataset.train.len(), dataset.val.len(), dataset.test.as_ref().unwrap().len());
    assert_eq!(sets, (140, 6, 2));
    for index in [0, 69, 70, 139] {
        let number = (index % 70) as u8;
        let label = dataset.train.labels()[index];
        assert_eq!(label, i64::from(index >= 70));
        let expected = [label as u8 * 100 + number, number, 9].repeat(16);
        assert_eq!(dataset.train.pixels(index), expected, "image {index}");
    }
    let left: Vec<_> = fs::read_dir(root.path().join("cache")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing but the cache is left: {left:?}");
    assert_eq!(verify(&path, &unwatched).unwrap(), Verified { images: 148, damaged: Vec::new() });
    assert!(explain(&path, &listing, &SMALL).is_empty());
}

#[test]
fn names_may_be_any_bytes() {
    let (root, _) = folder();
    let odd =
        |text: &str| OsString::from_vec(text.bytes().map(|byte| if byte == b'?' { 0xe9 } else { byte }).collect());
    let whole = root.path().join(odd("caf?"));
    fs::create_dir(&whole).unwrap();
    for split in ["train", "val", "test"] {
        fs::rename(root.path().join(split), whole.join(split)).unwrap();
    }
    fs::rename(whole.join("val/ant/001.png"), whole.join("val/ant").join(odd("1?.png"))).unwrap();
    fs::rename(whole.join("train/bee"), whole.join("train").join(odd("b?"))).unwrap();
    fs::rename(whole.join("val/bee"), whole.join("val").join(odd("b?"))).unwrap();
    fs::rename(whole.join("test/bee"), whole.join("test").join(odd("b?"))).unwrap();
    fs::write(whole.join("val/ant").join(odd("2?.png")), "no image").unwrap();
    let listing = Listing::scan(&whole, None).unwrap();
    for (spec, name) in [(SMALL, "pixels?.h5"), (ENCODED, "encoded?.h5")] {
        let path = whole.join(odd(name));
        let bad = build(&listing, &spec, &path, OnBadImage::Skip, &unwatched).unwrap();
        assert_eq!(bad.len(), 1);
        let dataset = current(&path, &listing, &spec);
        assert_eq!(dataset.classes, ["ant", r"b\xe9"]);
        assert_eq!((dataset.train.len(), dataset.val.len()), (140, 6));
        reads_all(&dataset.train).unwrap();
        reads_all(&dataset.val).unwrap();
        let names = dataset.val.names(&[0, 1, 5]);
        assert_eq!(
            names,
            ["val/ant/000.png", "val/ant/002.png", "val/b?/002.png"].map(|name| PathBuf::from(odd(name)))
        );
        assert_eq!(dataset.test.unwrap().names(&[1]), [PathBuf::from(odd("test/b?/000.png"))]);
        assert_eq!(skipped(&path).unwrap()[0].0, "val/ant/2\u{fffd}.png");
        assert!(explain(&path, &listing, &spec).is_empty());
        assert!(verify(&path, &unwatched).unwrap().damaged.is_empty());
        let lock = Lock::acquire(&path, Duration::ZERO, &|_| ControlFlow::Continue(())).unwrap();
        assert!(lock.is_some() && Lock::acquire(&path, Duration::ZERO, &|_| ControlFlow::Continue(())).is_err());
    }
    let files = Dataset::of_files(&listing, Decoding::default());
    reads_all(&files.train).unwrap();
    assert_eq!(files.val.names(&[1]), [whole.join(odd("val/ant/002.png"))]);
}

#[test]
fn settings_are_read_as_they_are_written() {
    for resample in [Resample::Bilinear, Resample::Bicubic] {
        for exif_orientation in [false, true] {
            let decoding = Decoding { exif_orientation, resample, ..DECODING };
            let spec = Spec { contents: Contents::Pixels { side: 224, crop: 224 }, decoding, masks: None };
            assert_eq!(Spec::parse(&spec.settings()), Some(spec));
        }
    }
    assert_eq!(Spec::parse(&ENCODED.settings()), Some(ENCODED));
    for exif_orientation in [false, true] {
        let masks = Some(MaskValues::new(vec![0, 7], Some(255)).unwrap());
        for contents in [ENCODED.contents, SMALL.contents] {
            let spec = Spec { contents, decoding: Decoding { exif_orientation, ..DECODING }, masks: masks.clone() };
            assert_eq!(Spec::parse(&spec.settings()), Some(spec));
        }
    }
    for settings in
        ["", "pixels", "pixels 0 bilinear upright", "pixels 99999 bilinear upright", "pixels 8 lanczos upright"]
    {
        assert_eq!(Spec::parse(settings), None, "{settings}");
    }
}

#[test]
fn shares_make_the_same_file_as_one_builder() {
    let (root, listing) = folder();
    for spec in [SMALL, ENCODED] {
        let at = |name: &str| root.path().join(spec.contents.name()).join(name);
        let (alone, together) = (at("alone.h5"), at("together.h5"));
        build_at(&alone, &listing, &spec);
        let writer = CacheWriter::create(&listing, &spec, &spec.fingerprint(&listing), &together).unwrap();
        for rank in [2, 0, 1] {
            let shard = CacheShard::open(writer.temporary(), &listing.root).unwrap();
            shard.write(Shard::new(rank, 3), OnBadImage::Fail, &unwatched).unwrap();
        }
        assert!(!together.exists(), "no reader sees a writer");
        writer.seal(&[]).unwrap();
        let (alone, together) = (current(&alone, &listing, &spec), current(&together, &listing, &spec));
        reads_all(&together.train).unwrap();
        assert_eq!(alone.train.labels(), together.train.labels());
        if spec == SMALL {
            assert!((0..140).all(|index| alone.train.pixels(index) == together.train.pixels(index)));
        }
    }
}

#[test]
fn a_build_that_is_broken_off_ends_at_the_next_image_and_leaves_nothing() {
    let (root, listing) = folder();
    let path = root.path().join("cache/pixels.h5");
    for limit in [1, 3, 148] {
        let most = AtomicUsize::new(0);
        let watch = |done: usize| {
            most.fetch_max(done, Ordering::SeqCst);
            if done < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let error = threads.install(|| build(&listing, &SMALL, &path, OnBadImage::Fail, &watch)).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert!((limit..=limit + 1).contains(&most.load(Ordering::SeqCst)), "of two threads, each ends its image");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }
    build_at(&path, &listing, &SMALL);
}

#[test]
fn a_draft_whose_share_is_missing_is_no_cache() {
    // Sealed without one of its shares: the checksums of the missing images tell.
    let (root, listing) = folder();
    let path = root.path().join("pixels.h5");
    let writer = CacheWriter::create(&listing, &SMALL, &SMALL.fingerprint(&listing), &path).unwrap();
    let shard = CacheShard::open(writer.temporary(), &listing.root).unwrap();
    shard.write(Shard::new(0, 2), OnBadImage::Fail, &unwatched).unwrap();
    writer.seal(&[]).unwrap();
    let damaged = verify(&path, &unwatched).unwrap().damaged;
    assert!(!damaged.is_empty());
    assert!(reads_all(&current(&path, &listing, &SMALL).train).is_err());
}

#[test]
fn a_cache_of_something_else_is_not_used() {
    let (root, listing) = folder();
    let path = root.path().join("pixels.h5");
    assert!(matches!(open(&path, "any", Decoding::default()).unwrap(), Found::Nothing));
    assert_eq!(explain(&path, &listing, &SMALL), ["there is no such file"]);
    build_at(&path, &listing, &SMALL);

    let other = Spec { contents: Contents::Pixels { side: 8, crop: 8 }, ..SMALL };
    assert!(stale(&path, &listing, &other).contains("have changed since"));
    assert_eq!(
        explain(&path, &listing, &other),
        ["settings: it holds 'pixels 4 bilinear as-stored', and 'pixels 8 bilinear as-stored' is asked for"]
    );
    fs::write(&path, b"no HDF5").unwrap();
    assert!(stale(&path, &listing, &SMALL).contains("it is not an HDF5 file"));
    fs::remove_file(&path).unwrap();
    hdf5::File::create(&path).unwrap();
    assert!(stale(&path, &listing, &SMALL).contains("was never completed"));
    build_at(&path, &listing, &SMALL);
    let mut of_the_future = fs::read(&path).unwrap();
    let digit = of_the_future.len() - 2;
    of_the_future[digit] = b'7';
    fs::write(&path, &of_the_future).unwrap();
    assert_eq!(stale(&path, &listing, &SMALL), "it is of version 7, and this program writes versions 2 and 3");
    of_the_future[digit - 1..].copy_from_slice(b"1\n2");
    fs::write(&path, of_the_future).unwrap();
    assert!(!stale(&path, &listing, &SMALL).contains('\n'), "a message is one line");
    build_at(&path, &listing, &SMALL);
    current(&path, &listing, &SMALL);
}

#[test]
fn what_has_changed_is_explained() {
    let (root, listing) = folder();
    let path = root.path().join("pixels.h5");
    build_at(&path, &listing, &SMALL);
    let touched = fs::File::options().write(true).open(root.path().join("train/ant/005.png")).unwrap();
    touched.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    fs::remove_file(root.path().join("val/bee/002.png")).unwrap();
    fs::copy(root.path().join("val/bee/001.png"), root.path().join("val/bee/007.png")).unwrap();
    let now = Listing::scan(root.path(), None).unwrap();
    assert_eq!(
        explain(&path, &now, &SMALL),
        [
            "train: 1 images changed since (size or time of the file): train/ant/005.png",
            "val: 1 images new: val/bee/007.png",
            "val: 1 images gone: val/bee/002.png",
        ]
    );
    let turned = Listing::scan(root.path(), Some(&["bee".to_owned(), "ant".to_owned()])).unwrap();
    assert!(explain(&path, &turned, &SMALL).contains(&"classes: their order is another".to_owned()));
}

/// Where in a file the image at `index` of the training images begins.
fn place(path: &Path, dataset: &str, index: usize, bytes: usize) -> usize {
    let file = hdf5::File::open(path).unwrap();
    file.dataset(&format!("train/{dataset}")).unwrap().offset().unwrap() as usize + index * bytes
}

#[test]
fn every_flipped_byte_is_found() {
    let (root, listing) = folder();
    for spec in [SMALL, ENCODED] {
        let path = root.path().join(format!("{}.h5", spec.contents.name()));
        build_at(&path, &listing, &spec);
        let whole = fs::read(&path).unwrap();
        let flipped = |place: usize| {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            fs::remove_file(&path).unwrap(); // other tests' maps of the same file would see a change in place
            fs::write(&path, bytes).unwrap();
        };
        flipped(place(&path, spec.contents.dataset(Of::Images), 3, if spec == SMALL { 48 } else { 60 }));
        let error = reads_all(&current(&path, &listing, &spec).train).unwrap_err().to_string();
        assert!(error.contains("do not match their checksum") && error.contains("train/ant/"), "{error}");
        let damaged = verify(&path, &unwatched).unwrap().damaged;
        assert_eq!(damaged.len(), 1, "{damaged:?}");
        for dataset in ["labels", "checksums", "sizes"] {
            flipped(place(&path, dataset, 9, 8));
            assert!(stale(&path, &listing, &spec).contains("damaged"), "{dataset}");
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_is_stale_or_says_so() {
    let (root, listing) = folder();
    let path = root.path().join("pixels.h5");
    build_at(&path, &listing, &SMALL);
    let whole = fs::read(&path).unwrap();
    for shard in [0, 1, 10, 100, 500, 900, 990, 999] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, &whole[..whole.len() * shard / 1000]).unwrap();
        stale(&path, &listing, &SMALL);
        assert!(!verify(&path, &unwatched).unwrap().damaged.is_empty(), "{shard}");
        assert_eq!(explain(&path, &listing, &SMALL).len(), 1);
    }
}

#[test]
fn a_broken_image_is_named_and_leaves_no_cache() {
    let (root, listing) = folder();
    let path = root.path().join("cache/pixels.h5");
    let broken = root.path().join("val/bee/001.png");
    let length = fs::read(&broken).unwrap().len();
    fs::write(&broken, vec![b'x'; length]).unwrap();
    for spec in [SMALL, ENCODED] {
        let error = build(&listing, &spec, &path, OnBadImage::Fail, &unwatched).unwrap_err();
        assert!(error.is_bad_input());
        assert!(error.to_string().contains("val/bee/001.png: not a readable image"), "{error}");
        nothing_left(path.parent().unwrap());
    }
}

#[test]
fn broken_images_can_be_skipped() {
    let (root, listing) = folder();
    let path = root.path().join("pixels.h5");
    for name in ["train/ant/007.png", "train/bee/000.png"] {
        let length = fs::metadata(root.path().join(name)).unwrap().len() as usize;
        fs::write(root.path().join(name), vec![b'x'; length]).unwrap();
    }
    for spec in [SMALL, ENCODED] {
        let bad = build(&listing, &spec, &path, OnBadImage::Skip, &unwatched).unwrap();
        let paths: Vec<_> = bad.iter().map(|image| image.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["train/ant/007.png", "train/bee/000.png"]);
        let dataset = current(&path, &listing, &spec);
        assert_eq!((dataset.train.len(), dataset.val.len()), (138, 6));
        assert_eq!(dataset.train.labels().iter().sum::<i64>(), 69);
        reads_all(&dataset.train).unwrap();
        if spec == SMALL {
            assert_eq!(dataset.train.pixels(7)[0], 8, "number 7 is what was number 8");
        }
        let skipped = skipped(&path).unwrap();
        assert_eq!(skipped[0].0, "train/ant/007.png");
        assert!(skipped[0].1.contains("not an image of a known format"), "{}", skipped[0].1);
    }
    let bees = listing.val.iter().enumerate().map(|(index, sample)| BadImage {
        split: Split::Val,
        index,
        path: sample.path.clone(),
        reason: String::new(),
    });
    let writer =
        CacheWriter::create(&listing, &SMALL, &SMALL.fingerprint(&listing), &root.path().join("none.h5")).unwrap();
    let error = writer.seal(&bees.collect::<Vec<_>>()).unwrap_err();
    assert!(error.to_string().contains("val: none of its 6 images can be decoded"), "{error}");
}

#[test]
fn an_image_that_changed_since_it_was_listed() {
    let (root, listing) = folder();
    fs::write(root.path().join("train/ant/003.png"), b"short").unwrap();
    let error = build(&listing, &SMALL, &root.path().join("c.h5"), OnBadImage::Skip, &unwatched).unwrap_err();
    assert!(error.to_string().contains("train/ant/003.png: was"), "{error}");
}

#[test]
fn a_removed_cache_serves_those_who_have_it_open() {
    let (root, listing) = folder();
    let path = root.path().join("pixels.h5");
    build_at(&path, &listing, &SMALL);
    let dataset = current(&path, &listing, &SMALL);
    fs::remove_file(&path).unwrap();
    reads_all(&dataset.train).unwrap();
}

#[test]
fn a_lock_that_somebody_holds_stops_no_reader() {
    // As on parallel file systems that have no locks, or whose locks a dead client still holds.
    let (root, listing) = folder();
    let path = root.path().join("pixels.h5");
    build_at(&path, &listing, &SMALL);
    let held = fs::File::open(&path).unwrap();
    held.lock().unwrap();
    reads_all(&current(&path, &listing, &SMALL).train).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_to() {
    // Root may write anywhere, but not into a file as if it were a folder.
    let (root, listing) = folder();
    let error =
        CacheWriter::create(&listing, &SMALL, &SMALL.fingerprint(&listing), &root.path().join("val/ant/001.png/c.h5"))
            .unwrap_err();
    assert!(error.to_string().contains("val/ant/001.png: making the folder of the cache"), "{error}");
}

#[test]
fn more_than_the_disk_holds_is_refused() {
    let (root, mut listing) = folder();
    listing.train[0].size = 2 << 30;
    listing.train = vec![listing.train[0].clone(); 1 << 16]; // 140 TB
    let error = CacheWriter::create(&listing, &ENCODED, &ENCODED.fingerprint(&listing), &root.path().join("c/c.h5"))
        .unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("MiB are free; name another folder"), "{error}");
    nothing_left(&root.path().join("c"));
}

#[test]
fn what_a_killed_build_left_is_removed_by_the_next_but_one() {
    let (root, listing) = folder();
    let path = root.path().join("c/pixels.h5");
    let abandoned = CacheWriter::create(&listing, &SMALL, &SMALL.fingerprint(&listing), &path).unwrap();
    let left = root.path().join("c/left");
    fs::copy(abandoned.temporary(), &left).unwrap();
    drop(abandoned);
    let of_killed = root.path().join("c/.pixels.h5.aBcDeF.part");
    fs::rename(&left, &of_killed).unwrap();
    build_at(&path, &listing, &SMALL);
    assert!(of_killed.exists(), "it may belong to a job that runs");
    let file = fs::File::options().write(true).open(&of_killed).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    build_at(&path, &listing, &SMALL);
    assert!(!of_killed.exists());
}

#[test]
fn one_job_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pixels.h5");
    let acquire = |timeout| Lock::acquire(&path, timeout, &|_| ControlFlow::Continue(()));
    let lock = acquire(Duration::ZERO).unwrap().unwrap();
    let error = acquire(Duration::from_millis(120)).unwrap_err();
    let words = format!("another job (process {} on ", std::process::id());
    assert!(error.to_string().contains(&words) && error.to_string().contains("has not got on for"), "{error}");
    let error = Lock::acquire(&path, Duration::from_secs(20), &|_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");

    // As long as somebody writes to what is built, it is waited for.
    let (part, start) = (path.with_file_name(".pixels.h5.abc.part"), Instant::now());
    fs::write(&part, "").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while start.elapsed() < Duration::from_secs(2) {
                fs::File::options().write(true).open(&part).unwrap().set_modified(SystemTime::now()).unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let told = AtomicUsize::new(0);
        let error = Lock::acquire(&path, Duration::from_millis(600), &|progressed| {
            told.fetch_add(usize::from(progressed), Ordering::SeqCst);
            ControlFlow::Continue(())
        });
        assert!(error.is_err() && start.elapsed() > Duration::from_millis(2400), "{error:?}");
        assert!((3..30).contains(&told.load(Ordering::SeqCst)), "{told:?}");
    });
    fs::remove_file(&part).unwrap();
    let inside = AtomicUsize::new(0);
    drop(lock);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _lock = acquire(Duration::from_secs(20)).unwrap().unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                std::thread::sleep(Duration::from_millis(5));
                inside.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    nothing_left(folder.path());
}
