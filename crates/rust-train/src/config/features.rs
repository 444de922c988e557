//! What is made of a network's features in the place of training: a linear probe, nearest neighbours.

use flags::{ClassWeights, LossKind, TaskKind, TrainArgs};

use crate::errors::usage;

/// Refuses flags that do not go with `--linear-probe`, or with `--knn`; `is_own_task`: the program has a task of its own.
pub(super) fn refuse_flags(cli: &TrainArgs, is_own_task: bool) -> anyhow::Result<()> {
    linear_probe(cli)?;
    knn(cli)?;
    let flag = match cli.knn {
        Some(_) => "--knn",
        None if cli.linear_probe => "--linear-probe",
        None => return Ok(()),
    };
    if is_own_task || cli.task.task != TaskKind::Classify {
        return Err(usage(format!("{flag}: is for --task classify; leave it out")));
    }
    Ok(())
}

fn linear_probe(cli: &TrainArgs) -> anyhow::Result<()> {
    if !cli.linear_probe {
        return match cli.probe_penalty {
            Some(penalty) => Err(usage(format!("--probe-penalty {penalty}: is for --linear-probe"))),
            None => Ok(()),
        };
    }
    if cli.weights.is_none() && !cli.pretrained {
        return Err(usage("--linear-probe: of which weights? Name them with --weights or --pretrained"));
    }
    if let Some(penalty) = cli.probe_penalty.filter(|penalty| !(penalty.is_finite() && *penalty > 0.0)) {
        return Err(usage(format!("--probe-penalty {penalty}: must be a number above 0")));
    }
    let (optimization, mix) = (&cli.optimization, &cli.augmentation);
    let without_meaning = [
        ("--eval-only", cli.eval_only),
        ("--freeze-epochs", cli.freeze_epochs.is_some()),
        ("--teacher", cli.distillation.teacher.is_some() || cli.distillation.teacher_model.is_some()),
        ("--loss bce", cli.task.loss == Some(LossKind::Bce)),
        ("--label-smoothing", optimization.label_smoothing != 0.0),
        ("--class-weights balanced", optimization.class_weights == ClassWeights::Balanced),
        ("--ema", optimization.ema.is_some()),
        ("--swa", optimization.swa.is_some()),
        ("--mixup", mix.mixup != 0.0),
        ("--cutmix", mix.cutmix != 0.0),
        ("--progressive-resize", cli.augmentation.progressive_resize.is_some()),
        ("--virtual-ranks", cli.virtual_ranks.is_some()),
        ("--max-steps", cli.max_steps.is_some()),
    ];
    match without_meaning.into_iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(usage(format!("{flag}: a linear probe does not know it; leave it out"))),
        None => Ok(()),
    }
}

fn knn(cli: &TrainArgs) -> anyhow::Result<()> {
    match cli.knn {
        Some(0) => Err(usage("--knn: must be at least 1")),
        Some(count) if !cli.eval_only => {
            Err(usage(format!("--knn {count}: evaluates, and trains nothing; add --eval-only")))
        }
        Some(count) if cli.virtual_ranks.is_some() => Err(usage(format!(
            "--knn {count}: which of two neighbours is nearer may depend on the number of ranks; leave --virtual-ranks out"
        ))),
        _ => Ok(()),
    }
}
