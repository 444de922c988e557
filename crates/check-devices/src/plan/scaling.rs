//! A stated model of communication, to compare layouts with: a ring all-reduce, partly hidden behind backward.

/// What the machines can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Model {
    pub(super) gpus_per_node: usize,
    /// Bandwidth of an all-reduce between nodes, for each GPU.
    pub(super) bytes_per_second: f64,
    /// What a message costs however small it is.
    pub(super) latency_seconds: f64,
    /// Sustained speed of a device.
    pub(super) flops_per_second: f64,
}

/// Inside a node an all-reduce is so much faster than between nodes (NVLink against one network link for each node).
const INSIDE_A_NODE: f64 = 8.0;

/// What is computed while gradients already travel: backward is two thirds of a step.
const BACKWARD: f64 = 2.0 / 3.0;

impl Model {
    /// The share of a step that is computing: 1 where communication is hidden wholly.
    ///
    /// `macs`: multiply-accumulates of one sample's forward pass; forward and backward together cost three times that,
    /// two FLOPs each. `parameters`: gradients, four bytes each. The all-reduce runs once a step, with the last
    /// micro-batch's backward.
    pub(super) fn efficiency(
        &self,
        ranks: usize,
        micro: usize,
        accumulation: usize,
        macs: u64,
        parameters: u64,
    ) -> f64 {
        let micro_seconds = 6.0 * macs as f64 * micro as f64 / self.flops_per_second;
        let compute = micro_seconds * accumulation as f64;
        let exposed = (self.all_reduce_seconds(ranks, parameters * 4) - BACKWARD * micro_seconds).max(0.0);
        compute / (compute + exposed)
    }

    /// 2·(n−1)/n · bytes / bandwidth + 2·(n−1)·latency, over nodes where there are several, else over a node's ranks.
    pub(super) fn all_reduce_seconds(&self, ranks: usize, bytes: u64) -> f64 {
        let nodes = ranks.div_ceil(self.gpus_per_node);
        let (steps, bandwidth) = match nodes {
            1 => (ranks as f64, self.bytes_per_second * INSIDE_A_NODE),
            // Each GPU of a node carries its part of the gradients between the nodes.
            _ => (nodes as f64, self.bytes_per_second * self.gpus_per_node as f64),
        };
        if ranks < 2 {
            return 0.0;
        }
        2.0 * (steps - 1.0) / steps * bytes as f64 / bandwidth + 2.0 * (steps - 1.0) * self.latency_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: Model =
        Model { gpus_per_node: 4, bytes_per_second: 6.25e9, latency_seconds: 20e-6, flops_per_second: 40e12 };

    #[test]
    fn one_rank_loses_nothing_and_more_micro_batches_lose_less() {
        let (macs, parameters) = (4_089_000_000, 25_557_032);
        assert_eq!(MODEL.efficiency(1, 32, 1, macs, parameters), 1.0);
        let small = MODEL.efficiency(512, 1, 1, macs, parameters);
        let accumulated = MODEL.efficiency(512, 1, 8, macs, parameters);
        let large = MODEL.efficiency(512, 64, 1, macs, parameters);
        assert!(small < accumulated && accumulated < 1.0 && small < large, "{small} {accumulated} {large}");
    }

    /// 102 MB over 128 nodes of a 25 GB/s link: 8.1 ms of transfer and 5.1 ms of latency.
    #[test]
    fn the_ring_costs_what_the_formula_says() {
        let seconds = MODEL.all_reduce_seconds(512, 102_228_128);
        assert!((seconds - 0.01320).abs() < 0.0001, "{seconds}");
    }
}
