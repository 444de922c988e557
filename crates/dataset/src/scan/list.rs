//! A list of images: lines of `path<TAB>class`. Paths are relative to the list's folder, or absolute, and any bytes that
//! the file system takes.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::fingerprint::RUN;
use super::{ClassName, Layout, Part, class_name};
use crate::file::each_line;
use crate::limits::quote;
use crate::watch::Counter;
use crate::{Error, Result};

/// `DIR/train.tsv`.
pub(super) const LAYOUT: Layout = Layout {
    place: |root, split| root.join(split.name()).with_extension("tsv"),
    is_at: Path::is_file,
    read: |_, _, list, _| read(list),
};

/// Reads a list. Empty lines and lines that begin with `#` do not count, unless the file that such a line names is there.
fn read(list: &Path) -> Result<Part> {
    let bytes = crate::file::read_list(list, "list")?;
    let folder = list.parent().unwrap_or(Path::new(""));
    let is_file = |path: &[u8]| folder.join(OsStr::from_bytes(path)).is_file();
    let (files, order) =
        parse(&bytes, &is_file).map_err(|reason| Error::Input(format!("{}{reason}", list.display())))?;
    Ok(Part { place: list.to_owned(), files, folders: Vec::new(), order: Some(order) })
}

/// The files of each class, and for each line its class and its place among the files.
type Parsed = (Vec<(String, Vec<PathBuf>)>, Vec<(usize, usize)>);

fn parse(list: &[u8], is_file: &dyn Fn(&[u8]) -> bool) -> std::result::Result<Parsed, String> {
    let mut files: Vec<(String, Vec<PathBuf>)> = Vec::new();
    let mut classes = HashMap::new();
    let mut order = Vec::new();
    for (index, line) in list.strip_prefix(BYTE_ORDER_MARK).unwrap_or(list).split(|&byte| byte == b'\n').enumerate() {
        let parsed = parse_line(line, is_file).map_err(|reason| format!(":{}: {reason}", index + 1))?;
        let Some((path, class)) = parsed else { continue };
        let class = *classes.entry(class_name(class)).or_insert_with_key(|class| {
            files.push((class.text.clone(), Vec::new()));
            files.len() - 1
        });
        order.push((class, files[class].1.len()));
        files[class].1.push(path_of(path));
    }
    if order.is_empty() {
        return Err(NONE.to_owned());
    }
    Ok((files, order))
}

const NONE: &str = ": no image in the list; write a path, a tab and a class on each line";

