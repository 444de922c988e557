//! A table of images: CSV or TSV, a row for each, with a column of paths, one or more of labels, and perhaps one of splits.
//!
//! ```text
//! image,label            image,cat,dog,split        image;weight;height
//! a.jpg,cat              a.jpg,1,0,train            a.jpg;3.5;12
//! b.jpg,dog              b.jpg,1,1,val              b.jpg;4.25;9
//! a class each           several labels, or a share of each class    numbers
//! ```

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Trim};
use rayon::prelude::*;

use super::{EXTENSIONS, Listing, MaskFile, Sample, Split, ToEvaluate, ValSplit, composed};
use crate::images::{LabelKind, adds_up, likeliest};
use crate::limits::quote;
use crate::watch::Counter;
use crate::{Error, Result, Watch};

/// What a table is to be read as.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableSpec {
    /// The file.
    pub path: PathBuf,
    /// The column of the images' paths, if its name cannot be guessed.
    pub image: Option<String>,
    /// The columns of the labels; none where that is every other one, or the only one of a known name.
    pub labels: Vec<String>,
    /// The column that says which split an image belongs to.
    pub split: Option<String>,
    /// What stands between the labels of a column that holds several.
    pub separator: Option<String>,
    /// What the label of an image is.
    pub kind: LabelKind,
}

/// Names of columns that are looked for, in lower case.
const IMAGE: &[&str] = &[
    "image",
    "image_path",
    "file_name",
    "filename",
    "file",
    "path",
    "filepath",
    "img",
    "image_id",
    "image index",
    "id",
];
const LABEL: &[&str] = &["label", "labels", "class", "target", "category", "tags", "finding labels"];
/// Of masks, before those.
const MASK: &[&str] = &["mask", "masks", "mask_path", "mask_file", "segmentation", "annotation"];
const SPLIT: &[&str] = &["split", "subset", "set", "fold_split"];
/// What may stand between several labels, if the user does not say it.
const SEPARATORS: &[&str] = &["|", ";", ","];
/// Labels below this are classes.
const MOST_COLUMNS: usize = 1 << 16;

/// A row, as it is read.
struct Row {
    line: u64,
    image: String,
    split: Split,
    label: Label,
}

enum Label {
    /// One class, by name.
    Name(String),
    /// The path of a mask.
    Mask(String),
    /// Several.
    Names(Vec<String>),
    /// A number for each column.
    Numbers(Box<[f64]>),
}

impl Listing {
    /// Lists the images that a table names, with their labels and splits; paths are below `root`, or absolute. Classes are those
    /// of `classes`, or those that the table has, sorted; where labels are numbers, the columns. Images to validate on are set
    /// aside by a `val_split`, where no column says which they are. `watch` is called for each image.
    ///
    /// # Errors
    /// A table that is not as it must be: the message names the line.
    pub fn of_table(
        root: &Path,
        table: &TableSpec,
        classes: Option<&[String]>,
        val_split: Option<ValSplit>,
        watch: &Watch<'_>,
    ) -> Result<Self> {
        let (rows, columns) = read(table)?;
        if val_split.is_some() && rows.iter().any(|row| row.split == Split::Val) {
            let place = table.path.display();
            return Err(Error::Input(format!("{place}: has images to validate on; leave --val-split out")));
        }
        let mut listing = assemble(root, table, rows, &columns, classes, &Counter::new(watch))?;
        if let Some(val_split) = val_split {
            (listing.train, listing.val) = val_split.divide(std::mem::take(&mut listing.train));
        }
        Ok(listing)
    }

    /// Lists the images of a table that evaluation looks at, as images to validate on: those that its column says, or those that
    /// are set aside, or else all; or those to test on. Says which.
    ///
    /// # Errors
    /// As [`of_table`](Self::of_table).
    pub fn of_table_to_evaluate(
        root: &Path,
        table: &TableSpec,
        classes: Option<&[String]>,
        wanted: ToEvaluate,
        watch: &Watch<'_>,
    ) -> Result<(Self, Part)> {
        let mut listing = Self::of_table(root, table, classes, wanted.val_split(), watch)?;
        if wanted == ToEvaluate::Test {
            (listing.train, listing.val) = (Vec::new(), std::mem::take(&mut listing.test));
            return Ok((listing, Part::Val));
        }
        let part = if listing.val.is_empty() { Part::All } else { Part::Val };
        if part == Part::All {
            listing.val = std::mem::take(&mut listing.train);
            listing.val.append(&mut listing.test);
        }
        (listing.train, listing.test) = (Vec::new(), Vec::new());
        Ok((listing, part))
    }
}

