//! P04, P05, P13, P14, P24: lines that the scheduler does not read, or not as they were meant.

use sbatch::{LineKind, Span};

use super::super::need::{need, script, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::subject::{ScriptFile, Subject};

pub(crate) const P04: Check = Check {
    id: "P04",
    title: "directive behind the first command",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "sbatch stops reading at the first line that is neither blank nor a comment; #SBATCH lines further down \
                  are ignored in silence. An error where they ask for resources, because the job gets others; a warning \
                  otherwise.",
    source: "Slurm, src/sbatch/opt.c; sbatch(1)",
    run: late,
};

/// Options (or how several of them begin) that decide what the job gets.
const RESOURCES: &[&str] = &[
    "nodes",
    "ntasks",
    "cpus",
    "gpus",
    "gres",
    "mem",
    "time",
    "partition",
    "constraint",
    "exclusive",
    "array",
    "hint",
    "sockets",
    "cores",
    "threads",
    "tmp",
    "licenses",
    "tres",
];

fn late(subject: &Subject<'_>) -> Outcome {
    let file = need!(slurm_script(subject));
    let command = file.script.lines().iter().find(|line| line.kind == LineKind::Command);
    // A script that writes another script quotes that one's directives: only comments are meant.
    let is_comment = |span: Span| file.comments.iter().any(|comment| comment.contains(span));
    let late = file.script.late_directives().iter().filter(|directive| is_comment(directive.span));
    let moves = moved(file);
    Outcome::of(late.map(|directive| {
        let name = directive.option.name;
        let resources = RESOURCES.iter().any(|resource| directive.option.key().starts_with(resource));
        let message = format!("sbatch ignores --{name} here: it stops reading at the first command");
        let finding = if resources { Finding::error(message) } else { Finding::warning(message) };
        let first = command.map(|line| trimmed(file, line.span));
        let finding = finding.at(directive.span, "ignored").at(first, "the first command");
        match &moves {
            Some((span, text)) => {
                finding.help("move the directive above it: check-devices --fix does").silent_fix(*span, text.clone())
            }
            None => finding.help("move the directive above it"),
        }
    }))
}

/// The text from the first command to the last late directive, with these in front; nothing where that is not safe: a
/// component's separator would move with them, or a line is more than a directive.
fn moved(file: &ScriptFile<'_>) -> Option<(Span, String)> {
    let text = file.script.text();
    let first = file.script.lines().iter().find(|line| line.kind == LineKind::Command)?;
    let is_comment = |span: Span| file.comments.iter().any(|comment| comment.contains(span));
    let late: Vec<_> = file
        .script
        .lines()
        .iter()
        .filter(|line| line.kind == LineKind::LateDirective && is_comment(line.span))
        .collect();
    let last = late.last()?;
    if file.script.components() > 1 || late.iter().any(|line| text[line.span.range()].contains("hetjob")) {
        return None;
    }
    let span = Span::new(first.span.start, last.span.end);
    let (mut front, mut rest) = (String::new(), String::new());
    for line in file.script.lines().iter().filter(|line| span.contains(line.span)) {
        let is_late = late.iter().any(|late| late.number == line.number);
        let part = if is_late { &mut front } else { &mut rest };
        part.push_str(&text[line.span.range()]);
        part.push('\n');
    }
    rest.pop();
    Some((span, front + &rest))
}

/// Without white space at the ends.
fn trimmed(file: &ScriptFile<'_>, span: Span) -> Span {
    let text = &file.script.text()[span.range()];
    let start = span.start + (text.len() - text.trim_start().len());
    Span::new(start, start + text.trim().len())
}

pub(crate) const P05: Check = Check {
    id: "P05",
    title: "almost a directive",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "A directive starts in column 1 with #SBATCH, in capitals and without a space. '# SBATCH', '#sbatch', an \
                  indented or misspelled one is a comment to sbatch. Two ## in front are the usual way to switch a \
                  directive off, and are not reported.",
    source: "Slurm, src/sbatch/opt.c",
    run: |subject| {
        let file = need!(slurm_script(subject));
        let before = file.script.lines().iter().take_while(|line| line.kind != LineKind::Command);
        Outcome::of(before.filter(|line| line.kind == LineKind::Comment).filter_map(|line| {
            let text = &file.script.text()[line.span.range()];
            let length = near_miss(text)?;
            Some(
                Finding::warning("this line is a comment to sbatch, and no directive")
                    .at(Span::new(line.span.start, line.span.start + length), "not #SBATCH")
                    .help("write #SBATCH from column 1, or ##SBATCH to switch it off visibly"),
            )
        }))
    },
};

/// How many bytes of a comment look like `#SBATCH` and are followed by an option.
fn near_miss(line: &str) -> Option<usize> {
    let indented = line.len() - line.trim_start().len();
    let behind_hash = line.trim_start().strip_prefix('#')?;
    if behind_hash.starts_with('#') {
        return None;
    }
    let word_start = behind_hash.len() - behind_hash.trim_start().len();
    let rest = behind_hash.trim_start();
    let word_length = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
    let (word, behind) = rest.split_at(word_length);
    let looks_alike = distance(&word.to_ascii_uppercase(), "SBATCH") <= 1 || same_letters(word, "SBATCH");
    let has_option = behind.trim_start().starts_with("-");
    // `# sbatch -N 4 job.sh` says how the script is called.
    let is_call = word != word.to_ascii_uppercase() && names_a_script(behind);
    (looks_alike && has_option && !is_call).then_some(indented + 1 + word_start + word_length)
}

/// Whether a word stands behind the options.
fn names_a_script(options: &str) -> bool {
    let words: Vec<_> = options.split_whitespace().map(|word| word.trim_matches(['`', '"', '\'']).to_owned()).collect();
    let (directives, _) = sbatch::read_command_line(&words);
    let taken: usize = directives
        .iter()
        .map(|directive| {
            let apart = directive.value.is_some() && words.iter().any(|word| Some(word) == directive.value.as_ref());
            1 + usize::from(apart)
        })
        .sum();
    taken < words.len()
}

/// Two letters swapped.
fn same_letters(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut letters: Vec<_> = text.to_ascii_uppercase().into_bytes();
        letters.sort_unstable();
        letters
    };
    a.starts_with(['S', 's']) && sorted(a) == sorted(b)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<_> = b.chars().collect();
    let mut row: Vec<_> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(16).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()] + a.chars().skip(16).count()
}

