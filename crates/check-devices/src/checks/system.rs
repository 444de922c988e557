//! O: limits, file systems, paths.

use shell::Argument;

use super::need::{need, script};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::memory::{Bytes, estimate};
use crate::subject::{PathUse, Recipe};

pub(crate) const O01: Check = Check {
    id: "O01",
    title: "little shared memory",
    severity: Severity::Warning,
    tier: Tier::Allocation,
    explanation: "MPI, NCCL and PyTorch's loaders pass data between the ranks of a node through /dev/shm; containers often \
                  have 64 MB of it. Below 512 MB is reported.",
    source: "pytorch/pytorch#5040; NCCL, Troubleshooting: shared memory",
    run: |subject| {
        let facts = need!(subject.allocation(), Tier::Allocation.how());
        let Some(bytes) = facts.shared_memory_bytes else { return Outcome::unknown("/dev/shm cannot be read") };
        if bytes >= 512_000_000 {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning(format!("/dev/shm has {}", Bytes(bytes)))
            .help("for a container: --shm-size, or --ipc=host")])
    },
};

pub(crate) const O02: Check = Check {
    id: "O02",
    title: "few open files",
    severity: Severity::Warning,
    tier: Tier::Allocation,
    explanation: "Every connection between ranks, every device and every shared-memory segment is an open file. Fewer than \
                  1024 are reported.",
    source: "getrlimit(2), RLIMIT_NOFILE",
    run: |subject| {
        let facts = need!(subject.allocation(), Tier::Allocation.how());
        let Some(limit) = facts.open_files else { return Outcome::unknown("the limit cannot be read") };
        if limit >= 1024 {
            return Outcome::Pass;
        }
        Outcome::of(
            [Finding::warning(format!("a process may open {limit} files")).help("ulimit -n 4096 in the script")],
        )
    },
};

pub(crate) const O03: Check = Check {
    id: "O03",
    title: "little locked memory on a node with RDMA",
    severity: Severity::Warning,
    tier: Tier::Allocation,
    explanation: "RDMA locks its buffers in memory. With a low limit InfiniBand fails, or is left for TCP without a word. \
                  Slurm hands the limits of the submitting shell on (PropagateResourceLimits).",
    source: "getrlimit(2), RLIMIT_MEMLOCK; slurm.conf(5)",
    run: |subject| {
        let facts = need!(subject.allocation(), Tier::Allocation.how());
        match facts.has_rdma {
            Some(true) => {}
            Some(false) => return Outcome::skip("the node has no RDMA network"),
            None => return Outcome::unknown("whether the node has an RDMA network cannot be read"),
        }
        match facts.locked_memory_bytes {
            Some(bytes) if bytes < 1 << 30 => {
                Outcome::of([Finding::warning(format!("a process may lock {} of memory", Bytes(bytes)))
                    .help("ulimit -l unlimited, or #SBATCH --propagate=NONE")])
            }
            _ => Outcome::Pass,
        }
    },
};

const NETWORK_FILE_SYSTEMS: &[&str] = &["lustre", "nfs", "gpfs", "beegfs", "cifs", "smb2", "ceph"];

pub(crate) const O05: Check = Check {
    id: "O05",
    title: "HDF5 locks on a network file system",
    severity: Severity::Warning,
    tier: Tier::Login,
    explanation: "HDF5 locks the files it opens. Many network file systems refuse locks, and the program ends with \"unable to \
                  lock file\"; HDF5_USE_FILE_LOCKING=FALSE switches them off.",
    source: "h5py/h5py#1101",
    run: |subject| {
        let login = need!(subject.login(), Tier::Login.how());
        let off = subject
            .exports("HDF5_USE_FILE_LOCKING")
            .is_some_and(|set| set.value.known().is_none_or(|text| text.eq_ignore_ascii_case("FALSE") || text == "0"));
        let hdf5 =
            subject.training.paths.iter().filter(|(purpose, _)| matches!(purpose, PathUse::Data | PathUse::Cache));
        let hdf5: Vec<_> = hdf5.collect();
        if hdf5.is_empty() {
            return Outcome::skip("the script names no folder of images or of their cache");
        }
        Outcome::of(
            hdf5.into_iter()
                .filter_map(|(_, path)| {
                    let kind = login.paths.get(&path.value)?.file_system.as_deref()?;
                    (NETWORK_FILE_SYSTEMS.contains(&kind) && !off).then(|| {
                        Finding::warning(format!("'{}' lies on {kind}, where HDF5's locks may be refused", path.value))
                            .at(path.span(), "")
                            .help("export HDF5_USE_FILE_LOCKING=FALSE")
                    })
                })
                .take(1),
        )
    },
};

