//! Files of bare pixels: idx, which MNIST and its kin come in, and CIFAR's, binary and for Python. Each image is given on as the file
//! (PNM) that its pixels would be in.
//!
//! ```text
//! train-images-idx3-ubyte[.gz]   N×H×W bytes; labels in train-labels-idx1-ubyte[.gz] beside it
//! data_batch_1.bin               label, 3×32×32 bytes; again                          names in batches.meta.txt
//! train.bin                      coarse label, fine label, 3×32×32 bytes; again       names in fine_label_names.txt
//! data_batch_1, train            pickles: N×3×32×32 bytes, N labels                   names in batches.meta, meta
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::index::{Contents, Entry, Told};
use super::{ArchiveSpec, Checked, Fault, Kind, pickle};
use crate::limits::quote;
use crate::scan::{Split, composed, is_left_behind, split_of_name};
use crate::watch::Counter;
use crate::{Error, Result};

/// Height and width of CIFAR's images.
const CIFAR: usize = 32;
const CIFAR_BYTES: usize = 3 * CIFAR * CIFAR;
/// Of idx: two zeros, unsigned bytes, and how many axes.
const IDX_LABELS: [u8; 4] = [0, 0, 8, 1];
const IDX_IMAGES: [u8; 4] = [0, 0, 8, 3];
/// Bytes before the images: what they are, and three lengths.
const IDX_START: u64 = 16;
/// The largest pickle that is read, in bytes. CIFAR-100's is of 155 MB.
const LONGEST: u64 = 1 << 30;

/// Which of CIFAR's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cifar {
    Ten,
    Hundred,
}

/// What a file is by its name and by what lies beside it, which the names of CIFAR's need.
pub(super) fn kind_of(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    let is_batch = |name: &str| name == "test_batch" || name.strip_prefix("data_batch_").is_some_and(is_number);
    let is_split = |name: &str| name == "train" || name == "test";
    let (kind, beside) = match (name.strip_suffix(".bin"), idx_stem(name)) {
        (_, Some(_)) => (if is_gzip(name) { Kind::IdxGzip } else { Kind::Idx }, None),
        (Some(stem), None) if is_batch(stem) => (Kind::CifarBinary(Cifar::Ten), Some("batches.meta.txt")),
        (Some(stem), None) if is_split(stem) => (Kind::CifarBinary(Cifar::Hundred), Some("fine_label_names.txt")),
        (None, None) if is_batch(name) => (Kind::CifarPython(Cifar::Ten), Some("batches.meta")),
        (None, None) if is_split(name) => (Kind::CifarPython(Cifar::Hundred), Some("meta")),
        _ => return None,
    };
    // Only now is the disk asked: a folder may hold a million files of other names. Some are folders, of images to train on, say.
    let is_there = |path: &Path| path.is_file();
    let has_beside = beside.is_none_or(|beside| is_there(&path.with_file_name(beside)));
    (has_beside && is_there(path) && !is_left_behind(Path::new(name))).then_some(kind)
}

/// The name of a file of idx images up to what says that it is one: of `train-images-idx3-ubyte.gz`, `train`.
fn idx_stem(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    ["-images-idx3-ubyte", "-images.idx3-ubyte"].iter().find_map(|ending| name.strip_suffix(ending))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
}

fn is_gzip(name: &str) -> bool {
    name.ends_with(".gz")
}

