//! P06, P07, P09–P11: options as they are spelled, repeated and overridden.

use sbatch::{Directive, Origin, ProblemKind};

use super::super::need::{need, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::subject::{ScriptFile, Subject};

/// The options that the components themselves give.
pub(super) fn directives<'s>(file: &'s ScriptFile<'_>) -> impl Iterator<Item = &'s Directive> {
    (0..file.script.components()).flat_map(|component| file.script.directives(component))
}

pub(crate) const P06: Check = Check {
    id: "P06",
    title: "a word that is not an option",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "sbatch cuts a directive at white space, without a shell: 'my job' must be quoted, '--nodes = 2' is three \
                  words, and '--exclusive user' is a flag and a stray word, because an optional value needs '='. A stray \
                  word, an unmatched quote or a leading colon ends sbatch.",
    source: "Slurm, src/sbatch/opt.c (Invalid directive found in batch script)",
    run: |subject| {
        let file = need!(slurm_script(subject));
        let findings = file.script.problems().iter().filter_map(|problem| {
            let mut mended = None;
            let (message, label, help) = match &problem.kind {
                ProblemKind::StrayToken { text } if text.starts_with(TYPOGRAPHIC) => return None,
                ProblemKind::StrayToken { text } => {
                    mended = joined(file, problem.span, text);
                    let help = stray_help(file, problem.span.start, text);
                    (format!("'{text}' is neither an option nor an option's value"), "sbatch stops here", help)
                }
                ProblemKind::UnmatchedQuote { quote } => {
                    (format!("unmatched {quote}"), "opened here", "close it on the same line".to_owned())
                }
                ProblemKind::UnexpectedColon => {
                    ("a directive's word starts with ':'".to_owned(), "unexpected", "quote it, or remove it".to_owned())
                }
                _ => return None,
            };
            let finding = Finding::error(message).at(problem.span, label);
            Some(match mended {
                Some((span, option)) => finding.fix(help, span, option),
                None => finding.help(help),
            })
        });
        Outcome::of(findings)
    },
};

/// `--nodes = 2` as one word.
fn joined(file: &ScriptFile<'_>, stray: source_text::Span, text: &str) -> Option<(source_text::Span, String)> {
    let previous = directives(file)
        .filter(|directive| directive.span.end <= stray.start)
        .max_by_key(|directive| directive.span.end)?;
    let between = &file.script.text()[previous.span.end..stray.start];
    let is_apart = previous.value.as_deref() == Some("=") && !between.contains('\n');
    is_apart.then(|| (previous.span.cover(stray), format!("--{}={text}", previous.option.name)))
}

fn stray_help(file: &ScriptFile<'_>, at: usize, text: &str) -> String {
    let previous =
        directives(file).filter(|directive| directive.span.end <= at).max_by_key(|directive| directive.span.end);
    match previous {
        Some(previous) if previous.value.as_deref() == Some("=") => {
            format!("write it without spaces: {}={text}", previous.spelled)
        }
        Some(previous) if previous.value.is_none() && previous.option.argument == sbatch::Argument::Optional => {
            format!("an optional value needs '=': {}={text}", previous.spelled)
        }
        Some(previous) if previous.value.is_some() => "quote a value that has spaces in it".to_owned(),
        _ => "options start with - or --; comments with #".to_owned(),
    }
}

pub(crate) const P07: Check = Check {
    id: "P07",
    title: "'=' behind a letter",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Behind a one-letter option everything is the value, the '=' too: -N=1 asks for '=1' nodes and is refused, \
                  -J=name names the job '=name'.",
    source: "getopt_long(3)",
    run: |subject| {
        let file = need!(slurm_script(subject));
        let wrong = directives(file).filter(|directive| {
            !directive.spelled.starts_with("--")
                && directive.value.as_deref().is_some_and(|value| value.starts_with('='))
        });
        Outcome::of(wrong.map(|directive| {
            let value = directive.value.as_deref().unwrap_or_default();
            let letter = &directive.spelled;
            let message = format!("the value of {letter} is '{value}', with the '='");
            let harmless = matches!(directive.option.name, "job-name" | "comment" | "output" | "error" | "mail-user");
            let finding = if harmless { Finding::warning(message) } else { Finding::error(message) };
            let meant = value.trim_start_matches('=');
            finding.at(directive.value_span, "all of this is the value").fix(
                format!("write {letter} {meant} or --{}={meant}", directive.option.name),
                directive.span,
                format!("--{}={meant}", directive.option.name),
            )
        }))
    },
};

pub(crate) const P09: Check = Check {
    id: "P09",
    title: "unknown, ambiguous or incomplete option",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "sbatch takes any prefix of an option's name that fits no other; it ends on names that fit several or none, \
                  on a missing value, and on a value for an option that takes none. Plugins of a site (SPANK: pyxis, \
                  shifter…) add options: list them in the site file as plugin_options.",
    source: "Slurm, src/common/slurm_opt.c; getopt_long(3)",
    run: unknown_options,
};

/// Options of widespread SPANK plugins: pyxis, shifter, and those of large sites.
const PLUGIN_OPTIONS: &[&str] = &[
    "container-image",
    "container-mounts",
    "container-name",
    "container-save",
    "container-workdir",
    "container-mount-home",
    "container-remap-root",
    "container-entrypoint",
    "container-writable",
    "container-env",
    "no-container-mount-home",
    "no-container-remap-root",
    "no-container-entrypoint",
    "container-readonly",
    "image",
    "volume",
    "entrypoint",
    "module",
    "ear",
    "ear-policy",
    "tmpdir",
    "scratch",
    "environment",
    "edf",
    "uenv",
    "view",
];

/// srun's, which people put into directives.
const OF_SRUN: &[&str] = &["mpi", "cpu-bind", "accel-bind", "label", "kill-on-bad-exit", "unbuffered", "pty", "exact"];

fn unknown_options(subject: &Subject<'_>) -> Outcome {
    let file = need!(slurm_script(subject));
    let findings = file.script.problems().iter().filter_map(|problem| {
        let finding = match &problem.kind {
            ProblemKind::UnknownOption { name } => {
                let bare = name.trim_start_matches('-');
                if subject.site.plugin_options.iter().any(|option| option == bare) {
                    return None;
                }
                if PLUGIN_OPTIONS.contains(&bare) {
                    return Some(
                        Finding::info(format!("{name} is an option of a plugin: not every Slurm has it"))
                            .at(problem.span, "not sbatch's own")
                            .help(format!(
                                "list it in the site file where this site has it: plugin_options = [\"{bare}\"]"
                            )),
                    );
                }
                let finding = Finding::error(problem.kind.to_string()).at(problem.span, "unknown");
                match OF_SRUN.contains(&bare) {
                    true => finding.help(format!("{name} is srun's: give it to srun in the script")),
                    false => {
                        nearest(bare).map_or(finding.clone(), |near| finding.help(format!("did you mean --{near}?")))
                    }
                }
            }
            ProblemKind::AmbiguousOption { candidates, .. } => {
                let candidates: Vec<_> = candidates.iter().map(|name| format!("--{name}")).collect();
                Finding::error("this short form fits several options")
                    .at(problem.span, "ambiguous")
                    .help(format!("write one of {} in full", candidates.join(", ")))
            }
            ProblemKind::MissingArgument { .. } => {
                Finding::error(problem.kind.to_string()).at(problem.span, "no value follows")
            }
            ProblemKind::UnexpectedArgument { name } => Finding::error(problem.kind.to_string())
                .at(problem.span, "")
                .fix(format!("write --{name} alone"), problem.span, format!("--{name}")),
            _ => return None,
        };
        Some(finding)
    });
    Outcome::of(findings)
}

/// The option that is meant by `name`, if any is like it.
fn nearest(name: &str) -> Option<&'static str> {
    suggest::closest(name, sbatch::OPTIONS.iter().map(|option| option.name))
}

