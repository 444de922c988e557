//! Parquet tables with a column of image files, as Hugging Face's `datasets` writes them: `image.bytes`, `image.path`, `label`.
//!
//! Values lie in compressed pages, so an image is found by reading on from the start of its group of rows.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::{LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::index::{Contents, Entry, Told};
use super::open::{Cursor, Wanted};
use super::{ArchiveSpec, Checked, Fault, below, fault};
use crate::limits::quote;
use crate::scan::composed;
use crate::watch::Counter;
use crate::{Error, Result};

/// Names of columns that are looked for, in lower case.
const IMAGES: &[&str] = &["image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "image_bytes", "bytes"];
const LABELS: &[&str] =
    &["label", "labels", "class", "cls", "target", "category", "fine_label", "label_name", "class_name", "class_id"];
/// Rows that are read at a time.
const AT_ONCE: usize = 64;

/// The columns that are read: their places in the schema.
struct Columns {
    images: usize,
    paths: Option<usize>,
    labels: Option<usize>,
}

fn words(error: ParquetError) -> String {
    format!("is no usable Parquet file: {}", quote(error))
}

/// Runs what reads a table: the library panics at some that are damaged.
fn guarded<T>(read: impl FnOnce() -> T) -> Checked<T> {
    panics::catch(read).map_err(|panic| {
        log::debug!("reading a Parquet file: {panic}");
        "is no usable Parquet file: it is damaged where its reader does not expect it".to_owned()
    })
}

/// What is in the table at `path`: all of its images are read once, to know how long they are.
pub(super) fn index(path: &Path, spec: &ArchiveSpec, counter: &Counter<'_>) -> Result<Contents> {
    guarded(|| contents(path, spec, counter)).unwrap_or_else(|reason| Err(fault(path, reason)))
}

fn contents(path: &Path, spec: &ArchiveSpec, counter: &Counter<'_>) -> Result<Contents> {
    let file = File::open(path).map_err(Error::io(path, "opening it"))?;
    let reader = SerializedFileReader::new(file).map_err(|error| fault(path, words(error)))?;
    let metadata = reader.metadata().file_metadata();
    let columns = columns(metadata.schema_descr(), spec).map_err(|reason| fault(path, reason))?;
    let label = columns.labels.map(|label| metadata.schema_descr().column(label).name().to_owned());
    let mut contents = Contents::default();
    for pair in metadata.key_value_metadata().into_iter().flatten().filter(|pair| pair.key == "huggingface") {
        contents.names = names(pair.value.as_deref().unwrap_or_default(), label.as_deref().unwrap_or_default());
    }
    for group in 0..reader.num_row_groups() {
        let first = contents.entries.len();
        lengths(&reader, group, &columns, &mut contents, counter).map_err(|fault| fault.of(path))?;
        if let Some(column) = columns.paths {
            name(&reader, group, column, &mut contents.entries[first..]).map_err(|reason| fault(path, reason))?;
        }
        if let Some(column) = columns.labels {
            tell(&reader, group, column, first, &mut contents.entries).map_err(|reason| fault(path, reason))?;
        }
    }
    Ok(contents)
}

/// The columns that `spec` names, or whose names and kinds are the usual ones.
fn columns(schema: &SchemaDescriptor, spec: &ArchiveSpec) -> Checked<Columns> {
    let all: Vec<_> = schema.columns().iter().map(AsRef::as_ref).collect();
    let path = |column: &ColumnDescriptor| column.path().parts().join(".");
    let shown = || all.iter().map(|column| path(column)).collect::<Vec<_>>().join(", ");
    let is_single = |column: &&ColumnDescriptor| column.max_rep_level() == 0;
    let is_bytes = |column: &ColumnDescriptor| {
        column.physical_type() == Physical::BYTE_ARRAY && column.logical_type_ref() != Some(&LogicalType::String)
    };
    let place = |of: &dyn Fn(&ColumnDescriptor) -> bool| all.iter().position(|column| is_single(column) && of(column));
    let images = match &spec.images {
        Some(name) => {
            place(&|column| is_bytes(column) && (path(column) == *name || path(column) == format!("{name}.bytes")))
                .ok_or_else(|| {
                    format!("has no column '{}' of bytes (--images); its columns: {}", quote(name), quote(shown()))
                })?
        }
        None => {
            let named = |name: &str| {
                place(&|column| {
                    let path = path(column).to_ascii_lowercase();
                    is_bytes(column) && (path == format!("{name}.bytes") || path == name)
                })
            };
            // As datasets has them, whatever they are called, if there is one.
            let features: Vec<_> = (0..all.len())
                .filter(|&index| is_bytes(all[index]) && is_single(&all[index]) && all[index].path().parts().len() == 2)
                .filter(|&index| all[index].name() == "bytes")
                .collect();
            let only = match features[..] {
                [one] => Some(one),
                _ => None,
            };
            IMAGES.iter().find_map(|name| named(name)).or(only).ok_or_else(|| {
                format!(
                    "has no column of image files that is known; name one with --images; its columns: {}",
                    quote(shown())
                )
            })?
        }
    };
    let beside = all[images].path().parts().split_last().map_or(&[][..], |(_, parents)| parents);
    let paths = (!beside.is_empty())
        .then(|| {
            place(&|column| {
                column.path().parts().split_last().is_some_and(|(last, parents)| last == "path" && parents == beside)
                    && column.physical_type() == Physical::BYTE_ARRAY
            })
        })
        .flatten();
    let is_label = |column: &ColumnDescriptor| {
        matches!(column.physical_type(), Physical::INT32 | Physical::INT64 | Physical::BOOLEAN | Physical::BYTE_ARRAY)
            && column.path().parts().len() == 1
    };
    let labels = match &spec.labels {
        Some(name) => Some(place(&|column| is_label(column) && path(column) == *name).ok_or_else(|| {
            format!(
                "has no column '{}' of whole numbers or names (--labels); its columns: {}",
                quote(name),
                quote(shown())
            )
        })?),
        None => LABELS
            .iter()
            .find_map(|name| place(&|column| is_label(column) && path(column).to_ascii_lowercase() == **name)),
    };
    Ok(Columns { images, paths, labels })
}

/// The names of the classes of column `label`, as `datasets` keeps them.
fn names(metadata: &str, label: &str) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(metadata).unwrap_or_default();
    let names = value["info"]["features"][label]["names"].as_array();
    let names = names.into_iter().flatten().map(|name| name.as_str().map(composed));
    let names: Vec<String> = names.collect::<Option<_>>().unwrap_or_default();
    if names.iter().any(|name| name.contains('\0')) { Vec::new() } else { names }
}