/// The files of such a data set below `folder`, or in `raw` there, as torchvision has it, each with its split; none where it is none.
///
/// # Errors
/// Several sets side by side, as EMNIST's are.
pub(crate) fn find(folder: &Path) -> Result<Vec<(PathBuf, Split)>> {
    for below in ["", "raw"] {
        let entries = std::fs::read_dir(folder.join(below)).into_iter().flatten().flatten();
        let path = |entry: std::fs::DirEntry| Some(Path::new(below).join(entry.file_name().into_string().ok()?));
        let mut found: Vec<_> = entries.filter_map(path).filter(|path| kind_of(&folder.join(path)).is_some()).collect();
        found.sort_unstable();
        // Where one is there unpacked, too, that is taken.
        let packed = |path: &PathBuf| {
            found.contains(&path.with_extension("")) && path.extension().is_some_and(|end| end == "gz")
        };
        let found: Vec<_> =
            found.iter().filter(|path| !packed(path)).map(|path| (path.clone(), split_of(path))).collect();
        let sets: BTreeSet<_> = found.iter().filter_map(|(path, _)| set_of(path)).collect();
        if sets.len() > 1 {
            let place = folder.join(below);
            let sets: Vec<_> = sets.into_iter().take(6).collect();
            return Err(Error::Input(format!(
                "{}: holds several sets: {}; put the files of one into a folder of their own",
                place.display(),
                quote(sets.join(", "))
            )));
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// The split that a file's name says.
fn split_of(path: &Path) -> Split {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = idx_stem(&name).unwrap_or(&name);
    let is_test = stem.starts_with("t10k");
    if is_test { Split::Test } else { split_of_name(Path::new(stem)).unwrap_or(Split::Train) }
}

/// Which set idx images are of, where several may lie side by side: of `emnist-letters-train-images-idx3-ubyte`, `emnist-letters`.
fn set_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let words = idx_stem(name)?.split('-').filter(|word| *word != "t10k" && split_of_name(Path::new(word)).is_none());
    Some(words.collect::<Vec<_>>().join("-"))
}

/// The files that belong to the one at `path`: its labels, and the names of its classes.
pub(super) fn beside(path: &Path, kind: Kind) -> Vec<PathBuf> {
    let with = |name: &str| path.with_file_name(name);
    match kind {
        Kind::Idx | Kind::IdxGzip => labels_of(path).into_iter().collect(),
        Kind::CifarBinary(Cifar::Ten) => vec![with("batches.meta.txt")],
        Kind::CifarBinary(Cifar::Hundred) => vec![with("fine_label_names.txt"), with("coarse_label_names.txt")],
        Kind::CifarPython(Cifar::Ten) => vec![with("batches.meta")],
        Kind::CifarPython(Cifar::Hundred) => vec![with("meta")],
        Kind::Tar | Kind::Stream(_) | Kind::Zip | Kind::Parquet | Kind::Lmdb | Kind::Pages => Vec::new(),
    }
}

/// The file with the labels of idx images, unpacked or not.
fn labels_of(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let plain = name.strip_suffix(".gz").unwrap_or(name).replace("images", "labels").replace("idx3", "idx1");
    let packed = images.with_file_name(format!("{plain}.gz"));
    let plain = images.with_file_name(plain);
    Some(if plain.is_file() || !packed.is_file() { plain } else { packed })
}

/// What is in the file at `path`.
pub(super) fn index(path: &Path, kind: Kind, spec: &ArchiveSpec, counter: &Counter<'_>) -> Result<Contents> {
    let contents = match kind {
        Kind::CifarBinary(cifar) => cifar_binary(path, cifar, spec, counter),
        Kind::CifarPython(cifar) => cifar_python(path, cifar, spec, counter),
        _ => idx(path, counter),
    };
    contents.map_err(|fault| fault.of(path))
}

type Found = std::result::Result<Contents, Fault>;

/// The images of a file, one after the other from byte `start` on, each `step` bytes after the one before.
fn entries(labels: Vec<i64>, start: u64, step: u64, shape: Shape, counter: &Counter<'_>) -> Result<Vec<Entry>> {
    let digits = labels.len().to_string().len();
    let entry = |(number, label): (usize, i64)| {
        counter.one()?;
        Ok(Entry {
            name: format!("{number:0digits$}.{}", if shape.channels == 3 { "ppm" } else { "pgm" }).into(),
            at: start + number as u64 * step,
            packed: shape.packed(),
            size: (shape.head().len() + shape.bytes()) as u64,
            told: Some(Told::Number(label)),
        })
    };
    labels.into_iter().enumerate().map(entry).collect()
}

/// The sides and channels of an image of bare bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    /// Whether the planes are blue, green and red, as Caffe has them.
    pub is_bgr: bool,
}

/// The bit of a packed shape that says so.
const BGR: u64 = 1 << 56;

/// Whether a member's packed shape says that its planes are blue, green and red.
pub(crate) fn is_bgr(packed: u64) -> bool {
    packed & BGR != 0
}

impl Shape {
    fn bytes(self) -> usize {
        self.width * self.height * self.channels
    }

    /// In the place of a member's compressed size.
    pub fn packed(self) -> u64 {
        let order = if self.is_bgr { BGR } else { 0 };
        order | (self.channels as u64) << 48 | (self.height as u64) << 24 | self.width as u64
    }

    pub fn of_packed(packed: u64) -> Self {
        let [channels, height, width] =
            [(packed & !BGR) >> 48, packed >> 24 & 0xff_ffff, packed & 0xff_ffff].map(|side| side as usize);
        Self { width, height, channels, is_bgr: is_bgr(packed) }
    }

    /// What stands before the pixels in a file.
    pub fn head(self) -> Vec<u8> {
        let magic = if self.channels == 3 { "P6" } else { "P5" };
        format!("{magic}\n{} {}\n255\n", self.width, self.height).into_bytes()
    }
}

/// How many bytes a member has in its archive: the file that is made of them is of `length`.
pub(super) fn stored(packed: u64, length: usize) -> Checked<usize> {
    let shape = Shape::of_packed(packed);
    let bytes = shape.width.checked_mul(shape.height).and_then(|pixels| pixels.checked_mul(shape.channels));
    let is_so = bytes.is_some_and(|bytes| bytes.checked_add(shape.head().len()) == Some(length));
    bytes
        .filter(|_| is_so && matches!(shape.channels, 1 | 3))
        .ok_or_else(|| "was listed otherwise; start again".to_owned())
}

/// Makes the file of an image: a head, and the pixels one by one that lie plane by plane in `planes`.
pub(super) fn file_of(packed: u64, planes: &[u8], file: &mut Vec<u8>) {
    let shape = Shape::of_packed(packed);
    file.clear();
    file.extend(shape.head());
    if shape.channels == 1 {
        file.extend_from_slice(planes);
        return;
    }
    let (first, rest) = planes.split_at(planes.len() / 3);
    let (green, last) = rest.split_at(rest.len() / 2);
    let (red, blue) = if shape.is_bgr { (last, first) } else { (first, last) };
    file.extend(red.iter().zip(green).zip(blue).flat_map(|((&red, &green), &blue)| [red, green, blue]));
}

fn idx(path: &Path, counter: &Counter<'_>) -> Found {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::io(&path, "reading it")(error)
    };
    let open = |path: &Path| -> Result<(Box<dyn Read>, Option<u64>)> {
        let file = File::open(path).map_err(Error::io(path, "opening it"))?;
        let length = file.metadata().map_err(io(path))?.len();
        let is_gzip = path.to_str().is_some_and(is_gzip);
        Ok(if is_gzip {
            (Box::new(MultiGzDecoder::new(BufReader::new(file))), None)
        } else {
            (Box::new(BufReader::new(file)), Some(length))
        })
    };
    let (mut images, length) = open(path)?;
    let mut start = [0; IDX_START as usize];
    images.read_exact(&mut start).map_err(io(path))?;
    let number = |at: usize| u32::from_be_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]) as usize;
    if start[..4] != IDX_IMAGES {
        return Err("is no idx file of images: its first bytes are not 0 0 8 3".to_owned().into());
    }
    let (count, shape) = (number(4), Shape { height: number(8), width: number(12), channels: 1, is_bgr: false });
    const MOST: usize = 1 << 14;
    const MOST_IMAGES: usize = 1 << 26;
    if count > MOST_IMAGES {
        return Err(format!("claims {count} images; at most {MOST_IMAGES} are read").into());
    }
    if !(1..=MOST).contains(&shape.height) || !(1..=MOST).contains(&shape.width) {
        return Err(format!("has images of {}×{} pixels", shape.width, shape.height).into());
    }
    let expected = IDX_START + count as u64 * shape.bytes() as u64;
    // What is compressed shows its length at its end.
    let length = match length {
        Some(length) => length,
        None => {
            IDX_START + std::io::copy(&mut images.by_ref().take(expected), &mut std::io::sink()).map_err(io(path))?
        }
    };
    if length != expected {
        return Err(format!(
            "has {length} bytes, and its {count} images of {}×{} take {expected}",
            shape.width, shape.height
        )
        .into());
    }
    let beside = labels_of(path).unwrap_or_default();
    let name = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !beside.is_file() {
        return Err(format!("has no labels: {name} is not beside it").into());
    }
    let (labels, _) = open(&beside)?;
    let mut bytes = Vec::new();
    labels.take(8 + count as u64 + 1).read_to_end(&mut bytes).map_err(io(&beside))?;
    match bytes.split_at_checked(8) {
        Some((head, labels)) if head[..4] == IDX_LABELS && labels.len() == count => {
            let labels = labels.iter().map(|&label| label.into()).collect();
            Ok(Contents {
                entries: entries(labels, IDX_START, shape.bytes() as u64, shape, counter)?,
                ..Contents::default()
            })
        }
        Some((head, labels)) if head[..4] == IDX_LABELS => {
            let there = if labels.len() > count { format!("more than {count}") } else { labels.len().to_string() };
            Err(format!("has {count} images, and {name} has {there} labels").into())
        }
        _ => Err(format!("{name} is no idx file of labels: its first bytes are not 0 0 8 1").into()),
    }
}

