//! timm's names: of the networks that both have, and of their weights.
//!
//! Rules turn torchvision's name of a weight, which is ours, into timm's. In a pattern `{s}` stands for a number and `*` for the rest;
//! what a number becomes may be computed from it (`{s-1}`, `{s/2}`). The first rule that fits counts; a name that none fits is the same
//! in both. Checked against timm itself by `scripts/parity --timm`, which also compares what the networks give.

use crate::catalogue::{Architecture, architecture};

/// A network that timm has, too.
struct Twin {
    ours: &'static str,
    timm: &'static str,
    rules: &'static [Rule],
}

/// A pattern, what it becomes, and how the weight's shape differs.
type Rule = (&'static str, &'static str, Change);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Same,
    /// A matrix here, and there a convolution over that many pixels squared.
    Convolution(usize),
    /// C×1×1 here, and C there.
    Row,
    /// Computed there, and no weight.
    Absent,
}

use Change::{Absent, Convolution, Row, Same};

const ALIKE: &[Rule] = &[];

const VGG: &[Rule] = &[
    ("classifier.0.weight", "pre_logits.fc1.weight", Convolution(7)),
    ("classifier.3.weight", "pre_logits.fc2.weight", Convolution(1)),
    ("classifier.0.*", "pre_logits.fc1.*", Same),
    ("classifier.3.*", "pre_logits.fc2.*", Same),
    ("classifier.6.*", "head.fc.*", Same),
];

const VIT: &[Rule] = &[
    ("class_token", "cls_token", Same),
    ("register_tokens", "reg_token", Same),
    ("encoder.layers.encoder_layer_{n}.layer_scale_{i}", "blocks.{n}.ls{i}.gamma", Same),
    ("conv_proj.*", "patch_embed.proj.*", Same),
    ("encoder.pos_embedding", "pos_embed", Same),
    ("encoder.layers.encoder_layer_{n}.ln_1.*", "blocks.{n}.norm1.*", Same),
    ("encoder.layers.encoder_layer_{n}.ln_2.*", "blocks.{n}.norm2.*", Same),
    ("encoder.layers.encoder_layer_{n}.self_attention.in_proj_weight", "blocks.{n}.attn.qkv.weight", Same),
    ("encoder.layers.encoder_layer_{n}.self_attention.in_proj_bias", "blocks.{n}.attn.qkv.bias", Same),
    ("encoder.layers.encoder_layer_{n}.self_attention.out_proj.*", "blocks.{n}.attn.proj.*", Same),
    ("encoder.layers.encoder_layer_{n}.mlp.0.*", "blocks.{n}.mlp.fc1.*", Same),
    ("encoder.layers.encoder_layer_{n}.mlp.3.*", "blocks.{n}.mlp.fc2.*", Same),
    ("encoder.ln.*", "norm.*", Same),
    ("heads.head.*", "head.*", Same),
];

const CONVNEXT: &[Rule] = &[
    ("features.0.{i}.*", "stem.{i}.*", Same),
    ("features.{s}.{n}.layer_scale", "stages.{s/2}.blocks.{n}.gamma", Row),
    ("features.{s}.{n}.block.0.*", "stages.{s/2}.blocks.{n}.conv_dw.*", Same),
    ("features.{s}.{n}.block.2.*", "stages.{s/2}.blocks.{n}.norm.*", Same),
    ("features.{s}.{n}.block.3.*", "stages.{s/2}.blocks.{n}.mlp.fc1.*", Same),
    ("features.{s}.{n}.block.5.*", "stages.{s/2}.blocks.{n}.mlp.fc2.*", Same),
    ("features.{s}.{i}.*", "stages.{s/2}.downsample.{i}.*", Same),
    ("classifier.0.*", "head.norm.*", Same),
    ("classifier.2.*", "head.fc.*", Same),
];

