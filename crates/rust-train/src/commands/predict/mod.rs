//! The verb `predict`: which classes a model sees in images, or which numbers, or which class at each pixel.

mod masks;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use dataset::{Batch, Buffer, Decoder, PixelFormat, Size};
use flags::{PredictArgs, TaskKind};
use model_card::ModelCard;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use world::World;

use crate::commands::inference::{Loaded, device_of, evaluator, list, one_rank, refuse_batch};
use crate::config::preprocessing::Preprocessing;
use crate::data::normalize::Normalize;
use crate::data::shown::text;
use crate::errors::{go_on, usage};
use crate::machine::cores;
use crate::observe::stdout::print;
use crate::task::kind_of_card;
use masks::Masks;

/// What a model sees in an image, likeliest first.
#[derive(Debug, Serialize)]
struct Prediction {
    /// The path, as text.
    image: String,
    classes: Vec<Guess>,
}

/// A class and how likely it is.
#[derive(Debug, Serialize)]
struct Guess {
    class: String,
    label: usize,
    /// 0–1; of all classes together 1.
    probability: f64,
}

/// A file, and whether it was named: one that was found in a folder is left out where it is no image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Candidate {
    path: OsString,
    /// Its name, or if it was found in a folder, its path below that.
    name: OsString,
    is_named: bool,
}

/// An image that was decoded.
#[derive(Clone, Debug)]
struct Seen {
    path: OsString,
    name: OsString,
    /// Its own, upright.
    size: Size,
}

/// Predicts as the flags say, and prints each batch as soon as it is done. Collective; a run of one rank.
pub(crate) fn run(args: &PredictArgs, world: &World) -> anyhow::Result<()> {
    one_rank(world, "predict")?;
    if args.top == 0 {
        return Err(usage("--top: must be at least 1"));
    }
    refuse_batch(args.inference.batch)?;
    let files: Vec<Candidate> = list(world, || files(&args.images))?;
    let device = device_of(world, &args.inference.device)?;
    let loaded = Loaded::new(world, None, &args.model, device)?;
    let format = loaded.preprocessing.decoding.format();
    if loaded.backbone.network().channels() != format.channels() || loaded.format.is_some_and(|known| known != format) {
        return Err(usage(
            "the weights do not say which numbers image files hold: eval --logits FILE writes what they give for a file of arrays",
        ));
    }
    if loaded.card.plan.get("tiff-pages").and_then(serde_json::Value::as_str) == Some("images") {
        log::warn!(
            "the weights are of pages of TIFF files, each an image: of a file of several pages only the first is looked at, or it is refused"
        );
    }
    let masks = match (kind_of_card(&loaded.card), &args.output) {
        (TaskKind::Segment, folder) => Some(Masks::new(folder.as_deref(), &loaded, &files)?),
        (_, Some(_)) => return Err(usage("--output: is for weights that tell the class of each pixel")),
        (_, None) => None,
    };
    let forward = evaluator(&loaded.backbone, loaded.numerics, cores::per_rank(world)?, args.inference.test_flip)?;
    let normalize = Normalize::new(device, loaded.numerics.memory_format);
    let mut left_out = 0;
    for (index, batch) in files.chunks(args.inference.batch).enumerate() {
        go_on("predicting", index * args.inference.batch, files.len(), "images")?;
        let (seen, images) = decode(batch, &loaded.preprocessing)?;
        left_out += batch.len() - seen.len();
        if seen.is_empty() {
            continue;
        }
        let images = normalize.images(&Rc::new(images))?;
        let outputs = tch::no_grad(|| forward(&images))?;
        let logits = outputs[0].to_device(Device::Cpu);
        let mut text = String::new();
        if let Some(masks) = &masks {
            for prediction in masks.predict(&logits, &seen, args.top)? {
                text += &if args.json { serde_json::to_string(&prediction)? + "\n" } else { masks::table(&prediction) };
            }
        } else if let Some(numbers) = numbers(&logits, &loaded.card)? {
            for numbers in told(numbers, &seen, &loaded) {
                text += &if args.json { serde_json::to_string(&numbers)? + "\n" } else { lines(&numbers) };
            }
        } else {
            for prediction in predictions(&logits, &seen, &loaded.classes, args.top)? {
                text += &if args.json { serde_json::to_string(&prediction)? + "\n" } else { table(&prediction) };
            }
        }
        if !print(&text)? {
            return Ok(());
        }
    }
    if left_out == files.len() {
        return Err(usage("none of the files is an image that can be decoded"));
    }
    if left_out > 0 {
        log::warn!("{left_out} of {} files cannot be decoded and were left out", files.len());
    }
    Ok(())
}

