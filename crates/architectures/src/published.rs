//! The files of weights that torchvision publishes: several for some networks, each with the images that it was tested with.

use crate::catalogue::{Architecture, Published, architecture};

/// One of the files of weights that are published for a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedVersion {
    /// The network's name.
    pub network: &'static str,
    /// torchvision's name: `IMAGENET1K_V2`.
    pub name: &'static str,
    /// The file, and its score.
    pub published: Published,
    /// Height and width of the images that it was tested with, in pixels.
    pub image_size: usize,
    /// Length to which their shorter side was scaled before, in pixels.
    pub resize: usize,
    /// Whether by the bicubic filter; bilinear otherwise.
    pub is_bicubic: bool,
    /// Whether it is what torchvision means by `DEFAULT`.
    pub is_default: bool,
}

/// Made by `scripts/parity.d/published.py`.
const TABLE: &str = include_str!("published.tsv");

/// All of them.
fn all() -> impl Iterator<Item = PublishedVersion> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| version(line).unwrap_or_else(|| unreachable!("published.tsv: {line}")))
}

fn version(line: &'static str) -> Option<PublishedVersion> {
    let fields: Vec<&'static str> = line.split('\t').collect();
    let &[network, name, file, image_size, resize, interpolation, score, default] = fields.as_slice() else {
        return None;
    };
    Some(PublishedVersion {
        network,
        name,
        published: Published { file, score: score.parse().ok()? },
        image_size: image_size.parse().ok()?,
        resize: resize.parse().ok()?,
        is_bicubic: interpolation == "bicubic",
        is_default: default == "default",
    })
}

impl PublishedVersion {
    /// What torchvision calls `name`: `ResNet50_Weights.IMAGENET1K_V2`, or, where it is known to be of `network`, `IMAGENET1K_V2` or
    /// `DEFAULT` alone. `None` where that is no such name.
    ///
    /// # Errors
    /// A name of that kind that is none of torchvision's, or of another network.
    pub fn named(name: &str, network: Option<&Architecture>) -> Option<Result<Self, String>> {
        let (of, version) = match name.split_once("_Weights.") {
            Some((of, version)) => (Some(of.to_ascii_lowercase()), version),
            None => (None, name),
        };
        let is_version =
            version == "DEFAULT" || version.starts_with("IMAGENET1K_") || version.starts_with("COCO_WITH_");
        // A file may be called so, too.
        let is_word = |of: &String| of.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_version || !of.as_ref().is_none_or(is_word) {
            return None;
        }
        Some(match (of, network) {
            (Some(of), Some(network)) if of != network.name => Err(format!("is of {of}; write --model {of}")),
            (Some(of), None) if architecture(&of).is_err() => Err(format!("there is no network {of}")),
            (Some(of), None) => Self::of(&of, version),
            (_, Some(network)) => Self::of(network.name, version),
            (None, None) => Err("of which network? Add --model, or write ResNet50_Weights.IMAGENET1K_V2".to_owned()),
        })
    }

    fn of(network: &str, name: &str) -> Result<Self, String> {
        let is_it = |version: &Self| version.name == name || name == "DEFAULT" && version.is_default;
        let versions = || all().filter(|version| version.network == network);
        versions().find(is_it).ok_or_else(|| {
            let names: Vec<_> = versions().map(|version| version.name).collect();
            match names.is_empty() {
                true => format!("torchvision publishes no weights of {network}"),
                false => format!("torchvision's weights of {network} are {}", names.join(", ")),
            }
        })
    }
}

impl Architecture {
    /// The files of weights that are published for it, in torchvision's order.
    pub fn versions(&self) -> Vec<PublishedVersion> {
        all().filter(|version| version.network == self.name).collect()
    }

    /// The same as `version` was tested: other images, another score.
    #[must_use]
    pub fn of_version(mut self, version: &PublishedVersion) -> Self {
        self.image_size = version.image_size;
        self.published = Some(version.published);
        (self.input.resize, self.input.is_bicubic) = (version.resize, version.is_bicubic);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ARCHITECTURES;

    #[test]
    fn what_the_catalogue_takes_is_one_of_them() {
        for known in ARCHITECTURES {
            let versions = known.versions();
            assert_eq!(versions.is_empty(), known.published.is_none(), "{}", known.name);
            let Some(published) = known.published else { continue };
            let own = versions
                .iter()
                .find(|version| version.published == published)
                .unwrap_or_else(|| panic!("{}: {published:?} is none of {versions:?}", known.name));
            let of_version = known.of_version(own);
            assert_eq!((of_version.image_size, of_version.input), (known.image_size, known.input), "{}", known.name);
            assert!(versions.iter().filter(|version| version.is_default).count() == 1, "{}", known.name);
            for version in versions {
                assert!(version.published.sha256_prefix().len() >= 8, "{version:?}");
                let (size, network) = (version.image_size, known.network(10).with_image_side(version.image_size));
                network.shapes(size, size).unwrap_or_else(|error| panic!("{version:?}: {error}"));
            }
        }
        assert!(all().all(|version| architecture(version.network).is_ok()));
        assert_eq!(all().count(), 120);
    }

    #[test]
    fn torchvisions_names_are_understood() {
        let known = |name: &str| architecture(name).unwrap();
        let file = |name: &str, network: Option<&Architecture>| {
            PublishedVersion::named(name, network).map(|named| named.map(|version| version.published.file))
        };
        let resnet50 = known("resnet50");
        let cases = [
            ("ResNet50_Weights.IMAGENET1K_V1", None, Some(Ok("resnet50-0676ba61.pth"))),
            ("IMAGENET1K_V2", Some(&resnet50), Some(Ok("resnet50-11ad3fa6.pth"))),
            ("DEFAULT", Some(&resnet50), Some(Ok("resnet50-11ad3fa6.pth"))),
            ("RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_E2E_V1", None, Some(Ok("regnet_y_16gf_swag-43afe44d.pth"))),
            ("ViT_H_14_Weights.DEFAULT", None, Some(Ok("vit_h_14_swag-80465313.pth"))),
            ("resnet50-0676ba61.pth", Some(&resnet50), None),
            ("weights", None, None),
            ("model_Weights.pth", Some(&resnet50), None),
            ("runs/Best_Weights.IMAGENET1K_V1", None, None),
        ];
        for (name, network, expected) in cases {
            assert_eq!(file(name, network), expected, "{name}");
        }
        let refused = [
            ("ViT_B_16_Weights.IMAGENET1K_V1", Some(&resnet50), "is of vit_b_16; write --model vit_b_16"),
            ("IMAGENET1K_V3", Some(&resnet50), "torchvision's weights of resnet50 are IMAGENET1K_V1, IMAGENET1K_V2"),
            ("ResNet51_Weights.DEFAULT", None, "there is no network resnet51"),
            ("IMAGENET1K_V1", None, "of which network?"),
            ("IMAGENET1K_V1", Some(&known("lenet")), "torchvision publishes no weights of lenet"),
        ];
        for (name, network, expected) in refused {
            let error = file(name, network).unwrap().unwrap_err();
            assert!(error.starts_with(expected), "{name}: {error}");
        }
    }
}