/// A column of a group of rows.
fn column_of(reader: &SerializedFileReader<File>, group: usize, column: usize) -> Checked<ColumnReader> {
    reader.get_row_group(group).and_then(|group| group.get_column_reader(column)).map_err(words)
}

/// The next values of a column, at most so many, each if it is there; none at its end.
fn next<T: DataType>(column: &mut ColumnReaderImpl<T>, most: usize, is_optional: i16) -> Checked<Vec<Option<T::T>>> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (rows, ..) = column.read_records(most, Some(&mut levels), None, &mut values).map_err(words)?;
    if is_optional == 0 {
        return Ok(values.into_iter().map(Some).collect());
    }
    let mut values = values.into_iter();
    Ok(levels.into_iter().take(rows).map(|level| if level == is_optional { values.next() } else { None }).collect())
}

/// All values of a column of a group of rows.
fn each<T: DataType>(
    mut column: ColumnReaderImpl<T>,
    is_optional: i16,
    mut take: impl FnMut(usize, Option<T::T>) -> std::result::Result<(), Fault>,
) -> std::result::Result<usize, Fault> {
    let mut row = 0;
    loop {
        let values = next(&mut column, AT_ONCE, is_optional)?;
        if values.is_empty() {
            return Ok(row);
        }
        for value in values {
            take(row, value)?;
            row += 1;
        }
    }
}

fn optional(reader: &SerializedFileReader<File>, column: usize) -> i16 {
    reader.metadata().file_metadata().schema_descr().column(column).max_def_level()
}

/// How long the images of a group of rows are.
fn lengths(
    reader: &SerializedFileReader<File>,
    group: usize,
    columns: &Columns,
    contents: &mut Contents,
    counter: &Counter<'_>,
) -> std::result::Result<(), Fault> {
    let ColumnReader::ByteArrayColumnReader(column) = column_of(reader, group, columns.images)? else {
        return Err(Fault::Reason("has images that are no bytes".to_owned()));
    };
    let first = contents.entries.len();
    each(column, optional(reader, columns.images), |row, image| {
        let at = (first + row) as u64;
        let name = PathBuf::from(format!("row {at}"));
        let Some(image) = image else {
            return Err(Fault::Reason(format!(
                "has no image in row {at}; where it has a path alone, write the images into the table"
            )));
        };
        contents.entries.push(Entry { name, at, packed: columns.images as u64, size: image.len() as u64, told: None });
        counter.one().map_err(Fault::Error)
    })?;
    Ok(())
}

