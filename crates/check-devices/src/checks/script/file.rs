//! P01–P03, P25, P26: is the file a batch script at all, and one that is meant?

use sbatch::ProblemKind;

use super::super::need::{need, script, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::subject::Subject;

pub(crate) const P01: Check = Check {
    id: "P01",
    title: "no interpreter line",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "sbatch refuses a script whose first two bytes are not #!. A blank line or a comment before the \
                  interpreter line is enough.",
    source: "Slurm, src/sbatch/sbatch.c",
    run: |subject| {
        let file = need!(slurm_script(subject));
        let problems = file.script.problems().iter().filter(|problem| problem.kind == ProblemKind::NoShebang);
        Outcome::of(problems.map(|problem| {
            let finding = Finding::error("the script does not start with #!, and sbatch will refuse it");
            let start = source_text::Span::new(0, 0);
            let later = file.script.text().lines().skip(1).any(|line| line.starts_with("#!"));
            let finding =
                finding.at(problem.span, "the first line").help("start with an interpreter line: #!/bin/bash");
            // One further down only has to move; which one is meant is the author's to say.
            if later { finding } else { finding.fix("add one", start, "#!/bin/bash\n") }
        }))
    },
};

pub(crate) const P02: Check = Check {
    id: "P02",
    title: "DOS line breaks",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "sbatch refuses a script in which a line ends with CR LF, as editors on Windows write it.",
    source: "Slurm, src/sbatch/sbatch.c",
    run: |subject| {
        let file = need!(slurm_script(subject));
        let problems = file.script.problems().iter().filter(|problem| problem.kind == ProblemKind::DosLineBreak);
        Outcome::of(problems.map(|problem| {
            let text = file.script.text();
            Finding::error("the script has DOS line breaks (CR LF), and sbatch will refuse it")
                .at(problem.span, "the first of them")
                .help(format!("convert it: check-devices --fix, or sed -i 's/\\r$//' {}", file.name))
                .silent_fix(sbatch::Span::new(0, text.len()), text.replace("\r\n", "\n"))
        }))
    },
};

pub(crate) const P03: Check = Check {
    id: "P03",
    title: "empty script, or NUL characters",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "sbatch refuses an empty script, and the controller one with a NUL character (a file saved as UTF-16 is \
                  full of them).",
    source: "Slurm, src/sbatch/sbatch.c",
    run: whole,
};

fn whole(subject: &Subject<'_>) -> Outcome {
    let file = need!(slurm_script(subject));
    let findings = file.script.problems().iter().filter_map(|problem| match problem.kind {
        ProblemKind::Empty => Some(Finding::error("the script is empty")),
        ProblemKind::Nul => Some(
            Finding::error("the script contains a NUL character, and the controller will refuse it")
                .at(problem.span, "here")
                .help("save it as plain text (UTF-8)"),
        ),
        _ => None,
    });
    Outcome::of(findings)
}

pub(crate) const P25: Check = Check {
    id: "P25",
    title: "the shell cannot read the script",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "A quote, a bracket or a compound command that is not closed, a closing word that nothing opened, a redirection without \
                  a file: bash runs what stands before it, and ends there with a syntax error, often after hours in the queue.",
    source: "bash -n; bash(1), SHELL GRAMMAR",
    run: |subject| {
        let file = need!(script(subject));
        Outcome::of(file.broken.map(|span| {
            Finding::error("the shell cannot read the script: a syntax error")
                .at(span, "from here on")
                .help(format!("bash -n {} says what is missing", file.name))
        }))
    },
};

/// Options whose value names something of the site.
const NAMES_OF_SITE: &[&str] = &["account", "partition", "qos", "reservation", "constraint", "mail-user", "chdir"];

pub(crate) const P26: Check = Check {
    id: "P26",
    title: "a placeholder is left",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "<project>, your_account, project_xxxx, CHANGEME: the scheduler takes the name as it stands, and refuses an account, \
                  partition or quality of service that does not exist.",
    source: "sbatch(1), --account, --partition, --qos",
    run: |subject| {
        let file = need!(script(subject));
        if let Some((_, read)) = &file.foreign {
            // `<allocation ID>` is two words to LSF.
            let is_half = |name: &str| name.starts_with('<') && !name.contains('>');
            let left = read.request.names.iter().filter(|name| is_placeholder(&name.value) || is_half(&name.value));
            return Outcome::of(left.map(|name| {
                Finding::warning(format!("{} is a placeholder", name.value))
                    .at(name.span, "nobody's name")
                    .help("write the name that holds on this cluster")
            }));
        }
        let job = subject.job();
        Outcome::of(NAMES_OF_SITE.iter().filter_map(|name| {
            let value = job.text(name).filter(|value| is_placeholder(&value.value))?;
            Some(
                Finding::warning(format!("--{name}={} is a placeholder", value.value))
                    .at(value.span(), "nobody's name")
                    .help("write the name that holds on this cluster"),
            )
        }))
    },
};

fn is_placeholder(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let bracketed = lower.starts_with(['<', '{']) && lower.ends_with(['>', '}']);
    let yours = [
        "your_",
        "your-",
        "yourqueue",
        "youraccount",
        "yourname",
        "changeme",
        "change_me",
        "placeholder",
        "fixme",
        "todo",
    ];
    let in_path = lower.contains("/<") && lower.contains(">/");
    let whole = ["projectid", "project_id", "account_name", "partition_name", "queue_name"];
    bracketed
        || in_path
        || whole.contains(&lower.as_str())
        || lower.contains("xxxx")
        || yours.iter().any(|word| lower.contains(word))
}
