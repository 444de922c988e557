use super::*;
use crate::{Contents, Crop, Listing, Mix, Spec, cache, unwatched};
use augmentations::{ColorJitter, HorizontalFlip, Policy};
use proptest::prelude::*;

/// Twenty images of 4×4 pixels, each filled with its own number.
fn images() -> Arc<ImageSet> {
    let pixels = (0..20u8).flat_map(|number| [number + 1; 48]).collect();
    Arc::new(ImageSet::from_memory(pixels, (0..20).collect(), 4))
}

fn config() -> LoaderConfig {
    let augmentation = Augmentation {
        crop: Crop::Padded { padding: 2 },
        changes: vec![Arc::new(HorizontalFlip), Arc::new(Policy::TrivialAugmentWide)],
        ..Augmentation::NONE
    };
    LoaderConfig { augmentation, seed: 7, ..LoaderConfig::new(6, 4) }
}

/// The batches of all ranks, put together again.
fn global_batches(config: &LoaderConfig, ranks: usize, epoch: u64) -> Vec<(Vec<u8>, Vec<i64>, Vec<i64>)> {
    let mut global = Vec::new();
    for rank in 0..ranks {
        let loader = Loader::new(images(), Shard::new(rank, ranks), config.clone());
        for (step, batch) in loader.train(epoch, 0).enumerate() {
            let batch = batch.unwrap();
            global.resize(global.len().max(step + 1), (Vec::new(), Vec::new(), Vec::new()));
            global[step].0.extend_from_slice(&batch.pixels);
            global[step].1.extend(batch.labels);
            global[step].2.extend(batch.mixed.map(|mixed| mixed.labels).unwrap_or_default());
        }
    }
    global
}

#[test]
fn batches_do_not_depend_on_ranks_or_threads() {
    let plain = config();
    let mixed =
        |mix| LoaderConfig { augmentation: Augmentation { mix, ..plain.augmentation.clone() }, ..plain.clone() };
    let configs = [
        plain.clone(),
        mixed(Mix { mixup: 0.2, cutmix: 0.0 }),
        mixed(Mix { mixup: 0.0, cutmix: 1.0 }),
        LoaderConfig { repeats: 3, ..plain.clone() },
        LoaderConfig { sampling: Sampling::Balanced, ..plain.clone() },
        LoaderConfig { last_batch: LastBatch::Short, ..plain.clone() },
    ];
    for config in configs {
        let alone = global_batches(&config, 1, 5);
        assert_eq!(alone.len(), if config.last_batch == LastBatch::Short { 4 } else { 3 });
        for (ranks, threads) in [(1, 4), (2, 1), (3, 2), (6, 1)] {
            let config = LoaderConfig { threads, ..config.clone() };
            assert_eq!(global_batches(&config, ranks, 5), alone, "{ranks} ranks, {threads} threads, {config:?}");
        }
        assert_ne!(global_batches(&config, 1, 6), alone);
    }
}

/// What a run sees is part of what its checkpoints mean: these hashes were taken before there were draws.
#[test]
fn plain_batches_are_what_they_always_were() {
    let mixed = Augmentation { mix: Mix { mixup: 0.4, cutmix: 1.0 }, ..config().augmentation };
    for (config, expected) in [
        (config(), "2a42c402f425949e22976438506beccddadb6edfc19c9caef376d2d3e9db4aad"),
        (
            LoaderConfig { augmentation: mixed, ..config() },
            "9bfa4c3e5f61ebb2ced0f7919b3ebbfc1b62ca1f0ff46bd7c29dd85b1a408401",
        ),
    ] {
        let mut hasher = blake3::Hasher::new();
        for (pixels, labels, others) in global_batches(&config, 2, 3) {
            hasher.update(&pixels);
            for label in labels.iter().chain(&others) {
                hasher.update(&label.to_le_bytes());
            }
        }
        assert_eq!(hasher.finalize().to_hex().as_str(), expected);
    }
}

