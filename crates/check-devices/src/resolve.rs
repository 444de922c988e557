//! From flags and machine to a layout, and the verdict on it.

use std::fmt;

use anyhow::{Context, ensure};
use layout::{BatchError, BatchLayout, DeviceRequest};

use crate::cli::Cli;

/// A resolved layout, value by value with its origin, and whether it works.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    rows: Vec<(&'static str, String, &'static str)>,
    problems: Vec<String>,
    batch: Result<BatchLayout, BatchError>,
}

const FLAG: &str = "flag";
const DEFAULT: &str = "default";
const MACHINE: &str = "this machine";

/// Resolves the layout; asks the machine (`visible` devices) only for what the flags leave open.
pub(crate) fn resolve(cli: &Cli, visible: impl FnOnce() -> usize) -> anyhow::Result<Report> {
    let device: DeviceRequest = cli.device.parse().context("--device")?;
    ensure!(cli.batch > 0, "--batch: must be at least 1");
    ensure!(cli.nodes > 0, "--nodes: must be at least 1");
    ensure!(cli.accumulation > 0, "--accumulation: must be at least 1");
    ensure!(cli.ranks_per_node != Some(0), "--ranks-per-node: must be at least 1");

    let (present, present_origin) = match (cli.gpus_per_node, &device) {
        (Some(gpus), _) => (gpus, FLAG),
        (None, DeviceRequest::Cpu) => (0, "not asked"),
        (None, _) => (visible(), MACHINE),
    };
    let mut problems = Vec::new();
    let (devices, on_cpu) = match &device {
        DeviceRequest::Cpu => (0, true),
        DeviceRequest::Auto => (present, present == 0),
        DeviceRequest::Cuda => (present, false),
        DeviceRequest::CudaList(indices) => (indices.len(), false),
    };
    if device == DeviceRequest::Cuda && present == 0 {
        problems.push("--device cuda: a node has no CUDA device; use --device cpu, or ask for GPUs".to_owned());
    }
    if let DeviceRequest::CudaList(indices) = &device
        && let Some(index) = indices.iter().find(|&&index| index >= present)
    {
        problems.push(format!("--device {device}: a node has no CUDA device {index} (it has {present})"));
    }
    let (ranks_per_node, ranks_origin) = match cli.ranks_per_node {
        Some(ranks) => (ranks, FLAG),
        None if on_cpu => (1, DEFAULT),
        None => (devices.max(1), "one for each device"),
    };
    if !on_cpu && ranks_per_node > devices {
        problems.push(format!(
            "{ranks_per_node} ranks on a node and {devices} CUDA devices for them; start at most one rank per device, \
             or use --device cpu"
        ));
    }

    let world = cli.nodes.checked_mul(ranks_per_node).context("--nodes × ranks per node is too large")?;
    let batch = BatchLayout::of_global(cli.batch, world, cli.accumulation);
    if let Err(error) = &batch {
        problems.push(format!("--batch: {error}"));
    }
    let origin = |value: usize, default: usize| if value == default { DEFAULT } else { FLAG };
    let rows = vec![
        ("nodes", cli.nodes.to_string(), origin(cli.nodes, 1)),
        ("CUDA devices per node", present.to_string(), present_origin),
        ("device of each rank", if on_cpu { "cpu" } else { "cuda" }.to_owned(), origin(cli.device.len(), 0)),
        ("ranks per node", ranks_per_node.to_string(), ranks_origin),
        ("ranks", world.to_string(), "nodes × ranks per node"),
        ("accumulation", cli.accumulation.to_string(), origin(cli.accumulation, 1)),
        ("batch", cli.batch.to_string(), FLAG),
    ];
    Ok(Report { rows, problems, batch })
}

impl Report {
    /// Whether a job of this layout would start.
    pub(crate) fn fits(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value, origin) in &self.rows {
            writeln!(f, "{name:<22} {value:>8}   ({origin})")?;
        }
        if let Ok(batch) = &self.batch {
            writeln!(f, "{:<22} {:>8}   (batch / ranks / accumulation)", "batch per rank", batch.micro())?;
        }
        for problem in &self.problems {
            writeln!(f, "error: {problem}")?;
        }
        if self.fits() { writeln!(f, "ok") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn report(flags: &str, visible: usize) -> anyhow::Result<Report> {
        let cli = Cli::try_parse_from(std::iter::once("check-devices").chain(flags.split(' '))).unwrap();
        resolve(&cli, || visible)
    }

    #[test]
    fn layouts_and_their_verdicts() {
        let cases = [
            ("--batch 64", 0, Ok(64)),
            ("--batch 64", 4, Ok(16)),
            ("--batch 64 --device cpu --ranks-per-node 8", 4, Ok(8)),
            ("--batch 64 --device 0,1", 4, Ok(32)),
            ("--batch 4096 --nodes 8 --gpus-per-node 4", 0, Ok(128)),
            ("--batch 4096 --nodes 8 --gpus-per-node 4 --accumulation 2", 0, Ok(64)),
            ("--batch 64 --ranks-per-node 3 --device cpu", 0, Err("nearest batches that fit: 63, 66")),
            ("--batch 64 --device 0,9", 4, Err("a node has no CUDA device 9 (it has 4)")),
            ("--batch 64 --device cuda", 0, Err("a node has no CUDA device; use --device cpu")),
            ("--batch 64 --ranks-per-node 8", 4, Err("8 ranks on a node and 4 CUDA devices for them")),
        ];
        for (flags, visible, expected) in cases {
            let report = report(flags, visible).unwrap();
            match expected {
                Ok(micro) => assert_eq!((report.fits(), report.batch.unwrap().micro()), (true, micro), "{flags}"),
                Err(words) => assert!(!report.fits() && report.to_string().contains(words), "{flags}: {report}"),
            }
        }
    }

    #[test]
    fn wrong_usage_is_no_verdict() {
        for (flags, words) in [
            ("--batch 0", "--batch: must be at least 1"),
            ("--batch 1 --nodes 0", "--nodes: must be at least 1"),
            ("--batch 1 --device 0,0", "--device: device 0 is listed twice"),
        ] {
            let error = report(flags, 0).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{error:#}");
        }
    }
}
