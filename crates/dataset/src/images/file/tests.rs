//! Files that others made, and files that are not what they must be.

use std::sync::Arc;

use ::hdf5::File;
use layout::Shard;

use super::*;
use crate::{Loader, LoaderConfig, Normalization, PixelFormat, h5};

fn open(path: &Path, val_split: Option<ValSplit>) -> Result<Dataset> {
    super::open(path, &FileSpec { val_split, ..FileSpec::default() })
}

/// A file of 5 + 2 images of 3×2 pixels; the training images lie in chunks, and compressed if they can be.
fn file(images: &str, labels: &[u16]) -> tempfile::NamedTempFile {
    let temporary = tempfile::NamedTempFile::new().unwrap();
    let file = h5::create(temporary.path()).unwrap();
    for (split, count) in [("train", 5usize), ("val", 2)] {
        let group = file.create_group(split).unwrap();
        let pixels: Vec<u8> = (0..count * 18).map(|value| value as u8).collect();
        let shape = [count, 2, 3, 3];
        let builder = group.new_dataset::<u8>().shape(shape);
        let builder = if split == "train" { builder.chunk([2, 2, 3, 3]).deflate(3) } else { builder };
        builder.create(images).unwrap().write_raw(&pixels).unwrap();
        group.new_dataset_builder().with_data(&labels[..count.min(labels.len())]).create("y").unwrap();
    }
    temporary
}

#[test]
fn chunks_and_contiguous_images_are_read_alike() {
    let file = file("data", &[3, 0, 1, 2, 0]);
    let dataset = open(file.path(), None).unwrap();
    assert_eq!(dataset.classes, ["0", "1", "2", "3"]);
    assert_eq!(dataset.train.size(), Some(Size { width: 3, height: 2 }));
    assert_eq!((dataset.train.labels(), dataset.val.labels()), (&[3i64, 0, 1, 2, 0][..], &[3i64, 0][..]));
    for index in 0..5 {
        let expected: Vec<u8> = (index as u8 * 18..(index as u8 + 1) * 18).collect();
        assert_eq!(dataset.train.pixels(index), expected);
        if index < 2 {
            assert_eq!(dataset.val.pixels(index), expected);
        }
    }
}