#[test]
fn no_draw_of_a_sample_is_a_copy_of_another() {
    // One image of the first class, and fifteen of the other: a balanced epoch draws the one again and again.
    let pixels: Vec<u8> = (0..16 * 16 * 16 * 3).map(|value| (value * 7 % 251) as u8).collect();
    let images = Arc::new(ImageSet::from_memory(pixels, (0..16).map(|sample| i64::from(sample > 0)).collect(), 16));
    let augmentation = Augmentation {
        crop: Crop::Resized { least: 0.08 },
        changes: vec![Arc::new(HorizontalFlip), Arc::new(ColorJitter::of(0.4))],
        ..Augmentation::NONE
    };
    let plain = LoaderConfig { augmentation, seed: 3, ..LoaderConfig::new(16, 16) };
    for (sampling, repeats) in [(Sampling::Balanced, 1), (Sampling::Shuffled, 4), (Sampling::Balanced, 4)] {
        let config = LoaderConfig { sampling, repeats, ..plain.clone() };
        let loader = Loader::new(Arc::clone(&images), Shard::WHOLE, config);
        for epoch in 0..10 {
            let batch = loader.train(epoch, 0).next().unwrap().unwrap();
            let distinct: std::collections::HashSet<_> = batch.pixels.chunks(16 * 16 * 3).collect();
            assert_eq!(distinct.len(), 16, "{sampling:?}, {repeats} repeats, epoch {epoch}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each image is of one colour, that of its sample, which is its class too.
    #[test]
    fn images_are_mixed_with_others(
        (length, global_batch) in (1usize..40).prop_flat_map(|length| (Just(length), 1..=length)),
        repeats in 1usize..7,
        is_balanced: bool,
        is_short: bool,
        is_pasted: bool,
        ranks in 1usize..6,
        resumed in 0.0..1.0,
        seed: u64,
        epoch: u64,
    ) {
        let pixels = (0..length as u8).flat_map(|sample| [sample * 6; 48]).collect();
        let images = Arc::new(ImageSet::from_memory(pixels, (0..length as i64).collect(), 4));
        let mix = if is_pasted { Mix { mixup: 0.0, cutmix: 1.0 } } else { Mix { mixup: 0.8, cutmix: 0.0 } };
        let config = LoaderConfig {
            sampling: if is_balanced { Sampling::Balanced } else { Sampling::Shuffled },
            repeats,
            last_batch: if is_short { LastBatch::Short } else { LastBatch::Drop },
            augmentation: Augmentation { mix, ..Augmentation::NONE },
            seed,
            ..LoaderConfig::new(global_batch, 4)
        };
        // Each step's images and labels from all ranks, as one.
        let joined = |ranks: usize, first_step: usize| {
            let mut steps: Vec<(Vec<u8>, Vec<i64>, Vec<i64>, Option<f64>)> = Vec::new();
            for rank in 0..ranks {
                let loader = Loader::new(Arc::clone(&images), Shard::new(rank, ranks), config.clone());
                for (step, batch) in loader.train(epoch, first_step * global_batch).map(Result::unwrap).enumerate() {
                    steps.resize(steps.len().max(step + 1), Default::default());
                    let joined = &mut steps[step];
                    joined.0.extend_from_slice(&batch.pixels);
                    joined.1.extend(batch.labels);
                    if let Some(mixed) = batch.mixed {
                        assert_eq!(*joined.3.get_or_insert(mixed.share), mixed.share);
                        joined.2.extend(mixed.labels);
                    }
                }
            }
            steps
        };
        let steps = joined(1, 0);
        prop_assert_eq!(&joined(ranks, 0), &steps);
        let first = (resumed * (steps.len() + 1) as f64) as usize;
        prop_assert_eq!(&joined(ranks, first)[..], &steps[first..]);
        for (pixels, labels, others, share) in &steps {
            prop_assert_eq!(others.len(), labels.len());
            let is_one_sample = labels.iter().all(|label| label == &labels[0]);
            for ((image, &label), &other) in pixels.chunks(48).zip(labels).zip(others) {
                prop_assert_eq!(label == other, is_one_sample, "{:?} with {:?}", labels, others);
                // The pixels are a mixture of exactly these two, as they were before either was mixed.
                let (own, others_own, share) = (label as f64 * 6.0, other as f64 * 6.0, share.unwrap());
                let expected = own * share + others_own * (1.0 - share);
                let mean = image.iter().map(|&byte| f64::from(byte)).sum::<f64>() / 48.0;
                prop_assert!((mean - expected).abs() <= 0.6, "{} instead of {}", mean, expected);
            }
        }
        let drawn = |sample: i64| steps.iter().flat_map(|step| &step.1).filter(|&&label| label == sample).count();
        let total: usize = (0..length as i64).map(drawn).sum();
        prop_assert_eq!(total, if is_short { length } else { length / global_batch * global_batch });
        if !is_balanced {
            prop_assert!((0..length as i64).all(|sample| drawn(sample) <= repeats));
        }
        if !is_balanced && is_short {
            let whole = (0..length as i64).filter(|&sample| drawn(sample) == repeats).count();
            prop_assert_eq!(whole, length / repeats);
        }
    }
}

#[test]
fn a_short_last_batch_is_a_step_on_every_rank() {
    // 20 = 3 × 6 + 2: with three ranks, one has nothing in the last batch.
    let config = LoaderConfig { last_batch: LastBatch::Short, ..config() };
    let sizes = |rank| {
        let loader = Loader::new(images(), Shard::new(rank, 3), config.clone());
        loader.train(0, 0).map(|batch| batch.unwrap().len()).collect::<Vec<_>>()
    };
    assert_eq!([sizes(0), sizes(1), sizes(2)], [[2, 2, 2, 0], [2, 2, 2, 1], [2, 2, 2, 1]]);
}

#[test]
fn an_epoch_can_start_in_its_middle() {
    let pixels = |first_step: usize| {
        let loader = Loader::new(images(), Shard::new(0, 2), config());
        loader.train(1, first_step * 6).map(|batch| batch.unwrap().pixels.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(pixels(0)[2..], pixels(2));
    assert_eq!(pixels(0)[1..], pixels(1));
}

#[test]
fn an_epoch_goes_on_with_another_batch() {
    let loader = |batch: usize| {
        let pixels = (0..30u8).flat_map(|number| [number; 48]).collect();
        let images = Arc::new(ImageSet::from_memory(pixels, (0..30).collect(), 4));
        let augmentation = Augmentation { changes: vec![Arc::new(HorizontalFlip)], ..Augmentation::NONE };
        Loader::new(images, Shard::WHOLE, LoaderConfig { augmentation, seed: 7, ..LoaderConfig::new(batch, 4) })
    };
    let labels = |batches: Batches| batches.flat_map(|batch| batch.unwrap().labels).collect::<Vec<_>>();
    let whole = labels(loader(6).train(3, 0));
    assert_eq!(labels(loader(4).train(3, 6)), whole[6..30]);
    assert_eq!(labels(loader(7).train(3, 12)), whole[12..26], "the rest fills no batch");
    assert_eq!(labels(loader(7).train(3, 30)), [0; 0]);
}

#[test]
fn another_side_is_the_same_samples_smaller() {
    // Rows of 8 pixels that get brighter, so that an image of half the size is a mean of each two.
    let pixels = (0..12u8).flat_map(|number| (0..8u8).flat_map(move |row| [number * 8 + row * 16; 24])).collect();
    let images = Arc::new(ImageSet::from_memory(pixels, (0..12).collect(), 8));
    let augmentation = Augmentation { crop: Crop::Padded { padding: 2 }, ..Augmentation::NONE };
    let loader = Loader::new(images, Shard::new(1, 2), LoaderConfig { augmentation, ..LoaderConfig::new(4, 8) });
    let smaller = loader.at_side(4);
    let labels = |loader: &Loader| loader.train(2, 4).flat_map(|batch| batch.unwrap().labels).collect::<Vec<_>>();
    assert_eq!(labels(&smaller), labels(&loader));
    for batch in smaller.train(2, 0).map(Result::unwrap) {
        assert_eq!((batch.side, batch.pixels.len()), (4, 2 * 4 * 4 * 3));
    }
    let (whole, half) = (loader.evaluate().next().unwrap().unwrap(), smaller.evaluate().next().unwrap().unwrap());
    let mean = |bytes: &[u8]| bytes.iter().map(|&byte| f64::from(byte)).sum::<f64>() / bytes.len() as f64;
    assert!((mean(&whole.pixels) - mean(&half.pixels)).abs() < 2.0);
    // The padding shrinks with the images: half the pixels a side, a random window of which is cut out.
    assert_eq!(smaller.config.augmentation.crop, Crop::Padded { padding: 1 });
    assert_eq!(loader.at_side(4).at_side(8).config.side, 8);
}

#[test]
fn evaluation_sees_every_sample_once() {
    for ranks in [1, 2, 3, 7, 32] {
        let evaluate = |rank| Loader::new(images(), Shard::new(rank, ranks), config()).evaluate();
        let mut labels: Vec<_> =
            (0..ranks).flat_map(|rank| evaluate(rank).flat_map(|batch| batch.unwrap().labels)).collect();
        labels.sort_unstable();
        assert_eq!(labels, (0..20).collect::<Vec<_>>(), "{ranks} ranks");
    }
}

#[test]
fn a_trainer_may_leave_early() {
    let mut batches = Loader::new(images(), Shard::WHOLE, config()).train(0, 0);
    assert_eq!(batches.next().unwrap().unwrap().len(), 6);
    drop(batches);
}

/// Photographs of two sizes, as files, as `encoded` and as `pixels`.
fn folder() -> (tempfile::TempDir, Listing) {
    let root = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 9u32), ("val", 3)] {
        for class in ["ant", "bee"] {
            let folder = root.path().join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let image = image::RgbImage::from_fn(40 + number, 30, |x, y| {
                    image::Rgb([(x * 5) as u8, (y * 7) as u8, (number * 20) as u8])
                });
                image.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
    let listing = Listing::scan(root.path(), None).unwrap();
    (root, listing)
}

#[test]
fn files_and_both_kinds_of_cache_give_the_same_images() {
    let (root, listing) = folder();
    let open = |contents| {
        let spec = Spec { contents, decoding: crate::Decoding::default(), masks: None };
        let path = root.path().join(contents.name());
        cache::build(&listing, &spec, &path, cache::OnBadImage::Fail, &unwatched).unwrap();
        match cache::open(&path, &spec.fingerprint(&listing), spec.decoding).unwrap() {
            cache::Found::Current(dataset) => *dataset,
            other => panic!("{other:?}"),
        }
    };
    let files = crate::Dataset::of_files(&listing, crate::Decoding::default());
    let pixels = |set: ImageSet, augmentation, evaluation: bool| {
        let config = LoaderConfig { resize: 16, augmentation, threads: 2, ..LoaderConfig::new(4, 12) };
        let loader = Loader::new(Arc::new(set), Shard::WHOLE, config);
        let batches = if evaluation { loader.evaluate() } else { loader.train(0, 0) };
        batches.flat_map(|batch| batch.unwrap().pixels.to_vec()).collect::<Vec<_>>()
    };
    let changes: Vec<Arc<dyn augmentations::Change>> = vec![Arc::new(HorizontalFlip)];
    let resized = Augmentation { crop: Crop::Resized { least: 0.08 }, changes, ..Augmentation::NONE };
    let encoded = open(Contents::Encoded);
    assert_eq!(pixels(files.train, resized.clone(), false), pixels(encoded.train, resized, false));
    let from_files = pixels(files.val, Augmentation::NONE, true);
    assert_eq!(from_files, pixels(encoded.val, Augmentation::NONE, true));
    // Scaled to 16 and cut to 12 in one step or in two.
    let from_pixels = pixels(open(Contents::Pixels { side: 16, crop: 16 }).val, Augmentation::NONE, true);
    assert!(from_files.iter().zip(&from_pixels).all(|(a, b)| a.abs_diff(*b) <= 1));
}

#[test]
fn a_broken_file_ends_the_pass_with_its_name() {
    let (root, listing) = folder();
    let path = root.path().join("train/bee/3.png");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, vec![7; whole.len()]).unwrap();
    let files = crate::Dataset::of_files(&listing, crate::Decoding::default());
    let loader = Loader::new(Arc::new(files.train), Shard::WHOLE, LoaderConfig::new(18, 8));
    let mut batches = loader.train(0, 0);
    let error = batches.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("train/bee/3.png: not a readable image"), "{error}");
    assert!(batches.next().is_none());
}

#[test]
fn masks_go_where_their_images_go() {
    let root = tempfile::tempdir().unwrap();
    let class = |x: u32, y: u32, number: u32| ((x / 10 + y / 10 + number) % 3) as u8;
    for split in ["train", "val"] {
        let [images, masks] = ["images", "masks"].map(|kind| root.path().join(split).join(kind));
        [&images, &masks].into_iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
        for number in 0..6 {
            let image = image::RgbImage::from_fn(43, 31, |x, y| image::Rgb([class(x, y, number) * 100 + 20; 3]));
            image.save(images.join(format!("{number}.png"))).unwrap();
            let mask = image::GrayImage::from_fn(43, 31, |x, y| image::Luma([class(x, y, number)]));
            mask.save(masks.join(format!("{number}.png"))).unwrap();
        }
    }
    let listing = Listing::scan_masks(root.path(), &crate::MaskFolders::default(), None, &unwatched).unwrap();
    let values = crate::MaskValues::new(vec![0, 1, 2], Some(255)).unwrap();
    let classes = values.names();
    let listing = Listing { classes: classes.clone(), ..listing };
    let decoding = crate::Decoding { fit: Fit::Squash, ..crate::Decoding::default() };
    let cached = |contents: Contents| {
        let path = root.path().join(contents.name());
        let spec = Spec { contents, decoding, masks: Some(values.clone()) };
        cache::build(&listing, &spec, &path, cache::OnBadImage::Fail, &unwatched).unwrap();
        match cache::open(&path, &spec.fingerprint(&listing), decoding).unwrap() {
            cache::Found::Current(dataset) => *dataset,
            other => panic!("{other:?}"),
        }
    };
    let files = || crate::Dataset::of_files(&listing, decoding).with_mask_values(&values, classes.clone());
    let sets = [files(), cached(Contents::Encoded), cached(Contents::Pixels { side: 24, crop: 24 })];
    let numbers = crate::Numbers::of_words("uint8x3");
    let planes = crate::Dataset::of_files(&listing, crate::Decoding { numbers, ..decoding });
    let sets = sets.into_iter().chain([planes.with_mask_values(&values, classes.clone())]);
    for (number, set) in sets.enumerate() {
        let (train, val) = (Arc::new(set.train), Arc::new(set.val));
        for crop in [Crop::Padded { padding: 5 }, Crop::Resized { least: 0.3 }] {
            let augmentation = Augmentation {
                crop,
                changes: vec![Arc::new(HorizontalFlip), Arc::new(augmentations::QuarterTurns)],
                plane_changes: vec![Arc::new(HorizontalFlip), Arc::new(augmentations::QuarterTurns)],
                ..Augmentation::NONE
            };
            let normalization = Normalization { mean: vec![0.0; 3], std: vec![1.0; 3] };
            let fit = Fit::Squash;
            let config = LoaderConfig { augmentation, fit, normalization, ..LoaderConfig::new(3, 24) };
            let ranks = |ranks: usize| {
                let of = |rank| {
                    Loader::new(
                        Arc::clone(&train),
                        Shard::new(rank, ranks),
                        LoaderConfig { global_batch: 6, ..config.clone() },
                    )
                };
                (0..ranks)
                    .flat_map(|rank| of(rank).train(1, 0).next().unwrap().unwrap().masks.unwrap().to_vec())
                    .collect::<Vec<_>>()
            };
            assert_eq!(ranks(1), ranks(3), "whoever makes them");
            let loaders = [&train, &val].map(|set| Loader::new(Arc::clone(set), Shard::WHOLE, config.clone()));
            let (mut pure, mut seen) = (0, 0);
            for batch in (0..4).flat_map(|epoch| loaders[0].train(epoch, 0)).chain(loaders[1].evaluate()) {
                let batch = batch.unwrap();
                let masks = batch.masks.as_ref().unwrap();
                let gray = |pixel: usize| match batch.format {
                    PixelFormat::Rgb8 => i32::from(batch.pixels[3 * pixel]),
                    PixelFormat::Planes { .. } => {
                        let (image, place) = (pixel / 576, pixel % 576);
                        (batch.values()[image * 3 * 576 + place] * 255.0).round() as i32
                    }
                };
                for (pixel, &class) in masks.iter().enumerate() {
                    seen += 1;
                    let expected = if class == crate::IGNORED { 0 } else { i32::from(class) * 100 + 20 };
                    // Between two classes the image is a mixture.
                    pure += usize::from((gray(pixel) - expected).abs() <= 1);
                    assert!(
                        (gray(pixel) - expected).abs() <= 160,
                        "set {number} {crop:?}: {} for {class}",
                        gray(pixel)
                    );
                }
            }
            assert!(pure * 10 > seen * 4, "set {number} {crop:?}: {pure} of {seen}");
        }
    }
}
