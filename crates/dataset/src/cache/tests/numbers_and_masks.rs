//! Caches of images of numbers, and of masks.

use super::*;

/// Images of 2 channels of 16 bits, 6×4 pixels, some of which have NaN.
fn folder_of_numbers(element: &str) -> (tempfile::TempDir, Listing) {
    let root = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 9u32), ("val", 3)] {
        for class in ["ant", "bee"] {
            let folder = root.path().join(split).join(class);
            fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let value = |index: u32| index * 997 * (number + 1) % 4001;
                let bytes: Vec<u8> = match element {
                    "<u2" => (0..48).flat_map(|index| (value(index) as u16).to_le_bytes()).collect(),
                    _ => (0..48).flat_map(|index| f64::from(value(index) as f32 / 7.0).to_le_bytes()).collect(),
                };
                fs::write(folder.join(format!("{number}.npy")), npy(element, "(2, 4, 6)", &bytes)).unwrap();
            }
        }
    }
    let listing = Listing::scan(root.path(), None).unwrap();
    (root, listing)
}

/// An array in NumPy's format.
fn npy(element: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{element}', 'fortran_order': False, 'shape': {shape}, }}");
    [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), bytes].concat()
}

/// What evaluation makes of all validation images, by a loader.
fn evaluated(dataset: Dataset) -> Vec<f32> {
    let config = LoaderConfig {
        resize: 4,
        normalization: crate::Normalization { mean: vec![3.0, 5.0], std: vec![2.0, 0.5] },
        ..LoaderConfig::new(4, 3)
    };
    let loader = Loader::new(Arc::new(dataset.val), Shard::WHOLE, config);
    loader.evaluate().flat_map(|batch| batch.unwrap().values().to_vec()).collect()
}

#[test]
fn numbers_give_the_same_bits_with_and_without_a_cache() {
    for (element, kept) in [("<u2", "uint16x2"), ("<f8", "float64x2")] {
        let (root, listing) = folder_of_numbers(element);
        let numbers = listing.numbers(DECODING, false).unwrap().map(|first| first.numbers);
        let decoding = Decoding { numbers, ..DECODING };
        let without = evaluated(Dataset::of_files(&listing, decoding));
        assert_eq!(without.len(), 6 * 2 * 9);
        for contents in [Contents::Pixels { side: 4, crop: 3 }, Contents::Encoded] {
            let spec = Spec { contents, decoding, masks: None };
            assert!(spec.settings().ends_with(&format!(" of {kept}")), "{}", spec.settings());
            assert_eq!(Spec::parse(&spec.settings()).map(|spec| spec.decoding.numbers), Some(numbers));
            let path = root.path().join("cache.h5");
            build(&listing, &spec, &path, OnBadImage::Fail, &unwatched).unwrap();
            let Found::Current(dataset) = open(&path, &spec.fingerprint(&listing), decoding).unwrap() else { panic!() };
            assert_eq!(dataset.train.numbers(), numbers, "what the files hold, whatever the cache keeps of it");
            assert_eq!(evaluated(*dataset), without, "{contents:?}");
            assert!(verify(&path, &unwatched).unwrap().damaged.is_empty());
            // Another reading is another cache.
            let rgb = Spec { contents, decoding: DECODING, masks: None };
            assert!(matches!(open(&path, &rgb.fingerprint(&listing), DECODING).unwrap(), Found::Stale(_)));
        }
    }
}

