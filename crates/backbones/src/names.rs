//! How the weights of a network are called in a file, and of which networks they can be.

use std::collections::{HashMap, HashSet};

use architectures::{ARCHITECTURES, Architecture, Parameter};
use weights::StateDict;

/// How the weights of a network are called in a file, as far as that is not simply as here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// What stands before all of the names.
    pub prefix: Option<String>,
    /// Whether they are timm's.
    pub is_timm: bool,
}

/// What stands before all of these names in `found`: nothing, or several things where several networks of the kind lie in it; `None`
/// where some are not there at all.
fn prefixes(needed: &[&str], found: &StateDict) -> Option<Vec<String>> {
    let names: HashSet<&str> = found.entries().iter().map(|(name, _)| name.as_str()).collect();
    let has_all = |prefix: &str| needed.iter().all(|name| names.contains(format!("{prefix}{name}").as_str()));
    let first = needed.first()?;
    if has_all("") {
        return Some(Vec::new());
    }
    let prefixes: Vec<_> = found.prefixes_of(first).filter(|prefix| has_all(prefix)).map(str::to_owned).collect();
    (!prefixes.is_empty()).then_some(prefixes)
}

/// The weights of `architecture` in `found`, by our names, and how they are called there: with something before all of their names, or
/// by timm's names. All but the head's, which may be of another kind, must be there; else they are given as they are.
///
/// # Errors
/// Several that it may be.
pub fn rooted(architecture: &Architecture, found: StateDict) -> Result<(StateDict, Naming), String> {
    let network = architecture.network(1);
    let heads = network.heads();
    let parameters = network.parameters();
    let needed: Vec<_> = parameters
        .iter()
        .filter(|parameter| !heads.contains(&parameter.node) && !parameter.role.is_dispensable())
        .collect();
    let ours: Vec<_> = needed.iter().map(|parameter| parameter.name.as_str()).collect();
    let under = |found: StateDict, prefixes: &[String]| match prefixes {
        [] => Ok((found, None)),
        [prefix] => Ok((found.under(prefix)?, Some(prefix.clone()))),
        several => Err(format!(
            "{} networks of the kind lie in it, under {}; --weights-prefix names one of them",
            several.len(),
            several.join(", ")
        )),
    };
    if let Some(prefixes) = prefixes(&ours, &found) {
        let (found, prefix) = under(found, &prefixes)?;
        return Ok((found, Naming { prefix, is_timm: false }));
    }
    if let Some((found, prefix)) = by_todays_names(architecture, &ours, &found) {
        return Ok((found, Naming { prefix, is_timm: false }));
    }
    let timm = |parameter: &Parameter| architecture.timm_weight(&parameter.name, &parameter.shape);
    let theirs: Vec<_> = needed.iter().filter_map(|parameter| timm(parameter)).map(|weight| weight.name).collect();
    let theirs: Vec<_> = theirs.iter().map(String::as_str).collect();
    let Some(prefixes) = prefixes(&theirs, &found) else { return Ok((found, Naming::default())) };
    let (found, prefix) = under(found, &prefixes)?;
    let ours: HashMap<_, _> =
        parameters.iter().filter_map(|parameter| Some((timm(parameter)?.name, parameter))).collect();
    let found = found.renamed(|name, shape| {
        let parameter = ours.get(name)?;
        // The head has as many outputs as the file has; and where the shape is no other way to write the same, it stays.
        let shape = match (shape.split_first(), parameter.shape.split_first()) {
            (Some((&outputs, theirs)), Some((_, ours))) if product(theirs) == product(ours) => {
                std::iter::once(outputs).chain(ours.iter().copied()).collect()
            }
            _ => shape.to_vec(),
        };
        Some((parameter.name.clone(), shape))
    });
    Ok((found, Naming { prefix, is_timm: true }))
}

/// The weights in `found`, where they have names of old there that all become the `needed` ones, and what stands before those.
fn by_todays_names(
    architecture: &Architecture,
    needed: &[&str],
    found: &StateDict,
) -> Option<(StateDict, Option<String>)> {
    let (first, _) = found.entries().first()?;
    let ends = first.match_indices('.').map(|(place, _)| &first[..=place]);
    [""].into_iter().chain(ends).find_map(|prefix| {
        let under = if prefix.is_empty() { found.clone() } else { found.clone().under(prefix).ok()? };
        let renamed = under.renamed(|name, shape| Some((architecture.renamed(name)?, shape.to_vec())));
        let is_whole = prefixes(needed, &renamed)?.is_empty();
        is_whole.then(|| (renamed, Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty())))
    })
}

fn product(sides: &[usize]) -> usize {
    sides.iter().product()
}

/// The architectures of the catalogue that `found` are all the weights of, with whatever number of classes.
pub fn fitting(found: &StateDict) -> Vec<&'static Architecture> {
    let fits = |known: &&Architecture| {
        let Ok((found, _)) = rooted(known, found.clone()) else { return false };
        let found = &found;
        let network = known.network(1).with_channels(channels_of(known, found));
        let heads = network.heads();
        let today = |key: &str| known.renamed(key).unwrap_or_else(|| key.to_owned());
        let entries = found.entries().iter().filter(|(key, _)| !known.leaves_out(key));
        let mut shapes: HashMap<_, _> = entries.map(|(key, tensor)| (today(key), tensor.shape())).collect();
        let all = network.parameters().into_iter().all(|Parameter { name, shape, role, node, .. }| {
            match shapes.remove(&name) {
                None => role.is_dispensable(),
                Some(found) if heads.contains(&node) => found.get(1..) == shape.get(1..),
                Some(found) => found == shape,
            }
        });
        all && shapes.is_empty()
    };
    ARCHITECTURES.iter().filter(fits).collect()
}

/// The channels of the images that the weights `found` are of.
pub fn channels_of(architecture: &Architecture, found: &StateDict) -> usize {
    /// More are no images', and would take memory for nothing.
    const MOST: usize = 1 << 10;
    let network = architecture.network(1);
    let inputs = network.input_weights();
    let shape = found.entries().iter().find(|(key, _)| inputs.contains(key)).map(|(_, tensor)| tensor.shape());
    match shape {
        Some(&[_, channels @ 1..=MOST, _, _]) => channels,
        _ => network.channels(),
    }
}
