//! One data set in a folder, in tar shards, in zip files, in compressed tars and in a Parquet table: the same training on any number of
//! ranks. And archives that are broken, or go while they are used.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flate2::write::GzEncoder;
use image::{ImageFormat, RgbImage};
use multi_rank_tests::{Mpirun, Outcome, binary};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const CLASSES: [&str; 3] = ["ant", "bee", "cat"];
const SPLITS: [(&str, usize); 2] = [("train", 16), ("val", 5)];
const SMALL: &str = "--model lenet --image-size 12 --crop-padding 0 --batch 8 --epochs 1 --seed 3";

/// A file of a split: its class, its name, and what is in it.
type File = (&'static str, String, Vec<u8>);

fn files(count: usize, seed: u64) -> Vec<File> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut image = |class: usize| {
        let pixels = (0..12 * 12 * 3).map(|_| random.random_range(0..120_u8) + 60 * class as u8).collect();
        let mut png = Cursor::new(Vec::new());
        RgbImage::from_raw(12, 12, pixels).unwrap().write_to(&mut png, ImageFormat::Png).unwrap();
        png.into_inner()
    };
    let of_class = |class: usize| (0..count).map(move |index| (class, index));
    let all = (0..CLASSES.len()).flat_map(of_class);
    all.map(|(class, index)| (CLASSES[class], format!("{index:03}.png"), image(class))).collect()
}

fn tar<'a>(entries: impl IntoIterator<Item = (String, &'a [u8])>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        // Not by `append_data`, which refuses a name that is to be refused here.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn tar_of_folders(files: &[File]) -> Vec<u8> {
    tar(files.iter().rev().map(|(class, name, bytes)| (format!("./{class}/{name}"), &bytes[..])))
}