#[test]
fn an_image_that_lacks_numbers_is_a_bad_image_or_filled_with_means() {
    let (root, listing) = folder_of_numbers("<f8");
    let path = root.path().join("val/bee/1.npy");
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.len() - (48 - 32) * 8; // in the middle of the second channel
    bytes[place..place + 8].copy_from_slice(&f64::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let listing = Listing::scan(&listing.root, None).unwrap();
    let numbers = listing.numbers(DECODING, false).unwrap().map(|first| first.numbers);
    let cache = root.path().join("cache.h5");
    for contents in [Contents::Pixels { side: 4, crop: 4 }, Contents::Encoded] {
        let spec = |on_nan| Spec { contents, decoding: Decoding { numbers, on_nan, ..DECODING }, masks: None };
        let error = build(&listing, &spec(OnNan::Fail), &cache, OnBadImage::Fail, &unwatched).unwrap_err().to_string();
        assert!(error.contains("val/bee/1.npy") && error.contains("channel 1 has NaN"), "{error}");
        let skipped = build(&listing, &spec(OnNan::Fail), &cache, OnBadImage::Skip, &unwatched).unwrap();
        assert_eq!(skipped.len(), 1);
        let filled = spec(OnNan::Mean);
        assert!(filled.settings().ends_with(" nan=mean"));
        assert!(build(&listing, &filled, &cache, OnBadImage::Fail, &unwatched).unwrap().is_empty());
        let Found::Current(dataset) = open(&cache, &filled.fingerprint(&listing), filled.decoding).unwrap() else {
            panic!()
        };
        let values = evaluated(*dataset);
        assert!(values.iter().all(|value| value.is_finite()) && values.contains(&0.0));
    }
}

#[test]
fn numbers_of_the_size_of_the_cache_keep_their_type() {
    let root = tempfile::tempdir().unwrap();
    let value = |image: u16, index: u16| image * 7001 + index * 131;
    for image in 0..4_u16 {
        let folder = root.path().join(["train", "val"][usize::from(image / 2)]).join("ant");
        fs::create_dir_all(&folder).unwrap();
        let bytes: Vec<u8> = (0..32).flat_map(|index| value(image, index).to_le_bytes()).collect();
        let text = "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 4, 4), }";
        let header = [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
        fs::write(folder.join(format!("{image}.npy")), [header, bytes].concat()).unwrap();
    }
    let listing = Listing::scan(root.path(), None).unwrap();
    let first = Decoding { axes: Some(Axes::ChannelsFirst), ..DECODING };
    let numbers = listing.numbers(first, false).unwrap().map(|first| first.numbers);
    let path = root.path().join("cache.h5");
    let mut sizes = Vec::new();
    let values = [true, false].map(|is_exact| {
        let decoding = Decoding { numbers, is_exact, ..first };
        let spec = Spec { contents: Contents::Pixels { side: 4, crop: 4 }, decoding, masks: None };
        assert_eq!(spec.settings().contains(" exact of uint16x2"), is_exact);
        assert!(spec.settings().ends_with(" nchw"));
        assert_eq!(Spec::parse(&spec.settings()).unwrap(), spec);
        build(&listing, &spec, &path, OnBadImage::Fail, &unwatched).unwrap();
        sizes.push(structure::places(&path).unwrap()[0].clone().count());
        let Found::Current(dataset) = open(&path, &spec.fingerprint(&listing), decoding).unwrap() else { panic!() };
        evaluated(*dataset)
    });
    assert_eq!(sizes, [2 * 32 * 2, 2 * 32 * 4]);
    let without = evaluated(Dataset::of_files(&listing, Decoding { numbers, ..first }));
    assert_eq!(values[0], without);
    assert!(values[1].iter().zip(&without).all(|(one, other)| (one - other).abs() < 1e-2 * other.abs().max(1.0)));
}

fn masks_below(root: &Path) -> Listing {
    let listing = Listing::scan_masks(root, &MaskFolders::default(), None, &unwatched).unwrap();
    Listing { classes: ["none", "seven", "nine"].map(str::to_owned).to_vec(), ..listing }
}

/// Two folders of images of 6×4 pixels and their masks, whose classes are those that the images show.
fn folder_of_masks() -> (tempfile::TempDir, Listing, MaskValues) {
    let root = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 9_u32), ("val", 3)] {
        let [images, masks] = ["images", "masks"].map(|kind| root.path().join(split).join(kind));
        [&images, &masks].into_iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
        for number in 0..count {
            let class = |x: u32, y: u32| [0_u8, 7, 9, 255][((x / 2 + y / 2 + number) % 4) as usize];
            let image = image::RgbImage::from_fn(6, 4, |x, y| image::Rgb([class(x, y), 100, number as u8]));
            image.save(images.join(format!("{number}.png"))).unwrap();
            let mask = image::GrayImage::from_fn(6, 4, |x, y| image::Luma([class(x, y)]));
            mask.save(masks.join(format!("{number}_mask.png"))).unwrap();
        }
    }
    let listing = masks_below(root.path());
    let set = ImageSet::of_files(&listing, Split::Train, DECODING);
    let found = set.mask_numbers(OnBadImage::Fail, &unwatched).unwrap();
    assert_eq!(found.iter().copied().collect::<Vec<_>>(), [0, 7, 9, 255]);
    let values = MaskRule::default().values(None, || Ok(found)).unwrap();
    assert_eq!(
        (values.to_words().as_str(), values.names()),
        ("0,7,9 ignored 255", vec!["0".into(), "7".into(), "9".into()])
    );
    (root, listing, values)
}

