//! mpirun and mpiexec of Open MPI 1 to 5, MPICH (Hydra), Intel MPI, MVAPICH, and HPE's PALS: one name for all of them, so the
//! options of all are read together. Where two take the same word differently, the one that takes a value is meant.

use shell::Reason;

use super::super::launcher::{Around, Launcher, Processes, Reach, hostfile, number, origin};
use super::super::options::{Given, Grammar, Options, Style, Unlisted};
use crate::number::Number;
use crate::origin::Origin;

pub(crate) const MPIRUN: Launcher = Launcher {
    name: "mpirun",
    programs: &[
        &["mpirun"],
        &["mpiexec"],
        &["mpiexec.hydra"],
        &["mpirun_rsh"],
        &["orterun"],
        &["prterun"],
        &["mpiexec_mpt"],
        &["mpirun.openmpi"],
        &["mpiexec.openmpi"],
        &["mpirun.mpich"],
        &["mpiexec.mpich"],
        &["likwid-mpirun"],
    ],
    modules: &[],
    grammar: Grammar {
        values: "n np c r rsh N npernode npersocket ppn perhost pernode-count hostfile machinefile default-hostfile host H hosts hostlist \
                 machine machines machinelist f map-by mapby rank-by rankby bind-to bindto ppr x cpus-per-proc cpus-per-rank \
                 cpu-list cpu-set slot-list rf rankfile wdir wd path prefix app am tune timeout stdin xterm output-filename \
                 launch-agent preload-files report-pid report-uri report-events personality tmpdir max-restarts genvlist envlist \
                 rankmap output-from prepend-pattern outfile-pattern errfile-pattern outfile errfile configfile launcher \
                 launcher-exec bootstrap bootstrap-exec bootstrap-exec-args rmk topolib binding membind demux g gpus-per-proc \
                 iface localhost nameserver order-nodes usize gpath gwdir hosts-group grr cpu-bind gtool gtoolfile \
                 branch-count tmpdir-path mem-bind gpu-bind d depth pmi rlimits fanout umask with-ft runtime-options rtos display \
                 pset set-env unset-env stream-buffering file arch soft t tpp mpi omp s skip nperdomain dist mpiopts o",
        pairs: "mca gmca omca gomca prtemca pmixmca amca genv env prepend-env append-env",
        flags: "V version v verbose q quiet report-state-on-timeout xml tag-output timestamp-output merge-stderr-to-stdout \
                preload-binary display-map display-devel-map display-topo nolocal nooversubscribe oversubscribe bycore bynode \
                byslot pernode use-hwthread-cpus bind-to-core bind-to-socket bind-to-none report-bindings display-allocation \
                debug leave-session-attached do-not-launch noprefix show-progress enable-recovery disable-recovery continuous \
                allow-run-as-root dvm genvnone genvall envnone envall rr prepend-rank l ordered-output enable-x disable-x info \
                print-all-exitcodes prot aps disable-auto-cleanup enable-auto-cleanup cleanup transfer no-transfer label no-label \
                exclusive line-buffer abort-on-failure no-abort-on-failure parsable hetero-nodes stop-on-exec h help ilp64 gdb tv \
                disable-hostname-propagation enable-hostname-propagation",
        glued: "",
        style: Style::Words,
        unlisted: Unlisted::Flag,
    },
    environment: &[("PALS_NRANKS", "n"), ("PALS_PPN", "ppn"), ("I_MPI_PERHOST", "ppn")],
    reach: Reach::Job,
    processes,
};

fn processes(options: &Options, around: &Around<'_>) -> Processes {
    let nodes = || match hostfile(options, &["hostfile", "machinefile", "f", "default-hostfile"], around) {
        Some(Ok((hosts, _))) => Number::Exactly(hosts),
        _ => around.placement.nodes.clone(),
    };
    let names = ["n", "np", "c"];
    let per_node = per_node(options);
    let mut processes = Processes::over(
        number(options, &names, || match &per_node {
            Some(per_node) => nodes().times(per_node),
            None => slots(options, around),
        }),
        nodes(),
        match options.get(&names) {
            Some(_) => origin(options, &names, "mpirun's ranks"),
            None if per_node.is_some() => Origin::Derived("nodes × mpirun's ranks per node"),
            None => around.placement.tasks.origin.clone(),
        },
    );
    if let Some(Number::Exactly(limit)) = per_node {
        let most = processes.total.exactly().unwrap_or(limit);
        processes.per_node = Number::Exactly(limit.min(most));
    } else if processes.total == around.placement.tasks.value {
        processes.per_node = around.placement.tasks_per_node.clone();
    }
    processes
}

/// `-N 4`, `-ppn 4`, `--map-by ppr:4:node`, `-pernode`.
fn per_node(options: &Options) -> Option<Number> {
    if options.get(&["pernode"]).is_some() {
        return Some(Number::Exactly(1));
    }
    match options.number(&["npernode", "N", "ppn", "perhost"]) {
        Given::Is(count, _) => return Some(Number::Exactly(count)),
        Given::Unknown(reason) if options.get(&["npernode", "N", "ppn", "perhost"]).is_some() => {
            return Some(Number::Unknown(reason));
        }
        _ => {}
    }
    let mapped = options.get(&["map-by", "mapby", "ppr"])?;
    let text = mapped.known()?;
    let mut parts = text.strip_prefix("ppr:").unwrap_or(text).split(':');
    match (parts.next().map(str::parse), parts.next()) {
        (Some(Ok(count)), Some("node")) => Some(Number::Exactly(count)),
        (Some(Ok(_)), Some(_)) if text.starts_with("ppr:") => {
            Some(Number::Unknown(Reason::new("how many sockets or cores a node has is not known", mapped.span)))
        }
        _ => None,
    }
}

/// Without a number: the slots of the hosts, or of the job.
fn slots(options: &Options, around: &Around<'_>) -> Number {
    if let Some(slots) = hostfile(options, &["hostfile", "machinefile", "f", "default-hostfile"], around) {
        return slots.map_or_else(Number::Unknown, |(_, slots)| Number::Exactly(slots));
    }
    match options.text(&["host", "H", "hosts"]) {
        Given::Is(hosts, _) => Number::Exactly(
            hosts
                .split(',')
                .map(|host| host.split_once(':').and_then(|(_, slots)| slots.parse().ok()).unwrap_or(1))
                .sum(),
        ),
        Given::Unknown(reason) => Number::Unknown(reason),
        Given::No => around.placement.tasks.value.clone(),
    }
}
