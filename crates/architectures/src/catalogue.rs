//! Every architecture by name, with what it was made for and where its published weights are.

use crate::families::alexnet::alexnet;
use crate::families::cifar_resnet::cifar_resnet;
use crate::families::convnext::{convnext, convnext_v2};
use crate::families::densenet::{self, densenet};
use crate::families::efficientnet::efficientnet;
use crate::families::efficientnet_lite::{self, Zeros, efficientnet_lite};
use crate::families::efficientnet_v2::{self, efficientnet_v2};
use crate::families::eva02::{self, eva02};
use crate::families::inception::{googlenet, inception_v3};
use crate::families::lenet::lenet;
use crate::families::maxvit::maxvit;
use crate::families::mnasnet::mnasnet;
use crate::families::mobilenet_v2::mobilenet_v2;
use crate::families::mobilenet_v3::{mobilenet_v3_large, mobilenet_v3_small};
use crate::families::mobilenet_v4::{self, mobilenet_v4};
use crate::families::regnet::{Line, regnet};
use crate::families::resnet::{Block, resnet};
use crate::families::resnet_d::{resnet_d, resnet_rs};
use crate::families::segmentation::{deeplabv3, deeplabv3_mobilenet, fcn, lraspp, unet};
use crate::families::shufflenet_v2::shufflenet_v2;
use crate::families::squeezenet::{squeezenet1_0, squeezenet1_1};
use crate::families::swin::{self, swin};
use crate::families::vgg::vgg;
use crate::families::vit::{self, changed_vit, vit};
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
    /// How images become its input.
    pub input: Input,
    /// The published weights, if there are any: a head of 1000 classes, trained on ImageNet, or of 21 for pixels, trained on COCO.
    pub published: Option<Published>,
    network: fn(classes: usize) -> Network,
    with_auxiliary: Option<fn(classes: usize) -> Network>,
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

/// How images become the input of a network: what its first weights were tested with, where there are some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// The side to which the shorter side of an image is scaled before `image_size` is cut out, in pixels.
    pub resize: usize,
    /// Whether the images are scaled with the bicubic filter; bilinear otherwise.
    pub is_bicubic: bool,
    /// By which mean and standard deviation of each channel they are normalized.
    pub normalized_by: NormalizedBy,
}

/// Means and standard deviations by which images are normalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormalizedBy {
    /// ImageNet's.
    ImageNet,
    /// 0.5 and 0.5.
    Halves,
    /// Those of the images that CLIP was trained on (Radford et al., 2021, arXiv:2103.00020).
    Clip,
}

/// A published file of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// Its name; the digits after the last hyphen are the first of its SHA-256.
    pub file: &'static str,
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

    /// The same with the auxiliary heads that the original is trained with; `None` where it has none.
    pub fn network_with_auxiliary(&self, classes: usize) -> Option<Network> {
        self.with_auxiliary.map(|network| network(classes))
    }

    /// The network that is trained: with those heads where they are wanted, and there.
    pub fn network_to_train(&self, classes: usize, auxiliary: bool) -> Network {
        self.network_with_auxiliary(classes).filter(|_| auxiliary).unwrap_or_else(|| self.network(classes))
    }

    /// The version of its class in PyTorch, which a file of weights for that says: MNASNet reads none without.
    pub fn class_version(&self) -> u8 {
        if self.name.starts_with("mnasnet") { 2 } else { 1 }
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
        let input = Input { resize: image_size, is_bicubic: false, normalized_by: NormalizedBy::ImageNet };
        Self {
            name,
            image_size,
            tells: Tells::Row,
            input,
            published: None,
            network,
            with_auxiliary: None,
            renamed: |_| None,
        }
    }

    /// One that tells the class of each pixel.
    const fn masks(self) -> Self {
        Self { tells: Tells::Masks, ..self }
    }

    /// Whether a key of a file of weights is of what only torchvision's training has: a second head, which sees an earlier layer.
    pub fn leaves_out(&self, key: &str) -> bool {
        match self.name {
            "googlenet" => key.starts_with("aux1.") || key.starts_with("aux2."),
            "inception_v3" => key.starts_with("AuxLogits."),
            _ => self.tells == Tells::Masks && key.starts_with("aux_classifier."),
        }
    }

    /// Trained with auxiliary heads, if that is asked for.
    const fn with_auxiliary(self, network: fn(usize) -> Network) -> Self {
        Self { with_auxiliary: Some(network), ..self }
    }

    /// With published weights, for images whose shorter side was `resize` pixels.
    const fn published(self, file: &'static str, resize: usize, score: f64) -> Self {
        Self { published: Some(Published { file, score }), ..self }.resize(resize)
    }

    /// For images whose shorter side was so many pixels before the middle was cut out.
    const fn resize(self, resize: usize) -> Self {
        Self { input: Input { resize, ..self.input }, ..self }
    }

    /// For images that were scaled with the bicubic filter.
    const fn bicubic(self) -> Self {
        Self { input: Input { is_bicubic: true, ..self.input }, ..self }
    }

    /// For images that were normalized by mean and standard deviation 0.5.
    const fn halves(self) -> Self {
        Self { input: Input { normalized_by: NormalizedBy::Halves, ..self.input }, ..self }
    }

    /// For images that were normalized as CLIP's.
    const fn clip(self) -> Self {
        Self { input: Input { normalized_by: NormalizedBy::Clip, ..self.input }, ..self }
    }

    /// With keys that its published file has under older names.
    const fn renaming(self, renamed: fn(&str) -> Option<String>) -> Self {
        Self { renamed, ..self }
    }
}

