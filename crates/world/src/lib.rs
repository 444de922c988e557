//! Who am I, who goes first, how we agree, how we stop: everything that knows MPI.
//!
//! Ranks, local ranks and nodes come from communicators, never from environment variables. Whatever waits for another
//! rank has a time-out, which counts from the last progress that the other [`report`]ed, and names whom it waits for. What
//! fails on one rank is known to all.
//!
//! Nothing here knows torch or images. The only file it ever touches is the probe of [`World::scope_of`].

mod agree;
mod attended;
mod call;
mod channel;
mod collective_matching;
mod device_memory;
mod error;
mod farewell;
mod finalize;
mod launch;
mod lock;
mod mpi_environment;
mod mpi_error;
mod probe;
mod progress;
mod signals;
mod spread;
mod stop;
mod tree_sum;
mod wait;
mod watchdog;
mod zero_first;

use std::time::Duration;

use mpi::{Choice, Communicator};

pub use channel::{Channel, HalfFloat, Reducible};
pub use error::{Error, Failure, Result, Verdict};
pub use launch::LaunchError;
pub use mpi::{Gpu, Launcher, NoLibrary, Reduction, idle_tasks};
pub use panics::{catch as catch_panic, tell_by as tell_panics_by};
pub use progress::{asked_to_stop, report};
pub use signals::{Signal, Signals};
pub use stop::{abort, give_up_waiting};
pub use tree_sum::Summand;
pub use zero_first::{Scope, Turn};

use attended::attended;
use finalize::Finalizer;
use mpi_error::failed;

/// The name and version of the MPI library that this process has opened: "Open MPI v4.1.4, …", one line; empty before
/// [`World::init`].
pub fn mpi_library() -> String {
    mpi::opened().map(mpi::Mpi::version).unwrap_or_default()
}

/// How long ranks wait for each other.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// The longest wait for another rank that says nothing ([`report`]) before it counts as lost.
    pub timeout: Duration,
    /// Which MPI is opened; without it `RUST_TRAIN_MPI` says, else it is found out.
    pub mpi: Option<Choice>,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(600), mpi: None }
    }
}

/// All ranks of the job, as one of them sees it.
///
/// Made once, by [`World::init`], and ended last, by [`World::finalize`]; dropping it finalizes MPI, too, but waits for as
/// long as MPI takes. [`World::first`] makes smaller ones of it.
#[derive(Debug)]
pub struct World {
    control: Channel,
    node_channel: Channel,
    /// The local ranks 0 of all nodes, in node order; `None` on the others.
    leaders_channel: Option<Channel>,
    hosts: Vec<String>,
    /// The rank of this node's local rank 0.
    node_leader: usize,
    node: usize,
    nodes: usize,
    config: WorldConfig,
    _finalizer: Finalizer,
}

impl World {
    /// Initializes MPI and finds out who is where. From here on a panic on any thread ends the whole job. To be called
    /// before threads are started that use environment variables.
    ///
    /// # Errors
    /// [`LaunchError`] where the launcher gave MPI no way to find the other ranks, where it started several tasks and
    /// MPI sees only one, where MPI is too weak in threads, or where MPI was initialized before.
    pub fn init(config: WorldConfig) -> std::result::Result<Self, LaunchError> {
        let choice = match &config.mpi {
            Some(choice) => Some(choice.clone()),
            None => Choice::of(None).map_err(LaunchError::Choice)?,
        };
        let mpi = mpi::open(choice.as_ref()).map_err(Box::new)?;
        launch::refuse_unconnected(mpi)?;
        mpi_environment::ask_for_less();
        match attended("MPI_Init", config.timeout, || mpi.init())
            .map_err(|error| LaunchError::from_world(failed(error)))?
        {
            Some(true) => {}
            Some(false) => return Err(LaunchError::Threads { library: mpi.version() }),
            None => return Err(LaunchError::InitializedBefore),
        }
        let everyone = mpi.world();
        launch::refuse_singletons(mpi, everyone.size())?;

        let host = mpi.processor_name().unwrap_or_else(|| "unknown-host".to_owned());
        stop::install(everyone.rank(), &host);
        let world = Self::of(&everyone, host, config, Finalizer { of_all: true }).map_err(LaunchError::from_world)?;
        world.compare_libraries(&mpi.version()).map_err(LaunchError::from_world)?;
        Ok(world)
    }

    /// Ranks that opened libraries of different releases may get on, or not: that is said.
    fn compare_libraries(&self, own: &str) -> Result<()> {
        let versions = self.control.all_gather_text(own)?;
        if let Some(other) = versions.iter().position(|version| *version != versions[0]).filter(|_| self.rank() == 0) {
            let first_host = self.host_of(0);
            let other_host = self.host_of(other);
            log::warn!(
                "rank 0 on {first_host} has {}, and rank {other} on {other_host} has {}: load the same MPI on all nodes",
                versions[0],
                versions[other]
            );
        }
        Ok(())
    }

