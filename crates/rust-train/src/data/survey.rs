//! Whether a data set of class folders or lists is the one that its cache is of: all ranks look at its files, each at some of them, and
//! nobody keeps all of their names.

use std::path::Path;

use anyhow::Context;
use dataset::{Decoding, Looked, MOST_PROBED, Split, Survey, read_classes};
use layout::Shard;
use world::World;

use super::listing::{Listed, count_files, decoding_of, first_of};
use crate::config::images::Images;
use crate::distributed::gather::to_rank_zero;
use crate::errors::{agree, name_interruption, to_failure};

/// A data set of class folders or lists, and what was found in it.
#[derive(Debug)]
pub(crate) struct Surveyed {
    survey: Survey,
    looked: Vec<Looked>,
    pub decoding: Decoding,
}

impl Surveyed {
    /// The fingerprint of its listing.
    pub fn fingerprint(&self, spec: &dataset::Spec) -> String {
        spec.fingerprint_by(|settings| self.survey.fingerprint(settings, &self.looked))
    }

    pub fn listed(&self) -> Listed {
        let images = self.survey.images(Split::Train, &self.looked);
        Listed {
            classes: self.survey.classes().to_vec(),
            channels: self.decoding.format().channels(),
            train: images as usize,
        }
    }

    /// Says what a listing would.
    pub fn say(&self) {
        self.survey.say(&self.looked);
    }
}

/// Looks at the class folders or lists below `root`, with so many `cores` a rank: on rank 0; `None` on the others, and where the data are laid out
/// otherwise, hold numbers, or are not as they must be: then they are listed. Collective.
pub(super) fn survey(world: &World, images: &Images, root: &Path, cores: usize) -> anyhow::Result<Option<Surveyed>> {
    let mut own = None;
    let bytes = world.from_rank_zero("looking for the classes", || {
        let found = find(images, root).map_err(|error| to_failure(&error))?;
        let bytes = found.as_ref().map_or_else(Vec::new, |(survey, _)| survey.to_bytes());
        own = found;
        Ok(bytes)
    })?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let survey = Survey::from_bytes(root, &bytes).context("the folders of classes arrived damaged")?;
    let look = || -> anyhow::Result<Vec<u8>> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(cores).build().context("starting threads")?;
        let share = Shard::new(world.rank(), world.size()).of(0..survey.len());
        let looked = threads.install(|| survey.look(share, &count_files));
        let looked = name_interruption("looking at the images", looked)?;
        Ok(looked.iter().map(Looked::to_line).collect::<String>().into_bytes())
    };
    let share = agree(world, look())?;
    let mut looked = Vec::new();
    to_rank_zero(world, share, |bytes| {
        let lines = str::from_utf8(bytes).ok().and_then(Looked::of_lines);
        looked.extend(lines.context("what another rank has looked at arrived damaged")?);
        Ok(())
    })?;
    // That of rank 0 knows what lies beside the folders, too.
    let own = own.filter(|(survey, _)| survey.is_complete(&looked));
    Ok(own.map(|(survey, decoding)| Surveyed { survey, looked, decoding }))
}

/// The class folders or lists below `root`, and how their images are decoded; `None` where the data are laid out otherwise, or hold numbers:
/// whether these keep their type is known when all images are.
pub(super) fn find(images: &Images, root: &Path) -> anyhow::Result<Option<(Survey, Decoding)>> {
    let is_otherwise =
        images.table.is_some() || images.masks.is_some() || images.pages_apart || images.val_split.is_some();
    if is_otherwise || !root.is_dir() {
        return Ok(None);
    }
    let classes = images.classes.as_deref().map(read_classes).transpose()?;
    let found = Survey::find(root, classes.as_deref(), &count_files);
    let Some(survey) = name_interruption("looking for the classes", found)? else { return Ok(None) };
    let first = name_interruption("looking at the images", survey.first(MOST_PROBED, &count_files))?;
    if first_of(&first, images)?.is_some() {
        return Ok(None);
    }
    let decoding = decoding_of(&first, images)?;
    Ok(Some((survey, decoding)))
}
