//! Queues of PBS and LSF, as their own programs print them, in the words that Slurm's partitions have.

use sbatch::value::TimeLimit;

use crate::facts::Partition;

/// Reads what `qstat -Qf` prints (PBS Professional, OpenPBS, Torque); `server` is what `qstat -Bf` prints, which names the queue of
/// jobs that name none.
pub(crate) fn queues_of_qstat(output: &str, server: &str) -> Vec<Partition> {
    let default = attributes(server).find(|(name, _)| name == "default_queue").map(|(_, value)| value);
    let mut queues: Vec<Partition> = Vec::new();
    for (name, value) in attributes(output) {
        if name == "Queue" {
            let default = default.as_ref() == Some(&value);
            queues.push(Partition { name: value, default, ..Partition::default() });
            continue;
        }
        let Some(queue) = queues.last_mut() else { continue };
        match name.as_str() {
            "enabled" => queue.up = Some(value.eq_ignore_ascii_case("true")),
            "resources_max.walltime" => queue.time_limit = clock(&value),
            "resources_default.walltime" => queue.default_time = clock(&value),
            // Of one job.
            "resources_max.nodect" => queue.nodes = value.parse().ok(),
            _ => {}
        }
    }
    queues
}

/// `Queue: NAME`, `    name = value`, whose long values go on behind a tab.
fn attributes(output: &str) -> impl Iterator<Item = (String, String)> {
    let joined = output.replace("\r", "").replace("\n\t", "");
    let attribute = |line: &str| {
        let (name, value) = match line.strip_prefix("Queue: ") {
            Some(name) => ("Queue", name),
            None => line.split_once(" = ")?,
        };
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    joined.lines().filter_map(attribute).collect::<Vec<_>>().into_iter()
}

/// `720:00:00`, or seconds, as Slurm writes times.
fn clock(text: &str) -> Option<String> {
    let seconds = text.split(':').try_fold(0u64, |sum, part| {
        let part: u64 = part.trim().parse().ok()?;
        sum.checked_mul(60)?.checked_add(part)
    })?;
    Some(TimeLimit::Minutes(seconds.div_ceil(60)).to_string())
}

/// Reads what `bqueues -l` prints (LSF); `parameters` is what `bparams` prints, which names the queues of jobs that name none.
pub(crate) fn queues_of_bqueues(output: &str, parameters: &str) -> Vec<Partition> {
    let default = parameters.lines().find_map(|line| line.trim().strip_prefix("Default Queues:"));
    // The first of them that takes the job.
    let default = default.and_then(|names| names.split_whitespace().next());
    let mut queues: Vec<Partition> = Vec::new();
    let mut of_defaults = false;
    let mut lines = output.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("QUEUE:") {
            let name = name.trim().to_owned();
            queues.push(Partition { default: default == Some(name.as_str()), name, ..Partition::default() });
            of_defaults = false;
            continue;
        }
        let Some(queue) = queues.last_mut() else { continue };
        match line.trim() {
            "DEFAULT LIMITS:" => of_defaults = true,
            "MAXIMUM LIMITS:" | "SCHEDULING PARAMETERS" => of_defaults = false,
            _ => {}
        }
        let Some(values) = lines.peek() else { continue };
        if line.split_whitespace().any(|word| word == "STATUS") && line.trim_start().starts_with("PRIO") {
            queue.up = values.split_whitespace().find_map(|word| {
                let (state, _) = word.split_once(':')?;
                matches!(state, "Open" | "Closed").then_some(state == "Open")
            });
        } else if let Some(limit) = below(line, values, "RUNLIMIT") {
            // `1440.0 min of hostA`
            let minutes = limit.split_whitespace().next().and_then(|number| number.parse::<f64>().ok());
            let limit = minutes.map(|minutes| TimeLimit::Minutes(minutes.ceil() as u64).to_string());
            *(if of_defaults { &mut queue.default_time } else { &mut queue.time_limit }) = limit;
        }
    }
    queues
}

/// What stands below the word `name` of a line of headings, up to the next heading.
fn below<'v>(headings: &str, values: &'v str, name: &str) -> Option<&'v str> {
    let start = headings.find(name)?;
    let behind = &headings[start + name.len()..];
    let next = behind.find(|c: char| !c.is_whitespace()).map(|length| start + name.len() + length);
    values.get(start..next.unwrap_or(values.len()).min(values.len())).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(queues: &[Partition]) -> Vec<String> {
        let show = |queue: &Partition| {
            let Partition { name, default, up, nodes, time_limit, default_time, .. } = queue;
            format!("{name} {default} {up:?} {nodes:?} {time_limit:?} {default_time:?}")
        };
        queues.iter().map(show).collect()
    }

    #[test]
    fn queues_of_pbs() {
        let printed = "Queue: default\n    queue_type = Route\n    state_count = Transit:0 Queued:0 Begun\n\t:0 \n    \
                       resources_max.walltime = 720:00:00\n    resources_default.walltime = 24:00:00\n    enabled = True\n\n\
                       Queue: gpu\n    queue_type = Execution\n    resources_max.nodect = 8\n    resources_max.walltime = 5400\n    \
                       enabled = False\n    started = True\n";
        assert_eq!(
            shown(&queues_of_qstat(printed, "Server: pbs\n    default_queue = default\n")),
            [
                "default true Some(true) None Some(\"30-00:00:00\") Some(\"1-00:00:00\")",
                "gpu false Some(false) Some(8) Some(\"01:30:00\") None"
            ]
        );
        assert!(queues_of_qstat("qstat: Unknown queue\n", "").is_empty());
    }

    #[test]
    fn queues_of_lsf() {
        let printed = "\nQUEUE: normal\n  -- For normal jobs.  This is the default queue.\n\nPARAMETERS/STATISTICS\n\
            PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV PJOBS\n \
            30   20  Open:Active       -    -    -    -     0     0     0     0     0    0     0\n\
            Interval for a host to accept two jobs is 0 seconds\n\nDEFAULT LIMITS:\n RUNLIMIT\n 60.0 min of hostA\n\n\
            MAXIMUM LIMITS:\n CPULIMIT                 RUNLIMIT                 TASKLIMIT\n \
            1440.0 min of hostA      2880.0 min of hostA      1 1 64\n\nSCHEDULING PARAMETERS\n\n\
            ----\n\nQUEUE: night\n\nPRIO NICE STATUS          MAX JL/U\n 40    0  Closed:Inact     -    -\n\n\
            MAXIMUM LIMITS:\n RUNLIMIT\n 240.0 min\n";
        assert_eq!(
            shown(&queues_of_bqueues(printed, "Default Queues:  normal interactive\nMBD_SLEEP_TIME used: 10\n")),
            [
                "normal true Some(true) None Some(\"2-00:00:00\") Some(\"01:00:00\")",
                "night false Some(false) None Some(\"04:00:00\") None"
            ]
        );
    }
}
