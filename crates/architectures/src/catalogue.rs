//! Every architecture by name, with what it was made for and where its published weights are.

use crate::families::cifar_resnet::cifar_resnet;
use crate::families::convnext::convnext;
use crate::families::densenet::{self, densenet};
use crate::families::efficientnet::efficientnet;
use crate::families::lenet::lenet;
use crate::families::mobilenet_v2::mobilenet_v2;
use crate::families::mobilenet_v3::{mobilenet_v3_large, mobilenet_v3_small};
use crate::families::resnet::{Block, resnet};
use crate::families::segmentation::{deeplabv3, deeplabv3_mobilenet, fcn, lraspp, unet};
use crate::families::shufflenet_v2::shufflenet_v2;
use crate::families::squeezenet::{squeezenet1_0, squeezenet1_1};
use crate::families::swin::swin;
use crate::families::vgg::vgg;
use crate::families::vit::{self, vit_base};
use crate::network::Network;
use crate::timm::architecture_of_timm;

/// An architecture: a name, how to write its network down, and its published weights.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// The name on the command line.
    pub name: &'static str,
    /// The side of the images it was made for, in pixels.
    pub image_size: usize,
    /// What it tells of an image.
    pub tells: Tells,
    /// The published weights, if there are any: a head of 1000 classes, trained on ImageNet, or of 21 for pixels, trained on COCO.
    pub published: Option<Published>,
    network: fn(classes: usize) -> Network,
    renamed: fn(key: &str) -> Option<String>,
}

/// What a network tells of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// One row of numbers: classes, labels, or whatever they are trained to be.
    Row,
    /// A row for each pixel: which class it is of.
    Masks,
}

/// A published file of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// Its name; the digits after the last hyphen are the first of its SHA-256.
    pub file: &'static str,
    /// The side to which the shorter side of an image is scaled before `image_size` is cut out, in pixels.
    pub resize: usize,
    /// Whether the images are scaled with the bicubic filter; bilinear otherwise.
    pub is_bicubic: bool,
    /// In percent, as torchvision states it: top-1 accuracy on ImageNet's 50,000 validation images, or where the class of each pixel is
    /// told, mIoU on COCO's 5,000 (of the 21 classes of PASCAL VOC).
    pub score: f64,
}

impl Published {
    /// Where the file is.
    pub fn url(&self) -> String {
        format!("https://download.pytorch.org/models/{}", self.file)
    }

    /// The first digits of the file's SHA-256.
    pub fn sha256_prefix(&self) -> &'static str {
        let stem = self.file.strip_suffix(".pth").unwrap_or(self.file);
        stem.rsplit_once('-').map_or("", |(_, digits)| digits)
    }
}

impl Architecture {
    /// The network with a head for `classes` classes.
    pub fn network(&self, classes: usize) -> Network {
        (self.network)(classes)
    }

    /// The classes that its published weights, or those of others like it, tell apart: what is assumed where nobody says how many.
    pub fn usual_classes(&self) -> usize {
        match self.tells {
            Tells::Row => 1000,
            Tells::Masks => 21,
        }
    }

    /// Today's name of a key that published files have under an older one.
    pub fn renamed(&self, key: &str) -> Option<String> {
        (self.renamed)(key)
    }

    /// An architecture without published weights.
    const fn new(name: &'static str, image_size: usize, network: fn(usize) -> Network) -> Self {
        Self { name, image_size, tells: Tells::Row, published: None, network, renamed: |_| None }
    }

    /// One that tells the class of each pixel.
    const fn masks(self) -> Self {
        Self { tells: Tells::Masks, ..self }
    }

    /// Whether a key of a file of weights is of what only torchvision's training has: a second head, which sees an earlier layer.
    pub fn leaves_out(&self, key: &str) -> bool {
        self.tells == Tells::Masks && key.starts_with("aux_classifier.")
    }

