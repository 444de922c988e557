//! P08, P12, P15, P16: values that Slurm refuses, or takes for something else.

use sbatch::value::{Kind, Memory, TimeLimit};
use sbatch::{Directive, Origin, Setting, Version};

use super::super::need::{need, slurm_script};
use super::options::directives;
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};

/// Options whose value is a path of this job's files.
const PATHS: &[&str] = &["output", "error", "input", "chdir"];

pub(crate) const P08: Check = Check {
    id: "P08",
    title: "a variable in a directive",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "No shell reads a directive: $USER, ${HOME} and ~ stay as they are. In a number sbatch refuses them; in a \
                  path the job fails without a log, because there is no folder called $HOME. File names know %j, %x, %u \
                  and their like; anything else goes on the command line.",
    source: "sbatch(1), filename pattern",
    run: |subject| {
        let file = need!(slurm_script(subject));
        let literal = directives(file).filter_map(|directive| {
            let value = directive.value.as_deref()?;
            let is_path = PATHS.contains(&directive.option.name);
            let tilde = is_path && value.starts_with('~');
            let dollar = value.match_indices('$').any(|(at, _)| {
                value[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '{' | '('))
            });
            (tilde || dollar).then_some((directive, value, is_path))
        });
        Outcome::of(literal.map(|(directive, value, is_path)| {
            let name = directive.option.name;
            let message = format!("'{value}' stays as it is: no shell reads a directive");
            let severe = is_path || directive.option.kind != Kind::Text;
            let finding = if severe { Finding::error(message) } else { Finding::warning(message) };
            finding.at(directive.value_span, "not expanded").help(match is_path {
                true => "use %u (user), %x (job name), %j (job id), or a path without variables".to_owned(),
                false => format!("give it on the command line: sbatch --{name}=\"…\""),
            })
        }))
    },
};

pub(crate) const P12: Check = Check {
    id: "P12",
    title: "'#' or an escaped space inside a value",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "An unquoted # ends a directive wherever it stands, even inside a word: --job-name=run#3 is 'run', and the \
                  options behind it are lost. A space behind a backslash belongs to the word only from Slurm 24.05 on; \
                  before, it ends the word, and sbatch ends on the rest. Quotes work everywhere.",
    source: "Slurm, src/sbatch/opt.c, and its change of January 2024",
    run: |subject| {
        let file = need!(slurm_script(subject));
        let cut = directives(file).filter_map(|directive| {
            let cut = directive.cut?;
            let value = directive.value.as_deref().unwrap_or_default();
            let message = format!("the value of --{} ends before the '#': '{value}'", directive.option.name);
            Some(
                Finding::warning(message)
                    .at(cut, "the rest of the line is a comment")
                    .help("quote the value, or put a space before the comment"),
            )
        });
        let escaped = directives(file).filter(|directive| {
            let written = &file.script.text()[directive.value_span.range()];
            written.contains("\\ ") && !written.contains(['"', '\''])
        });
        let escaped = escaped.filter_map(|directive| {
            let finding = match subject.slurm {
                Some(slurm) if slurm >= ESCAPED_SPACES => return None,
                Some(slurm) => Finding::error(format!("Slurm {slurm} ends the word at this space, backslash or not")),
                None => Finding::warning(format!(
                    "before Slurm {ESCAPED_SPACES} the word ends at this space, backslash or not"
                )),
            };
            let value = directive.value.as_deref().unwrap_or_default();
            let option = format!("--{}=\"{value}\"", directive.option.name);
            Some(finding.at(directive.value_span, "").fix("quote it", directive.span, option))
        });
        Outcome::of(cut.chain(escaped))
    },
};

/// The release from which a backslash keeps a space in a word.
const ESCAPED_SPACES: Version = Version::new(24, 5);

pub(crate) const P15: Check = Check {
    id: "P15",
    title: "a value that Slurm refuses",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Memory is a whole number with K, M, G or T (1.5G is refused, and so is 64GiB). Time is minutes, \
                  minutes:seconds, hours:minutes:seconds, days-hours or days-hours:minutes:seconds (2d and 12h are \
                  refused). Counts are whole numbers of at least 1.",
    source: "Slurm, src/common/proc_args.c, parse_time.c",
    run: |subject| {
        let file = need!(slurm_script(subject));
        let of_script = directives(file).filter_map(refused);
        let elsewhere = subject.job().request.settings().iter().filter_map(refused_elsewhere);
        Outcome::of(of_script.chain(elsewhere))
    },
};

fn refused(directive: &Directive) -> Option<Finding> {
    let value = directive.value.as_deref()?;
    let error = directive.option.kind.validate(value).err()?;
    let reported_already =
        value.contains('$') || (value.starts_with('=') && (value.len() == 1 || !directive.spelled.starts_with("--")));
    if reported_already {
        return None;
    }
    let finding = Finding::error(format!("invalid {} '{value}' for --{}", error.what, directive.option.name))
        .at(directive.value_span, "refused")
        .help(error.expected);
    // `--exclusive=yes`: the option alone says it.
    if directive.option.kind == Kind::Exclusive && matches!(value, "yes" | "true" | "on" | "1" | "True") {
        return Some(finding.fix("write it alone", directive.span, "--exclusive".to_owned()));
    }
    Some(match meant(directive.option.kind, value) {
        Some(meant) => finding.fix(format!("if {meant} is meant"), directive.value_span, meant),
        None => finding,
    })
}

