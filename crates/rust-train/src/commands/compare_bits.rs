//! The verb `compare-bits`: whether two runs, or two files of weights, are the same to the last bit; if not, where they first differ. Calls
//! neither MPI nor a GPU.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use flags::CompareBitsArgs;
use serde_json::Value;

use crate::errors::usage;
use crate::observe::stdout::print;
use crate::run::bits::{self, BitsLine};

/// The files of tensors that a run's folder, or that of a checkpoint, may have.
const TENSORS: [&str; 5] =
    ["last.safetensors", "best.safetensors", "model.safetensors", "ema.safetensors", "optimizer.safetensors"];

/// The record of a run.
const RECORD: &str = "metrics.jsonl";

/// What the last evaluation found.
const EVALUATION: &str = "evaluation.json";

/// What lines of a record say of how fast the run was.
const TIMES: [&str; 4] = ["images_per_second", "data_wait", "communication_wait", "elapsed_seconds"];

/// What was compared, in words, and how it differs, if it does.
type Compared = (String, Option<String>);

/// Compares, and says what differs.
pub(crate) fn run(args: &CompareBitsArgs) -> anyhow::Result<()> {
    let CompareBitsArgs { one, other } = args;
    for path in [one, other] {
        if !path.exists() {
            return Err(usage(format!("{}: there is no such file or folder", path.display())));
        }
    }
    let compared = match (one.is_dir(), other.is_dir()) {
        (true, true) => compare_folders(one, other)?,
        (false, false) => vec![("weights".to_owned(), compare_tensors(one, other)?)],
        _ => return Err(usage("compare two folders, or two files")),
    };
    if compared.is_empty() {
        let names = TENSORS.join(", ");
        return Err(usage(format!(
            "{} and {}: have none of {}, {RECORD}, {EVALUATION}, {names} in common",
            one.display(),
            other.display(),
            bits::FILE
        )));
    }
    let width = compared.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    let text = compared.iter().fold(String::new(), |mut text, (what, difference)| {
        let how = difference.as_deref().unwrap_or("the same");
        let _ = writeln!(text, "{what:width$}  {how}"); // cannot fail
        text
    });
    print(&text)?;
    if compared.iter().any(|(_, difference)| difference.is_some()) {
        bail!("{} and {} differ", one.display(), other.display());
    }
    Ok(())
}

/// What two folders have in common, what tells most about a difference first.
fn compare_folders(one: &Path, other: &Path) -> anyhow::Result<Vec<Compared>> {
    let mut compared = Vec::new();
    if let (Some(own), Some(others)) = (BitsLine::read(one)?, BitsLine::read(other)?) {
        compared.push((bits::FILE.to_owned(), compare_steps(&own, &others)));
    }
    let both = |name: &str| -> Option<[PathBuf; 2]> {
        let paths = [one.join(name), other.join(name)];
        paths.iter().all(|path| path.is_file()).then_some(paths)
    };
    if let Some([own, others]) = both(RECORD) {
        let read = |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
        compared.push((RECORD.to_owned(), compare_records(&read(&own)?, &read(&others)?)));
    }
    if let Some([own, others]) = both(EVALUATION) {
        let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
        let differs = read(&own)? != read(&others)?;
        compared.push((EVALUATION.to_owned(), differs.then(|| "another".to_owned())));
    }
    for name in TENSORS {
        if let Some([own, others]) = both(name) {
            compared.push((name.to_owned(), compare_tensors(&own, &others)?));
        }
    }
    Ok(compared)
}

