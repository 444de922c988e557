//! The model that a run learns from (`--teacher`): loaded as `eval` would, held against the run's data before anything is built.

use model_card::CLASSIFICATION;
use torch_ext::set_memory_format;

use crate::commands::inference::Loaded;
use crate::config::plan::Plan;
use crate::config::preprocessing::Preprocessing;
use crate::data::listing::Listed;
use crate::errors::{agree, usage};
use crate::model::numerics::Numerics;
use crate::model::teacher::Teacher;
use crate::run::bits;
use crate::trainer::job::Job;

/// What the flags of a teacher are called where a verb about weights has others.
const FLAGS: [(&str, &str); 3] =
    [("--weights", "--teacher"), ("--pretrained", "--teacher-model"), ("--model", "--teacher-model")];

/// A teacher that fits the data, as far as these are known when they are listed.
pub(crate) struct LoadedTeacher {
    teacher: Teacher,
    preprocessing: Preprocessing,
    /// What tells it from another one.
    pub(crate) digest: String,
}

impl LoadedTeacher {
    /// Loads the teacher of the plan, if it has one, for data of which so much is known. Collective.
    pub(crate) fn load(job: &Job<'_>, listed: &Listed) -> anyhow::Result<Option<Self>> {
        let Job { world, plan, device, .. } = *job;
        let Some(how) = plan.distillation.clone().filter(|_| !plan.flags.eval_only) else { return Ok(None) };
        let loaded = Loaded::new(world, None, &how.teacher, device).map_err(in_own_words)?;
        let classes = agree(world, classes(plan, &loaded, listed))?;
        let (training, preprocessing) = (&plan.training, loaded.preprocessing);
        let numerics = Numerics { device, precision: training.precision, memory_format: training.memory_format };
        let tensors: Vec<_> = loaded.backbone.state().into_iter().map(|(_, tensor)| tensor).collect();
        agree(world, set_memory_format(&tensors, numerics.memory_format).map_err(Into::into))?;
        let teacher = Teacher::new(&loaded.backbone, numerics, classes.columns(), how);
        if world.rank() == 0 {
            let source = plan.flags.distillation.teacher.as_deref().unwrap_or("torchvision's weights");
            log::info!("the teacher is {} of {source}", loaded.card.network);
            if matches!(classes, Classes::InOrder) {
                log::warn!(
                    "the teacher and the data do not both name their classes: they are taken to be in the same order"
                );
            }
        }
        let state = loaded.backbone.state();
        let digest = bits::digest(state.iter().map(|(name, tensor)| (name.clone(), tensor)));
        Ok(Some(Self { teacher, preprocessing, digest }))
    }

    /// The teacher of a run whose images the `plan` knows by now.
    pub(crate) fn of_images(self, plan: &Plan) -> anyhow::Result<Teacher> {
        let Self { teacher, preprocessing, .. } = self;
        let evaluation = &plan.images.evaluation;
        let unit = |decoding: dataset::Decoding| {
            decoding.numbers.map(|numbers| (numbers.type_name().to_owned(), numbers.scale, numbers.offset))
        };
        if unit(preprocessing.decoding) != unit(evaluation.decoding) {
            return Err(usage("--teacher: it was trained on images of other numbers than those of --data"));
        }
        Ok(teacher.of_images(&evaluation.normalization, &preprocessing.normalization))
    }
}

/// An error about weights, with the names that a teacher's flags have.
fn in_own_words(mut error: anyhow::Error) -> anyhow::Error {
    if let Some(world::Error::Agreed(verdict)) = error.downcast_mut() {
        let message = &mut verdict.failure.message;
        for (other, own) in FLAGS {
            let parts: Vec<_> = message.split(other).collect();
            // Of a longer flag it is the beginning alone.
            let joined = parts[1..].iter().fold(parts[0].to_owned(), |joined, part| {
                let flag = if part.starts_with('-') { other } else { own };
                joined + flag + part
            });
            *message = joined;
        }
    }
    error
}

/// Which outputs of a teacher are the classes of the data.
enum Classes {
    /// All, of the same names.
    Same,
    /// As many, of which nobody knows the names.
    InOrder,
    /// These.
    Columns(Vec<i64>),
}

impl Classes {
    fn columns(&self) -> Option<&[i64]> {
        match self {
            Self::Same | Self::InOrder => None,
            Self::Columns(columns) => Some(columns),
        }
    }
}

/// Holds the teacher against what is known of the data.
fn classes(plan: &Plan, loaded: &Loaded, listed: &Listed) -> anyhow::Result<Classes> {
    let network = loaded.backbone.network();
    if loaded.card.task != CLASSIFICATION {
        return Err(usage(format!("--teacher: was trained to {}, and tells no classes apart", loaded.card.task)));
    }
    let (own, given) = (network.channels(), listed.channels);
    if own != given {
        return Err(usage(format!("--teacher: knows images of {own} channels, and those of --data have {given}")));
    }
    let sizes = plan.progressive_resize.map(|resize| resize.first).into_iter().chain([plan.images.image_size]);
    for size in sizes {
        network
            .shapes(size, size)
            .map_err(|error| usage(format!("--teacher: cannot see images of {size}×{size} pixels: {error}")))?;
    }
    let (known, wanted) = (&loaded.card.classes, &listed.classes);
    let is_named = |names: &[String]| names.iter().enumerate().any(|(index, name)| *name != index.to_string());
    if is_named(known) && is_named(wanted) {
        if known == wanted {
            return Ok(Classes::Same);
        }
        let find = |name: &String| known.iter().position(|known| known == name).map(|column| column as i64);
        let columns: Option<Vec<i64>> = wanted.iter().map(find).collect();
        return columns.map(Classes::Columns).ok_or_else(|| {
            let missing = wanted.iter().find(|name| find(name).is_none()).map_or("", String::as_str);
            usage(format!("--teacher: does not know the class '{missing}' of --data; it knows {}", some(known)))
        });
    }
    if network.classes() != wanted.len() {
        return Err(usage(format!(
            "--teacher: tells {} classes apart, --data has {}, and names that say which is which are missing",
            network.classes(),
            wanted.len()
        )));
    }
    Ok(Classes::InOrder)
}

/// The first few names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    names[..names.len().min(SHOWN)].join(", ") + &more
}