fn shard(files: &[File]) -> Vec<u8> {
    tar(files.iter().enumerate().flat_map(|(index, (class, _, bytes))| {
        [(format!("{index:05}.png"), &bytes[..]), (format!("{index:05}.cls"), class.as_bytes())]
    }))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip(files: &[(&str, Vec<File>)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (split, files) in files {
        for (class, name, bytes) in files {
            writer.start_file(format!("{split}/{class}/{name}"), SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

fn table(files: &[File]) -> Vec<u8> {
    let schema = parse_message_type("message schema { required binary jpg; required binary label (STRING); }").unwrap();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::default()).unwrap();
    for files in files.chunks(7) {
        let mut group = writer.next_row_group().unwrap();
        let images = files.iter().map(|(_, _, bytes)| ByteArray::from(bytes.clone())).collect();
        let labels = files.iter().map(|(class, ..)| ByteArray::from(*class)).collect();
        for values in [images, labels] {
            let values: Vec<_> = values;
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

/// The data set in `folder`, in each container.
fn write_all(folder: &Path) -> Vec<&'static str> {
    let splits: Vec<_> = SPLITS.iter().zip(0..).map(|(&(split, count), seed)| (split, files(count, seed))).collect();
    let put = |path: String, bytes: &[u8]| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for (split, files) in &splits {
        for (class, name, bytes) in files {
            put(format!("folder/{split}/{class}/{name}"), bytes);
        }
        put(format!("tars/{split}.tar"), &tar_of_folders(files));
        put(format!("compressed/{split}.tar.gz"), &gzip(&tar_of_folders(files)));
        put(format!("table/data/{split}-00000-of-00001.parquet"), &table(files));
        for (index, files) in files.chunks(10).enumerate() {
            put(format!("shards/set-{split}-{index:06}.tar"), &shard(files));
        }
        for class in CLASSES {
            let of_class = files.iter().filter(|(other, ..)| *other == class);
            put(
                format!("classes/{split}/{class}.tar"),
                &tar(of_class.map(|(_, name, bytes)| (name.clone(), &bytes[..]))),
            );
        }
    }
    put("zipped.zip".to_owned(), &zip(&splits));
    vec!["folder", "tars", "compressed", "table", "shards", "classes", "zipped.zip"]
}

fn mpirun(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    let launcher = Mpirun::new(ranks).directory(folder).timeout(Duration::from_secs(240));
    launcher.run(&binary("rust-train"), arguments.split_whitespace())
}

/// A hash of the weights of a run.
fn weights(run: &Path) -> Vec<u8> {
    Sha256::digest(fs::read(run.join("best.safetensors")).unwrap()).to_vec()
}

#[test]
fn the_same_training_from_every_container() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let containers = write_all(folder);
    // scripts/containers asks two as well.
    for ranks in [1, 4] {
        let mut of_folder = Vec::new();
        for container in &containers {
            let run = format!("run-{ranks}-{container}");
            mpirun(ranks, folder, &format!("--data {container} {SMALL} --output {run}")).expect_success();
            let weights = weights(&folder.join(run));
            if *container == "folder" {
                of_folder = weights;
            } else {
                assert_eq!(weights, of_folder, "{container} on {ranks} ranks");
            }
        }
    }
    // The same without a cache, where images are found at once; and evaluated from another container.
    let evaluated = |container: &str| {
        let outcome = mpirun(2, folder, &format!("eval run-4-folder --data {container} --json"));
        let scores: Value = serde_json::from_str(&outcome.expect_success().stdout).unwrap();
        ["loss", "confusion", "samples"].map(|key| scores[key].clone()) // the worst are named by their paths
    };
    let (mut of_folder, scores) = (Vec::new(), evaluated("folder"));
    for container in &containers {
        let run = format!("uncached-{container}");
        let outcome = mpirun(2, folder, &format!("--data {container} {SMALL} --cache-format none --output {run}"));
        match *container {
            "compressed" | "table" => {
                assert_eq!(outcome.status, Some(2), "{outcome:?}");
                assert_eq!(outcome.error_lines().len(), 1, "{outcome:?}");
                assert!(outcome.error_lines()[0].contains("use --cache-format encoded or pixels"), "{outcome:?}");
            }
            _ => {
                outcome.expect_success();
                let weights = weights(&folder.join(run)); // with the flags in them
                assert!(of_folder.is_empty() || weights == of_folder, "{container}");
                of_folder = weights;
            }
        }
        assert_eq!(evaluated(container), scores, "{container}");
    }
}

#[test]
fn an_index_is_kept_until_its_archive_changes() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write_all(folder);
    let cached = |words: &str| {
        let outcome = mpirun(2, folder, "cache --data shards --model lenet --image-size 12");
        outcome.expect_success();
        assert_eq!(outcome.stderr.matches(words).count(), 1, "{words}\n{}", outcome.stderr);
    };
    cached("building the dataset cache");
    let kept = folder.join("shards/.rust-train/archives");
    let before = fs::read(&kept).unwrap();
    cached("reusing the dataset cache");
    // Damaged: it is made anew, and the same.
    for damaged in [&before[..before.len() / 2], &before.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()] {
        fs::write(&kept, damaged).unwrap();
        cached("reusing the dataset cache");
        assert_eq!(fs::read(&kept).unwrap(), before);
    }
    // Another archive: images are looked for anew.
    let longer = shard(&files(20, 7)[..25]);
    fs::write(folder.join("shards/set-train-000000.tar"), longer).unwrap();
    cached("building the dataset cache");
    assert_ne!(fs::read(&kept).unwrap(), before);

    // One that is cut off, one that is gone, and one that leads elsewhere: one line, and nothing built.
    let whole = fs::read(folder.join("shards/set-train-000002.tar")).unwrap();
    let outside = tar([("../../a.png".to_owned(), &b"x"[..])]);
    for (bytes, words) in [
        (Some(&whole[..3000]), "shards/set-train-000002.tar: is cut off in 0000"),
        (None, "shards/set-train-000002.tar: is missing; its neighbours are there"),
        (Some(&outside[..]), "shards/set-train-000002.tar: has a name that leads out of it: ../../a.png"),
    ] {
        let path = folder.join("shards/set-train-000002.tar");
        fs::remove_file(&path).unwrap();
        if let Some(bytes) = bytes {
            fs::write(&path, bytes).unwrap();
        }
        let outcome = mpirun(2, folder, &format!("--data shards {SMALL} --output broken"));
        assert_eq!(outcome.stderr.matches(words).count(), 1, "{words}\n{}", outcome.stderr);
        assert!(bytes.is_none() || outcome.status == Some(2) && outcome.error_lines().len() == 1, "{outcome:?}");
        assert!(bytes.is_none() || !folder.join("broken").exists(), "{words}");
        fs::write(&path, &whole).unwrap();
        let _ = fs::remove_dir_all(folder.join("broken"));
    }
}

/// CIFAR-10's binary version: a label and three planes of 32×32 bytes, again and again.
fn cifar(labels: &[u8]) -> Vec<u8> {
    let record = |(index, &label): (usize, &u8)| {
        let shade = move |at: usize| (at * 7 % 100 + index % 5 + usize::from(label) * 60) as u8;
        std::iter::once(label).chain((0..3 * 32 * 32).map(shade)).collect::<Vec<_>>()
    };
    labels.iter().enumerate().flat_map(record).collect()
}

#[test]
fn a_set_with_images_to_test_on_is_trained_and_tested() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let set = folder.join("cifar");
    fs::create_dir(&set).unwrap();
    let labels = |count: usize| (0..count).map(|index| (index % 3) as u8).collect::<Vec<_>>();
    fs::write(set.join("batches.meta.txt"), "ant\nbee\ncat\n").unwrap();
    for batch in 1..=2 {
        fs::write(set.join(format!("data_batch_{batch}.bin")), cifar(&labels(30))).unwrap();
    }
    fs::write(set.join("test_batch.bin"), cifar(&labels(24))).unwrap();
    let flags = "--model cifar_resnet20 --image-size 32 --batch 8 --epochs 1 --val-split 0.2 --seed 3";
    let outcome = mpirun(2, folder, &format!("--data cifar {flags} --output run"));
    assert!(outcome.expect_success().stderr.contains("of 3 classes, and 24 for eval --split test;"), "{outcome:?}");
    let tested = |ranks: usize, data: &str| {
        let outcome = mpirun(ranks, folder, &format!("eval run --split test --batch {} --json {data}", 8 / ranks));
        let scores: Value = serde_json::from_str(&outcome.expect_success().stdout).unwrap();
        assert_eq!(scores["samples"], 24, "{scores}");
        ["loss", "top1", "confusion"].map(|key| scores[key].clone())
    };
    let once = tested(1, "");
    assert_eq!(tested(2, ""), once);
    // Where there are none, or not whole ones, one line says so.
    fs::remove_file(set.join("test_batch.bin")).unwrap();
    for data in ["", "--data run"] {
        let outcome = mpirun(2, folder, &format!("eval run --split test {data}"));
        assert_eq!((outcome.status, outcome.error_lines().len()), (Some(2), 1), "{outcome:?}");
        assert!(outcome.error_lines()[0].contains("--split test: there are no images to test on"), "{outcome:?}");
    }
    fs::write(set.join("test_batch.bin"), &cifar(&labels(24))[..5000]).unwrap();
    let outcome = mpirun(2, folder, "eval run --split test");
    assert_eq!((outcome.status, outcome.error_lines().len()), (Some(2), 1), "{outcome:?}");
    let words = "cifar/test_batch.bin: has 5000 bytes, which are not records of 3073; is it cut off?";
    assert!(outcome.error_lines()[0].contains(words), "{outcome:?}");
}
