//! Which numbers of GPUs work, and what each comes to.

use anyhow::{bail, ensure};
use serde::Serialize;

use super::scaling::Model;
use crate::cli::PlanArgs;
use crate::memory::Estimate;

/// One layout that works.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) nodes: usize,
    pub(super) ranks: usize,
    pub(super) micro_batch: usize,
    pub(super) accumulation: usize,
    /// Bytes by the high estimate, over the accelerator's memory.
    pub(super) memory_share: Option<f64>,
    /// Computing over the whole step.
    pub(super) efficiency: Option<f64>,
    /// Samples a second over all ranks.
    pub(super) samples_per_second: Option<f64>,
}

/// All layouts that work, thinned out to what is shown, and how many there are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Plan {
    pub(super) rows: Vec<Row>,
    pub(super) working: usize,
    pub(super) tried: usize,
}

/// Most GPUs that are tried.
const MOST_GPUS: usize = 1 << 20;

/// `64`, `8..512` (both ends count), `8,16,64`.
pub(super) fn gpu_counts(text: &str) -> anyhow::Result<Vec<usize>> {
    let number = |text: &str| -> anyhow::Result<usize> {
        let Ok(number) = text.trim().parse() else { bail!("'{text}' is not a number: use 64, 8..512 or 8,16,64") };
        ensure!((1..=MOST_GPUS).contains(&number), "'{text}' is not between 1 and {MOST_GPUS}");
        Ok(number)
    };
    if let Some((first, last)) = text.split_once("..") {
        let (first, last) = (number(first)?, number(last.trim_start_matches('='))?);
        ensure!(first <= last, "'{text}' ends before it begins");
        return Ok((first..=last).collect());
    }
    let mut counts: Vec<_> = text.split(',').map(number).collect::<anyhow::Result<_>>()?;
    counts.sort_unstable();
    counts.dedup();
    Ok(counts)
}

pub(super) fn plan(
    args: &PlanArgs,
    gpus: &[usize],
    estimate: Option<&Estimate>,
    memory_bytes: Option<u64>,
    model: &Model,
) -> Plan {
    let row = |&ranks: &usize| row(args, ranks, estimate, memory_bytes, model);
    let rows: Vec<_> = gpus.iter().filter_map(row).collect();
    let working = rows.len();
    let share = |row: &Row| {
        let needed = estimate?.on(row.ranks).total(row.micro_batch).high;
        Some(needed as f64 / memory_bytes? as f64)
    };
    let mut rows = thinned(rows, args.rows);
    for row in &mut rows {
        row.memory_share = share(row);
    }
    Plan { working, tried: gpus.len(), rows }
}

/// The layout on `ranks` GPUs with the least accumulation that fits into memory; `None` where there is none.
fn row(
    args: &PlanArgs,
    ranks: usize,
    estimate: Option<&Estimate>,
    memory_bytes: Option<u64>,
    model: &Model,
) -> Option<Row> {
    // Nodes are full, or there is one.
    if ranks > args.gpus_per_node && !ranks.is_multiple_of(args.gpus_per_node) {
        return None;
    }
    if !args.batch.is_multiple_of(ranks) {
        return None;
    }
    let of_rank = args.batch / ranks;
    let estimate = estimate.map(|estimate| estimate.on(ranks));
    let estimate = estimate.as_ref();
    let accumulation = (1..=args.max_accumulation.min(of_rank)).find(|&accumulation| {
        let fits = |estimate: &Estimate, memory: u64| estimate.fits(of_rank / accumulation, memory);
        of_rank.is_multiple_of(accumulation)
            && estimate.zip(memory_bytes).is_none_or(|(estimate, memory)| fits(estimate, memory))
    })?;
    let micro_batch = of_rank / accumulation;
    let efficiency =
        estimate.map(|estimate| model.efficiency(ranks, micro_batch, accumulation, estimate.macs, estimate.parameters));
    let samples_per_second = estimate.zip(efficiency).map(|(estimate, efficiency)| {
        model.flops_per_second / (6.0 * estimate.macs as f64) * ranks as f64 * efficiency
    });
    Some(Row {
        nodes: ranks.div_ceil(args.gpus_per_node),
        ranks,
        micro_batch,
        accumulation,
        memory_share: None, // of those that are shown
        efficiency,
        samples_per_second,
    })
}

/// At most `count` rows, spread over all of them, the first and the last among them.
fn thinned(rows: Vec<Row>, count: usize) -> Vec<Row> {
    if rows.len() <= count {
        return rows;
    }
    if count == 1 {
        return rows.into_iter().next_back().into_iter().collect();
    }
    let last = rows.len() - 1;
    let chosen: Vec<_> = (0..count).map(|index| index * last / (count - 1)).collect();
    rows.into_iter().enumerate().filter(|(index, _)| chosen.contains(index)).map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn numbers_of_gpus() {
        assert_eq!(gpu_counts("8..11").unwrap(), [8, 9, 10, 11]);
        assert_eq!(gpu_counts("64,8,8").unwrap(), [8, 64]);
        for (text, words) in
            [("8..4", "ends before"), ("x", "is not a number"), ("0", "not between"), ("", "is not a number")]
        {
            let error = gpu_counts(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_row_makes_up_the_batch(batch in 1usize..10_000, gpus_per_node in 1usize..9, last in 1usize..600) {
            let line = format!("check-devices plan --batch {batch} --gpus 1..{last} --gpus-per-node {gpus_per_node} --rows 9999");
            let Some(Command::Plan(args)) = Cli::try_parse_from(line.split(' ')).unwrap().command else { unreachable!() };
            let model = Model { gpus_per_node, bytes_per_second: 1e9, latency_seconds: 1e-5, flops_per_second: 1e12 };
            let plan = plan(&args, &gpu_counts(&args.gpus).unwrap(), None, None, &model);
            prop_assert!(!plan.rows.is_empty()); // one GPU always works
            for row in plan.rows {
                prop_assert_eq!(row.micro_batch * row.accumulation * row.ranks, batch);
                prop_assert!(row.nodes * gpus_per_node >= row.ranks);
            }
        }
    }
}
