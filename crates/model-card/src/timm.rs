//! timm's `config.json`, which lies beside weights that timm has put on the Hugging Face Hub, or in a folder (`save_for_hf`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{CLASSIFICATION, FitKind, ImageInput, ModelCard, PixelKind};

/// What timm takes where a config says nothing.
const CROP: f64 = 0.875;

#[derive(Deserialize)]
struct Config {
    architecture: String,
    pretrained_cfg: Option<Pretrained>,
    num_classes: Option<usize>,
    label_names: Option<Vec<String>>,
    labels: Option<Vec<String>>,
    /// What the network was built with, beside its name.
    #[serde(default)]
    model_args: BTreeMap<String, Value>,
    /// The oldest configs have it all in one.
    #[serde(flatten)]
    flat: Pretrained,
}

#[derive(Deserialize)]
struct Pretrained {
    input_size: Option<Vec<usize>>,
    interpolation: Option<String>,
    crop_pct: Option<f64>,
    crop_mode: Option<String>,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
    #[serde(rename = "num_classes")]
    classes: Option<usize>,
    #[serde(rename = "label_names")]
    names: Option<Vec<String>>,
}

/// The card of weights from the `config.json` beside them; `None` where it is not timm's. The network has timm's name. Images become
/// what `timm.data.create_transform` makes of them for evaluation, at `input_size`.
///
/// # Errors
/// A config of timm that asks for what is not done here, or whose numbers cannot be meant.
pub fn of_timm_config(text: &str) -> Option<Result<ModelCard, String>> {
    #[derive(Deserialize)]
    struct Timms {
        architecture: Option<Value>,
    }
    match serde_json::from_str::<Timms>(text) {
        Ok(timms) => timms.architecture.map(|_| parse(text)),
        // Of another library, or cut, or with the NaN that Python writes: whose it is nobody knows.
        Err(error) => text.contains("\"architecture\"").then(|| Err(format!("is not understood: {error}"))),
    }
}

/// Arguments of a network that change nothing of what it gives in evaluation.
const WITHOUT_EFFECT: [&str; 12] = [
    "attn_drop_rate",
    "drop_block_rate",
    "drop_path_rate",
    "drop_rate",
    "dynamic_img_size",
    "num_classes",
    "patch_drop_rate",
    "pos_drop_rate",
    "pretrained",
    "proj_drop_rate",
    "scriptable",
    "strict_img_size",
];

/// Refuses a network that timm builds otherwise than by its name.
fn refuse_arguments(config: &Config, channels: usize, size: usize) -> Result<(), String> {
    let is_same = |name: &str, value: &Value| match name {
        "in_chans" => value.as_u64() == Some(channels as u64),
        "img_size" => {
            let sides = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            sides.iter().all(|side| side.as_u64() == Some(size as u64))
        }
        "global_pool" => value.as_str().is_some_and(|pool| ["avg", "token"].contains(&pool)),
        _ => WITHOUT_EFFECT.contains(&name) || value.is_null(),
    };
    match config.model_args.iter().find(|(name, value)| !is_same(name, value)) {
        Some((name, value)) => {
            Err(format!("timm builds {} with {name}={value}, which is not done here", config.architecture))
        }
        None => Ok(()),
    }
}