/// ResNeXt-50 32×4d: 32 groups of 4 channels.
const RESNEXT: Block = Block::Bottleneck { groups: 32, width_per_64: 128 };
/// ResNeXt-101 64×4d: 64 groups of 4 channels.
const RESNEXT_64X4D: Block = Block::Bottleneck { groups: 64, width_per_64: 256 };
/// ResNeXt-101 32×8d: 32 groups of 8 channels.
const RESNEXT_32X8D: Block = Block::Bottleneck { groups: 32, width_per_64: 256 };
/// Wide ResNet-50-2: twice the channels inside.
const WIDE: Block = Block::Bottleneck { groups: 1, width_per_64: 128 };

/// All architectures, in the order of a listing. The published weights are torchvision 0.26's best ones
/// (`IMAGENET1K_V2` where there are two); of ViT-H/14 those for images of 224×224 pixels.
#[rustfmt::skip] // a table
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture::new("alexnet", 224, alexnet).published("alexnet-owt-7be5be79.pth", 256, 56.522),
    Architecture::new("resnet18", 224, |classes| resnet("resnet18", Block::Basic, [2, 2, 2, 2], classes)).published("resnet18-f37072fd.pth", 256, 69.758),
    Architecture::new("resnet34", 224, |classes| resnet("resnet34", Block::Basic, [3, 4, 6, 3], classes)).published("resnet34-b627a593.pth", 256, 73.314),
    Architecture::new("resnet50", 224, |classes| resnet("resnet50", Block::BOTTLENECK, [3, 4, 6, 3], classes)).published("resnet50-11ad3fa6.pth", 232, 80.858),
    Architecture::new("resnet101", 224, |classes| resnet("resnet101", Block::BOTTLENECK, [3, 4, 23, 3], classes)).published("resnet101-cd907fc2.pth", 232, 81.886),
    Architecture::new("resnet152", 224, |classes| resnet("resnet152", Block::BOTTLENECK, [3, 8, 36, 3], classes)).published("resnet152-f82ba261.pth", 232, 82.284),
    Architecture::new("resnet18d", 224, |classes| resnet_d("resnet18d", Block::Basic, [2, 2, 2, 2], classes)).resize(256).bicubic(),
    Architecture::new("resnet26d", 224, |classes| resnet_d("resnet26d", Block::BOTTLENECK, [2, 2, 2, 2], classes)).resize(256).bicubic(),
    Architecture::new("resnet34d", 224, |classes| resnet_d("resnet34d", Block::Basic, [3, 4, 6, 3], classes)).resize(256).bicubic(),
    Architecture::new("resnet50d", 224, |classes| resnet_d("resnet50d", Block::BOTTLENECK, [3, 4, 6, 3], classes)).resize(256).bicubic(),
    Architecture::new("resnet101d", 256, |classes| resnet_d("resnet101d", Block::BOTTLENECK, [3, 4, 23, 3], classes)).resize(269).bicubic(),
    Architecture::new("resnet152d", 256, |classes| resnet_d("resnet152d", Block::BOTTLENECK, [3, 8, 36, 3], classes)).resize(269).bicubic(),
    Architecture::new("resnetrs50", 160, |classes| resnet_rs("resnetrs50", [3, 4, 6, 3], classes)).resize(175).bicubic(),
    Architecture::new("resnetrs101", 192, |classes| resnet_rs("resnetrs101", [3, 4, 23, 3], classes)).resize(204).bicubic(),
    Architecture::new("resnetrs152", 256, |classes| resnet_rs("resnetrs152", [3, 8, 36, 3], classes)).resize(256).bicubic(),
    Architecture::new("wide_resnet50_2", 224, |classes| resnet("wide_resnet50_2", WIDE, [3, 4, 6, 3], classes)).published("wide_resnet50_2-9ba9bcbe.pth", 232, 81.602),
    Architecture::new("wide_resnet101_2", 224, |classes| resnet("wide_resnet101_2", WIDE, [3, 4, 23, 3], classes)).published("wide_resnet101_2-d733dc28.pth", 232, 82.51),
    Architecture::new("resnext50_32x4d", 224, |classes| resnet("resnext50_32x4d", RESNEXT, [3, 4, 6, 3], classes)).published("resnext50_32x4d-1a0047aa.pth", 232, 81.198),
    Architecture::new("resnext101_32x8d", 224, |classes| resnet("resnext101_32x8d", RESNEXT_32X8D, [3, 4, 23, 3], classes)).published("resnext101_32x8d-110c445d.pth", 232, 82.834),
    Architecture::new("resnext101_64x4d", 224, |classes| resnet("resnext101_64x4d", RESNEXT_64X4D, [3, 4, 23, 3], classes)).published("resnext101_64x4d-173b62eb.pth", 232, 83.246),
    Architecture::new("cifar_resnet20", 32, |classes| cifar_resnet("cifar_resnet20", 3, classes)),
    Architecture::new("cifar_resnet32", 32, |classes| cifar_resnet("cifar_resnet32", 5, classes)),
    Architecture::new("cifar_resnet44", 32, |classes| cifar_resnet("cifar_resnet44", 7, classes)),
    Architecture::new("cifar_resnet56", 32, |classes| cifar_resnet("cifar_resnet56", 9, classes)),
    Architecture::new("regnet_x_400mf", 224, |classes| regnet("regnet_x_400mf", Line { depth: 22, start: 24, slope: 24.48, factor: 2.54, group: 16, squeeze: None }, classes)).published("regnet_x_400mf-62229a5f.pth", 232, 74.864),
    Architecture::new("regnet_x_800mf", 224, |classes| regnet("regnet_x_800mf", Line { depth: 16, start: 56, slope: 35.73, factor: 2.28, group: 16, squeeze: None }, classes)).published("regnet_x_800mf-94a99ebd.pth", 232, 77.522),
    Architecture::new("regnet_x_1_6gf", 224, |classes| regnet("regnet_x_1_6gf", Line { depth: 18, start: 80, slope: 34.01, factor: 2.25, group: 24, squeeze: None }, classes)).published("regnet_x_1_6gf-a12f2b72.pth", 232, 79.668),
    Architecture::new("regnet_x_3_2gf", 224, |classes| regnet("regnet_x_3_2gf", Line { depth: 25, start: 88, slope: 26.31, factor: 2.25, group: 48, squeeze: None }, classes)).published("regnet_x_3_2gf-7071aa85.pth", 232, 81.196),
    Architecture::new("regnet_x_8gf", 224, |classes| regnet("regnet_x_8gf", Line { depth: 23, start: 80, slope: 49.56, factor: 2.88, group: 120, squeeze: None }, classes)).published("regnet_x_8gf-2b70d774.pth", 232, 81.682),
    Architecture::new("regnet_x_16gf", 224, |classes| regnet("regnet_x_16gf", Line { depth: 22, start: 216, slope: 55.59, factor: 2.1, group: 128, squeeze: None }, classes)).published("regnet_x_16gf-ba3796d7.pth", 232, 82.716),
    Architecture::new("regnet_x_32gf", 224, |classes| regnet("regnet_x_32gf", Line { depth: 23, start: 320, slope: 69.86, factor: 2.0, group: 168, squeeze: None }, classes)).published("regnet_x_32gf-6eb8fdc6.pth", 232, 83.014),
    Architecture::new("regnet_y_400mf", 224, |classes| regnet("regnet_y_400mf", Line { depth: 16, start: 48, slope: 27.89, factor: 2.09, group: 8, squeeze: Some(0.25) }, classes)).published("regnet_y_400mf-e6988f5f.pth", 232, 75.804),
    Architecture::new("regnet_y_800mf", 224, |classes| regnet("regnet_y_800mf", Line { depth: 14, start: 56, slope: 38.84, factor: 2.4, group: 16, squeeze: Some(0.25) }, classes)).published("regnet_y_800mf-58fc7688.pth", 232, 78.828),
    Architecture::new("regnet_y_1_6gf", 224, |classes| regnet("regnet_y_1_6gf", Line { depth: 27, start: 48, slope: 20.71, factor: 2.65, group: 24, squeeze: Some(0.25) }, classes)).published("regnet_y_1_6gf-0d7bc02a.pth", 232, 80.876),
    Architecture::new("regnet_y_3_2gf", 224, |classes| regnet("regnet_y_3_2gf", Line { depth: 21, start: 80, slope: 42.63, factor: 2.66, group: 24, squeeze: Some(0.25) }, classes)).published("regnet_y_3_2gf-9180c971.pth", 232, 81.982),
    Architecture::new("regnet_y_8gf", 224, |classes| regnet("regnet_y_8gf", Line { depth: 17, start: 192, slope: 76.82, factor: 2.19, group: 56, squeeze: Some(0.25) }, classes)).published("regnet_y_8gf-dc2b1b54.pth", 232, 82.828),
    Architecture::new("regnet_y_16gf", 224, |classes| regnet("regnet_y_16gf", Line { depth: 18, start: 200, slope: 106.23, factor: 2.48, group: 112, squeeze: Some(0.25) }, classes)).published("regnet_y_16gf-3e4a00f9.pth", 232, 82.886),
    Architecture::new("regnet_y_32gf", 224, |classes| regnet("regnet_y_32gf", Line { depth: 20, start: 232, slope: 115.89, factor: 2.53, group: 232, squeeze: Some(0.25) }, classes)).published("regnet_y_32gf-8db6d4b5.pth", 232, 83.368),
    Architecture::new("regnet_y_128gf", 384, |classes| regnet("regnet_y_128gf", Line { depth: 27, start: 456, slope: 160.83, factor: 2.52, group: 264, squeeze: Some(0.25) }, classes)).published("regnet_y_128gf_swag-c8ce3e52.pth", 384, 88.228).bicubic(),
    Architecture::new("mobilenet_v2", 224, mobilenet_v2).published("mobilenet_v2-7ebf99e0.pth", 232, 72.154),
    Architecture::new("mobilenet_v3_small", 224, mobilenet_v3_small).published("mobilenet_v3_small-047dcff4.pth", 256, 67.668),
    Architecture::new("mobilenet_v3_large", 224, mobilenet_v3_large).published("mobilenet_v3_large-5c1a4163.pth", 232, 75.274),
    Architecture::new("mobilenetv4_conv_small", 224, |classes| mobilenet_v4("mobilenetv4_conv_small", mobilenet_v4::SMALL, classes)).resize(256).bicubic(),
    Architecture::new("mobilenetv4_conv_medium", 256, |classes| mobilenet_v4("mobilenetv4_conv_medium", mobilenet_v4::MEDIUM, classes)).resize(269).bicubic(),
    Architecture::new("mobilenetv4_conv_large", 384, |classes| mobilenet_v4("mobilenetv4_conv_large", mobilenet_v4::LARGE, classes)).resize(404).bicubic(),
    Architecture::new("mobilenetv4_hybrid_medium", 256, |classes| mobilenet_v4("mobilenetv4_hybrid_medium", mobilenet_v4::HYBRID_MEDIUM, classes)).resize(269).bicubic(),
    Architecture::new("mnasnet0_5", 224, |classes| mnasnet("mnasnet0_5", 0.5, classes)).published("mnasnet0.5_top1_67.823-3ffadce67e.pth", 256, 67.734),
    Architecture::new("mnasnet0_75", 224, |classes| mnasnet("mnasnet0_75", 0.75, classes)).published("mnasnet0_75-7090bc5f.pth", 232, 71.18),
    Architecture::new("mnasnet1_0", 224, |classes| mnasnet("mnasnet1_0", 1.0, classes)).published("mnasnet1.0_top1_73.512-f206786ef8.pth", 256, 73.456),
    Architecture::new("mnasnet1_3", 224, |classes| mnasnet("mnasnet1_3", 1.3, classes)).published("mnasnet1_3-a4c69d6f.pth", 232, 76.506),
    Architecture::new("efficientnet_b0", 224, |classes| efficientnet("efficientnet_b0", 1.0, 1.0, 0.2, classes)).published("efficientnet_b0_rwightman-7f5810bc.pth", 256, 77.692).bicubic(),
    Architecture::new("efficientnet_b1", 240, |classes| efficientnet("efficientnet_b1", 1.0, 1.1, 0.2, classes)).published("efficientnet_b1-c27df63c.pth", 255, 79.838),
    Architecture::new("efficientnet_b2", 288, |classes| efficientnet("efficientnet_b2", 1.1, 1.2, 0.3, classes)).published("efficientnet_b2_rwightman-c35c1473.pth", 288, 80.608).bicubic(),
    Architecture::new("efficientnet_b3", 300, |classes| efficientnet("efficientnet_b3", 1.2, 1.4, 0.3, classes)).published("efficientnet_b3_rwightman-b3899882.pth", 320, 82.008).bicubic(),
    Architecture::new("efficientnet_b4", 380, |classes| efficientnet("efficientnet_b4", 1.4, 1.8, 0.4, classes)).published("efficientnet_b4_rwightman-23ab8bcd.pth", 384, 83.384).bicubic(),
    Architecture::new("efficientnet_b5", 456, |classes| efficientnet("efficientnet_b5", 1.6, 2.2, 0.4, classes)).published("efficientnet_b5_lukemelas-1a07897c.pth", 456, 83.444).bicubic(),
    Architecture::new("efficientnet_b6", 528, |classes| efficientnet("efficientnet_b6", 1.8, 2.6, 0.5, classes)).published("efficientnet_b6_lukemelas-24a108a5.pth", 528, 84.008).bicubic(),
    Architecture::new("efficientnet_b7", 600, |classes| efficientnet("efficientnet_b7", 2.0, 3.1, 0.5, classes)).published("efficientnet_b7_lukemelas-c5b4e57e.pth", 600, 84.122).bicubic(),
    Architecture::new("efficientnet_v2_s", 384, |classes| efficientnet_v2("efficientnet_v2_s", efficientnet_v2::S, 0.2, classes)).published("efficientnet_v2_s-dd5fe13b.pth", 384, 84.228),
    Architecture::new("efficientnet_v2_m", 480, |classes| efficientnet_v2("efficientnet_v2_m", efficientnet_v2::M, 0.3, classes)).published("efficientnet_v2_m-dc08266a.pth", 480, 85.112),
    Architecture::new("efficientnet_v2_l", 480, |classes| efficientnet_v2("efficientnet_v2_l", efficientnet_v2::L, 0.4, classes)).published("efficientnet_v2_l-59c71312.pth", 480, 85.808).bicubic().halves(),
    Architecture::new("efficientnet_lite0", 224, |classes| efficientnet_lite("efficientnet_lite0", Zeros::BehindFirst, 1.0, 1.0, 0.2, classes)).resize(256).bicubic().halves().renaming(efficientnet_lite::renamed_lite0),
    Architecture::new("efficientnet_lite1", 240, |classes| efficientnet_lite("efficientnet_lite1", Zeros::BehindFirst, 1.0, 1.1, 0.2, classes)).resize(274).bicubic().halves().renaming(efficientnet_lite::renamed_lite1),
    Architecture::new("efficientnet_lite2", 260, |classes| efficientnet_lite("efficientnet_lite2", Zeros::BehindFirst, 1.1, 1.2, 0.3, classes)).resize(297).bicubic().halves().renaming(efficientnet_lite::renamed_lite2),
    Architecture::new("efficientnet_lite0_even", 224, |classes| efficientnet_lite("efficientnet_lite0_even", Zeros::Even, 1.0, 1.0, 0.2, classes)).resize(256).bicubic(),
    Architecture::new("efficientnet_lite1_even", 240, |classes| efficientnet_lite("efficientnet_lite1_even", Zeros::Even, 1.0, 1.1, 0.2, classes)).resize(272).bicubic(),
    Architecture::new("efficientnet_lite2_even", 260, |classes| efficientnet_lite("efficientnet_lite2_even", Zeros::Even, 1.1, 1.2, 0.3, classes)).resize(292).bicubic(),
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
    Architecture::new("shufflenet_v2_x0_5", 224, |classes| shufflenet_v2("shufflenet_v2_x0_5", [48, 96, 192], 1024, classes)).published("shufflenetv2_x0.5-f707e7126e.pth", 256, 60.552),
    Architecture::new("shufflenet_v2_x1_0", 224, |classes| shufflenet_v2("shufflenet_v2_x1_0", [116, 232, 464], 1024, classes)).published("shufflenetv2_x1-5666bf0f80.pth", 256, 69.362),
    Architecture::new("shufflenet_v2_x1_5", 224, |classes| shufflenet_v2("shufflenet_v2_x1_5", [176, 352, 704], 1024, classes)).published("shufflenetv2_x1_5-3c479a10.pth", 232, 72.996),
    Architecture::new("shufflenet_v2_x2_0", 224, |classes| shufflenet_v2("shufflenet_v2_x2_0", [244, 488, 976], 2048, classes)).published("shufflenetv2_x2_0-8be3c8ee.pth", 232, 76.23),
    Architecture::new("densenet121", 224, |classes| densenet("densenet121", [6, 12, 24, 16], 32, classes)).published("densenet121-a639ec97.pth", 256, 74.434).renaming(densenet::renamed),
    Architecture::new("densenet161", 224, |classes| densenet("densenet161", [6, 12, 36, 24], 48, classes)).published("densenet161-8d451a50.pth", 256, 77.138).renaming(densenet::renamed),
    Architecture::new("densenet169", 224, |classes| densenet("densenet169", [6, 12, 32, 32], 32, classes)).published("densenet169-b2777c0a.pth", 256, 75.6).renaming(densenet::renamed),
    Architecture::new("densenet201", 224, |classes| densenet("densenet201", [6, 12, 48, 32], 32, classes)).published("densenet201-c1103571.pth", 256, 76.896).renaming(densenet::renamed),
    Architecture::new("googlenet", 224, |classes| googlenet(false, classes)).published("googlenet-1378be20.pth", 256, 69.778).halves().with_auxiliary(|classes| googlenet(true, classes)),
    Architecture::new("inception_v3", 299, |classes| inception_v3(false, classes)).published("inception_v3_google-0cc3c7bd.pth", 342, 77.294).halves().with_auxiliary(|classes| inception_v3(true, classes)),
    Architecture::new("convnext_tiny", 224, |classes| convnext("convnext_tiny", [(3, 96), (3, 192), (9, 384), (3, 768)], 0.1, classes)).published("convnext_tiny-983f1562.pth", 236, 82.52),
    Architecture::new("convnext_small", 224, |classes| convnext("convnext_small", [(3, 96), (3, 192), (27, 384), (3, 768)], 0.4, classes)).published("convnext_small-0c510722.pth", 230, 83.616),
    Architecture::new("convnext_base", 224, |classes| convnext("convnext_base", [(3, 128), (3, 256), (27, 512), (3, 1024)], 0.5, classes)).published("convnext_base-6075fbad.pth", 232, 84.062),
    Architecture::new("convnext_large", 224, |classes| convnext("convnext_large", [(3, 192), (3, 384), (27, 768), (3, 1536)], 0.5, classes)).published("convnext_large-ea097f82.pth", 232, 84.414),
    Architecture::new("convnextv2_atto", 224, |classes| convnext_v2("convnextv2_atto", [2, 2, 6, 2], 40, classes)).resize(256).bicubic(),
    Architecture::new("convnextv2_femto", 224, |classes| convnext_v2("convnextv2_femto", [2, 2, 6, 2], 48, classes)).resize(256).bicubic(),
    Architecture::new("convnextv2_pico", 224, |classes| convnext_v2("convnextv2_pico", [2, 2, 6, 2], 64, classes)).resize(256).bicubic(),
    Architecture::new("convnextv2_nano", 224, |classes| convnext_v2("convnextv2_nano", [2, 2, 8, 2], 80, classes)).resize(256).bicubic(),
    Architecture::new("convnextv2_tiny", 224, |classes| convnext_v2("convnextv2_tiny", [3, 3, 9, 3], 96, classes)).resize(256).bicubic(),
    Architecture::new("convnextv2_base", 224, |classes| convnext_v2("convnextv2_base", [3, 3, 27, 3], 128, classes)).resize(256).bicubic(),
    Architecture::new("convnextv2_large", 224, |classes| convnext_v2("convnextv2_large", [3, 3, 27, 3], 192, classes)).resize(256).bicubic(),
    Architecture::new("convnextv2_huge", 384, |classes| convnext_v2("convnextv2_huge", [3, 3, 27, 3], 352, classes)).bicubic(),
    Architecture::new("vit_b_16", 224, |classes| vit("vit_b_16", vit::BASE, 16, classes)).published("vit_b_16-c867db91.pth", 256, 81.072).renaming(vit::renamed),
    Architecture::new("vit_b_32", 224, |classes| vit("vit_b_32", vit::BASE, 32, classes)).published("vit_b_32-d86f8d99.pth", 256, 75.912).renaming(vit::renamed),
    Architecture::new("vit_l_16", 224, |classes| vit("vit_l_16", vit::LARGE, 16, classes)).published("vit_l_16-852ce7e3.pth", 242, 79.662).renaming(vit::renamed),
    Architecture::new("vit_l_32", 224, |classes| vit("vit_l_32", vit::LARGE, 32, classes)).published("vit_l_32-c7638314.pth", 256, 76.972).renaming(vit::renamed),
    Architecture::new("vit_h_14", 224, |classes| vit("vit_h_14", vit::HUGE, 14, classes)).published("vit_h_14_lc_swag-c1eb923e.pth", 224, 85.708).bicubic().renaming(vit::renamed),
    Architecture::new("vit_tiny_patch16_224", 224, |classes| vit("vit_tiny_patch16_224", vit::TINY, 16, classes)).resize(248).bicubic().halves(),
    Architecture::new("vit_small_patch16_224", 224, |classes| vit("vit_small_patch16_224", vit::SMALL, 16, classes)).resize(248).bicubic().halves(),
    Architecture::new("vit_small_patch32_224", 224, |classes| vit("vit_small_patch32_224", vit::SMALL, 32, classes)).resize(248).bicubic().halves(),
    Architecture::new("deit3_small_patch16_224", 224, |classes| changed_vit("deit3_small_patch16_224", vit::SMALL, 16, vit::DEIT3, classes)).resize(248).bicubic(),
    Architecture::new("deit3_base_patch16_224", 224, |classes| changed_vit("deit3_base_patch16_224", vit::BASE, 16, vit::DEIT3, classes)).resize(248).bicubic(),
    Architecture::new("deit3_large_patch16_224", 224, |classes| changed_vit("deit3_large_patch16_224", vit::LARGE, 16, vit::DEIT3, classes)).resize(248).bicubic(),
    Architecture::new("vit_small_patch14_dinov2", 518, |classes| changed_vit("vit_small_patch14_dinov2", vit::SMALL, 14, vit::DINOV2, classes)).bicubic(),
    Architecture::new("vit_base_patch14_dinov2", 518, |classes| changed_vit("vit_base_patch14_dinov2", vit::BASE, 14, vit::DINOV2, classes)).bicubic(),
    Architecture::new("vit_large_patch14_dinov2", 518, |classes| changed_vit("vit_large_patch14_dinov2", vit::LARGE, 14, vit::DINOV2, classes)).bicubic(),
    Architecture::new("vit_small_patch14_reg4_dinov2", 518, |classes| changed_vit("vit_small_patch14_reg4_dinov2", vit::SMALL, 14, vit::DINOV2_REGISTERS, classes)).bicubic(),
    Architecture::new("vit_base_patch14_reg4_dinov2", 518, |classes| changed_vit("vit_base_patch14_reg4_dinov2", vit::BASE, 14, vit::DINOV2_REGISTERS, classes)).bicubic(),
    Architecture::new("vit_large_patch14_reg4_dinov2", 518, |classes| changed_vit("vit_large_patch14_reg4_dinov2", vit::LARGE, 14, vit::DINOV2_REGISTERS, classes)).bicubic(),
    Architecture::new("eva02_tiny_patch14_336", 336, |classes| eva02("eva02_tiny_patch14_336", eva02::TINY, 336, classes)).bicubic().clip(),
    Architecture::new("eva02_small_patch14_336", 336, |classes| eva02("eva02_small_patch14_336", eva02::SMALL, 336, classes)).bicubic().clip(),
    Architecture::new("eva02_base_patch14_448", 448, |classes| eva02("eva02_base_patch14_448", eva02::BASE, 448, classes)).bicubic().clip(),
    Architecture::new("swin_t", 224, |classes| swin("swin_t", swin::Version::One, [2, 2, 6, 2], 96, 3, 0.2, classes)).published("swin_t-704ceda3.pth", 232, 81.474).bicubic(),
    Architecture::new("swin_s", 224, |classes| swin("swin_s", swin::Version::One, [2, 2, 18, 2], 96, 3, 0.3, classes)).published("swin_s-5e29d889.pth", 246, 83.196).bicubic(),
    Architecture::new("swin_b", 224, |classes| swin("swin_b", swin::Version::One, [2, 2, 18, 2], 128, 4, 0.5, classes)).published("swin_b-68c6b09e.pth", 238, 83.582).bicubic(),
    Architecture::new("swin_v2_t", 256, |classes| swin("swin_v2_t", swin::Version::Two, [2, 2, 6, 2], 96, 3, 0.2, classes)).published("swin_v2_t-b137f0e2.pth", 260, 82.072).bicubic(),
    Architecture::new("swin_v2_s", 256, |classes| swin("swin_v2_s", swin::Version::Two, [2, 2, 18, 2], 96, 3, 0.3, classes)).published("swin_v2_s-637d8ceb.pth", 260, 83.712).bicubic(),
    Architecture::new("swin_v2_b", 256, |classes| swin("swin_v2_b", swin::Version::Two, [2, 2, 18, 2], 128, 4, 0.5, classes)).published("swin_v2_b-781e5279.pth", 272, 84.112).bicubic(),
    Architecture::new("maxvit_t", 224, |classes| maxvit("maxvit_t", 64, [(64, 2), (128, 2), (256, 5), (512, 2)], 0.2, classes)).published("maxvit_t-bc5ab103.pth", 224, 83.700).bicubic(),
    Architecture::new("fcn_resnet50", 480, |classes| fcn("fcn_resnet50", [3, 4, 6, 3], false, classes)).masks().published("fcn_resnet50_coco-1167a1af.pth", 480, 60.5).with_auxiliary(|classes| fcn("fcn_resnet50", [3, 4, 6, 3], true, classes)),
    Architecture::new("fcn_resnet101", 480, |classes| fcn("fcn_resnet101", [3, 4, 23, 3], false, classes)).masks().published("fcn_resnet101_coco-7ecb50ca.pth", 480, 63.7).with_auxiliary(|classes| fcn("fcn_resnet101", [3, 4, 23, 3], true, classes)),
    Architecture::new("deeplabv3_resnet50", 480, |classes| deeplabv3("deeplabv3_resnet50", [3, 4, 6, 3], false, classes)).masks().published("deeplabv3_resnet50_coco-cd0a2569.pth", 480, 66.4).with_auxiliary(|classes| deeplabv3("deeplabv3_resnet50", [3, 4, 6, 3], true, classes)),
    Architecture::new("deeplabv3_resnet101", 480, |classes| deeplabv3("deeplabv3_resnet101", [3, 4, 23, 3], false, classes)).masks().published("deeplabv3_resnet101_coco-586e9e4e.pth", 480, 67.4).with_auxiliary(|classes| deeplabv3("deeplabv3_resnet101", [3, 4, 23, 3], true, classes)),
    Architecture::new("deeplabv3_mobilenet_v3_large", 480, |classes| deeplabv3_mobilenet("deeplabv3_mobilenet_v3_large", false, classes)).masks().published("deeplabv3_mobilenet_v3_large-fc3c493d.pth", 480, 60.3).with_auxiliary(|classes| deeplabv3_mobilenet("deeplabv3_mobilenet_v3_large", true, classes)),
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

