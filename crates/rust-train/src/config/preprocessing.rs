//! What evaluation makes of an image: from flags, from the model card of weights, or from what a network was published
//! with. Plain values.

use architectures::{Architecture, NormalizedBy, Tells};
use dataset::{Decoding, Fit, Normalization, Numbers, Resample};
use flags::{ChannelValues, ImageArgs, ResampleKind};
use model_card::{FitKind, ImageInput, PixelKind, StoredNumbers};

use crate::errors::usage;

/// What evaluation makes of an image: decoded, the shorter side scaled to `resize`, the middle cut out (or all of it scaled, if its
/// decoding says so), normalized.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Preprocessing {
    /// Height and width of what the network sees, in pixels.
    pub size: usize,
    /// Length of the shorter side before the middle is cut out, in pixels; at least `size`.
    pub resize: usize,
    pub decoding: Decoding,
    pub normalization: Normalization,
}

/// What 8-bit RGB images are normalized by for `architecture`, where nothing else is asked for: what its first weights are used to.
pub(crate) fn usual_normalization(architecture: &Architecture) -> Normalization {
    match architecture.input.normalized_by {
        NormalizedBy::ImageNet => Normalization::imagenet(),
        NormalizedBy::Halves => Normalization::halves(),
        NormalizedBy::Clip => Normalization::clip(),
    }
}

impl Preprocessing {
    /// What the published weights of `architecture` were tested with; of one without, those of its first authors.
    pub(crate) fn published(architecture: &Architecture) -> Self {
        let size = architecture.image_size;
        Self {
            size,
            resize: architecture.input.resize,
            decoding: Decoding {
                resample: if architecture.input.is_bicubic { Resample::Bicubic } else { Resample::Bilinear },
                fit: fit_of(architecture),
                ..Decoding::default()
            },
            normalization: usual_normalization(architecture),
        }
    }

    /// What a model card says. It has been checked when it was read.
    pub(crate) fn of_card(images: &ImageInput) -> Self {
        let &ImageInput { size, resize, fit, ref mean, ref std, exif_orientation, channels, ref numbers, .. } = images;
        let fit = match fit {
            FitKind::Crop => Fit::Crop,
            FitKind::Squash => Fit::Squash,
        };
        let numbers = numbers
            .as_ref()
            .and_then(|stored| Numbers::new(&stored.type_name, channels, stored.scale, stored.offset, stored.missing));
        let resample = Resample::named(&images.resample).unwrap_or_default();
        Self {
            size,
            resize,
            decoding: Decoding { exif_orientation, resample, numbers, fit, ..Decoding::default() },
            normalization: Normalization { mean: mean.clone(), std: std.clone() },
        }
    }

    /// For a model card.
    pub(crate) fn card(&self) -> ImageInput {
        let &Self { size, resize, decoding, normalization: Normalization { ref mean, ref std } } = self;
        ImageInput {
            channels: decoding.format().channels(),
            pixels: if decoding.numbers.is_none() { PixelKind::Rgb8 } else { PixelKind::Planes },
            numbers: decoding.numbers.map(|numbers| StoredNumbers {
                type_name: numbers.type_name().to_owned(),
                scale: numbers.scale,
                offset: numbers.offset,
                missing: numbers.fill,
            }),
            size,
            resize,
            fit: match decoding.fit {
                Fit::Crop => FitKind::Crop,
                Fit::Squash => FitKind::Squash,
            },
            resample: decoding.resample.name().to_owned(),
            mean: mean.clone(),
            std: std.clone(),
            exif_orientation: decoding.exif_orientation,
        }
    }

    /// The same, where the flags say nothing else. Another size is scaled in proportion before it is cut out.
    pub(crate) fn with(&self, args: &ImageArgs) -> anyhow::Result<Self> {
        let size = args.crop.or(args.image_size).unwrap_or(self.size);
        let resize = args.resize.unwrap_or(match size == self.size {
            true => self.resize,
            false => (self.resize * size).div_ceil(self.size.max(1)),
        });
        refuse_too_small(resize, size)?;
        if self.decoding.fit == Fit::Squash {
            refuse_crop(args, size)?;
        }
        let decoding = decoding(args, self.decoding);
        Ok(Self { size, resize, decoding, normalization: normalization(args, self.normalization.clone())? })
    }

