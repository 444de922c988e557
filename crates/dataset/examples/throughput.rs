//! How many images a second: this side of `scripts/bench-data`. Prints one line, `images/s N`, and on stderr how much
//! memory is resident as an epoch goes on.
//!
//! ```text
//! throughput load files|encoded|pixels DATA SIDE RESIZE THREADS IMAGES   batches from a folder or archives, normalized, shuffled
//! throughput build pixels|encoded DIR RESIZE THREADS BUILDERS           a cache of DIR
//! throughput crops DIR OUT                                              Resize(256), CenterCrop(224) of every image
//! throughput arrays FILE SIDE THREADS IMAGES                            batches from a file of arrays, normalized, shuffled
//! throughput values FILE|DIR SIDE OUT                                   its training images as they are, in single precision
//! throughput pages DIR SIDE OUT                                         the same, each page of a TIFF file an image
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use augmentations::HorizontalFlip;
use dataset::{
    Augmentation, Batch, Contents, Crop, Dataset, Decoder, Decoding, FileSpec, LabelKind, Listing, Loader,
    LoaderConfig, Normalization, OnBadImage, OnNan, PixelFormat, Spec, cache, unwatched,
};
use layout::Shard;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BATCH: usize = 64;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["load", source, folder, side, resize, threads, images] => {
            load(source, Path::new(folder), side.parse()?, resize.parse()?, threads.parse()?, images.parse()?)
        }
        ["build", contents, folder, resize, threads, builders] => {
            build(contents, Path::new(folder), resize.parse()?, threads.parse()?, builders.parse()?)
        }
        ["crops", folder, out] => crops(Path::new(folder), Path::new(out)),
        ["arrays", file, side, threads, images] => {
            arrays(Path::new(file), side.parse()?, threads.parse()?, images.parse()?)
        }
        ["values", file, side, out] => values(Path::new(file), side.parse()?, Path::new(out), false),
        ["pages", folder, side, out] => values(Path::new(folder), side.parse()?, Path::new(out), true),
        _ => Err("see the first lines of this program for its arguments".into()),
    }
}

fn contents(name: &str, side: usize) -> Contents {
    if name == "encoded" { Contents::Encoded } else { Contents::Pixels { side, crop: side } }
}

fn load(source: &str, folder: &Path, side: usize, resize: usize, threads: usize, images: usize) -> Result<()> {
    let listing = Listing::of_path(folder, None, None, &unwatched)?;
    let temporary = tempfile::tempdir()?;
    let dataset = if source == "files" {
        Dataset::of_files(&listing, Decoding::default())
    } else {
        let spec = Spec { contents: contents(source, resize), decoding: Decoding::default(), masks: None };
        let path = temporary.path().join("cache.h5");
        cache::build(&listing, &spec, &path, OnBadImage::Fail, &unwatched)?;
        match cache::open(&path, &spec.fingerprint(&listing), spec.decoding)? {
            cache::Found::Current(dataset) => *dataset,
            other => return Err(format!("{other:?}").into()),
        }
    };
    let crop = if side <= 64 { Crop::Padded { padding: side / 8 } } else { Crop::Resized { least: 0.08 } };
    let augmentation = Augmentation { crop, changes: vec![Arc::new(HorizontalFlip)], ..Augmentation::NONE };
    let loader = Loader::new(
        Arc::new(dataset.train),
        Shard::WHOLE,
        LoaderConfig { resize, augmentation, threads, ..LoaderConfig::new(BATCH, side) },
    );
    let mut floats = vec![0.0; BATCH * side * side * 3];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    measure(&loader, images, |batch| {
        pool.install(|| batch.normalization.apply(&batch.pixels, side, &mut floats));
        std::hint::black_box(&floats);
    })
}

/// Prints how many images a second come out of `loader`, each batch of which is given to `take`.
fn measure(loader: &Loader, images: usize, mut take: impl FnMut(&Batch)) -> Result<()> {
    let (mut start, mut seen, mut resident) = (None, 0, Vec::new());
    'epochs: for epoch in 0.. {
        for batch in loader.train(epoch, 0) {
            let batch = batch?;
            take(&batch);
            // The first batch brings the threads up and is not counted, here as there.
            let start = start.get_or_insert_with(|| {
                seen = 0;
                Instant::now()
            });
            if seen * 5 / images != (seen + batch.len()) * 5 / images {
                resident.push(resident_mib().to_string());
            }
            seen += batch.len();
            if seen > images {
                println!("images/s {:.1}", (seen - BATCH) as f64 / start.elapsed().as_secs_f64());
                break 'epochs;
            }
        }
    }
    eprintln!("resident MiB, as images go by: {}", resident.join(" "));
    Ok(())
}

