//! A hash of an epoch's batches, as so many ranks see them: this side of `scripts/containers`. Prints it, and how many images it is of.
//!
//! ```text
//! epoch DATA none|encoded|pixels RANKS SIDE    of the first epoch, shuffled; and of the images to validate on
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use dataset::{
    ArchiveSet, ArchiveSpec, Contents, Dataset, Decoding, FileSpec, ImageSet, Listing, Loader, LoaderConfig, Names,
    OnBadImage, Spec, TableSpec, cache, index_archive, unwatched,
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
    let listing = match ArchiveSet::find(data)? {
        Some(set) => {
            let spec = ArchiveSpec::default();
            let indices = set
                .paths()
                .iter()
                .map(|path| index_archive(path, &spec, &unwatched))
                .collect::<dataset::Result<Vec<_>>>()?;
            Listing::of_archives(&set, &indices, Names::Found, None)?
        }
        None if data.is_file() && data.extension().is_some_and(|ending| ending == "csv") => {
            let table = TableSpec { path: data.to_owned(), ..TableSpec::default() };
            Listing::of_table(data.parent().unwrap_or(data), &table, None, None, &unwatched)?
        }
        None if data.is_file() => return Ok(Dataset::of_file(data, &FileSpec::default())?),
        None => Listing::scan(data, None)?,
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

/// Of the global batches: each is the ranks' parts in the order of the ranks.
fn hash(train: &Arc<ImageSet>, val: &Arc<ImageSet>, ranks: usize, side: usize) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let loader = |images: &Arc<ImageSet>, rank| {
        Loader::new(
            Arc::clone(images),
            Shard::new(rank, ranks),
            LoaderConfig { resize: side, ..LoaderConfig::new(BATCH, side) },
        )
    };
    let mut of_ranks: Vec<_> = (0..ranks).map(|rank| loader(train, rank).train(0, 0)).collect();
    'epoch: loop {
        for batches in &mut of_ranks {
            let Some(batch) = batches.next() else { break 'epoch };
            let batch = batch?;
            hasher.update(&batch.pixels);
            batch.labels.iter().for_each(|label| {
                hasher.update(&label.to_le_bytes());
            });
        }
    }
    for index in 0..val.len() {
        let batch = loader(val, 0).sample(index)?;
        hasher.update(&batch.pixels);
        batch.labels.iter().for_each(|label| {
            hasher.update(&label.to_le_bytes());
        });
    }
    Ok(hasher.finalize())
}
