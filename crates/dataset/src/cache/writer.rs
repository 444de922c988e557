//! Building: the leader lays the file out, everybody writes a shard of the images, the leader seals it.
//!
//! Until then the file has a name that no reader looks for. What becomes of it when a build fails:
//!
//! - an error: the temporary file is removed when the writer is dropped;
//! - the process is killed: the temporary file stays, and the next build of this cache removes it.

use std::fs::{self, DirEntry, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use layout::Shard;
use rayon::prelude::*;
use tempfile::TempPath;

use super::{BadImage, Contents, Of, OnBadImage, Spec, striping, structure, trailer};
use crate::archive::{Files, Member};
use crate::decode::{MaskDecoder, Source};
use crate::images::{Checksum, checksum};
use crate::limits::READ_AT_ONCE;
use crate::resize::nearest;
use crate::scan::Sample;
use crate::watch::Counter;
use crate::{Decoder, Error, Listing, Result, Size, Split, Watch};

/// Bytes that a thread gathers before it writes them in one call.
const BYTES_PER_WRITE: u64 = 8 << 20;
/// A block may take long to fill: the file's time of change says all this while that somebody is at it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// A temporary file to which nobody has written for so long was left by a build that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A cache that is being built. Dropped before it is sealed, it leaves nothing.
#[derive(Debug)]
pub struct CacheWriter {
    temporary: TempPath,
    path: PathBuf,
    version: trailer::Version,
}

impl CacheWriter {
    /// Lays out the cache of `listing` that will be at `path`, under a temporary name in the same folder. It gets the `fingerprint` that
    /// everybody is to look for: the listing's, as it was when they agreed on it.
    ///
    /// # Errors
    /// Too little space on the disk, or a folder that cannot be written to.
    pub fn create(listing: &Listing, spec: &Spec, fingerprint: &str, path: &Path) -> Result<Self> {
        if listing.train.is_empty() {
            return Err(Error::Input(format!("{}: has no images to train on", listing.root.display())));
        }
        let parent = folder_of(path);
        fs::create_dir_all(parent).map_err(Error::io(parent, "making the folder of the cache"))?;
        remove_abandoned(path);
        let bytes = bytes_of_images(listing, spec);
        refuse_full_disk(parent, bytes)?;
        striping::say(parent, bytes);
        let temporary = tempfile::Builder::new()
            .prefix(&temporary_prefix(path))
            .suffix(TEMPORARY_SUFFIX)
            .permissions(PermissionsExt::from_mode(0o666)) // the umask takes its part
            .tempfile_in(parent)
            .map_err(Error::io(parent, "making the cache"))?
            .into_temp_path();
        structure::lay_out(listing, spec, fingerprint, &temporary)
            .map_err(|source| Error::Hdf5 { path: path.to_owned(), source })?;
        Ok(Self { temporary, path: path.to_owned(), version: spec.version() })
    }

    /// The file as long as it is built: what [`CacheShard::open`] wants.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Completes the file, when every shard is written, and gives it its name. `bad` are the images that any shard
    /// had to skip.
    ///
    /// # Errors
    /// A file that cannot be written, or a split of which nothing is left.
    pub fn seal(self, bad: &[BadImage]) -> Result<()> {
        let Self { temporary, path, version } = self;
        let empty =
            structure::complete(&temporary, bad).map_err(|source| Error::Hdf5 { path: path.clone(), source })?;
        if let Some((split, count)) = empty {
            return Err(Error::Input(format!("{}: none of its {count} images can be decoded", split.name())));
        }
        let images = structure::places(&temporary).map_err(|source| Error::Hdf5 { path: path.clone(), source })?;
        trailer::write(&temporary, version, &images).map_err(Error::io(&path, "writing the cache to disk"))?;
        temporary.persist(&path).map_err(|error| Error::io(&path, "giving the cache its name")(error.error))?;
        let parent = folder_of(&path);
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(Error::io(parent, "writing the folder to disk"))
    }
}

const TEMPORARY_SUFFIX: &str = ".part";

fn temporary_prefix(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

/// The temporary files of builds of the cache at `path`: of those that run, and of those that were killed.
pub(super) fn temporaries(path: &Path) -> Vec<DirEntry> {
    let Ok(entries) = fs::read_dir(folder_of(path)) else { return Vec::new() };
    let prefix = temporary_prefix(path);
    let is_one = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(&prefix) && name.ends_with(TEMPORARY_SUFFIX)
    };
    entries.flatten().filter(is_one).collect()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes what builds of this cache left that were killed. A build that runs writes all the time.
fn remove_abandoned(path: &Path) {
    for entry in temporaries(path) {
        let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = written.and_then(|time| time.elapsed().ok()).unwrap_or_default();
        if age >= ABANDONED {
            log::info!("{}: removing what a build left that was killed", entry.path().display());
            let _ = fs::remove_file(entry.path()); // it only takes up space
        }
    }
}

fn bytes_of_images(listing: &Listing, spec: &Spec) -> u64 {
    let samples = Split::ALL.into_iter().flat_map(|split| listing.split(split));
    samples.flat_map(|sample| spec.kinds().iter().map(|&of| spec.bytes_of(of, sample))).sum()
}

fn refuse_full_disk(folder: &Path, bytes: u64) -> Result<()> {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) }; // the write itself will tell
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < bytes {
        let (needed, free) = (bytes >> 20, free >> 20);
        return Err(Error::Input(format!(
            "{}: the cache needs {needed} MiB and {free} MiB are free; name another folder with --cache",
            folder.display()
        )));
    }
    Ok(())
}

