//! `flux run` and `flux submit` (flux-core 0.38 to 0.88).

use shell::Reason;

use super::super::launcher::{Around, Launcher, Processes, Reach, number, origin};
use super::super::options::{Given, Grammar, Options, Style, Unlisted};
use crate::number::Number;
use crate::origin::Origin;

pub(crate) const FLUX: Launcher = Launcher {
    name: "flux run",
    programs: &[&["flux", "run"], &["flux", "submit"], &["flux", "mini", "run"], &["flux", "mini", "submit"]],
    modules: &[],
    grammar: Grammar {
        values: "bank B queue q time-limit t urgency job-name setopt o setattr S add-file dependency requires begin-time env \
                 env-remove env-file rlimit input output error cwd flags signal taskmap nodes N ntasks n cores-per-task c \
                 gpus-per-task g cores tasks-per-node tasks-per-core gpus-per-node wait-event cc bcc log log-stderr",
        pairs: "",
        flags: "unbuffered u label-io l dry-run quiet exclusive x verbose v wait watch progress jps debug-emulate",
        glued: "",
        style: Style::Getopt,
        unlisted: Unlisted::Value,
    },
    environment: &[],
    reach: Reach::Job,
    processes,
};

fn processes(options: &Options, around: &Around<'_>) -> Processes {
    let given_nodes = options.get(&["nodes", "N"]).is_some();
    let nodes = number(options, &["nodes", "N"], || around.placement.nodes.clone());
    let names = ["ntasks", "n"];
    let total = number(options, &names, || match (options.number(&["tasks-per-node"]), given_nodes) {
        (Given::Is(count, _), _) => nodes.times(&Number::Exactly(count)),
        (Given::Unknown(reason), _) => Number::Unknown(reason),
        (Given::No, _) if options.get(&["cores", "tasks-per-core"]).is_some() => {
            Number::Unknown(Reason::new("flux counts its tasks by cores", None))
        }
        (Given::No, true) => nodes.clone(),
        (Given::No, false) => Number::Exactly(1),
    });
    let nodes = match total {
        Number::Exactly(1) => Number::Exactly(1),
        _ => nodes,
    };
    let how = if options.get(&names).is_some() {
        origin(options, &names, "")
    } else {
        Origin::Derived("flux's nodes × tasks")
    };
    Processes::over(total, nodes, how)
}