    /// A world of this one's first `size` ranks, for work that the others take no part in; `None` on the others.
    /// Collective. It must be dropped before this one.
    ///
    /// # Errors
    /// What MPI reported.
    pub fn first(&self, size: usize) -> Result<Option<Self>> {
        self.control.barrier()?; // names who stays away, which MPI_Comm_split cannot
        let belongs = self.rank() < size;
        let ranks = self.control.communicator().split(belongs).map_err(failed)?;
        let finalizer = || Finalizer { of_all: false };
        ranks.map(|ranks| Self::of(&ranks, self.host().to_owned(), self.config.clone(), finalizer())).transpose()
    }

    /// The ranks of `everyone`, of which this one is on `host`.
    fn of(everyone: &Communicator, host: String, config: WorldConfig, finalizer: Finalizer) -> Result<Self> {
        let channel = |communicator: &Communicator, name| {
            // By number, until the hosts are known.
            let labels = (0..communicator.size()).map(|rank| format!("rank {rank} of channel {name}")).collect();
            Channel::new(communicator, name, config.timeout, labels)
        };
        let (control, node_channel, leaders_channel) = attended("MPI_Comm_split", config.timeout, || {
            let node_communicator = everyone.split_shared().map_err(failed)?;
            let control = channel(everyone, "control")?;
            let node_channel = channel(&node_communicator, "node")?;
            let leaders_communicator = everyone.split(node_channel.rank() == 0).map_err(failed)?;
            let leaders_channel = leaders_communicator.map(|leaders| channel(&leaders, "leaders")).transpose()?;
            Ok((control, node_channel, leaders_channel))
        })?;

        // Nodes are numbered in the order of their lowest ranks.
        let mut leader = [control.rank() as i64];
        node_channel.broadcast(&mut leader, 0)?;
        let mut leaders = control.all_gather(&leader)?;
        let hosts = control.all_gather_text(&host)?;
        let label = |rank: usize| format!("rank {rank} on {}", hosts[rank]);
        control.relabel((0..hosts.len()).map(label).collect());
        let neighbours = leaders.iter().enumerate().filter(|(_, of)| **of == leader[0]).map(|(rank, _)| label(rank));
        node_channel.relabel(neighbours.collect());
        leaders.sort_unstable();
        leaders.dedup();
        if let Some(channel) = &leaders_channel {
            channel.relabel(leaders.iter().map(|&rank| label(rank as usize)).collect());
        }
        let channels = [Some(&control), Some(&node_channel), leaders_channel.as_ref()];
        channels.into_iter().flatten().for_each(Channel::hear_reports);
        let node = leaders.binary_search(&leader[0]).unwrap_or(0);
        Ok(Self {
            control,
            node_channel,
            leaders_channel,
            hosts,
            node_leader: leader[0] as usize,
            node,
            nodes: leaders.len(),
            config,
            _finalizer: finalizer,
        })
    }

    /// This rank, from 0.
    pub fn rank(&self) -> usize {
        self.control.rank()
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.control.size()
    }

    /// This rank among those of its node, from 0.
    pub fn local_rank(&self) -> usize {
        self.node_channel.rank()
    }

    /// The number of ranks on this node.
    pub fn local_size(&self) -> usize {
        self.node_channel.size()
    }

    /// This node, from 0, in the order of the nodes' lowest ranks.
    pub fn node(&self) -> usize {
        self.node
    }

    /// The number of nodes: groups of ranks that share memory.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// This node's name.
    pub fn host(&self) -> &str {
        &self.hosts[self.rank()]
    }

    /// The name of the node that `rank` runs on.
    pub fn host_of(&self, rank: usize) -> &str {
        &self.hosts[rank]
    }

    /// The channel of all ranks, for small collective decisions.
    pub fn control(&self) -> &Channel {
        &self.control
    }

    /// The channel of this node's ranks.
    pub fn node_channel(&self) -> &Channel {
        &self.node_channel
    }

    /// A new channel of all ranks, for the use of one thread. Collective. It must be dropped before the world.
    ///
    /// # Errors
    /// What MPI reported.
    pub fn channel(&self, name: &'static str) -> Result<Channel> {
        self.control.duplicate(name, self.config.timeout)
    }

    /// Ends the whole job now: prints `message` with this rank and host, and aborts all ranks with `exit_code`.
    pub fn abort(&self, message: &str, exit_code: u8) -> ! {
        abort(message, exit_code.into())
    }
}
