//! Options of launchers and wrappers, read as each of them reads its own: needed to find where the program starts.

use shell::{Argument, Reason};
use source_text::Span;

/// The options of a program, each by its name without dashes; lists are words with spaces between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grammar {
    /// Those that take one value.
    pub(crate) values: &'static str,
    /// Those that take two.
    pub(crate) pairs: &'static str,
    /// Those that take none, or one behind `=` only.
    pub(crate) flags: &'static str,
    /// Letters that may have a value glued to them: `-K1`.
    pub(crate) glued: &'static str,
    /// How they are spelled.
    pub(crate) style: Style,
    /// What an option is taken for that is in neither list.
    pub(crate) unlisted: Unlisted,
}

/// How options are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As getopt_long has it: `--name v`, `--name=v`, any prefix that fits one name, `-n v`, `-nv`, `-abn v`.
    Getopt,
    /// One dash and two mean the same, and letters are names: Open MPI, MPICH, Intel MPI, PALS.
    Words,
}

/// What an option is taken for that is not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unlisted {
    /// One with a value.
    Value,
    /// One without.
    Flag,
}

/// Options as they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    given: Vec<(String, Argument)>,
    /// Words that are not known and may be any options: why.
    pub(crate) hidden: Option<Reason>,
    /// Options that the grammar does not know.
    pub(crate) unlisted: Vec<Argument>,
}

/// An option's value, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given<T> {
    /// It is not given.
    No,
    /// This, which stands there.
    Is(T, Span),
    /// It is given, or may be: what makes it unknown.
    Unknown(Reason),
}

impl Options {
    /// The value of the first of `names` that is given; the last time counts. An empty text for a flag.
    pub(crate) fn get(&self, names: &[&str]) -> Option<&Argument> {
        let mut found = self.given.iter().filter(|(name, _)| names.contains(&name.as_str()));
        found.next_back().map(|(_, value)| value)
    }

    /// Its text.
    pub(crate) fn text(&self, names: &[&str]) -> Given<&str> {
        match (self.get(names), &self.hidden) {
            (Some(value), _) => match value.known() {
                Some(text) => Given::Is(text, value.span),
                None => Given::Unknown(value.reason().named(&shown(names))),
            },
            (None, Some(reason)) => Given::Unknown(reason.clone()),
            (None, None) => Given::No,
        }
    }

    /// Its value as a number.
    pub(crate) fn number(&self, names: &[&str]) -> Given<usize> {
        match self.text(names) {
            Given::No => Given::No,
            Given::Unknown(reason) => Given::Unknown(reason),
            Given::Is(text, span) => match text.parse() {
                Ok(0) => Given::Unknown(Reason::new("0 is given, which starts nothing", span)),
                Ok(number) => Given::Is(number, span),
                Err(_) => Given::Unknown(Reason::new(format!("'{text}' is no number"), span)),
            },
        }
    }

    /// Adds an option that comes from elsewhere, where it is not given.
    pub(crate) fn add_default(&mut self, name: &str, value: Argument) {
        if self.get(&[name]).is_none() {
            self.given.push((name.to_owned(), value));
        }
    }

    /// All of them.
    #[cfg(test)]
    fn all(&self) -> impl Iterator<Item = &(String, Argument)> {
        self.given.iter()
    }
}

/// An option's name as people type it.
fn shown(names: &[&str]) -> String {
    let name = names.first().copied().unwrap_or_default();
    if name.chars().count() > 1 { format!("--{name}") } else { format!("-{name}") }
}

/// A list's word that is `name`; `-` and `_` are one.
fn lists(list: &str, name: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == name)
}

impl Grammar {
    /// How many words behind the option `name` are its values, and its full name.
    fn arity(&self, name: &str, is_letter: bool) -> Option<(usize, String)> {
        let counts = [(1, self.values), (2, self.pairs), (0, self.flags)];
        for (count, list) in counts {
            if lists(list, name) {
                return Some((count, name.to_owned()));
            }
        }
        if is_letter || self.style != Style::Getopt {
            return None;
        }
        let mut fitting = counts.into_iter().flat_map(|(count, list)| {
            list.split_ascii_whitespace().filter(|known| known.starts_with(name)).map(move |known| (count, known))
        });
        let first = fitting.next()?;
        fitting.next().is_none().then(|| (first.0, first.1.to_owned()))
    }

    /// Reads options from `words[next..]`, up to the first word that is none: its index comes back with them.
    pub(crate) fn read(&self, words: &[Argument], mut next: usize) -> (Options, usize) {
        let mut options = Options::default();
        while let Some(word) = words.get(next) {
            // What is known of `--nproc_per_node=$N` is its name.
            let shown = word.known().unwrap_or(&word.start);
            let Some(dashless) = shown.strip_prefix("--").or_else(|| shown.strip_prefix('-')) else {
                match word.known() {
                    Some("") if word.is_any_number => {}
                    Some(_) => break,
                    None if !looks_like_options(word) => break,
                    None => options.hidden = options.hidden.or_else(|| Some(word.reason())),
                }
                next += 1;
                continue;
            };
            if shown == "--" && word.known().is_some() {
                next += 1;
                break;
            }
            if dashless.is_empty() {
                // `--$NAME`, or a lone dash.
                match word.known() {
                    Some(_) => break,
                    None => options.hidden = options.hidden.or_else(|| Some(word.reason())),
                }
                next += 1;
                continue;
            }
            next += 1;
            let is_long = shown.starts_with("--") || self.style == Style::Words;
            let is_listed = lists(self.values, dashless) || lists(self.flags, dashless) || lists(self.pairs, dashless);
            if is_long || is_listed && dashless.len() > 1 {
                next += self.long(dashless, word, &words[next..], &mut options);
            } else {
                next += self.letters(dashless, word, words.get(next), &mut options);
            }
        }
        (options, next.min(words.len()))
    }

