//! The optimizer: built as the plan says; the schedule of its learning rate; the moving average of what it makes.

pub(crate) mod average;
pub(crate) mod schedule;

use std::collections::{BTreeMap, HashMap};

use flags::OptimizationArgs;
use tch::Tensor;
use torch_ext::ProcessGroup;
use torch_ext::optim::{Algorithm, Optimizer, ParameterGroup};

use crate::config::plan::Plan;
use crate::model::{Model, trained};

/// The optimizer of what is trained of `model` at present, its state spread over the ranks of `group` where the plan wants
/// that.
pub(crate) fn build(plan: &Plan, model: &dyn Model, group: &ProcessGroup) -> torch_ext::Result<Optimizer> {
    let args = &plan.flags.optimization;
    let algorithm = Algorithm::named(&args.optimizer.name(), args.momentum, plan.training.nesterov);
    let algorithm = algorithm.expect("each optimizer of the command line has a rule: a test looks");
    let groups = by_rate(args, model).into_iter().flat_map(|(scale, parameters)| {
        let groups = if args.no_norm_decay {
            ParameterGroup::without_decay_on_vectors(parameters, args.weight_decay)
        } else {
            ParameterGroup::all(parameters, args.weight_decay)
        };
        groups.into_iter().map(move |group| ParameterGroup { lr_scale: scale, ..group })
    });
    let matrices = if matches!(algorithm, Algorithm::Muon { .. }) { Some(model.matrices()) } else { None };
    let groups = groups.flat_map(|group| match &matrices {
        Some(matrices) => by_muon(group, matrices),
        None => vec![group],
    });
    let groups = groups.filter(|group| !group.parameters.is_empty()).collect();
    if plan.flags.zero { Optimizer::sharded(groups, algorithm, group) } else { Optimizer::new(groups, algorithm) }
}

/// What is trained of `model`, by the multiple of the learning rate that it learns at: from the input to the head.
fn by_rate(args: &OptimizationArgs, model: &dyn Model) -> Vec<(f64, Vec<(String, Tensor)>)> {
    let head = model.head();
    let (of_head, of_backbone): (Vec<_>, Vec<_>) =
        trained(model).into_iter().partition(|(name, _)| args.backbone_lr_scale == 1.0 || head.contains(name));
    let parts = [(args.backbone_lr_scale, of_backbone), (1.0, of_head)];
    let Some(decay) = args.layer_decay else { return parts.into() };
    let depths: HashMap<_, _> = model.depths().into_iter().collect();
    let last = depths.values().copied().max().unwrap_or(0);
    let mut groups = Vec::new();
    for (scale, parameters) in parts {
        let mut layers: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for (name, tensor) in parameters {
            let depth = depths.get(&name).copied().unwrap_or(last);
            layers.entry(depth).or_default().push((name, tensor));
        }
        let of_layer = |(depth, layer)| (scale * decay.powi((last - depth) as i32), layer);
        groups.extend(layers.into_iter().map(of_layer));
    }
    groups
}

/// The `matrices` of a group, and the rest, which is AdamW's.
fn by_muon(group: ParameterGroup, matrices: &[String]) -> Vec<ParameterGroup> {
    let ParameterGroup { parameters, weight_decay, lr_scale, algorithm } = group;
    let (matrices, others) = parameters.into_iter().partition(|(name, _)| matrices.contains(name));
    let group = |parameters, algorithm| ParameterGroup { parameters, weight_decay, lr_scale, algorithm };
    vec![group(matrices, algorithm), group(others, Some(Algorithm::ADAMW))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use architectures::OptimizerMemory;
    use clap::ValueEnum;
    use flags::OptimizerKind;

    #[test]
    fn every_optimizer_of_the_command_line_is_there_and_keeps_what_is_said_of_it() {
        for kind in OptimizerKind::value_variants() {
            for momentum in [0.0, 0.9] {
                let algorithm = Algorithm::named(&kind.name(), momentum, false).expect("a rule of that name");
                let (vector, matrix): (&[_], &[_]) = match kind.memory(momentum) {
                    OptimizerMemory::Stateless => (&[], &[]),
                    OptimizerMemory::Momentum => (&["a"], &["a"]),
                    OptimizerMemory::Moments => (&["a", "b"], &["a", "b"]),
                    OptimizerMemory::RowsAndColumns => (&["a"], &["rows", "columns"]),
                    OptimizerMemory::MomentumOfMatrices => (&["a", "b"], &["a"]),
                };
                // Of these each parameter has one or two numbers.
                let is_small = |name: &str| matches!(name, "mu_product" | "step_weights");
                let kept = |axes| algorithm.moments(axes).iter().filter(|name| !is_small(name)).count();
                assert_eq!((kept(1), kept(2)), (vector.len(), matrix.len()), "{kind:?} with momentum {momentum}");
            }
        }
        assert_eq!(Algorithm::named("sdg", 0.9, false), None);
    }

    #[test]
    fn each_layer_learns_slower_than_the_one_after_it() {
        let network = architectures::architecture("vit_tiny_patch16_224").unwrap().network(10);
        let backbone = backbones::Backbone::new(network, tch::Device::Cpu);
        let of = |line: &str| {
            let cli = flags::Cli::of(format!("rust-train {line}").split_whitespace().map(str::to_owned)).unwrap();
            let groups = by_rate(&cli.train.optimization, &backbone);
            move |name: &str| {
                let of_it = groups.iter().find(|(_, parameters)| parameters.iter().any(|(own, _)| own == name));
                (of_it.unwrap().0 * 1e9).round() / 1e9
            }
        };
        let (decayed, scaled) = (of("--layer-decay 0.5"), of("--layer-decay 0.5 --backbone-lr-scale 0.1"));
        assert_eq!((decayed("heads.head.weight"), decayed("encoder.ln.weight")), (1.0, 1.0));
        let last = "encoder.layers.encoder_layer_11.mlp.0.weight";
        assert_eq!((decayed(last), decayed("conv_proj.weight")), (0.5, 0.000_122_07));
        assert_eq!((scaled("heads.head.weight"), scaled(last)), (1.0, 0.05));
        assert_eq!(of("")(last), 1.0);
    }

    #[test]
    fn muon_makes_orthogonal_what_lies_between_layers_and_nothing_else() {
        let network = architectures::architecture("vit_tiny_patch16_224").unwrap().network(10);
        let backbone = backbones::Backbone::new(network, tch::Device::Cpu);
        let all = ParameterGroup::all(backbone.trained(), 0.1).remove(0);
        let groups = by_muon(all, &Model::matrices(&backbone));
        let names = |group: &ParameterGroup| group.parameters.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(groups[0].parameters.len(), 1 + 12 * 4, "{:?}", names(&groups[0]));
        assert!(groups[0].parameters.iter().all(|(_, tensor)| tensor.dim() >= 2));
        let others = names(&groups[1]);
        assert!(
            ["class_token", "encoder.pos_embedding", "heads.head.weight"]
                .iter()
                .all(|name| others.contains(&(*name).into()))
        );
        assert_eq!((groups[0].algorithm, groups[1].algorithm), (None, Some(Algorithm::ADAMW)));
    }
}
