//! What must be known of weights to use them: which network, which classes, and what images must become.
//!
//! ```text
//! training ─> ModelCard ─┬─> safetensors: metadata `rust-train`
//!                        ├─> ONNX: metadata_props `rust-train`       all the same JSON
//!                        ├─> TorchScript: extra file `rust-train.json`
//!                        └─> FILE.pth: beside it, FILE.pth.json
//! eval, predict, export <─ ModelCard
//!                              └─ or from timm's config.json beside the weights
//! ```
//!
//! A card depends on what was trained alone: not on when, where, by how many ranks, or on whether the run was interrupted.
//! The same training gives the same files.
//!
//! Knows no torch, and no files: text in, text out.

mod readme;
mod timm;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use readme::{About, ClassLine, README_START};
pub use timm::of_timm_config;

/// What metadata with a card are called.
pub const KEY: &str = "rust-train";

/// The task of telling classes apart.
pub const CLASSIFICATION: &str = "classification";
/// The task of telling which of several classes are there.
pub const MULTILABEL: &str = "multilabel";
/// The task of telling numbers.
pub const REGRESSION: &str = "regression";

/// The task of telling the class of each pixel.
pub const SEGMENTATION: &str = "segmentation";

/// The version of the format of cards: one more whenever older programs would misunderstand it.
const VERSION: u32 = 1;

/// What must be known of weights to use them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The version of the format.
    version: u32,
    /// What was learned: `classification`, `multilabel`, `regression`, `segmentation`, or what a program of somebody's own calls it.
    pub task: String,
    /// The network's name in the catalogue, or what a program of somebody's own calls it.
    pub network: String,
    /// The names of the classes, in the order of the outputs. Empty where they are only known by their numbers.
    #[serde(default)]
    pub classes: Vec<String>,
    /// What images must become.
    pub images: ImageInput,
    /// In which unit the outputs are, where these are numbers and not classes: an output times `std` and plus `mean`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetUnit>,
    /// Which numbers of masks stand for the classes, where the class of each pixel is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<MaskNumbers>,
    /// How good the weights are on the validation images, as the run found it after their epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<CardScores>,
    /// The flags that decided about the result, without paths.
    #[serde(default)]
    pub plan: BTreeMap<String, serde_json::Value>,
    /// Of the programs that trained it.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
}

/// What images must become: decoded, scaled as `fit` says, divided by 255, normalized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageInput {
    /// How many there are; 3 are red, green and blue.
    pub channels: usize,
    /// What a channel's numbers are.
    #[serde(default, skip_serializing_if = "PixelKind::is_rgb8")]
    pub pixels: PixelKind,
    /// Which numbers they were in the files that were trained on, where that is known of planes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<StoredNumbers>,
    /// Height and width of what the network sees in evaluation, in pixels: so much is cut out of the middle.
    pub size: usize,
    /// Length of the shorter side before that, in pixels.
    pub resize: usize,
    /// How an image becomes a square.
    #[serde(default, skip_serializing_if = "FitKind::is_crop")]
    pub fit: FitKind,
    /// The filter that scales, anti-aliased: `bilinear` or `bicubic`.
    pub resample: String,
    /// Of each channel, in 0–1 where images are bytes, else in their own unit; subtracted.
    pub mean: Vec<f64>,
    /// Of each channel, in the same unit; what is left is divided by it.
    pub std: Vec<f64>,
    /// Whether images are turned upright first, as their EXIF orientation says.
    pub exif_orientation: bool,
}

/// Numbers as files hold them: times `scale` and plus `offset` they are what is normalized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredNumbers {
    /// As NumPy calls it: `uint16`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// 1 for most, 1/255 for bytes.
    pub scale: f64,
    /// 0 for most.
    pub offset: f64,
    /// The one that stands for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<f64>,
}

/// The types that images can have in files.
const TYPES: [&str; 6] = ["uint8", "int8", "uint16", "int16", "float32", "float64"];

/// What the numbers of images are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelKind {
    /// Bytes of red, green and blue, divided by 255.
    #[default]
    Rgb8,
    /// Numbers of an array, in its own unit; bytes are divided by 255.
    Planes,
}

