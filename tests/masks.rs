//! Images with masks: learned from folders, tables and files, with every cache, on any number of ranks.

use std::fs;
use std::path::Path;
use std::time::Duration;

use image::{GrayImage, Luma, Rgb, RgbImage};
use multi_rank_tests::arrays::{bytes, noise, npy, npz};
use multi_rank_tests::{Mpirun, Outcome, binary};
use serde_json::Value;
use zip::CompressionMethod;

const WIDTH: u32 = 40;
const HEIGHT: u32 = 32;
/// Pixels that do not count.
const NONE: u8 = 255;

fn mpirun(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    let launcher = Mpirun::new(ranks).directory(folder).timeout(Duration::from_secs(240));
    launcher.run(&binary("rust-train"), arguments.split_whitespace())
}

/// The class at a pixel of image `index`: 1 in a rectangle, 2 in a circle over it, 0 elsewhere; none at the left edge.
fn class(index: usize, x: u32, y: u32) -> u8 {
    let at = |number: usize, most: f32| noise(index * 8 + number) * most;
    let (x, y) = (x as f32, y as f32);
    let (left, top) = (at(0, 20.0), at(1, 14.0));
    let (middle, center) = (8.0 + at(2, 24.0), 8.0 + at(3, 16.0));
    match () {
        () if x < 1.0 => NONE,
        () if (x - middle).hypot(y - center) < 6.0 => 2,
        () if (left..left + 16.0).contains(&x) && (top..top + 14.0).contains(&y) => 1,
        () => 0,
    }
}

fn image(index: usize) -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let grain = (noise((index * 7919) ^ (y * WIDTH + x) as usize) * 60.0) as u8;
        let [red, green, blue] = [[30, 40, 50], [150, 60, 40], [60, 150, 90]][usize::from(class(index, x, y) % NONE)];
        Rgb([red + grain, green + grain / 2, blue + grain / 3])
    })
}

/// What stands in masks for a class.
fn number(class: u8) -> u8 {
    [0, 10, 20].get(usize::from(class)).copied().unwrap_or(NONE)
}

fn mask(index: usize) -> GrayImage {
    GrayImage::from_fn(WIDTH, HEIGHT, |x, y| Luma([number(class(index, x, y))]))
}

const SPLITS: [(&str, usize, usize); 2] = [("train", 64, 0), ("val", 13, 500)];

/// `set/train/images/000.png` and `set/train/masks/000.png`.
fn write_set(folder: &Path) {
    for (split, count, first) in SPLITS {
        for kind in ["images", "masks"] {
            fs::create_dir_all(folder.join("set").join(split).join(kind)).unwrap();
        }
        for index in 0..count {
            let at = |kind: &str| folder.join(format!("set/{split}/{kind}/{index:03}.png"));
            image(first + index).save(at("images")).unwrap();
            mask(first + index).save(at("masks")).unwrap();
        }
    }
}

const USUAL: &str = "--task segment --model unet_small --image-size 32 --batch 16 --lr 0.05 --warmup 1";

/// What an evaluation on two ranks prints.
fn scores(folder: &Path, run: &str, flags: &str) -> Value {
    let outcome = mpirun(2, folder, &format!("eval {run} --batch 4 --json {flags}"));
    serde_json::from_str(&outcome.expect_success().stdout).unwrap()
}

/// What an evaluation prints: equal to the last digit on any number of ranks.
fn evaluated(folder: &Path, run: &str, flags: &str) -> Value {
    let scored = [1, 2, 4].map(|ranks| {
        let outcome = mpirun(ranks, folder, &format!("eval {run} --batch 4 --json {flags}"));
        outcome.expect_success().stdout.clone()
    });
    let read = |text: &String| serde_json::from_str::<Value>(text).unwrap();
    for other in &scored[1..] {
        let (one, other) = (read(&scored[0]), read(other));
        let differing = one.as_object().unwrap().iter().find(|(key, value)| other[key.as_str()] != **value);
        let differing = differing.map(|(key, value)| (key, value, &other[key.as_str()]));
        assert!(differing.is_none(), "{differing:?}");
    }
    assert!(scored.windows(2).all(|pair| pair[0] == pair[1]));
    read(&scored[0])
}

