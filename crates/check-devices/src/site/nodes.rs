//! The nodes that a job may get, from what sinfo and the site file say of partitions.

use super::Site;
use crate::facts::{Facts, Partition};
use crate::job::Job;

/// The partitions that are known: `sinfo`'s, completed by the site file, or the site file's alone.
pub(crate) fn partitions(site: &Site, facts: &Facts) -> Option<Vec<Partition>> {
    let of_site = &site.partition;
    let of_sinfo = facts.login.as_ref().and_then(|login| login.partitions.as_ref());
    match of_sinfo {
        None if of_site.is_empty() => None,
        None => Some(of_site.clone()),
        Some(of_sinfo) => Some(of_sinfo.iter().map(|partition| completed(partition, of_site)).collect()),
    }
}

fn completed(partition: &Partition, site: &[Partition]) -> Partition {
    let Some(known) = site.iter().find(|known| known.name == partition.name) else { return partition.clone() };
    let mut partition = partition.clone();
    partition.accelerator = known.accelerator.clone();
    partition.driver = known.driver.clone();
    partition.pmi = known.pmi.clone();
    partition.cpu_flags = known.cpu_flags.clone();
    partition.whole_nodes = partition.whole_nodes.or(known.whole_nodes);
    partition.default_memory = partition.default_memory.or_else(|| known.default_memory.clone());
    partition.default_time = partition.default_time.or_else(|| known.default_time.clone());
    partition
}

/// The kinds of nodes that `job` may get: those of the partitions it names, or of the default one.
pub(crate) fn node_kinds(site: &Site, facts: &Facts, job: &Job) -> Option<Vec<Partition>> {
    let all = partitions(site, facts)?;
    let kinds: Vec<_> = match &job.queue {
        Some(named) => {
            let names: Vec<_> = named.value.split(',').map(str::to_owned).collect();
            all.into_iter().filter(|partition| names.contains(&partition.name)).collect()
        }
        None => all.into_iter().filter(|partition| partition.default).collect(),
    };
    (!kinds.is_empty()).then_some(kinds)
}

/// Whether `job` has its nodes for itself: it asks for that, or its partition gives nothing less. `None` where that is not
/// known.
pub(crate) fn whole_nodes(kinds: Option<&[Partition]>, job: &Job) -> Option<bool> {
    if job.whole_nodes {
        return Some(true);
    }
    let said: Option<Vec<_>> = kinds?.iter().map(|kind| kind.whole_nodes).collect();
    let said = said?;
    let first = *said.first()?;
    said.iter().all(|whole| *whole == first).then_some(first)
}
