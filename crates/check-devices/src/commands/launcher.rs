//! The programs that start ranks.

/// What starts ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launcher {
    /// Slurm's: a task for each of the step's tasks.
    Srun,
    /// `mpirun`, `mpiexec`, `orterun`, `prterun`.
    Mpirun,
    /// `torchrun`, `python -m torch.distributed.run`, `python -m torch.distributed.launch`: several processes a node.
    Torchrun,
    /// `accelerate launch`: several processes a node.
    Accelerate,
    /// `deepspeed`: it goes to the nodes by itself.
    Deepspeed,
}

impl Launcher {
    /// The name as typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Srun => "srun",
            Self::Mpirun => "mpirun",
            Self::Torchrun => "torchrun",
            Self::Accelerate => "accelerate launch",
            Self::Deepspeed => "deepspeed",
        }
    }

    /// Whether it starts a node's ranks itself, so that one task a node must start it.
    pub(crate) fn is_per_node(self) -> bool {
        matches!(self, Self::Torchrun | Self::Accelerate)
    }
}