/// A writer, as one of its builders sees it: on the leader's rank or on any other that reaches the file.
#[derive(Debug)]
pub struct CacheShard {
    file: File,
    path: PathBuf,
    files: Files,
    spec: Spec,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    split: Split,
    of: Of,
    samples: Arc<[Sample]>,
    place: structure::Place,
    /// Where each image begins, from the first.
    offsets: Vec<u64>,
    /// Of each image as its file has it, upright, as soon as it was decoded: what its mask must have, too.
    sizes: Arc<[OnceLock<Size>]>,
}

impl CacheShard {
    /// Opens the writer at `temporary`, of images below `root`. What there is to do stands in the file: nobody lists
    /// the folder again.
    ///
    /// # Errors
    /// A file that cannot be read, or cannot be written to from here.
    pub fn open(temporary: &Path, root: &Path) -> Result<Self> {
        let file = File::options().write(true).open(temporary).map_err(Error::io(temporary, "opening the writer"))?;
        let (spec, archives, parts) = structure::plan(temporary)?;
        let mut sizes: Arc<[OnceLock<Size>]> = Arc::default();
        let mut part = |structure::Planned { split, of, samples, place }| {
            let offsets = structure::offsets(samples.iter().map(|sample| spec.bytes_of(of, sample)));
            if of == Of::Images {
                sizes = samples
                    .iter()
                    .map(|_| OnceLock::new())
                    .take(if spec.masks.is_some() { usize::MAX } else { 0 })
                    .collect();
            }
            Part { split, of, samples, place, offsets, sizes: Arc::clone(&sizes) }
        };
        let parts: Vec<_> = parts.into_iter().map(&mut part).collect();
        let files = Files::new(root, &archives, parts.iter().flat_map(|part: &Part| part.samples.iter()));
        Ok(Self { file, path: temporary.to_owned(), files, spec, parts })
    }

    /// The number of images of a shard, and of their masks.
    pub fn images(&self, shard: Shard) -> usize {
        self.parts.iter().map(|part| shard.of(0..part.samples.len()).len()).sum()
    }