/// Which rows of a table are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Those that are to validate on.
    Val,
    /// All of them: none is.
    All,
}

/// A fault of the table, at a line of it.
fn fault(table: &TableSpec, line: u64, reason: impl Display) -> Error {
    Error::Input(format!("{}:{line}: {reason}", table.path.display()))
}

/// The rows, and the names of the columns of labels.
fn read(table: &TableSpec) -> Result<(Vec<Row>, Vec<String>)> {
    let input = |reason: String| Error::Input(format!("{}: {reason}", table.path.display()));
    let bytes = crate::file::read_list(&table.path, "table")?;
    let delimiter = delimiter(&table.path, bytes.split(|&byte| byte == b'\n').next().unwrap_or_default());
    let mut reader = ReaderBuilder::new().delimiter(delimiter).trim(Trim::All).from_reader(&bytes[..]);
    let line = |position: Option<&csv::Position>| position.map_or(0, |position| line_of(&bytes, position));
    let broken = |error: csv::Error| match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => fault(
            table,
            line(pos.as_ref()),
            format_args!(
                "has {len} fields, and the header {expected_len}; put fields that hold a '{}' between quotes",
                char::from(delimiter)
            ),
        ),
        csv::ErrorKind::Utf8 { pos, .. } => fault(table, line(pos.as_ref()), "is not UTF-8; save the table as UTF-8"),
        _ => input(format!("cannot read the table: {}", quote(&error))),
    };
    let header = reader.headers().map_err(broken)?.clone();
    let columns = Columns::find(&header, table).map_err(input)?;
    let names: Vec<_> = columns.labels.iter().map(|&column| composed(&header[column])).collect();
    let mut records = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        records.push((line(record.position()), record));
    }
    if records.is_empty() {
        return Err(input("has no row; write a header and a row for each image".to_owned()));
    }
    let separator = columns.is_list.then(|| separator(table, &records, columns.labels[0]));
    log::info!("{}: {}", table.path.display(), columns.words(&header, separator.as_deref()));
    let row = |(line, record): (u64, StringRecord)| {
        let at = |reason: String| fault(table, line, reason);
        let image = &record[columns.image];
        if image.is_empty() {
            return Err(at(format!("no image in column '{}'", &header[columns.image])));
        }
        if let Some(field) = record.iter().find(|field| field.contains(char::is_control)) {
            let field = quote(field);
            return Err(at(format!("'{field}' has a line break or another such character in it; is a quote missing?")));
        }
        let split = columns.split.map_or(Ok(Split::Train), |column| {
            let name = &record[column];
            split(name, &header[column]).ok_or_else(|| {
                at(format!("'{}' in column '{}' is no split; train, val or test is", quote(name), &header[column]))
            })
        })?;
        let label = columns.label(&record, &header, table.kind, separator.as_deref()).map_err(at)?;
        Ok(Row { line, image: image.to_owned(), split, label })
    };
    Ok((records.into_iter().map(row).collect::<Result<_>>()?, names))
}

/// The line of a record, which begins where the one before has ended: perhaps with empty lines.
fn line_of(bytes: &[u8], position: &csv::Position) -> u64 {
    let rest = bytes.get(position.byte() as usize..).unwrap_or_default();
    let ends = rest.iter().take_while(|byte| b"\r\n".contains(byte)).filter(|&&byte| byte == b'\n');
    position.line() + ends.count() as u64
}

/// What stands between the fields: as the name of the file says, or else what the header has most of.
fn delimiter(path: &Path, header: &[u8]) -> u8 {
    match path.extension().map(OsStr::to_ascii_lowercase) {
        Some(extension) if extension == "tsv" || extension == "tab" => b'\t',
        _ => {
            let count = |delimiter: u8| header.iter().filter(|&&byte| byte == delimiter).count();
            [b';', b'\t', b','].into_iter().max_by_key(|&delimiter| count(delimiter)).unwrap_or(b',')
        }
    }
}