#[test]
fn masks_are_the_same_with_and_without_a_cache() {
    let (root, listing, values) = folder_of_masks();
    let decoding = Decoding { fit: Fit::Squash, ..DECODING };
    let batches = |dataset: Dataset| {
        let config = LoaderConfig { fit: Fit::Squash, ..LoaderConfig::new(4, 4) };
        let loader = Loader::new(Arc::new(dataset.val), Shard::WHOLE, config);
        let batches = loader.evaluate().map(|batch| batch.unwrap());
        batches.flat_map(|batch| [batch.pixels.to_vec(), batch.masks.unwrap().to_vec()].concat()).collect::<Vec<u8>>()
    };
    let without = batches(Dataset::of_files(&listing, decoding).with_mask_values(&values, values.names()));
    assert_eq!(without.len(), 3 * 4 * 4 * (3 + 1));
    for contents in [Contents::Pixels { side: 4, crop: 4 }, Contents::Encoded] {
        let spec = Spec { contents, decoding, masks: Some(values.clone()) };
        assert!(spec.settings().ends_with(" with masks 0,7,9 ignored 255"), "{}", spec.settings());
        let parsed = Spec::parse(&spec.settings()).unwrap();
        assert_eq!((parsed.masks, parsed.contents), (Some(values.clone()), contents));
        let path = root.path().join("cache.h5");
        build_at(&path, &listing, &spec);
        assert_eq!(batches(current(&path, &listing, &spec)), without, "{contents:?}");
        assert_eq!(verify(&path, &unwatched).unwrap(), Verified { images: 12, damaged: Vec::new() });
        let whole = fs::read(&path).unwrap();
        let dataset = spec.contents.dataset(Of::Masks);
        let mut bytes = whole.clone();
        bytes[place(&path, dataset, 0, 1) + 5] ^= 1;
        fs::remove_file(&path).unwrap(); // what is mapped stays as it is
        fs::write(&path, bytes).unwrap();
        assert_eq!(verify(&path, &unwatched).unwrap().damaged.len(), 1, "{contents:?}");
        // Without masks it is another cache.
        let other = Spec { masks: None, ..spec.clone() };
        assert!(stale(&path, &listing, &other).contains("have changed since"));
        // A mask that was drawn anew is noticed.
        let mask = root.path().join("val/masks/1_mask.png");
        fs::File::options().write(true).open(&mask).unwrap().set_modified(SystemTime::now()).unwrap();
        let listing = masks_below(root.path());
        assert!(stale(&path, &listing, &spec).contains("have changed since"));
        assert_eq!(explain(&path, &listing, &spec).len(), 1);
    }
}

