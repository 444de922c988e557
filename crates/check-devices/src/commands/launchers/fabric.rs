//! Lightning's `fabric run` and `lightning run model` (2.0 to 2.6): a launcher on each node.

use shell::Reason;

use super::super::launcher::{Around, Launcher, Processes, Reach, number};
use super::super::options::{Given, Grammar, Options, Style, Unlisted};
use crate::number::Number;
use crate::origin::Origin;

pub(crate) const FABRIC: Launcher = Launcher {
    name: "fabric run",
    programs: &[&["fabric", "run", "model"], &["fabric", "run"], &["lightning", "run", "model"]],
    modules: &[],
    grammar: Grammar {
        values: "accelerator strategy devices num-nodes node-rank main-address main-port precision",
        pairs: "",
        flags: "help",
        glued: "",
        style: Style::Getopt,
        unlisted: Unlisted::Value,
    },
    environment: &[],
    reach: Reach::Node,
    processes,
};

fn processes(options: &Options, around: &Around<'_>) -> Processes {
    let each = match options.text(&["devices"]) {
        Given::No => Number::Exactly(1),
        Given::Is("auto" | "-1", _) => around.one_for_each_device(),
        Given::Is(text, span) => match text.parse() {
            Ok(count) => Number::Exactly(count),
            Err(_) if text.contains(',') => Number::Exactly(text.split(',').filter(|part| !part.is_empty()).count()),
            Err(_) => Number::Unknown(Reason::new(format!("'{text}' is no number of devices"), span)),
        },
        Given::Unknown(reason) => Number::Unknown(reason),
    };
    let nodes = number(options, &["num-nodes"], || Number::Exactly(1));
    Processes::of_agents(&each, nodes, around, Origin::Derived("fabric's nodes × devices"))
}