/// The architecture that timm calls `name`, where that is known to be timm's name: `efficientnet_lite0` is another network there.
///
/// # Errors
/// As of [`architecture`].
pub fn timms_architecture(name: &str) -> Result<Architecture, UnknownArchitecture> {
    architecture_of_timm(name).map_or_else(|| architecture(name), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    /// torchvision's state dicts, recorded by `scripts/parity --record`: architecture, classes, trained values, GMACs as
    /// torchvision publishes them, keys, and a hash of all keys and shapes in order.
    const RECORDED: &str = include_str!("../tests/torchvision.tsv");

    /// The same of the networks that only timm has, by its names: architecture, trained values, GMACs as PyTorch counts them, keys, and a
    /// hash of all keys and shapes, sorted.
    const RECORDED_OF_TIMM: &str = include_str!("../tests/timm.tsv");

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
            .filter(|name| !["lenet", "unet", "unet_small"].contains(name)) // our own
            .filter(|name| !of_timm().any(|row| row[0] == *name))
            .collect();
        assert_eq!(seen, all);
    }

    fn of_timm() -> impl Iterator<Item = Vec<&'static str>> {
        RECORDED_OF_TIMM.lines().filter(|line| !line.starts_with('#')).map(|row| row.split('\t').collect())
    }

    #[test]
    fn keys_shapes_and_costs_are_timms() {
        for row in of_timm() {
            let &[name, trained, gmacs, keys, hash] = row.as_slice() else { panic!("{row:?}") };
            let known = architecture(name).unwrap();
            let network = known.network(1000);
            let shape = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
            let weights = network.parameters().into_iter();
            let weights = weights.filter_map(|parameter| known.timm_weight(&parameter.name, &parameter.shape));
            let mut lines: Vec<_> =
                weights.map(|weight| format!("{} {}\n", weight.name, shape(&weight.shape))).collect();
            lines.sort_unstable();
            assert_eq!(lines.len().to_string(), keys, "keys of {name}");
            let listing = lines.concat();
            assert_eq!(format!("{:016x}", fnv1a(listing.as_bytes())), hash, "keys and shapes of {name}:\n{listing}");
            let cost = network.cost(known.image_size, known.image_size).unwrap();
            assert_eq!(cost.parameters.to_string(), trained, "trained values of {name}");
            let expected: f64 = gmacs.parse().unwrap();
            assert!(
                (cost.macs as f64 / 1e9 / expected - 1.0).abs() <= 0.02,
                "{name}: {} MACs, not {gmacs} G",
                cost.macs
            );
        }
        assert!(of_timm().count() >= 39);
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
            let count = match known.name {
                name if name.starts_with("lraspp") => 4,
                "maxvit_t" => 1, // without a bias
                _ => 2,
            };
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
            }
            assert!(known.input.resize >= known.image_size, "{}", known.name);
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