pub(crate) const P22: Check = Check {
    id: "P22",
    title: "srun has no such option",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "srun ends on an option that it does not know, and nothing runs. sbatch's options are not all srun's (--wrap, \
                  --array, --requeue). Plugins of a site (SPANK) add options: list them in the site file as plugin_options.",
    source: "Slurm, src/common/slurm_opt.c, 20.11 to 26.11; getopt_long(3)",
    run: |subject| {
        need!(slurm_script(subject));
        let steps = subject.launches().iter().filter_map(crate::commands::Launch::srun);
        let unlisted = steps.flat_map(|step| &step.options.unlisted).filter_map(|word| {
            let shown = word.known().unwrap_or(&word.start);
            let bare = shown.trim_start_matches('-').split('=').next().unwrap_or_default();
            let of_plugin =
                PLUGIN_OPTIONS.contains(&bare) || subject.site.plugin_options.iter().any(|option| option == bare);
            if of_plugin || bare.is_empty() {
                return None;
            }
            let name = shown.split('=').next().unwrap_or_default();
            let finding = Finding::error(format!("srun has no option '{name}'")).at(word.span, "srun ends here");
            let known = crate::commands::SRUN_OPTIONS.split_ascii_whitespace().filter(|known| known.len() > 1);
            Some(match suggest::closest(bare, known) {
                Some(meant) => finding.help(format!("did you mean --{meant}?")),
                None => finding.help(format!(
                    "list it in the site file where a plugin of this site adds it: plugin_options = [\"{bare}\"]"
                )),
            })
        });
        Outcome::of(unlisted)
    },
};

