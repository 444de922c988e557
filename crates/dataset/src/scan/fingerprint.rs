//! Whether a cache is current: a hash of everything that decides what it holds.

use super::{Listing, Split};
use crate::archive::Member;

impl Listing {
    /// A hash of paths, sizes, times and classes, and of the `settings` that the images are decoded with. An edit
    /// that keeps a file's size changes its time, and so this.
    pub fn fingerprint(&self, settings: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(settings.as_bytes());
        field(&(self.classes.len() as u64).to_le_bytes());
        for class in &self.classes {
            field(class.as_bytes());
        }
        for samples in Split::ALL.map(|split| self.split(split)) {
            field(&(samples.len() as u64).to_le_bytes());
            for sample in samples {
                field(sample.path.as_os_str().as_encoded_bytes());
                field(&(sample.class as u64).to_le_bytes());
                field(&sample.size.to_le_bytes());
                field(&sample.modified.to_le_bytes());
                if let Some(Member { archive, at, packed }) = sample.member {
                    field(self.archives[archive as usize].as_os_str().as_encoded_bytes());
                    field(&at.to_le_bytes());
                    field(&packed.to_le_bytes());
                }
                sample.targets.iter().for_each(|target| field(&target.to_bits().to_le_bytes()));
                if let Some(mask) = &sample.mask {
                    field(mask.path.as_os_str().as_encoded_bytes());
                    field(&mask.size.to_le_bytes());
                    field(&mask.modified.to_le_bytes());
                }
            }
        }
        hasher.finalize().to_hex().to_string()
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