#[test]
fn masks_are_learned_with_every_cache_and_scored_alike_on_any_number_of_ranks() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write_set(folder);
    for (format, loss) in [("pixels", "ce-dice"), ("encoded", "ce"), ("none", "dice")] {
        let flags =
            format!("--data set {USUAL} --epochs 8 --cache-format {format} --loss {loss} --output run-{format}");
        let trained = mpirun(2, folder, &flags);
        trained.expect_success();
        let said = "the masks have 3 classes, with the numbers 0,10,20 ignored 255";
        assert_eq!(trained.stderr.matches(said).count(), 1, "{}", trained.stderr);
        let scores = evaluated(folder, &format!("run-{format}"), "");
        assert!(scores["miou"].as_f64().unwrap() > 0.75, "{format}: {} {}", scores["miou"], trained.stderr);
        assert_eq!(scores["outputs"][1]["name"], "10");
        // What was scored in training is scored again, by the same loss.
        let record = fs::read_to_string(folder.join(format!("run-{format}/metrics.jsonl"))).unwrap();
        let lines = record.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let best = lines.filter(|line| line["miou"] == scores["miou"]).map(|line| line["val_loss"].as_f64().unwrap());
        let off = best.map(|loss| (loss - scores["loss"].as_f64().unwrap()).abs()).fold(1.0, f64::min);
        assert!(off < 1e-5, "{format}: {off} {}", scores["loss"]);
        let page = fs::read_to_string(folder.join(format!("run-{format}/report.html"))).unwrap();
        assert!(page.contains("Classes of pixels") && page.contains("Worst masks") && page.contains("Best mIoU"));
        assert!(!page.contains("Confusion"));
    }
    assert!(
        folder.join("set/.rust-train/pixels-32-bilinear-as-stored-squash-with-masks-0,10,20-ignored-255.h5").is_file()
    );
    mpirun(2, folder, &format!("cache --verify --data set {}", USUAL.split(" --batch").next().unwrap()))
        .expect_success();

    // Masks of the images' size, with the numbers of the masks that were trained on.
    mpirun(1, folder, "predict --weights run-pixels --output told set/val/images").expect_success();
    let (mut right, mut counted) = (0, 0);
    for index in 0..13 {
        let told = image::open(folder.join(format!("told/{index:03}.png"))).unwrap();
        assert_eq!((told.width(), told.height()), (WIDTH, HEIGHT));
        let colours = told.to_rgb8();
        let colour = |class: u8| Rgb([[0, 0, 0], [128, 0, 128], [64, 0, 64]][usize::from(class)]);
        let truth = (0..WIDTH * HEIGHT)
            .map(|pixel| (pixel % WIDTH, pixel / WIDTH))
            .map(|(x, y)| (x, y, class(500 + index, x, y)));
        for (x, y, class) in truth.filter(|(.., class)| *class != NONE) {
            counted += 1;
            right += usize::from(
                *colours.get_pixel(x, y) == colour(class) || class == 1 && colours.get_pixel(x, y).0 != [0; 3],
            );
        }
    }
    assert!(right * 10 > counted * 8, "{right} of {counted}");
    // They are masks that can be learned from, and the model agrees with itself.
    fs::rename(folder.join("told"), folder.join("set/val/masks-of-model")).unwrap();
    fs::create_dir_all(folder.join("again/val")).unwrap();
    fs::rename(folder.join("set/val/masks-of-model"), folder.join("again/val/masks")).unwrap();
    std::os::unix::fs::symlink(folder.join("set/val/images"), folder.join("again/val/images")).unwrap();
    std::os::unix::fs::symlink(folder.join("set/train"), folder.join("again/train")).unwrap();
    let itself = scores(folder, "run-pixels", "--data again");
    assert!(itself["miou"].as_f64().unwrap() > 0.9, "{}", itself["miou"]);
    // Nothing but images to validate on.
    std::os::unix::fs::symlink("set", folder.join("whole")).unwrap();
    fs::create_dir_all(folder.join("only")).unwrap();
    std::os::unix::fs::symlink(folder.join("set/val"), folder.join("only/Validation")).unwrap();
    let [whole, only] = ["whole", "only"].map(|data| scores(folder, "run-pixels", &format!("--data {data}")));
    assert!(whole["samples"] == 13 && whole["miou"] == only["miou"], "{whole} {only}");
    // Masks of two folders of images keep apart, and none takes an image's place.
    mpirun(1, folder, "predict --weights run-pixels --output apart set").expect_success();
    assert!(folder.join("apart/val/images/000.png").is_file() && folder.join("apart/train/images/000.png").is_file());
    let whole = fs::read(folder.join("set/val/images/000.png")).unwrap();
    let over = mpirun(1, folder, "predict --weights run-pixels --output set/val/images set/val/images");
    assert_eq!((over.status, over.error_lines().len()), (Some(2), 1), "{}", over.stderr);
    assert!(over.stderr.contains("set/val/images/000.png, an image; name another folder"), "{}", over.stderr);
    assert!(whole == fs::read(folder.join("set/val/images/000.png")).unwrap());
    let json = mpirun(1, folder, "predict --weights run-pixels --json set/val/images/000.png");
    let json: Value = serde_json::from_str(json.expect_success().stdout.trim()).unwrap();
    let sum: f64 = json["classes"].as_array().unwrap().iter().map(|class| class["share"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9 && json.get("mask").is_none(), "{json}");
}

