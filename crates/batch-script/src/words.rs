//! A directive's line as words.

use source_text::Span;

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// How lines are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// What ends the line, where something does: at a word's start, outside of quotes.
    pub(crate) comment: Option<char>,
    /// Whether Python's rules hold (`shlex`, and triple quotes): a comment starts inside of a word, too, and a backslash keeps
    /// a single quote from closing.
    pub(crate) python: bool,
}

/// Cuts `line`, which starts at byte `base`: quotes group, a backslash takes the next character literally. `Err`: a quote
/// that its line does not close.
pub(crate) fn split(line: &str, base: usize, rules: Rules) -> Result<Vec<Word>, Span> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote: Option<(char, usize)> = None;
    let mut escaped = false;
    let mut behind_triple = 0;
    for (at, c) in line.char_indices() {
        let place = base + at;
        if at < behind_triple {
            continue;
        }
        let triple = line.get(at..at + 3).filter(|three| ["\"\"\"", "'''"].contains(three));
        if let (true, None, false, Some(three)) = (rules.python, quote, escaped, triple)
            && let Some(length) = line[at + 3..].find(three)
        {
            let current = word.get_or_insert_with(|| Word { text: String::new(), span: Span::new(place, place) });
            current.text.push_str(&line[at + 3..at + 3 + length]);
            behind_triple = at + 6 + length;
            current.span.end = base + behind_triple;
            continue;
        }
        if quote.is_none() && !escaped {
            if c.is_whitespace() {
                words.extend(word.take());
                continue;
            }
            if (word.is_none() || rules.python) && rules.comment == Some(c) {
                break;
            }
        }
        let current = word.get_or_insert_with(|| Word { text: String::new(), span: Span::new(place, place) });
        current.span.end = place + c.len_utf8();
        match c {
            _ if escaped => {
                escaped = false;
                current.text.push(c);
            }
            '\\' if rules.python || quote.is_none_or(|(open, _)| open == '"') => escaped = true,
            _ if quote.is_some_and(|(open, _)| open == c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some((c, place)),
            _ => current.text.push(c),
        }
    }
    words.extend(word);
    match quote {
        Some((_, start)) => Err(Span::new(start, base + line.len())),
        None => Ok(words),
    }
}

/// The lines of `text`, each with the byte where it starts, without what ends them.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut start = 0;
    text.split('\n').map(move |line| {
        let base = start;
        start += line.len() + 1;
        (line.strip_suffix('\r').unwrap_or(line), base)
    })
}

/// An option and its value, and where they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) name: String,
    pub(crate) value: Option<Word>,
    pub(crate) span: Span,
}

/// What becomes of words that are no options.
pub(crate) struct Options {
    pub(crate) given: Vec<Given>,
    pub(crate) strays: Vec<Word>,
}

/// Options by their names without dashes, of which those in `values` take a value: glued to a letter, behind `=`, or the
/// next word. `words`: one dash may stand before a name of several letters.
pub(crate) fn options(words: &[Word], values: &str, long_with_one_dash: bool) -> Options {
    let takes = |name: &str| values.split_ascii_whitespace().any(|known| known == name);
    let mut found = Options { given: Vec::new(), strays: Vec::new() };
    let mut next = 0;
    while let Some(word) = words.get(next) {
        next += 1;
        let long = word.text.strip_prefix("--");
        let Some(name) = long.or_else(|| word.text.strip_prefix('-')).filter(|name| !name.is_empty()) else {
            found.strays.push(word.clone());
            continue;
        };
        if long.is_some() || long_with_one_dash {
            let (name, glued) = match name.split_once('=').filter(|_| long.is_some()) {
                Some((name, value)) => (name, Some(value)),
                None => (name, None),
            };
            let value = match glued {
                Some(value) => Some(Word { text: value.to_owned(), span: word.span }),
                None if takes(name) => {
                    let value = words.get(next).cloned();
                    next += usize::from(value.is_some());
                    value
                }
                None => None,
            };
            let span = value.as_ref().map_or(word.span, |value| word.span.cover(value.span));
            found.given.push(Given { name: name.to_owned(), value, span });
            continue;
        }
        let letter: String = name.chars().take(1).collect();
        let rest = &name[letter.len()..];
        let value = match (takes(&letter), rest.is_empty()) {
            (true, false) => Some(Word { text: rest.to_owned(), span: word.span }),
            (true, true) => {
                let value = words.get(next).cloned();
                next += usize::from(value.is_some());
                value
            }
            (false, _) => None,
        };
        let span = value.as_ref().map_or(word.span, |value| word.span.cover(value.span));
        found.given.push(Given { name: letter, value, span });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_line() {
        let text = |line: &str, comment| -> Result<Vec<String>, Span> {
            Ok(split(line, 10, Rules { comment, python: false })?.into_iter().map(|word| word.text).collect())
        };
        assert_eq!(text(" -N 'my job' -l a=b # x", None).unwrap(), ["-N", "my job", "-l", "a=b", "#", "x"]);
        assert_eq!(text(" -R \"span[ptile=4]\" # x", Some('#')).unwrap(), ["-R", "span[ptile=4]"]);
        assert_eq!(text("a\\ b \"\"", None).unwrap(), ["a b", ""]);
        assert_eq!(text("a 'b", None), Err(Span::new(12, 14)));
        assert_eq!(split(" -n 4", 10, Rules { comment: None, python: false }).unwrap()[1].span, Span::new(14, 15));
    }

    #[test]
    fn options_and_values() {
        let shown = |line: &str, values: &str, long: bool| -> String {
            let words = split(line, 0, Rules { comment: None, python: false }).unwrap();
            let found = options(&words, values, long);
            let given = found.given.iter().map(|given| {
                format!("{}={}", given.name, given.value.as_ref().map_or("", |value| value.text.as_str()))
            });
            let strays = found.strays.iter().map(|word| format!("!{}", word.text));
            given.chain(strays).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("-lnodes=2 -j oe -V x", "l j", false), "l=nodes=2 j=oe V= !x");
        assert_eq!(shown("-nnodes 2 -gpu num=4 -x -n 8", "nnodes gpu n", true), "nnodes=2 gpu=num=4 x= n=8");
        assert_eq!(
            shown("-N2 --nslots=8 --gpus-per-slot 1", "N nslots gpus-per-slot", false),
            "N=2 nslots=8 gpus-per-slot=1"
        );
    }
}