/// What sources begin with that are not on the machine; the last are models of the Hugging Face Hub.
const FROM_ELSEWHERE: [&str; 6] = ["https://", "http://", "hf:", "hf://", "hf-hub:", "hf_hub:"];

/// What is in the name that a fetched file has in the store: the last part of its address, or a model's name, as `timm--resnet50`.
fn name_in_store(source: &str) -> String {
    if source.starts_with("http") {
        return source.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let model = source.split_once(':').map_or(source, |(_, model)| model).trim_start_matches('/');
    let parts: Vec<_> = model.splitn(3, '/').take(2).collect();
    parts.join("--").split('@').next().unwrap_or_default().to_owned()
}

pub(crate) const O07: Check = Check {
    id: "O07",
    title: "weights from the internet, which compute nodes do not reach",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Most compute nodes have no internet. Fetch weights on the login node first (rust-train fetch), and start the \
                  job with --offline. The site file says whether nodes reach it: internet_on_compute_nodes.",
    source: "facebookresearch and others: downloads in jobs, see pytorch/pytorch#68320",
    run: |subject| {
        need!(script(subject));
        let is_elsewhere = |path: &str| FROM_ELSEWHERE.iter().any(|scheme| path.starts_with(scheme));
        let weights = subject.training.paths.iter();
        let weights = weights.filter(|(purpose, path)| *purpose == PathUse::Weights && is_elsewhere(&path.value));
        let weights: Vec<_> = weights.collect();
        if weights.is_empty() {
            return Outcome::skip("no weights come from the internet");
        }
        match subject.site.internet_on_compute_nodes {
            Some(true) => return Outcome::Pass,
            None => {
                return Outcome::unknown(
                    "whether compute nodes reach the internet: internet_on_compute_nodes in the site file",
                );
            }
            Some(false) => {}
        }
        let stored = subject.login().and_then(|login| login.stored_weights.as_ref());
        Outcome::of(weights.into_iter().filter_map(|(_, path)| {
            let name = name_in_store(&path.value);
            let is_it =
                |file: &String| if path.value.starts_with("http") { file.contains(&name) } else { *file == name };
            let is_there = stored.is_some_and(|stored| stored.iter().any(is_it));
            (!is_there).then(|| {
                Finding::error(format!("compute nodes do not reach the internet, and {name} is not fetched yet"))
                    .at(path.span(), "")
                    .help(format!("on the login node: rust-train fetch {}", path.value))
            })
        }))
    },
};

/// Folders that every node has for itself, on any cluster.
const NODE_LOCAL: &[&str] = &["/tmp", "/var/tmp", "/dev/shm", "/run"];

/// Programs that bring files to where they are wanted.
const COPYING: &[&str] = &["cp", "rsync", "tar", "unzip", "scp", "sbcast", "rclone", "zstd", "curl", "wget"];

pub(crate) const O08: Check = Check {
    id: "O08",
    title: "data or results in a folder that each node has for itself",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "/tmp and its like differ from node to node and are emptied behind the job: results there are lost, and data \
                  that was not copied there by the script is not there. A folder that the script itself fills is not \
                  reported. The site file names more of them: node_local.",
    source: "Slurm, job_container/tmpfs; sites' documentation of node-local storage",
    run: |subject| {
        let file = need!(script(subject));
        let is_local = |path: &str| {
            let of_site = subject.site.node_local.iter().map(String::as_str);
            of_site.chain(NODE_LOCAL.iter().copied()).any(|local| {
                path.strip_prefix(local.trim_end_matches('/'))
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        // What is copied from there, or to there, is looked after.
        let is_copied = |path: &str| {
            file.commands.iter().any(|command| {
                let mut words = command.words.iter().filter_map(Argument::known);
                let copies = words.clone().any(|word| COPYING.contains(&word.rsplit('/').next().unwrap_or(word)));
                copies
                    && words.any(|word| {
                        word.starts_with(path) || path.starts_with(word.trim_end_matches('/')) && is_local(word)
                    })
            })
        };
        let local = subject.training.paths.iter().filter(|(_, path)| is_local(&path.value) && !is_copied(&path.value));
        Outcome::of(local.filter_map(|(purpose, path)| {
            let what = match purpose {
                PathUse::Output => "the results are lost when the job ends",
                PathUse::Data if subject.first_layout().placement.nodes.least() > 1 => {
                    "the other nodes have other files there"
                }
                PathUse::Data | PathUse::Weights => "the compute node has other files there than this one",
                PathUse::Cache => return None, // made there, by each node
            };
            Some(
                Finding::error(format!("'{}' is a folder that each node has for itself: {what}", path.value))
                    .at(path.span(), "")
                    .help("use a shared file system, or copy in the script"),
            )
        }))
    },
};

pub(crate) const O09: Check = Check {
    id: "O09",
    title: "little space for checkpoints",
    severity: Severity::Warning,
    tier: Tier::Login,
    explanation: "A checkpoint is written beside the old one before it takes its place, and the best one is kept: the folder of \
                  results needs room for three, weights and optimizer states.",
    source: "rust-train, checkpoint.rs: unique temporary name, fsync, rename",
    run: |subject| {
        let login = need!(subject.login(), Tier::Login.how());
        let training = &subject.training;
        let model = need!(training.model.as_ref(), "the model is not given (--model)");
        let output = training.paths.iter().find(|(purpose, _)| *purpose == PathUse::Output);
        let (_, output) = need!(output, "the script names no folder of results");
        let Some(free) = login.paths.get(&output.value).and_then(|path| path.free_bytes) else {
            return Outcome::unknown("the free space cannot be read");
        };
        let Ok(estimate) = estimate(&super::memory::recipe(training, &model.value), 1) else {
            return Outcome::unknown("the size of a checkpoint is not known");
        };
        let needed = 3 * estimate.checkpoint;
        if free >= needed {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning(format!(
            "{} are free, and three checkpoints take {}",
            Bytes(free),
            Bytes(needed)
        ))
        .at(output.span(), "")])
    },
};

pub(crate) const O10: Check = Check {
    id: "O10",
    title: "results cannot be written, or not all ranks see them",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "The folder of results must be writable before hours of training, and the same one for all ranks, so that a \
                  job resumes on other nodes. --probe lets every rank look for a file that rank 0 makes there.",
    source: "access(2)",
    run: |subject| {
        let output = subject.training.paths.iter().find(|(purpose, _)| *purpose == PathUse::Output);
        let (_, output) = need!(output, "the script names no folder of results");
        if let Some(ranks) = subject.ranks() {
            let blind: Vec<_> = ranks
                .iter()
                .filter(|rank| rank.sees_checkpoint_probe == Some(false))
                .map(|rank| rank.rank.to_string())
                .collect();
            if !blind.is_empty() {
                return Outcome::of([Finding::error(format!(
                    "what rank 0 writes to '{1}' is not seen by rank {0}",
                    blind.join(", "),
                    output.value
                ))
                .at(output.span(), "not shared")]);
            }
        }
        let known = subject.login().and_then(|login| login.paths.get(&output.value));
        let Some(known) = known else { return Outcome::unknown("whether the folder can be written is not known") };
        if known.writable {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!("'{}' cannot be written", output.value)).at(output.span(), "")])
    },
};

pub(crate) const O11: Check = Check {
    id: "O11",
    title: "a recipe that cannot be read",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "rust-train --config reads the flags of a run from a file, or from a recipe inside the program. A file that is \
                  not there, or is not TOML, ends the job in its first second. A relative path starts where the job is \
                  submitted, or at --chdir.",
    source: "rust-train --config; docs/recipes.md",
    run: |subject| {
        need!(script(subject));
        match &subject.training.recipe {
            None => Outcome::skip("the script's trainer reads no recipe"),
            Some(Recipe::Read) => Outcome::Pass,
            Some(Recipe::Unknown(why)) => Outcome::unknown(*why),
            Some(Recipe::Unreadable(why)) => {
                Outcome::of([Finding::error(format!("--config {}", why.value)).at(why.span(), "not read")])
            }
        }
    },
};
