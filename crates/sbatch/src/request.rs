//! What a job asks for in the end: script, then `SBATCH_*` variables, then the command line; the last one wins.

use std::str::FromStr;

use crate::getopt::{Directive, read_command_line};
use crate::options::{OptionSpec, option};
use crate::problem::Problem;
use crate::script::Script;
use crate::translate::translate;
use crate::value::ValueError;
use source_text::Span;

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The script, here.
    Script(Span),
    /// This environment variable.
    Environment(&'static str),
    /// The command line of `sbatch`.
    CommandLine,
}

/// An option that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Which option.
    pub option: &'static OptionSpec,
    /// Its value, where it has one.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

impl Setting {
    /// The value, read. An option without a value reads as the empty text.
    ///
    /// # Errors
    /// What Slurm would accept instead.
    pub fn parse<T: FromStr<Err = ValueError>>(&self) -> Result<T, ValueError> {
        self.value.as_deref().unwrap_or_default().parse()
    }

    /// Whether the environment set it: then it yields to options of script and command line that exclude it.
    pub fn is_from_environment(&self) -> bool {
        matches!(self.origin, Origin::Environment(_))
    }
}

/// Everything that one component of a job asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    settings: Vec<Setting>,
    overridden: Vec<(Setting, Setting)>,
    command_line_problems: Vec<Problem>,
}

impl Script<'_> {
    /// What component `component` asks for, given the environment and the words between `sbatch` and the script.
    ///
    /// # Panics
    /// If there is no such component.
    pub fn request(
        &self,
        component: usize,
        environment: impl Fn(&str) -> Option<String>,
        command_line: &[String],
    ) -> Request {
        let mut request = Request::default();
        for directive in self.effective_directives(component) {
            request.set(from_directive(directive, Origin::Script(directive.span)));
        }
        // Lines of other schedulers come behind, and win.
        let ignored = request.get("ignore-pbs").is_some()
            || environment("SBATCH_IGNORE_PBS").is_some_and(|value| value != "0")
            || command_line.iter().any(|word| word == "--ignore-pbs");
        if !ignored {
            for setting in translate(self.text()) {
                request.set(setting);
            }
        }
        request.add(environment, command_line);
        request
    }
}

impl Request {
    /// What a job without a script asks for.
    pub fn without_script(environment: impl Fn(&str) -> Option<String>, command_line: &[String]) -> Self {
        let mut request = Self::default();
        request.add(environment, command_line);
        request
    }

    fn add(&mut self, environment: impl Fn(&str) -> Option<String>, command_line: &[String]) {
        for &(variable, name) in ENVIRONMENT {
            if let (Some(value), Some(option)) = (environment(variable), option(name)) {
                self.set(Setting { option, value: Some(value), origin: Origin::Environment(variable) });
            }
        }
        let (directives, problems) = read_command_line(command_line);
        for directive in &directives {
            self.set(from_directive(directive, Origin::CommandLine));
        }
        self.command_line_problems = problems;
    }

    fn set(&mut self, setting: Setting) {
        match self.settings.iter_mut().find(|known| known.option.key() == setting.option.key()) {
            Some(known) => {
                let old = std::mem::replace(known, setting.clone());
                self.overridden.push((old, setting));
            }
            None => self.settings.push(setting),
        }
    }

    /// The setting of the option called `name`, if it is given.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.option.key() == name)
    }

    /// All settings that count.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// What was given and does not count, each with what replaced it.
    pub fn overridden(&self) -> &[(Setting, Setting)] {
        &self.overridden
    }

    /// What is wrong with the command line.
    pub fn command_line_problems(&self) -> &[Problem] {
        &self.command_line_problems
    }
}

fn from_directive(directive: &Directive, origin: Origin) -> Setting {
    Setting { option: directive.option, value: directive.value.clone(), origin }
}

