//! What a substitution prints, where that follows from its words: `$(echo …)`, `$(seq 4)`, and lines of files whose number is
//! known: `$(wc -l < $PBS_NODEFILE)`, `$(sort -u $PBS_NODEFILE | wc -l)`.

use crate::arithmetic::evaluate;
use crate::run::Shell;
use crate::syntax::{Command, Node};

/// Lines of a file: all, and those that differ from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// All of them.
    pub all: Option<usize>,
    /// Those that differ.
    pub different: Option<usize>,
}

/// What runs through a pipeline.
enum Stream {
    Text(String),
    /// Lines of a file, of which so many are left.
    Lines {
        all: Option<usize>,
        different: Option<usize>,
    },
}

impl Shell<'_> {
    /// What `nodes` print, if that is known.
    pub(crate) fn prints(&self, nodes: &[Node]) -> Option<String> {
        let [node] = nodes else { return None };
        let stages = match node {
            Node::Simple(_) => std::slice::from_ref(node),
            Node::Pipeline(stages) => stages,
            _ => return None,
        };
        let mut stream = None;
        for stage in stages {
            let Node::Simple(command) = stage else { return None };
            stream = Some(self.stage(command, stream)?);
        }
        match stream? {
            Stream::Text(text) => Some(text),
            Stream::Lines { .. } => None,
        }
    }

    fn stage(&self, command: &Command, input: Option<Stream>) -> Option<Stream> {
        let words: Option<Vec<_>> =
            command.words.iter().flat_map(|word| self.expand(word)).map(|word| word.text).collect();
        let words = words?;
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let named = command.input.as_ref().map(|word| self.expand_to_one(word));
        let of_file = |path: &str| {
            let lines = self.lines_of(path)?;
            Some(Stream::Lines { all: lines.all, different: lines.different })
        };
        // What it reads: a file of its own, `< FILE`, or what comes before.
        let read = |files: &[&str]| match files {
            [] => named.as_ref().and_then(|word| of_file(word.known()?)).or(input),
            [file] => of_file(file),
            _ => None,
        };
        let text = |text: String| Some(Stream::Text(text));
        match words[..] {
            ["echo", ref rest @ ..] => text(rest.join(" ")),
            ["seq", last] => text(numbers(1, last.parse().ok()?)?),
            ["seq", first, last] => text(numbers(first.parse().ok()?, last.parse().ok()?)?),
            ["expr", ref rest @ ..] => text(evaluate(&rest.join(" "), &|_| None)?.to_string()),
            ["bc"] => match read(&[])? {
                Stream::Text(formula) => text(evaluate(&formula, &|_| None)?.to_string()),
                Stream::Lines { .. } => None,
            },
            ["cat", ref files @ ..] => read(files),
            ["sort", "-u", ref files @ ..] | ["uniq", ref files @ ..] => match read(files)? {
                Stream::Lines { different, .. } => Some(Stream::Lines { all: different, different }),
                Stream::Text(_) => None,
            },
            ["sort", ref files @ ..] if files.iter().all(|file| !file.starts_with('-')) => read(files),
            ["wc", "-l", ref files @ ..] => match read(files)? {
                Stream::Lines { all, .. } => text(match files {
                    [file] => format!("{} {file}", all?),
                    _ => all?.to_string(),
                }),
                Stream::Text(_) => None,
            },
            ["awk", "{print $1}" | "{ print $1 }"] | ["cut", "-d", " ", "-f1" | "-f 1"] | ["cut", "-f1", "-d "] => {
                match read(&[])? {
                    Stream::Text(line) => text(line.split_whitespace().next()?.to_owned()),
                    Stream::Lines { .. } => None,
                }
            }
            ["head", "-1"] | ["head", "-n", "1"] | ["head", "-n1"] | ["xargs"] | ["tr", "-d", " "] => {
                match read(&[])? {
                    Stream::Text(line) => text(line.trim().lines().next()?.to_owned()),
                    Stream::Lines { .. } => None,
                }
            }
            ["tail", "-1"] | ["tail", "-n", "1"] | ["tail", "-n1"] => match read(&[])? {
                Stream::Text(lines) => text(lines.trim().lines().last()?.to_owned()),
                Stream::Lines { .. } => None,
            },
            _ => None,
        }
    }
}

fn numbers(first: i64, last: i64) -> Option<String> {
    if last.checked_sub(first)? > 1000 {
        return None;
    }
    Some((first..=last).map(|number| number.to_string()).collect::<Vec<_>>().join("\n"))
}