const CONVNEXT_V2: &[Rule] = &[
    ("features.0.{i}.*", "stem.{i}.*", Same),
    ("features.{s}.{n}.block.0.*", "stages.{s/2}.blocks.{n}.conv_dw.*", Same),
    ("features.{s}.{n}.block.2.*", "stages.{s/2}.blocks.{n}.norm.*", Same),
    ("features.{s}.{n}.block.3.*", "stages.{s/2}.blocks.{n}.mlp.fc1.*", Same),
    ("features.{s}.{n}.block.5.*", "stages.{s/2}.blocks.{n}.mlp.grn.*", Same),
    ("features.{s}.{n}.block.6.*", "stages.{s/2}.blocks.{n}.mlp.fc2.*", Same),
    ("features.{s}.{i}.*", "stages.{s/2}.downsample.{i}.*", Same),
    ("classifier.0.*", "head.norm.*", Same),
    ("classifier.2.*", "head.fc.*", Same),
];

/// Those whose linear layers timm writes as convolutions.
const SMALL_CONVNEXT_V2: &[Rule] = &[
    ("features.0.{i}.*", "stem.{i}.*", Same),
    ("features.{s}.{n}.block.0.*", "stages.{s/2}.blocks.{n}.conv_dw.*", Same),
    ("features.{s}.{n}.block.2.*", "stages.{s/2}.blocks.{n}.norm.*", Same),
    ("features.{s}.{n}.block.3.weight", "stages.{s/2}.blocks.{n}.mlp.fc1.weight", Convolution(1)),
    ("features.{s}.{n}.block.3.*", "stages.{s/2}.blocks.{n}.mlp.fc1.*", Same),
    ("features.{s}.{n}.block.5.*", "stages.{s/2}.blocks.{n}.mlp.grn.*", Same),
    ("features.{s}.{n}.block.6.weight", "stages.{s/2}.blocks.{n}.mlp.fc2.weight", Convolution(1)),
    ("features.{s}.{n}.block.6.*", "stages.{s/2}.blocks.{n}.mlp.fc2.*", Same),
    ("features.{s}.{i}.*", "stages.{s/2}.downsample.{i}.*", Same),
    ("classifier.0.*", "head.norm.*", Same),
    ("classifier.2.*", "head.fc.*", Same),
];

const SWIN: &[Rule] = &[
    ("features.0.0.*", "patch_embed.proj.*", Same),
    ("features.0.2.*", "patch_embed.norm.*", Same),
    ("features.{s}.{n}.attn.relative_position_index", "", Absent),
    ("features.{s}.{n}.mlp.0.*", "layers.{s/2}.blocks.{n}.mlp.fc1.*", Same),
    ("features.{s}.{n}.mlp.3.*", "layers.{s/2}.blocks.{n}.mlp.fc2.*", Same),
    ("features.{s}.{n}.*", "layers.{s/2}.blocks.{n}.*", Same),
    ("features.{s}.*", "layers.{s/2}.downsample.*", Same),
    ("head.*", "head.fc.*", Same),
];

const EFFICIENTNET: &[Rule] = &[
    ("features.0.0.*", "conv_stem.*", Same),
    ("features.0.1.*", "bn1.*", Same),
    ("features.8.0.*", "conv_head.*", Same),
    ("features.8.1.*", "bn2.*", Same),
    // The blocks of the first stage widen nothing.
    ("features.1.{n}.block.0.0.*", "blocks.0.{n}.conv_dw.*", Same),
    ("features.1.{n}.block.0.1.*", "blocks.0.{n}.bn1.*", Same),
    ("features.1.{n}.block.1.fc1.*", "blocks.0.{n}.se.conv_reduce.*", Same),
    ("features.1.{n}.block.1.fc2.*", "blocks.0.{n}.se.conv_expand.*", Same),
    ("features.1.{n}.block.2.0.*", "blocks.0.{n}.conv_pw.*", Same),
    ("features.1.{n}.block.2.1.*", "blocks.0.{n}.bn2.*", Same),
    ("features.{s}.{n}.block.0.0.*", "blocks.{s-1}.{n}.conv_pw.*", Same),
    ("features.{s}.{n}.block.0.1.*", "blocks.{s-1}.{n}.bn1.*", Same),
    ("features.{s}.{n}.block.1.0.*", "blocks.{s-1}.{n}.conv_dw.*", Same),
    ("features.{s}.{n}.block.1.1.*", "blocks.{s-1}.{n}.bn2.*", Same),
    ("features.{s}.{n}.block.2.fc1.*", "blocks.{s-1}.{n}.se.conv_reduce.*", Same),
    ("features.{s}.{n}.block.2.fc2.*", "blocks.{s-1}.{n}.se.conv_expand.*", Same),
    ("features.{s}.{n}.block.3.0.*", "blocks.{s-1}.{n}.conv_pwl.*", Same),
    ("features.{s}.{n}.block.3.1.*", "blocks.{s-1}.{n}.bn3.*", Same),
    ("classifier.1.*", "classifier.*", Same),
];