    /// In words: `64×64 pixels out of 73, bilinear, mean 0.485,0.456,0.406, std 0.229,0.224,0.225, not turned by EXIF`.
    pub(crate) fn words(&self) -> String {
        let Self { size, resize, decoding, normalization } = self;
        let [mean, std] = [&normalization.mean, &normalization.std].map(|values| ChannelValues::Of(values.clone()));
        let turned = if decoding.exif_orientation { "turned as EXIF says" } else { "not turned by EXIF" };
        let resample = decoding.resample.name();
        let scaled = match decoding.fit {
            Fit::Squash => " of all of the image".to_owned(),
            Fit::Crop if resize == size => String::new(),
            Fit::Crop => format!(" out of {resize}"),
        };
        format!("{size}×{size} pixels{scaled}, {resample}, {turned}, mean {mean}, std {std}")
    }
}

/// How images become squares for a network: where it tells the class of each pixel, all of them count.
pub(crate) fn fit_of(architecture: &Architecture) -> Fit {
    if architecture.tells == Tells::Masks { Fit::Squash } else { Fit::Crop }
}

/// Refuses to cut something out of images of which every pixel counts.
pub(super) fn refuse_crop(args: &ImageArgs, size: usize) -> anyhow::Result<()> {
    for (flag, given) in [("--resize", args.resize), ("--crop", args.crop)] {
        if given.is_some_and(|pixels| pixels != size) {
            return Err(usage(format!(
                "{flag}: with masks all of an image is scaled to --image-size, so that every pixel counts; leave it out"
            )));
        }
    }
    Ok(())
}

/// How images are decoded: as the flags say, or else as `otherwise`.
pub(super) fn decoding(args: &ImageArgs, otherwise: Decoding) -> Decoding {
    Decoding {
        exif_orientation: args.exif_orientation.unwrap_or(otherwise.exif_orientation),
        resample: match args.resample {
            None => otherwise.resample,
            Some(ResampleKind::Bilinear) => Resample::Bilinear,
            Some(ResampleKind::Bicubic) => Resample::Bicubic,
        },
        ..otherwise
    }
}

/// How images are normalized: as the flags say, or else as `otherwise`, of whose channels they must be.
pub(crate) fn normalization(args: &ImageArgs, otherwise: Normalization) -> anyhow::Result<Normalization> {
    let of = |flag: &str, given: &Option<ChannelValues>, otherwise: Vec<f64>, published: [f64; 3]| match given {
        None => Ok(otherwise),
        Some(ChannelValues::Auto) if otherwise.len() == 3 => Ok(published.to_vec()),
        Some(ChannelValues::Auto) => Ok(otherwise),
        Some(ChannelValues::Of(values)) => for_channels(flag, values, otherwise.len()),
    };
    // Of all networks of the catalogue.
    let (mean, std) = (Normalization::IMAGENET_MEAN, Normalization::IMAGENET_STD);
    Ok(Normalization {
        mean: of("--mean", &args.mean, otherwise.mean, mean)?,
        std: of("--std", &args.std, otherwise.std, std)?,
    })
}

/// A value for each of so many channels.
pub(crate) fn for_channels(flag: &str, values: &[f64], channels: usize) -> anyhow::Result<Vec<f64>> {
    match *values {
        [one] => Ok(vec![one; channels]),
        ref values if values.len() == channels => Ok(values.to_vec()),
        ref values => {
            Err(usage(format!("{flag}: has {} values, and the images have {channels} channels", values.len())))
        }
    }
}

