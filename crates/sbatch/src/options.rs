//! The options of `sbatch`: names, letters, arguments, and which of them each component of a heterogeneous job sets
//! anew. From `src/common/slurm_opt.c` of Slurm 26.11.

use crate::value::Kind;

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Never: `--hold`.
    None,
    /// Always: `--nodes=2`, `--nodes 2`, `-N2`, `-N 2`.
    Required,
    /// At will, and then behind `=`: `--exclusive`, `--exclusive=user`.
    Optional,
}

/// What the next component of a heterogeneous job inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Nothing: every component sets it anew.
    PerComponent,
    /// The value: it holds from its component on.
    WholeJob,
}

/// One option of `sbatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// The long name, without dashes.
    pub name: &'static str,
    /// The letter.
    pub short: Option<char>,
    /// Whether it takes a value.
    pub argument: Argument,
    /// What the next component inherits.
    pub lifetime: Lifetime,
    /// What its value looks like.
    pub kind: Kind,
}

const fn spec(
    name: &'static str,
    short: Option<char>,
    argument: Argument,
    lifetime: Lifetime,
    kind: Kind,
) -> OptionSpec {
    OptionSpec { name, short, argument, lifetime, kind }
}

/// The option called `name` (its full long name).
pub fn option(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.binary_search_by(|spec| spec.name.cmp(name)).ok().map(|index| &OPTIONS[index])
}

impl OptionSpec {
    /// The name under which its setting is kept: `tasks-per-node` and `ntasks-per-node` are one.
    pub fn key(&self) -> &'static str {
        match self.name {
            "tasks-per-node" => "ntasks-per-node",
            "cluster" => "clusters",
            "no-requeue" => "requeue",
            name => name,
        }
    }
}

use Kind::*;
use Lifetime::{PerComponent, WholeJob};

