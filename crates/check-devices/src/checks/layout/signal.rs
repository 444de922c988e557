//! L18–L20: the end of the time limit, and what comes after it.

use shell::{Argument, Executed};

use super::super::need::{need, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::subject::Subject;

/// The `trap` that the script sets for `signal`.
fn trap<'s>(subject: &'s Subject<'_>, signal: &str) -> Option<&'s Executed> {
    subject.commands().iter().find(|command| {
        let mut words = command.words.iter().map(Argument::known);
        words.next() == Some(Some("trap"))
            && words.skip(1).flatten().any(|word| word.trim_start_matches("SIG").eq_ignore_ascii_case(signal))
    })
}

pub(crate) const L18: Check = Check {
    id: "L18",
    title: "the signal does not reach who waits for it",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "--signal=USR1@T goes to the job steps that srun started, and not to the batch shell. --signal=B:USR1@T goes \
                  to the batch shell alone, which must trap it and pass it on, and which runs its trap only after the \
                  command in the foreground: start srun with & and wait.",
    source: "sbatch(1), --signal; bash(1), SIGNALS",
    run: |subject| {
        need!(slurm_script(subject));
        let signal = need!(subject.job().signal.as_ref(), "--signal is not given");
        let name = &signal.value.signal;
        let trap = trap(subject, name);
        let step = subject.launches().iter().any(|launch| launch.srun().is_some());
        let finding = match (signal.value.batch_shell, trap) {
            (true, None) => {
                Finding::warning(format!("the batch shell gets {name} and does not trap it: the job ends there"))
                    .at(signal.span(), "B: to the batch shell alone")
                    .help(format!("leave B: out to signal the ranks, or trap {name} and pass it on"))
            }
            (true, Some(trap)) => {
                let waits = subject
                    .commands()
                    .iter()
                    .any(|command| command.words.first().and_then(Argument::known) == Some("wait"));
                if waits {
                    return Outcome::Pass;
                }
                Finding::warning("bash runs the trap only when the command in the foreground has ended")
                    .at(trap.span, "runs too late")
                    .at(signal.span(), "")
                    .help("start the long command with & and then wait")
            }
            (false, Some(trap)) => {
                Finding::warning(format!("the trap never runs: {name} goes to the job steps, not to the batch shell"))
                    .at(signal.span(), "to the steps")
                    .at(trap.span, "never runs")
                    .help(format!("write --signal=B:{name}@{}", signal.value.seconds))
            }
            (false, None) if !step => {
                Finding::warning(format!("nobody gets {name}: it goes to steps that srun starts, and there are none"))
                    .at(signal.span(), "to the steps")
                    .help("start the program with srun")
            }
            (false, None) => return Outcome::Pass,
        };
        Outcome::of([finding])
    },
};

pub(crate) const L19: Check = Check {
    id: "L19",
    title: "the signal comes too late for a checkpoint",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "Slurm sends the signal up to 60 s later than asked (its timers tick slowly), and the program finishes its \
                  step first. Ask for the time that a checkpoint takes (--checkpoint-seconds) and 60 s more.",
    source: "sbatch(1), --signal: up to 60 seconds earlier or later",
    run: |subject| {
        need!(slurm_script(subject));
        let signal = need!(subject.job().signal.as_ref(), "--signal is not given");
        let checkpoint = subject.training.checkpoint_seconds.as_ref().map_or(0, |seconds| seconds.value);
        let wanted = checkpoint.saturating_add(60);
        if signal.value.seconds >= wanted {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning(format!(
            "{} s before the end are too few for a checkpoint of {checkpoint} s",
            signal.value.seconds
        ))
        .at(signal.span(), "may come up to 60 s late")
        .help(format!(
            "ask for {wanted} s: --signal={}{}@{wanted}",
            if signal.value.batch_shell { "B:" } else { "" },
            signal.value.signal
        ))])
    },
};

pub(crate) const L20: Check = Check {
    id: "L20",
    title: "a requeued job starts over, or loses its log",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "A requeued job runs the same script again: it must resume from its checkpoint, and --open-mode=append keeps \
                  the log of the first run. A program that catches the signal, saves and exits with 0 is not requeued: the \
                  script must call scontrol requeue $SLURM_JOB_ID.",
    source: "sbatch(1), --requeue, --open-mode",
    run: |subject| {
        need!(slurm_script(subject));
        let job = subject.job();
        let requeue = need!(
            job.request.get("requeue").filter(|setting| setting.option.name == "requeue"),
            "--requeue is not given"
        );
        let appends = job.text("open-mode").is_some_and(|mode| mode.value.to_ascii_lowercase().starts_with('a'));
        if appends {
            return Outcome::Pass;
        }
        let at = crate::origin::Origin::from(&requeue.origin).span();
        Outcome::of([Finding::warning("the second run of a requeued job overwrites the log of the first")
            .at(at, "the job may run again")
            .help("add --open-mode=append, and let the program resume")])
    },
};
