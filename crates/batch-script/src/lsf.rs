//! IBM Spectrum LSF 10.1. From its bsub reference, and OLCF's user documentation for jobs with `-nnodes`.

use source_text::Span;

use crate::words::{Given, Rules, Word, lines, options, split};
use crate::{Found, Script, clock, last};

/// Options with a value.
const VALUES: &str = "n R gpu W We M q J o oo e eo i is P nnodes alloc_flags core_isolation cn_cu cn_mem ln_slots ln_mem m u w app g G \
                      sla U cwd c C D E Ep F L p r_ S s t b T v x_ Jd ext k network hl_ env data stage_in N_ outdir rnc";

pub(crate) fn read(text: &str, is_data: &dyn Fn(Span) -> bool) -> Script {
    let mut script = Script::default();
    // The whole script is read, also behind its commands.
    for (line, base) in lines(text).filter(|(line, base)| !is_data(Span::new(*base, base + line.len()))) {
        let Some(rest) = line.trim_start().strip_prefix("#BSUB") else { continue };
        if !rest.trim_start().starts_with('-') {
            continue;
        }
        script.directives.push(Span::new(base, base + line.len()));
        match split(rest, base + line.len() - rest.len(), Rules { comment: Some('#'), python: false }) {
            Ok(words) => {
                for given in options(&words, VALUES, true).given {
                    option(&given, &mut script);
                }
            }
            Err(span) => script.problem("a quote that is not closed", span),
        }
    }
    settle(&mut script);
    script
}

fn option(given: &Given, script: &mut Script) {
    let Some(value) = &given.value else {
        if given.name == "x" {
            script.request.whole_nodes = Some(given.span);
        }
        return;
    };
    script.request.note_name(&given.name, &["G", "P", "U", "q"], Some(value));
    match given.name.as_str() {
        "n" => {
            // `4,8`: as many as there are from 4 to 8.
            let (least, most) = value.text.split_once(',').unwrap_or((&value.text, &value.text));
            match (least.trim().parse::<usize>(), most.trim().parse::<usize>()) {
                (Ok(least), Ok(most)) if least == most && least > 0 => {
                    last(&mut script.request.tasks, least, given.span);
                }
                (Ok(_), Ok(_)) => {
                    script.request.tasks = None;
                    script.request.unknown = Some(Found {
                        value: "LSF starts the job with any number of tasks in the range",
                        span: given.span,
                    });
                }
                _ => script.problem(format!("'{}' is no number of tasks", value.text), value.span),
            }
        }
        "nnodes" => match value.text.parse() {
            Ok(nodes) => {
                last(&mut script.request.nodes, nodes, given.span);
                script.request.whole_nodes = Some(given.span);
            }
            Err(_) => script.problem(format!("'{}' is no number of nodes", value.text), value.span),
        },
        "W" => {
            let time = value.text.split('/').next().unwrap_or_default();
            match clock(time, 2, 60) {
                Some(seconds) => last(&mut script.request.seconds, seconds, given.span),
                None => script.problem(format!("'{time}' is no time: minutes, or hours:minutes"), value.span),
            }
        }
        "q" => last(&mut script.request.queue, value.text.clone(), given.span),
        "J" if value.text.contains('[') => last(&mut script.request.array, value.text.clone(), given.span),
        "R" => requirements(value, script),
        "gpu" => gpus(value, script),
        _ => {}
    }
}

