//! Models of the Hugging Face Hub for the whole job: rank 0 asks which files there are, and those that make up the weights come as
//! any other file does ([`fetch_once`]).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use fetch::{Checksum, HubFile, HubListing, HubModel, Request, Source, Store};
use weights::{USUAL_NAMES, files_of_index};
use world::{Failure, Reduction, World};

use super::download::fetch_once;
use crate::data::place::fnv1a;
use crate::errors::{agree, to_failure, usage};

/// How files of weights end that have other names.
const ENDINGS: [&str; 6] = [".safetensors", ".bin", ".pth", ".pt", ".th", ".ckpt"];
/// How the name of an index of several files ends.
const INDEX: &str = ".index.json";
/// What a model says of itself.
const CONFIG: &str = "config.json";

/// Gets the file of `request` in place on every node, and says where it lies on this one; of weights in several files all of them, and of a
/// model of the Hub what it says of itself, too. Collective.
pub(crate) fn fetch_weights(world: &World, store: &Store, request: &Request) -> anyhow::Result<PathBuf> {
    match &request.source {
        Source::Hub(model) => fetch_model(world, store, request, model),
        Source::File(path) if is_index(path) => fetch_parts(world, store, request, path),
        Source::Url(url) if is_index(Path::new(url)) => agree(
            world,
            Err(usage(format!(
                "{url}: is an index of weights in several files; bring all of them into a folder and name that, or use hf:ORG/NAME"
            ))),
        ),
        Source::Url(_) | Source::File(_) => fetch_once(world, store, request),
    }
}

/// A model of the Hub. Collective.
fn fetch_model(world: &World, store: &Store, request: &Request, model: &HubModel) -> anyhow::Result<PathBuf> {
    let bytes = world.from_rank_zero(&format!("asking for the files of {model}"), || {
        let watch = |fetched: fetch::Progress| world::report(fetched.bytes, 0, "bytes");
        let look = || -> anyhow::Result<HubListing> {
            let mut listing = model.list(store, &watch)?;
            let chosen = choose(model, &listing)?;
            if let Err(reason) = check_cached(model, &listing, chosen, store, &watch) {
                log::info!("huggingface_hub's cache is not used: {reason}");
                listing.cached = None;
            }
            Ok(listing)
        };
        let listing = look().map_err(|error| to_failure(&error))?;
        serde_json::to_vec(&listing).map_err(Failure::new)
    })?;
    let mut listing: HubListing = serde_json::from_slice(&bytes)?;
    if !is_cached_alike(world, model, &listing)? {
        listing.cached = None;
    }
    let chosen = choose(model, &listing)?;
    let get = |file: &HubFile, known: Option<&Checksum>| -> anyhow::Result<PathBuf> {
        let (mut asked, place) = agree(world, model.request(&listing, file, store).map_err(Into::into))?;
        asked.checksum = known.cloned().or(asked.checksum);
        fetch_once(world, &place, &asked)
    };
    let path = get(chosen, request.checksum.as_ref())?;
    for name in parts(world, &path)? {
        let file = sibling(&listing, chosen, &name);
        let file = file.ok_or_else(|| model.refused(&format!("{}, which its index names, is not there", shown(&name))));
        get(agree(world, file.map_err(Into::into))?, None)?;
    }
    if let Some(config) = sibling(&listing, chosen, CONFIG) {
        get(config, None)?;
    }
    if world.rank() == 0 {
        log::info!("{model} is {} of commit {}, at {}", shown(&chosen.path), listing.commit, path.display());
    }
    Ok(path)
}

/// Weights in several files that lie in a folder of one node, or of all: where a node lacks them they come into a folder of its store,
/// side by side. Collective.
fn fetch_parts(world: &World, store: &Store, request: &Request, index: &Path) -> anyhow::Result<PathBuf> {
    let key = format!("{:016x}", fnv1a(index.as_os_str().as_encoded_bytes()));
    let place = store.within(&Path::new("parts").join(key));
    let get = |name: &str, checksum: Option<&Checksum>| {
        let source = Source::File(index.with_file_name(name));
        let asked = Request { checksum: checksum.cloned(), name: Some(name.to_owned()), ..Request::new(source) };
        fetch_once(world, &place, &asked)
    };
    let name = index.file_name().unwrap_or_default().to_string_lossy();
    let path = get(&name, request.checksum.as_ref())?;
    for name in parts(world, &path)? {
        get(&name, None)?;
    }
    let has_config = world.from_rank_zero("looking for what the weights are of", || {
        Ok(vec![u8::from(index.with_file_name(CONFIG).is_file())])
    })?;
    if has_config == [1] {
        get(CONFIG, None)?;
    }
    Ok(path)
}

