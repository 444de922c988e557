//! PyTorch's torchrun (1.9 to 2.11): an agent on each node, which starts the node's ranks.

use shell::Reason;

use super::super::launcher::{Around, Launcher, Processes, Reach};
use super::super::options::{Given, Grammar, Options, Style, Unlisted};
use crate::number::Number;
use crate::origin::Origin;

pub(crate) const TORCHRUN: Launcher = Launcher {
    name: "torchrun",
    programs: &[&["torchrun"]],
    modules: &["torch.distributed.run", "torch.distributed.launch", "torch.distributed.elastic.run"],
    grammar: Grammar {
        values: "nnodes nproc-per-node rdzv-backend rdzv-endpoint rdzv-id rdzv-conf max-restarts monitor-interval start-method \
                 event-log-handler role log-dir r redirects t tee local-ranks-filter duplicate-stdout-filters \
                 duplicate-stderr-filters node-rank master-addr master-port local-addr logs-specs numa-binding signals-to-handle \
                 shutdown-timeout logdir",
        pairs: "",
        flags: "standalone m module no-python run-path virtual-local-rank h help use-env",
        glued: "",
        style: Style::Getopt,
        unlisted: Unlisted::Value,
    },
    environment: &[
        ("PET_NNODES", "nnodes"),
        ("PET_NPROC_PER_NODE", "nproc-per-node"),
        ("PET_RDZV_BACKEND", "rdzv-backend"),
        ("PET_RDZV_ENDPOINT", "rdzv-endpoint"),
        ("PET_NODE_RANK", "node-rank"),
        ("PET_MASTER_ADDR", "master-addr"),
        ("PET_MASTER_PORT", "master-port"),
        ("PET_STANDALONE", "standalone"),
    ],
    reach: Reach::Node,
    processes,
};

fn processes(options: &Options, around: &Around<'_>) -> Processes {
    let each = match options.text(&["nproc-per-node"]) {
        Given::No => Number::Exactly(1),
        Given::Is("gpu" | "auto", _) => around.one_for_each_device(),
        Given::Is(text, span) => match text.parse() {
            Ok(count @ 1..) => Number::Exactly(count),
            _ => Number::Unknown(Reason::new(format!("'{text}' processes on each node is no number"), span)),
        },
        Given::Unknown(reason) => Number::Unknown(reason),
    };
    // `2`, or `MIN:MAX`.
    let nodes = match options.text(&["nnodes"]) {
        Given::No => Number::Exactly(1),
        Given::Unknown(reason) => Number::Unknown(reason),
        Given::Is(text, span) => match text.split_once(':').map_or((text, text), |bounds| bounds) {
            (least, most) if least == most => match least.parse() {
                Ok(nodes @ 1..) => Number::Exactly(nodes),
                _ => Number::Unknown(Reason::new(format!("'{text}' is no number of nodes"), span)),
            },
            _ => Number::Unknown(Reason::new(format!("torchrun starts with any of {text} nodes"), span)),
        },
    };
    Processes::of_agents(&each, nodes, around, Origin::Derived("torchrun's nodes × processes on each"))
}