impl PixelKind {
    fn is_rgb8(&self) -> bool {
        *self == Self::Rgb8
    }
}

/// How an image becomes a square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FitKind {
    /// Scaled so that the shorter side has `resize` pixels, the middle cut out.
    #[default]
    Crop,
    /// All of it scaled to the square, whatever its sides are.
    Squash,
}

impl FitKind {
    fn is_crop(&self) -> bool {
        *self == Self::Crop
    }
}

/// Which numbers of masks stand for the classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskNumbers {
    /// Those of the classes, in their order.
    pub values: Vec<u32>,
    /// That of pixels that do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<i64>,
}

/// In which unit an output is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetUnit {
    /// Mean of the training images' targets.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
}

/// How good weights are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CardScores {
    /// Epochs that they were trained.
    pub epoch: usize,
    /// The validation images.
    pub samples: u64,
    /// The task's mean loss.
    pub loss: f64,
    /// The task's metrics, by name.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
}

/// Why a text is no card that this program can use.
#[derive(Debug)]
pub enum CardError {
    /// A later program wrote it.
    Newer(u32),
    /// It is none.
    Broken(String),
}

impl fmt::Display for CardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer(version) => write!(
                f,
                "the model card has version {version}, and this program reads up to {VERSION}; use a newer rust-train"
            ),
            Self::Broken(reason) => write!(f, "the model card is broken: {reason}"),
        }
    }
}

impl std::error::Error for CardError {}

impl ModelCard {
    /// A card without scores, plan and versions.
    pub fn new(task: &str, network: &str, classes: Vec<String>, images: ImageInput) -> Self {
        Self {
            version: VERSION,
            task: task.to_owned(),
            network: network.to_owned(),
            classes,
            images,
            targets: Vec::new(),
            masks: None,
            scores: None,
            plan: BTreeMap::new(),
            versions: BTreeMap::new(),
        }
    }

    /// From its JSON.
    ///
    /// # Errors
    /// A newer version, or a text that is none.
    pub fn parse(text: &str) -> Result<Self, CardError> {
        /// What every version begins with.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let broken = |error: serde_json::Error| CardError::Broken(error.to_string());
        let Version { version } = serde_json::from_str(text).map_err(broken)?;
        if version > VERSION {
            return Err(CardError::Newer(version));
        }
        let card: Self = serde_json::from_str(text).map_err(broken)?;
        card.check().map(|()| card).map_err(CardError::Broken)
    }