pub(crate) const P13: Check = Check {
    id: "P13",
    title: "hetjob is not alone on its line",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "The line that separates the components of a heterogeneous job is '#SBATCH hetjob' and nothing else: \
                  options behind the word are ignored, and behind options the word is ignored.",
    source: "Slurm, src/sbatch/opt.c",
    run: |subject| {
        let file = need!(slurm_script(subject));
        let directives = file.script.lines().iter().filter(|line| line.kind == LineKind::Directive);
        Outcome::of(directives.filter_map(|line| {
            let text = &file.script.text()[line.span.range()];
            let words: Vec<_> = text.split_whitespace().skip(1).take_while(|word| !word.starts_with('#')).collect();
            let at = words.iter().position(|word| word.eq_ignore_ascii_case("hetjob"))?;
            let message = match (at, words.len()) {
                (0, 1) => return None,
                (0, _) => "options behind hetjob are ignored",
                _ => "hetjob behind an option separates nothing",
            };
            Some(
                Finding::error(message)
                    .at(trimmed(file, line.span), "")
                    .help("put '#SBATCH hetjob' on a line of its own"),
            )
        }))
    },
};

pub(crate) const P14: Check = Check {
    id: "P14",
    title: "directives of another scheduler",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "sbatch also reads #PBS and #BSUB lines, up to a hundred lines into the commands, and translates what it can, \
                  unless --ignore-pbs is given. What they come to wins over #SBATCH lines, beside which they are usually left over.",
    source: "Slurm, src/sbatch/xlate.c",
    run: |subject| {
        let file = need!(slurm_script(subject));
        if subject.job().has("ignore-pbs") {
            return Outcome::Pass;
        }
        let foreign = file.script.lines().iter().filter_map(|line| {
            let text = &file.script.text()[line.span.range()];
            let word = ["#PBS", "#BSUB"].into_iter().find(|word| text.starts_with(word))?;
            Some((trimmed(file, line.span), word))
        });
        Outcome::of(foreign.take(1).map(|(span, word)| {
            Finding::warning(format!("sbatch translates {word} lines, and they win over #SBATCH lines"))
                .at(span, "the first of them")
                .help("remove them, or add #SBATCH --ignore-pbs")
        }))
    },
};

pub(crate) const P24: Check = Check {
    id: "P24",
    title: "a directive that PBS, LSF or Flux refuses",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "What qsub, bsub or flux batch end on: chunks and nodes asked for at once, a comment behind a #PBS directive, a time \
                  or a number that is none, more nodes than slots. What a site's queue adds or forbids is not known here.",
    source: "OpenPBS, src/cmds/qsub_sup.c, src/server/req_quejob.c; LSF 10.1, bsub; flux-core, RFC 36",
    run: |subject| {
        let file = need!(script(subject));
        let (scheduler, read) = need!(file.foreign.as_ref(), "a Slurm script");
        Outcome::of(read.problems.iter().map(|problem| {
            Finding::error(problem.message.clone()).at(problem.span, format!("as {} reads it", scheduler.submit()))
        }))
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses() {
        let cases = [
            ("# SBATCH --nodes=2", Some(8)),
            (" #SBATCH -N2", Some(8)),
            ("#sbatch -N2", Some(7)),
            ("#SBACTH -N2", Some(7)),
            ("#SBATC --x", Some(6)),
            ("##SBATCH -N2", None),
            ("# SBATCH options follow", None),
            ("#   sbatch --export=ALL,SEED=1 job.sh", None),
            ("# sbatch -N 4 job.sh", None),
            ("# sbatch --nodes=4", Some(8)),
            ("# --nodes=2", None),
            ("# a batch - of things", None),
        ];
        for (line, expected) in cases {
            assert_eq!(near_miss(line), expected, "{line}");
        }
    }
}