/// Images of numbers are cut as those of pixels are, and masks with them, whichever cache holds them.
#[test]
fn masks_of_numbers_are_the_same_with_and_without_a_cache() {
    let (root, _, values) = folder_of_masks();
    for split in ["train", "val"] {
        let folder = root.path().join(split).join("images");
        for name in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let red = image::open(&name).unwrap().to_rgb8();
            let mut bytes: Vec<u8> = red.pixels().flat_map(|pixel| f32::from(pixel.0[0]).to_le_bytes()).collect();
            bytes.extend([bytes.clone(), f32::NAN.to_le_bytes().repeat(24)].concat());
            fs::write(name.with_extension("npy"), npy("<f4", "(3, 4, 6)", &bytes)).unwrap();
            fs::remove_file(name).unwrap();
        }
    }
    let listing = masks_below(root.path());
    let numbers = listing.numbers(DECODING, false).unwrap().map(|first| first.numbers);
    for (fit, resize) in [(Fit::Squash, 3), (Fit::Crop, 4), (Fit::Crop, 3)] {
        let decoding = Decoding { fit, numbers, on_nan: OnNan::Mean, ..DECODING };
        let batches = |dataset: Dataset| {
            let normalization = crate::Normalization { mean: vec![1.0; 3], std: vec![2.0; 3] };
            let config = LoaderConfig { fit, resize, normalization, ..LoaderConfig::new(4, 3) };
            let loader = Loader::new(Arc::new(dataset.val), Shard::WHOLE, config);
            let batches: Vec<_> = loader.evaluate().map(Result::unwrap).collect();
            let [batch] = &batches[..] else { panic!("{}", batches.len()) };
            (batch.values().to_vec(), batch.masks.as_ref().unwrap().to_vec())
        };
        let (pixels, masks) = batches(Dataset::of_files(&listing, decoding).with_mask_values(&values, values.names()));
        assert!(pixels.iter().all(|value| value.is_finite()) && masks.len() == 27, "{fit:?} {pixels:?}");
        for contents in [Contents::Pixels { side: resize, crop: 3 }, Contents::Encoded] {
            let spec = Spec { contents, decoding, masks: Some(values.clone()) };
            let path = root.path().join("cache.h5");
            build_at(&path, &listing, &spec);
            let Found::Current(dataset) = open(&path, &spec.fingerprint(&listing), decoding).unwrap() else { panic!() };
            assert_eq!(batches(*dataset), (pixels.clone(), masks.clone()), "{fit:?} {resize} {contents:?}");
        }
    }
}

#[test]
fn bad_masks_are_named_or_left_out() {
    let (root, _, values) = folder_of_masks();
    let at = |name: &str| root.path().join("val/masks").join(name);
    image::GrayImage::from_pixel(6, 4, image::Luma([8])).save(at("1_mask.png")).unwrap();
    image::GrayImage::from_pixel(5, 4, image::Luma([7])).save(at("2_mask.png")).unwrap();
    let listing = masks_below(root.path());
    let cache = root.path().join("cache.h5");
    for contents in [Contents::Pixels { side: 4, crop: 4 }, Contents::Encoded] {
        let spec = Spec { contents, decoding: DECODING, masks: Some(values.clone()) };
        let error = build(&listing, &spec, &cache, OnBadImage::Fail, &unwatched).unwrap_err().to_string();
        assert!(error.contains("val/masks/"), "{error}");
        let skipped = build(&listing, &spec, &cache, OnBadImage::Skip, &unwatched).unwrap();
        let reasons: Vec<_> = skipped.iter().map(|bad| (bad.index, bad.reason.as_str())).collect();
        let expected = [
            (1, "its mask: 8 is the number of no class; there are 0,7,9 ignored 255 (--mask-values, --ignore-index)"),
            (2, "its mask: it has 5×4 pixels, and the image 6×4"),
        ];
        assert_eq!(reasons, expected);
        assert_eq!(current(&cache, &listing, &spec).val.len(), 1);
    }
}
