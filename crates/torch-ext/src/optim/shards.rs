//! ZeRO stage 1: every rank keeps the optimizer's state of its share of the parameters.

use tch::{Kind, Tensor};

use crate::host::ReduceOp;
use crate::{ProcessGroup, Result};

/// Who keeps the state of which parameter.
#[derive(Debug)]
pub(super) struct Shards {
    /// The rank of each parameter, in the order of the groups.
    owners: Vec<usize>,
    group: ProcessGroup,
}

impl Shards {
    /// Shares out parameters of `sizes` elements.
    pub(super) fn new(sizes: &[usize], group: &ProcessGroup) -> Self {
        Self { owners: share(sizes, group.size()), group: group.clone() }
    }

    pub(super) fn is_mine(&self, index: usize) -> bool {
        self.owners[index] == self.group.rank()
    }

    /// Sends every rank's updated parameters to the others.
    pub(super) fn exchange(&self, parameters: &[Tensor]) -> Result<()> {
        for rank in 0..self.group.size() {
            let theirs: Vec<_> = parameters
                .iter()
                .zip(&self.owners)
                .filter(|(_, owner)| **owner == rank)
                .map(|(p, _)| p.detach())
                .collect();
            self.group.broadcast(&theirs, rank)?;
        }
        Ok(())
    }

    /// The state of parameter `index`, which its owner has (or not yet), on every rank.
    pub(super) fn gather(
        &self,
        index: usize,
        own: Option<&Tensor>,
        empty: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        let there = Tensor::f_full([1], i64::from(own.is_some()), (Kind::Int64, self.group.device()))?;
        self.group.all_reduce(&there, ReduceOp::Max)?;
        if there.f_int64_value(&[0])? == 0 {
            return Ok(None);
        }
        let tensor = own.map_or_else(empty, |own| Ok(own.shallow_clone()))?;
        self.group.broadcast(&[tensor.detach()], self.owners[index])?;
        Ok(Some(tensor))
    }
}

/// Gives each of `sizes` to one of `ranks`, the largest first, always to the rank that has least: no rank gets more than
/// its even share plus one parameter.
fn share(sizes: &[usize], ranks: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..sizes.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(sizes[index])); // stable: the same on every rank
    let mut load = vec![0; ranks];
    let mut owners = vec![0; sizes.len()];
    for index in order {
        let owner = (0..ranks).min_by_key(|&rank| load[rank]).unwrap_or(0);
        owners[index] = owner;
        load[owner] += sizes[index];
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_are_even(sizes in prop::collection::vec(0usize..1000, 0..50), ranks in 1usize..9) {
            let owners = share(&sizes, ranks);
            prop_assert_eq!(owners.len(), sizes.len());
            let mut load = vec![0; ranks];
            owners.iter().zip(&sizes).for_each(|(&owner, size)| load[owner] += size);
            let (even, largest) = (sizes.iter().sum::<usize>() / ranks, sizes.iter().max().copied().unwrap_or(0));
            prop_assert!(load.iter().all(|&load| load <= even + largest));
        }
    }
}
