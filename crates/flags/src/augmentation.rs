//! The flags about what happens to training images on their way into a batch.

use std::sync::Arc;

use augmentations::{
    Change, ColorJitter, GaussianBlur, GaussianNoise, HorizontalFlip, IntensityJitter, PlaneChange, Policy,
    QuarterTurns, RandomAffine, RandomErasing, VerticalFlip,
};
use clap::{Args, ValueEnum};
use serde::Serialize;

/// What happens to training images, beside the crop.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AugmentationArgs {
    /// Never mirror an image. The digits never are
    #[arg(long, help_heading = "Augmentation")]
    pub no_flip: bool,

    /// Mirror every other image top to bottom, too
    #[arg(long, help_heading = "Augmentation")]
    pub vertical_flip: bool,

    /// Turn each image by 0, 90, 180 or 270 degrees: for what is seen from above, or through a microscope
    #[arg(long, help_heading = "Augmentation")]
    pub quarter_turns: bool,

    /// Turn each image by up to so many degrees each way
    #[arg(long, value_name = "DEGREES", default_value_t = 0.0, help_heading = "Augmentation")]
    pub rotate: f64,

    /// Move each image by up to this share of its side each way
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Augmentation")]
    pub translate: f64,

    /// Zoom each image by a factor of 1 − X to 1 + X
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "Augmentation")]
    pub zoom: f64,

    /// Shear each image by up to so many degrees each way
    #[arg(long, value_name = "DEGREES", default_value_t = 0.0, help_heading = "Augmentation")]
    pub shear: f64,

    /// Change brightness, contrast and saturation by a random factor of 1 − X to 1 + X
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "Augmentation")]
    pub color_jitter: f64,

    /// Of images that are not 8-bit RGB: multiply by 1 − X to 1 + X, and add −X to X standard deviations
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "Augmentation")]
    pub intensity_jitter: f64,

    /// Of images that are not 8-bit RGB: add normal noise of up to X standard deviations
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "Augmentation")]
    pub noise: f64,

    /// Of images that are not 8-bit RGB: blur every other one, by a Gaussian of up to this standard deviation, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 0.0, help_heading = "Augmentation")]
    pub blur: f64,

    /// Random operations on each image
    #[arg(long, value_enum, default_value_t = AutoAugment::None, help_heading = "Augmentation")]
    pub auto_augment: AutoAugment,

    /// Strength of RandAugment's operations, 0 to 30
    #[arg(long, value_name = "N", default_value_t = 9, help_heading = "Augmentation")]
    pub magnitude: u32,

    /// Fraction of the images that lose a random rectangle
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = "Augmentation")]
    pub random_erasing: f64,

    /// Blend images two by two (mixup), with this parameter of the Beta distribution
    #[arg(long, value_name = "ALPHA", default_value_t = 0.0, help_heading = "Augmentation")]
    pub mixup: f64,

    /// Paste a rectangle of one image into another (cutmix), with this parameter
    #[arg(long, value_name = "ALPHA", default_value_t = 0.0, help_heading = "Augmentation")]
    pub cutmix: f64,

    /// Take each image N times into its batch, each time in another form (repeated augmentation). An epoch is still as
    /// many images as there are, and sees one in N of them
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Augmentation")]
    pub repeats: usize,

    /// Begin with images of this height and width, in pixels, and let them grow to --image-size (progressive resizing)
    #[arg(long, value_name = "PIXELS", help_heading = "Augmentation")]
    pub progressive_resize: Option<usize>,

    /// Epochs in which images grow. Default: 0.8 of all
    #[arg(long, value_name = "EPOCHS", help_heading = "Augmentation")]
    pub progressive_epochs: Option<usize>,

    /// Draw every class as often as any other, however many images each has
    #[arg(long, help_heading = "Augmentation")]
    pub balanced: bool,
}

/// A random choice of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AutoAugment {
    /// No operations
    None,
    /// RandAugment: two operations of one strength
    Rand,
    /// TrivialAugment: one operation of a random strength
    Trivial,
}

