//! Models of the Hugging Face Hub for the whole job: rank 0 asks which files there are, and those that make up the weights come as
//! any other file does ([`fetch_once`]).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use fetch::{Checksum, HubFile, HubListing, HubModel, Request, Source, Store};
use weights::{USUAL_NAMES, files_of_index};
use world::{Failure, World};

use super::download::fetch_once;
use crate::errors::{agree, to_failure};

/// How files of weights end that have other names.
const ENDINGS: [&str; 6] = [".safetensors", ".bin", ".pth", ".pt", ".th", ".ckpt"];
/// How the name of an index of several files ends.
const INDEX: &str = ".index.json";
/// What a model says of itself.
const CONFIG: &str = "config.json";

/// Gets the file of `request` in place on every node, and says where it lies on this one; of a model of the Hub its weights, with all
/// files that belong to them beside. Collective.
pub(crate) fn fetch_weights(world: &World, store: &Store, request: &Request) -> anyhow::Result<PathBuf> {
    let Source::Hub(model) = &request.source else { return fetch_once(world, store, request) };
    let bytes = world.from_rank_zero(&format!("asking for the files of {model}"), || {
        let watch = |fetched: fetch::Progress| world::report(fetched.bytes, 0, "bytes");
        let mut listing = model.list(store, &watch).map_err(|error| to_failure(&error.into()))?;
        let chosen = choose(model, &listing).map_err(|error| to_failure(&error))?;
        if !is_cached(&listing, chosen) {
            listing.cached = None;
        }
        serde_json::to_vec(&listing).map_err(Failure::new)
    })?;
    let listing: HubListing = serde_json::from_slice(&bytes)?;
    let chosen = choose(model, &listing)?;
    let get = |file: &HubFile, known: Option<&Checksum>| -> anyhow::Result<PathBuf> {
        let (mut asked, place) = agree(world, model.request(&listing, file, store).map_err(Into::into))?;
        asked.checksum = known.cloned().or(asked.checksum);
        fetch_once(world, &place, &asked)
    };
    let path = get(chosen, request.checksum.as_ref())?;
    let mut beside: Vec<String> = Vec::new();
    if chosen.path.ends_with(INDEX) {
        let bytes = world.from_rank_zero("reading the index of the weights", || {
            let names = names_in(&path).map_err(|error| to_failure(&error))?;
            serde_json::to_vec(&names).map_err(Failure::new)
        })?;
        beside = serde_json::from_slice(&bytes)?;
    }
    for name in &beside {
        let file = sibling(&listing, chosen, name);
        let file = file.ok_or_else(|| model.refused(&format!("{name}, which {} names, is not there", chosen.path)));
        get(agree(world, file.map_err(Into::into))?, None)?;
    }
    if let Some(config) = sibling(&listing, chosen, CONFIG) {
        get(config, None)?;
    }
    if world.rank() == 0 {
        log::info!("{model} is {} of commit {}, at {}", chosen.path, listing.commit, path.display());
    }
    Ok(path)
}

/// The file with the weights: the one that is named, or the one that models usually have, or the only one.
fn choose<'l>(model: &HubModel, listing: &'l HubListing) -> anyhow::Result<&'l HubFile> {
    let named = |name: &str| listing.files.iter().find(|file| file.path == name);
    let of_weights = || listing.files.iter().filter(|file| ENDINGS.iter().any(|ending| file.path.ends_with(ending)));
    let shown = || {
        let names: Vec<_> = of_weights().take(8).map(|file| file.path.as_str()).collect();
        if names.is_empty() { "it has no files of weights".to_owned() } else { format!("it has: {}", names.join(", ")) }
    };
    if let Some(name) = model.file() {
        return named(name).ok_or_else(|| model.refused(&format!("there is no such file; {}", shown())).into());
    }
    if let Some(usual) = USUAL_NAMES.iter().find_map(|name| named(name)) {
        return Ok(usual);
    }
    let candidates: Vec<_> = of_weights().filter(|file| !file.path.contains('/')).collect();
    match candidates[..] {
        [one] => Ok(one),
        _ => Err(model
            .refused(&format!(
                "which file are the weights? There is no {}; name one behind the model, as in {model}/FILE; {}",
                USUAL_NAMES[0],
                shown()
            ))
            .into()),
    }
}

/// The file called `name` in the folder of `file`.
fn sibling<'l>(listing: &'l HubListing, file: &HubFile, name: &str) -> Option<&'l HubFile> {
    let folder = file.path.rfind('/').map_or("", |slash| &file.path[..=slash]);
    listing.files.iter().find(|other| other.path.strip_prefix(folder) == Some(name))
}

/// Whether all that belongs to the weights is in huggingface_hub's cache on this machine: parts must lie side by side.
fn is_cached(listing: &HubListing, chosen: &HubFile) -> bool {
    let Some(folder) = &listing.cached else { return false };
    let is_there = |file: Option<&HubFile>| file.is_some_and(|file| folder.join(&file.path).is_file());
    let parts = || match chosen.path.ends_with(INDEX) {
        true => names_in(&folder.join(&chosen.path)).ok(),
        false => Some(Vec::new()),
    };
    is_there(Some(chosen))
        && parts().is_some_and(|parts| parts.iter().all(|part| is_there(sibling(listing, chosen, part))))
        && sibling(listing, chosen, CONFIG).is_none_or(|config| is_there(Some(config)))
}

/// The files that the index at `path` names.
fn names_in(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read(path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    files_of_index(&text).map_err(|reason| crate::errors::usage(format!("{}: {reason}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(paths: &[&str]) -> HubListing {
        let file = |path: &&str| HubFile { path: (*path).to_owned(), size: None, sha256: None };
        HubListing { commit: "0".repeat(40), files: paths.iter().map(file).collect(), cached: None }
    }

    #[test]
    fn the_weights_among_the_files() {
        let cases: [(&str, &[&str], Result<&str, &str>); 9] = [
            ("hf:o/n", &["pytorch_model.bin", "model.safetensors"], Ok("model.safetensors")),
            ("hf:o/n", &["model.safetensors.index.json", "pytorch_model.bin"], Ok("model.safetensors.index.json")),
            ("hf:o/n", &["README.md", "best.pth"], Ok("best.pth")),
            ("hf:o/n/best.pth", &["model.safetensors", "best.pth"], Ok("best.pth")),
            ("hf:o/n/sub/w.pt", &["model.safetensors", "sub/w.pt"], Ok("sub/w.pt")),
            ("hf:o/n", &["a.pth", "b.pth"], Err("name one behind the model, as in hf:o/n/FILE; it has: a.pth, b.pth")),
            ("hf:o/n", &["sub/a.pth"], Err("it has: sub/a.pth")),
            ("hf:o/n", &["README.md"], Err("no files of weights")),
            ("hf:o/n@v1/c.pth", &["a.pth"], Err("hf:o/n@v1/c.pth: there is no such file; it has: a.pth")),
        ];
        for (model, paths, expected) in cases {
            let (model, listing) = (model.parse().unwrap(), listing(paths));
            match (choose(&model, &listing), expected) {
                (Ok(file), Ok(path)) => assert_eq!(file.path, path),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (got, _) => panic!("{model}: {got:?}"),
            }
        }
        let listing = listing(&["config.json", "sub/w.pt", "sub/config.json"]);
        assert_eq!(sibling(&listing, &listing.files[1], CONFIG), Some(&listing.files[2]));
        assert_eq!(sibling(&listing, &listing.files[0], "w.pt"), None);
    }
}
