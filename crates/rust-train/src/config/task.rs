//! Which flags and networks go with which task.

use architectures::{ARCHITECTURES, Architecture, Tells};
use clap::ValueEnum;
use flags::{ClassWeights, LossKind, TaskKind, TrainArgs};

use super::bounds::below_one;
use super::plan::OwnTask;
use crate::errors::usage;

/// Flags that only make sense where classes are told apart.
pub(super) fn refuse_classification(cli: &TrainArgs, task: OwnTask) -> anyhow::Result<()> {
    let (args, augmentation) = (&cli.optimization, &cli.augmentation);
    let flags = [
        ("--label-smoothing", args.label_smoothing != 0.0),
        ("--class-weights balanced", args.class_weights == ClassWeights::Balanced),
        ("--mixup", augmentation.mixup != 0.0 && !task.takes_mixed_images),
        ("--cutmix", augmentation.cutmix != 0.0 && !task.takes_mixed_images),
    ];
    match flags.into_iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(usage(format!("{flag}: the task of this program does not know it; leave it out"))),
        None => Ok(()),
    }
}

/// Refuses a network that tells something else than the task wants.
pub(super) fn refuse_network(cli: &TrainArgs, architecture: &Architecture) -> anyhow::Result<()> {
    let name = architecture.name;
    match (architecture.tells, cli.task.task) {
        (Tells::Masks, TaskKind::Segment) => Ok(()),
        (Tells::Masks, _) => Err(usage(format!(
            "--model {name}: tells the class of each pixel; it is for --task segment, with masks beside the images"
        ))),
        (_, TaskKind::Segment) => Err(usage(format!(
            "--model {name}: does not tell the class of each pixel; for --task segment there are {}",
            masks_networks().join(", ")
        ))),
        _ => Ok(()),
    }
}

/// The networks that tell the class of each pixel.
fn masks_networks() -> Vec<&'static str> {
    ARCHITECTURES.iter().filter(|known| known.tells == Tells::Masks).map(|known| known.name).collect()
}

/// Refuses what the task does not know.
pub(super) fn refuse_flags(cli: &TrainArgs, is_own: bool) -> anyhow::Result<()> {
    let (kind, loss) = (cli.task.task, cli.task.loss);
    if is_own && (kind != TaskKind::Classify || loss.is_some()) {
        return Err(usage("--task, --loss: this program has a task of its own; leave them out"));
    }
    let name = |kind: TaskKind| kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let losses: &[LossKind] = match kind {
        TaskKind::Classify => &[LossKind::Ce, LossKind::Bce],
        TaskKind::Multilabel => &[LossKind::Bce, LossKind::Asymmetric],
        TaskKind::Regress => &[LossKind::Mse, LossKind::L1, LossKind::Huber],
        TaskKind::Segment => &[LossKind::Ce, LossKind::Dice, LossKind::CeDice],
    };
    if let Some(loss) = loss.filter(|loss| !losses.contains(loss)) {
        let known = losses.iter().filter_map(ValueEnum::to_possible_value).map(|value| value.get_name().to_owned());
        let known: Vec<_> = known.collect();
        let known =
            if known.is_empty() { "it has none to choose".to_owned() } else { format!("it has {}", known.join(", ")) };
        let loss = loss.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        return Err(usage(format!("--loss {loss}: --task {} does not know it; {known}", name(kind))));
    }
    let balanced = cli.optimization.class_weights == ClassWeights::Balanced;
    if kind == TaskKind::Classify {
        return match (loss, cli.optimization.bce_threshold) {
            (Some(LossKind::Bce), _) if balanced => {
                Err(usage("--class-weights balanced: --loss bce of one class an image does not know it; leave it out"))
            }
            (Some(LossKind::Bce), Some(threshold)) => below_one("--bce-threshold", threshold).map(drop),
            (_, Some(threshold)) => Err(usage(format!("--bce-threshold {threshold}: is for --loss bce"))),
            _ => Ok(()),
        };
    }
    if let Some(threshold) = cli.optimization.bce_threshold {
        return Err(usage(format!("--bce-threshold {threshold}: is for --task classify with --loss bce")));
    }
    let is_masks = kind == TaskKind::Segment;
    let flags = [
        ("--label-smoothing", cli.optimization.label_smoothing != 0.0 && !is_masks),
        ("--label-smoothing with --loss dice", cli.optimization.label_smoothing != 0.0 && loss == Some(LossKind::Dice)),
        ("--class-weights balanced", balanced && (kind == TaskKind::Regress || is_masks)),
        ("--class-weights balanced with --loss asymmetric", balanced && loss == Some(LossKind::Asymmetric)),
        ("--balanced", cli.augmentation.balanced),
        ("--mixup", cli.augmentation.mixup != 0.0 && is_masks),
        ("--cutmix", cli.augmentation.cutmix != 0.0 && is_masks),
    ];
    match flags.into_iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(usage(format!("{flag}: --task {} does not know it; leave it out", name(kind)))),
        None => Ok(()),
    }
}
