//! The model card for people: `README.md`, as model hubs show it.

use std::fmt::Write;

use crate::{FitKind, ImageInput, MULTILABEL, ModelCard, PixelKind, REGRESSION, SEGMENTATION};

/// What a card does not say of itself.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What it was trained on, for people.
    pub data: String,
    /// Whether torchvision has the network under the same name, with the same keys.
    pub is_in_torchvision: bool,
    /// After which epoch the scores of the classes were found; `None` where there are none.
    pub epoch: Option<usize>,
    /// The scores of each class.
    pub classes: Vec<ClassLine>,
}

/// The scores of a class.
#[derive(Clone, Debug)]
pub struct ClassLine {
    /// Its name.
    pub name: String,
    /// Validation images of it.
    pub support: u64,
    /// Shares, 0–1; `None` where nothing was there to divide by.
    pub precision: Option<f64>,
    /// As precision.
    pub recall: Option<f64>,
    /// As precision.
    pub f1: Option<f64>,
}

/// What a README that was written here begins with; another one is somebody's own.
pub const README_START: &str = "---\nlibrary_name: rust-train\n";

/// Most classes that are listed.
const MOST_CLASSES: usize = 200;

impl ModelCard {
    /// The card for people, in Markdown, with the front matter that model hubs read.
    pub fn readme(&self, about: &About) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text, about);
        text
    }

    fn write(&self, text: &mut String, about: &About) -> std::fmt::Result {
        let is_classification = self.task == "classification";
        let kind = match self.task.as_str() {
            "classification" => "image-classification",
            SEGMENTATION => "image-segmentation",
            _ => "image-feature-extraction",
        };
        let data = one_line(&about.data);
        let name = format!("{} on {data}", self.network);
        write!(text, "{README_START}pipeline_tag: {kind}\ntags:\n- rust-train\n- {}\n", self.network)?;
        if let Some(scores) = &self.scores {
            write!(
                text,
                "model-index:\n- name: {name:?}\n  results:\n  - task:\n      type: {kind}\n    dataset:\n      type: imagefolder\n      \
                 name: {data:?}\n      split: validation\n    metrics:\n"
            )?;
            let accuracy = scores.metrics.get("top1").filter(|_| is_classification);
            match accuracy {
                Some(top1) => writeln!(text, "    - type: accuracy\n      value: {top1}")?,
                None => writeln!(text, "    - type: loss\n      value: {}", scores.loss)?,
            }
        }
        write!(text, "---\n\n# {name}\n\n")?;
        let classes = match self.classes.len() {
            0 => String::new(),
            count if self.task == REGRESSION => format!(", {count} number{}", if count == 1 { "" } else { "s" }),
            count if self.task == MULTILABEL => format!(", {count} labels"),
            count => format!(", {count} classes"),
        };
        writeln!(text, "{} trained with rust-train: {}{classes}.\n", self.network, self.task)?;
        self.write_scores(text, about)?;
        self.write_images(text)?;
        self.write_use(text, about)?;
        write!(
            text,
            "## Training\n\nThe flags that decided about the result (all of them: `plan.toml`):\n\n```toml\n"
        )?;
        for (key, value) in &self.plan {
            writeln!(text, "{key} = {value}")?;
        }
        write!(text, "```\n\n")?;
        let versions: Vec<_> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(text, "{}", versions.join(", "))
    }

    fn write_scores(&self, text: &mut String, about: &About) -> std::fmt::Result {
        text.push_str("## Scores\n\n");
        match &self.scores {
            None => text.push_str("None: there was nothing to validate on, or its loss was not finite.\n\n"),
            Some(scores) => {
                write!(text, "After epoch {}, on {} validation images: ", scores.epoch, scores.samples)?;
                for (name, value) in &scores.metrics {
                    write!(text, "{name} {value:.4}, ")?;
                }
                write!(text, "loss {:.4}.\n\n", scores.loss)?;
            }
        }
        let (Some(epoch), false) = (about.epoch, about.classes.is_empty()) else { return Ok(()) };
        write!(
            text,
            "Of each class, after epoch {epoch}:\n\n| class | images | precision | recall | F1 |\n|---|--:|--:|--:|--:|\n"
        )?;
        let share = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
        for class in about.classes.iter().take(MOST_CLASSES) {
            let ClassLine { name, support, precision, recall, f1 } = class;
            let name = one_line(name).replace('|', "\\|");
            writeln!(text, "| {name} | {support} | {} | {} | {} |", share(*precision), share(*recall), share(*f1))?;
        }
        if about.classes.len() > MOST_CLASSES {
            writeln!(text, "\n… and {} more: `evaluation.json`", about.classes.len() - MOST_CLASSES)?;
        }
        text.push('\n');
        Ok(())
    }

    fn write_images(&self, text: &mut String) -> std::fmt::Result {
        let images = &self.images;
        if images.pixels == PixelKind::Planes {
            let of_type = images.numbers.as_ref().map_or(String::new(), |numbers| format!(" of {}", numbers.type_name));
            return write!(
                text,
                "## Images\n\nArrays of {} channels{of_type}, {}, minus {:?}, divided by {:?}. Bytes are divided by 255 first; other \
                 numbers are in their own unit. The same stands as JSON in the metadata `rust-train` of every file that holds the \
                 weights.\n\n",
                images.channels,
                square(images),
                images.mean,
                images.std,
            );
        }
        let upright = if images.exif_orientation { "turned upright as EXIF says, " } else { "" };
        write!(
            text,
            "## Images\n\nRGB, {upright}{}, divided by 255, minus {:?}, divided by {:?}. The same stands as JSON in the metadata \
             `rust-train` of every file that holds the weights.\n\n",
            square(images),
            images.mean,
            images.std,
        )
    }

    fn write_use(&self, text: &mut String, about: &About) -> std::fmt::Result {
        let images = &self.images;
        if self.task == SEGMENTATION {
            return write!(
                text,
                "## Use\n\n```\nrust-train predict photo.jpg --weights . --output masks\nrust-train eval . --data FOLDER\nrust-train export . \
                 --output model.onnx\n```\n\nMasks have the numbers {:?} for the classes, in their order.\n\n",
                self.masks
                    .as_ref()
                    .map_or_else(|| (0..self.classes.len() as u32).collect(), |masks| masks.values.clone()),
            );
        }
        if images.pixels == PixelKind::Planes || self.task != "classification" {
            return write!(
                text,
                "## Use\n\n```\nrust-train eval . --data FILE\nrust-train export . --output model.onnx\n```\n\n"
            );
        }
        write!(
            text,
            "## Use\n\n```\nrust-train predict photo.jpg --weights .\nrust-train eval . --data FOLDER\nrust-train export . --output \
             model.onnx\n```\n\n"
        )?;
        let transpose = if images.exif_orientation {
            "ImageOps.exif_transpose(Image.open(\"photo.jpg\"))"
        } else {
            "Image.open(\"photo.jpg\")"
        };
        let imports = if images.exif_orientation { "Image, ImageOps" } else { "Image" };
        let filter = images.resample.to_uppercase();
        let (resize, size) = (images.resize, images.size);
        write!(
            text,
            "Python with ONNX Runtime, for `model.onnx`:\n\n```python\nimport json, numpy, onnxruntime\nfrom PIL import {imports}\n\n\
             model = onnxruntime.InferenceSession(\"model.onnx\")\ncard = json.loads(model.get_modelmeta().custom_metadata_map[\"rust-train\"])\n\
             image = {transpose}.convert(\"RGB\")\n\
             image = image.resize([{resize} * side // min(image.size) for side in image.size], Image.Resampling.{filter})\n\
             left, top = (round((side - {size}) / 2) for side in image.size)\n\
             pixels = numpy.float32(image.crop((left, top, left + {size}, top + {size}))) / 255\n\
             pixels = (pixels - numpy.float32({:?})) / numpy.float32({:?})\n\
             logits = model.run(None, {{model.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]}})[0]\n\
             print(card[\"classes\"][logits.argmax()])\n```\n\n",
            images.mean, images.std
        )?;
        if about.is_in_torchvision {
            write!(
                text,
                "torchvision:\n\n```python\nimport torch, torchvision\nfrom PIL import {imports}\nfrom safetensors.torch import load_file\n\
                 from torchvision.transforms import InterpolationMode, v2\n\n\
                 model = torchvision.models.{}(num_classes={}).eval()\nmodel.load_state_dict(load_file(\"best.safetensors\"))\n\
                 prepare = v2.Compose([\n    v2.Resize({resize}, InterpolationMode.{filter}), v2.CenterCrop({size}), v2.ToImage(),\n    \
                 v2.ToDtype(torch.float32, scale=True), v2.Normalize({:?}, {:?}),\n])\n\
                 print(model(prepare({transpose}.convert(\"RGB\"))[None]).argmax())\n```\n\n",
                self.network,
                self.classes.len(),
                images.mean,
                images.std,
            )?;
        }
        Ok(())
    }
}

/// How images become squares.
fn square(images: &ImageInput) -> String {
    let ImageInput { size, resize, fit, resample, .. } = images;
    match fit {
        FitKind::Crop => {
            format!(
                "the shorter side scaled to {resize} pixels ({resample}, anti-aliased), the middle {size}×{size} cut out"
            )
        }
        FitKind::Squash => {
            format!("scaled to {size}×{size} pixels ({resample}, anti-aliased), whatever their sides are")
        }
    }
}

/// Whatever a name holds, on one line.
fn one_line(name: &str) -> String {
    name.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