/// What stands between the labels of a column: what the user says, or the first of the usual that is there.
fn separator(table: &TableSpec, records: &[(u64, StringRecord)], column: usize) -> String {
    table.separator.clone().unwrap_or_else(|| {
        let stands = |separator: &&&str| records.iter().any(|(_, record)| record[column].contains(**separator));
        (*SEPARATORS.iter().find(stands).unwrap_or(&SEPARATORS[0])).to_owned()
    })
}

/// Where in a row is what.
struct Columns {
    image: usize,
    labels: Vec<usize>,
    split: Option<usize>,
    /// Whether the one column of labels holds several.
    is_list: bool,
}

impl Columns {
    fn find(header: &StringRecord, table: &TableSpec) -> std::result::Result<Self, String> {
        let shown = || header.iter().map(quote).collect::<Vec<_>>().join(", ");
        if header.len() > MOST_COLUMNS {
            return Err(format!("has {} columns", header.len()));
        }
        if let Some(name) = header.iter().find(|name| name.contains(char::is_control)) {
            return Err(format!("the column '{}' has a line break or another such character in its name", quote(name)));
        }
        let mut seen = HashMap::new();
        if let Some(name) = header.iter().find(|&name| seen.insert(name, ()).is_some()) {
            return Err(format!("has two columns called '{}'", quote(name)));
        }
        let named = |flag: &str, name: &str| {
            let column = header.iter().position(|other| other == name);
            column.ok_or_else(|| format!("{flag} {name}: no such column; the table has {}", shown()))
        };
        let usual = |names: &[&str]| {
            names.iter().find_map(|name| header.iter().position(|other| other.to_lowercase() == **name))
        };
        let image = match &table.image {
            Some(name) => named("--column-image", name)?,
            None => usual(IMAGE).ok_or_else(|| {
                format!("which column holds the images? Name it with --column-image; the table has {}", shown())
            })?,
        };
        let split = match &table.split {
            Some(name) => Some(named("--column-split", name)?),
            None => usual(SPLIT).filter(|&column| !table.labels.iter().any(|label| *label == header[column])),
        };
        let rest: Vec<_> = (0..header.len()).filter(|column| *column != image && Some(*column) != split).collect();
        let is_mask = table.kind == LabelKind::Mask;
        let known = if is_mask { usual(MASK).or_else(|| usual(LABEL)) } else { usual(LABEL) };
        let labels = match (&table.labels[..], known.filter(|column| rest.contains(column))) {
            ([], Some(column)) => vec![column],
            ([], None) if rest.len() == 1 || !rest.is_empty() && table.kind.is_rows() => rest,
            ([], None) => {
                return Err(format!(
                    "which column holds the labels? Name it with --column-label; the table has {}",
                    shown()
                ));
            }
            (names, _) => {
                names.iter().map(|name| named("--column-label", name)).collect::<std::result::Result<_, _>>()?
            }
        };
        if is_mask && labels.len() > 1 {
            return Err(format!("--column-label: {} columns, and each image has one mask", labels.len()));
        }
        let is_list = table.kind == LabelKind::Flags && labels.len() == 1;
        if let Some(separator) = table.separator.as_deref().filter(|separator| !is_list || separator.is_empty()) {
            return Err(format!(
                "--label-separator '{}': is for --task multilabel and one column of labels, and is not empty",
                quote(separator)
            ));
        }
        let mut distinct = HashMap::new();
        if let Some(&column) = labels.iter().find(|&&column| distinct.insert(column, ()).is_some()) {
            return Err(format!("--column-label: names '{}' twice", quote(&header[column])));
        }
        if labels.contains(&image) || split.is_some_and(|split| labels.contains(&split) || split == image) {
            return Err("--column-image, --column-label and --column-split: must be different columns".to_owned());
        }
        Ok(Self { image, labels, split, is_list })
    }

    /// What is read from where.
    fn words(&self, header: &StringRecord, separator: Option<&str>) -> String {
        const NAMED: usize = 8;
        let mut labels: Vec<_> = self.labels.iter().take(NAMED).map(|&column| quote(&header[column])).collect();
        if self.labels.len() > NAMED {
            labels.push(format!("… ({} columns)", self.labels.len()));
        }
        let separator =
            separator.map_or(String::new(), |separator| format!(" (several, with '{separator}' between them)"));
        let split = self.split.map_or(String::new(), |split| format!(", splits in {}", quote(&header[split])));
        format!("images in {}, labels in {}{separator}{split}", quote(&header[self.image]), labels.join(", "))
    }

