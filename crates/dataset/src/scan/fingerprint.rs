//! Whether a cache is current: a hash of everything that decides what it holds.
//!
//! Each run of images has a digest of its own, those of one class or so many of a list, and the fingerprint is of these: so they can be
//! looked at by many ranks, each some of them, and nobody keeps all images in memory ([`Survey`](super::Survey)).

use std::path::PathBuf;

use super::{Listing, Sample, Split};
use crate::archive::Member;

/// Images of a list that are a run, whatever their classes.
pub(super) const RUN: usize = 4096;

/// What stands for a run of images.
pub(super) type Digest = [u8; 32];

/// Hashes fields of any length, so that their borders count.
struct Fields(blake3::Hasher);

impl Fields {
    fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.add(&number.to_le_bytes());
    }
}

/// The digest of a run of images, some of which lie in `archives`.
pub(super) fn of_run(samples: &[Sample], archives: &[PathBuf]) -> Digest {
    let mut fields = Fields::new();
    for sample in samples {
        fields.add(sample.path.as_os_str().as_encoded_bytes());
        fields.number(sample.class as u64);
        fields.number(sample.size);
        fields.number(sample.modified);
        if let Some(Member { archive, at, packed }) = sample.member {
            fields.add(archives[archive as usize].as_os_str().as_encoded_bytes());
            fields.number(at);
            fields.number(packed);
        }
        sample.targets.iter().for_each(|target| fields.number(target.to_bits()));
        if let Some(mask) = &sample.mask {
            fields.add(mask.path.as_os_str().as_encoded_bytes());
            fields.number(mask.size);
            fields.number(mask.modified);
        }
    }
    *fields.0.finalize().as_bytes()
}

/// The fingerprint of images of these `classes`: of each split how many, and the digests of its runs.
pub(super) fn of_runs<'a>(
    settings: &str,
    classes: &[String],
    splits: impl IntoIterator<Item = (u64, Vec<&'a Digest>)>,
) -> String {
    let mut fields = Fields::new();
    fields.add(settings.as_bytes());
    fields.number(classes.len() as u64);
    classes.iter().for_each(|class| fields.add(class.as_bytes()));
    for (images, runs) in splits {
        fields.number(images);
        runs.into_iter().for_each(|digest| fields.add(digest));
    }
    fields.0.finalize().to_hex().to_string()
}

impl Listing {
    /// A hash of paths, sizes, times and classes, and of the `settings` that the images are decoded with. An edit
    /// that keeps a file's size changes its time, and so this.
    pub fn fingerprint(&self, settings: &str) -> String {
        let runs = Split::ALL.map(|split| {
            let (samples, of_run) = (self.split(split), |run| of_run(run, &self.archives));
            match self.in_lists.contains(&split) {
                true => samples.chunks(RUN).map(of_run).collect::<Vec<_>>(),
                false => samples.chunk_by(|one, other| one.class == other.class).map(of_run).collect(),
            }
        });
        let splits = Split::ALL.iter().zip(&runs);
        of_runs(
            settings,
            &self.classes,
            splits.map(|(&split, runs)| (self.split(split).len() as u64, runs.iter().collect())),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    #[test]
    fn an_edit_of_the_same_size_changes_the_fingerprint() {
        let root = tree(&["train/ant/1.png", "val/ant/1.png"]);
        let of = |settings: &str| Listing::scan(root.path(), None).unwrap().fingerprint(settings);
        let before = of("32");
        assert_eq!(before, of("32"));
        assert_ne!(before, of("64"));
        let file = File::options().write(true).open(root.path().join("train/ant/1.png")).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
        assert_ne!(before, of("32"));
    }
}
