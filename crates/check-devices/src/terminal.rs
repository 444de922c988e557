//! Colour: the flag's word, then `CLICOLOR_FORCE`, then `NO_COLOR`, then whether the output is a terminal.

use std::io::IsTerminal;

use anstream::ColorChoice;

use crate::cli::Color;

/// Whether to colour what goes to standard output. `is_relayed`: a launcher passes it on, whose own output is what counts:
/// mpirun gives its ranks a terminal also where it writes into a file.
pub(crate) fn choice(flag: Color, is_relayed: bool, environment: &dyn Fn(&str) -> Option<String>) -> ColorChoice {
    match flag {
        Color::Always => return ColorChoice::Always,
        Color::Never => return ColorChoice::Never,
        Color::Auto => {}
    }
    let is_set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let forced = is_set("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    let refused = is_set("NO_COLOR").is_some() || environment("TERM").as_deref() == Some("dumb");
    match (forced, refused) {
        (true, _) => ColorChoice::Always,
        (false, true) => ColorChoice::Never,
        (false, false) if !is_relayed && std::io::stdout().is_terminal() => ColorChoice::Always,
        (false, false) => ColorChoice::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard output is no terminal in tests.
    #[test]
    fn the_flag_then_the_variables() {
        let cases: &[(Color, &[(&str, &str)], ColorChoice)] = &[
            (Color::Auto, &[], ColorChoice::Never),
            (Color::Auto, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], ColorChoice::Always),
            (Color::Auto, &[("CLICOLOR_FORCE", "0")], ColorChoice::Never),
            (Color::Always, &[("NO_COLOR", "1")], ColorChoice::Always),
            (Color::Never, &[("CLICOLOR_FORCE", "1")], ColorChoice::Never),
        ];
        for (flag, variables, expected) in cases {
            let lookup =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(choice(*flag, false, &lookup), *expected, "{flag:?} {variables:?}");
        }
    }
}