/// Refuses values of a flag that cannot be meant: of bytes, which become 0–1, what lies beyond.
pub(crate) fn refuse_values(args: &ImageArgs, are_bytes: bool) -> anyhow::Result<()> {
    for (flag, given, least) in [("--mean", &args.mean, 0.0), ("--std", &args.std, f64::MIN_POSITIVE)] {
        let Some(ChannelValues::Of(values)) = given else { continue };
        let shown = ChannelValues::Of(values.clone());
        if are_bytes {
            if !values.iter().all(|&value| (least..=1.0).contains(&value)) {
                let hint =
                    if values.iter().any(|&value| value > 1.0) { "; divide values of 0 to 255 by 255" } else { "" };
                let from = if least > 0.0 { "above 0 and at most 1" } else { "between 0 and 1" };
                return Err(usage(format!("{flag} {shown}: must be {from}{hint}")));
            }
        } else if !values.iter().all(|value| value.is_finite() && (flag == "--mean" || *value > 0.0)) {
            let from = if flag == "--std" { "numbers above 0" } else { "numbers" };
            return Err(usage(format!("{flag} {shown}: must be {from}")));
        }
    }
    Ok(())
}

/// Refuses to cut more out of an image than there is.
pub(super) fn refuse_too_small(resize: usize, size: usize) -> anyhow::Result<()> {
    const LARGEST: usize = 1 << 15;
    if size == 0 || resize > LARGEST {
        return Err(usage(format!("--image-size {size}, --resize {resize}: must be between 1 and {LARGEST}")));
    }
    if resize < size {
        return Err(usage(format!("--resize {resize}: must be at least the {size} pixels that the network sees")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resnet18() -> Preprocessing {
        Preprocessing::published(&architectures::architecture("resnet18").unwrap())
    }

    #[test]
    fn flags_win_over_what_is_known() {
        let known =
            Preprocessing { normalization: Normalization { mean: vec![0.5; 3], std: vec![0.25; 3] }, ..resnet18() };
        assert_eq!(known.with(&ImageArgs::default()).unwrap(), known);
        let with = |args: ImageArgs| known.with(&args).unwrap();
        let smaller = with(ImageArgs { image_size: Some(112), ..ImageArgs::default() });
        assert_eq!((smaller.size, smaller.resize), (112, 128));
        let cropped =
            with(ImageArgs { image_size: Some(176), crop: Some(224), resize: Some(232), ..ImageArgs::default() });
        assert_eq!((cropped.size, cropped.resize), (224, 232));
        let auto = with(ImageArgs { mean: Some(ChannelValues::Auto), ..ImageArgs::default() });
        assert_eq!(
            (auto.normalization.mean, auto.normalization.std),
            (Normalization::IMAGENET_MEAN.to_vec(), vec![0.25; 3])
        );
        let other = ImageArgs {
            exif_orientation: Some(true),
            resample: Some(ResampleKind::Bicubic),
            std: Some(ChannelValues::Of(vec![0.1, 0.2, 0.3])),
            ..ImageArgs::default()
        };
        assert_eq!(Preprocessing::of_card(&with(other.clone()).card()), with(other.clone()));
        assert_eq!(
            with(other).words(),
            "224×224 pixels out of 256, bicubic, turned as EXIF says, mean 0.5,0.5,0.5, std 0.1,0.2,0.3"
        );
    }

    #[test]
    fn values_that_cannot_be_meant_are_refused() {
        let of = |values: [f64; 3]| Some(ChannelValues::Of(values.to_vec()));
        for (args, words) in [
            (ImageArgs { resize: Some(200), ..ImageArgs::default() }, "--resize 200: must be at least the 224 pixels"),
            (ImageArgs { image_size: Some(0), ..ImageArgs::default() }, "must be between 1 and 32768"),
            (
                ImageArgs { std: of([0.2, 0.0, 0.2]), ..ImageArgs::default() },
                "--std 0.2,0,0.2: must be above 0 and at most 1",
            ),
            (
                ImageArgs { mean: of([123.675, 116.28, 103.53]), ..ImageArgs::default() },
                "--mean 123.675,116.28,103.53: must be between 0 and 1; divide values of 0 to 255 by 255",
            ),
            (ImageArgs { mean: of([f64::NAN; 3]), ..ImageArgs::default() }, "must be between 0 and 1"),
        ] {
            let refused = refuse_values(&args, true).and_then(|()| resnet18().with(&args));
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