/// Of TensorFlow's arithmetic; timm's networks without `tf_` pad otherwise.
const EFFICIENTNET_LITE: &[Rule] = &[
    ("features.0.0.*", "conv_stem.*", Same),
    ("features.0.1.*", "bn1.*", Same),
    ("features.8.0.*", "conv_head.*", Same),
    ("features.8.1.*", "bn2.*", Same),
    ("features.1.{n}.block.0.0.*", "blocks.0.{n}.conv_dw.*", Same),
    ("features.1.{n}.block.0.1.*", "blocks.0.{n}.bn1.*", Same),
    ("features.1.{n}.block.1.0.*", "blocks.0.{n}.conv_pw.*", Same),
    ("features.1.{n}.block.1.1.*", "blocks.0.{n}.bn2.*", Same),
    ("features.{s}.{n}.block.0.0.*", "blocks.{s-1}.{n}.conv_pw.*", Same),
    ("features.{s}.{n}.block.0.1.*", "blocks.{s-1}.{n}.bn1.*", Same),
    ("features.{s}.{n}.block.1.0.*", "blocks.{s-1}.{n}.conv_dw.*", Same),
    ("features.{s}.{n}.block.1.1.*", "blocks.{s-1}.{n}.bn2.*", Same),
    ("features.{s}.{n}.block.2.0.*", "blocks.{s-1}.{n}.conv_pwl.*", Same),
    ("features.{s}.{n}.block.2.1.*", "blocks.{s-1}.{n}.bn3.*", Same),
    ("classifier.1.*", "classifier.*", Same),
];

const MOBILENET_V2: &[Rule] = &[
    ("features.0.0.*", "conv_stem.*", Same),
    ("features.0.1.*", "bn1.*", Same),
    ("features.18.0.*", "conv_head.*", Same),
    ("features.18.1.*", "bn2.*", Same),
    ("features.1.conv.0.0.*", "blocks.{s}.{n}.conv_dw.*", Same),
    ("features.1.conv.0.1.*", "blocks.{s}.{n}.bn1.*", Same),
    ("features.1.conv.1.*", "blocks.{s}.{n}.conv_pw.*", Same),
    ("features.1.conv.2.*", "blocks.{s}.{n}.bn2.*", Same),
    ("features.{b}.conv.0.0.*", "blocks.{s}.{n}.conv_pw.*", Same),
    ("features.{b}.conv.0.1.*", "blocks.{s}.{n}.bn1.*", Same),
    ("features.{b}.conv.1.0.*", "blocks.{s}.{n}.conv_dw.*", Same),
    ("features.{b}.conv.1.1.*", "blocks.{s}.{n}.bn2.*", Same),
    ("features.{b}.conv.2.*", "blocks.{s}.{n}.conv_pwl.*", Same),
    ("features.{b}.conv.3.*", "blocks.{s}.{n}.bn3.*", Same),
    ("classifier.1.*", "classifier.*", Same),
];

/// The first block of each stage of MobileNetV2, which torchvision numbers through.
const MOBILENET_V2_STAGES: [usize; 7] = [1, 2, 4, 7, 11, 14, 17];

