//! The model card of weights: made of a run's plan, and read from the files that others wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model_card::{CLASSIFICATION, KEY, MaskNumbers, ModelCard, of_timm_config};

use crate::config::images::{Images, Source};
use crate::config::plan::Plan;
use crate::config::recipe::{self, Recipe};
use crate::errors::usage;
use crate::task::Task;

/// What must be known of the weights of a run of this plan, whose task tells `classes` apart.
pub(crate) fn of_plan(plan: &Plan, task: &dyn Task, classes: &[String]) -> ModelCard {
    let classes = if task.outputs().is_none() { classes.to_vec() } else { Vec::new() };
    let mut card = ModelCard::new(task.name(), &plan.flags.model, classes, plan.images.evaluation.card());
    card.targets = task.units();
    let values = plan.images.masks.as_ref().and_then(|masks| masks.values.as_ref());
    card.masks = values.map(|values| MaskNumbers { values: values.values().to_vec(), ignored: values.ignored() });
    card.plan = recipe::portable(plan.mathematics());
    card.versions = BTreeMap::from([
        ("rust-train".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("libtorch".to_owned(), torch_ext::version()),
    ]);
    card
}

/// The card of the weights in the file `path`, whose own metadata are these; `None` where they have none.
///
/// # Errors
/// A card that is broken, or newer than this program.
pub(crate) fn of_file(path: &Path, metadata: &BTreeMap<String, String>) -> anyhow::Result<Option<ModelCard>> {
    let refused = |path: &Path, error| usage(format!("{}: {error}", path.display()));
    if let Some(text) = metadata.get(KEY) {
        return ModelCard::parse(text).map(Some).map_err(|error| refused(path, error));
    }
    let beside = beside(path);
    match std::fs::read_to_string(&beside) {
        Ok(text) => ModelCard::parse(&text).map(Some).map_err(|error| refused(&beside, error)),
        Err(_) => of_timm(path),
    }
}

/// What timm says of the weights in the file `path`, in a `config.json` beside them; `None` where there is none of timm's, or one of a
/// network that is not in the catalogue, which is said: the weights may fit another all the same.
///
/// # Errors
/// A config of timm's that asks for what is not done here: other numbers would come out.
fn of_timm(path: &Path) -> anyhow::Result<Option<ModelCard>> {
    let config = path.with_file_name("config.json");
    let Some(found) = std::fs::read_to_string(&config).ok().and_then(|text| of_timm_config(&text)) else {
        return Ok(None);
    };
    let shown = config.display();
    let mut card = found.map_err(|reason| {
        usage(format!(
            "{shown}: {reason}; where the weights are to be used all the same, put them into a folder without it"
        ))
    })?;
    match architectures::timms_architecture(&card.network) {
        Ok(known) => known.name.clone_into(&mut card.network),
        Err(_) => {
            log::warn!(
                "{shown}: {} is timm's name of a network that is not in the catalogue; the file is not used",
                card.network
            );
            return Ok(None);
        }
    }
    Ok(Some(card))
}

/// What the plan of the run in `folder` says of its weights: for those that an older program wrote, which had no cards. `None`
/// where it cannot be told, or where the run is of a program of somebody's own.
pub(crate) fn of_run(folder: &Path) -> Option<ModelCard> {
    let text = std::fs::read_to_string(folder.join(recipe::PLAN_FILE)).ok()?;
    let flags = Recipe::parse(recipe::PLAN_FILE, &text).ok()?.complete(&["rust-train".into()]).ok()?.train;
    let architecture = architectures::architecture(&flags.model).ok()?;
    let images = Images::new(&flags.data, flags.task.task, Source::new(&flags.data, None).ok()?, &architecture).ok()?;
    let evaluation = report::Run::read(folder).ok()?.evaluation;
    let classes = evaluation.into_iter().flat_map(|evaluation| evaluation.classes).map(|class| class.name).collect();
    let mut card = ModelCard::new(CLASSIFICATION, architecture.name, classes, images.evaluation.card());
    card.plan = recipe::portable(recipe::mathematics(&flags).ok()?);
    Some(card)
}

/// Where the card of a file lies whose format has no room for one: `best.pth.json` beside `best.pth`.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_of_timms_means_timms_network() {
        let folder = tempfile::tempdir().unwrap();
        let network = |architecture: &str| {
            let config = format!(
                r#"{{"architecture": "{architecture}", "num_classes": 1000, "pretrained_cfg": {{"input_size": [3, 224, 224],
                "interpolation": "bicubic", "crop_pct": 0.875, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}}}"#
            );
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            of_timm(&folder.path().join("model.safetensors")).unwrap().map(|card| card.network)
        };
        // Of the same weights: one pads as TensorFlow does, the other evenly.
        assert_eq!(network("tf_efficientnet_lite0").as_deref(), Some("efficientnet_lite0"));
        assert_eq!(network("efficientnet_lite0").as_deref(), Some("efficientnet_lite0_even"));
        assert_eq!(network("resnet50").as_deref(), Some("resnet50"));
        assert_eq!(network("nobodys_net"), None);
    }
}
