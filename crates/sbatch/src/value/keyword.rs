//! Values that are one of a few words.

use super::ValueError;

fn one_of(what: &'static str, text: &str, words: &[&str], expected: &'static str) -> Result<(), ValueError> {
    let known = words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if known { Ok(()) } else { Err(ValueError::new(what, text, expected)) }
}

/// `--exclusive[=…]`.
pub(super) fn exclusive(text: &str) -> Result<(), ValueError> {
    let words = ["exclusive", "allocation", "oversubscribe", "user", "mcs", "topo"];
    one_of("way of sharing a node", text, &words, "use user, mcs or topo, or no value")
}

/// `--requeue[=…]`.
pub(super) fn requeue(text: &str) -> Result<(), ValueError> {
    one_of("way of requeuing", text, &["", "expedite"], "use expedite, or no value")
}

/// `--no-kill[=…]`.
pub(super) fn no_kill(text: &str) -> Result<(), ValueError> {
    one_of("switch", text, &["set", "off", "no"], "use off, or no value")
}

/// `--open-mode=…`: the first letter counts.
pub(super) fn open_mode(text: &str) -> Result<(), ValueError> {
    match text.chars().next() {
        Some('a' | 'A' | 't' | 'T') => Ok(()),
        _ => Err(ValueError::new("mode of opening", text, "use append or truncate")),
    }
}

/// `--mail-type=…`: a list.
pub(super) fn mail_type(text: &str) -> Result<(), ValueError> {
    let words = [
        "none",
        "begin",
        "end",
        "fail",
        "requeue",
        "all",
        "invalid_depend",
        "stage_out",
        "time_limit",
        "time_limit_90",
        "time_limit_80",
        "time_limit_50",
        "array_tasks",
    ];
    // strtok skips empty parts.
    let mut parts = text.split(',').filter(|part| !part.is_empty());
    parts.try_for_each(|part| one_of("mail event", part, &words, "use BEGIN, END, FAIL, REQUEUE, TIME_LIMIT or ALL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert!(exclusive("User").is_ok() && exclusive("yes").is_err());
        assert!(requeue("").is_ok() && requeue("yes").is_err());
        assert!(no_kill("off").is_ok() && no_kill("on").is_err());
        assert!(open_mode("append").is_ok() && open_mode("write").is_err());
        assert!(mail_type("END,FAIL").is_ok() && mail_type("END FAIL").is_err());
    }
}
