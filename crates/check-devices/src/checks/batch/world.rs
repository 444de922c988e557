//! B03: is the world that MPI sees the one that was meant?

use super::super::need::need;
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};

pub(crate) const B03: Check = Check {
    id: "B03",
    title: "MPI sees another number of ranks than were started",
    severity: Severity::Error,
    tier: Tier::Ranks,
    explanation: "Where the launcher and MPI do not speak with each other (srun without --mpi=pmix, the mpirun of another \
                  MPI), N processes each believe to be rank 0 of 1: N trainings of their own, that overwrite each other's \
                  files.",
    source: "open-mpi/ompi#13523",
    run: |subject| {
        let ranks = need!(subject.ranks(), Tier::Ranks.how());
        let seen = ranks.first().map_or(0, |rank| rank.size);
        let started = ranks.iter().filter_map(|rank| rank.launcher_tasks).max();
        let Some(started) = started else { return Outcome::unknown("no launcher says how many tasks it started") };
        if seen == started && ranks.len() == seen {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!("the launcher started {started} tasks, and MPI sees {seen}"))
            .help("try srun --mpi=pmix (Open MPI) or --mpi=pmi2 (MPICH); srun --mpi=list shows what this Slurm has")])
    },
};