#[test]
fn tables_lists_and_files_have_masks_and_give_the_same_weights() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write_set(folder);
    let mut table = "picture,mask,split\n".to_owned();
    let mut arrays = Vec::new();
    for (split, count, first) in SPLITS {
        let names =
            (0..count).map(|index| (format!("{split}/images/{index:03}.png"), format!("{split}/masks/{index:03}.png")));
        table.extend(names.clone().map(|(image, mask)| format!("{image},{mask},{split}\n")));
        let list: String = names.map(|(image, mask)| format!("set/{image}\tset/{mask}\n")).collect();
        fs::write(folder.join(format!("{split}.tsv")), list).unwrap();
        let shape = [count, HEIGHT as usize, WIDTH as usize];
        let pixels = (0..count).flat_map(|index| image(first + index).into_raw()).collect::<Vec<u8>>();
        arrays.push((format!("{split}_images"), "|u1", [&shape[..], &[3]].concat(), pixels));
        let masks: Vec<i64> = (0..count).flat_map(|index| mask(first + index).into_raw()).map(i64::from).collect();
        arrays.push((format!("{split}_masks"), "<i8", shape.to_vec(), bytes(&masks, i64::to_le_bytes)));
    }
    fs::write(folder.join("t.csv"), table).unwrap();
    let arrays: Vec<_> =
        arrays.iter().map(|(name, kind, shape, bytes)| (name.as_str(), *kind, shape.clone(), bytes.clone())).collect();
    npz(&folder.join("set.npz"), CompressionMethod::Stored, &arrays);
    fs::write(folder.join("names.txt"), "sky\nsea\nship\n").unwrap();
    let weights = |run: &str, flags: &str| {
        let flags = format!("{flags} {USUAL} --epochs 2 --classes names.txt --mask-values 0,10,20 --output {run}");
        mpirun(2, folder, &flags).expect_success();
        assert_eq!(scores(folder, run, "")["outputs"][2]["name"], "ship");
        let bytes = fs::read(folder.join(run).join("last.safetensors")).unwrap();
        bytes[bytes.len() - 65536..].to_vec()
    };
    let of_folder = weights("folder", "--data set --cache-format none");
    assert!(of_folder == weights("table", "--table t.csv --data set --column-image picture --cache-format none"));
    assert!(of_folder == weights("list", "--data . --cache-format none"));
    assert!(of_folder == weights("file", "--data set.npz --normalize imagenet"));
}