/// Builds with so many builders at once, each with its own shard and its own threads, as ranks do.
fn build(name: &str, folder: &Path, resize: usize, threads: usize, builders: usize) -> Result<()> {
    let listing = Listing::of_path(folder, None, None, &unwatched)?;
    let temporary = tempfile::tempdir()?;
    let spec = Spec { contents: contents(name, resize), decoding: Decoding::default(), masks: None };
    let start = Instant::now();
    let writer = cache::CacheWriter::create(&listing, &spec, "", &temporary.path().join("cache.h5"))?;
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..builders)
            .map(|rank| {
                let (writer, listing) = (&writer, &listing);
                scope.spawn(move || {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                    let shard = cache::CacheShard::open(writer.temporary(), &listing.root)?;
                    pool.install(|| shard.write(Shard::new(rank, builders), OnBadImage::Fail, &unwatched))
                })
            })
            .collect();
        shares.into_iter().try_for_each(|shard| shard.join().expect("no panic").map(drop))
    })?;
    writer.seal(&[])?;
    let images = listing.train.len() + listing.val.len();
    println!("images/s {:.1}", images as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn crops(folder: &Path, out: &Path) -> Result<()> {
    let listing = Listing::scan(folder, None)?;
    let mut decoder = Decoder::new(Decoding::default());
    let mut all = Vec::new();
    for sample in &listing.train {
        let mut crop = vec![0; 224 * 224 * 3];
        decoder.center_crop(&std::fs::read(folder.join(&sample.path))?, 256, 224, &mut crop)?;
        all.extend(crop);
    }
    std::fs::write(out, all)?;
    Ok(())
}

fn arrays(file: &Path, side: usize, threads: usize, images: usize) -> Result<()> {
    let dataset = Dataset::of_file(file, &FileSpec::default())?;
    let blocks = dataset.train.blocks();
    let normalization = dataset.train.normalization(&dataset.train.moments(0..blocks)?)?;
    let augmentation = Augmentation { plane_changes: vec![Arc::new(HorizontalFlip)], ..Augmentation::NONE };
    let config = LoaderConfig { normalization, augmentation, threads, ..LoaderConfig::new(BATCH, side) };
    let loader = Loader::new(Arc::new(dataset.train), Shard::WHOLE, config);
    measure(&loader, images, |batch| {
        std::hint::black_box(batch.values());
    })
}

fn values(path: &Path, side: usize, out: &Path, pages_apart: bool) -> Result<()> {
    let dataset = if path.is_dir() {
        let mut listing = Listing::scan(path, None)?;
        if pages_apart {
            listing.pages_apart(OnBadImage::Fail, &unwatched)?;
        }
        let decoding = Decoding { on_nan: OnNan::Mean, ..Decoding::default() };
        let numbers = listing.numbers(decoding, true)?.map(|first| first.numbers);
        Dataset::of_files(&listing, Decoding { numbers, ..decoding })
    } else {
        let spec = FileSpec { kind: LabelKind::Numbers, on_nan: OnNan::Mean, ..FileSpec::default() };
        Dataset::of_file(path, &spec)?
    };
    let channels = dataset.train.format().channels();
    let normalization = Normalization { mean: vec![0.0; channels], std: vec![1.0; channels] };
    let config = LoaderConfig { normalization, ..LoaderConfig::new(BATCH, side) };
    let loader = Loader::new(Arc::new(dataset.train), Shard::WHOLE, config);
    let mut bytes = Vec::new();
    for batch in loader.evaluate() {
        let batch = batch?;
        match batch.format {
            PixelFormat::Rgb8 => bytes.extend(batch.pixels.iter().flat_map(|&byte| f32::from(byte).to_le_bytes())),
            PixelFormat::Planes { .. } => bytes.extend(batch.values().iter().flat_map(|value| value.to_le_bytes())),
        }
    }
    std::fs::write(out, bytes)?;
    Ok(())
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}
