//! Grid Engine. From `source/common/parse_job_cull.c`, submit(1) and sge_pe(5).

use source_text::Span;

use crate::words::{Given, Rules, lines, options, split};
use crate::{Found, Script, clock, last};

/// Options with a value; `-pe` takes two.
const VALUES: &str =
    "a A ac b binding c ckpt cwd_ dl e h_ hold_jid i j jc js l m M masterq N o P p pe q R r S sync t tc v w wd";

pub(crate) fn read(text: &str, is_data: &dyn Fn(Span) -> bool) -> Script {
    let mut script = Script::default();
    // The whole script is read, also behind its commands.
    for (line, base) in lines(text).filter(|(line, base)| !is_data(Span::new(*base, base + line.len()))) {
        let Some(rest) = line.strip_prefix("#$").filter(|rest| rest.trim_start().starts_with('-')) else { continue };
        // A # ends the line, in quotes, too.
        let rest = rest.split('#').next().unwrap_or_default();
        script.directives.push(Span::new(base, base + line.len()));
        let Ok(words) = split(rest, base + 2, Rules { comment: None, python: false }) else { continue };
        let given = options(&words, VALUES, true);
        // The number of slots stands behind the parallel environment's name.
        let slots = given.strays.first().cloned();
        for given in given.given {
            if given.name == "pe" {
                match slots.as_ref().map(|slots| slots.text.parse::<usize>()) {
                    Some(Ok(slots)) => last(&mut script.request.tasks, slots, given.span),
                    Some(Err(_)) => {
                        script.request.tasks = None;
                        let value = "Grid Engine starts the job with any number of slots in the range";
                        script.request.unknown = Some(Found { value, span: given.span });
                    }
                    None => script.problem("-pe wants a name and a number of slots", given.span),
                }
                continue;
            }
            option(&given, &mut script);
        }
    }
    script
}

fn option(given: &Given, script: &mut Script) {
    let Some(value) = &given.value else { return };
    script.request.note_name(&given.name, &["A", "P", "q"], Some(value));
    match given.name.as_str() {
        "q" => last(&mut script.request.queue, value.text.clone(), given.span),
        "t" => last(&mut script.request.array, value.text.clone(), given.span),
        "l" => {
            for (name, amount) in value.text.split(',').filter_map(|part| part.split_once('=')) {
                if matches!(name.trim(), "gpu" | "gpus" | "ngpus") {
                    let value = "GPUs are asked for, for each slot or node as the site counts them";
                    script.request.unknown_gpus = Some(Found { value, span: given.span });
                }
                if name.trim() == "h_rt" {
                    let has_all = matches!(amount.matches(':').count(), 0 | 2);
                    match clock(amount.trim(), 3, 1).filter(|_| has_all) {
                        Some(seconds) => last(&mut script.request.seconds, seconds, given.span),
                        None => script
                            .problem(format!("'{amount}' is no time: seconds, or hours:minutes:seconds"), value.span),
                    }
                }
            }
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
            ("-pe mpi 64", "- 64 - - - -"),
            ("-pe mpi 16-64", "- - - - - -"),
            ("-l h_rt=3600,h_vmem=4G # words", "- - - - - 3600"),
            ("-cwd -V -l h_rt=24:00:00 -pe smp 8", "- 8 - - - 86400"),
            ("-l h_rt=1:00", "- - - - - - !'1:00' is no time: seconds, or hours:minutes:seconds"),
        ];
        for (line, expected) in cases {
            let text = format!("#!/bin/bash\nmpirun a\n#$ {line}\n");
            assert_eq!(shown(Scheduler::Sge, &text), expected, "{line}");
        }
    }
}
