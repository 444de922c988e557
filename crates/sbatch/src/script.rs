//! A script's lines, and the options of its directives.

use crate::getopt::{self, Directive, Strays};
use crate::options::Lifetime;
use crate::problem::{Problem, ProblemKind};
use crate::token::{self, Token, is_space};
use source_text::Span;

/// What a line is to `sbatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// `#SBATCH …` from column 1, before the first command.
    Directive,
    /// `#SBATCH …` behind the first command: ignored in silence.
    LateDirective,
    /// Another line that starts with `#`.
    Comment,
    /// Nothing but white space.
    Blank,
    /// Anything else: the first of them ends the reading.
    Command,
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// Its text without the newline.
    pub span: Span,
    /// What it is.
    pub kind: LineKind,
}

/// A batch script, read as `sbatch` reads it.
#[derive(Clone, Debug)]
pub struct Script<'t> {
    text: &'t str,
    lines: Vec<Line>,
    problems: Vec<Problem>,
    components: Vec<Vec<Directive>>,
    late: Vec<Directive>,
    separators: Vec<Span>,
}

/// The words that start a directive. `#SLURM` is the old one, which Slurm still takes.
const MAGIC: [&str; 2] = ["#SBATCH", "#SLURM"];

impl<'t> Script<'t> {
    /// Reads `text`. Nothing is refused: what `sbatch` would refuse is among the [problems](Self::problems).
    pub fn parse(text: &'t str) -> Self {
        let mut problems = Vec::new();
        whole_file_problems(text, &mut problems);

        let mut lines = Vec::new();
        let mut reading = true;
        let mut start = 0;
        for (index, line) in text.split('\n').enumerate() {
            let span = Span::new(start, start + line.len());
            start = span.end + 1;
            if line.is_empty() && span.end == text.len() {
                break; // behind the last newline
            }
            let line = line.split('\0').next().unwrap_or_default();
            let first = line.chars().find(|&c| !is_space(c));
            let kind = match first {
                _ if magic(line).is_some() && reading => LineKind::Directive,
                _ if magic(line).is_some() => LineKind::LateDirective,
                None => LineKind::Blank,
                Some('#') => LineKind::Comment,
                Some(_) => {
                    reading = false;
                    LineKind::Command
                }
            };
            lines.push(Line { number: index + 1, span, kind });
        }

        // The words of all lines of a component are one list: a value may stand on the next line.
        let mut components: Vec<Vec<Token>> = vec![Vec::new()];
        let mut late = Vec::new();
        let mut separators = Vec::new();
        for line in &lines {
            let source = &text[line.span.range()];
            let Some(word) = magic(source) else { continue };
            let (rest, base) = (&source[word.len()..], line.span.start + word.len());
            if line.kind == LineKind::LateDirective {
                late.extend(token::tokens(rest, base, &mut Vec::new()));
                continue;
            }
            if token::is_separator(rest.trim_start_matches(is_space)) {
                separators.push(line.span);
                components.push(Vec::new());
            }
            let words = token::tokens(rest, base, &mut problems);
            components.last_mut().expect("never empty").extend(words);
        }
        let components =
            components.iter().map(|tokens| getopt::directives(tokens, Strays::Report, &mut problems)).collect();
        let late = getopt::directives(&late, Strays::Report, &mut Vec::new());
        problems.sort_by_key(|problem| problem.span.start);
        Self { text, lines, problems, components, late, separators }
    }

    /// The text.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// All lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// What `sbatch` would refuse, in the order of the text.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many components the job has: one, or more for a heterogeneous job.
    pub fn components(&self) -> usize {
        self.components.len()
    }

    /// The options that component `component` itself gives, in the order of the text.
    ///
    /// # Panics
    /// If there is no such component.
    pub fn directives(&self, component: usize) -> &[Directive] {
        &self.components[component]
    }

    /// The options that count for component `component`: those it inherits from the ones before, then its own.
    ///
    /// # Panics
    /// If there is no such component.
    pub fn effective_directives(&self, component: usize) -> impl Iterator<Item = &Directive> {
        let earlier = self.components[..component].iter().flatten();
        let inherited = earlier.filter(|directive| directive.option.lifetime == Lifetime::WholeJob);
        inherited.chain(&self.components[component])
    }

    /// The options behind the first command, which `sbatch` never sees.
    pub fn late_directives(&self) -> &[Directive] {
        &self.late
    }

    /// The lines that separate the components.
    pub fn separators(&self) -> &[Span] {
        &self.separators
    }
}

fn magic(line: &str) -> Option<&'static str> {
    MAGIC.into_iter().find(|word| line.starts_with(word))
}

fn whole_file_problems(text: &str, problems: &mut Vec<Problem>) {
    if text.chars().all(is_space) {
        problems.push(Problem { kind: ProblemKind::Empty, span: Span::new(0, 0) });
        return;
    }
    if !text.starts_with("#!") {
        let first = text.find('\n').unwrap_or(text.len());
        problems.push(Problem { kind: ProblemKind::NoShebang, span: Span::new(0, first) });
    }
    if let Some(at) = text.find('\0') {
        problems.push(Problem { kind: ProblemKind::Nul, span: Span::new(at, at + 1) });
    }
    if let Some(at) = text.find("\r\n") {
        problems.push(Problem { kind: ProblemKind::DosLineBreak, span: Span::new(at, at + 1) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, component: usize) -> Vec<(String, Option<String>)> {
        let script = Script::parse(text);
        let directives = script.effective_directives(component);
        directives.map(|directive| (directive.option.name.to_owned(), directive.value.clone())).collect()
    }

    #[test]
    fn reading_ends_at_the_first_command() {
        let script = Script::parse("#!/bin/sh\n# words\n\n#SBATCH -N2\necho\n#SBATCH -n4\n");
        let kinds: Vec<_> = script.lines().iter().map(|line| line.kind).collect();
        use LineKind::{Blank, Command, Comment, Directive, LateDirective};
        assert_eq!(kinds, [Comment, Comment, Blank, Directive, Command, LateDirective]);
        assert_eq!(script.directives(0).len(), 1);
        assert_eq!(script.late_directives()[0].option.name, "ntasks");
    }

    #[test]
    fn a_value_may_stand_on_the_next_line() {
        let text = "#!/bin/sh\n#SBATCH --nodes\n#SBATCH 2\n";
        assert_eq!(values(text, 0), [("nodes".to_owned(), Some("2".to_owned()))]);
        assert!(Script::parse(text).problems().is_empty());
    }

    #[test]
    fn components_inherit_what_is_the_jobs() {
        let text = "#!/bin/sh\n#SBATCH -N1 -t10 --mem=4G\n#SBATCH hetjob\n#SBATCH -n4\n";
        let names: Vec<_> = values(text, 1).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["time", "mem", "ntasks"]);
        assert_eq!(Script::parse(text).components(), 2);
    }

    #[test]
    fn whole_files() {
        let cases = [
            ("", ProblemKind::Empty),
            (" \n", ProblemKind::Empty),
            ("#SBATCH -N1\n", ProblemKind::NoShebang),
            ("#!/bin/sh\r\n", ProblemKind::DosLineBreak),
            ("#!/bin/sh\n\0", ProblemKind::Nul),
        ];
        for (text, expected) in cases {
            assert_eq!(Script::parse(text).problems()[0].kind, expected, "{text:?}");
        }
    }
}