/// `span[ptile=4] rusage[mem=4000] affinity[core(2)]`.
fn requirements(value: &Word, script: &mut Script) {
    let text = value.text.as_str();
    let inside = |section: &str| {
        let start = text.find(&format!("{section}["))? + section.len() + 1;
        let length = text[start..].find(']')?;
        Some(&text[start..start + length])
    };
    let numbers = |inside: &str, name: &str| -> Option<usize> {
        let at = inside.find(&format!("{name}="))? + name.len() + 1;
        let rest = &inside[at..];
        rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
    };
    // Of several kinds of hosts (`2*{…}+3*{…}`) nothing is said here.
    if text.contains('{') {
        return;
    }
    if let Some(span) = inside("span") {
        if let Some(tile) = numbers(span, "ptile") {
            last(&mut script.request.tasks_per_node, tile, value.span);
        }
        if let Some(hosts) = numbers(span, "hosts") {
            last(&mut script.request.nodes, hosts, value.span);
        }
    }
    if let Some(cores) = inside("affinity").and_then(|affinity| {
        let at = affinity.find("core(")? + 5;
        let rest = &affinity[at..];
        rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
    }) {
        last(&mut script.request.cpus_per_task, cores, value.span);
    }
    if let Some(gpus) = inside("rusage").and_then(|rusage| numbers(rusage, "ngpus_physical")) {
        last(&mut script.request.gpus_per_node, gpus, value.span);
    }
}

/// `num=4:mode=exclusive_process`: on each host, unless `/task` is said.
fn gpus(value: &Word, script: &mut Script) {
    let number = value.text.split(':').find_map(|part| part.trim().strip_prefix("num="));
    let (number, per_task) = match number {
        None => (1, false), // `-gpu -`, or without a number: one
        Some(number) => match number.strip_suffix("/task") {
            Some(number) => (number.parse().unwrap_or(1), true),
            None => (number.trim_end_matches("/host").parse().unwrap_or(1), false),
        },
    };
    let place = if per_task { &mut script.request.gpus_per_task } else { &mut script.request.gpus_per_node };
    last(place, number, value.span);
}

/// Tasks on each host make hosts.
fn settle(script: &mut Script) {
    let request = &mut script.request;
    if request.nodes.is_none()
        && let (Some(tasks), Some(tile)) = (&request.tasks, &request.tasks_per_node)
    {
        request.nodes = Some(Found { value: tasks.value.div_ceil(tile.value.max(1)), span: tile.span });
    }
    if request.nodes.is_none()
        && request.tasks.as_ref().is_none_or(|tasks| tasks.value == 1)
        && !script.directives.is_empty()
    {
        // Without a number there is one task, on one host.
        let span = request.tasks.as_ref().map_or(script.directives[0], |tasks| tasks.span);
        if request.tasks.is_some() {
            last(&mut request.nodes, 1, span);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Scheduler;
    use crate::tests::shown;

    #[test]
    fn what_jobs_ask_for() {
        let cases = [
            ("-n 16 -R \"span[ptile=4]\"", "4 16 - - - -"),
            ("-n 10 -R \"span[ptile=4]\"", "3 10 - - - -"),
            ("-n 16", "- 16 - - - -"),
            ("-n 8 -R \"span[hosts=1]\" -gpu \"num=4:mode=exclusive_process\"", "1 8 - 4 - -"),
            ("-n 8 -R \"span[ptile=4]\" -gpu num=1/task", "2 8 - 1/task - -"),
            ("-n 4 -R \"affinity[core(10)] span[ptile=2]\"", "2 4 10 - - -"),
            ("-n 4,8", "- - - - - -"),
            ("-nnodes 4 -W 2:30 -alloc_flags \"smt4\"", "4 - - - - 9000"),
            ("-W 90", "- - - - - 5400"),
            ("-n 1 -W 1:00/hostA", "1 1 - - - 3600"),
            ("-n four", "- - - - - - !'four' is no number of tasks"),
        ];
        for (line, expected) in cases {
            let text = format!("#!/bin/bash\n#BSUB {line} # words\njsrun a\n");
            assert_eq!(shown(Scheduler::Lsf, &text), expected, "{line}");
        }
        assert_eq!(shown(Scheduler::Lsf, "#!/bin/bash\njsrun a\n#BSUB -nnodes 2\n#BSUB words\n"), "2 - - - - -");
    }
}