    /// As JSON, on one line: the same card is the same text.
    ///
    /// # Panics
    /// Never: a card has nothing that JSON does not have.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a card has nothing that JSON does not have")
    }

    /// Whether the task is one of a program of somebody's own, which alone can evaluate the weights.
    pub fn is_of_own_program(&self) -> bool {
        match self.task.as_str() {
            CLASSIFICATION | MULTILABEL | SEGMENTATION => false,
            REGRESSION => self.targets.is_empty(),
            _ => true,
        }
    }

    /// The metadata of a file that holds the weights.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(KEY.to_owned(), self.to_json())])
    }

    /// Whether its numbers can be meant.
    fn check(&self) -> Result<(), String> {
        let ImageInput { channels, size, resize, ref resample, ref mean, ref std, .. } = self.images;
        if !(1..=1 << 10).contains(&channels) || mean.len() != channels || std.len() != channels {
            return Err(format!("images of {channels} channels"));
        }
        if let Some(StoredNumbers { type_name, scale, offset, .. }) = &self.images.numbers
            && (!TYPES.contains(&type_name.as_str()) || !scale.is_finite() || !offset.is_finite())
        {
            return Err(format!("images of the type '{}', times {scale} plus {offset}", type_name.escape_debug()));
        }
        if !(1..=1 << 15).contains(&size) || !(size..=1 << 15).contains(&resize) {
            return Err(format!("images of {size} pixels, cut out of {resize}"));
        }
        if !["bilinear", "bicubic"].contains(&resample.as_str()) {
            return Err(format!("images scaled by '{}'", resample.escape_debug()));
        }
        if mean.iter().any(|mean| !mean.is_finite()) || std.iter().any(|std| !std.is_finite() || *std <= 0.0) {
            return Err(format!("a mean of {mean:?} and a standard deviation of {std:?}"));
        }
        let is_unit = |unit: &TargetUnit| unit.mean.is_finite() && unit.std.is_finite() && unit.std > 0.0;
        if !self.targets.iter().all(is_unit) {
            return Err("targets in a unit that is none".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> ModelCard {
        let images = ImageInput {
            channels: 3,
            pixels: PixelKind::Rgb8,
            numbers: None,
            size: 64,
            resize: 73,
            fit: FitKind::Crop,
            resample: "bilinear".to_owned(),
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            exif_orientation: false,
        };
        let mut card =
            ModelCard::new("classification", "resnet18", vec!["stop \"ä\"".to_owned(), "give way".to_owned()], images);
        card.plan.insert("lr".to_owned(), 0.1.into());
        let metrics = BTreeMap::from([("top1".to_owned(), 0.1 + 0.2)]);
        card.scores = Some(CardScores { epoch: 3, samples: 10, loss: 1.25, metrics });
        card
    }

    #[test]
    fn what_is_written_is_read() {
        let text = card().to_json();
        assert!(!text.contains('\n'));
        assert_eq!(ModelCard::parse(&text).unwrap(), card());
        assert_eq!(card().metadata()[KEY], text);
    }

    #[test]
    fn a_card_for_people_can_be_copied_from() {
        let line = |name: &str, recall| ClassLine {
            name: name.to_owned(),
            support: 5,
            precision: None,
            recall: Some(recall),
            f1: Some(0.5),
        };
        let about = About {
            data: "signs".to_owned(),
            is_in_torchvision: true,
            epoch: Some(4),
            classes: vec![line("stop|\n", 0.8), line("give way", 0.25)],
        };
        insta::assert_snapshot!(card().readme(&about));
    }

    #[test]
    fn fields_that_a_later_program_adds_do_no_harm_and_a_later_version_is_refused() {
        let text = card().to_json();
        let more = text.replace("\"version\":1,", "\"version\":1,\"colour\":{\"space\":\"sRGB\"},");
        assert_eq!(ModelCard::parse(&more).unwrap(), card());
        let later = ModelCard::parse("{\"version\":2,\"network\":{\"name\":\"x\"}}").unwrap_err().to_string();
        assert_eq!(later, "the model card has version 2, and this program reads up to 1; use a newer rust-train");
    }

    #[test]
    fn numbers_of_files_are_written_and_read() {
        let mut known = card();
        let of = |type_name: &str| StoredNumbers {
            type_name: type_name.to_owned(),
            scale: 0.5,
            offset: 0.0,
            missing: Some(-9999.0),
        };
        known.images.numbers = Some(of("int16"));
        assert_eq!(ModelCard::parse(&known.to_json()).unwrap(), known);
        known.images.numbers = Some(of("int12"));
        let error = ModelCard::parse(&known.to_json()).unwrap_err().to_string();
        assert!(error.contains("images of the type 'int12', times 0.5 plus 0"), "{error}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let text = card().to_json();
        for (old, new, words) in [
            ("{", "", "broken"),
            ("\"size\":64", "\"size\":0", "images of 0 pixels"),
            ("\"resize\":73", "\"resize\":63", "images of 64 pixels, cut out of 63"),
            ("\"channels\":3", "\"channels\":4", "images of 4 channels"),
            ("0.229", "0.0", "standard deviation of [0.0"),
            ("bilinear", "nearest", "scaled by 'nearest'"),
            ("\"network\":\"resnet18\",", "", "missing field `network`"),
        ] {
            let changed = text.replacen(old, new, 1);
            assert_ne!(changed, text, "{old}");
            let error = ModelCard::parse(&changed).unwrap_err().to_string();
            assert!(error.contains("the model card is broken: ") && error.contains(words), "{error}");
        }
    }
}
