//! Are the replicas of a model still the same on all ranks? Data-parallel training silently trains different models
//! where they are not: a rank that skipped a step, a collective that was not, memory that flipped a bit.
#![expect(unsafe_code, reason = "calls the shim")]

use std::fmt;

use tch::Tensor;

use crate::ffi::{self, handles, new_tensor};
use crate::host::ReduceOp;
use crate::{ProcessGroup, Result};

/// The first parameter that is not the same on all ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub parameter: String,
    /// The ranks whose values differ from most others'.
    pub ranks: Vec<usize>,
    /// How many parameters differ in all.
    pub parameters: usize,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameter, ranks, parameters } = self;
        let ranks: Vec<_> = ranks.iter().map(ToString::to_string).collect();
        write!(f, "the replicas differ: {parameter} is different on rank {}", ranks.join(", "))?;
        match parameters - 1 {
            0 => Ok(()),
            others => write!(f, " (and {others} more parameters)"),
        }
    }
}

/// Compares `parameters` over all ranks. Two parameters count as equal where the xor of their elements' bits is.
pub(crate) fn compare(parameters: &[(String, Tensor)], group: &ProcessGroup) -> Result<Option<Difference>> {
    if parameters.is_empty() || group.size() == 1 {
        return Ok(None);
    }
    let tensors: Vec<_> = parameters.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
    let handles = handles(&tensors);
    // SAFETY: the handles are of tensors that live during the call.
    let hashes = new_tensor("hashing parameters", |out| unsafe { ffi::te_hash(handles.list(), out) })?;
    // Smallest and largest at once: equal where all are equal. Only then is a table of all ranks asked for.
    let extremes = Tensor::f_cat(&[hashes.f_bitwise_not()?, hashes.shallow_clone()], 0)?;
    group.all_reduce(&extremes, ReduceOp::Max)?;
    let count = hashes.size()[0];
    let (least, most) = (extremes.f_narrow(0, 0, count)?.f_bitwise_not()?, extremes.f_narrow(0, count, count)?);
    if least == most {
        return Ok(None);
    }
    let table = Vec::<i64>::try_from(group.all_gather(&hashes)?.f_view([-1])?)?;
    Ok(find(parameters, &table))
}

/// The first difference in `table`, which has a row of hashes for each rank.
fn find(parameters: &[(String, Tensor)], table: &[i64]) -> Option<Difference> {
    let columns = parameters.len();
    let column = |index: usize| table.iter().skip(index).step_by(columns).copied().collect::<Vec<_>>();
    let differs = |index: &usize| column(*index).windows(2).any(|pair| pair[0] != pair[1]);
    let first = (0..columns).find(differs)?;
    let hashes = column(first);
    let votes = |hash: i64| hashes.iter().filter(|&&other| other == hash).count();
    // Of equally many, rank 0's side counts as the right one.
    let usual = hashes.iter().copied().rev().max_by_key(|&hash| votes(hash))?;
    Some(Difference {
        parameter: parameters[first].0.clone(),
        ranks: (0..hashes.len()).filter(|&rank| hashes[rank] != usual).collect(),
        parameters: (0..columns).filter(differs).count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minority_is_named() {
        let parameters = ["a", "b", "c"].map(|name| (name.to_owned(), Tensor::new()));
        let difference = |table: &[i64]| find(&parameters, table).map(|difference| difference.to_string());
        assert_eq!(difference(&[1, 2, 3, 1, 2, 3]), None);
        let two = "the replicas differ: b is different on rank 1 (and 1 more parameters)";
        assert_eq!(difference(&[1, 2, 3, 1, 7, 8]).unwrap(), two);
        let three = "the replicas differ: c is different on rank 0";
        assert_eq!(difference(&[1, 2, 9, 1, 2, 3, 1, 2, 3]).unwrap(), three);
    }
}
