//! A list of pictures: lines of `path<TAB>class`. Paths are relative to the list's folder, or absolute.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Part, Split};
use crate::{Error, Result};

/// Where the list of a split lies.
pub(super) fn path(root: &Path, split: Split) -> PathBuf {
    root.join(split.name()).with_extension("tsv")
}

/// Reads a list. Empty lines and lines that begin with `#` do not count.
pub(super) fn read(list: &Path) -> Result<Part> {
    let text = std::fs::read_to_string(list)
        .map_err(|error| Error::Input(format!("{}: cannot read the list: {error}", list.display())))?;
    let (files, order) = parse(&text).map_err(|reason| Error::Input(format!("{}{reason}", list.display())))?;
    Ok(Part { place: list.to_owned(), files, order: Some(order) })
}

/// The files of each class, and for each line its class and its place among the files.
type Parsed = (Vec<(String, Vec<PathBuf>)>, Vec<(usize, usize)>);

fn parse(text: &str) -> std::result::Result<Parsed, String> {
    let mut files: Vec<(String, Vec<PathBuf>)> = Vec::new();
    let mut classes = HashMap::new();
    let mut order = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((path, class)) = line.split_once('\t').map(|(path, class)| (path.trim(), class.trim())) else {
            return Err(format!(":{}: no tab in '{line}'; write a path, a tab and a class", index + 1));
        };
        if class.contains('\t') {
            return Err(format!(":{}: more than one tab in '{line}'; write a path, a tab and a class", index + 1));
        }
        let class = *classes.entry(class.to_owned()).or_insert_with_key(|class| {
            files.push((class.clone(), Vec::new()));
            files.len() - 1
        });
        order.push((class, files[class].1.len()));
        files[class].1.push(PathBuf::from(path));
    }
    if order.is_empty() {
        return Err(": no picture in the list; write a path, a tab and a class on each line".to_owned());
    }
    Ok((files, order))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn faults_of_lists() {
        let cases = [
            ("", ": no picture in the list"),
            ("# only words\n", ": no picture in the list"),
            ("a.png\tcat\nb.png cat\n", ":2: no tab in 'b.png cat'"),
            ("a.png\tcat\tdog\n", ":1: more than one tab"),
            ("\tcat\n", ":1: no tab in 'cat'"),
        ];
        for (text, words) in cases {
            let reason = parse(text).unwrap_err();
            assert!(reason.starts_with(words), "{text:?}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_a_list_or_a_reason(text in "([a-c\\t\\n#]|\\PC){0,60}") {
            if let Ok((files, order)) = parse(&text) {
                prop_assert_eq!(files.iter().map(|(_, files)| files.len()).sum::<usize>(), order.len());
            }
        }
    }
}
