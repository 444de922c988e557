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

/// The triple quote that `text` ends with.
fn triple_at_end(text: &str) -> Option<&'static str> {
    ["\"\"\"", "'''"].into_iter().find(|quotes| text.ends_with(quotes))
}

/// Whether triple quotes of a kind stand in pairs on the line.
fn has_pairs(text: &str) -> bool {
    ["\"\"\"", "'''"].iter().any(|quotes| matches!(text.matches(quotes).count(), count if count > 0 && count % 2 == 0))
}

/// A text over several lines, between triple quotes at the ends of two of them.
struct Open<'t> {
    quotes: &'static str,
    /// What stands before it on its first line, and where.
    before: (&'t str, usize),
    span: Span,
}

pub(crate) fn read(text: &str) -> Script {
    let mut script = Script::default();
    let mut prefix: Option<&str> = None;
    let mut sentinel: Option<&str> = None;
    let mut ended = false;
    let mut open: Option<Open<'_>> = None;
    for (line, base) in lines(text) {
        let span = Span::new(base, base + line.len());
        let Some((value, at)) = behind_tag(line) else {
            if let Some(open) = open.take() {
                script.problem("a triple quote is not closed: all its lines start as the directives do", open.span);
            }
            let belongs = prefix.is_none_or(|prefix| line.trim().is_empty() || line.starts_with(prefix));
            ended |= !belongs;
            continue;
        };
        if ended {
            script.problem("a directive behind the first command: flux batch refuses the script", span);
            continue;
        }
        script.directives.push(span);
        let pairs = has_pairs(value);
        let closed = value.strip_suffix("\"\"\"").or_else(|| value.strip_suffix("'''")).unwrap_or(value);
        if !pairs && (closed.contains("\"\"\"") || closed.contains("'''")) {
            script.problem("a triple quote is not closed: flux batch refuses the script", span);
            continue;
        }
        prefix.get_or_insert_with(|| line[..at - 5].trim_end());
        if *sentinel.get_or_insert(&line[..at]) != &line[..at] {
            let message = "the directives start in two ways: flux batch refuses the script (sentinel changed)";
            script.problem(message, span);
        }
        let quotes = triple_at_end(value).filter(|_| !pairs);
        match (open.take(), quotes) {
            (None, None) => directive(value, base + at, &mut script),
            (None, Some(quotes)) => open = Some(Open { quotes, before: (closed, base + at), span }),
            (Some(opened), Some(quotes)) if opened.quotes == quotes => {
                let (before, start) = opened.before;
                directive(before, start, &mut script);
            }
            (opened, _) => open = opened,
        }
    }
    settle(&mut script);
    script
}

/// A directive's text, which starts at byte `start`.
fn directive(text: &str, start: usize, script: &mut Script) {
    let words = match split(text, start, Rules { comment: Some('#'), python: true }) {
        Ok(words) => words,
        Err(span) => return script.problem("a quote that is not closed: flux batch refuses the script", span),
    };
    if let Some(first) = words.first().filter(|first| !first.text.starts_with('-')) {
        let message = format!("'{}' is no option: flux batch refuses the script (unknown directive)", first.text);
        return script.problem(message, first.span);
    }
    for given in options(&words, VALUES, false).given {
        let is_known = |list: &str| list.split_ascii_whitespace().any(|known| known == given.name);
        if !is_known(VALUES) && !is_known(FLAGS) {
            let dashes = if given.name.chars().count() > 1 { "--" } else { "-" };
            script.problem(format!("flux batch has no option {dashes}{}", given.name), given.span);
        }
        option(&given, script);
    }
}

fn option(given: &Given, script: &mut Script) {
    let request = &mut script.request;
    request.note_name(&given.name, &["queue", "q", "bank", "B"], given.value.as_ref());
    let count = match given.name.as_str() {
        "nodes" | "N" => Some(&mut request.nodes),
        "nslots" | "n" => Some(&mut request.tasks),
        "cores-per-slot" | "c" => Some(&mut request.cpus_per_task),
        "gpus-per-slot" | "g" => Some(&mut request.gpus_per_task),
        _ => None,
    };
    if let (Some(count), Some(value)) = (count, &given.value) {
        match value.text.parse() {
            Ok(number) => last(count, number, given.span),
            Err(_) => script.problem(format!("'{}' is no number: flux batch refuses the job", value.text), value.span),
        }
        return;
    }
    match given.name.as_str() {
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
    if let Some(none) = request.nodes.as_ref().filter(|count| count.value == 0) {
        let span = none.span;
        script.problems.push(crate::Problem { message: "the number of nodes must be at least 1".to_owned(), span });
    }
    // None is like not given.
    for count in [&mut request.nodes, &mut request.tasks] {
        *count = count.take().filter(|count| count.value > 0);
    }
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
        (None, Some(_)) if request.whole_nodes.is_some() => {
            let span = request.whole_nodes.unwrap_or_default();
            script.problem("exclusive nodes want a number of nodes: flux batch refuses the job", span);
        }
        (None, None) if !script.directives.is_empty() => {
            let span = script.directives[0];
            let value = "flux batch has no default number of slots";
            request.unknown = Some(crate::Found { value, span });
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
            ("# flux: -N1 --job-name='''It's a \"job\"'''", "1 1 - - - -"),
            ("# flux: -N1 --setattr=a=\"\"\"\n# flux: b = 'c\n# flux: -x \"\"\"\n# flux: -t 5", "1 1 - - - 300"),
            ("# flux: -N1\n# flux: # words", "1 1 - - - -"),
            (
                "# flux: -N1\n# flux: words",
                "1 1 - - - - !'words' is no option: flux batch refuses the script (unknown directive)",
            ),
            (
                "# flux: -N1 --job-name='''It's",
                "- - - - - - !a triple quote is not closed: flux batch refuses the script !the number of slots or nodes must be given: flux batch refuses the job",
            ),
            ("# flux: -N1 --job-name='a\\'b'#c", "1 1 - - - -"),
            (
                "# flux: -n4 --exclusive",
                "- 4 - - - - !exclusive nodes want a number of nodes: flux batch refuses the job",
            ),
            ("# flux: -N0 -n4", "- 4 - - - - !the number of nodes must be at least 1"),
            ("# flux: -Nx -n4", "- 4 - - - - !'x' is no number: flux batch refuses the job"),
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