const TWINS: &[Twin] = &[
    Twin { ours: "resnet18", timm: "resnet18", rules: ALIKE },
    Twin { ours: "resnet34", timm: "resnet34", rules: ALIKE },
    Twin { ours: "resnet50", timm: "resnet50", rules: ALIKE },
    Twin { ours: "resnet101", timm: "resnet101", rules: ALIKE },
    Twin { ours: "resnet152", timm: "resnet152", rules: ALIKE },
    Twin { ours: "wide_resnet50_2", timm: "wide_resnet50_2", rules: ALIKE },
    Twin { ours: "resnext50_32x4d", timm: "resnext50_32x4d", rules: ALIKE },
    Twin { ours: "wide_resnet101_2", timm: "wide_resnet101_2", rules: ALIKE },
    Twin { ours: "resnext101_32x8d", timm: "resnext101_32x8d", rules: ALIKE },
    Twin { ours: "resnext101_64x4d", timm: "resnext101_64x4d", rules: ALIKE },
    Twin { ours: "resnet18d", timm: "resnet18d", rules: ALIKE },
    Twin { ours: "resnet26d", timm: "resnet26d", rules: ALIKE },
    Twin { ours: "resnet34d", timm: "resnet34d", rules: ALIKE },
    Twin { ours: "resnet50d", timm: "resnet50d", rules: ALIKE },
    Twin { ours: "resnet101d", timm: "resnet101d", rules: ALIKE },
    Twin { ours: "resnet152d", timm: "resnet152d", rules: ALIKE },
    Twin { ours: "resnetrs50", timm: "resnetrs50", rules: ALIKE },
    Twin { ours: "resnetrs101", timm: "resnetrs101", rules: ALIKE },
    Twin { ours: "resnetrs152", timm: "resnetrs152", rules: ALIKE },
    Twin { ours: "densenet121", timm: "densenet121", rules: ALIKE },
    Twin { ours: "densenet161", timm: "densenet161", rules: ALIKE },
    Twin { ours: "densenet169", timm: "densenet169", rules: ALIKE },
    Twin { ours: "densenet201", timm: "densenet201", rules: ALIKE },
    Twin { ours: "vgg11", timm: "vgg11", rules: VGG },
    Twin { ours: "vgg13", timm: "vgg13", rules: VGG },
    Twin { ours: "vgg16", timm: "vgg16", rules: VGG },
    Twin { ours: "vgg19", timm: "vgg19", rules: VGG },
    Twin { ours: "vgg11_bn", timm: "vgg11_bn", rules: VGG },
    Twin { ours: "vgg13_bn", timm: "vgg13_bn", rules: VGG },
    Twin { ours: "vgg16_bn", timm: "vgg16_bn", rules: VGG },
    Twin { ours: "vgg19_bn", timm: "vgg19_bn", rules: VGG },
    Twin { ours: "vit_b_16", timm: "vit_base_patch16_224", rules: VIT },
    Twin { ours: "vit_b_32", timm: "vit_base_patch32_224", rules: VIT },
    Twin { ours: "vit_l_16", timm: "vit_large_patch16_224", rules: VIT },
    Twin { ours: "vit_l_32", timm: "vit_large_patch32_224", rules: VIT },
    Twin { ours: "vit_h_14", timm: "vit_huge_patch14_224", rules: VIT },
    Twin { ours: "vit_tiny_patch16_224", timm: "vit_tiny_patch16_224", rules: VIT },
    Twin { ours: "vit_small_patch16_224", timm: "vit_small_patch16_224", rules: VIT },
    Twin { ours: "vit_small_patch32_224", timm: "vit_small_patch32_224", rules: VIT },
    Twin { ours: "deit3_small_patch16_224", timm: "deit3_small_patch16_224", rules: VIT },
    Twin { ours: "deit3_base_patch16_224", timm: "deit3_base_patch16_224", rules: VIT },
    Twin { ours: "deit3_large_patch16_224", timm: "deit3_large_patch16_224", rules: VIT },
    Twin { ours: "vit_small_patch14_dinov2", timm: "vit_small_patch14_dinov2", rules: VIT },
    Twin { ours: "vit_base_patch14_dinov2", timm: "vit_base_patch14_dinov2", rules: VIT },
    Twin { ours: "vit_large_patch14_dinov2", timm: "vit_large_patch14_dinov2", rules: VIT },
    Twin { ours: "vit_small_patch14_reg4_dinov2", timm: "vit_small_patch14_reg4_dinov2", rules: VIT },
    Twin { ours: "vit_base_patch14_reg4_dinov2", timm: "vit_base_patch14_reg4_dinov2", rules: VIT },
    Twin { ours: "vit_large_patch14_reg4_dinov2", timm: "vit_large_patch14_reg4_dinov2", rules: VIT },
    Twin { ours: "eva02_tiny_patch14_336", timm: "eva02_tiny_patch14_336", rules: ALIKE },
    Twin { ours: "eva02_small_patch14_336", timm: "eva02_small_patch14_336", rules: ALIKE },
    Twin { ours: "eva02_base_patch14_448", timm: "eva02_base_patch14_448", rules: ALIKE },
    Twin { ours: "convnext_tiny", timm: "convnext_tiny", rules: CONVNEXT },
    Twin { ours: "convnext_small", timm: "convnext_small", rules: CONVNEXT },
    Twin { ours: "convnext_base", timm: "convnext_base", rules: CONVNEXT },
    Twin { ours: "convnext_large", timm: "convnext_large", rules: CONVNEXT },
    Twin { ours: "convnextv2_atto", timm: "convnextv2_atto", rules: SMALL_CONVNEXT_V2 },
    Twin { ours: "convnextv2_femto", timm: "convnextv2_femto", rules: SMALL_CONVNEXT_V2 },
    Twin { ours: "convnextv2_pico", timm: "convnextv2_pico", rules: SMALL_CONVNEXT_V2 },
    Twin { ours: "convnextv2_nano", timm: "convnextv2_nano", rules: SMALL_CONVNEXT_V2 },
    Twin { ours: "convnextv2_tiny", timm: "convnextv2_tiny", rules: CONVNEXT_V2 },
    Twin { ours: "convnextv2_base", timm: "convnextv2_base", rules: CONVNEXT_V2 },
    Twin { ours: "convnextv2_large", timm: "convnextv2_large", rules: CONVNEXT_V2 },
    Twin { ours: "convnextv2_huge", timm: "convnextv2_huge", rules: CONVNEXT_V2 },
    Twin { ours: "swin_t", timm: "swin_tiny_patch4_window7_224", rules: SWIN },
    Twin { ours: "swin_s", timm: "swin_small_patch4_window7_224", rules: SWIN },
    Twin { ours: "swin_b", timm: "swin_base_patch4_window7_224", rules: SWIN },
    Twin { ours: "efficientnet_b0", timm: "efficientnet_b0", rules: EFFICIENTNET },
    Twin { ours: "efficientnet_b1", timm: "efficientnet_b1", rules: EFFICIENTNET },
    Twin { ours: "efficientnet_b2", timm: "efficientnet_b2", rules: EFFICIENTNET },
    Twin { ours: "efficientnet_b3", timm: "efficientnet_b3", rules: EFFICIENTNET },
    Twin { ours: "efficientnet_b4", timm: "efficientnet_b4", rules: EFFICIENTNET },
    Twin { ours: "efficientnet_lite0", timm: "tf_efficientnet_lite0", rules: EFFICIENTNET_LITE },
    Twin { ours: "efficientnet_lite1", timm: "tf_efficientnet_lite1", rules: EFFICIENTNET_LITE },
    Twin { ours: "efficientnet_lite2", timm: "tf_efficientnet_lite2", rules: EFFICIENTNET_LITE },
    Twin { ours: "efficientnet_lite0_even", timm: "efficientnet_lite0", rules: EFFICIENTNET_LITE },
    Twin { ours: "efficientnet_lite1_even", timm: "efficientnet_lite1", rules: EFFICIENTNET_LITE },
    Twin { ours: "efficientnet_lite2_even", timm: "efficientnet_lite2", rules: EFFICIENTNET_LITE },
    Twin { ours: "mobilenet_v2", timm: "mobilenetv2_100", rules: MOBILENET_V2 },
    Twin { ours: "mobilenetv4_conv_small", timm: "mobilenetv4_conv_small", rules: ALIKE },
    Twin { ours: "mobilenetv4_conv_medium", timm: "mobilenetv4_conv_medium", rules: ALIKE },
    Twin { ours: "mobilenetv4_conv_large", timm: "mobilenetv4_conv_large", rules: ALIKE },
    Twin { ours: "mobilenetv4_hybrid_medium", timm: "mobilenetv4_hybrid_medium", rules: ALIKE },
];