const CIFAR_SHAPE: Shape = Shape { width: CIFAR, height: CIFAR, channels: 3, is_bgr: false };

/// Which of an image's labels is wanted: CIFAR-100 has two.
fn is_coarse(cifar: Cifar, spec: &ArchiveSpec) -> Checked<bool> {
    match (cifar, spec.labels.as_deref()) {
        (_, None) | (Cifar::Hundred, Some("fine" | "fine_labels")) | (Cifar::Ten, Some("labels")) => Ok(false),
        (Cifar::Hundred, Some("coarse" | "coarse_labels")) => Ok(true),
        (Cifar::Hundred, Some(other)) => Err(format!("--labels {}: CIFAR-100 has fine and coarse ones", quote(other))),
        (Cifar::Ten, Some(other)) => {
            Err(format!("--labels {}: CIFAR-10 has one label an image; leave it out", quote(other)))
        }
    }
}

fn cifar_binary(path: &Path, cifar: Cifar, spec: &ArchiveSpec, counter: &Counter<'_>) -> Found {
    let coarse = is_coarse(cifar, spec)?;
    let before = match cifar {
        Cifar::Ten => 1,
        Cifar::Hundred => 2,
    };
    let record = before + CIFAR_BYTES;
    let file = File::open(path).map_err(Error::io(path, "opening it"))?;
    let length = file.metadata().map_err(Error::io(path, "reading its size"))?.len() as usize;
    if length == 0 || !length.is_multiple_of(record) {
        return Err(format!("has {length} bytes, which are not records of {record}; is it cut off?").into());
    }
    let map = crate::file::map(&file).map_err(Error::io(path, "mapping it"))?;
    let place = if cifar == Cifar::Hundred && !coarse { 1 } else { 0 };
    let labels = map.chunks_exact(record).map(|record| record[place].into()).collect();
    let names = match (cifar, coarse) {
        (Cifar::Ten, _) => "batches.meta.txt",
        (Cifar::Hundred, false) => "fine_label_names.txt",
        (Cifar::Hundred, true) => "coarse_label_names.txt",
    };
    let names = read_beside(path, names)?;
    let names =
        String::from_utf8_lossy(&names).lines().map(str::trim).filter(|line| !line.is_empty()).map(composed).collect();
    let entries = entries(labels, before as u64, record as u64, CIFAR_SHAPE, counter)?;
    Ok(Contents { entries, names, ..Contents::default() })
}

