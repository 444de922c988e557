//! TIFF files whose pages are images, each of them, and not the channels of one.

use std::collections::HashMap;
use std::path::PathBuf;

use rayon::prelude::*;

use super::{Listing, Sample, Split};
use crate::archive::{Member, is_stack, pages_of};
use crate::watch::Counter;
use crate::{Error, OnBadImage, Result, Watch};

/// Each is mapped for as long as images are read, and once more where it is staged; Linux allows 65,530.
const MOST_STACKS: usize = 30_000;

impl Listing {
    /// Whether images are in archives.
    pub fn is_of_archives(&self) -> bool {
        !self.archives.is_empty()
    }

    /// Makes an image of each page of the TIFF files in it, with the label of their file; a file of one page stays what it is. The directories
    /// of all are read. `watch` is called for each file. A file whose directories are broken is refused, or `on_bad` says that it stays one image,
    /// which its decoder then refuses.
    ///
    /// # Errors
    /// Files in archives or with masks; a TIFF file that cannot be read or whose directories are broken; too many of them; [`Error::Interrupted`].
    pub fn pages_apart(&mut self, on_bad: OnBadImage, watch: &Watch<'_>) -> Result<()> {
        let all = || Split::ALL.into_iter().flat_map(|split| self.split(split));
        if all().any(|sample| sample.member.is_some() || sample.mask.is_some()) {
            return Err(Error::Input(format!(
                "{}: pages are images of their own (--tiff-pages images) in folders, lists and tables of files alone, without masks",
                self.root.display()
            )));
        }
        let counter = Counter::new(watch);
        let mut stacks: Vec<_> = all().filter(|sample| is_stack(&sample.path)).map(|sample| &sample.path).collect();
        stacks.sort_unstable();
        stacks.dedup(); // a table may name one twice
        let look = |path: &&PathBuf| {
            counter.one()?;
            let pages = match pages_of(&self.root.join(path)) {
                Err(Error::Input(reason)) if on_bad == OnBadImage::Skip => {
                    log::warn!("{reason}");
                    Vec::new()
                }
                pages => pages?,
            };
            Ok(((*path).clone(), pages))
        };
        let looked = stacks.par_iter().map(look).collect::<Result<Vec<_>>>()?;
        let of_several: Vec<_> = looked.into_iter().filter(|(_, pages)| !pages.is_empty()).collect();
        if of_several.len() > MOST_STACKS {
            return Err(Error::Input(format!(
                "{}: has {} TIFF files of several pages, and at most {MOST_STACKS} are taken apart; put more pages into each, up to 4,096",
                self.root.display(),
                of_several.len()
            )));
        }
        self.archives = of_several.iter().map(|(path, _)| path.clone()).collect();
        let places: HashMap<_, _> =
            of_several.into_iter().zip(0..).map(|((path, pages), at)| (path, (at, pages))).collect();
        for split in Split::ALL {
            let samples = std::mem::take(self.split_mut(split));
            let apart = samples.into_iter().flat_map(|sample| match places.get(&sample.path) {
                None => vec![sample],
                Some((archive, pages)) => {
                    let digits = pages.len().to_string().len();
                    let page = |(number, page): (usize, &crate::archive::Page)| Sample {
                        path: sample.path.join(format!("page {number:0digits$}")),
                        size: page.size,
                        member: Some(Member { archive: *archive, at: page.at, packed: 0 }),
                        ..sample.clone()
                    };
                    pages.iter().enumerate().map(page).collect()
                }
            });
            *self.split_mut(split) = apart.collect();
        }
        self.folders.clear(); // they do not tell how many pages there are
        Ok(())
    }
}