    /// The label of a row.
    fn label(
        &self,
        record: &StringRecord,
        header: &StringRecord,
        kind: LabelKind,
        separator: Option<&str>,
    ) -> std::result::Result<Label, String> {
        let first = &record[self.labels[0]];
        if let Some(separator) = separator {
            let names = first.split(separator).map(str::trim).filter(|name| !name.is_empty());
            return Ok(Label::Names(names.map(composed).collect()));
        }
        if kind == LabelKind::Mask || kind == LabelKind::Class && self.labels.len() == 1 {
            return match first {
                "" => Err(format!("no label in column '{}'", &header[self.labels[0]])),
                name if kind == LabelKind::Mask => Ok(Label::Mask(name.to_owned())),
                name => Ok(Label::Name(composed(name))),
            };
        }
        let number = |&column: &usize| {
            let (field, name) = (&record[column], quote(&header[column]));
            let number = match (kind, field.to_lowercase().as_str()) {
                (LabelKind::Flags, "true") => Some(1.0),
                (LabelKind::Flags, "false") => Some(0.0),
                _ => field.parse::<f64>().ok().filter(|number| number.is_finite()),
            };
            match (kind, number) {
                (LabelKind::Numbers, Some(number)) => Ok(number),
                (LabelKind::Numbers, None) => Err(format!("'{}' in column '{name}' is not a number", quote(field))),
                (LabelKind::Flags, Some(number)) if number == 0.0 || number == 1.0 => Ok(number),
                (LabelKind::Flags, _) => Err(format!("'{}' in column '{name}' is neither 0 nor 1", quote(field))),
                (LabelKind::Class | LabelKind::Mask, Some(number)) if number >= 0.0 => Ok(number),
                (LabelKind::Class | LabelKind::Mask, _) => {
                    Err(format!("'{}' in column '{name}' is not the share of a class", quote(field)))
                }
            }
        };
        let numbers: Vec<f64> = self.labels.iter().map(number).collect::<std::result::Result<_, _>>()?;
        if kind == LabelKind::Class && !adds_up(&numbers) {
            let sum: f64 = numbers.iter().sum();
            return Err(format!(
                "the shares of the classes add up to {sum}, not to 1; for several classes at once: --task multilabel"
            ));
        }
        Ok(Label::Numbers(numbers.into()))
    }
}

/// The split of this name. In a column that says whether an image is to validate on it is a truth value.
fn split(name: &str, column: &str) -> Option<Split> {
    match name.to_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "val" | "valid" | "validation" | "dev" => Some(Split::Val),
        "test" | "testing" => Some(Split::Test),
        "true" | "1" if column.to_lowercase().contains("val") => Some(Split::Val),
        "false" | "0" if column.to_lowercase().contains("val") => Some(Split::Train),
        _ => None,
    }
}

/// The listing of the rows.
fn assemble(
    root: &Path,
    table: &TableSpec,
    rows: Vec<Row>,
    columns: &[String],
    given: Option<&[String]>,
    counter: &Counter<'_>,
) -> Result<Listing> {
    refuse_two_splits(table, &rows)?;
    let (classes, kind) = classes(table, &rows, columns, given)?;
    let places: HashMap<&str, usize> = classes.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let suffix = suffix(root, &rows[0].image);
    if !suffix.is_empty() {
        log::info!("{}: names of images lack their ending: {suffix} is added", table.path.display());
    }
    let place_of = |name: &str, line| {
        let unknown =
            || fault(table, line, format_args!("class '{}' is none of those that there are to be", quote(name)));
        places.get(name).copied().ok_or_else(unknown)
    };
    let sample = |row: Row| {
        counter.one()?;
        let at_line = |error| match error {
            Error::Input(reason) => fault(table, row.line, reason),
            other => other,
        };
        let mut mask = None;
        let (class, targets): (usize, Box<[f64]>) = match (row.label, kind) {
            (Label::Mask(path), _) => {
                mask = Some(Box::new(MaskFile::look_up(root, path.into()).map_err(at_line)?));
                (0, Box::default())
            }
            (Label::Name(name), _) => (place_of(&name, row.line)?, Box::default()),
            (Label::Names(names), _) => {
                let mut targets = vec![0.0; classes.len()];
                for name in names {
                    targets[place_of(&name, row.line)?] = 1.0;
                }
                (0, targets.into())
            }
            (Label::Numbers(shares), Kind::Shares | Kind::OneHot) => {
                (likeliest(&shares), if kind == Kind::OneHot { Box::default() } else { shares })
            }
            (Label::Numbers(numbers), Kind::Rows) => (0, numbers),
        };
        let path = PathBuf::from(if has_ending(&row.image) { row.image } else { row.image + &suffix });
        let sample = Sample::look_up(root, path, class).map_err(at_line)?;
        Ok((row.split, Sample { targets, mask, ..sample }))
    };
    // On a file system across a network each call waits for an answer: ask many questions at a time.
    let samples: Vec<(Split, Sample)> = rows.into_par_iter().map(sample).collect::<Result<_>>()?;
    let mut listing = Listing::of_classes(root, classes);
    for (split, sample) in samples {
        listing.split_mut(split).push(sample);
    }
    Ok(listing)
}

