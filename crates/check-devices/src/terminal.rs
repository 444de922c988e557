//! Colour: the flag's word, then `CLICOLOR_FORCE`, then `NO_COLOR`, then whether the output is a terminal.

use std::io::IsTerminal;

use anstream::ColorChoice;

/// Whether to colour what goes to standard output.
pub(crate) fn choice(environment: &dyn Fn(&str) -> Option<String>) -> ColorChoice {
    let is_set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let forced = is_set("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    let refused = is_set("NO_COLOR").is_some() || environment("TERM").as_deref() == Some("dumb");
    match (forced, refused) {
        (true, _) => ColorChoice::Always,
        (false, true) => ColorChoice::Never,
        (false, false) if std::io::stdout().is_terminal() => ColorChoice::Always,
        (false, false) => ColorChoice::Never,
    }
}
