//! Image files of any numbers, in folders of classes and in tables with labels of every kind.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use multi_rank_tests::arrays::{Made, SIDE, bytes, made, noise, npy, npz};
use multi_rank_tests::{Mpirun, Outcome, binary};
use serde_json::Value;
use tiff::encoder::TiffEncoder;
use tiff::encoder::colortype::Gray16;
use zip::CompressionMethod;

const CHANNELS: usize = 2;

fn mpirun(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    let launcher = Mpirun::new(ranks).directory(folder).timeout(Duration::from_secs(240));
    launcher.run(&binary("rust-train"), arguments.split_whitespace())
}

/// Writes image `index` as 16-bit numbers, C×H×W, into a file of its own.
fn write_image(path: &Path, made: &Made, index: usize) {
    let count = CHANNELS * SIDE * SIDE;
    let numbers: Vec<u16> = made.images[index * count..(index + 1) * count].iter().map(|&value| value as u16).collect();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, npy("<u2", &[CHANNELS, SIDE, SIDE], &bytes(&numbers, u16::to_le_bytes))).unwrap();
}

const SPLITS: [(&str, usize, usize); 2] = [("train", 320, 1), ("val", 61, 2)];
const USUAL: &str = "--model lenet --image-size 12 --crop-padding 0 --no-flip --batch 32 --lr 0.02";

/// Spellings of splits, a class without images to validate on, images to test with that nobody has sorted, names as macOS writes
/// them; said once, and evaluated alike. Names of classes for a file that has none.
#[test]
fn folders_and_files_as_people_have_them() {
    const SMALL: &str = "--model lenet --image-size 12 --crop-padding 0 --batch 8 --epochs 1";
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let made = made(24, CHANNELS, 1);
    let names = [("Train", ["ant", "bee", "caf\u{e9}"]), ("Validation", ["ant", "", "cafe\u{301}"])];
    for (split, classes) in names {
        for (class, name) in classes.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            (0..8).for_each(|index| {
                write_image(&folder.join(format!("set/{split}/{name}/{index}.npy")), &made, class * 8 + index);
            });
        }
    }
    write_image(&folder.join("set/test/1.npy"), &made, 0);
    for format in ["pixels", "none"] {
        let flags = format!("--data set {SMALL} --cache-format {format} --output run-{format}");
        let outcome = mpirun(2, folder, &flags);
        outcome.expect_success();
        for words in ["set/Validation: has no images of 1 of 3 classes: bee", "set/test: has no folders of classes"] {
            assert_eq!(outcome.stderr.matches(words).count(), 1, "{words}: {}", outcome.stderr);
        }
        let evaluation = fs::read_to_string(folder.join(format!("run-{format}/evaluation.json"))).unwrap();
        let evaluation: Value = serde_json::from_str(&evaluation).unwrap();
        let class = |index: usize| &evaluation["classes"][index];
        assert!(class(1)["recall"].is_null() && class(1)["support"] == 0 && class(0)["recall"].is_number());
        assert_eq!((class(2)["name"].as_str(), class(2)["support"].as_u64()), (Some("caf\u{e9}"), Some(8)));
        mpirun(2, folder, &format!("eval run-{format}")).expect_success();
    }

    let pixels: Vec<u8> = (0..24 * 12 * 12 * 3).map(|index| (noise(index) * 255.0) as u8).collect();
    let labels: Vec<i64> = (0..24).map(|index| index % 2).collect();
    let arrays = ["train", "val"].map(|split| {
        let labels = bytes(&labels, i64::to_le_bytes);
        [
            (format!("{split}_images"), "|u1", vec![24, 12, 12, 3], pixels.clone()),
            (format!("{split}_labels"), "<i8", vec![24], labels),
        ]
    });
    let arrays: Vec<_> = arrays
        .as_flattened()
        .iter()
        .map(|(name, kind, shape, bytes)| (name.as_str(), *kind, shape.clone(), bytes.clone()))
        .collect();
    npz(&folder.join("set.npz"), CompressionMethod::Stored, &arrays);
    fs::write(folder.join("three.txt"), "x\ny\nz\n").unwrap();
    fs::write(folder.join("one.txt"), "x\n").unwrap();
    mpirun(2, folder, &format!("--data set.npz {SMALL} --classes three.txt --output named")).expect_success();
    let evaluation = mpirun(2, folder, "eval named --json");
    let evaluation: Value = serde_json::from_str(&evaluation.expect_success().stdout).unwrap();
    assert_eq!(evaluation["classes"][2]["name"], "z");
    let refused = mpirun(2, folder, &format!("--data set.npz {SMALL} --classes one.txt --output refused"));
    assert_eq!(refused.error_lines().len(), 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("--classes one.txt: 1 names, and set.npz has 2 classes"), "{}", refused.stderr);
}