    /// How many words behind it the option takes.
    fn long(&self, dashless: &str, word: &Argument, behind: &[Argument], options: &mut Options) -> usize {
        let (name, value) = match dashless.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (dashless, None),
        };
        if value.is_none() && word.known().is_none() {
            // `--nproc$X`: not even its name is known.
            options.hidden = options.hidden.take().or_else(|| Some(word.reason()));
            return 0;
        }
        let name = name.replace('_', "-");
        let known = self.arity(&name, false);
        if known.is_none() {
            options.unlisted.push(word.clone());
        }
        let (count, name) = known.unwrap_or_else(|| (usize::from(self.unlisted == Unlisted::Value), name));
        let argument = match value {
            Some(value) if word.known().is_some() => word.part(value),
            // `--nproc_per_node=$N`: the name is known, and the value is not.
            Some(value) => Argument { start: value.to_owned(), ..word.clone() },
            None if count > 0 => behind.first().cloned().unwrap_or_else(|| word.part("")),
            None => word.part(""),
        };
        options.given.push((name, argument));
        // `-env A=1` is one word where `-env A 1` is two.
        let is_joined =
            count == 2 && behind.first().is_some_and(|word| word.known().unwrap_or(&word.start).contains('='));
        match value {
            Some(_) => count.saturating_sub(1),
            None if is_joined => 1,
            None => count,
        }
    }

    /// `-n4`, `-n 4`, `-lN2`.
    fn letters(&self, letters: &str, word: &Argument, following: Option<&Argument>, options: &mut Options) -> usize {
        for (at, letter) in letters.char_indices() {
            let name = letter.to_string();
            let known = self.arity(&name, true);
            if known.is_none() {
                options.unlisted.push(word.clone());
                // Whatever is glued to it is its own.
                return usize::from(self.unlisted == Unlisted::Value && letters.len() == 1);
            }
            let rest = &letters[at + letter.len_utf8()..];
            if lists(self.glued, &name) {
                options.given.push((name, word.part(rest)));
                return 0;
            }
            if known.is_none_or(|(count, _)| count == 0) {
                options.given.push((name, word.part("")));
                continue;
            }
            if word.known().is_none() {
                options.given.push((name, Argument { start: rest.to_owned(), ..word.clone() }));
                return 0;
            }
            if rest.is_empty() {
                options.given.extend(following.map(|value| (name, value.clone())));
                return 1;
            }
            options.given.push((name, word.part(rest.strip_prefix('=').unwrap_or(rest))));
            return 0;
        }
        0
    }
}

/// Whether a word that is not known is likely options: an unquoted `$SRUN_ARGS`, `${OPTS[@]}`; not `$PYTHON` or `$DIR/a`.
fn looks_like_options(word: &Argument) -> bool {
    const SIGNS: &[&str] = &["OPT", "ARG", "FLAG", "BIND", "MOUNT", "PARAM", "EXTRA", "CONFIG"];
    let is_bare = word.start.is_empty() && word.end.is_empty() && word.is_any_number;
    is_bare
        && word.variables.first().is_some_and(|name| SIGNS.iter().any(|sign| name.to_ascii_uppercase().contains(sign)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAMMAR: Grammar = Grammar {
        values: "ntasks nodes n N",
        pairs: "mca",
        flags: "label verbose l v K",
        glued: "K",
        style: Style::Getopt,
        unlisted: Unlisted::Flag,
    };

    fn read(text: &str, grammar: &Grammar) -> String {
        let word = |text: &str| match text.split_once('?') {
            Some((start, _)) => Argument {
                text: None,
                start: start.to_owned(),
                variables: vec!["ARGS".to_owned()],
                is_any_number: true,
                ..Argument::literal("", Span::default())
            },
            None => Argument::literal(text, Span::default()),
        };
        let words: Vec<_> = text.split_whitespace().map(word).collect();
        let (options, next) = grammar.read(&words, 0);
        let given = options.all().map(|(name, value)| format!("{name}={}", value.known().unwrap_or("?")));
        let mut shown: Vec<_> = given.collect();
        shown.extend(options.hidden.map(|_| "hidden".to_owned()));
        shown.push(words.get(next).map_or("end".to_owned(), |word| word.known().unwrap_or("?").to_owned()));
        shown.join(" ")
    }

    #[test]
    fn options_are_read_as_their_program_reads_them() {
        let cases = [
            ("--ntasks=4 a -n 2", "ntasks=4 a"),
            ("--nta 4 -lN2 -v a", "ntasks=4 l= N=2 v= a"),
            ("-n4 -n 8 -- a", "n=4 n=8 a"),
            ("--n 4 a", "n=4 a"),
            ("--ntasks=? a", "ntasks=? a"),
            ("-n ? a", "n=? a"),
            ("-n? a", "n=? a"),
            ("? -n 4 a", "n=4 hidden a"),
            ("--what a", "what= a"),
            ("-K1 -lK -K 1 a", "K=1 l= K= K= 1"),
            ("-n", "end"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text, &GRAMMAR), expected, "{text}");
        }
        let words = Grammar { style: Style::Words, values: "np n x map-by", ..GRAMMAR };
        for (text, expected) in
            [("-np 4 --mca a b -x P -map-by core c", "np=4 mca=a x=P map-by=core c"), ("--n=4 c", "n=4 c")]
        {
            assert_eq!(read(text, &words), expected, "{text}");
        }
    }
}