/// Every option, by name. `power` left with Slurm 24.11; `get-user-env` took a value before 25.05.
#[rustfmt::skip]
pub const OPTIONS: &[OptionSpec] = &[
    spec("account", Some('A'), Argument::Required, WholeJob, Text),
    spec("acctg-freq", None, Argument::Required, WholeJob, Text),
    spec("array", Some('a'), Argument::Required, WholeJob, Array),
    spec("autocomplete", None, Argument::Required, WholeJob, Text),
    spec("batch", None, Argument::Required, WholeJob, Text),
    spec("bb", None, Argument::Required, PerComponent, Text),
    spec("bbf", None, Argument::Required, WholeJob, Text),
    spec("begin", Some('b'), Argument::Required, WholeJob, Text),
    spec("chdir", Some('D'), Argument::Required, WholeJob, Text),
    spec("cluster", None, Argument::Required, WholeJob, Text),
    spec("cluster-constraint", None, Argument::Required, WholeJob, Text),
    spec("clusters", Some('M'), Argument::Required, WholeJob, Text),
    spec("comment", None, Argument::Required, WholeJob, Text),
    spec("consolidate-segments", None, Argument::None, PerComponent, Text),
    spec("constraint", Some('C'), Argument::Required, PerComponent, Text),
    spec("container", None, Argument::Required, WholeJob, Text),
    spec("container-id", None, Argument::Required, WholeJob, Text),
    spec("context", None, Argument::Required, WholeJob, Text),
    spec("contiguous", None, Argument::None, PerComponent, Text),
    spec("core-spec", Some('S'), Argument::Required, PerComponent, Number),
    spec("cores-per-socket", None, Argument::Required, PerComponent, Count),
    spec("cpu-freq", None, Argument::Required, PerComponent, Text),
    spec("cpus-per-gpu", None, Argument::Required, PerComponent, Count),
    spec("cpus-per-task", Some('c'), Argument::Required, PerComponent, Count),
    spec("deadline", None, Argument::Required, WholeJob, Text),
    spec("delay-boot", None, Argument::Required, WholeJob, Text),
    spec("dependency", Some('d'), Argument::Required, WholeJob, Text),
    spec("distribution", Some('m'), Argument::Required, PerComponent, Text),
    spec("error", Some('e'), Argument::Required, WholeJob, Text),
    spec("exclude", Some('x'), Argument::Required, WholeJob, Text),
    spec("exclusive", None, Argument::Optional, PerComponent, Exclusive),
    spec("export", None, Argument::Required, WholeJob, Text),
    spec("export-file", None, Argument::Required, WholeJob, Text),
    spec("external", None, Argument::None, PerComponent, Text),
    spec("extra", None, Argument::Required, WholeJob, Text),
    spec("extra-node-info", Some('B'), Argument::Required, PerComponent, Text),
    spec("get-user-env", None, Argument::Optional, WholeJob, Text),
    spec("gid", None, Argument::Required, WholeJob, Text),
    spec("gpu-bind", None, Argument::Required, PerComponent, Text),
    spec("gpu-freq", None, Argument::Required, PerComponent, Text),
    spec("gpus", Some('G'), Argument::Required, PerComponent, Gpus),
    spec("gpus-per-node", None, Argument::Required, PerComponent, Gpus),
    spec("gpus-per-socket", None, Argument::Required, PerComponent, Gpus),
    spec("gpus-per-task", None, Argument::Required, PerComponent, Gpus),
    spec("gres", None, Argument::Required, PerComponent, Gres),
    spec("gres-flags", None, Argument::Required, PerComponent, Text),
    spec("help", Some('h'), Argument::None, WholeJob, Text),
    spec("hint", None, Argument::Required, PerComponent, Text),
    spec("hold", Some('H'), Argument::None, WholeJob, Text),
    spec("ignore-pbs", None, Argument::None, WholeJob, Text),
    spec("input", Some('i'), Argument::Required, WholeJob, Text),
    spec("job-name", Some('J'), Argument::Required, WholeJob, Text),
    spec("kill-on-invalid-dep", None, Argument::Required, WholeJob, Text),
    spec("licenses", Some('L'), Argument::Required, PerComponent, Text),
    spec("mail-type", None, Argument::Required, PerComponent, MailType),
    spec("mail-user", None, Argument::Required, PerComponent, Text),
    spec("mcs-label", None, Argument::Required, WholeJob, Text),
    spec("mem", None, Argument::Required, WholeJob, Memory),
    spec("mem-bind", None, Argument::Required, PerComponent, Text),
    spec("mem-per-cpu", None, Argument::Required, PerComponent, Memory),
    spec("mem-per-gpu", None, Argument::Required, PerComponent, Memory),
    spec("mem-update", None, Argument::Required, WholeJob, Text),
    spec("mincpus", None, Argument::Required, PerComponent, Count),
    spec("network", None, Argument::Required, PerComponent, Text),
    spec("nice", None, Argument::Optional, WholeJob, Text),
    spec("no-kill", Some('k'), Argument::Optional, WholeJob, NoKill),
    spec("no-requeue", None, Argument::None, WholeJob, Text),
    spec("nodefile", Some('F'), Argument::Required, PerComponent, Text),
    spec("nodelist", Some('w'), Argument::Required, PerComponent, Text),
    spec("nodes", Some('N'), Argument::Required, PerComponent, Nodes),
    spec("ntasks", Some('n'), Argument::Required, PerComponent, Count),
    spec("ntasks-per-core", None, Argument::Required, PerComponent, Count),
    spec("ntasks-per-gpu", None, Argument::Required, PerComponent, Count),
    spec("ntasks-per-node", None, Argument::Required, PerComponent, Count),
    spec("ntasks-per-socket", None, Argument::Required, PerComponent, Count),
    spec("ntasks-per-tres", None, Argument::Required, PerComponent, Count),
    spec("oom-kill-step", None, Argument::Optional, WholeJob, ZeroOrOne),
    spec("open-mode", None, Argument::Required, WholeJob, OpenMode),
    spec("output", Some('o'), Argument::Required, WholeJob, Text),
    spec("overcommit", Some('O'), Argument::None, PerComponent, Text),
    spec("oversubscribe", Some('s'), Argument::None, PerComponent, Text),
    spec("parsable", None, Argument::None, WholeJob, Text),
    spec("partition", Some('p'), Argument::Required, PerComponent, Text),
    spec("power", None, Argument::Required, PerComponent, Text),
    spec("prefer", None, Argument::Required, WholeJob, Text),
    spec("priority", None, Argument::Required, WholeJob, Text),
    spec("profile", None, Argument::Required, WholeJob, Text),
    spec("propagate", None, Argument::Optional, WholeJob, Text),
    spec("qos", Some('q'), Argument::Required, WholeJob, Text),
    spec("quiet", Some('Q'), Argument::None, WholeJob, Text),
    spec("reboot", None, Argument::None, WholeJob, Text),
    spec("requeue", None, Argument::Optional, WholeJob, Requeue),
    spec("reservation", None, Argument::Required, WholeJob, Text),
    spec("resources", None, Argument::Required, PerComponent, Text),
    spec("resv-ports", None, Argument::Optional, PerComponent, Text),
    spec("runtime", None, Argument::Required, WholeJob, Text),
    spec("segment", None, Argument::Required, PerComponent, Text),
    spec("signal", None, Argument::Required, WholeJob, Signal),
    spec("sockets-per-node", None, Argument::Required, PerComponent, Count),
    spec("spread-job", None, Argument::None, PerComponent, Text),
    spec("spread-segments", None, Argument::None, PerComponent, Text),
    spec("stepmgr", None, Argument::None, WholeJob, Text),
    spec("switches", None, Argument::Required, PerComponent, Text),
    spec("tasks-per-node", None, Argument::Required, PerComponent, Count),
    spec("test-only", None, Argument::None, WholeJob, Text),
    spec("thread-spec", None, Argument::Required, PerComponent, Number),
    spec("threads-per-core", None, Argument::Required, PerComponent, Count),
    spec("time", Some('t'), Argument::Required, WholeJob, Time),
    spec("time-min", None, Argument::Required, WholeJob, Time),
    spec("tmp", None, Argument::Required, PerComponent, Memory),
    spec("tres-bind", None, Argument::Required, PerComponent, Text),
    spec("tres-per-task", None, Argument::Required, PerComponent, Text),
    spec("uid", None, Argument::Required, WholeJob, Text),
    spec("usage", None, Argument::None, WholeJob, Text),
    spec("use-min-nodes", None, Argument::None, PerComponent, Text),
    spec("verbose", Some('v'), Argument::None, WholeJob, Text),
    spec("version", Some('V'), Argument::None, WholeJob, Text),
    spec("wait", Some('W'), Argument::None, WholeJob, Text),
    spec("wait-all-nodes", None, Argument::Required, WholeJob, ZeroOrOne),
    spec("wckey", None, Argument::Required, WholeJob, Text),
    spec("wrap", None, Argument::Required, WholeJob, Text),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_letters_are_unique() {
        assert!(OPTIONS.is_sorted_by(|a, b| a.name < b.name));
        let mut letters: Vec<_> = OPTIONS.iter().filter_map(|spec| spec.short).collect();
        letters.sort_unstable();
        let count = letters.len();
        letters.dedup();
        assert_eq!(letters.len(), count);
        assert_eq!(option("nodes").map(|spec| spec.short), Some(Some('N')));
        assert_eq!(option("node"), None);
    }
}