/// The first hash that differs, in the order in which things were computed.
fn compare_steps(one: &[BitsLine], other: &[BitsLine]) -> Option<String> {
    // The weights come after all parts of their step.
    let place = |line: &BitsLine| (line.step, line.part.unwrap_or(usize::MAX));
    let by_place = |lines: &[BitsLine]| -> std::collections::BTreeMap<_, _> {
        lines.iter().map(|line| (place(line), line.hashes.clone())).collect()
    };
    let (one, other) = (by_place(one), by_place(other));
    for (&(step, part), hashes) in &one {
        let Some(others) = other.get(&(step, part)) else { continue };
        let differs = hashes.iter().zip(others).find(|(own, others)| own != others);
        let Some(((name, _), (other_name, _))) = differs else {
            if hashes.len() != others.len() {
                return Some(format!("step {}: {} hashes and {}", step + 1, hashes.len(), others.len()));
            }
            continue;
        };
        let place = if part == usize::MAX { "after all parts".to_owned() } else { format!("part {part}") };
        let name = if name == other_name { name.clone() } else { format!("{name}, where the other has {other_name},") };
        return Some(format!("first at step {}, {place}: {name} differs", step + 1));
    }
    match one.keys().filter(|place| other.contains_key(place)).count() {
        0 => Some("no step is in both".to_owned()),
        both if both < one.len().max(other.len()) => {
            Some(format!("the same where both have hashes, {both} lines of {} and {}", one.len(), other.len()))
        }
        _ => None,
    }
}

/// The first line that differs, but for times.
fn compare_records(one: &str, other: &str) -> Option<String> {
    let lines = |text: &str| -> Vec<String> {
        let timeless = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(mut fields)) => {
                fields.retain(|name, _| !TIMES.contains(&name.as_str()));
                Value::Object(fields).to_string()
            }
            _ => line.to_owned(),
        };
        text.lines().map(timeless).collect()
    };
    let (one, other) = (lines(one), lines(other));
    if let Some((own, others)) = one.iter().zip(&other).find(|(own, others)| own != others) {
        return Some(format!("first: {own} and {others}"));
    }
    (one.len() != other.len()).then(|| format!("{} lines and {}", one.len(), other.len()))
}

/// How the tensors of two files differ, if they do.
fn compare_tensors(one: &Path, other: &Path) -> anyhow::Result<Option<String>> {
    let read = |path: &Path| weights::read(path).map_err(|error| usage(error.to_string()));
    let (one, other) = (read(one)?.into_entries(), read(other)?.into_entries());
    let names = |entries: &[(String, weights::Tensor)]| -> Vec<String> {
        let mut names: Vec<_> = entries.iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    };
    let (own_names, other_names) = (names(&one), names(&other));
    if own_names != other_names {
        let lonely = own_names.iter().find(|name| !other_names.contains(name));
        let lonely = lonely.or_else(|| other_names.iter().find(|name| !own_names.contains(name)));
        return Ok(lonely.map(|name| format!("{name} is in one of them alone")));
    }
    let of_other = |name: &str| other.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor);
    let differing = one.iter().filter_map(|(name, own)| {
        let others = of_other(name)?;
        let is_same = (own.dtype(), own.shape(), own.bytes()) == (others.dtype(), others.shape(), others.bytes());
        (!is_same).then_some((name, own, others))
    });
    let differing: Vec<_> = differing.collect();
    let Some((name, own, others)) = differing.first() else { return Ok(None) };
    let how = describe(own, others);
    Ok(Some(format!("{} of {} tensors differ, first {name}: {how}", differing.len(), one.len())))
}