fn refused_elsewhere(setting: &Setting) -> Option<Finding> {
    let whence = match setting.origin {
        Origin::Script(_) => return None,
        Origin::Environment(variable) => variable.to_owned(),
        Origin::CommandLine => format!("--{}", setting.option.name),
    };
    let value = setting.value.as_deref()?;
    let error = setting.option.kind.validate(value).err()?;
    Some(Finding::error(format!("{whence}: invalid {} '{value}'", error.what)).help(error.expected))
}

/// What was likely meant by a value that Slurm refuses, in its own form.
fn meant(kind: Kind, value: &str) -> Option<String> {
    let unit_at = value.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = value.split_at(unit_at);
    let number: f64 = number.trim().parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite())?;
    let unit = unit.trim().to_ascii_lowercase();
    match kind {
        Kind::Memory => {
            let mib = match unit.as_str() {
                "g" | "gb" | "gib" => 1024.0,
                "m" | "mb" | "mib" => 1.0,
                "t" | "tb" | "tib" => 1024.0 * 1024.0,
                _ => return None,
            } * number;
            let whole_gib = (mib / 1024.0).fract() == 0.0;
            Some(if whole_gib { format!("{}G", mib / 1024.0) } else { format!("{}M", mib.ceil()) })
        }
        Kind::Time => {
            let minutes = match unit.as_str() {
                "d" | "day" | "days" => 1440.0,
                "h" | "hr" | "hrs" | "hour" | "hours" => 60.0,
                "m" | "min" | "mins" | "minutes" => 1.0,
                _ => return None,
            } * number;
            Some(TimeLimit::Minutes(minutes.ceil() as u64).to_string())
        }
        _ => None,
    }
}

pub(crate) const P16: Check = Check {
    id: "P16",
    title: "a unit that is easily mistaken",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "--mem=64 is 64 MiB, not 64 GiB. --time=24:00 is 24 minutes (minutes:seconds), and --time=24 too. Only \
                  values that look like gigabytes or hours are reported.",
    source: "sbatch(1)",
    run: |subject| {
        let file = need!(slurm_script(subject));
        // Who says the unit behind it means it.
        let is_said = |directive: &Directive| {
            let behind = &file.script.text()[directive.span.end..];
            let line = behind[..behind.find('\n').unwrap_or(behind.len())].to_ascii_lowercase();
            let comment = line.split_once('#').map_or("", |(_, comment)| comment);
            ["mb", "mib", "mega", "minute", "min"].iter().any(|unit| comment.contains(unit))
        };
        Outcome::of(directives(file).filter(|directive| !is_said(directive)).filter_map(mistaken))
    },
};

fn mistaken(directive: &Directive) -> Option<Finding> {
    let value = directive.value.as_deref()?;
    let name = directive.option.name;
    match directive.option.kind {
        Kind::Memory if value.bytes().all(|byte| byte.is_ascii_digit()) => {
            let memory: Memory = value.parse().ok()?;
            (1..512).contains(&memory.mib).then(|| {
                Finding::warning(format!("--{name}={value} is {value} MiB"))
                    .at(directive.value_span, "MiB, because no unit is given")
                    .help(format!("write {value}G if gigabytes are meant, {value}M if not"))
            })
        }
        Kind::Time => {
            let minutes = value.strip_suffix(":00").unwrap_or(value);
            let looks_like_hours = matches!(minutes, "12" | "24" | "36" | "48" | "72" | "96" | "120" | "168");
            (looks_like_hours && (minutes != value || minutes != "12" && minutes != "120")).then(|| {
                Finding::warning(format!("--{name}={value} is {minutes} minutes"))
                    .at(directive.value_span, if minutes == value { "minutes" } else { "minutes:seconds" })
                    .help(format!("write {minutes}:00:00 if hours are meant"))
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let cases = [
            (Kind::Memory, "1.5G", Some("1536M")),
            (Kind::Memory, "64GiB", Some("64G")),
            (Kind::Memory, "0.5T", Some("512G")),
            (Kind::Memory, "much", None),
            (Kind::Time, "2d", Some("2-00:00:00")),
            (Kind::Time, "12h", Some("12:00:00")),
            (Kind::Time, "90min", Some("01:30:00")),
            (Kind::Time, "soon", None),
        ];
        for (kind, value, expected) in cases {
            let got = meant(kind, value);
            assert_eq!(got.as_deref(), expected, "{value}");
            assert!(got.is_none_or(|got| kind.validate(&got).is_ok()), "{value}");
        }
    }
}