fn parse(text: &str) -> Result<ModelCard, String> {
    let config: Config = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let images = config.pretrained_cfg.as_ref().unwrap_or(&config.flat);
    let (channels, size) = match images.input_size.as_deref() {
        Some(&[channels, height, width]) if height == width => (channels, height),
        Some(other) => return Err(format!("input_size is {other:?}, and images are squares here")),
        None => (3, 224),
    };
    refuse_arguments(&config, channels, size)?;
    let crop = images.crop_pct.filter(|&crop| crop != 0.0).unwrap_or(CROP);
    let scaled = (size as f64 / crop).floor();
    if !scaled.is_finite() || scaled > f64::from(u16::MAX) {
        return Err(format!("crop_pct is {crop}"));
    }
    let (fit, resize) = match images.crop_mode.as_deref() {
        None | Some("center") => (FitKind::Crop, scaled as usize),
        Some("squash") if scaled as usize == size => (FitKind::Squash, size),
        Some(other) => return Err(format!("crop_mode {other} with crop_pct {crop} is not done here")),
    };
    let input = ImageInput {
        channels,
        pixels: if channels == 3 { PixelKind::Rgb8 } else { PixelKind::Planes },
        numbers: None,
        size,
        resize,
        fit,
        resample: match images.interpolation.as_deref() {
            Some("random") => "bilinear".to_owned(), // which training draws from
            None | Some("") => "bicubic".to_owned(),
            Some(filter) => filter.to_owned(),
        },
        mean: images.mean.clone().unwrap_or_else(|| vec![0.485, 0.456, 0.406]),
        std: images.std.clone().unwrap_or_else(|| vec![0.229, 0.224, 0.225]),
        exif_orientation: false,
    };
    let count = config.num_classes.or(images.classes);
    let names =
        config.label_names.as_ref().or(config.labels.as_ref()).or(images.names.as_ref()).cloned().unwrap_or_default();
    // Names of another data set's classes, after the last layer was changed, say nothing.
    let names = if count.is_none_or(|count| count == names.len()) { names } else { Vec::new() };
    let card = ModelCard::new(CLASSIFICATION, &config.architecture, names, input);
    card.check().map(|()| card)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_of_today_and_of_old() {
        let today = r#"{"architecture": "resnet50", "num_classes": 2, "num_features": 2048, "label_names": ["ant", "bee"],
            "model_args": {}, "pretrained_cfg": {"tag": "a1_in1k", "input_size": [3, 224, 224], "test_input_size": [3, 288, 288],
            "interpolation": "bicubic", "crop_pct": 0.95, "test_crop_pct": 1.0, "crop_mode": "center",
            "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "num_classes": 1000, "pool_size": [7, 7]}}"#;
        let card = of_timm_config(today).unwrap().unwrap();
        assert_eq!((&card.network[..], &card.classes[..]), ("resnet50", &["ant".to_owned(), "bee".to_owned()][..]));
        let images = &card.images;
        assert_eq!((images.size, images.resize, &images.resample[..]), (224, 235, "bicubic"));
        assert_eq!((&images.mean[..], images.fit), (&[0.5; 3][..], FitKind::Crop));

        let old = r#"{"architecture": "vit_base_patch16_224", "num_classes": 3, "labels": ["a", "b", "c"],
            "input_size": [3, 224, 224], "interpolation": "bilinear", "crop_pct": 0.875}"#;
        let card = of_timm_config(old).unwrap().unwrap();
        assert_eq!((card.images.resize, card.classes.len(), card.images.mean[0]), (256, 3, 0.485));
    }

    #[test]
    fn what_is_not_timms_and_what_is_not_done() {
        assert!(of_timm_config(r#"{"architectures": ["ResNetForImageClassification"]}"#).is_none());
        assert!(of_timm_config("no JSON").is_none());
        assert!(
            of_timm_config(r#"{"architecture": "resnet50", "x": NaN}"#)
                .unwrap()
                .unwrap_err()
                .contains("not understood")
        );
        let built = |arguments: &str| {
            of_timm_config(&format!(r#"{{"architecture": "resnet50", "model_args": {{{arguments}}}}}"#)).unwrap()
        };
        assert_eq!(
            built(r#""act_layer": "silu""#).unwrap_err(),
            "timm builds resnet50 with act_layer=\"silu\", which is not done here"
        );
        assert!(built(r#""in_chans": 1"#).is_err() && built(r#""img_size": [224, 192]"#).is_err());
        let plain =
            built(r#""num_classes": 3, "drop_rate": 0.5, "img_size": 224, "in_chans": 3, "act_layer": null"#).unwrap();
        assert_eq!((&plain.images.resample[..], plain.images.resize), ("bicubic", 256));
        let refused = [
            (r#""crop_mode": "border""#, "crop_mode border"),
            (r#""input_size": [3, 224, 192]"#, "images are squares"),
            (r#""crop_pct": 1e-9"#, "crop_pct is"),
            (r#""crop_pct": "x""#, "invalid type"),
            (r#""interpolation": "lanczos""#, "scaled by 'lanczos'"),
        ];
        for (line, words) in refused {
            let text = format!(r#"{{"architecture": "resnet50", "pretrained_cfg": {{{line}}}}}"#);
            let error = of_timm_config(&text).unwrap().unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