/// The path and the class of a line; `None` where it does not count.
fn parse_line<'l>(
    line: &'l [u8],
    is_file: &dyn Fn(&[u8]) -> bool,
) -> std::result::Result<Option<(&'l [u8], &'l [u8])>, String> {
    let line = trim(line);
    let path = || trim(line.split(|&byte| byte == b'\t').next().unwrap_or(line));
    if line.is_empty() || line.starts_with(b"#") && !(line.contains(&b'\t') && is_file(path())) {
        return Ok(None);
    }
    if line.contains(&0) {
        return Err("a zero byte; save the list as UTF-8".to_owned());
    }
    let mut fields = line.split(|&byte| byte == b'\t').map(trim);
    match (fields.next(), fields.next(), fields.next()) {
        (Some(path), Some(class), None) => Ok(Some((path, class))),
        (_, second, _) => {
            let tabs = if second.is_none() { "no tab" } else { "more than one tab" };
            let shown = quote(String::from_utf8_lossy(line));
            Err(format!("{tabs} in '{shown}'; write a path, a tab and a class"))
        }
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// What a list holds, but for its images.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// In the order in which they come.
    pub classes: Vec<ClassName>,
    /// The bytes of each [`RUN`] of images, in their order.
    pub runs: Vec<Range<u64>>,
}

/// Reads the list at `path` once, from its start to its end, and keeps none of its images.
///
/// # Errors
/// As those of a list that is read.
pub(super) fn summarize(path: &Path, counter: &Counter<'_>) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut seen = HashSet::new();
    let (mut start, mut end, mut images, mut number) = (0, 0, 0, 0);
    each_entry(path, 0..u64::MAX, |line, entry| {
        number += 1;
        end = line.end;
        let Some((_, class)) =
            entry.map_err(|reason| Error::Input(format!("{}:{number}: {reason}", path.display())))?
        else {
            return Ok(());
        };
        counter.one()?;
        let class = class_name(class);
        if !seen.contains(&class) {
            seen.insert(class.clone());
            summary.classes.push(class);
        }
        images += 1;
        if images == RUN {
            summary.runs.push(start..line.end);
            (start, images) = (line.end, 0);
        }
        Ok(())
    })?;
    if images > 0 {
        summary.runs.push(start..end);
    }
    match summary.runs.is_empty() {
        true => Err(Error::Input(format!("{}{NONE}", path.display()))),
        false => Ok(summary),
    }
}

/// The paths and classes in these bytes of the list at `path`.
///
/// # Errors
/// A list that is another than it was.
pub(super) fn entries(path: &Path, bytes: Range<u64>) -> Result<Vec<(PathBuf, ClassName)>> {
    let mut entries = Vec::with_capacity(RUN);
    each_entry(path, bytes, |_, entry| {
        let entry = entry.map_err(|reason| Error::Input(format!("{}: has changed: {reason}", path.display())))?;
        entries.extend(entry.map(|(path, class)| (path_of(path), class_name(class))));
        Ok(())
    })?;
    Ok(entries)
}

/// Calls `take` with the bytes of each line, and what it says.
fn each_entry(
    list: &Path,
    bytes: Range<u64>,
    mut take: impl FnMut(Range<u64>, std::result::Result<Option<(&[u8], &[u8])>, String>) -> Result<()>,
) -> Result<()> {
    let folder = list.parent().unwrap_or(Path::new(""));
    let is_file = |path: &[u8]| folder.join(OsStr::from_bytes(path)).is_file();
    each_line(list, "list", bytes, |at, line| {
        let end = at + line.len() as u64;
        let text = if at == 0 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
        take(at..end, parse_line(text, &is_file))
    })
}

/// What some editors put in front of a text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Without the spaces around it.
fn trim(field: &[u8]) -> &[u8] {
    str::from_utf8(field).map_or(field.trim_ascii(), |field| field.trim().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn any_bytes_name_a_file_and_a_class() {
        let (files, _) = parse(b"x/caf\xe9.png \tcaf\xe9\ny.png\t caf\xc3\xa9\r\n", &|_| false).unwrap();
        let expected = [("caf\\xe9", &b"x/caf\xe9.png"[..]), ("café", b"y.png")];
        let found = files.iter().map(|(class, files)| (class.as_str(), files[0].as_os_str().as_encoded_bytes()));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn faults_of_lists() {
        let cases = [
            ("", ": no image in the list"),
            ("# only words\n#\n", ": no image in the list"),
            ("a.png\tcat\nb.png cat\n", ":2: no tab in 'b.png cat'"),
            ("a.png\tcat\tdog\n", ":1: more than one tab"),
            ("\tcat\n", ":1: no tab in 'cat'"),
            ("a.png\tcat\nb.p\0ng\tcat\n", ":2: a zero byte"),
        ];
        for (text, words) in cases {
            let reason = parse(text.as_bytes(), &|_| true).unwrap_err();
            assert!(reason.starts_with(words), "{text:?}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_a_list_or_a_reason(text in "([a-c\\t\\n#]|\\PC){0,60}") {
            if let Ok((files, order)) = parse(text.as_bytes(), &|path| path.len() > 3) {
                prop_assert_eq!(files.iter().map(|(_, files)| files.len()).sum::<usize>(), order.len());
            }
        }
    }
}
