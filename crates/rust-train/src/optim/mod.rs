//! The optimizer: built as the plan says; the schedule of its learning rate; the moving average of what it makes.

pub(crate) mod ema;
pub(crate) mod schedule;

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
    let head = model.head();
    let (of_head, of_backbone): (Vec<_>, Vec<_>) =
        trained(model).into_iter().partition(|(name, _)| args.backbone_lr_scale == 1.0 || head.contains(name));
    let groups = [(of_backbone, args.backbone_lr_scale), (of_head, 1.0)].into_iter().flat_map(|(parameters, scale)| {
        let groups = if args.no_norm_decay {
            ParameterGroup::without_decay_on_vectors(parameters, args.weight_decay)
        } else {
            ParameterGroup::all(parameters, args.weight_decay)
        };
        groups.into_iter().map(move |group| ParameterGroup { lr_scale: scale, ..group })
    });
    let groups = groups.filter(|group| !group.parameters.is_empty()).collect();
    if plan.flags.zero { Optimizer::sharded(groups, algorithm, group) } else { Optimizer::new(groups, algorithm) }
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
                let kept = match kind.memory(momentum) {
                    OptimizerMemory::Stateless => 0,
                    OptimizerMemory::Momentum => 1,
                    OptimizerMemory::Moments => 2,
                };
                assert_eq!(algorithm.moments().len(), kept, "{kind:?} with momentum {momentum}");
            }
        }
        assert_eq!(Algorithm::named("lion", 0.9, false), None);
    }
}
