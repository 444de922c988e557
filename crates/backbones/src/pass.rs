//! A pass through operations of a network, one after the other.

use architectures::{Network, Node, NodeId, Op};
use tch::Tensor;
use torch_ext::Fused;

use crate::forward::{self, Constants, Mode};

/// What is computed, in which order: follows from the network.
#[derive(Debug)]
pub(crate) struct Order {
    pub network: Network,
    /// What is computed one after the other.
    pub steps: Vec<Step>,
    /// For each node, which of its inputs its value is written over.
    overwritten: Vec<Option<usize>>,
}

/// Operations that are computed in one where that can be: see [`Network::groups`].
#[derive(Debug)]
pub(crate) struct Step {
    pub nodes: Vec<NodeId>,
    /// The nodes whose values nobody takes after this step.
    pub freed: Vec<NodeId>,
}

impl Order {
    pub(crate) fn of(network: Network) -> Self {
        Self { steps: steps(&network), overwritten: network.overwritten(), network }
    }

    /// As [`of`](Self::of), with nothing computed in one.
    #[cfg(test)]
    pub(crate) fn one_by_one(network: Network) -> Self {
        let mut order = Self::of(network);
        let one = |node: NodeId| Step { nodes: vec![node], freed: Vec::new() };
        order.steps = order.steps.iter().flat_map(|step| step.nodes.clone()).map(one).collect();
        order
    }

    /// No value yet of any node.
    pub(crate) fn no_values(&self) -> Values {
        Values(self.network.nodes().iter().map(|_| None).collect())
    }
}

fn steps(network: &Network) -> Vec<Step> {
    let mut steps: Vec<_> = network.groups().into_iter().map(|nodes| Step { nodes, freed: Vec::new() }).collect();
    let mut last_use = vec![None; network.nodes().len()];
    for (index, step) in steps.iter().enumerate() {
        for input in step.nodes.iter().flat_map(|node| &network.nodes()[node.index()].inputs) {
            last_use[input.index()] = Some((*input, index));
        }
    }
    for (node, index) in last_use.into_iter().flatten() {
        steps[index].freed.push(node);
    }
    steps
}

#[cfg(test)]
thread_local! {
    /// Steps that this thread has computed.
    pub(crate) static COMPUTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The values of nodes, while they are needed.
pub(crate) struct Values(Vec<Option<Tensor>>);

impl Values {
    pub(crate) fn set(&mut self, node: usize, value: Tensor) {
        self.0[node] = Some(value);
    }

    pub(crate) fn get(&self, node: usize) -> Tensor {
        self.0[node].as_ref().expect("a value lives until its last use").shallow_clone()
    }

    /// Frees what nobody takes after these steps.
    pub(crate) fn free(&mut self, steps: &[Step]) {
        steps.iter().flat_map(|step| &step.freed).for_each(|node| self.0[node.index()] = None);
    }

    fn of(&self, node: NodeId) -> &Tensor {
        self.0[node.index()].as_ref().expect("a value lives until its last use")
    }
}

/// What an operation is computed with beside its inputs.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    /// Its tensors, in the order of a state dict.
    pub state: &'a [Tensor],
    pub mode: Mode<'a>,
}

/// What the operations of a pass are computed with.
pub(crate) struct Pass<'a, L> {
    pub order: &'a Order,
    pub layer: L,
    pub constants: &'a Constants,
}

impl<'a, L: Fn(NodeId) -> Layer<'a>> Pass<'a, L> {
    /// Computes `steps`, one after the other; `images` are the network's input.
    pub(crate) fn compute(&self, steps: &[Step], values: &mut Values, images: &Tensor) {
        for step in steps {
            #[cfg(test)]
            COMPUTED.set(COMPUTED.get() + 1);
            let nodes = &step.nodes;
            match self.fused(nodes, values) {
                Some(value) => values.set(nodes[nodes.len() - 1].index(), value),
                None => {
                    for &node in nodes {
                        values.set(node.index(), self.one(node, values, images));
                    }
                }
            }
            values.free(std::slice::from_ref(step));
        }
    }

    /// The value of `node`, given those before it.
    fn one(&self, node: NodeId, values: &Values, images: &Tensor) -> Tensor {
        let Node { op, inputs, .. } = &self.order.network.nodes()[node.index()];
        let inputs: Vec<&Tensor> = inputs.iter().map(|&input| values.of(input)).collect();
        match (op, self.order.overwritten[node.index()]) {
            (Op::Input { .. }, _) => images.shallow_clone(),
            (op, Some(place)) => forward::compute_in_place(op, &inputs, place),
            (op, None) => {
                let Layer { state, mode } = (self.layer)(node);
                forward::compute(op, &inputs, state, mode, self.constants)
            }
        }
    }

    /// The value of BatchNorm and what follows it, computed in one; none where that cannot be.
    fn fused(&self, group: &[NodeId], values: &Values) -> Option<Tensor> {
        let [first, after @ ..] = group else { return None };
        let nodes = self.order.network.nodes();
        let Node { op: Op::BatchNorm2d { epsilon, momentum, .. }, inputs, .. } = &nodes[first.index()] else {
            return None;
        };
        let Layer { state, mode } = (self.layer)(*first);
        let together = match mode {
            Mode::Evaluate => return None,
            Mode::Train => None,
            Mode::TrainTogether(sync) => Some(sync),
        };
        let (mut before, mut fused) = (first, Fused { together, ..Fused::NOTHING });
        for node in after {
            match &nodes[node.index()] {
                Node { op: Op::Add, inputs, .. } => {
                    let residual = inputs.iter().find(|input| *input != before);
                    fused.residual = residual.map(|&node| values.of(node));
                }
                Node { op, .. } => fused.activation = forward::activation_of(op)?,
            }
            before = node;
        }
        forward::batch_norm_fused(values.of(inputs[0]), fused, state, *momentum, *epsilon)
    }
}