#[test]
fn folders_of_numbers_are_learned_from_with_and_without_a_cache() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    for (split, count, seed) in SPLITS {
        let made = made(count, CHANNELS, seed);
        for (index, brightest) in made.brightest.iter().enumerate() {
            write_image(&folder.join(format!("set/{split}/quarter{brightest}/{index:03}.npy")), &made, index);
        }
    }
    // Images of the size that is seen: scaled or not, a cache of pixels holds them as they are.
    let train = |format: &str| {
        let run = format!("run-{format}");
        let flags = format!("--data set {USUAL} --epochs 25 --cache-format {format} --output {run}");
        let outcome = mpirun(2, folder, &flags);
        outcome.expect_success();
        assert_eq!(outcome.stderr.matches("images are read unchanged: 2 channels of uint16").count(), 1);
        (fs::read(folder.join(&run).join("last.safetensors")).unwrap(), run)
    };
    let runs = ["pixels", "encoded", "none"].map(train);
    let evaluations: Vec<String> = [1, 2, 4]
        .map(|ranks| mpirun(ranks, folder, "eval run-pixels --batch 8 --json").expect_success().stdout.clone())
        .into();
    assert!(evaluations.windows(2).all(|pair| pair[0] == pair[1]), "{evaluations:?}");
    let scores: Value = serde_json::from_str(&evaluations[0]).unwrap();
    assert!(scores["top1"].as_f64().unwrap() > 0.8, "{}", scores["top1"]);
    // What the card of the weights knows of the plan names the format: all else is equal.
    let weights = runs.map(|(weights, _)| weights[weights.len() - 4096..].to_vec());
    assert!(weights[0] == weights[1] && weights[1] == weights[2], "the weights differ");
    assert!(folder.join("set/.rust-train/pixels-12-bilinear-as-stored-exact-of-uint16x2.h5").is_file());

    let predicted = mpirun(1, folder, "predict --weights run-pixels set/val --json");
    predicted.expect_success();
    let is_right = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["image"].as_str().unwrap().contains(line["classes"][0]["class"].as_str().unwrap())
    };
    let right = predicted.stdout.lines().filter(|line| is_right(line)).count();
    assert_eq!(right, (scores["top1"].as_f64().unwrap() * 61.0).round() as usize);

    // Scaled on their way into the cache, which then holds other numbers than the files; with a value that stands for none.
    let scaled = USUAL.replace("12", "10");
    mpirun(2, folder, &format!("--data set {scaled} --epochs 2 --nan mean --output scaled")).expect_success();
    let runs =
        [1, 2].map(|ranks| mpirun(ranks, folder, "eval scaled --batch 8 --json").expect_success().stdout.clone());
    assert_eq!(runs[0], runs[1]);
    let told: Value = serde_json::from_str(&runs[0]).unwrap();
    let last = fs::read_to_string(folder.join("scaled/metrics.jsonl")).unwrap();
    let losses = last.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["val_loss"].clone());
    let best = losses.filter_map(|loss| loss.as_f64()).map(|loss| (loss - told["loss"].as_f64().unwrap()).abs());
    assert!(best.fold(1.0, f64::min) < 1e-4, "eval scores what training scored: {told}");
    mpirun(1, folder, "predict --weights scaled set/val/quarter0").expect_success();

    // One that is other than the first.
    fs::write(folder.join("set/val/quarter0/x.npy"), npy("<f4", &[SIDE, SIDE], &[0; SIDE * SIDE * 4])).unwrap();
    let refused = mpirun(2, folder, &format!("--data set {USUAL} --epochs 1 --output other"));
    let lines = refused.error_lines();
    assert_eq!((refused.status, lines.len()), (Some(2), 1), "{}", refused.stderr);
    assert!(lines[0].contains("x.npy") && lines[0].contains("it has 1 channel of float32"), "{lines:?}");
    let skipped = mpirun(2, folder, &format!("--data set {USUAL} --epochs 1 --on-bad-image skip --output other"));
    assert!(skipped.expect_success().stderr.contains("1 images cannot be decoded"), "{}", skipped.stderr);
    let rgb = mpirun(2, folder, &format!("--data set {USUAL} --epochs 1 --read-mode rgb --output rgb"));
    assert!(rgb.status == Some(2) && rgb.stderr.contains("it is not an image of a known format"), "{}", rgb.stderr);
}

