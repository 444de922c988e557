//! The optimizer: built as the plan says; the schedule of its learning rate; the moving average of what it makes.

pub(crate) mod ema;
pub(crate) mod schedule;

use torch_ext::ProcessGroup;
use torch_ext::optim::{Algorithm, Optimizer, ParameterGroup};

use crate::config::plan::{OptimizerKind, Training};
use crate::model::{Model, trained};

/// The optimizer of what is trained of `model` at present, its state spread over the ranks of `group` where the plan wants
/// that.
pub(crate) fn build(training: &Training, model: &dyn Model, group: &ProcessGroup) -> torch_ext::Result<Optimizer> {
    let Training { momentum, nesterov, weight_decay, .. } = *training;
    let algorithm = match training.optimizer {
        OptimizerKind::Sgd => Algorithm::Sgd { momentum, nesterov },
        OptimizerKind::Adam => Algorithm::ADAM,
        OptimizerKind::AdamW => Algorithm::ADAMW,
        OptimizerKind::Lars => Algorithm::Lars { momentum, trust: 0.001, eps: 1e-8 },
        OptimizerKind::Lamb => Algorithm::LAMB,
    };
    let head = model.head();
    let (of_head, of_backbone): (Vec<_>, Vec<_>) =
        trained(model).into_iter().partition(|(name, _)| training.backbone_lr_scale == 1.0 || head.contains(name));
    let groups =
        [(of_backbone, training.backbone_lr_scale), (of_head, 1.0)].into_iter().flat_map(|(parameters, scale)| {
            let groups = if training.decay_vectors {
                ParameterGroup::all(parameters, weight_decay)
            } else {
                ParameterGroup::without_decay_on_vectors(parameters, weight_decay)
            };
            groups.into_iter().map(move |group| ParameterGroup { lr_scale: scale, ..group })
        });
    let groups = groups.filter(|group| !group.parameters.is_empty()).collect();
    if training.zero { Optimizer::sharded(groups, algorithm, group) } else { Optimizer::new(groups, algorithm) }
}