fn cifar_python(path: &Path, cifar: Cifar, spec: &ArchiveSpec, counter: &Counter<'_>) -> Found {
    let (labels, names, of_names) = match (cifar, is_coarse(cifar, spec)?) {
        (Cifar::Ten, _) => ("labels", "label_names", "batches.meta"),
        (Cifar::Hundred, false) => ("fine_labels", "fine_label_names", "meta"),
        (Cifar::Hundred, true) => ("coarse_labels", "coarse_label_names", "meta"),
    };
    let file = File::open(path).map_err(Error::io(path, "opening it"))?;
    if file.metadata().map_err(Error::io(path, "reading its size"))?.len() > LONGEST {
        return Err(format!("is larger than {LONGEST} bytes, and no file of CIFAR").into());
    }
    let map = crate::file::map(&file).map_err(Error::io(path, "mapping it"))?;
    let found = pickle::look_through(&map, labels, names)?;
    let (bytes, count) = (found.data.len(), found.labels.len());
    if count > 0 && bytes == count * CIFAR_BYTES && !found.is_rows_of(count, CIFAR_BYTES) {
        return Err(format!(
            "has an array of another shape, type or order than {count} rows of {CIFAR_BYTES} bytes, each of three planes; has it been written anew? \
             The binary version is read, too"
        )
        .into());
    }
    if count == 0 || bytes != count * CIFAR_BYTES {
        return Err(format!(
            "has {count} {labels} and {bytes} bytes of data, where CIFAR's files for Python have {CIFAR_BYTES} bytes of an image; has it been \
             written anew? The binary version is read, too"
        )
        .into());
    }
    let meta = read_beside(path, of_names)?;
    let names = pickle::look_through(&meta, labels, names).map_err(|reason| format!("{of_names} {reason}"))?.names;
    let names = names.iter().map(|name| composed(name)).collect();
    let entries = entries(found.labels, found.data.start as u64, CIFAR_BYTES as u64, CIFAR_SHAPE, counter)?;
    Ok(Contents { entries, names, ..Contents::default() })
}