/// Stacks of a microscope: each page is an image with the label of its file, and gives what a file of its own gives.
#[test]
fn pages_of_tiff_files_are_images() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let mut stacks = BTreeMap::<String, Vec<Vec<u16>>>::new();
    for (split, count, seed) in [("train", 96, 1), ("val", 30, 2)] {
        let made = made(count, 1, seed);
        for (index, brightest) in made.brightest.iter().enumerate() {
            let pixels = &made.images[index * SIDE * SIDE..(index + 1) * SIDE * SIDE];
            let pixels: Vec<u16> = pixels.iter().map(|&value| value as u16).collect();
            let class = format!("{split}/quarter{brightest}");
            let file = folder.join(format!("files/{class}/{index:03}.npy"));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, npy("<u2", &[SIDE, SIDE], &bytes(&pixels, u16::to_le_bytes))).unwrap();
            stacks.entry(class).or_default().push(pixels);
        }
    }
    for (class, pages) in stacks {
        // The last page of a class in a file of its own, which is no stack.
        let (last, rest) = pages.split_last().unwrap();
        for (name, pages) in [("1.tif", rest), ("2.tif", std::slice::from_ref(last))] {
            let path = folder.join(format!("stacks/{class}/{name}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut encoder = TiffEncoder::new(File::create(path).unwrap()).unwrap();
            for page in pages {
                encoder.write_image::<Gray16>(SIDE as u32, SIDE as u32, page).unwrap();
            }
        }
    }
    let small = USUAL.replace("--batch 32", "--batch 8");
    let train = |set: &str, ranks: usize, more: &str| {
        let run = format!("run-{set}-{ranks}{}", more.replace([' ', '-'], ""));
        let outcome = mpirun(ranks, folder, &format!("--data {set} {small} --epochs 2 {more} --output {run}"));
        outcome.expect_success();
        let weights = fs::read(folder.join(&run).join("last.safetensors")).unwrap();
        (weights[weights.len() - 4096..].to_vec(), run)
    };
    let (expected, _) = train("files", 2, "");
    for format in ["pixels", "none"] {
        let (weights, run) = train("stacks", 2, &format!("--tiff-pages images --cache-format {format}"));
        assert!(weights == expected, "{format}: the weights differ");
        let scores = mpirun(2, folder, &format!("eval {run} --json")).expect_success().stdout.clone();
        let scores: Value = serde_json::from_str(&scores).unwrap();
        assert_eq!(scores["samples"], 30, "{scores}");
    }
    let again = mpirun(2, folder, &format!("--data stacks {small} --epochs 1 --tiff-pages images --output again"));
    assert!(again.expect_success().stderr.contains("reusing the dataset cache"), "{}", again.stderr);
    let channels = mpirun(2, folder, &format!("--data stacks {small} --epochs 1 --output channels"));
    assert!(channels.status == Some(2) && channels.error_lines().len() == 1, "{}", channels.stderr);

    let path = folder.join("stacks/train/quarter0/1.tif");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 40]).unwrap();
    let cut = mpirun(2, folder, &format!("--data stacks {small} --epochs 1 --tiff-pages images --output cut"));
    assert_eq!((cut.status, cut.error_lines().len()), (Some(2), 1), "{}", cut.stderr);
    assert!(
        cut.error_lines()[0].contains("stacks/train/quarter0/1.tif: ") && cut.stderr.contains("cut off"),
        "{}",
        cut.stderr
    );
}

/// A table of images with labels for every task.
fn write_table(folder: &Path) {
    let mut table = "name,split,brightest,b0,b1,b2,b3,list,v0,v1,v2,v3,s0,s1,s2,s3\n".to_owned();
    for (split, count, seed) in SPLITS {
        let made = made(count, CHANNELS, seed);
        for index in 0..count {
            let name = format!("images/{split}-{index:03}");
            write_image(&folder.join(format!("{name}.npy")), &made, index);
            let of = |quarter: usize| 4 * index + quarter;
            let brightest = made.brightest[index];
            let flags = [0, 1, 2, 3].map(|quarter| made.bright[of(quarter)]);
            let list: Vec<_> =
                (0..4).filter(|&quarter| flags[quarter] == 1).map(|quarter| format!("q {quarter}")).collect();
            let values = [0, 1, 2, 3].map(|quarter| made.brightness[of(quarter)]);
            // Nobody is quite sure: a tenth of the share is another quarter's.
            let shares = [0, 1, 2, 3].map(|quarter| match quarter as i64 == brightest {
                true => 0.9,
                false => {
                    if quarter as i64 == (brightest + 1) % 4 {
                        0.1
                    } else {
                        0.0
                    }
                }
            });
            write!(table, "{name},{split},quarter {brightest}").unwrap();
            flags.iter().for_each(|flag| write!(table, ",{flag}").unwrap());
            write!(table, ",{}", list.join("|")).unwrap();
            values.iter().chain(&shares).for_each(|value| write!(table, ",{value}").unwrap());
            table.push('\n');
        }
    }
    fs::write(folder.join("set.csv"), table).unwrap();
}