/// What a model says of an image for each of several labels or numbers.
#[derive(Debug, Serialize)]
struct Numbers {
    /// The path, as text.
    image: String,
    outputs: Vec<Output>,
}

#[derive(Debug, Serialize)]
struct Output {
    name: String,
    /// How likely it is there, 0–1, or the number in its own unit.
    value: f64,
    /// Whether it is likelier than the threshold that was best on the validation images.
    #[serde(skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
}

/// Probabilities of several labels, or numbers in their units, N×K; `None` where classes are told apart.
fn numbers(outputs: &Tensor, card: &ModelCard) -> anyhow::Result<Option<Vec<f64>>> {
    let values = match kind_of_card(card) {
        TaskKind::Classify | TaskKind::Segment => return Ok(None),
        TaskKind::Multilabel => outputs.to_kind(Kind::Double).sigmoid(),
        TaskKind::Regress => outputs.to_kind(Kind::Double),
    };
    let mut values = Vec::<f64>::try_from(values.contiguous().view(-1))?;
    for row in values.chunks_mut(card.targets.len().max(1)) {
        row.iter_mut().zip(&card.targets).for_each(|(value, unit)| *value = *value * unit.std + unit.mean);
    }
    Ok(Some(values))
}

fn told(values: Vec<f64>, files: &[Seen], loaded: &Loaded) -> Vec<Numbers> {
    let is_multilabel = kind_of_card(&loaded.card) == TaskKind::Multilabel;
    let threshold =
        loaded.card.scores.as_ref().and_then(|scores| scores.metrics.get("threshold")).copied().unwrap_or(0.5);
    let output = |(name, &value): (&String, &f64)| Output {
        name: name.clone(),
        value,
        present: is_multilabel.then_some(value >= threshold),
    };
    let rows = values.chunks(loaded.classes.len().max(1)).zip(files);
    rows.map(|(row, file)| Numbers {
        image: text(file.path.as_ref()),
        outputs: loaded.classes.iter().zip(row).map(output).collect(),
    })
    .collect()
}

fn lines(numbers: &Numbers) -> String {
    let width = numbers.outputs.iter().map(|output| output.name.chars().count()).max().unwrap_or(0);
    let mut text = format!("{}\n", numbers.image);
    for Output { name, value, present } in &numbers.outputs {
        text += &match present {
            Some(present) => format!("  {name:width$}  {:5.1} %{}\n", value * 100.0, if *present { "  *" } else { "" }),
            None => format!("  {name:width$}  {value}\n"),
        };
    }
    text
}

/// The images of a batch as a network sees them, and which they are: without those that were found in a folder and cannot
/// be decoded.
fn decode(batch: &[Candidate], preprocessing: &Preprocessing) -> anyhow::Result<(Vec<Seen>, Batch)> {
    let &Preprocessing { size, resize, decoding, ref normalization } = preprocessing;
    let format = decoding.format();
    let bytes = format.bytes(size);
    let mut pixels = Buffer::new(batch.len() * bytes);
    let decoded: Vec<Result<Size, String>> = pixels
        .par_chunks_mut(bytes)
        .zip(batch)
        .map_init(
            || Decoder::new(decoding),
            |decoder, (out, file)| {
                match format {
                    PixelFormat::Rgb8 => decoder.center_crop_file(file.path.as_ref(), resize, size, out),
                    PixelFormat::Planes { .. } => {
                        decoder.center_crop_planes(file.path.as_ref(), (resize, size), normalization, out)
                    }
                }?;
                decoder.size().ok_or_else(|| "it has no size".to_owned())
            },
        )
        .collect();
    let mut seen = Vec::new();
    for (index, (decoded, file)) in decoded.into_iter().zip(batch).enumerate() {
        let shown = Path::new(&file.path).display();
        match decoded {
            Ok(size) => {
                let place = seen.len() * bytes;
                pixels.copy_within(index * bytes..(index + 1) * bytes, place);
                seen.push(Seen { path: file.path.clone(), name: file.name.clone(), size });
            }
            Err(reason) if file.is_named => return Err(usage(format!("{shown}: {reason}"))),
            Err(reason) => log::warn!("left out: {shown}: {reason}"),
        }
    }
    pixels.truncate(seen.len() * bytes);
    Ok((seen, Batch::unlabelled(pixels, format, size, normalization.clone())))
}