/// A small file beside the one at `path`.
fn read_beside(path: &Path, name: &str) -> Result<Vec<u8>> {
    let beside = path.with_file_name(name);
    let mut bytes = Vec::new();
    let file = File::open(&beside).map_err(Error::io(&beside, "opening it"))?;
    file.take(1 << 20).read_to_end(&mut bytes).map_err(Error::io(&beside, "reading it"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::super::tests::folder;
    use super::*;
    use crate::scan::{ArchiveSet, Names};
    use crate::{Listing, unwatched};

    fn list(root: &TempDir, labels: Option<&str>) -> Result<Listing> {
        let set = ArchiveSet::find(root.path())?.ok_or_else(|| Error::Input("none was found".to_owned()))?;
        let spec = ArchiveSpec { labels: labels.map(str::to_owned), ..ArchiveSpec::default() };
        let index = |path: &PathBuf| super::super::index(path, &spec, &unwatched);
        let indices = set.paths().iter().map(index).collect::<Result<Vec<_>>>()?;
        Listing::of_archives(&set, &indices, Names::Found)
    }

    /// The label of each image to train on, and the file that is made of it.
    fn images(listing: &Listing) -> Vec<(String, Vec<u8>)> {
        let files = listing.files();
        let one = |sample: &crate::Sample| {
            let mut bytes = Vec::new();
            files.read(&sample.path, sample.size, sample.member, &mut bytes).unwrap();
            (listing.classes[sample.class].clone(), bytes)
        };
        listing.train.iter().map(one).collect()
    }

    fn idx(head: [u8; 4], sides: &[u32], data: &[u8]) -> Vec<u8> {
        [&head[..], &sides.iter().flat_map(|side| side.to_be_bytes()).collect::<Vec<_>>(), data].concat()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    const IMAGES: &str = "raw/train-images-idx3-ubyte";
    const LABELS: &str = "raw/train-labels-idx1-ubyte";

    fn mnist() -> [(&'static str, Vec<u8>); 2] {
        let images = idx(IDX_IMAGES, &[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        [(IMAGES, images), (LABELS, idx(IDX_LABELS, &[2], &[1, 0]))]
    }

    #[test]
    fn idx_files_packed_and_not() {
        let expected = [
            ("1".to_owned(), b"P5\n3 2\n255\n\x01\x02\x03\x04\x05\x06".to_vec()),
            ("0".to_owned(), b"P5\n3 2\n255\n\x07\x08\x09\x0a\x0b\x0c".to_vec()),
        ];
        let [images_file, labels_file] = mnist();
        assert_eq!(images(&list(&folder(&[images_file.clone(), labels_file.clone()]), None).unwrap()), expected);
        let packed = [
            ("train-images-idx3-ubyte.gz", gzip(&images_file.1)),
            ("train-labels-idx1-ubyte.gz", gzip(&labels_file.1)),
        ];
        let root = folder(&packed);
        assert_eq!(images(&list(&root, None).unwrap()), expected);
        // What is not packed is taken where both are there; and the images to test on are that.
        fs::write(root.path().join("train-images-idx3-ubyte"), &images_file.1).unwrap();
        for name in ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"] {
            fs::copy(
                root.path().join(if name.contains("labels") {
                    "train-labels-idx1-ubyte.gz"
                } else {
                    "train-images-idx3-ubyte"
                }),
                root.path().join(name),
            )
            .unwrap();
        }
        fs::write(root.path().join("t10k-labels-idx1-ubyte"), &labels_file.1).unwrap();
        let listing = list(&root, None).unwrap();
        assert_eq!((listing.archives.len(), listing.train.len(), listing.val.len()), (2, 2, 0));
        assert_eq!(listing.split(Split::Test).len(), 2);
    }

    #[test]
    fn splits_and_sets_by_the_names_of_idx_files() {
        let [images, labels] = mnist().map(|(_, bytes)| bytes);
        let files = |stems: &[&str]| -> Vec<(String, Vec<u8>)> {
            let pair = |stem: &&str| {
                [
                    (format!("{stem}-images-idx3-ubyte"), images.clone()),
                    (format!("{stem}-labels-idx1-ubyte"), labels.clone()),
                ]
            };
            stems.iter().flat_map(pair).collect()
        };
        let of = |stems: &[&str]| {
            let files = files(stems);
            let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
            let listing = list(&folder(&files), None)?;
            Ok::<_, Error>(Split::ALL.map(|split| listing.split(split).len()))
        };
        assert_eq!(of(&["train", "valid", "t10k"]).unwrap(), [2, 2, 2]);
        assert_eq!(of(&["emnist-letters-train", "emnist-letters-test", "._train"]).unwrap(), [2, 0, 2]);
        assert_eq!(of(&["latest"]).unwrap(), [2, 0, 0]);
        let several = of(&["emnist-letters-train", "emnist-digits-train"]).unwrap_err().to_string();
        assert!(several.contains("holds several sets: emnist-digits, emnist-letters; put"), "{several}");
        let none = of(&["t10k"]).unwrap_err().to_string();
        assert!(none.contains("has no images to train on"), "{none}");
        // Labels that came from elsewhere with an older time are other labels.
        let root = folder(&mnist());
        let path = root.path().join(IMAGES);
        let before = super::super::stamp(&path).unwrap();
        let labels = File::options().write(true).open(root.path().join(LABELS)).unwrap();
        labels.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_ne!(super::super::stamp(&path).unwrap(), before);
    }

    #[test]
    fn faults_of_idx_files_are_named() {
        let [images, labels] = mnist().map(|(_, bytes)| bytes);
        let cut = images[..images.len() - 1].to_vec();
        let other = |head: [u8; 4]| [&head[..], &images[4..]].concat();
        let cases = [
            (vec![(IMAGES, images.clone())], "train-labels-idx1-ubyte: no such file"),
            (vec![(IMAGES, cut), (LABELS, labels.clone())], "has 27 bytes, and its 2 images of 3×2 take 28"),
            (vec![(IMAGES, other([0, 0, 8, 1])), (LABELS, labels.clone())], "first bytes are not 0 0 8 3"),
            (vec![(IMAGES, images.clone()), (LABELS, images.clone())], "first bytes are not 0 0 8 1"),
            (
                vec![(IMAGES, images.clone()), (LABELS, labels[..9].to_vec())],
                "has 2 images, and train-labels-idx1-ubyte has 1 labels",
            ),
            (vec![(IMAGES, images.clone()), (LABELS, [&labels[..], b"x"].concat())], "has more than 2 labels"),
            (vec![(IMAGES, idx(IDX_IMAGES, &[2, 0, 3], &[])), (LABELS, labels.clone())], "images of 3×0 pixels"),
            (vec![(IMAGES, images[..5].to_vec()), (LABELS, labels)], "reading it"),
        ];
        for (files, words) in cases {
            let error = list(&folder(&files), None).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
        let packed = gzip(&images);
        let files = [
            ("train-images-idx3-ubyte.gz", packed[..packed.len() - 9].to_vec()),
            ("train-labels-idx1-ubyte", idx(IDX_LABELS, &[2], &[1, 0])),
        ];
        assert!(list(&folder(&files), None).is_err());
    }

    /// A record of CIFAR-10 whose three planes are `first`, and the two numbers after it.
    fn record(labels: &[u8], first: u8) -> Vec<u8> {
        let planes = (0..3).flat_map(|plane| [first + plane; CIFAR * CIFAR]);
        labels.iter().copied().chain(planes).collect()
    }

    #[test]
    fn cifar_of_both_versions() {
        let names = b"ant\nbee\n\n".to_vec();
        let root = folder(&[
            ("batches.meta.txt", names.clone()),
            ("data_batch_1.bin", [record(&[1], 10), record(&[0], 20)].concat()),
            ("test_batch.bin", record(&[1], 30)),
        ]);
        let listing = list(&root, None).unwrap();
        let found = images(&listing);
        let labels: Vec<_> = found.iter().map(|(class, _)| class.as_str()).collect();
        assert_eq!((labels, listing.split(Split::Test).len()), (vec!["bee", "ant"], 1));
        assert!(found[1].1.starts_with(b"P6\n32 32\n255\n\x14\x15\x16\x14\x15\x16"));

        let coarse_and_fine = [record(&[1, 0], 1), record(&[0, 1], 2)].concat();
        let hundred = [
            ("coarse_label_names.txt", b"c\nd\n".to_vec()),
            ("fine_label_names.txt", names),
            ("train.bin", coarse_and_fine),
        ];
        let root = folder(&hundred);
        let labels =
            |wanted| images(&list(&root, wanted).unwrap()).into_iter().map(|(class, _)| class).collect::<Vec<_>>();
        assert_eq!(
            (labels(None), labels(Some("coarse"))),
            (vec!["ant".to_owned(), "bee".to_owned()], vec!["d".to_owned(), "c".to_owned()])
        );
        assert!(list(&root, Some("label")).unwrap_err().to_string().contains("fine and coarse"));

        // The same by a pickle; its bytes lie where they lie.
        let data = [record(&[], 1), record(&[], 2)].concat();
        let array = |shape: &[u8], order: &[u8]| {
            let head = b"\x80\x03}(X\x04\x00\x00\x00datacnumpy\nndarray\n(K\x01";
            [&head[..], shape, b"X\x02\x00\x00\x00u1", order, b"B"].concat()
        };
        let pickle = |head: Vec<u8>| {
            let length = (data.len() as u32).to_le_bytes();
            [&head[..], &length, &data, b"tbX\x06\x00\x00\x00labels](K\x01K\x00eu."].concat()
        };
        let rows = b"K\x02M\x00\x0c\x86";
        let of_images = pickle(array(b"(K\x02K\x20K\x20K\x03t", b"\x89"));
        let in_columns = pickle(array(rows, b"\x88"));
        let pickle = pickle(array(rows, b"\x89"));
        let meta = b"\x80\x02}U\x0blabel_names](U\x03antU\x03beees.".to_vec();
        let root = folder(&[("batches.meta", meta.clone()), ("data_batch_1", pickle.clone())]);
        let found = images(&list(&root, None).unwrap());
        assert_eq!(found.iter().map(|(class, _)| class.as_str()).collect::<Vec<_>>(), ["bee", "ant"]);
        assert!(found[1].1.ends_with(&[2, 3, 4]));
        for (file, words) in [
            (b"\x80\x03}(X\x06\x00\x00\x00labels](K\x01eu.".to_vec(), "has 1 labels and 0 bytes of data"),
            (pickle[..pickle.len() - 1].to_vec(), "cut off"),
            (of_images, "has an array of another shape, type or order than 2 rows of 3072 bytes"),
            (in_columns, "has an array of another shape, type or order"),
            (b"{}".to_vec(), "no pickle"),
        ] {
            let error =
                list(&folder(&[("batches.meta", meta.clone()), ("data_batch_1", file)]), None).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_not_cifar_is_not_taken_for_it() {
        let cut = folder(&[("batches.meta.txt", b"a\n".to_vec()), ("data_batch_1.bin", vec![0; 3072])]);
        assert!(list(&cut, None).unwrap_err().to_string().contains("3072 bytes, which are not records of 3073"));
        let beyond = folder(&[("batches.meta.txt", b"a\n".to_vec()), ("data_batch_1.bin", record(&[1], 0))]);
        assert!(list(&beyond, None).unwrap_err().to_string().contains("has the label 1 of 1 classes"));
        for files in [&["train.bin"][..], &["train", "test"], &["data_batch_1.bin"], &["meta", "train/ant/1.png"]] {
            let files: Vec<_> = files.iter().map(|name| (*name, vec![0; 3073])).collect();
            assert_eq!(find(folder(&files).path()).unwrap(), []);
        }
    }
}