/// Names the images of a group of rows by their paths, where they have some; the row stays, because paths need not differ.
fn name(reader: &SerializedFileReader<File>, group: usize, column: usize, entries: &mut [Entry]) -> Checked<()> {
    let ColumnReader::ByteArrayColumnReader(paths) = column_of(reader, group, column)? else { return Ok(()) };
    let taken = each(paths, optional(reader, column), |row, path| {
        let path = path.and_then(|path: ByteArray| below(path.data())).filter(|path| !path.as_os_str().is_empty());
        if let (Some(path), Some(entry)) = (path, entries.get_mut(row))
            && !path.as_os_str().as_encoded_bytes().contains(&0)
        {
            entry.name = entry.name.join(path);
        }
        Ok(())
    });
    reason_of(taken)
}

/// The labels of a group of rows.
fn tell(
    reader: &SerializedFileReader<File>,
    group: usize,
    column: usize,
    first: usize,
    entries: &mut [Entry],
) -> Checked<()> {
    let optional = optional(reader, column);
    let mut put = |row: usize, told: Option<Told>| {
        if let Some(entry) = entries.get_mut(first + row) {
            entry.told = told;
        }
        Ok(())
    };
    let taken = match column_of(reader, group, column)? {
        ColumnReader::Int64ColumnReader(labels) => {
            each(labels, optional, |row, label| put(row, label.map(Told::Number)))
        }
        ColumnReader::Int32ColumnReader(labels) => {
            each(labels, optional, |row, label| put(row, label.map(|label| Told::Number(label.into()))))
        }
        ColumnReader::BoolColumnReader(labels) => {
            each(labels, optional, |row, label| put(row, label.map(|label| Told::Number(label.into()))))
        }
        ColumnReader::ByteArrayColumnReader(labels) => each(labels, optional, |row, label| {
            let name = label.map(|label| str::from_utf8(label.data()).map(composed).map_err(|_| row)).transpose();
            let name = name.map_err(|row| format!("has a label in row {} that is no text", first + row))?;
            match name.as_deref().map(|name| name.contains('\0')) {
                Some(true) => Err(Fault::Reason(format!("has a label with a zero byte in row {}", first + row))),
                _ => put(row, name.map(Told::Name)),
            }
        }),
        _ => Err(Fault::Reason("has labels that are neither whole numbers nor names".to_owned())),
    };
    reason_of(taken)
}

fn reason_of(taken: std::result::Result<usize, Fault>) -> Checked<()> {
    match taken {
        Ok(_) => Ok(()),
        Err(Fault::Reason(reason)) => Err(reason),
        Err(Fault::Error(error)) => Err(error.to_string()),
    }
}

/// A way through the images of one group of rows.
pub(super) struct Rows {
    column: ColumnReaderImpl<ByteArrayType>,
    is_optional: i16,
    /// The next row, and the first behind the group.
    next: u64,
    end: u64,
}

impl Rows {
    /// From the start of the group that `wanted` is in.
    pub fn open(path: &Path, wanted: Wanted) -> Checked<Self> {
        guarded(|| Self::find(path, wanted)).flatten()
    }

    fn find(path: &Path, wanted: Wanted) -> Checked<Self> {
        let file = File::open(path).map_err(quote)?;
        let reader = SerializedFileReader::new(file).map_err(words)?;
        let column = usize::try_from(wanted.packed).unwrap_or(usize::MAX);
        if column >= reader.metadata().file_metadata().schema_descr().num_columns() {
            return Err("has other columns than were listed; start again".to_owned());
        }
        let mut start = 0;
        for group in 0..reader.num_row_groups() {
            let end = start + u64::try_from(reader.metadata().row_group(group).num_rows()).unwrap_or(0);
            if (start..end).contains(&wanted.at) {
                let ColumnReader::ByteArrayColumnReader(column) = column_of(&reader, group, column)? else {
                    return Err("has images that are no bytes".to_owned());
                };
                let is_optional = optional(&reader, wanted.packed as usize);
                return Ok(Self { column, is_optional, next: start, end });
            }
            start = end;
        }
        Err(format!("has {start} rows, and row {} was listed; start again", wanted.at))
    }
}

impl Cursor for Rows {
    fn is_before(&self, wanted: Wanted) -> Option<u64> {
        wanted.at.checked_sub(self.next).filter(|_| wanted.at < self.end)
    }

    fn read(&mut self, wanted: Wanted, length: usize, bytes: &mut Vec<u8>) -> Checked<()> {
        let between = (wanted.at - self.next) as usize;
        let read = || {
            let skipped = self.column.skip_records(between).map_err(words)?;
            if skipped == between { next(&mut self.column, 1, self.is_optional) } else { Ok(Vec::new()) }
        };
        let mut found = guarded(read).flatten()?;
        self.next = wanted.at + 1;
        match found.pop().flatten() {
            Some(image) if image.len() == length => {
                bytes.clear();
                bytes.extend_from_slice(image.data());
                Ok(())
            }
            _ => Err(format!("row {} is not as it was when the images were listed; start again", wanted.at)),
        }
    }
}
