//! `--explain` and `--list-checks`.

use std::io::{self, Write};

use crate::check::{Check, Tier};
use crate::checks::CHECKS;
use crate::finding::Severity;

/// Explains one check.
pub(crate) fn explain(out: &mut dyn Write, check: &Check) -> io::Result<()> {
    writeln!(out, "{} ({}): {}\n", check.id, severity(check.severity), check.title)?;
    for line in wrapped(check.explanation, 90) {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\nMade:    {}", made(check.tier))?;
    writeln!(out, "Source:  {}", check.source)?;
    writeln!(out, "Silence: --skip {0}, or # check-devices: allow({0}) in the script", check.id)
}

/// All checks, one a line.
pub(crate) fn list(out: &mut dyn Write) -> io::Result<()> {
    for check in CHECKS {
        let tier = match check.tier {
            Tier::Script => "script",
            Tier::Login => "login",
            Tier::Allocation => "allocation",
            Tier::Ranks => "ranks",
        };
        writeln!(out, "{:<4} {:<8} {tier:<11} {}", check.id, severity(check.severity), check.title)?;
    }
    Ok(())
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

fn made(tier: Tier) -> &'static str {
    match tier {
        Tier::Script => "always, from script and flags",
        Tier::Login => "with --login, or from the site file",
        Tier::Allocation => "inside an allocation (srun check-devices)",
        Tier::Ranks => "by all ranks together (srun check-devices --probe)",
    }
}

/// Lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("never empty");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}
