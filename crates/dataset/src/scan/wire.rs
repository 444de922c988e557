//! A listing as bytes, so that one rank lists a folder and the others get what it found.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::{Listing, MaskFile, Sample, Split};
use crate::archive::Member;
use crate::fields;

impl Listing {
    /// All of the listing but its root and its folders: fields that end with a zero byte, which no path and no class can hold.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut field = |field: &[u8]| fields::push(&mut bytes, field);
        field(self.classes.len().to_string().as_bytes());
        self.classes.iter().for_each(|class| field(class.as_bytes()));
        field(self.archives.len().to_string().as_bytes());
        self.archives.iter().for_each(|path| field(path.as_os_str().as_encoded_bytes()));
        for samples in Split::ALL.map(|split| self.split(split)) {
            let masks = if samples.iter().any(|sample| sample.mask.is_some()) { " masks" } else { "" };
            field(format!("{}{masks}", samples.len()).as_bytes());
            for sample in samples {
                field(sample.path.as_os_str().as_encoded_bytes());
                let mut numbers = format!("{} {} {}", sample.class, sample.size, sample.modified);
                sample.targets.iter().for_each(|target| numbers += &format!(" {target}"));
                field(numbers.as_bytes());
                match sample.member {
                    Some(Member { archive, at, packed }) => field(format!("{archive} {at} {packed}").as_bytes()),
                    None if self.archives.is_empty() => {}
                    None => field(b""), // a file among others that are in archives
                }
                if let Some(mask) = &sample.mask {
                    field(mask.path.as_os_str().as_encoded_bytes());
                    field(format!("{} {}", mask.size, mask.modified).as_bytes());
                }
            }
        }
        bytes
    }

    /// The other way round, for the folder `root`. `None` where the bytes are no listing.
    pub fn from_bytes(root: &Path, bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.split(|&byte| byte == 0);
        let mut field = || fields.next();
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<usize>().ok();
        let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
        let path = |field: &[u8]| PathBuf::from(OsString::from_vec(field.to_vec()));
        let count = number(field()?)?;
        let classes = (0..count).map(|_| text(field()?)).collect::<Option<Vec<_>>>()?;
        let mut listing = Self::of_classes(root, classes);
        let count = number(field()?)?;
        listing.archives = (0..count).map(|_| Some(path(field()?))).collect::<Option<_>>()?;
        let archives = listing.archives.len() as u64;
        for split in Split::ALL {
            let length = text(field()?)?;
            let (count, has_masks) = length.strip_suffix(" masks").map_or((&*length, false), |count| (count, true));
            for _ in 0..count.parse::<usize>().ok()? {
                let image = path(field()?);
                let numbers = text(field()?)?;
                let mut numbers = numbers.split(' ');
                let mut number = || numbers.next()?.parse::<u64>().ok();
                let (class, size, modified) = (number()? as usize, number()?, number()?);
                let targets = numbers.map(str::parse::<f64>).collect::<Result<_, _>>().ok()?;
                let mut member = || -> Option<Option<Member>> {
                    let numbers = text(field()?)?;
                    if numbers.is_empty() {
                        return Some(None);
                    }
                    let mut numbers = numbers.split(' ');
                    let mut number = || numbers.next()?.parse::<u64>().ok();
                    let archive = number()?.try_into().ok().filter(|&archive: &u32| u64::from(archive) < archives)?;
                    Some(Some(Member { archive, at: number()?, packed: number()? }))
                };
                let member = if archives > 0 { member()? } else { None };
                let mut mask = || -> Option<Box<MaskFile>> {
                    let path = path(field()?);
                    let (size, modified) =
                        text(field()?)?.split_once(' ').map(|(one, two)| (one.parse(), two.parse()))?;
                    Some(Box::new(MaskFile { path, size: size.ok()?, modified: modified.ok()? }))
                };
                let mask = if has_masks { Some(mask()?) } else { None };
                listing.split_mut(split).push(Sample { path: image, class, targets, mask, size, modified, member });
            }
        }
        Some(listing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn there_and_back(
            classes in proptest::collection::vec("[a-c é]{1,4}", 0..4),
            samples in proptest::collection::vec(("[^\0]{1,9}", 0usize..9, any::<u64>(), any::<u64>()), 0..9),
            has_masks: bool,
            archives in proptest::collection::vec("[a-z]{0,4}", 0..3),
            targets in proptest::collection::vec(any::<f64>().prop_filter("a number", |x| x.is_finite()), 0..3),
        ) {
            let sample = |(path, class, size, modified): (String, usize, u64, u64)| {
                let mask = MaskFile { path: format!("m{path}").into(), size: modified, modified: size };
                let mask = has_masks.then(|| Box::new(mask));
                let member = Member { archive: 0, at: size, packed: modified };
                let member = (!archives.is_empty() && class % 3 > 0).then_some(member);
                Sample { path: path.into(), class, targets: targets.clone().into(), mask, size, modified, member }
            };
            let samples: Vec<_> = samples.into_iter().map(sample).collect();
            let root = PathBuf::from("/data");
            let archives = archives.into_iter().map(PathBuf::from).collect();
            let listing = Listing { archives, train: samples.clone(), val: samples, ..Listing::of_classes(&root, classes) };
            let bytes = listing.to_bytes();
            prop_assert_eq!(Listing::from_bytes(&root, &bytes).unwrap(), listing);
        }

        #[test]
        fn any_bytes_are_a_listing_or_none(bytes: Vec<u8>) {
            let _ = Listing::from_bytes(Path::new("/"), &bytes); // no panic, and nothing allocated for a mere number
        }
    }
}
