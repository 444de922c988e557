//! Any sound HDF5 file is data or is refused, whatever it claims: shapes, types, chunks, filters, names, and what is in them.
//!
//! The bytes say what stands in a file that HDF5 itself writes; it is read as somebody else's data, within 64 MB and 4 times its
//! size. HDF5 reads its own structure, and what it makes of a damaged one is not ours: so no file is damaged here.

#![no_main]

use std::sync::Arc;

use dataset::{Dataset, FileSpec, Loader, LoaderConfig, Normalization};
use dataset_fuzz::{FREE, check_words, folder, within};
use hdf5::types::VarLenUnicode;
use hdf5::{Group, H5Type, SimpleExtents};
use layout::Shard;
use libfuzzer_sys::fuzz_target;

/// The bytes, taken one after the other; zeros when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn is(&mut self, often: u8) -> bool {
        self.byte() < often
    }

    /// A side: mostly small, at times as large as can be.
    fn side(&mut self) -> usize {
        match self.byte() {
            small @ 0..200 => usize::from(small % 8),
            200..220 => usize::from(self.byte()) << 4,
            shift => 1_usize.checked_shl(u32::from(shift) - 190).unwrap_or(1) + usize::from(self.byte() % 4),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let path = folder().join("data.h5");
    let _ = std::fs::remove_file(&path);
    if write(&path, &mut Bytes(bytes)).is_err() {
        return; // HDF5 refuses to write it
    }
    let length = std::fs::metadata(&path).expect("it was written").len() as usize;
    within(FREE + 4 * length, || match Dataset::of_file(&path, &FileSpec::default()) {
        Ok(dataset) => read(dataset),
        Err(error) => {
            assert!(error.is_bad_input(), "{error:?}");
            check_words(&error.to_string());
        }
    });
});

fn write(path: &std::path::Path, bytes: &mut Bytes) -> hdf5::Result<()> {
    let file = hdf5::File::create(path)?;
    for split in ["train", "val", "test"] {
        if bytes.is(if split == "test" { 100 } else { 250 }) {
            let group = file.create_group(split)?;
            dataset(&group, ["images", "x", "data", "other"][usize::from(bytes.byte() % 4)], 4, bytes)?;
            dataset(&group, ["labels", "y", "targets", "label"][usize::from(bytes.byte() % 4)], 1, bytes)?;
        }
    }
    if bytes.is(100) {
        dataset(&file, "classes", 1, bytes)?;
    }
    file.close()
}

fn dataset(group: &Group, name: &str, axes: usize, bytes: &mut Bytes) -> hdf5::Result<()> {
    match bytes.byte() {
        0..100 if axes == 4 => of_type::<u8>(group, name, axes, bytes, |value| value),
        0..100 if name == "classes" => of_type::<VarLenUnicode>(group, name, axes, bytes, |value| {
            "name".repeat(usize::from(value)).parse().unwrap_or_default()
        }),
        0..140 => of_type::<i64>(group, name, axes, bytes, |value| i64::from(value) - 1),
        140..180 => of_type::<u16>(group, name, axes, bytes, u16::from),
        180..200 => of_type::<f32>(group, name, axes, bytes, f32::from),
        200..220 => of_type::<u64>(group, name, axes, bytes, |value| u64::MAX - u64::from(value)),
        220..240 => of_type::<VarLenUnicode>(group, name, axes, bytes, |_| VarLenUnicode::new()),
        _ => group.create_group(name).map(drop),
    }
}

fn of_type<T: H5Type>(
    group: &Group,
    name: &str,
    axes: usize,
    bytes: &mut Bytes,
    value: impl Fn(u8) -> T,
) -> hdf5::Result<()> {
    let axes = if bytes.is(240) { axes } else { usize::from(bytes.byte() % 6) };
    let mut shape: Vec<usize> = (0..axes).map(|_| bytes.side()).collect();
    if axes == 4 && bytes.is(230) {
        shape[3] = 3;
    }
    let count = shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side)).unwrap_or(usize::MAX);
    let is_small = count <= 4096;
    let is_written = is_small && bytes.is(200);
    let dataset = if is_small && bytes.is(128) {
        group.new_dataset::<T>().shape(shape.clone()).create(name)?
    } else {
        // What is large is only claimed: in chunks that are never written. It grows to its shape, because the library
        // multiplies the sides of one that is created.
        let mut room = 1 << 34;
        let chunk: Vec<usize> = shape
            .iter()
            .map(|&of_shape| {
                // Chunks of what is written stand in the file as a whole.
                let most = if is_written { of_shape.max(1).saturating_mul(2) } else { usize::MAX }.min(1 << 20);
                let side = bytes.side().clamp(1, most).min(room);
                room /= side;
                side
            })
            .collect();
        let first = SimpleExtents::resizable(vec![1; shape.len()]);
        let builder = group.new_dataset::<T>().shape(first).chunk(chunk);
        let builder = if bytes.is(60) { builder.deflate(1) } else { builder };
        let dataset = builder.create(name)?;
        dataset.resize(shape)?;
        dataset
    };
    if is_written {
        let values: Vec<T> = (0..count).map(|_| value(bytes.byte())).collect();
        dataset.write_raw(&values)?;
    }
    Ok(())
}

/// Reads the first images of each set, as an evaluation does.
fn read(dataset: Dataset) {
    let classes = dataset.classes.len() as i64;
    for images in [Some(dataset.train), Some(dataset.val), dataset.test].into_iter().flatten() {
        assert!(images.labels().iter().all(|&label| (0..classes).contains(&label)));
        let pixels = images.size().map_or(0, |size| size.width as usize * size.height as usize);
        if images.is_empty() || pixels > 1 << 20 {
            continue;
        }
        let channels = images.format().channels();
        let normalization = Normalization { mean: vec![0.0; channels], std: vec![1.0; channels] };
        let config = LoaderConfig { normalization, ..LoaderConfig::new(4, 8) };
        let loader = Loader::new(Arc::new(images), Shard::WHOLE, config);
        if let Some(Err(error)) = loader.evaluate().next() {
            check_words(&error.to_string());
        }
    }
}