/// The files that the index at `path` names; none where that is no index. Collective: rank 0 reads it.
fn parts(world: &World, path: &Path) -> anyhow::Result<Vec<String>> {
    let bytes = world.from_rank_zero("reading the index of the weights", || {
        let names = if is_index(path) { names_in(path) } else { Ok(Vec::new()) };
        serde_json::to_vec(&names.map_err(|error| to_failure(&error))?).map_err(Failure::new)
    })?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn is_index(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(INDEX.as_bytes())
}

/// A name from elsewhere, as it may be shown.
fn shown(name: &str) -> String {
    name.escape_debug().to_string()
}

/// The file with the weights: the one that is named, or the one that models usually have, or the only one.
fn choose<'l>(model: &HubModel, listing: &'l HubListing) -> anyhow::Result<&'l HubFile> {
    let named = |name: &str| listing.files.iter().find(|file| file.path == name);
    let of_weights = || listing.files.iter().filter(|file| ENDINGS.iter().any(|ending| file.path.ends_with(ending)));
    let all = || {
        let names: Vec<_> = of_weights().take(8).map(|file| shown(&file.path)).collect();
        if names.is_empty() { "it has no files of weights".to_owned() } else { format!("it has: {}", names.join(", ")) }
    };
    if let Some(name) = model.file() {
        return named(name).ok_or_else(|| model.refused(&format!("there is no such file; {}", all())).into());
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
                all()
            ))
            .into()),
    }
}

/// The file called `name` in the folder of `file`.
fn sibling<'l>(listing: &'l HubListing, file: &HubFile, name: &str) -> Option<&'l HubFile> {
    let folder = file.path.rfind('/').map_or("", |slash| &file.path[..=slash]);
    listing.files.iter().find(|other| other.path.strip_prefix(folder) == Some(name))
}

/// All that belongs to the weights, which `chosen` is the first file of: with the files that an index in huggingface_hub's cache names.
fn needed<'l>(listing: &'l HubListing, chosen: &'l HubFile) -> anyhow::Result<Vec<&'l HubFile>> {
    let mut needed = vec![chosen];
    if let Some(folder) = listing.cached.as_ref().filter(|_| is_index(Path::new(&chosen.path))) {
        for name in names_in(&folder.join(&chosen.path))? {
            needed.push(sibling(listing, chosen, &name).ok_or_else(|| anyhow!("{} is not there", shown(&name)))?);
        }
    }
    needed.extend(sibling(listing, chosen, CONFIG));
    Ok(needed)
}

/// Checks that all that belongs to the weights is whole in huggingface_hub's cache on this machine: parts must lie side by side.
fn check_cached(
    model: &HubModel,
    listing: &HubListing,
    chosen: &HubFile,
    store: &Store,
    watch: &fetch::Watch<'_>,
) -> anyhow::Result<()> {
    let Some(folder) = &listing.cached else { return Ok(()) };
    for file in needed(listing, chosen)? {
        let (request, _) = model.request(listing, file, store)?;
        let path = folder.join(&file.path);
        if !path.is_file() {
            return Err(anyhow!("{} is not there", path.display()));
        }
        // Verified with what the Hub says, or the name of what the link leads to.
        store.find(&request, watch)?;
    }
    Ok(())
}

/// Whether each node has all of it in huggingface_hub's cache, or nothing: what is missing comes into the store, and parts must lie side by
/// side. Collective.
fn is_cached_alike(world: &World, model: &HubModel, listing: &HubListing) -> anyhow::Result<bool> {
    let Some(folder) = &listing.cached else { return Ok(true) };
    let needed = world.from_rank_zero("looking into huggingface_hub's cache", || {
        let chosen = choose(model, listing).map_err(|error| to_failure(&error))?;
        let needed = needed(listing, chosen).map_err(|error| to_failure(&error))?;
        let paths: Vec<_> = needed.iter().map(|file| &file.path).collect();
        serde_json::to_vec(&paths).map_err(Failure::new)
    })?;
    let needed: Vec<String> = serde_json::from_slice(&needed)?;
    let is_alike = world.local_rank() != 0 || {
        let there = needed.iter().filter(|path| folder.join(path).is_file()).count();
        there == 0 || there == needed.len()
    };
    let mut alike = [u8::from(is_alike)];
    world.control().all_reduce(&mut alike, Reduction::Min)?;
    Ok(alike[0] == 1)
}

/// The files that the index at `path` names.
fn names_in(path: &Path) -> anyhow::Result<Vec<String>> {
    /// The longest that is read, in bytes: a name for each tensor.
    const LONGEST: u64 = 100_000_000;
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut text));
    read.map_err(|error| anyhow!("{}: {error}", path.display()))?;
    files_of_index(&text).map_err(|reason| usage(format!("{}: {reason}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(paths: &[&str]) -> HubListing {
        let file = |path: &&str| HubFile { path: (*path).to_owned(), size: None, sha256: None };
        HubListing { commit: "0".repeat(40), files: paths.iter().map(file).collect(), cached: None, is_offline: false }
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
