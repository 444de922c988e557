//! Somebody else's HDF5 file with pictures and labels, used as it is.
//!
//! ```text
//! /train, /val, and /test if there is one:
//!     images  (or pixels, data, x)     u8 N×H×W×3
//!     labels  (or label, targets, y)   integers N
//! /classes                             names, optional
//! ```
//!
//! Contiguous pictures are mapped; those in chunks, or compressed, come through HDF5 and its one lock.

use std::path::Path;

use hdf5::{File, Group};

use super::{Bytes, Dataset, ImageSet, Store};
use crate::h5::{self, bytes_of, texts};
use crate::{Error, Result, Size, Split};

const IMAGES: &[&str] = &["images", "pixels", "data", "x", "X"];
const LABELS: &[&str] = &["labels", "label", "targets", "y", "Y"];

impl Dataset {
    /// Opens an HDF5 file with pictures and labels.
    ///
    /// # Errors
    /// A file that is none, or is not laid out as above.
    pub fn of_hdf5(path: &Path) -> Result<Self> {
        let input = |reason: String| Error::Input(format!("{}: {reason}", path.display()));
        let file = h5::open(path).map_err(|error| input(format!("cannot be opened as HDF5: {error}")))?;
        let set = |split: Split| {
            let group = file.group(split.name());
            let group = group.map_err(|_| input(format!("no group /{}; it holds {}", split.name(), members(&file))))?;
            read_set(&group, path).map_err(|reason| input(format!("/{}: {reason}", split.name())))
        };
        let (train, val) = (set(Split::Train)?, set(Split::Val)?);
        let test = file.link_exists("test").then(|| set(Split::Test)).transpose()?;
        let sets = [Some(&train), Some(&val), test.as_ref()].into_iter().flatten();
        let labels = sets.flat_map(|set| set.labels().iter().max()).max().map_or(0, |&label| label as usize + 1);
        let classes = match texts(&file, "classes") {
            Ok(names) if names.len() < labels => {
                return Err(input(format!(
                    "/classes has {} names, and there are labels up to {}",
                    names.len(),
                    labels - 1
                )));
            }
            Ok(names) => names,
            Err(_) => (0..labels).map(|label| label.to_string()).collect(),
        };
        Ok(Self { classes, train, val, test })
    }
}

fn members(file: &File) -> String {
    file.member_names().unwrap_or_default().join(", ")
}

fn read_set(group: &Group, path: &Path) -> std::result::Result<ImageSet, String> {
    let find = |names: &[&str], what: &str| {
        let found = names.iter().find_map(|name| group.dataset(name).ok());
        found.ok_or_else(|| format!("no {what} (looked for: {})", names.join(", ")))
    };
    let (images, labels) = (find(IMAGES, "pictures")?, find(LABELS, "labels")?);
    let &[count, height, width, 3] = &images.shape()[..] else {
        return Err(format!("{} has the shape {:?}; N×H×W×3 is needed", images.name(), images.shape()));
    };
    if !images.dtype().is_ok_and(|dtype| dtype.is::<u8>()) {
        return Err(format!("{} must hold bytes (u8)", images.name()));
    }
    if labels.shape() != [count] {
        return Err(format!("{count} pictures, and labels of the shape {:?}", labels.shape()));
    }
    let labels: Vec<i64> = labels.read_raw().map_err(|error| format!("the labels cannot be read: {error}"))?;
    if let Some(label) = labels.iter().find(|label| !(-1..1 << 20).contains(*label)) {
        return Err(format!("{label} is no label"));
    }
    let size = Size { width: width as u32, height: height as u32 }.check()?;
    let bytes = match bytes_of(&images) {
        Some(place) if images.filters().is_empty() => Bytes::of_file(path, place).map_err(|error| error.to_string())?,
        _ => Bytes::Rows { dataset: images, path: path.to_owned(), row_bytes: size.bytes() },
    };
    Ok(ImageSet::of_store(Store::Pixels { bytes, size }, labels, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of 5 + 2 pictures of 3×2 pixels; the training pictures lie in chunks, and compressed if they can be.
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
    fn chunks_and_contiguous_pictures_are_read_alike() {
        let file = file("data", &[3, 0, 1, 2, 0]);
        let dataset = Dataset::of_hdf5(file.path()).unwrap();
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
    fn faults_have_words() {
        let error = |file: &tempfile::NamedTempFile| Dataset::of_hdf5(file.path()).unwrap_err().to_string();
        assert!(error(&file("photos", &[0; 5])).contains("/train: no pictures (looked for: images"));
        assert!(error(&file("data", &[0; 4])).contains("/train: 5 pictures, and labels of the shape [4]"));
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(error(&empty).contains("cannot be opened as HDF5"));
        h5::create(empty.path()).unwrap().create_group("other").unwrap();
        assert!(error(&empty).contains("no group /train; it holds other"));
    }
}