/// h5py writes NumPy's bytes as texts of a fixed length, its own strings as any length, each as ASCII or UTF-8.
#[test]
fn names_of_classes_are_texts_of_every_kind() {
    fn names<T: ::hdf5::H5Type>(text: impl Fn(&str) -> T) -> Result<Vec<String>> {
        let file = file("data", &[1, 0, 1, 1, 0]);
        let names = ["ant", "be"].map(text);
        let hdf5 = h5::open_to_write(file.path()).unwrap();
        hdf5.new_dataset_builder().with_data(&names).create("classes").unwrap();
        drop(hdf5);
        open(file.path(), None).map(|dataset| dataset.classes)
    }
    use ::hdf5::types::{FixedAscii, FixedUnicode, VarLenAscii, VarLenUnicode};
    let found = [
        names(|text| FixedAscii::<3>::from_ascii(text).unwrap()),
        names(|text| text.parse::<FixedUnicode<7>>().unwrap()),
        names(|text| VarLenAscii::from_ascii(text).unwrap()),
        names(|text| text.parse::<VarLenUnicode>().unwrap()),
    ];
    assert!(found.iter().all(|names| names.as_ref().is_ok_and(|names| names == &["ant", "be"])), "{found:?}");
    for (found, words) in [
        (names(str::len), "/classes cannot be read: its values are uint64, and no texts"),
        (names(|text| FixedAscii::<2000>::from_ascii(text).unwrap()), "its texts have 2000 bytes each"),
    ] {
        let error = found.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn validation_may_be_none_but_not_all_left_out() {
    let file = file("data", &[3, 0, 1, 2, 0]);
    let hdf5 = h5::open_to_write(file.path()).unwrap();
    hdf5.group("val").unwrap().unlink("y").unwrap();
    hdf5.group("val").unwrap().new_dataset_builder().with_data(&[-1i64, -1]).create("y").unwrap();
    drop(hdf5);
    let error = open(file.path(), None).unwrap_err().to_string();
    assert!(error.ends_with("/val: all of its 2 images are left out: their labels are -1"), "{error}");
    h5::open_to_write(file.path()).unwrap().unlink("val").unwrap();
    let dataset = open(file.path(), None).unwrap();
    assert_eq!((dataset.train.len(), dataset.val.len()), (5, 0));

    let dataset = open(file.path(), ValSplit::new(0.5)).unwrap(); // of the labels 3, 0, 1, 2, 0: one of the two zeros
    assert_eq!((dataset.train.len(), dataset.val.labels()), (4, &[0i64][..]));
    let [val] = &dataset.val.names(&[0])[..] else { panic!("one image") };
    assert!(!dataset.train.names(&[0, 1, 2, 3]).contains(val));
}

#[test]
fn faults_have_words() {
    let error = |file: &tempfile::NamedTempFile| open(file.path(), None).unwrap_err().to_string();
    assert!(error(&file("photos", &[0; 5])).contains("/train: no images (looked for: images"));
    assert!(error(&file("data", &[0; 4])).contains("/train: 5 images, and labels of the shape [4]"));
    let both = open(file("data", &[0; 5]).path(), ValSplit::new(0.1)).unwrap_err().to_string();
    assert!(both.ends_with("has /val to validate on; leave --val-split out"), "{both}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(error(&empty).contains("cannot be opened as HDF5"));
    h5::create(empty.path()).unwrap().create_group("other").unwrap();
    assert!(error(&empty).contains("no group /train; it holds other"));
}

#[test]
fn a_filter_that_is_not_here_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.h5");
    let file = File::create(&path).unwrap();
    let train = file.create_group("train").unwrap();
    let images = train.new_dataset::<u8>().shape((4, 2, 2, 3)).chunk((2, 2, 2, 3)).deflate(1).create("images").unwrap();
    images.write_raw(&[7u8; 48]).unwrap();
    train.new_dataset::<i64>().shape(4).create("labels").unwrap().write_raw(&[0i64, 1, 0, 1]).unwrap();
    drop((images, train, file));
    assert!(open(&path, None).is_ok());
    // The filter's number stands before its name: two bytes, and six of lengths and flags.
    let mut bytes = std::fs::read(&path).unwrap();
    let name = bytes.windows(8).position(|window| window == b"deflate\0").unwrap();
    bytes[name - 8..name - 6].copy_from_slice(&32_015u16.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let refused = open(&path, None).err().unwrap().to_string();
    assert!(
        refused.contains("is compressed by HDF5's filter 32015, which is not here: pip install hdf5plugin"),
        "{refused}"
    );
}

/// What is in the first image of `images`, as the loader gives it without normalization.
fn first(images: ImageSet, side: usize) -> (PixelFormat, Vec<f32>) {
    let normalization =
        Normalization { mean: vec![0.0; images.format().channels()], std: vec![1.0; images.format().channels()] };
    let config = LoaderConfig { normalization, ..LoaderConfig::new(1, side) };
    let batch = Loader::new(Arc::new(images), Shard::WHOLE, config).sample(0).unwrap();
    (batch.format, batch.values().to_vec())
}

#[test]
fn arrays_of_every_kind_become_planes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.h5");
    // Two images of 2 channels and 5×5 pixels; the number says where it lies: channel·100 + pixel.
    let number = |channel: usize, pixel: usize| (channel * 100 + pixel) as f64;
    let planes: Vec<f64> = (0..2).flat_map(|channel| (0..25).map(move |pixel| number(channel, pixel))).collect();
    let pixels: Vec<f64> = (0..25).flat_map(|pixel| [number(0, pixel), number(1, pixel)]).collect();
    let expected: Vec<f32> = planes.iter().map(|&number| number as f32).collect();
    macro_rules! of {
        ($number:ty, $shape:expr, $numbers:expr, $build:expr) => {{
            let file = File::create(&path).unwrap();
            let numbers: Vec<$number> = $numbers.iter().chain($numbers).map(|&number| number as $number).collect();
            let builder = file.new_dataset::<$number>().shape($shape);
            let build: fn(::hdf5::DatasetBuilderEmptyShape) -> ::hdf5::DatasetBuilderEmptyShape = $build;
            build(builder).create("x_train").unwrap().write_raw(&numbers).unwrap();
            file.new_dataset_builder().with_data(&[0i64, 1]).create("y_train").unwrap();
            file.close().unwrap();
            let dataset = open(&path, None).unwrap();
            assert_eq!((dataset.train.len(), dataset.val.len(), dataset.classes.len()), (2, 0, 2));
            first(dataset.train, 5)
        }};
    }
    let format = PixelFormat::Planes { channels: 2 };
    assert_eq!(of!(u16, [2, 2, 5, 5], &planes, |builder| builder), (format, expected.clone()));
    assert_eq!(of!(i16, [2, 5, 5, 2], &pixels, |builder| builder), (format, expected.clone()));
    assert_eq!(
        of!(f32, [2, 2, 5, 5], &planes, |builder| builder.chunk([1, 2, 5, 5]).deflate(1)),
        (format, expected.clone())
    );
    assert_eq!(of!(f64, [2, 5, 5, 2], &pixels, |builder| builder.chunk([2, 2, 2, 2])), (format, expected.clone()));
    let bytes: Vec<f32> = expected.iter().map(|number| (f64::from(*number) / 255.0) as f32).collect();
    assert_eq!(of!(u8, [2, 2, 5, 5], &planes, |builder| builder), (format, bytes.clone()));
    assert_eq!(of!(u8, [2, 5, 5], &planes[..25], |builder| builder).1, bytes[..25]);
}

#[test]
fn what_is_packed_is_unpacked_and_what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed.nc");
    let file = File::create(&path).unwrap();
    let images = file.new_dataset::<i16>().shape([2, 3, 3]).create("images").unwrap();
    images.write_raw(&[1i16, 2, 3, 4, -9, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
    for (name, value) in [("scale_factor", 0.5), ("add_offset", 100.0), ("_FillValue", -9.0)] {
        images.new_attr::<f64>().shape([1]).create(name).unwrap().write_raw(&[value]).unwrap();
    }
    file.new_dataset::<f32>().shape([2, 1]).create("labels").unwrap().write_raw(&[0.5f32, 1.5]).unwrap();
    drop(images);
    file.close().unwrap();
    let spec = |on_nan| FileSpec { on_nan, kind: LabelKind::Numbers, ..FileSpec::default() };
    let dataset = super::open(&path, &spec(OnNan::Mean)).unwrap();
    assert_eq!((dataset.train.targets(1), dataset.classes.len()), (&[1.5][..], 1));
    assert_eq!(first(dataset.train, 3).1, [100.5, 101.0, 101.5, 102.0, 0.0, 103.0, 103.5, 104.0, 104.5]);
    let dataset = super::open(&path, &spec(OnNan::Fail)).unwrap();
    let moments = dataset.train.moments(0..1).unwrap_err().to_string();
    let normalization = Normalization { mean: vec![0.0], std: vec![1.0] };
    let config = LoaderConfig { normalization, ..LoaderConfig::new(1, 3) };
    let error = Loader::new(Arc::new(dataset.train), Shard::WHOLE, config).sample(0).unwrap_err().to_string();
    assert!(
        error.contains("packed.nc: image 0: ") && error.contains("channel 0 has NaN, infinite or missing values"),
        "{error}"
    );
    assert_eq!(error, moments);
}

/// An `.npz` file of arrays: name, type, shape and bytes.
fn npz(path: &Path, method: zip::CompressionMethod, arrays: &[(&str, &str, &str, Vec<u8>)]) {
    use std::io::Write;
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, descr, shape, bytes) in arrays {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        archive.start_file(format!("{name}.npy"), options).unwrap();
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        archive.write_all(b"\x93NUMPY\x01\x00").unwrap();
        archive.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        archive.write_all(header.as_bytes()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn arrays_of_numpy_are_read_stored_and_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.npz");
    let floats: Vec<u8> = (0..2 * 3 * 4).flat_map(|number| (number as f32).to_le_bytes()).collect();
    let flags: Vec<u8> = [1i64, 0, 0, 1, 1, 0].iter().flat_map(|flag| flag.to_le_bytes()).collect();
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        npz(
            &path,
            method,
            &[
                ("train_images", "<f4", "(3, 2, 4, 1)", floats.clone()),
                ("train_labels", "<i8", "(3, 2)", flags.clone()),
                ("val_images", "<f4", "(3, 2, 4, 1)", floats.clone()),
                ("val_labels", "<i8", "(3, 2)", flags.clone()),
                (
                    "classes",
                    "<U3",
                    "(2,)",
                    "antbe\0".chars().flat_map(|letter| u32::from(letter).to_le_bytes()).collect(),
                ),
            ],
        );
        let dataset = super::open(&path, &FileSpec { kind: LabelKind::Flags, ..FileSpec::default() }).unwrap();
        assert_eq!(dataset.classes, ["ant", "be"]);
        assert_eq!(
            (dataset.train.targets(2), dataset.val.len(), dataset.train.size()),
            (&[1.0, 0.0][..], 3, Some(Size { width: 4, height: 2 }))
        );
        assert_eq!(dataset.train.without(&[0]).targets(0), [0.0, 1.0]);
        assert_eq!(open(&path, None).unwrap().train.labels(), [0, 1, 0]);
    }
    for (descr, shape, words) in [
        (">f4", "(3, 2, 4, 1)", "train_images.npy has values of type '>f4'"),
        ("<f4", "(3, 2, 5)", "train_images.npy has 169 bytes, and its shape [3, 2, 5] takes 193"),
        ("<i4", "(3, 2, 4, 1)", "holds int32; uint8, uint16"),
        ("<f4", "(6, 4)", "has the shape [6, 4]; N×H×W×C"),
    ] {
        let labels = ("train_labels", "<i8", "(3, 2)", flags.clone());
        npz(&path, zip::CompressionMethod::Stored, &[("train_images", descr, shape, floats.clone()), labels]);
        let error = open(&path, None).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn labels_that_are_something_else_are_told_what() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.npz");
    let images = ("x_train", "|u1", "(2, 2, 2)", vec![0; 8]);
    let read = |descr: &'static str, shape: &'static str, bytes: Vec<u8>, kind| {
        npz(&path, zip::CompressionMethod::Stored, &[images.clone(), ("y_train", descr, shape, bytes)]);
        super::open(&path, &FileSpec { kind, ..FileSpec::default() }).map(|dataset| dataset.train.labels().to_vec())
    };
    let floats = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    assert_eq!(read("|u1", "(2, 3)", vec![0, 1, 0, 0, 0, 1], LabelKind::Class).unwrap(), [1, 2]);
    assert_eq!(read("|u1", "(2, 1)", vec![4, 0], LabelKind::Class).unwrap(), [4, 0]);
    let shares = read("<f4", "(2, 3)", floats(&[0.25, 0.25, 0.5, 0.5, 0.5, 0.0]), LabelKind::Class).unwrap();
    assert_eq!(shares, [2, 0]);
    let soft = super::open(&path, &FileSpec::default()).unwrap();
    assert_eq!((soft.classes.len(), soft.train.targets(1)), (3, &[0.5, 0.5, 0.0][..]));
    for (descr, shape, bytes, kind, words) in [
        ("<f4", "(2,)", floats(&[1.0, 0.5]), LabelKind::Class, "0.5 is not a label: that of image 1; for numbers"),
        ("|u1", "(2, 2)", vec![1, 1, 0, 1], LabelKind::Class, "those of image 0 are neither one class nor shares"),
        (
            "|u1",
            "(2, 2)",
            vec![1, 1, 0, 7],
            LabelKind::Flags,
            "label 1 of image 1 is 7; --task multilabel needs 0 or 1",
        ),
        ("<f4", "(2,)", floats(&[1.0, f32::NAN]), LabelKind::Numbers, "target 0 of image 1 is NaN"),
        ("|u1", "(3,)", vec![0; 3], LabelKind::Class, "2 images, and labels of the shape [3]"),
        ("|u1", "(2, 0)", vec![], LabelKind::Flags, "2 images, and labels of the shape [2, 0]"),
    ] {
        let error = read(descr, shape, bytes, kind).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn shares_and_classes_beside_each_other_are_shares() {
    let folder = tempfile::tempdir().unwrap();
    let floats = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let path = folder.path().join("set.npz");
    let read = |train: (&'static str, &'static str, Vec<u8>), val: (&'static str, &'static str, Vec<u8>)| {
        let images = |name| (name, "|u1", "(2, 2, 2)", vec![0; 8]);
        npz(
            &path,
            zip::CompressionMethod::Stored,
            &[
                images("x_train"),
                ("y_train", train.0, train.1, train.2),
                images("x_val"),
                ("y_val", val.0, val.1, val.2),
            ],
        );
        open(&path, None)
    };
    let soft = || ("<f4", "(2, 3)", floats(&[0.5, 0.5, 0.0, 0.0, 0.25, 0.75]));
    let hard = || ("<f4", "(2, 3)", floats(&[0.0, 1.0, 0.0, 1.0, 0.0, 0.0]));
    let numbers = || ("|u1", "(2,)", vec![1, 0]);
    for val in [hard(), numbers()] {
        let dataset = read(soft(), val).unwrap();
        assert_eq!(
            (dataset.classes.len(), dataset.val.targets(0), dataset.val.labels()),
            (3, &[0.0, 1.0, 0.0][..], &[1, 0][..])
        );
    }
    // The last class has no image, and is one all the same.
    let plain = read(hard(), hard()).unwrap();
    assert_eq!((plain.classes.len(), plain.train.target_width(), plain.train.labels()), (3, 0, &[1, 0][..]));
    let error = read(soft(), ("|u1", "(2,)", vec![1, 3])).unwrap_err().to_string();
    assert!(error.contains("label 3, where others have shares of 3 classes"), "{error}");
}

#[test]
fn a_folder_of_files_is_one_set() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, first: u8, count: u8, channels: u8| {
        let pixels: Vec<u8> = (0..count).flat_map(|image| vec![first + image; 4 * usize::from(channels)]).collect();
        let shape = Box::leak(format!("({count}, 2, 2, {channels})").into_boxed_str());
        let labels = (0..count).map(|image| (first + image) % 3).collect();
        let label_shape = Box::leak(format!("({count},)").into_boxed_str());
        npz(
            &folder.path().join(name),
            zip::CompressionMethod::Stored,
            &[("images", "|u1", shape, pixels), ("labels", "|u1", label_shape, labels)],
        );
    };
    assert!(!Dataset::is_folder_of_arrays(folder.path()));
    write("b.npz", 2, 3, 2);
    write("a.npz", 0, 2, 2);
    write("c.npz", 5, 1, 2);
    write("val-1.npz", 7, 2, 2);
    assert!(Dataset::is_folder_of_arrays(folder.path()));
    let dataset = open(folder.path(), None).unwrap();
    assert_eq!((dataset.train.labels(), dataset.val.labels()), (&[0_i64, 1, 2, 0, 1, 2][..], &[1_i64, 2][..]));
    assert_eq!((dataset.train.size(), dataset.train.format().channels()), (Some(Size { width: 2, height: 2 }), 2));
    let values = |dataset: Dataset| {
        let normalization = Normalization { mean: vec![0.0; 2], std: vec![1.0 / 255.0; 2] };
        let config = LoaderConfig { normalization, ..LoaderConfig::new(4, 2) };
        let loader = Loader::new(Arc::new(dataset.train), Shard::WHOLE, config);
        loader.evaluate().flat_map(|batch| batch.unwrap().values().to_vec()).step_by(8).collect::<Vec<_>>()
    };
    let name = dataset.train.names(&[3]).remove(0);
    assert!(name.to_string_lossy().ends_with("b.npz: image 1"), "{}", name.display());
    assert_eq!(values(dataset).iter().map(|value| value.round()).collect::<Vec<_>>(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    // A share that is set aside, of all of them.
    std::fs::remove_file(folder.path().join("val-1.npz")).unwrap();
    let divided = open(folder.path(), ValSplit::new(0.5)).unwrap();
    assert_eq!((divided.train.len(), divided.val.len()), (3, 3));
    let names = [&divided.train, &divided.val].map(|set| set.names(&[0, 1, 2]));
    assert!(names[0].iter().all(|name| !names[1].contains(name)));
    // What is no part of it, and what looks like a split's name.
    write("values.npz", 0, 1, 2);
    assert_eq!(open(folder.path(), None).unwrap().train.len(), 7);
    npz(&folder.path().join("z.npz"), zip::CompressionMethod::Stored, &[("other", "|u1", "(1,)", vec![0])]);
    let error = open(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("z.npz: no group /train; it holds other"), "{error}");
    std::fs::remove_file(folder.path().join("z.npz")).unwrap();
    std::fs::create_dir(folder.path().join("cat")).unwrap();
    std::fs::write(folder.path().join("cat/1.png"), "").unwrap();
    assert!(!Dataset::is_folder_of_arrays(folder.path()), "class folders with a file beside them");
    std::fs::remove_dir_all(folder.path().join("cat")).unwrap();
    write("d.npz", 0, 1, 3);
    let error = open(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("d.npz: its training images have 2 channels, and others 3"), "{error}");
}

#[test]
fn masks_lie_beside_the_images() {
    let write = |masks: &[i64], shape: &[usize], name: &str| {
        let temporary = tempfile::NamedTempFile::new().unwrap();
        let file = h5::create(temporary.path()).unwrap();
        for split in ["train", "val"] {
            let group = file.create_group(split).unwrap();
            let images = group.new_dataset::<u8>().shape([2, 2, 3, 3]).create("images").unwrap();
            images.write_raw(&[7_u8; 36]).unwrap();
            group.new_dataset::<i64>().shape(shape.to_vec()).create(name).unwrap().write_raw(masks).unwrap();
        }
        temporary
    };
    let open = |file: &tempfile::NamedTempFile| {
        super::open(file.path(), &FileSpec { kind: LabelKind::Mask, ..FileSpec::default() })
    };
    let numbers = [0, 1, 2, -1, 0, 1, 2, 2, 2, 0, 0, 0];
    for (name, shape) in [("masks", &[2, 2, 3][..]), ("labels", &[2, 1, 2, 3]), ("y", &[2, 2, 3, 1])] {
        let file = write(&numbers, shape, name);
        let dataset = open(&file).unwrap();
        let found = dataset.train.mask_numbers(crate::OnBadImage::Fail, &crate::unwatched).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [-1, 0, 1, 2]);
        let values = crate::MaskValues::new(vec![0, 1, 2], Some(-1)).unwrap();
        let dataset = dataset.with_mask_values(&values, values.names());
        let (size, classes) = dataset.train.mask_classes(0).unwrap().unwrap();
        assert_eq!((size.width, size.height, classes), (3, 2, vec![0, 1, 2, crate::IGNORED, 0, 1]));
        let few = crate::MaskValues::new(vec![0, 1], Some(-1)).unwrap();
        let error = dataset.with_mask_values(&few, few.names()).val.mask_classes(1).unwrap_err().to_string();
        assert!(
            error.contains(
                "the mask of image 1: not a usable mask: 2 is the number of no class; there are 0,1 ignored -1 ("
            ),
            "{error}"
        );
    }
    let error = open(&write(&numbers, &[2, 3, 2], "masks")).unwrap_err().to_string();
    assert!(error.contains("2 images of 2×3 pixels, and") && error.contains("[2, 3, 2]"), "{error}");
    let error = open(&write(&numbers[..2], &[2], "labels")).unwrap_err().to_string();
    assert!(error.contains("2 images of 2×3 pixels, and"), "{error}");
}

#[test]
fn parts_in_other_files_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pixels: Vec<u8> = (0..4 * 18).collect();
    for (name, rows) in [("one.h5", 0..2), ("two.h5", 2..4)] {
        let part = h5::create(&at(name)).unwrap();
        let images = part.new_dataset::<u8>().shape([2, 2, 3, 3]).create("images").unwrap();
        images.write_raw(&pixels[rows.start * 18..rows.end * 18]).unwrap();
        part.new_dataset_builder().with_data(&[0, 1]).create("labels").unwrap();
    }
    let set = File::with_options().with_fapl(|access| access.file_locking(false)).create(at("set.h5")).unwrap();
    let train = set.create_group("train").unwrap();
    let mut builder = train.new_dataset::<u8>().shape([4, 2, 3, 3]);
    for (name, start) in [("one.h5", 0), ("two.h5", 2)] {
        let of_part = (start..start + 2, .., .., ..);
        builder = builder.virtual_map(name, "images", (2, 2, 3, 3), (.., .., .., ..), (4, 2, 3, 3), of_part);
    }
    builder.create("images").unwrap();
    train.new_dataset_builder().with_data(&[0, 1, 0, 1]).create("labels").unwrap();
    drop((train, set));
    let dataset = open(&at("set.h5"), None).unwrap();
    assert_eq!((0..4).flat_map(|index| dataset.train.pixels(index)).collect::<Vec<_>>(), pixels);
    // The same file again, and the folder that its parts lie in, too.
    assert_eq!(open(&at("set.h5"), None).unwrap().train.pixels(3), pixels[54..]);
    drop(dataset);
    let twice = open(folder.path(), None).unwrap_err().to_string();
    assert!(twice.contains("one.h5, which is in the same folder and would count twice; name "), "{twice}");
    // HDF5 would give zeros.
    let error = || open(&at("set.h5"), None).unwrap_err().to_string();
    std::fs::rename(at("two.h5"), at("three.h5")).unwrap();
    assert!(error().contains("/train/images is made of images in two.h5, which is not there"), "{}", error());
    h5::create(&at("two.h5")).unwrap();
    assert!(error().contains("two.h5, which has no such array"), "{}", error());
    std::fs::write(at("two.h5"), "cut").unwrap();
    assert!(error().contains("images in two.h5: "), "{}", error());

    let linked = h5::create(&at("linked.h5")).unwrap();
    linked.link_external("gone.h5", "train", "train").unwrap();
    drop(linked);
    let error = open(&at("linked.h5"), None).unwrap_err().to_string();
    assert!(error.contains("train cannot be opened: ") && error.contains("gone.h5"), "{error}");
}