/// The variables that `sbatch` reads, in its order, and the options that they set. There is none for nodes, ntasks,
/// ntasks-per-node and cpus-per-task.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("SBATCH_ACCOUNT", "account"),
    ("SBATCH_ARRAY_INX", "array"),
    ("SBATCH_ACCTG_FREQ", "acctg-freq"),
    ("SBATCH_BATCH", "batch"),
    ("SBATCH_BURST_BUFFER", "bb"),
    ("SBATCH_CLUSTER_CONSTRAINT", "cluster-constraint"),
    ("SBATCH_CLUSTERS", "clusters"),
    ("SLURM_CLUSTERS", "clusters"),
    ("SBATCH_CONTAINER", "container"),
    ("SBATCH_CONTAINER_ID", "container-id"),
    ("SBATCH_CONSTRAINT", "constraint"),
    ("SBATCH_CORE_SPEC", "core-spec"),
    ("SBATCH_CPU_FREQ_REQ", "cpu-freq"),
    ("SBATCH_CPUS_PER_GPU", "cpus-per-gpu"),
    ("SBATCH_DELAY_BOOT", "delay-boot"),
    ("SBATCH_DISTRIBUTION", "distribution"),
    ("SBATCH_EXCLUSIVE", "exclusive"),
    ("SBATCH_EXPORT", "export"),
    ("SBATCH_GET_USER_ENV", "get-user-env"),
    ("SBATCH_GRES", "gres"),
    ("SBATCH_GRES_FLAGS", "gres-flags"),
    ("SBATCH_GPUS", "gpus"),
    ("SBATCH_GPU_BIND", "gpu-bind"),
    ("SBATCH_GPU_FREQ", "gpu-freq"),
    ("SBATCH_GPUS_PER_NODE", "gpus-per-node"),
    ("SBATCH_GPUS_PER_SOCKET", "gpus-per-socket"),
    ("SBATCH_GPUS_PER_TASK", "gpus-per-task"),
    ("SLURM_HINT", "hint"),
    ("SBATCH_HINT", "hint"),
    ("SBATCH_JOB_NAME", "job-name"),
    ("SBATCH_MEM_BIND", "mem-bind"),
    ("SBATCH_MEM_PER_CPU", "mem-per-cpu"),
    ("SBATCH_MEM_PER_GPU", "mem-per-gpu"),
    ("SBATCH_MEM_PER_NODE", "mem"),
    ("SBATCH_NETWORK", "network"),
    ("SBATCH_NO_KILL", "no-kill"),
    ("SBATCH_NO_REQUEUE", "no-requeue"),
    ("SBATCH_OPEN_MODE", "open-mode"),
    ("SBATCH_OVERCOMMIT", "overcommit"),
    ("SBATCH_PARTITION", "partition"),
    ("SBATCH_POWER", "power"),
    ("SBATCH_PROFILE", "profile"),
    ("SBATCH_QOS", "qos"),
    ("SBATCH_REQ_SWITCH", "switches"),
    ("SBATCH_REQUEUE", "requeue"),
    ("SBATCH_RESERVATION", "reservation"),
    ("SBATCH_SEGMENT_SIZE", "segment"),
    ("SBATCH_SIGNAL", "signal"),
    ("SBATCH_SPREAD_JOB", "spread-job"),
    ("SBATCH_THREAD_SPEC", "thread-spec"),
    ("SBATCH_THREADS_PER_CORE", "threads-per-core"),
    ("SBATCH_TIMELIMIT", "time"),
    ("SBATCH_TRES_BIND", "tres-bind"),
    ("SBATCH_TRES_PER_TASK", "tres-per-task"),
    ("SBATCH_USE_MIN_NODES", "use-min-nodes"),
    ("SBATCH_WAIT", "wait"),
    ("SBATCH_WAIT_ALL_NODES", "wait-all-nodes"),
    ("SBATCH_WCKEY", "wckey"),
    ("SBATCH_ERROR", "error"),
    ("SBATCH_INPUT", "input"),
    ("SBATCH_OUTPUT", "output"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_sets_an_option() {
        for (variable, name) in ENVIRONMENT {
            assert!(option(name).is_some(), "{variable}");
        }
    }

    #[test]
    fn the_last_one_wins() {
        let script = Script::parse("#!/bin/sh\n#SBATCH --gpus=1 --time=5 --nodes=1\n#SBATCH --nodes=2\n");
        let environment = |name: &str| (name == "SBATCH_GPUS").then(|| "4".to_owned());
        let request = script.request(0, environment, &["-t10".to_owned()]);
        let value = |name: &str| request.get(name).and_then(|setting| setting.value.as_deref());
        assert_eq!((value("gpus"), value("time"), value("nodes")), (Some("4"), Some("10"), Some("2")));
        assert_eq!(request.get("gpus").unwrap().origin, Origin::Environment("SBATCH_GPUS"));
        let overridden: Vec<_> = request.overridden().iter().map(|(old, _)| old.option.name).collect();
        assert_eq!(overridden, ["nodes", "gpus", "time"]);
    }
}
