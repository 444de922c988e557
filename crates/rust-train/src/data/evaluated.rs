//! The images that a model is evaluated on: those that are named, or those that its run was validated on.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dataset::{
    ArchiveSet, ArchiveSpec, Dataset, Decoding, Ignored, ImageSet, Listing, MaskFolders, MaskValues, Names, OnBadImage,
    Split, TablePart, ToEvaluate, ValSplit, digits, is_archive,
};
use flags::{MaskArgs, MembersArgs, NanKind, TableArgs, TaskKind};
use layout::Shard;
use model_card::{ModelCard, PixelKind};
use serde::{Deserialize, Serialize};
use world::World;

use crate::config::images::{
    Source, axes, file_spec, mask_rule, members_of_plan, of_table, on_nan, table_spec, val_split,
};
use crate::config::recipe;
use crate::data::archives::{self, Indexed};
use crate::data::listing::{count_files, take_pages_apart};
use crate::errors::{agree, name_interruption, to_failure, usage};
use crate::task::kind_of_card;

/// Images that are named in the log because they cannot be decoded.
const NAMED: usize = 10;

/// Which images are asked for, and of which model.
#[derive(Debug)]
pub(crate) struct Evaluated<'a> {
    /// `--data`.
    pub data: Option<&'a Path>,
    /// `--val-split`.
    pub val_split: Option<f64>,
    /// Whether the images to test on are wanted, and not those to validate on.
    pub is_test: bool,
    /// The folder of the run that the weights are of.
    pub run: Option<&'a Path>,
    pub card: &'a ModelCard,
    /// The names of the model's classes, or their numbers.
    pub classes: &'a [String],
    pub decoding: Decoding,
    /// What is in a file.
    pub members: &'a MembersArgs,
    /// What is in a table.
    pub table: &'a TableArgs,
    /// What is in masks.
    pub masks: &'a MaskArgs,
}

fn is_of_databases(root: &Path) -> bool {
    matches!(ArchiveSet::find(root), Ok(Some(set)) if set.is_of_databases())
}

/// Where the images are, as rank 0 finds it.
#[derive(Debug, Serialize, Deserialize)]
enum Place {
    Digits,
    // Paths of any bytes, which JSON has no text for: a `PathBuf` would have to be UTF-8.
    File(OsString),
    Folder(OsString),
    /// A folder, and a table of the images in it.
    Table(OsString, OsString),
}

