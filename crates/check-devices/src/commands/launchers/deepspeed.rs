//! DeepSpeed's launcher (0.3 to 0.19): started once, it reaches the hosts of its hostfile by itself.

use shell::Reason;

use super::super::launcher::{Around, Launcher, Processes, Reach, hostfile, number};
use super::super::options::{Given, Grammar, Options, Style, Unlisted};
use crate::number::Number;
use crate::origin::Origin;

pub(crate) const DEEPSPEED: Launcher = Launcher {
    name: "deepspeed",
    programs: &[&["deepspeed"], &["ds"], &["dsr"]],
    modules: &["deepspeed.launcher.runner"],
    grammar: Grammar {
        values: "hostfile H include i exclude e num-nodes min-elastic-nodes max-elastic-nodes num-gpus num-accelerators master-port \
                 master-addr node-rank launcher launcher-args enable-each-rank-log autotuning bind-core-list ssh-port \
                 venv-script log-level",
        pairs: "",
        flags: "module no-python no-local-rank no-ssh no-ssh-check force-multi save-pid elastic-training bind-cores-to-rank q \
                quiet h help",
        glued: "",
        style: Style::Getopt,
        unlisted: Unlisted::Value,
    },
    environment: &[],
    reach: Reach::Job,
    processes,
};

fn processes(options: &Options, around: &Around<'_>) -> Processes {
    const HOW: Origin = Origin::Derived("deepspeed's nodes × GPUs");
    let gpus = || number(options, &["num-gpus", "num-accelerators"], || around.one_for_each_device());
    if let Some(chosen) = options.get(&["include", "i", "exclude", "e"]) {
        let why = Reason::new("deepspeed chooses among hosts and devices", chosen.span);
        return Processes::over(Number::Unknown(why.clone()), Number::Unknown(why), HOW);
    }
    let hosts = match hostfile(options, &["hostfile", "H"], around) {
        // Without a hostfile it stays on its own node.
        None if options.get(&["no-ssh"]).is_some() => number(options, &["num-nodes"], || Number::Exactly(1)),
        None => Number::Exactly(1),
        Some(Ok((hosts, slots))) => {
            let nodes = number(options, &["num-nodes"], || Number::Exactly(hosts));
            if matches!(options.number(&["num-gpus", "num-accelerators"]), Given::No) && nodes == Number::Exactly(hosts)
            {
                return Processes::over(Number::Exactly(slots), nodes, HOW);
            }
            nodes
        }
        Some(Err(reason)) => number(options, &["num-nodes"], || Number::Unknown(reason)),
    };
    let total = hosts.times(&gpus());
    Processes::over(total, hosts, HOW)
}
