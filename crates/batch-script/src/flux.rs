//! Flux: the directives of `flux batch`, as RFC 36 and flux-core have them.

use source_text::Span;

use crate::words::{Given, Rules, lines, options, split};
use crate::{Script, last};

/// Options with a value.
const VALUES: &str = "nodes N nslots n cores-per-slot c gpus-per-slot g time-limit t queue q bank B job-name output error input setopt \
                      o setattr S conf requires dependency begin-time urgency cwd env env-remove env-file rlimit flags broker-opts \
                      add-file signal taskmap";

/// Options without one.
const FLAGS: &str = "exclusive x verbose v quiet wrap dump unbuffered u label-io l dry-run help h";

/// The text behind the tag, where the line has one: up to it there are no letters.
fn behind_tag(line: &str) -> Option<(&str, usize)> {
    let at = line.find(|c: char| c.is_alphanumeric() || c == '_')?;
    let rest = line[at..].strip_prefix("flux:").or_else(|| line[at..].strip_prefix("FLUX:"))?;
    Some((rest, at + 5))
}

pub(crate) fn is_directive(line: &str) -> bool {
    behind_tag(line).is_some_and(|(rest, _)| rest.trim_start().starts_with('-'))
}

pub(crate) fn read(text: &str) -> Script {
    let mut script = Script::default();
    let mut prefix: Option<String> = None;
    let mut ended = false;
    let mut sentinel: Option<&str> = None;
    for (line, base) in lines(text) {
        match behind_tag(line) {
            Some((rest, at)) if rest.trim_start().starts_with('-') => {
                let span = Span::new(base, base + line.len());
                if ended {
                    script.problem("a directive behind the first command: flux batch refuses the script", span);
                    continue;
                }
                prefix.get_or_insert_with(|| line[..at - 5].trim_end().to_owned());
                if *sentinel.get_or_insert(&line[..at]) != &line[..at] {
                    script.problem(
                        "the directives start in two ways: flux batch refuses the script (sentinel changed)",
                        span,
                    );
                }
                script.directives.push(span);
                match split(rest, base + at, Rules { comment: Some('#') }) {
                    Ok(words) => {
                        for given in options(&words, VALUES, false).given {
                            let is_known = |list: &str| list.split_ascii_whitespace().any(|known| known == given.name);
                            if !is_known(VALUES) && !is_known(FLAGS) {
                                let dashes = if given.name.chars().count() > 1 { "--" } else { "-" };
                                script.problem(format!("flux batch has no option {dashes}{}", given.name), given.span);
                            }
                            option(&given, &mut script);
                        }
                    }
                    Err(span) => script.problem("a quote that is not closed", span),
                }
            }
            _ => {
                let belongs = prefix.as_deref().is_none_or(|prefix| line.trim().is_empty() || line.starts_with(prefix));
                ended |= !belongs;
            }
        }
    }
    settle(&mut script);
    script
}

fn option(given: &Given, script: &mut Script) {
    let request = &mut script.request;
    request.note_name(&given.name, &["queue", "q", "bank", "B"], given.value.as_ref());
    let number = || given.value.as_ref()?.text.parse::<usize>().ok();
    match given.name.as_str() {
        "nodes" | "N" => request.nodes = number().map(|value| crate::Found { value, span: given.span }),
        "nslots" | "n" => request.tasks = number().map(|value| crate::Found { value, span: given.span }),
        "cores-per-slot" | "c" => {
            request.cpus_per_task = number().map(|value| crate::Found { value, span: given.span });
        }
        "gpus-per-slot" | "g" => request.gpus_per_task = number().map(|value| crate::Found { value, span: given.span }),
        "exclusive" | "x" => request.whole_nodes = Some(given.span),
        "queue" | "q" => {
            if let Some(value) = &given.value {
                last(&mut request.queue, value.text.clone(), given.span);
            }
        }
        "time-limit" | "t" => {
            let Some(value) = &given.value else { return };
            match seconds(&value.text) {
                Some(seconds) => last(&mut request.seconds, seconds, given.span),
                None if value.text.starts_with("inf") => {}
                None => script.problem(
                    format!("'{}' is no time: minutes, or a number with s, m, h or d", value.text),
                    value.span,
                ),
            }
        }
        _ => {}
    }
}

/// A plain number is minutes; `90s`, `1.5h`, `2d`.
fn seconds(text: &str) -> Option<u64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let number: f64 = text[..at].parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    let unit = match &text[at..] {
        "" | "m" => 60.0,
        "ms" => 0.001,
        "s" => 1.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Some((number * unit).ceil() as u64)
}

fn settle(script: &mut Script) {
    let request = &mut script.request;
    match (&request.nodes, &request.tasks) {
        (Some(nodes), None) => {
            // Nodes alone are whole nodes, with a slot on each.
            let span = nodes.span;
            last(&mut request.tasks, nodes.value, span);
            request.whole_nodes.get_or_insert(span);
        }
        (Some(nodes), Some(slots)) if nodes.value > slots.value => {
            let (span, message) = (nodes.span, "more nodes than slots: flux batch refuses the job");
            script.problem(message, span);
        }
        // As many slots are reserved on each node.
        (Some(nodes), Some(slots)) => {
            let (each, span) = (slots.value.div_ceil(nodes.value.max(1)), slots.span);
            last(&mut request.tasks_per_node, each, span);
        }
        (None, None) if !script.directives.is_empty() => {
            let span = script.directives[0];
            script.problem("the number of slots or nodes must be given: flux batch refuses the job", span);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::Scheduler;
    use crate::tests::shown;

    #[test]
    fn what_jobs_ask_for() {
        let cases = [
            ("#FLUX: -N2", "2 2 - - - -"),
            ("# flux: --nodes=2 --nslots=8 -c4 -g1", "2 8 4 1/task - -"),
            ("# flux: -n8 -c2 # words", "- 8 2 - - -"),
            ("# flux: -N3 -n8", "3 8 - - - -"),
            ("# flux: -N1 -t 30", "1 1 - - - 1800"),
            ("# flux: -N1 -t 1.5h", "1 1 - - - 5400"),
            ("# flux: -N1 --time-limit=90s", "1 1 - - - 90"),
            ("# flux: -c4", "- - 4 - - - !the number of slots or nodes must be given: flux batch refuses the job"),
            ("# flux: -N1 --time=5", "1 1 - - - - !flux batch has no option --time"),
            ("# flux: -N4 -n2", "4 2 - - - - !more nodes than slots: flux batch refuses the job"),
        ];
        for (line, expected) in cases {
            let text = format!("#!/bin/bash\n{line}\nflux run a\n");
            assert_eq!(shown(Scheduler::Flux, &text), expected, "{line}");
        }
        let late = "#!/bin/bash\n# flux: -N2\n\n# words\nflux run a\n# flux: -t 5\n";
        assert_eq!(
            shown(Scheduler::Flux, late),
            "2 2 - - - - !a directive behind the first command: flux batch refuses the script"
        );
    }
}
