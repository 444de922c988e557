//! Horovod's horovodrun (0.28): `-np` ranks over its hosts.

use shell::Reason;

use super::super::launcher::{Around, Launcher, Processes, Reach, number, origin};
use super::super::options::{Grammar, Options, Style, Unlisted};
use crate::number::Number;

pub(crate) const HOROVODRUN: Launcher = Launcher {
    name: "horovodrun",
    programs: &[&["horovodrun"]],
    modules: &["horovod.runner.launch"],
    grammar: Grammar {
        values: "np num-proc p ssh-port i ssh-identity-file H hosts hostfile host-discovery-script start-timeout network-interfaces \
                 network-interface output-filename config-file fusion-threshold-mb cycle-time-ms cache-capacity autotune-log-file \
                 min-np min-num-proc max-np max-num-proc slots-per-host elastic-timeout reset-limit timeline-filename mpi-args \
                 binding-args num-nccl-streams thread-affinity gloo-timeout-seconds log-level",
        pairs: "blacklist-cooldown-range",
        flags: "v version verbose disable-cache autotune gloo mpi jsrun tcp mpi-threads-disable hierarchical-allreduce h help",
        glued: "",
        style: Style::Words,
        unlisted: Unlisted::Flag,
    },
    environment: &[],
    reach: Reach::Job,
    processes,
};

fn processes(options: &Options, around: &Around<'_>) -> Processes {
    let names = ["np", "num-proc"];
    let total = number(options, &names, || Number::Unknown(Reason::new("horovodrun is given no -np", None)));
    let local = options.get(&["H", "hosts", "hostfile", "host-discovery-script"]).is_none();
    let nodes = if local { Number::Exactly(1) } else { around.placement.nodes.clone() };
    Processes::over(total, nodes, origin(options, &names, "horovodrun's -np"))
}
