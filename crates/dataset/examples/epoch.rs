//! A hash of an epoch's batches, as so many ranks see them: this side of `scripts/containers`. Prints it, and how many images it is of.
//!
//! ```text
//! epoch DATA none|encoded|pixels RANKS SIDE    of the first epoch, shuffled; and of the images to validate on
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use dataset::{
    Batch, Contents, Dataset, Decoding, FileSpec, ImageSet, Listing, Loader, LoaderConfig, OnBadImage, Spec, TableSpec,
    cache, unwatched,
};
use layout::Shard;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BATCH: usize = 64;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [data, contents, ranks, side] = arguments[..] else {
        return Err("see the first lines of this program for its arguments".into());
    };
    let (ranks, side) = (ranks.parse()?, side.parse()?);
    let Dataset { train, val, .. } = open(Path::new(data), contents, side)?;
    let (train, val) = (Arc::new(train), Arc::new(val));
    let images = train.len() + val.len();
    println!("{} {images} images", hash(&train, &val, ranks, side)?);
    Ok(())
}

fn open(data: &Path, contents: &str, side: usize) -> Result<Dataset> {
    let listing = match data.extension().and_then(|ending| ending.to_str()) {
        Some("csv") => {
            let table = TableSpec { path: data.to_owned(), ..TableSpec::default() };
            Listing::of_table(data.parent().unwrap_or(data), &table, None, None, &unwatched)?
        }
        Some("h5" | "npz") => return Ok(Dataset::of_file(data, &FileSpec::default())?),
        _ => Listing::of_path(data, None, None, &unwatched)?,
    };
    let contents = match contents {
        "none" => return Ok(Dataset::of_files(&listing, Decoding::default())),
        "encoded" => Contents::Encoded,
        _ => Contents::Pixels { side, crop: side },
    };
    let spec = Spec { contents, decoding: Decoding::default(), masks: None };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("cache.h5");
    cache::build(&listing, &spec, &path, OnBadImage::Fail, &unwatched)?;
    match cache::open(&path, &spec.fingerprint(&listing), spec.decoding)? {
        cache::Found::Current(dataset) => Ok(*dataset),
        other => Err(format!("{other:?}").into()),
    }
}

/// Of each image and its label, in the order of the global batches: each is the ranks' parts in the order of the ranks.
fn hash(train: &Arc<ImageSet>, val: &Arc<ImageSet>, ranks: usize, side: usize) -> Result<blake3::Hash> {
    let loader = |images: &Arc<ImageSet>, rank| {
        let config = LoaderConfig { resize: side, ..LoaderConfig::new(BATCH, side) };
        Loader::new(Arc::clone(images), Shard::new(rank, ranks), config)
    };
    let mut hasher = blake3::Hasher::new();
    let mut add = |batch: &Batch| {
        let images = batch.pixels.chunks_exact(batch.pixels.len() / batch.len());
        for (image, label) in images.zip(&batch.labels) {
            hasher.update(image).update(&label.to_le_bytes());
        }
    };
    let mut of_ranks: Vec<_> = (0..ranks).map(|rank| loader(train, rank).train(0, 0)).collect();
    'epoch: loop {
        for batches in &mut of_ranks {
            let Some(batch) = batches.next() else { break 'epoch };
            add(&batch?);
        }
    }
    for index in 0..val.len() {
        add(&loader(val, 0).sample(index)?);
    }
    Ok(hasher.finalize())
}