    /// Writes the images of `shard`, on the current rayon pool, and brings them to the disk. `watch` is called for each
    /// with the number of this shard's images done. Gives the images that cannot be decoded, if those are skipped.
    ///
    /// # Errors
    /// An image that cannot be decoded or has changed since it was listed, or a file that cannot be written;
    /// [`Error::Interrupted`].
    pub fn write(&self, shard: Shard, on_bad: OnBadImage, watch: &Watch<'_>) -> Result<Vec<BadImage>> {
        let touched = Mutex::new(Instant::now());
        let watch = |done: usize| {
            self.touch(&touched);
            watch(done)
        };
        let counter = Counter::new(&watch);
        let bad = Mutex::new(Vec::new());
        // Masks after all images: they must have the sizes of these.
        for &of in self.spec.kinds() {
            let parts = self.parts.iter().filter(|part| part.of == of);
            let blocks: Vec<_> = parts
                .flat_map(|part| part.blocks(shard.of(0..part.samples.len())).map(move |block| (part, block)))
                .collect();
            blocks.into_par_iter().try_for_each_init(
                || Writer::new(self),
                |writer, (part, block)| {
                    let skipped = writer.write(part, block, on_bad, &counter)?;
                    bad.lock().expect("no thread panics while it holds this").extend(skipped);
                    Ok::<_, Error>(())
                },
            )?;
        }
        self.file.sync_all().map_err(Error::io(&self.path, "writing the cache to disk"))?;
        let mut bad = bad.into_inner().expect("all threads have ended");
        bad.sort_by_key(|image: &BadImage| (image.split.name(), image.index));
        bad.dedup_by_key(|image| (image.split, image.index)); // where neither image nor mask can be read
        Ok(bad)
    }

    /// Shows other jobs, now and then, that the file is being worked on.
    fn touch(&self, touched: &Mutex<Instant>) {
        let Ok(mut touched) = touched.try_lock() else { return };
        if touched.elapsed() >= SIGN_OF_LIFE {
            *touched = Instant::now();
            let _ = self.file.set_modified(SystemTime::now()); // blocks that are written show it, too
        }
    }
}

impl Part {
    /// The path of a file, its size, and where it lies if it is in an archive.
    fn file(&self, index: usize) -> (&Path, u64, Option<Member>) {
        let sample = &self.samples[index];
        match (self.of, &sample.mask) {
            (Of::Masks, Some(mask)) => (&mask.path, mask.size, None),
            _ => (&sample.path, sample.size, sample.member),
        }
    }

    /// Cuts a range of samples into blocks that are written in one call each.
    fn blocks(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut start = range.start;
        std::iter::from_fn(move || {
            let first = self.offsets.get(start).filter(|_| start < range.end)?;
            let fitting = self.offsets[start..=range.end].partition_point(|end| end - first <= BYTES_PER_WRITE);
            let block = start..(start + fitting.max(2) - 1);
            start = block.end;
            Some(block)
        })
    }
}

