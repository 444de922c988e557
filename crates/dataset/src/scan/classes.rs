//! A classes file fixes the names of the classes and their order.

use std::collections::HashSet;
use std::path::Path;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::limits::quote;
use crate::{Error, Result};

/// Reads a classes file: one name a line, in the order of the labels. Empty lines and lines that begin with `#` do not
/// count; spaces around a name are cut.
///
/// # Errors
/// An unreadable file, no name at all, or a name that stands there twice.
pub fn read_classes(path: &Path) -> Result<Vec<String>> {
    let bytes = crate::file::read_list(path, "classes file")?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::Input(format!("{}: cannot read the classes file: it is not UTF-8: {error}", path.display()))
    })?;
    parse(&text).map_err(|reason| Error::Input(format!("{}{reason}", path.display())))
}

/// The name of a class as Linux writes it, and macOS does not: an é is one character, not two. So both mean one class.
pub(crate) fn composed(name: &str) -> String {
    ComposingNormalizerBorrowed::new_nfc().normalize(name).into_owned()
}

fn parse(text: &str) -> std::result::Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    // A byte order mark is what some editors put in front of a text.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let name = composed(line.trim());
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        if !seen.insert(name.clone()) {
            return Err(format!(":{}: class '{}' stands here a second time; remove one", index + 1, quote(&name)));
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(": no class in the classes file; write one name a line".to_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classes_files() {
        let cases = [
            ("ant\nbee\n", Ok(vec!["ant", "bee"])),
            ("\u{feff}# animals\n\n  ant \r\nbee", Ok(vec!["ant", "bee"])),
            ("polar bear", Ok(vec!["polar bear"])),
            ("ant\nbee\nant\n", Err(":3: class 'ant' stands here a second time; remove one")),
            ("# nothing\n\n", Err(": no class in the classes file; write one name a line")),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(parse(text), expected.map_err(str::to_owned), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_distinct_names_or_a_reason(text in "\\PC{0,40}") {
            if let Ok(names) = parse(&text) {
                let distinct: HashSet<_> = names.iter().collect();
                prop_assert_eq!(distinct.len(), names.len());
            }
        }
    }
}
