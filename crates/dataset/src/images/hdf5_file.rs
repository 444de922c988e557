//! Somebody else's HDF5 file with images and labels, used as it is.
//!
//! ```text
//! /train, and /val and /test if there are any:
//!     images  (or pixels, data, x)     u8 N×H×W×3
//!     labels  (or label, targets, y)   integers N
//! /classes                             names, optional
//! ```
//!
//! Contiguous images are mapped; those in chunks, or compressed, come through HDF5 and its one lock.
//!
//! Somebody else's file is not trusted with memory: how many labels, names and bytes of a chunk it claims is compared with
//! its size. What HDF5 itself makes of a structure that is damaged is not ours to check.

use std::path::Path;

use hdf5::{File, Group};

use super::{Bytes, Dataset, ImageSet, Store};
use crate::h5::{self, bytes_of, chunk_bytes, texts_within};
use crate::{Error, Result, Size, Split, ValSplit, limits};

const IMAGES: &[&str] = &["images", "pixels", "data", "x", "X"];
/// Labels are below this.
const MOST_CLASSES: i64 = 1 << 20;
/// Members of a file that an error names.
const NAMED: usize = 12;
const LABELS: &[&str] = &["labels", "label", "targets", "y", "Y"];

/// Opens an HDF5 file with images and labels.
///
/// # Errors
/// A file that is none, or is not laid out as above; a `val_split` where it has images to validate on.
pub(super) fn open(path: &Path, val_split: Option<ValSplit>) -> Result<Dataset> {
    let input = |reason: String| Error::Input(format!("{}: {reason}", path.display()));
    let file = h5::open(path).map_err(|error| input(format!("cannot be opened as HDF5: {error}")))?;
    let length = std::fs::metadata(path).map_err(Error::io(path, "reading its size"))?.len();
    let mut memory = limits::of_hdf5(length);
    let mut set = |split: Split| {
        let group = file.group(split.name());
        let group = group.map_err(|_| input(format!("no group /{}; it holds {}", split.name(), members(&file))))?;
        read_set(&group, &mut memory).map_err(|reason| input(format!("/{}: {reason}", split.name())))
    };
    let has = |split: Split| file.link_exists(split.name());
    let (train, val) = match val_split {
        Some(_) if has(Split::Val) => return Err(input("has /val to validate on; leave --val-split out".to_owned())),
        Some(val_split) => {
            let (train, val) = (set(Split::Train)?, set(Split::Train)?);
            let is_val = train.set_aside(val_split);
            let of = |wanted: bool| (0..is_val.len()).filter(|&index| is_val[index] == wanted).collect::<Vec<_>>();
            (train.without(&of(true)), val.without(&of(false)))
        }
        None => {
            (set(Split::Train)?, has(Split::Val).then(|| set(Split::Val)).transpose()?.unwrap_or_else(ImageSet::empty))
        }
    };
    let test = has(Split::Test).then(|| set(Split::Test)).transpose()?;
    let sets = [Some(&train), Some(&val), test.as_ref()].into_iter().flatten();
    let labels = sets.flat_map(|set| set.labels().iter().max()).max().map_or(0, |&label| label as usize + 1);
    let classes = if file.link_exists("classes") {
        let names = file.dataset("classes").map_err(|error| error.to_string());
        let names = names.and_then(|names| texts_within(&names, &mut memory));
        names.map_err(|reason| {
            input(format!("/classes cannot be read: {reason}; it must be a list of variable-length UTF-8 strings"))
        })?
    } else {
        (0..labels).map(|label| label.to_string()).collect()
    };
    if classes.len() < labels {
        let names = classes.len();
        return Err(input(format!("/classes has {names} names, and there are labels up to {}", labels - 1)));
    }
    Ok(Dataset { classes, train, val, test })
}

fn members(file: &File) -> String {
    let mut names = file.member_names().unwrap_or_default();
    if names.len() > NAMED {
        names.truncate(NAMED);
        names.push("…".to_owned());
    }
    names.join(", ").chars().flat_map(char::escape_debug).take(500).collect()
}

/// The images and labels of a group, which may take so much `memory`.
fn read_set(group: &Group, memory: &mut u64) -> std::result::Result<ImageSet, String> {
    let find = |names: &[&str], what: &str| {
        let found = names.iter().find_map(|name| group.dataset(name).ok());
        found.ok_or_else(|| format!("no {what} (looked for: {})", names.join(", ")))
    };
    let (images, labels) = (find(IMAGES, "images")?, find(LABELS, "labels")?);
    let &[count, height, width, 3] = &images.shape()[..] else {
        return Err(format!("{} has the shape {:?}; N×H×W×3 is needed", images.name(), images.shape()));
    };
    if !images.dtype().is_ok_and(|dtype| dtype.is::<u8>()) {
        return Err(format!("{} must hold bytes (u8)", images.name()));
    }
    if let Some(missing) = images.filters().iter().find(|filter| !filter.is_available()) {
        return Err(format!(
            "{} is compressed by HDF5's filter {}, which is not here: pip install hdf5plugin, and export \
             HDF5_PLUGIN_PATH=$(python3 -c 'import hdf5plugin; print(hdf5plugin.PLUGIN_PATH)')",
            images.name(),
            missing.id()
        ));
    }
    if labels.shape() != [count] {
        return Err(format!("{count} images, and labels of the shape {:?}", labels.shape()));
    }
    let side =
        |side: usize| u32::try_from(side).map_err(|_| format!("images of {width}×{height} pixels are too large"));
    let size = Size { width: side(width)?, height: side(height)? }.check()?;
    let mut take = |what: &str, bytes: Option<u64>| {
        let left = bytes.and_then(|bytes| memory.checked_sub(bytes));
        *memory = left.ok_or_else(|| {
            let bytes = bytes.map_or("more than 2^64".to_owned(), |bytes| bytes.to_string());
            format!("{what} would take {bytes} bytes, more than 64 MB and 4 times the file; is it damaged?")
        })?;
        Ok::<_, String>(())
    };
    // In the file as they are, as i64, and once more without those that are left out.
    take(&format!("{count} labels"), (count as u64).checked_mul(8 * 3))?;
    if let Some(bytes) = chunk_bytes(&labels) {
        take("a chunk of the labels", Some(bytes))?;
    }
    let labels: Vec<i64> = labels.read_raw().map_err(|error| format!("the labels cannot be read: {error}"))?;
    if let Some(label) = labels.iter().find(|label| !(-1..MOST_CLASSES).contains(*label)) {
        return Err(format!("{label} is not a label"));
    }
    if count > 0 && labels.iter().all(|&label| label < 0) {
        return Err(format!("all of its {count} images are left out: their labels are -1"));
    }
    let path = h5::file_of(&images);
    let bytes = match bytes_of(&images) {
        Some(place) if images.filters().is_empty() => {
            Bytes::of_file(&path, place).map_err(|error| error.to_string())?
        }
        _ => {
            // A chunk as it is stored, inflated, and the image that is taken from it.
            take("a chunk of the images", chunk_bytes(&images).unwrap_or(0).checked_mul(2))?;
            take("an image", Some(2 * size.bytes() as u64))?;
            Bytes::Rows { dataset: images, path, row_bytes: size.bytes() }
        }
    };
    Ok(ImageSet::of_store(Store::Pixels { bytes, size }, labels, None))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let images =
            train.new_dataset::<u8>().shape((4, 2, 2, 3)).chunk((2, 2, 2, 3)).deflate(1).create("images").unwrap();
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
}