/// Endings of files, which are no tags.
const ENDINGS: &[&str] = &["pth", "pt", "safetensors", "npz", "onnx", "ckpt", "bin", "tar"];

/// The architecture that timm calls `name`, perhaps with the tag of its weights behind a dot: "vit_base_patch16_224.augreg_in1k".
pub(crate) fn architecture_of_timm(name: &str) -> Option<Architecture> {
    let (model, tag) = name.split_once('.').unwrap_or((name, "any"));
    let is_tag = !tag.is_empty()
        && !ENDINGS.contains(&tag)
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_tag {
        return None;
    }
    let twin = TWINS.iter().find(|twin| twin.timm == model)?;
    architecture(twin.ours).ok()
}

/// A weight as timm has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimmWeight {
    /// Its name.
    pub name: String,
    /// Its shape; as many values in the same order.
    pub shape: Vec<usize>,
}

impl Architecture {
    /// What timm calls it, if it has it with the same arithmetic.
    pub fn timm_name(&self) -> Option<&'static str> {
        TWINS.iter().find(|twin| twin.ours == self.name).map(|twin| twin.timm)
    }

    /// The weight called `name` here, of this `shape`, as timm has it; `None` where timm has no such weight, or no such network.
    pub fn timm_weight(&self, name: &str, shape: &[usize]) -> Option<TimmWeight> {
        let twin = TWINS.iter().find(|twin| twin.ours == self.name)?;
        let same = || Some(TimmWeight { name: name.to_owned(), shape: shape.to_vec() });
        let Some((numbers, rest, (_, template, change))) =
            twin.rules.iter().find_map(|rule| matches(rule.0, name).map(|(numbers, rest)| (numbers, rest, rule)))
        else {
            return same();
        };
        let shape = match (*change, shape) {
            (Absent, _) => return None,
            (Convolution(side), &[outputs, inputs]) => vec![outputs, inputs / (side * side), side, side],
            (Row, [channels, ..]) => vec![*channels],
            _ => shape.to_vec(),
        };
        Some(TimmWeight { name: fill(template, &numbers, rest), shape })
    }
}

