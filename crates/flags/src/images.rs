//! The flags about what an image becomes before a network sees it: the same for training and for every verb that reads
//! images.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

/// What an image becomes. Whatever is not said follows from the network, or from the model card of the weights.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageArgs {
    /// Height and width of the images that the network sees, in pixels. Default: what the model was made for; 8 for the digits
    #[arg(long, value_name = "PIXELS", help_heading = "Images")]
    pub image_size: Option<usize>,

    /// Length to which the shorter side of an image is scaled, in pixels, before the middle is cut out: in evaluation, and for
    /// a cache of pixels. Default: --crop for sizes up to 64, 8/7 of it for larger ones
    #[arg(long, value_name = "PIXELS", help_heading = "Images")]
    pub resize: Option<usize>,

    /// Height and width of what is cut out of the middle in evaluation, in pixels. Default: --image-size
    #[arg(long, value_name = "PIXELS", help_heading = "Images")]
    pub crop: Option<usize>,

    /// How images are scaled. Default: bilinear
    #[arg(long, value_enum, help_heading = "Images")]
    pub resample: Option<ResampleKind>,

    /// Turn images upright as their EXIF orientation says. torchvision's ImageFolder does not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Images")]
    pub exif_orientation: Option<bool>,

    /// What images are normalized by. Default, in training: for 8-bit RGB what the network's first weights are used to, imagenet for most; dataset for everything else
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Images")]
    pub normalize: Option<NormalizeKind>,

    /// Mean of the channels red, green and blue, in 0 to 1, which is subtracted: R,G,B, or one number for all; of other images one
    /// for each channel, in their own unit. Default: auto, which is what --normalize says
    #[arg(long, value_name = "R,G,B", help_heading = "Images")]
    pub mean: Option<ChannelValues>,

    /// Standard deviation of the channels, in the same unit, by which the rest is divided: as --mean
    #[arg(long, value_name = "R,G,B", help_heading = "Images")]
    pub std: Option<ChannelValues>,
}

/// What images are normalized by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum NormalizeKind {
    /// ImageNet's mean and standard deviation, which most published weights are used to: for 8-bit RGB
    Imagenet,
    /// Mean and standard deviation of each channel of the training images, computed by all ranks
    Dataset,
    /// So that the 1st percentile of each channel of the training images becomes -1 and the 99th 1: few outliers do not count
    Percentile,
}

/// How images are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ResampleKind {
    /// As torchvision does by default
    Bilinear,
    /// Sharper
    Bicubic,
}

/// A number for each channel.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelValues {
    /// Whatever --normalize says.
    Auto,
    /// One for all, or one each.
    Of(Vec<f64>),
}

impl FromStr for ChannelValues {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|number| number.trim().parse()).collect();
        numbers
            .map(Self::Of)
            .map_err(|_| format!("'{text}' is neither auto, a number, nor one for each channel: R,G,B"))
    }
}

impl fmt::Display for ChannelValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(values) => f.write_str(&values.iter().map(f64::to_string).collect::<Vec<_>>().join(",")),
        }
    }
}

impl Serialize for ChannelValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_for_all_channels() {
        let parse = |text: &str| text.parse::<ChannelValues>();
        assert_eq!(parse("auto"), Ok(ChannelValues::Auto));
        assert_eq!(parse("0.5"), Ok(ChannelValues::Of(vec![0.5])));
        assert_eq!(parse("0.485, 0.456,0.406"), Ok(ChannelValues::Of(vec![0.485, 0.456, 0.406])));
        for text in ["", "0.5,", "a,b,c", "Auto"] {
            assert!(parse(text).unwrap_err().contains("is neither auto, a number, nor one for each channel"), "{text}");
        }
        let values = ChannelValues::Of(vec![0.485, 0.456, 0.406]);
        assert_eq!(parse(&values.to_string()), Ok(values));
    }
}
