//! The verb `predict`: which classes a model sees in images.

use std::ffi::OsString;
use std::path::PathBuf;

use flags::PredictArgs;
use serde::Serialize;
use tch::{Kind, Tensor};
use world::World;

use crate::commands::inference::{Predictor, list, one_rank};
use crate::data::shown::text;
use crate::errors::{go_on, usage};
use crate::observe::stdout::print;

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

/// Predicts as the flags say, and prints each batch as soon as it is done. Collective; a run of one rank.
pub(crate) fn run(args: &PredictArgs, world: &World) -> anyhow::Result<()> {
    one_rank(world, "predict")?;
    if args.top == 0 {
        return Err(usage("--top: must be at least 1"));
    }
    let files: Vec<_> = list(world, || files(&args.images))?;
    let predictor = Predictor::new(world, &args.model, &args.inference)?;
    for (index, batch) in files.chunks(predictor.batch).enumerate() {
        go_on("predicting", index * predictor.batch, files.len(), "images")?;
        let logits = predictor.logits(batch)?;
        let mut text = String::new();
        for prediction in predictions(&logits, batch, &predictor.classes, args.top)? {
            text += &if args.json { serde_json::to_string(&prediction)? + "\n" } else { table(&prediction) };
        }
        if !print(&text)? {
            break;
        }
    }
    Ok(())
}

/// The files that are named, and those in folders that are named, sorted.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<OsString>> {
    let mut files = Vec::new();
    for path in paths {
        let unreadable = |error: &dyn std::fmt::Display| usage(format!("{}: {error}", path.display()));
        if !path.is_dir() {
            path.metadata().map_err(|error| unreadable(&error))?;
            files.push(path.clone().into());
            continue;
        }
        let before = files.len();
        for entry in walkdir::WalkDir::new(path).sort_by_file_name().follow_links(true) {
            let entry = entry.map_err(|error| unreadable(&error))?;
            go_on("listing the images", files.len(), 0, "files")?;
            if entry.file_type().is_file() && dataset::is_image(entry.path()) {
                files.push(entry.into_path().into());
            }
        }
        if files.len() == before {
            return Err(usage(format!("{}: has no images", path.display())));
        }
    }
    Ok(files)
}

fn predictions(logits: &Tensor, files: &[OsString], classes: &[String], top: usize) -> anyhow::Result<Vec<Prediction>> {
    let top = top.min(classes.len());
    let (values, indices) = logits.softmax(-1, Kind::Double).topk(top as i64, 1, true, true);
    let values = Vec::<f64>::try_from(values.contiguous().view(-1))?;
    let indices = Vec::<i64>::try_from(indices.contiguous().view(-1))?;
    let guesses = values.chunks(top).zip(indices.chunks(top));
    let prediction = |(image, (values, indices)): (&OsString, (&[f64], &[i64]))| {
        let guess = |(&probability, &label): (&f64, &i64)| Guess {
            class: classes[label as usize].clone(),
            label: label as usize,
            probability,
        };
        Prediction { image: text(image.as_ref()), classes: values.iter().zip(indices).map(guess).collect() }
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
        let files = ["a.png", "b.png"].map(OsString::from);
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
        for name in ["b.png", "a.JPG", "notes.txt"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let found = files(&[folder.path().to_owned()]).unwrap();
        assert_eq!(found, ["a.JPG", "b.png"].map(|name| folder.path().join(name).into_os_string()));
        let error = files(&[folder.path().join("no.png")]).unwrap_err();
        assert!(error.is::<crate::errors::Usage>() && error.to_string().contains("no.png: "), "{error}");
    }
}