/// Images of five channels, some of which lack numbers; masks of 0 and 255, which are two classes where two are named.
#[test]
fn numbers_have_masks_and_two_classes_may_be_black_and_white() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write_set(folder);
    for (split, count, first) in SPLITS {
        for index in 0..count {
            let at = |kind: &str, ending: &str| folder.join(format!("set/{split}/{kind}/{index:03}.{ending}"));
            let pixels = image(first + index);
            let plane = |channel: usize| pixels.pixels().map(move |pixel| f32::from(pixel.0[channel % 3]) / 255.0);
            let mut planes: Vec<f32> = (0..5).flat_map(plane).collect();
            planes[index * 3] = f32::NAN;
            let shape = [5, HEIGHT as usize, WIDTH as usize];
            fs::write(at("images", "npy"), npy("<f4", &shape, &bytes(&planes, f32::to_le_bytes))).unwrap();
            fs::remove_file(at("images", "png")).unwrap();
            let black = |x, y| if [0, NONE].contains(&class(first + index, x, y)) { 0 } else { 255 };
            GrayImage::from_fn(WIDTH, HEIGHT, |x, y| Luma([black(x, y)])).save(at("masks", "png")).unwrap();
        }
    }
    fs::write(folder.join("names.txt"), "sea\nland\n").unwrap();
    for format in ["pixels", "encoded", "none"] {
        let flags = format!("--data set {USUAL} --epochs 2 --cache-format {format} --output run-{format}");
        let trained = mpirun(2, folder, &format!("{flags} --classes names.txt --nan mean"));
        let said = "the masks have 2 classes, with the numbers 0,255";
        assert_eq!(trained.expect_success().stderr.matches(said).count(), 1, "{}", trained.stderr);
        let scores = evaluated(folder, &format!("run-{format}"), "");
        let record = fs::read_to_string(folder.join(format!("run-{format}/metrics.jsonl"))).unwrap();
        let lines = record.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        assert_eq!(lines.filter(|line| line["miou"] == scores["miou"]).count(), 1, "{scores}");
        assert_eq!(scores["outputs"][1]["name"], "land");
        let without = mpirun(2, folder, &format!("{flags}-nan --classes names.txt"));
        assert!(without.status.is_some_and(|status| status > 0) && without.stderr.contains("has NaN"), "{format}");
    }
}

#[test]
fn a_run_goes_on_with_the_same_bits() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write_set(folder);
    let flags = format!(
        "--data set {USUAL} --epochs 3 --loss ce-dice --checkpoint-steps 3 --keep-checkpoints 9 --quarter-turns --rotate 20"
    );
    mpirun(2, folder, &format!("{flags} --output whole")).expect_success();
    let resume = "--resume whole/checkpoints/step-00000006";
    mpirun(2, folder, &format!("{flags} --output parts {resume}")).expect_success();
    let weights = |run: &str| fs::read(folder.join(run).join("last.safetensors")).unwrap();
    assert!(weights("whole") == weights("parts"), "the weights differ");
    mpirun(1, folder, &format!("{flags} --output other {resume}")).expect_success();
    let other = mpirun(2, folder, &format!("{flags} --ignore-index 0 --output third {resume}"));
    assert!(other.error_lines().len() == 1 && other.stderr.contains("ignore-index"), "{}", other.stderr);
}