    /// With published weights.
    const fn published(self, file: &'static str, resize: usize, score: f64) -> Self {
        Self { published: Some(Published { file, resize, is_bicubic: false, score }), ..self }
    }

    /// With published weights for images that were scaled with the bicubic filter.
    const fn bicubic(self) -> Self {
        match self.published {
            Some(published) => Self { published: Some(Published { is_bicubic: true, ..published }), ..self },
            None => self,
        }
    }

    /// With keys that its published file has under older names.
    const fn renaming(self, renamed: fn(&str) -> Option<String>) -> Self {
        Self { renamed, ..self }
    }
}

/// ResNeXt-50 32×4d: 32 groups of 4 channels.
const RESNEXT: Block = Block::Bottleneck { groups: 32, width_per_64: 128 };
/// Wide ResNet-50-2: twice the channels inside.
const WIDE: Block = Block::Bottleneck { groups: 1, width_per_64: 128 };

/// All architectures, in the order of a listing. The published weights are torchvision 0.26's best ones
/// (`IMAGENET1K_V2` where there are two).
#[rustfmt::skip] // a table
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture::new("resnet18", 224, |classes| resnet("resnet18", Block::Basic, [2, 2, 2, 2], classes)).published("resnet18-f37072fd.pth", 256, 69.758),
    Architecture::new("resnet34", 224, |classes| resnet("resnet34", Block::Basic, [3, 4, 6, 3], classes)).published("resnet34-b627a593.pth", 256, 73.314),
    Architecture::new("resnet50", 224, |classes| resnet("resnet50", Block::BOTTLENECK, [3, 4, 6, 3], classes)).published("resnet50-11ad3fa6.pth", 232, 80.858),
    Architecture::new("resnet101", 224, |classes| resnet("resnet101", Block::BOTTLENECK, [3, 4, 23, 3], classes)).published("resnet101-cd907fc2.pth", 232, 81.886),
    Architecture::new("resnet152", 224, |classes| resnet("resnet152", Block::BOTTLENECK, [3, 8, 36, 3], classes)).published("resnet152-f82ba261.pth", 232, 82.284),
    Architecture::new("wide_resnet50_2", 224, |classes| resnet("wide_resnet50_2", WIDE, [3, 4, 6, 3], classes)).published("wide_resnet50_2-9ba9bcbe.pth", 232, 81.602),
    Architecture::new("resnext50_32x4d", 224, |classes| resnet("resnext50_32x4d", RESNEXT, [3, 4, 6, 3], classes)).published("resnext50_32x4d-1a0047aa.pth", 232, 81.198),
    Architecture::new("cifar_resnet20", 32, |classes| cifar_resnet("cifar_resnet20", 3, classes)),
    Architecture::new("cifar_resnet32", 32, |classes| cifar_resnet("cifar_resnet32", 5, classes)),
    Architecture::new("cifar_resnet44", 32, |classes| cifar_resnet("cifar_resnet44", 7, classes)),
    Architecture::new("cifar_resnet56", 32, |classes| cifar_resnet("cifar_resnet56", 9, classes)),
    Architecture::new("mobilenet_v2", 224, mobilenet_v2).published("mobilenet_v2-7ebf99e0.pth", 232, 72.154),
    Architecture::new("mobilenet_v3_small", 224, mobilenet_v3_small).published("mobilenet_v3_small-047dcff4.pth", 256, 67.668),
    Architecture::new("mobilenet_v3_large", 224, mobilenet_v3_large).published("mobilenet_v3_large-5c1a4163.pth", 232, 75.274),
    Architecture::new("efficientnet_b0", 224, |classes| efficientnet("efficientnet_b0", 1.0, 1.0, 0.2, classes)).published("efficientnet_b0_rwightman-7f5810bc.pth", 256, 77.692).bicubic(),
    Architecture::new("efficientnet_b1", 240, |classes| efficientnet("efficientnet_b1", 1.0, 1.1, 0.2, classes)).published("efficientnet_b1-c27df63c.pth", 255, 79.838),
    Architecture::new("efficientnet_b2", 288, |classes| efficientnet("efficientnet_b2", 1.1, 1.2, 0.3, classes)).published("efficientnet_b2_rwightman-c35c1473.pth", 288, 80.608).bicubic(),
    Architecture::new("efficientnet_b3", 300, |classes| efficientnet("efficientnet_b3", 1.2, 1.4, 0.3, classes)).published("efficientnet_b3_rwightman-b3899882.pth", 320, 82.008).bicubic(),
    Architecture::new("efficientnet_b4", 380, |classes| efficientnet("efficientnet_b4", 1.4, 1.8, 0.4, classes)).published("efficientnet_b4_rwightman-23ab8bcd.pth", 384, 83.384).bicubic(),
    Architecture::new("vgg11", 224, |classes| vgg("vgg11", [1, 1, 2, 2, 2], false, classes)).published("vgg11-8a719046.pth", 256, 69.02),
    Architecture::new("vgg13", 224, |classes| vgg("vgg13", [2, 2, 2, 2, 2], false, classes)).published("vgg13-19584684.pth", 256, 69.928),
    Architecture::new("vgg16", 224, |classes| vgg("vgg16", [2, 2, 3, 3, 3], false, classes)).published("vgg16-397923af.pth", 256, 71.592),
    Architecture::new("vgg19", 224, |classes| vgg("vgg19", [2, 2, 4, 4, 4], false, classes)).published("vgg19-dcbb9e9d.pth", 256, 72.376),
    Architecture::new("vgg11_bn", 224, |classes| vgg("vgg11_bn", [1, 1, 2, 2, 2], true, classes)).published("vgg11_bn-6002323d.pth", 256, 70.37),
    Architecture::new("vgg13_bn", 224, |classes| vgg("vgg13_bn", [2, 2, 2, 2, 2], true, classes)).published("vgg13_bn-abd245e5.pth", 256, 71.586),
    Architecture::new("vgg16_bn", 224, |classes| vgg("vgg16_bn", [2, 2, 3, 3, 3], true, classes)).published("vgg16_bn-6c64b313.pth", 256, 73.36),
    Architecture::new("vgg19_bn", 224, |classes| vgg("vgg19_bn", [2, 2, 4, 4, 4], true, classes)).published("vgg19_bn-c79401a0.pth", 256, 74.218),
    Architecture::new("squeezenet1_0", 224, squeezenet1_0).published("squeezenet1_0-b66bff10.pth", 256, 58.092),
    Architecture::new("squeezenet1_1", 224, squeezenet1_1).published("squeezenet1_1-b8a52dc0.pth", 256, 58.178),
    Architecture::new("shufflenet_v2_x0_5", 224, |classes| shufflenet_v2("shufflenet_v2_x0_5", [48, 96, 192], classes)).published("shufflenetv2_x0.5-f707e7126e.pth", 256, 60.552),
    Architecture::new("shufflenet_v2_x1_0", 224, |classes| shufflenet_v2("shufflenet_v2_x1_0", [116, 232, 464], classes)).published("shufflenetv2_x1-5666bf0f80.pth", 256, 69.362),
    Architecture::new("densenet121", 224, |classes| densenet("densenet121", [6, 12, 24, 16], classes)).published("densenet121-a639ec97.pth", 256, 74.434).renaming(densenet::renamed),
    Architecture::new("convnext_tiny", 224, |classes| convnext("convnext_tiny", [(3, 96), (3, 192), (9, 384), (3, 768)], 0.1, classes)).published("convnext_tiny-983f1562.pth", 236, 82.52),
    Architecture::new("convnext_small", 224, |classes| convnext("convnext_small", [(3, 96), (3, 192), (27, 384), (3, 768)], 0.4, classes)).published("convnext_small-0c510722.pth", 230, 83.616),
    Architecture::new("convnext_base", 224, |classes| convnext("convnext_base", [(3, 128), (3, 256), (27, 512), (3, 1024)], 0.5, classes)).published("convnext_base-6075fbad.pth", 232, 84.062),
    Architecture::new("vit_b_16", 224, |classes| vit_base("vit_b_16", 16, classes)).published("vit_b_16-c867db91.pth", 256, 81.072).renaming(vit::renamed),
    Architecture::new("vit_b_32", 224, |classes| vit_base("vit_b_32", 32, classes)).published("vit_b_32-d86f8d99.pth", 256, 75.912).renaming(vit::renamed),
    Architecture::new("swin_t", 224, |classes| swin("swin_t", [2, 2, 6, 2], 96, 3, 0.2, classes)).published("swin_t-704ceda3.pth", 232, 81.474).bicubic(),
    Architecture::new("swin_s", 224, |classes| swin("swin_s", [2, 2, 18, 2], 96, 3, 0.3, classes)).published("swin_s-5e29d889.pth", 246, 83.196).bicubic(),
    Architecture::new("swin_b", 224, |classes| swin("swin_b", [2, 2, 18, 2], 128, 4, 0.5, classes)).published("swin_b-68c6b09e.pth", 238, 83.582).bicubic(),
    Architecture::new("fcn_resnet50", 480, |classes| fcn("fcn_resnet50", [3, 4, 6, 3], classes)).masks().published("fcn_resnet50_coco-1167a1af.pth", 480, 60.5),
    Architecture::new("fcn_resnet101", 480, |classes| fcn("fcn_resnet101", [3, 4, 23, 3], classes)).masks().published("fcn_resnet101_coco-7ecb50ca.pth", 480, 63.7),
    Architecture::new("deeplabv3_resnet50", 480, |classes| deeplabv3("deeplabv3_resnet50", [3, 4, 6, 3], classes)).masks().published("deeplabv3_resnet50_coco-cd0a2569.pth", 480, 66.4),
    Architecture::new("deeplabv3_resnet101", 480, |classes| deeplabv3("deeplabv3_resnet101", [3, 4, 23, 3], classes)).masks().published("deeplabv3_resnet101_coco-586e9e4e.pth", 480, 67.4),
    Architecture::new("deeplabv3_mobilenet_v3_large", 480, |classes| deeplabv3_mobilenet("deeplabv3_mobilenet_v3_large", classes)).masks().published("deeplabv3_mobilenet_v3_large-fc3c493d.pth", 480, 60.3),
    Architecture::new("lraspp_mobilenet_v3_large", 480, |classes| lraspp("lraspp_mobilenet_v3_large", classes)).masks().published("lraspp_mobilenet_v3_large-d234d4ea.pth", 480, 57.9),
    Architecture::new("lenet", 32, lenet),
    Architecture::new("unet", 256, |classes| unet("unet", 64, classes)).masks(),
    Architecture::new("unet_small", 256, |classes| unet("unet_small", 16, classes)).masks(),
];