/// Signs that editors and web pages put in the place of quotes and dashes.
const TYPOGRAPHIC: &[char] = &['“', '”', '„', '‘', '’', '«', '»', '–', '—', '−', '\u{a0}'];

pub(crate) const P23: Check = Check {
    id: "P23",
    title: "a typographic quote or dash",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Text that was copied from a web page or a word processor has “ ” and – where a shell wants \" and -: to bash and \
                  sbatch they are letters like any others, so that the option is none, and the quote does not hold words together.",
    source: "bash(1), QUOTING; getopt_long(3)",
    run: |subject| {
        let file = need!(slurm_script(subject));
        let text = file.script.text();
        let starts = |span: source_text::Span| text.get(span.range()).and_then(|word| word.chars().next());
        let of_directives = file.script.problems().iter().filter_map(|problem| match &problem.kind {
            ProblemKind::StrayToken { text } if text.starts_with(TYPOGRAPHIC) => Some(problem.span),
            _ => None,
        });
        let quoted = directives(file)
            .filter(|directive| directive.value.as_deref().is_some_and(|value| value.starts_with(&TYPOGRAPHIC[..5])));
        let of_directives: Vec<_> = of_directives.chain(quoted.map(|directive| directive.value_span)).collect();
        let launches = subject.launches().iter().filter(|launch| !launch.is_bystander());
        let words = launches.flat_map(|launch| launch.program.iter().chain(&launch.arguments));
        let of_commands =
            words.map(|word| word.span).filter(|span| starts(*span).is_some_and(|c| TYPOGRAPHIC.contains(&c)));
        Outcome::of(of_directives.into_iter().chain(of_commands).take(4).map(|span| {
            let sign = starts(span).unwrap_or('“');
            Finding::error(format!("'{sign}' is a letter to the shell, and no quote or dash"))
                .at(span, "typographic")
                .help("type it anew: \" ' or -")
        }))
    },
};

pub(crate) const P10: Check = Check {
    id: "P10",
    title: "an option is given twice",
    severity: Severity::Info,
    tier: Tier::Script,
    explanation: "The last one counts. Twice the same option in a script is usually left over from an edit.",
    source: "Slurm, src/sbatch/opt.c",
    run: |subject| {
        let file = need!(slurm_script(subject));
        let components = 0..file.script.components();
        Outcome::of(components.flat_map(|component| {
            let directives = file.script.directives(component);
            directives.iter().enumerate().filter_map(move |(index, directive)| {
                let later =
                    directives[index + 1..].iter().find(|later| later.option.key() == directive.option.key())?;
                Some(
                    Finding::info(format!("--{} is given twice; the last one counts", directive.option.name))
                        .at(directive.span, "does not count")
                        .at(later.span, "counts"),
                )
            })
        }))
    },
};

pub(crate) const P11: Check = Check {
    id: "P11",
    title: "the environment overrides the script",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "SBATCH_* variables count more than the script's directives and less than options on the command line. \
                  One that was exported long ago changes jobs unseen.",
    source: "sbatch(1), INPUT ENVIRONMENT VARIABLES",
    run: |subject| {
        need!(slurm_script(subject));
        let overridden = subject.job().request.overridden().iter();
        Outcome::of(overridden.filter_map(|(old, new)| {
            let (Origin::Script(span), Origin::Environment(variable)) = (&old.origin, &new.origin) else { return None };
            (old.value != new.value).then(|| {
                let value = new.value.as_deref().unwrap_or_default();
                Finding::warning(format!("{variable}={value} in the environment overrides --{}", old.option.name))
                    .at(*span, "does not count")
                    .help(format!("unset {variable}, or give --{} on the command line", old.option.name))
            })
        }))
    },
};
