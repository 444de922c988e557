//! Why a cache is not current: what differs between the images it was built from and those that are there now.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::{Spec, structure};
use crate::scan::Sample;
use crate::{Listing, Split};

/// Files that are named of each kind of difference.
const NAMED: usize = 3;

/// What differs between the cache at `path` and one that would be built of `listing` now, a line each. Empty where
/// nothing does.
pub fn explain(path: &Path, listing: &Listing, spec: &Spec) -> Vec<String> {
    if !path.exists() {
        return vec!["there is no such file".to_owned()];
    }
    let unusable = match structure::read_checked(path, None, None) {
        Ok(structure::Read::Complete(_)) => None,
        Ok(structure::Read::Unusable(reason)) => Some(reason),
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = unusable {
        return vec![reason];
    }
    let (settings, built_from) = match structure::built_from(path) {
        Ok(known) => known,
        Err(error) => return vec![format!("it does not say what it was built from: {error}")],
    };
    let mut lines = Vec::new();
    if settings != spec.settings() {
        lines.push(format!("settings: it holds '{settings}', and '{}' is asked for", spec.settings()));
    }
    if built_from.classes != listing.classes {
        lines.push(classes(&built_from.classes, &listing.classes));
    }
    for split in Split::ALL {
        compare(split, built_from.split(split), listing.split(split), &mut lines);
    }
    lines
}

fn classes(then: &[String], now: &[String]) -> String {
    let missing = |from: &[String], of: &[String]| {
        let of: HashSet<_> = of.iter().collect();
        let names: Vec<_> = from.iter().filter(|name| !of.contains(name)).cloned().collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let (new, gone) = (missing(now, then), missing(then, now));
    if new == "none" && gone == "none" {
        return "classes: their order is another".to_owned();
    }
    format!("classes: new: {new}; gone: {gone}")
}

fn compare(split: Split, then: &[Sample], now: &[Sample], lines: &mut Vec<String>) {
    let before: HashMap<_, _> = then.iter().map(|sample| (&sample.path, sample)).collect();
    let after: HashMap<_, _> = now.iter().map(|sample| (&sample.path, sample)).collect();
    let new = now.iter().filter(|sample| !before.contains_key(&sample.path));
    let gone = then.iter().filter(|sample| !after.contains_key(&sample.path));
    let differs = |a: &Sample, b: &Sample| (a.size, a.modified, &a.mask) != (b.size, b.modified, &b.mask);
    let changed = now.iter().filter(|sample| before.get(&sample.path).is_some_and(|before| differs(before, sample)));
    let is_other_label =
        |a: &Sample, b: &Sample| a.class != usize::MAX && (a.class, &a.targets) != (b.class, &b.targets);
    let relabelled =
        now.iter().filter(|sample| before.get(&sample.path).is_some_and(|before| is_other_label(before, sample)));
    for (what, samples) in [
        ("new", new.collect::<Vec<_>>()),
        ("gone", gone.collect()),
        ("changed since (size or time of the file)", changed.collect()),
        ("with another label", relabelled.collect()),
    ] {
        if samples.is_empty() {
            continue;
        }
        let mut names: Vec<_> = samples.iter().take(NAMED).map(|sample| sample.path.display().to_string()).collect();
        if samples.len() > NAMED {
            names.push("…".to_owned());
        }
        lines.push(format!("{}: {} images {what}: {}", split.name(), samples.len(), names.join(", ")));
    }
    let is_same = |(a, b): (&Sample, &Sample)| a.path == b.path;
    if then.len() == now.len() && lines.is_empty() && !then.iter().zip(now).all(is_same) {
        lines.push(format!("{}: the order of the images is another", split.name()));
    }
}