/// A name that no architecture has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no model is called '{name}'{}", whatever_is_known(name))]
pub struct UnknownArchitecture {
    name: String,
}

/// The name that is meant, or all that there are.
fn whatever_is_known(name: &str) -> String {
    let names = || ARCHITECTURES.iter().map(|known| known.name);
    match suggest::did_you_mean(name, names()) {
        meant if meant.is_empty() => format!("; there are: {}", names().collect::<Vec<_>>().join(", ")),
        meant => format!("{meant} rust-train models lists all of them"),
    }
}

/// The architecture called `name`, here or by timm.
///
/// # Errors
/// The names that exist, where this one does not.
pub fn architecture(name: &str) -> Result<Architecture, UnknownArchitecture> {
    let found = ARCHITECTURES.iter().find(|known| known.name == name).copied();
    found.or_else(|| architecture_of_timm(name)).ok_or_else(|| UnknownArchitecture { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    /// torchvision's state dicts, recorded by `scripts/parity --record`: architecture, classes, trained values, GMACs as
    /// torchvision publishes them, keys, and a hash of all keys and shapes in order.
    const RECORDED: &str = include_str!("../tests/torchvision.tsv");

    fn fnv1a(bytes: &[u8]) -> u64 {
        let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
    }

    #[test]
    fn keys_shapes_and_costs_are_the_originals() {
        let mut seen = Vec::new();
        for row in RECORDED.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<_> = row.split('\t').collect();
            let &[name, classes, trained, gmacs, keys, hash] = fields.as_slice() else { panic!("{row}") };
            seen.push(name);
            let known = architecture(name).unwrap();
            let network = known.network(classes.parse().unwrap());
            let parameters = network.parameters();
            assert_eq!(parameters.len().to_string(), keys, "keys of {name}");
            let shape = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
            let lines = parameters.iter().map(|parameter| format!("{} {}\n", parameter.name, shape(&parameter.shape)));
            let listing: String = lines.collect();
            assert_eq!(format!("{:016x}", fnv1a(listing.as_bytes())), hash, "keys and shapes of {name}:\n{listing}");
            let cost = network.cost(known.image_size, known.image_size).unwrap();
            assert_eq!(cost.parameters.to_string(), trained, "trained values of {name}");
            let expected: f64 = gmacs.parse().unwrap();
            assert!((cost.macs as f64 / 1e9 - expected).abs() <= 0.0006, "{name}: {} MACs", cost.macs);
        }
        let all: Vec<_> = ARCHITECTURES
            .iter()
            .map(|known| known.name)
            .filter(|name| !["lenet", "unet", "unet_small"].contains(name))
            .collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn every_network_ends_in_its_classes() {
        for known in ARCHITECTURES {
            let network = known.network(7);
            let shapes = network.shapes(known.image_size, known.image_size).unwrap();
            let ends = match known.tells {
                Tells::Row => Shape::from([7]),
                Tells::Masks => Shape::from([7, known.image_size, known.image_size]),
            };
            assert_eq!(shapes.last(), Some(&ends), "{}", known.name);
            assert_eq!(network.classes(), 7, "{}", known.name);
            let heads = network.heads();
            assert_eq!(heads[0], network.head(), "{}", known.name);
            let is_of_head = |parameter: &crate::Parameter| heads.contains(&parameter.node);
            let head: Vec<_> = network.parameters().into_iter().filter(is_of_head).collect();
            let count = if known.name.starts_with("lraspp") { 4 } else { 2 };
            assert_eq!(
                head.iter().map(|parameter| parameter.shape[0]).collect::<Vec<_>>(),
                vec![7; count],
                "{}",
                known.name
            );
        }
    }

    #[test]
    fn names_are_unique_and_published_files_carry_their_hash() {
        for (index, known) in ARCHITECTURES.iter().enumerate() {
            assert!(ARCHITECTURES[..index].iter().all(|other| other.name != known.name), "{}", known.name);
            let network = known.network(10);
            assert_eq!(network.name(), known.name);
            if let Some(published) = known.published {
                let digits = published.sha256_prefix();
                assert!(digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{published:?}");
                assert!(published.resize >= known.image_size, "{published:?}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let error = architecture("lenet").unwrap().network(10).shapes(2, 2).unwrap_err();
        assert!(error.to_string().starts_with("lenet cannot take images of 2×2 pixels"), "{error}");
        let error = architecture("vit_b_16").unwrap().network(10).shapes(256, 256).unwrap_err();
        assert!(error.to_string().contains("256×256 pixels: inputs of shape 257×768 and 197×768"), "{error}");
        let error = architecture("resnet19").unwrap_err();
        assert!(error.to_string().contains("'resnet19'; did you mean resnet18? rust-train models"), "{error}");
    }
}