/// The files that are named, and the images in folders that are named, sorted; hidden ones are not looked at.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<Candidate>> {
    let mut files = Vec::new();
    for path in paths {
        let unreadable = |error: &dyn std::fmt::Display| usage(format!("{}: {error}", path.display()));
        if !path.is_dir() {
            path.metadata().map_err(|error| unreadable(&error))?;
            if path
                .extension()
                .is_some_and(|extension| ["npz", "h5", "hdf5", "nc"].iter().any(|other| extension == *other))
            {
                return Err(usage(format!(
                    "{}: predict reads image files; eval --logits FILE writes what weights give for a file of arrays",
                    path.display()
                )));
            }
            let name = path.file_name().unwrap_or_default().to_owned();
            files.push(Candidate { path: path.clone().into(), name, is_named: true });
            continue;
        }
        let before = files.len();
        let is_shown =
            |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
        let entries = walkdir::WalkDir::new(path).sort_by_file_name().follow_links(true);
        for entry in entries.into_iter().filter_entry(is_shown) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if error.depth() == 0 => return Err(unreadable(&error)),
                Err(error) => {
                    log::warn!("left out: {error}");
                    continue;
                }
            };
            go_on("listing the images", files.len(), 0, "files")?;
            if entry.file_type().is_file() && dataset::is_image(entry.path()) {
                let found = entry.into_path();
                let name = found.strip_prefix(path).unwrap_or(&found).as_os_str().to_owned();
                files.push(Candidate { path: found.into(), name, is_named: false });
            }
        }
        if files.len() == before {
            return Err(usage(format!("{}: has no images", path.display())));
        }
    }
    Ok(files)
}

fn predictions(logits: &Tensor, files: &[Seen], classes: &[String], top: usize) -> anyhow::Result<Vec<Prediction>> {
    let top = top.min(classes.len());
    let (values, indices) = logits.softmax(-1, Kind::Double).topk(top as i64, 1, true, true);
    let values = Vec::<f64>::try_from(values.contiguous().view(-1))?;
    let indices = Vec::<i64>::try_from(indices.contiguous().view(-1))?;
    let guesses = values.chunks(top).zip(indices.chunks(top));
    let prediction = |(file, (values, indices)): (&Seen, (&[f64], &[i64]))| {
        let guess = |(&probability, &label): (&f64, &i64)| Guess {
            class: classes[label as usize].clone(),
            label: label as usize,
            probability,
        };
        Prediction { image: text(file.path.as_ref()), classes: values.iter().zip(indices).map(guess).collect() }
    };
    Ok(files.iter().zip(guesses).map(prediction).collect())
}

fn table(prediction: &Prediction) -> String {
    let width = prediction.classes.iter().map(|guess| guess.class.chars().count()).max().unwrap_or(0);
    let mut text = format!("{}\n", prediction.image);
    for guess in &prediction.classes {
        text += &format!("  {:width$}  {:5.1} %\n", guess.class, guess.probability * 100.0);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_classes_come_first_with_their_share() {
        let logits = Tensor::from_slice(&[0.0f32, 2.0, 1.0, 5.0, -1.0, 0.0]).view([2, 3]);
        let classes = ["ant", "bee", "cat"].map(str::to_owned);
        let size = Size { width: 1, height: 1 };
        let files = ["a.png", "b.png"].map(|path| Seen { path: path.into(), name: path.into(), size });
        let found = predictions(&logits, &files, &classes, 2).unwrap();
        insta::assert_snapshot!(found.iter().map(table).collect::<String>(), @r"
        a.png
          bee   66.5 %
          cat   24.5 %
        b.png
          ant   99.1 %
          cat    0.7 %
        ");
        assert_eq!(serde_json::to_value(&found[1]).unwrap()["classes"][1]["label"], 2);
    }

    #[test]
    fn folders_are_looked_through_and_missing_files_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".git")).unwrap();
        for name in ["b.png", "a.JPG", "notes.txt", ".hidden.png", ".git/c.png"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let found = files(&[folder.path().to_owned(), folder.path().join(".hidden.png")]).unwrap();
        let candidate = |name: &str, is_named| Candidate {
            path: folder.path().join(name).into_os_string(),
            name: name.into(),
            is_named,
        };
        assert_eq!(found, [candidate("a.JPG", false), candidate("b.png", false), candidate(".hidden.png", true)]);
        let error = files(&[folder.path().join("no.png")]).unwrap_err();
        assert!(error.is::<crate::errors::Usage>() && error.to_string().contains("no.png: "), "{error}");
    }
}