/// How two tensors differ.
fn describe(one: &weights::Tensor, other: &weights::Tensor) -> String {
    if one.shape() != other.shape() || one.dtype() != other.dtype() {
        let [own, others] = [one, other].map(|tensor| format!("{:?} of {:?}", tensor.shape(), tensor.dtype()));
        return format!("{own} and {others}");
    }
    let size = one.dtype().size();
    let pairs = one.bytes().chunks_exact(size).zip(other.bytes().chunks_exact(size));
    let count = pairs.filter(|(own, others)| own != others).count();
    let mut words = format!("{count} of {} numbers", one.bytes().len() / size);
    if one.dtype().is_float() {
        let differences = one.to_f32().into_iter().zip(other.to_f32()).map(|(own, others)| (own - others).abs());
        let most = differences.fold(0.0_f32, f32::max);
        let _ = write!(words, ", by up to {most:.1e}"); // cannot fail
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use weights::{Dtype, Tensor};

    fn line(step: usize, part: Option<usize>, hashes: &[(&str, &str)]) -> BitsLine {
        let owned = |(name, hash): &(&str, &str)| ((*name).to_owned(), (*hash).to_owned());
        BitsLine { step, part, hashes: hashes.iter().map(owned).collect() }
    }

    #[test]
    fn the_first_difference_is_the_first_that_was_computed() {
        let lines = [
            line(0, Some(0), &[("images", "1"), ("loss", "2")]),
            line(0, Some(1), &[("images", "3"), ("loss", "4")]),
            line(0, None, &[("w", "5")]),
            line(1, Some(0), &[("images", "6"), ("loss", "7")]),
            line(1, None, &[("w", "8")]),
        ];
        assert_eq!(compare_steps(&lines, &lines), None);
        let changed = |index: usize, hash: usize| {
            let mut lines = lines.to_vec();
            lines[index].hashes[hash].1.push('x');
            lines
        };
        let cases = [
            ((1, 1), "first at step 1, part 1: loss differs"),
            ((2, 0), "first at step 1, after all parts: w differs"),
            ((3, 0), "first at step 2, part 0: images differs"),
        ];
        for ((index, hash), expected) in cases {
            assert_eq!(compare_steps(&lines, &changed(index, hash)).as_deref(), Some(expected));
        }
        let shorter = compare_steps(&lines, &lines[..3]).unwrap();
        assert_eq!(shorter, "the same where both have hashes, 3 lines of 5 and 3");
        assert_eq!(compare_steps(&lines, &[]).as_deref(), Some("no step is in both"));
    }

    #[test]
    fn records_are_compared_but_for_times() {
        let record = |loss: &str, speed: f64| {
            format!("{{\"step\":0,\"loss\":{loss},\"lr\":0.1}}\n{{\"epoch\":1,\"images_per_second\":{speed}}}\n")
        };
        assert_eq!(compare_records(&record("2.5", 100.0), &record("2.5", 90.0)), None);
        insta::assert_snapshot!(
            compare_records(&record("2.5", 1.0), &record("2.5000001", 1.0)).unwrap(),
            @r#"first: {"step":0,"loss":2.5,"lr":0.1} and {"step":0,"loss":2.5000001,"lr":0.1}"#
        );
        assert_eq!(compare_records("a\nb\n", "a\n").as_deref(), Some("2 lines and 1"));
    }

    #[test]
    fn tensors_are_compared_by_name_and_bit() {
        let folder = tempfile::tempdir().unwrap();
        let tensor = |numbers: &[f32]| {
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            Tensor::from_bytes(Dtype::F32, &[numbers.len()], bytes)
        };
        let write = |file: &str, tensors: &[(&str, Tensor)]| {
            let path = folder.path().join(file);
            let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
            weights::write_safetensors(&path, &tensors, &Default::default()).unwrap();
            path
        };
        let one = write("one.safetensors", &[("a", tensor(&[1.0, 2.0])), ("b", tensor(&[0.0]))]);
        let same = write("same.safetensors", &[("b", tensor(&[0.0])), ("a", tensor(&[1.0, 2.0]))]);
        assert_eq!(compare_tensors(&one, &same).unwrap(), None);
        let cases = [
            (
                vec![("a", tensor(&[1.0, 2.5])), ("b", tensor(&[0.0]))],
                "1 of 2 tensors differ, first a: 1 of 2 numbers, by up to 5.0e-1",
            ),
            (
                vec![("a", tensor(&[1.0, 2.0])), ("b", tensor(&[-0.0]))],
                "1 of 2 tensors differ, first b: 1 of 1 numbers, by up to 0.0e0",
            ),
            (vec![("a", tensor(&[1.0, 2.0]))], "b is in one of them alone"),
            (
                vec![("a", tensor(&[1.0])), ("b", tensor(&[0.0]))],
                "1 of 2 tensors differ, first a: [2] of F32 and [1] of F32",
            ),
        ];
        for (tensors, expected) in cases {
            let other = write("other.safetensors", &tensors);
            assert_eq!(compare_tensors(&one, &other).unwrap().as_deref(), Some(expected));
        }
    }
}