/// The numbers and the rest that `pattern` stands for in `name`.
fn matches<'a>(pattern: &'static str, name: &'a str) -> Option<(Vec<(&'static str, usize)>, &'a str)> {
    let (mut pattern, mut name) = (pattern, name);
    let mut numbers = Vec::new();
    loop {
        let Some(at) = pattern.find(['{', '*']) else { return (pattern == name).then_some((numbers, "")) };
        name = name.strip_prefix(&pattern[..at])?;
        if pattern[at..].starts_with('*') {
            return Some((numbers, name));
        }
        let (letter, behind) = pattern[at + 1..].split_once('}')?;
        let digits = name.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(name.len());
        numbers.push((letter, name[..digits].parse().ok()?));
        (pattern, name) = (behind, &name[digits..]);
    }
}

/// A template with its numbers and the rest in place.
fn fill(template: &str, numbers: &[(&str, usize)], rest: &str) -> String {
    let number = |letter: &str| numbers.iter().find(|(own, _)| *own == letter).map_or(1, |&(_, number)| number);
    // Blocks that are numbered through: which stage, and which of its blocks.
    let stage = MOBILENET_V2_STAGES.partition_point(|&first| first <= number("b")) - 1;
    let mut filled = String::new();
    let mut template = template;
    while let Some((before, behind)) = template.split_once('{') {
        let (term, after) = behind.split_once('}').unwrap_or((behind, ""));
        let known = |letter: &str| numbers.iter().any(|(own, _)| *own == letter);
        let value = match (&term[..1], &term[1..]) {
            (letter, "-1") => number(letter) - 1,
            (letter, "/2") => number(letter) / 2,
            ("s", _) if !known("s") => stage,
            ("n", _) if !known("n") => number("b") - MOBILENET_V2_STAGES[stage],
            (letter, _) => number(letter),
        };
        filled += before;
        filled += &value.to_string();
        template = after;
    }
    filled + &template.replace('*', rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_of_weights() {
        let cases = [
            ("resnet50", "layer4.2.bn3.running_var", "layer4.2.bn3.running_var"),
            ("vgg16", "classifier.0.weight", "pre_logits.fc1.weight"),
            ("vit_b_16", "encoder.layers.encoder_layer_11.self_attention.in_proj_bias", "blocks.11.attn.qkv.bias"),
            ("vit_b_32", "heads.head.weight", "head.weight"),
            ("convnext_tiny", "features.7.2.layer_scale", "stages.3.blocks.2.gamma"),
            ("convnext_tiny", "features.4.1.bias", "stages.2.downsample.1.bias"),
            ("convnext_base", "features.0.1.weight", "stem.1.weight"),
            ("convnextv2_atto", "features.7.1.block.5.bias", "stages.3.blocks.1.mlp.grn.bias"),
            ("convnextv2_tiny", "features.3.2.block.6.weight", "stages.1.blocks.2.mlp.fc2.weight"),
            ("swin_t", "features.2.reduction.weight", "layers.1.downsample.reduction.weight"),
            ("swin_t", "features.5.3.attn.qkv.weight", "layers.2.blocks.3.attn.qkv.weight"),
            ("efficientnet_b0", "features.1.0.block.2.1.bias", "blocks.0.0.bn2.bias"),
            ("efficientnet_b0", "features.6.3.block.2.fc2.weight", "blocks.5.3.se.conv_expand.weight"),
            ("mobilenet_v2", "features.1.conv.1.weight", "blocks.0.0.conv_pw.weight"),
            ("mobilenet_v2", "features.6.conv.2.weight", "blocks.2.2.conv_pwl.weight"),
            ("mobilenet_v2", "features.17.conv.3.num_batches_tracked", "blocks.6.0.bn3.num_batches_tracked"),
        ];
        for (network, ours, expected) in cases {
            let found = architecture(network).unwrap().timm_weight(ours, &[98, 98]).unwrap();
            assert_eq!(found.name, expected, "{network}");
        }
        let shape = |network: &str, name: &str, shape: &[usize]| {
            architecture(network).unwrap().timm_weight(name, shape).unwrap().shape
        };
        assert_eq!(shape("vgg11", "classifier.0.weight", &[4096, 25088]), [4096, 512, 7, 7]);
        assert_eq!(shape("convnext_tiny", "features.1.0.layer_scale", &[96, 1, 1]), [96]);
        assert_eq!(shape("convnextv2_nano", "features.1.0.block.6.weight", &[80, 320]), [80, 320, 1, 1]);
    }

    #[test]
    fn every_twin_is_there_and_no_two_weights_have_one_name() {
        for twin in TWINS {
            let known = architecture(twin.ours).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(architecture(&format!("{}.some_tag", twin.timm)).unwrap().name, twin.ours);
            assert!(architecture(&format!("{}.pth", twin.timm)).is_err());
            let parameters = known.network(10).parameters();
            let mut names = HashSet::new();
            for parameter in &parameters {
                let Some(weight) = known.timm_weight(&parameter.name, &parameter.shape) else { continue };
                let count = |shape: &[usize]| shape.iter().product::<usize>();
                assert_eq!(count(&weight.shape), count(&parameter.shape), "{}: {}", twin.ours, parameter.name);
                assert!(names.insert(weight.name), "{}: {}", twin.ours, parameter.name);
            }
        }
    }
}