impl Evaluated<'_> {
    /// The images, labelled by the classes of the model. Collective: rank 0 looks and lists; `threads` look for images that
    /// cannot be decoded, where the run left such out.
    pub(crate) fn images(&self, world: &World, threads: usize) -> anyhow::Result<ImageSet> {
        let wanted = agree(world, self.val_split.map(val_split).transpose())?;
        let of_run = self.of_plan("val-split").and_then(serde_json::Value::as_f64).and_then(ValSplit::new);
        let bytes = world.from_rank_zero("looking for the images", || {
            let place = self.place().map_err(|error| to_failure(&error))?;
            serde_json::to_vec(&place).map_err(world::Failure::new)
        })?;
        let place = serde_json::from_slice(&bytes)?;
        let task = kind_of_card(self.card);
        if let (Place::Folder(_), TaskKind::Multilabel | TaskKind::Regress) | (Place::Digits, _) = (&place, task)
            && task != TaskKind::Classify
        {
            let refused =
                "--data: folders give classes, and the weights are of another task; name a table with --table FILE";
            agree(world, Err(usage(refused)))?;
        }
        let (images, classes) = match place {
            Place::Digits => self.of_dataset(digits::load()),
            Place::File(path) if self.is_test => {
                self.of_dataset(agree(world, self.open(Path::new(&path), None, None))?)
            }
            Place::File(path) => self.of_dataset(agree(world, self.open(Path::new(&path), wanted, of_run))?),
            Place::Folder(root) if task == TaskKind::Segment => {
                self.of_listing(world, Path::new(&root), |root| self.list_masks(root, wanted, of_run))?
            }
            Place::Folder(root) => {
                // What the run was told is of the run's own.
                let mut members = if self.data.is_none() { self.members() } else { self.members.clone() };
                // The order of bare bytes is that of the weights, wherever the images are.
                let order = self.of_plan("images").and_then(serde_json::Value::as_str);
                let order = order.filter(|order| matches!(*order, "rgb" | "bgr") && is_of_databases(Path::new(&root)));
                members.images = members.images.or_else(|| order.map(str::to_owned));
                let spec = ArchiveSpec { images: members.images, labels: members.labels };
                let archives = archives::index(world, Path::new(&root), &spec, None, threads)?;
                self.of_listing(world, Path::new(&root), |root| match archives.indexed() {
                    Some(indexed) => self.list_archives(indexed, wanted, of_run),
                    None => self.list(root, wanted, of_run),
                })?
            }
            Place::Table(root, table) => self
                .of_listing(world, Path::new(&root), |root| self.list_table(root, Path::new(&table), wanted, of_run))?,
        };
        let (images, classes) = match task {
            TaskKind::Segment => {
                let values = agree(world, self.mask_values())?;
                // Somebody's file may call them otherwise, and a folder calls them nothing.
                let names = if classes.len() == self.classes.len() || classes.is_empty() {
                    self.classes.to_vec()
                } else {
                    classes
                };
                (images.with_mask_values(&values), names)
            }
            _ => (images, classes),
        };
        if self.is_test && images.is_empty() {
            agree(world, Err(usage("--split test: there are no images to test on")))?;
        }
        if let TaskKind::Multilabel | TaskKind::Regress = task
            && images.target_width() == 0
        {
            agree(
                world,
                Err(usage("--data: has classes, and the weights are of another task; name a table with --table FILE")),
            )?;
        }
        agree(world, self.same_classes(&classes))?;
        let images = if self.skips() { without_undecodable(world, images, threads)? } else { images };
        if images.is_empty() {
            agree(world, Err(usage("--data: has no images to evaluate on")))?;
        }
        if world.rank() == 0 {
            self.say_if_others(images.len());
        }
        Ok(images)
    }

    /// The images below `root`, which rank 0 lists for all.
    fn of_listing(
        &self,
        world: &World,
        root: &Path,
        list: impl FnOnce(&Path) -> anyhow::Result<Listing>,
    ) -> anyhow::Result<(ImageSet, Vec<String>)> {
        let bytes = world.from_rank_zero("listing the images", || {
            let listed = || {
                let mut listing = list(root)?;
                let are_apart = self.of_plan("tiff-pages").and_then(serde_json::Value::as_str) == Some("images");
                if are_apart && !listing.is_of_archives() {
                    let on_bad = if self.skips() { OnBadImage::Skip } else { OnBadImage::Fail };
                    take_pages_apart(&mut listing, on_bad)?;
                }
                Ok(listing.to_bytes())
            };
            listed().map_err(|error| to_failure(&error))
        })?;
        let listing = Listing::from_bytes(root, &bytes).context("the listing arrived damaged")?;
        let decoding = agree(world, self.decoding_of(&listing))?;
        Ok((ImageSet::of_files(&listing, Split::Val, decoding), listing.classes))
    }

    /// The images of a file to validate on, or to test on. Classes that it has no names for, and the last of which it may have no images, are the
    /// model's.
    fn of_dataset(&self, dataset: Dataset) -> (ImageSet, Vec<String>) {
        let has_names = dataset.has_names();
        let images = if self.is_test { dataset.test.unwrap_or_else(ImageSet::empty) } else { dataset.val };
        let (is_class, found) = (images.target_width() == 0, dataset.classes.len());
        let fits = found == self.classes.len() || is_class && found < self.classes.len();
        let classes = if fits && !has_names { self.classes.to_vec() } else { dataset.classes };
        (images, classes)
    }

    /// What the run's plan says of a flag.
    fn of_plan(&self, flag: &str) -> Option<&serde_json::Value> {
        self.card.plan.get(flag)
    }

    /// Whether the run left out what cannot be decoded.
    fn skips(&self) -> bool {
        self.of_plan("on-bad-image").and_then(serde_json::Value::as_str) == Some("skip")
    }

    /// Whether they are those that the run itself was validated on.
    fn is_of_run(&self) -> bool {
        self.data.is_none() && self.table.table.is_none() && self.val_split.is_none() && !self.is_test
    }

    fn place(&self) -> anyhow::Result<Place> {
        let folders = self.mask_folders();
        let has_split = |data: &Path, split| match kind_of_card(self.card) {
            TaskKind::Segment => Listing::has_masks(data, split, &folders),
            _ => Listing::has(data, split),
        };
        let has_archives = |data: &Path| matches!(ArchiveSet::find(data), Ok(Some(_)));
        let has_splits = |data: &Path| Split::ALL.into_iter().any(|split| has_split(data, split)) || has_archives(data);
        let table = match (&self.table.table, self.data) {
            (Some(table), _) => Some(table.clone()),
            // The run's images, in another place.
            (None, data) if data.is_none_or(|data| data.is_dir() && !has_splits(data)) => self.table_of_run()?,
            (None, _) => None,
        };
        if let Some(table) = table {
            let data = match (self.data, &self.table.table, self.run) {
                (Some(data), ..) => Some(data.to_owned()),
                (None, None, Some(run)) => recipe::path_of(run, "data")?,
                (None, ..) => None,
            };
            let Source::Folder(root) = of_table(&table, data.as_deref(), None)? else {
                return Err(usage("--table: is of image files"));
            };
            return Ok(Place::Table(root.into(), table.into()));
        }
        let data = match (self.data, self.run) {
            (Some(data), _) => Some(data.to_owned()),
            (None, Some(run)) => recipe::path_of(run, "data")?,
            (None, None) => return Err(usage("--data: names the images to evaluate on; only a run knows its own")),
        };
        Ok(match data {
            None => Place::Digits,
            Some(path) if path.is_file() && is_archive(&path) => Place::Folder(path.into()),
            Some(path) if path.is_file() || Dataset::is_folder_of_arrays(&path) => Place::File(path.into()),
            Some(path) => Place::Folder(path.into()),
        })
    }

    /// The table of the run that the weights are of.
    fn table_of_run(&self) -> anyhow::Result<Option<PathBuf>> {
        self.run.map_or(Ok(None), |run| recipe::path_of(run, "table"))
    }

    /// Lists the images of a table that are to validate on, or that are set aside, or else all of them.
    fn list_table(
        &self,
        root: &Path,
        table: &Path,
        wanted: Option<ValSplit>,
        of_run: Option<ValSplit>,
    ) -> anyhow::Result<Listing> {
        let of_plan = |flag: &str| self.of_plan(flag).and_then(serde_json::Value::as_str).map(str::to_owned);
        let named = |given: &Option<String>, flag: &str| given.clone().or_else(|| of_plan(flag));
        let labels = self.of_plan("column-label").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
        let args = TableArgs {
            table: Some(table.to_owned()),
            column_image: named(&self.table.column_image, "column-image"),
            column_label: match self.table.column_label[..] {
                [] => labels.iter().filter_map(serde_json::Value::as_str).map(str::to_owned).collect(),
                ref given => given.to_vec(),
            },
            column_split: named(&self.table.column_split, "column-split"),
            label_separator: named(&self.table.label_separator, "label-separator"),
        };
        let names = Some(self.card.classes.as_slice()).filter(|names| !names.is_empty());
        let spec = table_spec(&args, kind_of_card(self.card)).context("a table is named")?;
        // What the run set aside is looked at again, if the table is the run's.
        let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let is_of_run = self.table_of_run()?.is_some_and(|of_run| whole(&of_run) == whole(table));
        let set_aside = wanted.or(of_run.filter(|_| is_of_run));
        let listing = Listing::of_table_to_evaluate(root, &spec, names, self.wanted(set_aside), &count_files);
        let (listing, of) = name_interruption("listing the images", listing)?;
        match (of, set_aside) {
            (TablePart::Val, Some(split)) if wanted.is_none() && !self.is_test => {
                log::info!("evaluated are the images that the run's --val-split {} sets aside", split.share());
            }
            (TablePart::Val, _) => {}
            (TablePart::All, _) => log::warn!(
                "no row of {} is to validate on: all {} are evaluated, also those that a run may have been trained on",
                table.display(),
                listing.val.len()
            ),
        }
        Ok(listing)
    }

    /// Lists `root/val`, which needs no `root/train`, or what is set aside from `root/train`. Classes whose names the model
    /// knows may be missing.
    fn list(&self, root: &Path, wanted: Option<ValSplit>, of_run: Option<ValSplit>) -> anyhow::Result<Listing> {
        let names = Some(self.card.classes.as_slice()).filter(|names| !names.is_empty());
        if self.is_test {
            if !Listing::has(root, Split::Test) {
                return Err(usage(format!(
                    "--split test: there are no images to test on: neither {0}/test nor {0}/test.tsv",
                    root.display()
                )));
            }
            let listing = Listing::scan_split(root, Split::Test, names, &count_files);
            let mut listing = name_interruption("listing the images", listing)?;
            listing.val = std::mem::take(&mut listing.test);
            return Ok(listing);
        }
        let listing = match self.set_aside(root, wanted, of_run, &|split| Listing::has(root, split)) {
            Some(split) => Listing::scan_set_aside(root, split, names, &count_files),
            None => Listing::scan_split(root, Split::Val, names, &count_files),
        };
        name_interruption("listing the images", listing)
    }

    /// The same of images in archives; where they have none to validate on, all of them.
    fn list_archives(
        &self,
        indexed: &Indexed,
        wanted: Option<ValSplit>,
        of_run: Option<ValSplit>,
    ) -> anyhow::Result<Listing> {
        let Indexed { set, indices } = indexed;
        let names = match &self.card.classes[..] {
            [] => Names::Found,
            names => Names::Model(names),
        };
        let mut listing = Listing::of_archives(set, indices, names)?;
        set.say(indices, &listing);
        if self.is_test {
            (listing.train, listing.val) = (Vec::new(), std::mem::take(&mut listing.test));
            return Ok(listing);
        }
        let set_aside = self.set_aside(set.root(), wanted, of_run, &|split| !listing.split(split).is_empty());
        if let Some(split) = set_aside {
            listing.set_aside(set, split)?;
        }
        if listing.val.is_empty() {
            listing.val = std::mem::take(&mut listing.train);
            let (shown, count) = (set.root().display(), listing.val.len());
            log::warn!("{shown} has no images to validate on: all {count} to train on are evaluated");
        }
        (listing.train, listing.test) = (Vec::new(), Vec::new());
        Ok(listing)
    }

    /// The same of images with masks.
    fn list_masks(&self, root: &Path, wanted: Option<ValSplit>, of_run: Option<ValSplit>) -> anyhow::Result<Listing> {
        let folders = self.mask_folders();
        let has = |split| Listing::has_masks(root, split, &folders);
        let set_aside = if self.is_test { None } else { self.set_aside(root, wanted, of_run, &has) };
        let listing = Listing::scan_masks_to_evaluate(root, &folders, self.wanted(set_aside), &count_files);
        let (listing, is_all) = name_interruption("listing the images", listing)?;
        if is_all {
            let shown = root.display();
            log::warn!("{shown} has no images to validate on: all {} to train on are evaluated", listing.val.len());
        }
        Ok(listing)
    }

    /// Which images of a table or with masks are evaluated, where so many are set aside.
    fn wanted(&self, set_aside: Option<ValSplit>) -> ToEvaluate {
        if self.is_test { ToEvaluate::Test } else { ToEvaluate::Val(set_aside) }
    }

    /// The folders of images and masks, if they are not called as usual.
    fn mask_folders(&self) -> MaskFolders {
        let MembersArgs { images, labels, .. } = self.members();
        MaskFolders { images, masks: labels }
    }

    /// Which numbers of masks stand for the model's classes.
    fn mask_values(&self) -> anyhow::Result<MaskValues> {
        let rule = mask_rule(self.masks);
        let values = match &self.card.masks {
            None => rule.values(Some(self.classes.len()), || Ok(BTreeSet::new()))?,
            Some(known) => {
                let values = rule.values.unwrap_or_else(|| known.values.clone());
                let is_class = |number: &i64| values.iter().any(|&value| i64::from(value) == *number);
                let ignored = match rule.ignored {
                    Ignored::Usual => known.ignored.filter(|number| !is_class(number)),
                    Ignored::None => None,
                    Ignored::Number(number) => Some(number),
                };
                MaskValues::new(values, ignored).map_err(|reason| usage(format!("--mask-values: {reason}")))?
            }
        };
        let (given, classes) = (values.values().len(), self.classes.len());
        if given != classes {
            return Err(usage(format!("--mask-values: {given} numbers, and the weights tell {classes} classes apart")));
        }
        Ok(values)
    }

    /// What of the training images is evaluated: what the flags say, or what the run has set aside, where `has` knows of none to
    /// validate on.
    fn set_aside(
        &self,
        root: &Path,
        wanted: Option<ValSplit>,
        of_run: Option<ValSplit>,
        has: &dyn Fn(Split) -> bool,
    ) -> Option<ValSplit> {
        // What was set aside from a table follows from the paths in it.
        let had_table = self.table_of_run().is_ok_and(|table| table.is_some());
        let (shown, of_run) = (root.display(), of_run.filter(|_| !has(Split::Val) && !had_table));
        match (wanted, of_run) {
            (None, Some(split)) if has(Split::Train) || self.is_of_run() => {
                let share = split.share();
                log::info!("evaluated are the images that the run's --val-split {share} sets aside from {shown}");
                Some(split)
            }
            (None, Some(split)) => {
                log::warn!(
                    "all images of {shown} are evaluated; if the run was trained on them, --val-split {} evaluates those \
                     that it set aside",
                    split.share()
                );
                None
            }
            (wanted, _) => wanted,
        }
    }

    /// A file's images to validate on: where it has none, those that the run set aside. What is in it is called as in the run.
    fn open(&self, path: &Path, wanted: Option<ValSplit>, of_run: Option<ValSplit>) -> anyhow::Result<Dataset> {
        let members = self.members();
        let spec = |val_split| file_spec(&members, kind_of_card(self.card), val_split);
        let dataset = Dataset::of_file(path, &spec(wanted))?;
        if dataset.val.is_empty() && of_run.is_some() {
            return Ok(Dataset::of_file(path, &spec(of_run))?);
        }
        Ok(dataset)
    }

    /// What is in a file: what the flags say, or else what the run was told.
    fn members(&self) -> MembersArgs {
        let of_run = members_of_plan(&self.card.plan);
        let given = self.members.clone();
        MembersArgs {
            images: given.images.or(of_run.images),
            labels: given.labels.or(of_run.labels),
            image_layout: given.image_layout.or(of_run.image_layout),
            nan: if of_run.nan == NanKind::Mean { NanKind::Mean } else { given.nan },
        }
    }

    /// How the files of a folder are decoded: as those that were trained on, or where the card does not say how those were, as the
    /// first of them is.
    fn decoding_of(&self, listing: &Listing) -> anyhow::Result<Decoding> {
        let members = self.members();
        let decoding = Decoding { on_nan: on_nan(&members), axes: axes(&members), ..self.decoding };
        Ok(match (self.card.images.pixels, decoding.numbers) {
            (PixelKind::Planes, None) => {
                let first = listing.numbers(decoding, true)?;
                Decoding { numbers: first.map(|first| first.numbers), ..decoding }
            }
            _ => decoding,
        })
    }

    fn same_classes(&self, found: &[String]) -> anyhow::Result<()> {
        let (ours, theirs) = (self.classes.len(), found.len());
        if ours != theirs {
            return Err(usage(format!("--data: has {theirs} classes, and the weights tell {ours} apart")));
        }
        if !self.card.classes.is_empty() && found != self.card.classes {
            return Err(usage("--data: its classes have other names than the model's, or another order"));
        }
        Ok(())
    }

    /// Says if the run's own images are no longer as many as the card's scores are of.
    fn say_if_others(&self, count: usize) {
        let scored = self.card.scores.as_ref().map_or(0, |scores| scores.samples);
        if self.is_of_run() && scored > 0 && scored != count as u64 {
            log::warn!(
                "the run was scored on {scored} validation images, and now there are {count}: its data have changed"
            );
        }
    }
}

/// The images without those that cannot be decoded: the run left them out, too. Collective.
fn without_undecodable(world: &World, images: ImageSet, threads: usize) -> anyhow::Result<ImageSet> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("starting threads")?;
    let own = Shard::new(world.rank(), world.size()).of(0..images.len());
    let bad = agree(world, pool.install(|| images.undecodable(own)).map_err(Into::into))?;
    let mut all: HashMap<usize, String> = HashMap::new();
    for text in world.control().all_gather_text(&serde_json::to_string(&bad)?)? {
        all.extend(serde_json::from_str::<Vec<(usize, String)>>(&text)?);
    }
    let mut indices: Vec<_> = all.keys().copied().collect();
    indices.sort_unstable();
    if world.rank() == 0 && !indices.is_empty() {
        log::warn!("{} images cannot be decoded and are left out, as in the run:", indices.len());
        for (index, path) in indices.iter().zip(images.names(&indices)).take(NAMED) {
            log::warn!("  {}: {}", path.display(), all[index]);
        }
    }
    Ok(images.without(&indices))
}