#[test]
fn a_table_has_labels_for_every_task() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write_table(folder);
    let image = "--table set.csv --column-image name";
    for (number, (task, labels, metric, least)) in [
        ("classify", "brightest", "top1", 0.8),
        ("classify", "s0,s1,s2,s3", "top1", 0.8),
        ("multilabel", "b0,b1,b2,b3", "map", 0.85),
        ("multilabel", "list", "map", 0.85),
        ("regress", "v0,v1,v2,v3", "r2", 0.75),
    ]
    .into_iter()
    .enumerate()
    {
        let run = format!("run-{number}");
        let flags = format!("{image} --column-label {labels} --task {task} {USUAL} --epochs 25 --output {run}");
        let trained = mpirun(2, folder, &flags);
        trained.expect_success();
        assert!(trained.stderr.contains(&format!("labels in {}", labels.replace(',', ", "))), "{}", trained.stderr);
        // The run knows its table; another is named.
        let evaluate = |ranks, flags: &str| {
            mpirun(ranks, folder, &format!("eval {run} --batch 8 --json {flags}")).expect_success().stdout.clone()
        };
        let own = evaluate(1, "");
        let others = [evaluate(2, ""), evaluate(4, ""), evaluate(2, "--table set.csv")];
        assert!(others.iter().all(|other| *other == own), "{task} of {labels}: {own}\n{}", others.join("\n"));
        let scores: Value = serde_json::from_str(&own).unwrap();
        assert!(scores[metric].as_f64().unwrap() > least, "{task} of {labels}: {}", scores[metric]);
        assert_eq!(scores["samples"], 61);
    }
    let again = mpirun(2, folder, &format!("{image} --column-label brightest {USUAL} --epochs 1 --output again"));
    assert!(again.expect_success().stderr.contains("reusing the dataset cache"), "{}", again.stderr);
    // The run's table with its images elsewhere; without a table a folder has no such labels.
    fs::create_dir_all(folder.join("moved")).unwrap();
    fs::rename(folder.join("images"), folder.join("moved/images")).unwrap();
    let moved = mpirun(2, folder, "eval run-4 --data moved --batch 8 --json").expect_success().stdout.clone();
    assert_eq!(serde_json::from_str::<Value>(&moved).unwrap()["samples"], 61);
    fs::create_dir_all(folder.join("classes/val/quarter0")).unwrap();
    let refused = mpirun(2, folder, "eval run-4 --data classes");
    let lines = refused.error_lines();
    assert_eq!((refused.status, lines.len()), (Some(2), 1), "{}", refused.stderr);
    assert!(lines[0].contains("folders give classes"), "{lines:?}");
}

#[test]
fn every_mistake_of_a_table_is_said_once_with_its_line() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let pixels = bytes(&(0..SIDE * SIDE).map(noise).collect::<Vec<_>>(), f32::to_le_bytes);
    for name in ["a", "b"] {
        fs::write(folder.join(format!("{name}.npy")), npy("<f4", &[SIDE, SIDE], &pixels)).unwrap();
    }
    for (table, flags, words) in [
        ("image,label\na.npy,x\nc.npy,y\n", "", "t.csv:3: ./c.npy: no such image"),
        ("image,label\na.npy,x\nb.npy,\n", "", "t.csv:3: no label in column 'label'"),
        ("image,label\na.npy,x\nb.npy,y,z\n", "", "t.csv:3: has 3 fields, and the header 2"),
        ("image,v\na.npy,1\nb.npy,?\n", "--task regress", "t.csv:3: '?' in column 'v' is not a number"),
        ("image,v\na.npy,1\nb.npy,2\n", "--task multilabel --column-label v,w", "--column-label w: no such column"),
        ("image,label\na.npy,x\nb.npy,y\n", "--data set.h5", "--table t.csv: is of image files"),
        ("image,label\na.npy,x\nb.npy,y\n", "--label-separator ;", "--label-separator ';': is for --task multilabel"),
        ("image,label\na.npy,x\nb.npy,y\n", "--labels y", "--labels: is for --data FILE"),
    ] {
        fs::write(folder.join("t.csv"), table).unwrap();
        fs::write(folder.join("set.h5"), "").unwrap();
        let flags = format!("--table t.csv {flags} --model lenet --image-size 12 --batch 2 --epochs 1 --output out");
        let outcome = mpirun(2, folder, &flags);
        let lines = outcome.error_lines();
        assert_eq!((outcome.status, lines.len()), (Some(2), 1), "{flags}: {}", outcome.stderr);
        assert!(lines[0].contains(words), "{words}: {lines:?}");
        assert!(!folder.join("out").exists());
    }
}