/// What labels of several columns are.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Numbers of their own.
    Rows,
    /// A share of each class.
    Shares,
    /// The same, and every image is of one class alone.
    OneHot,
}

/// The names of the classes, or of the numbers, and what labels of several columns are.
fn classes(
    table: &TableSpec,
    rows: &[Row],
    columns: &[String],
    given: Option<&[String]>,
) -> Result<(Vec<String>, Kind)> {
    if table.kind == LabelKind::Mask {
        return Ok((given.map(<[String]>::to_vec).unwrap_or_default(), Kind::Rows)); // named by what is in the masks
    }
    let is_numbers = |row: &Row| matches!(row.label, Label::Numbers(_));
    if rows.iter().all(is_numbers) {
        if let Some(given) = given.filter(|given| *given != columns) {
            let place = table.path.display();
            return Err(Error::Input(format!(
                "{place}: its columns of labels are {}, and the classes are to be {}; name the columns with --column-label, \
                 in that order",
                quote(columns.join(", ")),
                quote(given.join(", "))
            )));
        }
        let is_one_hot = |row: &Row| match &row.label {
            Label::Numbers(shares) => shares.iter().all(|&share| share == 0.0 || share == 1.0),
            _ => false,
        };
        let kind = match table.kind {
            LabelKind::Class if rows.iter().all(is_one_hot) => Kind::OneHot,
            LabelKind::Class => Kind::Shares,
            _ => Kind::Rows,
        };
        return Ok((columns.to_vec(), kind));
    }
    if let Some(given) = given {
        return Ok((given.to_vec(), Kind::Rows));
    }
    let names: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| match &row.label {
            Label::Name(name) => std::slice::from_ref(name),
            Label::Names(names) => names,
            Label::Numbers(_) | Label::Mask(_) => &[],
        })
        .map(String::as_str)
        .collect();
    if names.is_empty() {
        return Err(Error::Input(format!("{}: no row has a label", table.path.display())));
    }
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    // Classes that are numbers are in the order of numbers.
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or(0));
    }
    Ok((names, Kind::Rows))
}

/// Refuses an image that would be trained on and validated with, and says if one stands twice in a split.
fn refuse_two_splits(table: &TableSpec, rows: &[Row]) -> Result<()> {
    let mut seen: HashMap<&str, &Row> = HashMap::new();
    let mut twice = 0;
    for row in rows {
        let Some(before) = seen.insert(&row.image, row) else { continue };
        if before.split != row.split {
            let (image, line) = (quote(&row.image), before.line);
            let (split, other) = (row.split.name(), before.split.name());
            return Err(fault(
                table,
                row.line,
                format_args!("{image} is in {split}, and in {other} in line {line}; leave one out"),
            ));
        }
        twice += 1;
    }
    if twice > 0 {
        log::warn!("{}: {twice} rows name an image that another row names, too", table.path.display());
    }
    Ok(())
}

fn has_ending(name: &str) -> bool {
    super::is_image(Path::new(name))
}

/// What the names of images lack: nothing, or the ending with which there is a file of the first name.
fn suffix(root: &Path, first: &str) -> String {
    if has_ending(first) || root.join(first).exists() {
        return String::new();
    }
    let endings = EXTENSIONS.iter().flat_map(|ending| [format!(".{ending}"), format!(".{}", ending.to_uppercase())]);
    endings.into_iter().find(|ending| root.join(format!("{first}{ending}")).is_file()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
