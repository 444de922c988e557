//! What was found out about the world outside the script: on the login node, in the allocation, by all ranks. Plain
//! data that is gathered in one place, judged in another, and written to a file and read again in between.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that was gathered.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// On the login node.
    pub login: Option<LoginFacts>,
    /// By a task in the allocation.
    pub allocation: Option<AllocationFacts>,
    /// By every rank.
    pub ranks: Option<Vec<RankFacts>>,
}

/// What a login node knows.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginFacts {
    /// What `sinfo --version` says.
    pub slurm_version: Option<String>,
    /// The partitions, from `sinfo`.
    pub partitions: Option<Vec<Partition>>,
    /// The interfaces to MPI that `srun --mpi=list` has.
    pub mpi_plugins: Option<Vec<String>>,
    /// What `sbatch --test-only` said, if it was asked.
    pub test_only: Option<TestOnly>,
    /// The program that the script starts.
    pub program: Option<ProgramFacts>,
    /// What is known of the paths that the script names.
    pub paths: BTreeMap<String, PathFacts>,
    /// The MPI commands on the PATH, each resolved: `mpirun`, `mpicc`.
    pub mpi_commands: BTreeMap<String, String>,
    /// Names of files in the store of fetched weights.
    pub stored_weights: Option<Vec<String>>,
}

/// One partition, as `sinfo` or a site file describes it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Whether jobs that name none come here.
    pub default: bool,
    /// Whether it takes jobs.
    pub up: Option<bool>,
    /// How many nodes of this kind it has.
    pub nodes: Option<usize>,
    /// CPUs of a node, as Slurm counts them.
    pub cpus: Option<usize>,
    /// Memory of a node in MiB.
    pub memory_mib: Option<u64>,
    /// Generic resources of a node, as Slurm writes them: `gpu:a100:4`.
    pub gres: Option<String>,
    /// Its name for the accelerator in the table of accelerators: `a100-40`.
    pub accelerator: Option<String>,
    /// The longest job, as Slurm writes it.
    pub time_limit: Option<String>,
    /// The time of a job that asks for none, as Slurm writes it.
    pub default_time: Option<String>,
    /// The memory of a job that asks for none: `2G per CPU`, `64G per node`, `all`.
    pub default_memory: Option<String>,
    /// Whether every job has its nodes for itself (OverSubscribe=EXCLUSIVE, SelectType=select/linear).
    pub whole_nodes: Option<bool>,
    /// Features of the nodes.
    pub features: Vec<String>,
    /// Version of the NVIDIA driver.
    pub driver: Option<String>,
    /// Interfaces to MPI: `pmix`, `pmi2`.
    pub pmi: Vec<String>,
    /// Instruction sets of the nodes' CPUs: `avx2`, `avx512f`.
    pub cpu_flags: Vec<String>,
}

/// The answer of `sbatch --test-only`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TestOnly {
    /// Whether the job could be queued.
    pub accepted: bool,
    /// What it said.
    pub message: String,
}

/// An executable and the libraries that it loads.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProgramFacts {
    /// Where it is.
    pub path: String,
    /// The libraries that the loader finds for it, and where.
    pub libraries: BTreeMap<String, String>,
    /// The libraries that it asks for and the loader does not find.
    pub missing_libraries: Vec<String>,
    /// The version that libtorch's folder states.
    pub libtorch_version: Option<String>,
    /// The version that the program was built for.
    pub libtorch_expected: Option<String>,
    /// Whether it opens the MPI that its launcher speaks, whichever of them, instead of being linked with one.
    pub opens_mpi: bool,
    /// Instruction sets that the program was built for beyond the x86-64 baseline.
    pub cpu_flags: Vec<String>,
}

/// What is known of a path.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PathFacts {
    /// Whether it is there.
    pub exists: bool,
    /// Whether it is a folder.
    pub is_directory: bool,
    /// Whether this user may write there, or make it.
    pub writable: bool,
    /// The kind of file system: `ext4`, `lustre`, `nfs`, `gpfs`, `tmpfs`…
    pub file_system: Option<String>,
    /// Bytes free.
    pub free_bytes: Option<u64>,
}

/// What one task in the allocation sees.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AllocationFacts {
    /// This node's name.
    pub host: String,
    /// The devices that this task may use, in CUDA's order; `None` where NVML does not answer.
    pub devices: Option<Vec<DeviceFacts>>,
    /// Why NVML does not answer.
    pub nvml_error: Option<String>,
    /// The NVIDIA driver's version.
    pub driver_version: Option<String>,
    /// `CUDA_VISIBLE_DEVICES`.
    pub cuda_visible_devices: Option<String>,
    /// CPUs that this task may run on.
    pub cpus: Option<usize>,
    /// NUMA nodes of those CPUs.
    pub numa_nodes: Vec<usize>,
    /// Size of /dev/shm in bytes.
    pub shared_memory_bytes: Option<u64>,
    /// Most open files (soft limit).
    pub open_files: Option<u64>,
    /// Most locked memory in bytes (soft limit); absent where there is no limit.
    pub locked_memory_bytes: Option<u64>,
    /// Whether the node has InfiniBand or another RDMA network.
    pub has_rdma: Option<bool>,
    /// Network interfaces.
    pub interfaces: Vec<String>,
    /// Variables that matter: NCCL_*, OMP_NUM_THREADS, HDF5_USE_FILE_LOCKING.
    pub environment: BTreeMap<String, String>,
    /// Whether MPI was built with CUDA.
    pub mpi_cuda: Option<bool>,
    /// GPU architectures that libtorch holds code for: `sm_80`.
    pub libtorch_architectures: Vec<String>,
}

/// One device.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceFacts {
    /// NVML's index.
    pub index: usize,
    /// What makes it unique.
    pub uuid: String,
    /// Its model.
    pub name: String,
    /// Compute capability, such as `8.0`.
    pub compute_capability: Option<String>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes free.
    pub free_bytes: Option<u64>,
    /// Processes on it that are not this job's.
    pub foreign_processes: Option<usize>,
    /// Uncorrected memory errors since the last reset.
    pub uncorrected_errors: Option<u64>,
    /// Rows of memory that wait for a reset to be remapped, or failed to be.
    pub row_remap_pending: Option<bool>,
    /// Reasons for which its clock is held down, other than being idle.
    pub throttle_reasons: Vec<String>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// NUMA node.
    pub numa_node: Option<usize>,
    /// Whether MIG slices it.
    pub mig: Option<bool>,
    /// The last Xid error in the kernel's log, if it can be read.
    pub recent_xid: Option<u32>,
    /// Indices of the devices that it reaches directly.
    pub peers: Option<Vec<usize>>,
}

/// What one rank says.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RankFacts {
    /// The rank.
    pub rank: usize,
    /// The rank among those of its node.
    pub local_rank: usize,
    /// All ranks, as MPI sees them.
    pub size: usize,
    /// The ranks on its node.
    pub local_size: usize,
    /// Tasks that the launcher says it started.
    pub launcher_tasks: Option<usize>,
    /// What it sees.
    pub allocation: AllocationFacts,
    /// Milliseconds that the tiny all-reduce took, or what went wrong.
    pub all_reduce: Option<Result<f64, String>>,
    /// Whether this rank sees the file that rank 0 made in the folder of the results.
    pub sees_checkpoint_probe: Option<bool>,
}