#[test]
fn every_fault_is_said_once_with_its_place() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write_set(folder);
    let at = |name: &str| folder.join("set/val/masks").join(name);
    let whole = fs::read(at("003.png")).unwrap();
    type Spoil<'a> = Box<dyn Fn() + 'a>;
    let cases: Vec<(Spoil<'_>, &str)> = vec![
        (Box::new(|| fs::write(at("003.png"), &whole[..whole.len() / 2]).unwrap()), "003.png: not a usable mask: "),
        (
            Box::new(|| GrayImage::from_pixel(30, 32, Luma([0])).save(at("003.png")).unwrap()),
            "003.png: not a usable mask: it has 30×32 pixels, and the image 40×32",
        ),
        (
            Box::new(|| GrayImage::from_pixel(WIDTH, HEIGHT, Luma([7])).save(at("003.png")).unwrap()),
            "003.png: not a usable mask: 7 is the number of no class; there are 0,10,20 ignored 255",
        ),
        (
            Box::new(|| image(3).save(at("003.png")).unwrap()),
            "003.png: not a usable mask: it has 3 channels; a mask has one",
        ),
        (
            Box::new(|| {
                let numbers = bytes(&vec![0.0_f32; (WIDTH * HEIGHT) as usize], f32::to_le_bytes);
                fs::write(at("003.npy"), npy("<f4", &[HEIGHT as usize, WIDTH as usize], &numbers)).unwrap();
                fs::remove_file(at("003.png")).unwrap();
            }),
            "003.npy: not a usable mask: its values are float32; masks hold whole numbers",
        ),
        (Box::new(|| fs::remove_file(at("003.png")).unwrap()), "003.png: has no mask; "),
    ];
    for (number, (spoil, words)) in cases.iter().enumerate() {
        fs::write(at("003.png"), &whole).unwrap();
        let _ = fs::remove_file(at("003.npy"));
        spoil();
        for format in ["pixels", "encoded", "none"] {
            let flags = format!("--data set {USUAL} --epochs 1 --cache-format {format}");
            let outcome = mpirun(2, folder, &format!("{flags} --output out-{number}-{format}"));
            let lines = outcome.error_lines();
            // Without a cache a mask is read when its turn comes.
            let status = if format == "none" && number < 5 { 1..=2 } else { 2..=2 };
            assert!(outcome.status.is_some_and(|own| status.contains(&own)), "{words} {format}: {}", outcome.stderr);
            assert!(lines.len() == 1 && lines[0].contains(words), "{words} {format}: {lines:?}");
        }
        if number < 5 {
            let flags = format!("--data set {USUAL} --epochs 1 --on-bad-image skip --output skipped-{number}");
            let skipped = mpirun(2, folder, &flags);
            assert!(skipped.expect_success().stderr.contains("1 images cannot be decoded and are left out"), "{words}");
            assert_eq!(scores(folder, &format!("skipped-{number}"), "")["samples"], 12, "{words}");
        }
    }
    fs::write(at("003.png"), &whole).unwrap();
    mpirun(1, folder, "--epochs 1 --output digits").expect_success();
    fs::write(folder.join("two.txt"), "a\nb\n").unwrap();
    for (flags, words) in [
        ("--data set --task segment --epochs 1", "--model cifar_resnet20: does not tell the class of each pixel"),
        (
            "--data set --model unet_small --epochs 1",
            "--model unet_small: tells the class of each pixel; it is for --task segment",
        ),
        ("--task segment --model unet_small", "--task segment: needs --data, with images and masks"),
        (
            "--data set/val/images --task segment --model unet_small",
            "set/val/images: no images and masks to train on; ",
        ),
        (
            "--data set --task segment --model unet_small --mask-values 0,10 --batch 16 --image-size 32",
            "20 is the number of no class",
        ),
        (
            "--data set --task segment --model unet_small --mask-values 0,10,20 --classes two.txt",
            "--mask-values: 3 numbers, and there are 2",
        ),
        (
            "--data set --task segment --model unet_small --image-size 32 --classes two.txt",
            "the masks have the numbers 0, 10, 20, and there are 2 classes",
        ),
        ("--data set --task segment --model unet_small --ignore-index some", "'some' is neither a number nor none"),
        ("--data set --task segment --model unet_small --cutmix 1", "--cutmix: --task segment does not know it"),
        ("eval skipped-0 --logits out.tsv", "--logits: is for rows of numbers"),
        ("eval skipped-0 --mask-values 0,10", "--mask-values: 2 numbers, and the weights tell 3 classes apart"),
        (
            "predict --weights digits --output masks set/val/images",
            "--output: is for weights that tell the class of each pixel",
        ),
        (
            "predict --weights skipped-0 --output masks set/val/images/001.png set/val/masks/001.png",
            "would have masks of the same name",
        ),
    ] {
        let ranks = if flags.starts_with("predict") || flags.contains("--logits") { 1 } else { 2 };
        let outcome = mpirun(ranks, folder, flags);
        assert_eq!((outcome.status, outcome.error_lines().len()), (Some(2), 1), "{flags}: {}", outcome.stderr);
        assert!(outcome.error_lines()[0].contains(words), "{flags}: {}", outcome.stderr);
    }
}
