//! What a run learns from another model.

use architectures::architecture;
use flags::{DistillationKind, ModelArgs, TaskKind, TrainArgs};

use crate::errors::usage;

/// How much of what a teacher says is learned.
#[derive(Clone, Debug)]
pub(crate) struct Distillation {
    pub kind: DistillationKind,
    /// The teacher's share in the loss, above 0 and at most 1.
    pub alpha: f64,
    /// What logits are divided by, above 0.
    pub temperature: f64,
    /// Which model it is.
    pub teacher: ModelArgs,
}

impl Distillation {
    /// Validates the flags; `is_own_task`: the program has a task of its own.
    pub(super) fn new(cli: &TrainArgs, is_own_task: bool) -> anyhow::Result<Option<Self>> {
        let args = &cli.distillation;
        let flags = [
            ("--distillation", args.distillation.is_some()),
            ("--distillation-alpha", args.distillation_alpha.is_some()),
            ("--distillation-temperature", args.distillation_temperature.is_some()),
        ];
        let source = match (&args.teacher, &args.teacher_model) {
            (Some(source), _) | (None, Some(source)) => source,
            (None, None) => {
                return match flags.into_iter().find(|(_, is_given)| *is_given) {
                    Some((flag, _)) => Err(usage(format!("{flag}: of which model? Name it with --teacher"))),
                    None => Ok(None),
                };
            }
        };
        if is_own_task || cli.task.task != TaskKind::Classify {
            return Err(usage(format!("--teacher {source}: is for --task classify; leave it out")));
        }
        if let Some(name) = &args.teacher_model {
            architecture(name).map_err(|error| usage(format!("--teacher-model: {error}")))?;
        }
        let kind = args.distillation.unwrap_or(DistillationKind::Soft);
        let alpha = args.distillation_alpha.unwrap_or(0.5);
        if !(alpha > 0.0 && alpha <= 1.0) {
            return Err(usage(format!("--distillation-alpha {alpha}: must be above 0 and at most 1")));
        }
        let temperature = match (kind, args.distillation_temperature) {
            (DistillationKind::Hard, Some(temperature)) => {
                return Err(usage(format!(
                    "--distillation-temperature {temperature}: is for --distillation soft; the likeliest class is the same at any"
                )));
            }
            (_, temperature) => temperature.unwrap_or(1.0),
        };
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(usage(format!("--distillation-temperature {temperature}: must be a number above 0")));
        }
        let teacher = ModelArgs {
            model: args.teacher_model.clone(),
            weights: args.teacher.clone(),
            weights_sha256: None,
            weights_key: None,
            weights_prefix: None,
            pretrained: args.teacher.is_none(),
            images: Default::default(),
            classes: None,
            store: cli.store.clone(),
            timeout: cli.timeout,
        };
        Ok(Some(Self { kind, alpha, temperature, teacher }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flags::Cli;

    fn of(flags: &str) -> anyhow::Result<Option<Distillation>> {
        let arguments = std::iter::once("rust-train").chain(flags.split_whitespace());
        Distillation::new(&Cli::of(arguments).unwrap().train, false)
    }

    #[test]
    fn what_is_not_said_is_what_papers_begin_with() {
        assert!(of("").unwrap().is_none());
        let told =
            |flags: &str| of(flags).unwrap().map(|it| (it.kind, it.alpha, it.temperature, it.teacher.pretrained));
        assert_eq!(told("--teacher run"), Some((DistillationKind::Soft, 0.5, 1.0, false)));
        let all = "--teacher-model resnet18 --distillation-alpha 1 --distillation-temperature 4";
        assert_eq!(told(all), Some((DistillationKind::Soft, 1.0, 4.0, true)));
        assert_eq!(told("--teacher run --distillation hard"), Some((DistillationKind::Hard, 0.5, 1.0, false)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let cases = [
            ("--distillation-alpha 0.1", "--distillation-alpha: of which model? Name it with --teacher"),
            ("--distillation hard", "--distillation: of which model? Name it with --teacher"),
            ("--teacher run --task regress", "--teacher run: is for --task classify; leave it out"),
            ("--teacher-model resnet19", "--teacher-model: no model is called 'resnet19'"),
            ("--teacher run --distillation-alpha 0", "--distillation-alpha 0: must be above 0 and at most 1"),
            ("--teacher run --distillation-alpha nan", "--distillation-alpha NaN: must be above 0 and at most 1"),
            ("--teacher run --distillation-temperature 0", "--distillation-temperature 0: must be a number above 0"),
            (
                "--teacher run --distillation hard --distillation-temperature 2",
                "--distillation-temperature 2: is for --distillation soft",
            ),
        ];
        for (flags, expected) in cases {
            let error = of(flags).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{flags}: {error}");
        }
    }
}
