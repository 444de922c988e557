//! What a model makes of the pixels of images: the share of each class, and masks as files.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dataset::Size;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::{Candidate, Seen};
use crate::commands::inference::Loaded;
use crate::data::shown::text;
use crate::errors::usage;
use crate::files::write_whole;

/// Where masks go and what stands in them.
#[derive(Debug)]
pub(super) struct Masks<'a> {
    folder: Option<&'a Path>,
    classes: &'a [String],
    /// The number of each class, as the masks had it that were trained on.
    numbers: Vec<u16>,
}

/// What a model makes of an image's pixels, the largest share first.
#[derive(Debug, Serialize)]
pub(super) struct Prediction {
    /// The path, as text.
    image: String,
    /// Where the mask is.
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<String>,
    classes: Vec<Share>,
}

/// A class and how much of an image it is.
#[derive(Debug, Serialize)]
struct Share {
    class: String,
    label: usize,
    /// Of the pixels, 0–1.
    share: f64,
}

impl<'a> Masks<'a> {
    /// Of weights that tell the classes of pixels, for `files` whose masks go into a `folder`, which is made.
    ///
    /// # Errors
    /// Files whose masks would have the same name; a folder that cannot be made.
    pub(super) fn new(folder: Option<&'a Path>, loaded: &'a Loaded, files: &[Candidate]) -> anyhow::Result<Self> {
        if let Some(folder) = folder {
            let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let images: HashSet<_> = files.iter().map(|file| whole(file.path.as_ref())).collect();
            let mut seen = HashMap::new();
            for file in files {
                let (shown, mask) = (Path::new(&file.path).display(), folder.join(name(&file.name)));
                if let Some(other) = seen.insert(name(&file.name), &file.path) {
                    let other = Path::new(other).display();
                    return Err(usage(format!("--output: {other} and {shown} would have masks of the same name")));
                }
                if images.contains(&whole(&mask)) {
                    let mask = mask.display();
                    return Err(usage(format!(
                        "--output: the mask of {shown} would be {mask}, an image; name another folder"
                    )));
                }
            }
            std::fs::create_dir_all(folder)
                .map_err(|error| usage(format!("--output {}: {error}", folder.display())))?;
        }
        let classes = &loaded.classes[..];
        let numbers = match &loaded.card.masks {
            Some(masks) if masks.values.len() == classes.len() => masks.values.clone(),
            _ => (0..classes.len() as u32).collect(),
        };
        let numbers = numbers.into_iter().map(|number| u16::try_from(number).unwrap_or(u16::MAX)).collect();
        Ok(Self { folder, classes, numbers })
    }

    /// What the `logits` of images, N×classes×height×width, make of their pixels, each in its own size; masks are written.
    pub(super) fn predict(&self, logits: &Tensor, seen: &[Seen], top: usize) -> anyhow::Result<Vec<Prediction>> {
        let predict = |(index, Seen { path, name: own, size }): (usize, &Seen)| {
            let classes = classes_of(&logits.get(index as i64), *size)?;
            let mask = match self.folder {
                None => None,
                Some(folder) => {
                    let file = folder.join(name(own));
                    if let Some(parent) = file.parent() {
                        std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
                    }
                    let numbers: Vec<u16> = classes.iter().map(|&class| self.numbers[usize::from(class)]).collect();
                    let png = report::mask_png(&numbers, size.width, size.height).context("writing a mask")?;
                    write_whole(&file, |temporary| Ok(std::fs::write(temporary, &png)?))?;
                    Some(text(&file))
                }
            };
            Ok(Prediction { image: text(path.as_ref()), mask, classes: self.shares(&classes, top) })
        };
        seen.iter().enumerate().map(predict).collect()
    }

    fn shares(&self, classes: &[u8], top: usize) -> Vec<Share> {
        let mut counts = vec![0_usize; self.classes.len()];
        classes.iter().for_each(|&class| counts[usize::from(class)] += 1);
        let share = |(label, &count): (usize, &usize)| Share {
            class: self.classes[label].clone(),
            label,
            share: count as f64 / classes.len().max(1) as f64,
        };
        let mut shares: Vec<_> = counts.iter().enumerate().filter(|(_, count)| **count > 0).map(share).collect();
        shares.sort_by(|one, other| other.share.total_cmp(&one.share).then(one.label.cmp(&other.label)));
        shares.truncate(top);
        shares
    }
}

/// The class of each pixel of an image of this size: logits, classes×height×width, are scaled to it one class at a time, so that a
/// large image takes memory for few of them.
fn classes_of(logits: &Tensor, size: Size) -> anyhow::Result<Vec<u8>> {
    let (height, width) = (i64::from(size.height), i64::from(size.width));
    let scaled = |class: i64| -> anyhow::Result<Tensor> {
        let plane = logits.f_get(class)?;
        if plane.size() == [height, width] {
            return Ok(plane);
        }
        let scaled = plane.view([1, 1, plane.size()[0], plane.size()[1]]);
        Ok(scaled.f_upsample_bilinear2d([height, width], false, None, None)?.view([height, width]))
    };
    let mut best = scaled(0)?;
    let classes = Tensor::f_zeros([height, width], (Kind::Uint8, Device::Cpu))?;
    for class in 1..logits.size()[0] {
        let other = scaled(class)?;
        let _ = classes.shallow_clone().f_masked_fill_(&other.f_gt_tensor(&best)?, class)?;
        best = best.f_maximum(&other)?;
    }
    Ok(Vec::try_from(classes.view(-1))?)
}

/// What the mask of an image of this name is called: below a folder that was named, as the image.
fn name(image: &OsStr) -> PathBuf {
    Path::new(image).with_extension("png")
}

/// For people.
pub(super) fn table(prediction: &Prediction) -> String {
    let width = prediction.classes.iter().map(|share| share.class.chars().count()).max().unwrap_or(0);
    let mask = prediction.mask.as_ref().map_or_else(String::new, |mask| format!(" -> {mask}"));
    let mut text = format!("{}{mask}\n", prediction.image);
    for Share { class, share, .. } in &prediction.classes {
        text += &format!("  {class:width$}  {:5.1} %\n", share * 100.0);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_the_size_of_their_images() {
        // Class 1 on the right half, class 2 in a corner.
        let at = |class: usize, x: usize, y: usize| match class {
            0 => 0.5,
            1 => x as f32 / 3.0,
            _ => {
                if x == 0 && y == 0 {
                    9.0
                } else {
                    0.0
                }
            }
        };
        let values: Vec<f32> =
            (0..3).flat_map(|class| (0..16).map(move |pixel| at(class, pixel % 4, pixel / 4))).collect();
        let logits = Tensor::from_slice(&values).view([3, 4, 4]);
        let same = classes_of(&logits, Size { width: 4, height: 4 }).unwrap();
        let expected = logits.argmax(0, false).to_kind(Kind::Uint8).view(-1);
        assert_eq!(same, Vec::<u8>::try_from(expected).unwrap());
        let scaled = classes_of(&logits, Size { width: 10, height: 7 }).unwrap();
        let all = logits.unsqueeze(0).upsample_bilinear2d([7, 10], false, None, None).argmax(1, false);
        assert_eq!(scaled, Vec::<u8>::try_from(all.to_kind(Kind::Uint8).view(-1)).unwrap());
        assert_eq!((scaled.len(), scaled[0], scaled[9]), (70, 2, 1));
    }
}