/// What a thread needs to write blocks.
struct Writer<'a> {
    shard: &'a CacheShard,
    decoder: Decoder,
    masks: MaskDecoder,
    encoded: Vec<u8>,
    classes: Vec<u8>,
    block: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(shard: &'a CacheShard) -> Self {
        Self {
            shard,
            decoder: Decoder::new(shard.spec.decoding),
            masks: MaskDecoder::default(),
            encoded: Vec::new(),
            classes: Vec::new(),
            block: Vec::new(),
        }
    }

    /// Writes the images of a block and their checksums.
    fn write(
        &mut self,
        part: &Part,
        block: Range<usize>,
        on_bad: OnBadImage,
        counter: &Counter<'_>,
    ) -> Result<Vec<BadImage>> {
        let start = part.offsets[block.start];
        let mut bad = Vec::new();
        let mut checksums = Vec::with_capacity(block.len() * 8);
        self.block.clear();
        // A large file is alone in its block, and goes into the cache without being in memory as a whole.
        let is_file = self.shard.spec.contents == Contents::Encoded;
        let is_large =
            is_file && part.offsets[block.end] - start > READ_AT_ONCE && part.samples[block.start].member.is_none();
        if !is_large {
            self.block.resize((part.offsets[block.end] - start) as usize, 0);
        }
        for index in block.clone() {
            let sample = &part.samples[index];
            let range = part.offsets[index] - start..part.offsets[index + 1] - start;
            let decoded = self.decode(part, index, range.start as usize..range.end as usize, is_large)?;
            let is_bad = decoded.is_err();
            match (decoded, on_bad) {
                (Ok(()), _) => {}
                (Err(reason), OnBadImage::Fail) => {
                    let path = self.shard.files.path(part.file(index).0);
                    return Err(match part.of {
                        Of::Images => Error::Image { path, reason },
                        Of::Masks => Error::Mask { path, reason },
                    });
                }
                (Err(reason), OnBadImage::Skip) => {
                    let reason = match part.of {
                        Of::Images => reason,
                        Of::Masks => format!("its mask: {reason}"),
                    };
                    bad.push(BadImage { split: part.split, index, path: sample.path.clone(), reason });
                }
            }
            let checksum = match is_large {
                true if is_bad => Checksum::of_zeros(range.end - range.start), // as the file has them, where nothing is written
                true => {
                    let (path, size, _) = part.file(index);
                    self.copy(&self.shard.files.path(path), size, part.place.data + start)?
                }
                false => {
                    let out = &mut self.block[range.start as usize..range.end as usize];
                    if is_bad {
                        out.fill(0); // whatever a decoder left there
                    }
                    checksum(out)
                }
            };
            checksums.extend(checksum.to_le_bytes());
            counter.one()?;
        }
        self.at(&self.block, part.place.data + start)?;
        self.at(&checksums, part.place.checksums + block.start as u64 * 8)?;
        Ok(bad)
    }

    /// Decodes an image into its place in the block; or, where its file is to stay as it is, looks whether it can be
    /// decoded, and puts it there unless it is large. Inside, the reason why it cannot be.
    fn decode(
        &mut self,
        part: &Part,
        index: usize,
        range: Range<usize>,
        is_large: bool,
    ) -> Result<std::result::Result<(), String>> {
        let (path, size, member) = part.file(index);
        let on_disk = match self.shard.files.read(path, size, member, &mut self.encoded) {
            Ok(on_disk) => on_disk,
            Err(Error::Image { reason, .. }) => return Ok(Err(reason)),
            Err(error) => return Err(error),
        };
        let source = Source::of(on_disk.as_ref(), &self.encoded);
        let Spec { contents, decoding, masks } = &self.shard.spec;
        if let (Contents::Encoded, false) = (contents, is_large) {
            self.block[range.clone()].copy_from_slice(&self.encoded);
        }
        Ok(match (part.of, contents) {
            (Of::Images, contents) => {
                let decoded = match *contents {
                    Contents::Encoded => self.decoder.check_source(source),
                    Contents::Pixels { side, crop } => {
                        self.decoder.square_of(source, side, crop, &mut self.block[range])
                    }
                };
                if let (Ok(()), Some(place), Some(size)) = (&decoded, part.sizes.get(index), self.decoder.size()) {
                    let _ = place.set(size); // nobody else does
                }
                decoded
            }
            (Of::Masks, contents) => self.masks.read(source).and_then(|raw| {
                if let Some(size) = part.sizes.get(index).and_then(OnceLock::get) {
                    raw.size.refuse_other_than(*size)?;
                }
                let values = masks.as_ref().ok_or("it is of unknown classes")?;
                values.classes(raw.element, raw.bytes, &mut self.classes)?;
                if let &Contents::Pixels { side, crop } = contents {
                    let window = decoding.fit.square(raw.size, side, crop);
                    nearest(&self.classes, raw.size, &window, side, &mut self.block[range]);
                }
                Ok(())
            }),
        })
    }

    /// Copies a file of `size` bytes to its `place`, piece by piece; its checksum.
    fn copy(&self, path: &Path, size: u64, place: u64) -> Result<u64> {
        let file = File::open(path).map_err(Error::io(path, "opening the image"))?;
        let mut piece = vec![0; BYTES_PER_WRITE.min(size) as usize];
        let (mut checksum, mut done) = (Checksum::new(), 0);
        while done < size {
            let length = (size - done).min(BYTES_PER_WRITE) as usize;
            file.read_exact_at(&mut piece[..length], done).map_err(Error::io(path, "reading the image"))?;
            checksum.update(&piece[..length]);
            self.at(&piece[..length], place + done)?;
            done += length as u64;
        }
        Ok(checksum.finish())
    }

    fn at(&self, bytes: &[u8], place: u64) -> Result<()> {
        self.shard.file.write_all_at(bytes, place).map_err(Error::io(&self.shard.path, "writing the cache"))
    }
}
