//! MosaicML's composer (0.33): a launcher on each node.

use super::super::launcher::{Around, Launcher, Processes, Reach, number};
use super::super::options::{Grammar, Options, Style, Unlisted};
use crate::origin::Origin;

pub(crate) const COMPOSER: Launcher = Launcher {
    name: "composer",
    programs: &[&["composer"]],
    modules: &["composer.cli.launcher"],
    grammar: Grammar {
        values: "n nproc stdout stderr world-size base-rank node-rank master-addr master-port run-directory",
        pairs: "",
        flags: "version v verbose m module-mode c command-mode h help",
        glued: "",
        style: Style::Getopt,
        unlisted: Unlisted::Value,
    },
    environment: &[("LOCAL_WORLD_SIZE", "nproc"), ("WORLD_SIZE", "world-size")],
    reach: Reach::Node,
    processes,
};

fn processes(options: &Options, around: &Around<'_>) -> Processes {
    let each = number(options, &["nproc", "n"], || around.one_for_each_device());
    let total = number(options, &["world-size"], || each.clone());
    let nodes = total.spread_over(&each);
    let mut processes =
        Processes::of_agents(&each, nodes, around, Origin::Derived("composer's processes on each node"));
    if processes.total.exactly().is_some() {
        processes.total = total;
    }
    processes
}