impl AugmentationArgs {
    /// The changes to one image that the flags ask for, in their order; `may_mirror` unless a mirrored image would be
    /// something else. `mean` is the colour, in 0–1, that normalization makes zero. For images of 8-bit RGB.
    ///
    /// # Errors
    /// A value outside the range of its flag, in one line.
    pub fn changes(&self, may_mirror: bool, mean: [f64; 3]) -> Result<Vec<Arc<dyn Change>>, String> {
        let jitter = within("--color-jitter", self.color_jitter, 10.0)?;
        let probability = within("--random-erasing", self.random_erasing, 1.0)?;
        let colour = mean.map(|mean| (mean * 255.0).round() as u8);
        if self.magnitude > 30 {
            return Err(format!("--magnitude {}: must be between 0 and 30", self.magnitude));
        }
        let mut changes: Vec<Arc<dyn Change>> = Vec::new();
        if may_mirror && !self.no_flip {
            changes.push(Arc::new(HorizontalFlip));
        }
        if self.vertical_flip {
            changes.push(Arc::new(VerticalFlip));
        }
        if self.quarter_turns {
            changes.push(Arc::new(QuarterTurns));
        }
        let affine = self.affine(colour)?;
        if !affine.is_nothing() {
            changes.push(Arc::new(affine));
        }
        if jitter > 0.0 {
            changes.push(Arc::new(ColorJitter::of(jitter)));
        }
        match self.auto_augment {
            AutoAugment::None => {}
            AutoAugment::Rand => {
                changes.push(Arc::new(Policy::RandAugment { operations: 2, magnitude: self.magnitude }));
            }
            AutoAugment::Trivial => changes.push(Arc::new(Policy::TrivialAugmentWide)),
        }
        if probability > 0.0 {
            changes.push(Arc::new(RandomErasing { probability, colour }));
        }
        Ok(changes)
    }

    /// The same for images of planes of numbers.
    ///
    /// # Errors
    /// As of [`changes`](Self::changes).
    pub fn plane_changes(&self, may_mirror: bool) -> Result<Vec<Arc<dyn PlaneChange>>, String> {
        let probability = within("--random-erasing", self.random_erasing, 1.0)?;
        let jitter = within("--intensity-jitter", self.intensity_jitter, 1.0)? as f32;
        let noise = within("--noise", self.noise, 10.0)? as f32;
        let blur = within("--blur", self.blur, 100.0)? as f32;
        let mut changes: Vec<Arc<dyn PlaneChange>> = Vec::new();
        if may_mirror && !self.no_flip {
            changes.push(Arc::new(HorizontalFlip));
        }
        if self.vertical_flip {
            changes.push(Arc::new(VerticalFlip));
        }
        if self.quarter_turns {
            changes.push(Arc::new(QuarterTurns));
        }
        let affine = self.affine([0; 3])?;
        if !affine.is_nothing() {
            changes.push(Arc::new(affine));
        }
        if blur > 0.0 {
            changes.push(Arc::new(GaussianBlur { most: blur }));
        }
        if jitter > 0.0 {
            changes.push(Arc::new(IntensityJitter { contrast: jitter, brightness: jitter }));
        }
        if noise > 0.0 {
            changes.push(Arc::new(GaussianNoise { most: noise }));
        }
        if probability > 0.0 {
            changes.push(Arc::new(RandomErasing { probability, colour: [0; 3] }));
        }
        Ok(changes)
    }

    fn affine(&self, colour: [u8; 3]) -> Result<RandomAffine, String> {
        Ok(RandomAffine {
            rotate: within("--rotate", self.rotate, 180.0)?,
            translate: within("--translate", self.translate, 1.0)?,
            zoom: within("--zoom", self.zoom, 0.9)?,
            shear: within("--shear", self.shear, 60.0)?,
            colour,
        })
    }

    /// What is asked for of images that are not 8-bit RGB, or only of those that are; and what to take instead.
    pub fn refused(&self, is_rgb8: bool) -> Option<String> {
        let flags = if is_rgb8 {
            vec![
                ("--intensity-jitter", self.intensity_jitter != 0.0, "--color-jitter"),
                ("--noise", self.noise != 0.0, "--auto-augment"),
                ("--blur", self.blur != 0.0, "--auto-augment"),
            ]
        } else {
            vec![
                ("--color-jitter", self.color_jitter != 0.0, "--intensity-jitter"),
                ("--auto-augment", self.auto_augment != AutoAugment::None, "--intensity-jitter, --noise or --blur"),
            ]
        };
        let why =
            if is_rgb8 { "is for images that are not 8-bit RGB" } else { "needs colours, and these images have none" };
        flags
            .into_iter()
            .find(|(_, is_given, _)| *is_given)
            .map(|(flag, _, instead)| format!("{flag}: {why}; there is {instead}"))
    }
}

/// The `value` of a flag, if it is a number between 0 and `most`.
///
/// # Errors
/// What the flag must be, in one line.
pub fn within(flag: &str, value: f64, most: f64) -> Result<f64, String> {
    match (0.0..=most).contains(&value) {
        true => Ok(value),
        false => Err(format!("{flag} {value}: must be a number between 0 and {most}")),
    }
}
