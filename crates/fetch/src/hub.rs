//! Models on the Hugging Face Hub: which commit a revision is, which files it has, and where huggingface_hub keeps those that
//! it has fetched.
//!
//! The same variables count as for huggingface_hub: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_HOME`, `HF_HUB_CACHE`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{env, fmt, fs};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::checksum::Checksum;
use crate::own;
use crate::progress::{Progress, Watch};
use crate::store::{Request, Store};
use crate::{Error, Result, Source};

const ENDPOINT: &str = "https://huggingface.co";
/// What a model's address on a command line begins with: ours and timm's, huggingface_hub's.
const SCHEMES: [&str; 4] = ["hf://", "hf:", "hf-hub:", "hf_hub:"];
/// The longest list of a model's files that is read, in bytes.
const LONGEST_LIST: u64 = 64 << 20;

/// A model on the Hub: `hf:ORG/NAME`, with `@REVISION` or `/FILE` behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    organisation: String,
    name: String,
    /// A branch, a tag or a commit; `main` where nobody says one.
    revision: Option<String>,
    /// The path of a file in it.
    file: Option<String>,
}

/// The files of a model at one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubListing {
    /// The commit, in hexadecimal.
    pub commit: String,
    /// Paths in the model, with what is known of each.
    pub files: Vec<HubFile>,
    /// The folder of huggingface_hub's cache with files of this commit, where they are to be taken from there.
    pub cached: Option<PathBuf>,
    /// Whether nobody is to be asked for the files.
    pub is_offline: bool,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubFile {
    /// Its path in the model.
    pub path: String,
    /// Its bytes, where they are known.
    pub size: Option<u64>,
    /// The hash of its content, where it is known: of large files it is.
    pub sha256: Option<String>,
}

/// Whether `text` names a model on the Hub.
pub(crate) fn is_one(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

impl FromStr for HubModel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const FORM: &str = "a model of the Hub is hf:ORG/NAME, hf:ORG/NAME@REVISION or hf:ORG/NAME/FILE";
        let refuse = |reason| Error::Source { text: text.to_owned(), reason };
        let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)).ok_or_else(|| refuse(FORM))?;
        let is_name = |part: &str| {
            let harmless = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
            !part.is_empty() && part.len() <= 96 && part.chars().all(harmless) && !part.contains("..")
        };
        let (organisation, rest) = rest.split_once('/').ok_or_else(|| refuse(FORM))?;
        let (name, file) = rest.split_once('/').map_or((rest, None), |(name, file)| (name, Some(file)));
        let (name, revision) = name
            .split_once('@')
            .map_or((name, None), |(name, revision)| (name, Some(revision.replace("%2F", "/").replace("%2f", "/"))));
        if !is_name(organisation) || !is_name(name) {
            return Err(refuse(FORM));
        }
        let is_plain = |text: &str| !text.is_empty() && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if revision.as_deref().is_some_and(|revision| !is_plain(revision)) {
            return Err(refuse("behind the @ stands no branch, tag or commit"));
        }
        if file.is_some_and(|file| !is_plain(file)) {
            return Err(refuse("behind the model's name stands no path of a file in it"));
        }
        let [organisation, name] = [organisation, name].map(str::to_owned);
        Ok(Self { organisation, name, revision, file: file.map(str::to_owned) })
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { organisation, name, revision, file } = self;
        write!(f, "hf:{organisation}/{name}")?;
        revision.iter().try_for_each(|revision| write!(f, "@{}", revision.replace('/', "%2F")))?;
        file.iter().try_for_each(|file| write!(f, "/{file}"))
    }
}

impl HubModel {
    /// The path of the file that is meant, where one is named.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The files of the model: asked for anew, since a branch moves, unless the revision is a commit. Offline, or where the Hub is not
    /// reached: what it was the last time, in `store` or in huggingface_hub's cache; that is said.
    ///
    /// # Errors
    /// A model, or a revision of it, that is not there or not for everybody; a Hub that is not reached, and nothing kept.
    pub fn list(&self, store: &Store, watch: &Watch<'_>) -> Result<HubListing> {
        // A commit of a model is the same whoever was asked for it.
        let name = Some(self.revision().replace('/', "%2F"));
        let request = Request { is_of_hub: true, name, ..Request::new(Source::Url(self.listing_url()?)) };
        let kept = store.within(&self.folder().join("revisions"));
        let is_offline = store.is_offline() || is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE");
        let known = || -> Result<Option<HubListing>> {
            let parse = |path: PathBuf| self.parse_listing(&path).inspect_err(|error| log::warn!("{error}")).ok();
            let listing = kept.find(&request, watch)?.and_then(parse);
            let has_files = |listing: &HubListing| store.folder().join(self.folder()).join(&listing.commit).is_dir();
            // What was fetched comes before what huggingface_hub knows, unless only that has the files.
            let listing = match (listing, self.of_cache(None)) {
                (Some(listing), Some(cached)) if !has_files(&listing) => Some(cached),
                (listing, cached) => listing.or(cached),
            };
            Ok(listing.map(|listing| HubListing { is_offline, ..listing }))
        };
        if is_offline {
            return known()?.ok_or_else(|| self.refused("offline, and nothing of it was fetched before"));
        }
        if self.is_commit()
            && let Some(path) = kept.find(&request, watch)?
            && let Ok(listing) = self.parse_listing(&path)
        {
            return Ok(listing);
        }
        let shorter = |progress: Progress| match progress.bytes > LONGEST_LIST {
            true => ControlFlow::Break(()),
            false => watch(progress),
        };
        let error = match kept.refresh(&request, |part| self.parse_listing(part).map(drop), &shorter) {
            Ok(path) => return self.parse_listing(&path),
            Err(error @ Error::Interrupted { .. }) => return Err(error),
            Err(Error::Refused { status, .. }) => self.refused(&self.why_refused(status)),
            Err(error) => error,
        };
        match known()? {
            Some(listing) => {
                log::warn!("{error}; {self} is taken as it was the last time, at {}", listing.commit);
                Ok(listing)
            }
            None => Err(error),
        }
    }

    /// A request for a file of the model, and the store that it is kept in: a folder of its own for each folder of a commit, in which files
    /// have their own names, as an index names them. Taken from huggingface_hub's cache where the listing has that.
    ///
    /// # Errors
    /// An endpoint that is no address, or a file whose name is none on every disk.
    pub fn request(&self, listing: &HubListing, file: &HubFile, store: &Store) -> Result<(Request, Store)> {
        let parts: Vec<_> = file.path.split('/').collect();
        let is_name = |part: &&str| {
            let is_plain = !part.starts_with('.') && !part.contains(|letter: char| letter.is_control());
            !part.is_empty() && part.len() <= 200 && is_plain
        };
        let Some((name, folders)) = parts.split_last().filter(|_| parts.iter().all(is_name)) else {
            let path = file.path.escape_debug();
            return Err(self.refused(&format!("the file '{path}' is not fetched: its name is none here")));
        };
        let mut request = match &listing.cached {
            Some(folder) => Request::new(Source::File(folder.join(&file.path))),
            None => {
                Request { is_of_hub: true, ..Request::new(Source::Url(self.file_url(&listing.commit, &file.path)?)) }
            }
        };
        request.name = Some((*name).to_owned());
        request.size = file.size;
        request.checksum = file.sha256.as_ref().and_then(|hash| hash.parse::<Checksum>().ok());
        let folder = folders.iter().fold(self.folder().join(&listing.commit), |folder, part| folder.join(part));
        Ok((request, store.within(&folder).or_offline(listing.is_offline)))
    }

    /// Where its files are kept, below the store.
    fn folder(&self) -> PathBuf {
        Path::new("hf").join(format!("{}--{}", self.organisation, self.name))
    }

    fn is_commit(&self) -> bool {
        is_commit(self.revision())
    }

    fn parse_listing(&self, path: &Path) -> Result<HubListing> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
            size: Option<u64>,
            lfs: Option<LargeFile>,
        }
        #[derive(Deserialize)]
        struct LargeFile {
            sha256: Option<String>,
            size: Option<u64>,
        }
        let text = own::read_plain(path, LONGEST_LIST)
            .ok_or_else(|| self.refused("the Hub's list of its files is no text of at most 64 MB"))?;
        let answer: Answer = serde_json::from_str(&text)
            .map_err(|error| self.refused(&format!("the Hub's list of its files is not understood: {error}")))?;
        if !is_commit(&answer.sha) {
            return Err(self.refused("the Hub's list of its files names no commit"));
        }
        let cached = self.of_cache(Some(&answer.sha)).and_then(|listing| listing.cached);
        let of_link = |path: &str| hash_of_link(&cached.as_ref()?.join(path));
        let files = answer.siblings.into_iter().map(|Sibling { rfilename, size, lfs }| HubFile {
            size: lfs.as_ref().and_then(|lfs| lfs.size).or(size),
            sha256: lfs.and_then(|lfs| lfs.sha256).or_else(|| of_link(&rfilename)),
            path: rfilename,
        });
        let files = files.collect();
        Ok(HubListing { files, cached, commit: answer.sha, is_offline: false })
    }

    /// What huggingface_hub has fetched of a commit, or of the one that it knew the revision as.
    fn of_cache(&self, commit: Option<&str>) -> Option<HubListing> {
        let folder = cache_folder()?.join(format!("models--{}--{}", self.organisation, self.name));
        let commit = match commit {
            Some(commit) => commit.to_owned(),
            None if self.is_commit() => self.revision().to_owned(),
            None => own::read_plain(&folder.join("refs").join(self.revision()), 1 << 10)?.trim().to_owned(),
        };
        let snapshot = folder.join("snapshots").join(&commit);
        let mut files = Vec::new();
        paths_below(&snapshot, "", &mut files);
        // huggingface_hub calls what it keeps by its hash.
        let file = |path: String| HubFile { size: None, sha256: hash_of_link(&snapshot.join(&path)), path };
        let is_there = is_commit(&commit) && !files.is_empty();
        let files = files.into_iter().map(file).collect();
        is_there.then(|| HubListing { files, cached: Some(snapshot.clone()), commit, is_offline: false })
    }

    fn listing_url(&self) -> Result<String> {
        let Self { organisation, name, .. } = self;
        let mut url = self.endpoint(&["api", "models", organisation, name, "revision", self.revision()])?;
        url.set_query(Some("blobs=true"));
        Ok(url.into())
    }

    fn file_url(&self, commit: &str, path: &str) -> Result<String> {
        let mut parts = vec![&self.organisation[..], &self.name, "resolve", commit];
        parts.extend(path.split('/'));
        Ok(self.endpoint(&parts)?.into())
    }

    fn endpoint(&self, path: &[&str]) -> Result<Url> {
        let endpoint = variable("HF_ENDPOINT");
        let endpoint = endpoint.as_deref().unwrap_or(ENDPOINT);
        let refused = || self.refused("HF_ENDPOINT: is not the address of a Hub");
        let mut url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.as_mut()
            .and_then(|url| {
                url.path_segments_mut().ok()?.pop_if_empty().extend(path);
                Some(())
            })
            .ok_or_else(refused)?;
        url.ok_or_else(refused)
    }

    fn why_refused(&self, status: u16) -> String {
        let access = ask_for_access();
        match status {
            401 | 403 => {
                format!("the Hub answered {status}: there is no such model, or it is not for everybody: {access}")
            }
            404 => format!(
                "the Hub answered 404: there is no such model or no revision {}, or it is not for everybody: {access}",
                self.revision()
            ),
            status => format!("the Hub answered {status}"),
        }
    }

    /// An error about this model.
    pub fn refused(&self, reason: &str) -> Error {
        Error::Unusable { url: self.to_string(), reason: reason.to_owned() }
    }
}

/// What to do where a file is not for everybody.
pub(crate) fn ask_for_access() -> &'static str {
    match token() {
        None => "set HF_TOKEN to the token of an account that may read it",
        Some(_) => {
            "this user's token (HF_TOKEN, or that of `hf auth login`) is of no account that may read it, or no longer valid"
        }
    }
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

/// The files below `folder` as paths with slashes, in order.
fn paths_below(folder: &Path, before: &str, paths: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else { continue };
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_dir() => paths_below(&entry.path(), &format!("{before}{name}/"), paths),
            Ok(metadata) if metadata.is_file() => paths.push(format!("{before}{name}")),
            _ => {} // a link to what is gone
        }
    }
}

/// The hash that a link of huggingface_hub's cache has in the name of what it leads to.
fn hash_of_link(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned();
    (target.len() == 64).then_some(target)
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

fn is_set(name: &str) -> bool {
    variable(name).is_some_and(|text| matches!(&text.to_ascii_uppercase()[..], "1" | "ON" | "YES" | "TRUE"))
}

/// A path in a variable: no shell has seen what Slurm's `--export` or a container's recipe say, so `~` and variables in it are for the
/// program.
fn path_variable(name: &str) -> Option<PathBuf> {
    Some(expand(&variable(name)?, variable).into())
}

fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    shellexpand::full_with_context_no_errors(text, || variable("HOME"), |name| variable(name)).into_owned()
}

/// Where huggingface_hub keeps what concerns it.
fn home() -> Option<PathBuf> {
    let of_home = || Some(PathBuf::from(variable("HOME")?).join(".cache"));
    let cache = || path_variable("XDG_CACHE_HOME").or_else(of_home).map(|folder| folder.join("huggingface"));
    path_variable("HF_HOME").or_else(cache)
}

fn cache_folder() -> Option<PathBuf> {
    let named = path_variable("HF_HUB_CACHE").or_else(|| path_variable("HUGGINGFACE_HUB_CACHE"));
    named.or_else(|| home().map(|folder| folder.join("hub")))
}

/// The token of this user, as huggingface_hub finds it: in the environment, or where `hf auth login` put it.
pub(crate) fn token() -> Option<String> {
    if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return None;
    }
    let of_environment = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
    let of_file = || {
        let path = path_variable("HF_TOKEN_PATH").or_else(|| Some(home()?.join("token")))?;
        own::read_plain(&path, 4 << 10)
    };
    let token = of_environment.or_else(of_file)?.trim().to_owned();
    let is_one = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_one.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_how_they_are_named() {
        let cases = [
            ("hf:timm/resnet50.a1_in1k", Ok(("timm", "resnet50.a1_in1k", None, None))),
            ("hf://timm/a@v1.0/sub/b.bin", Ok(("timm", "a", Some("v1.0"), Some("sub/b.bin")))),
            ("hf-hub:timm/a@refs%2Fpr%2F3", Ok(("timm", "a", Some("refs/pr/3"), None))),
            ("hf_hub:o/n", Ok(("o", "n", None, None))),
            ("hf:resnet50", Err("hf:ORG/NAME")),
            ("hf:", Err("hf:ORG/NAME")),
            ("hf:a/..", Err("hf:ORG/NAME")),
            ("hf:a/b c", Err("hf:ORG/NAME")),
            ("hf:a/b@", Err("branch, tag or commit")),
            ("hf:a/b@..%2F..%2Fx", Err("branch, tag or commit")),
            ("hf:a/b/", Err("path of a file")),
            ("hf:a/b/../c", Err("path of a file")),
        ];
        for (text, expected) in cases {
            match (text.parse::<HubModel>(), expected) {
                (Ok(model), Ok((organisation, name, revision, file))) => {
                    let got = (&model.organisation[..], &model.name[..], model.revision.as_deref(), model.file());
                    assert_eq!(got, (organisation, name, revision, file), "{text}");
                    assert_eq!(model.to_string().parse::<HubModel>().unwrap(), model, "{text}");
                }
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn variables_in_paths() {
        let variable = |name: &str| match name {
            "HOME" => Some("/home/me".to_owned()),
            "SCRATCH_1" => Some("/scratch".to_owned()),
            _ => None,
        };
        let cases = [
            ("~/hf", "/home/me/hf"),
            ("~", "/home/me"),
            ("~other/hf", "~other/hf"),
            ("$HOME/hf", "/home/me/hf"),
            ("${SCRATCH_1}x/$NONE/a", "/scratchx/$NONE/a"),
            ("/a$", "/a$"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, variable), expected);
        }
    }

    #[test]
    fn addresses_are_those_of_the_hub() {
        let model: HubModel = "hf:o/n@refs%2Fpr%2F3/a b.bin".parse().unwrap();
        let listing = model.listing_url().unwrap();
        assert!(listing.ends_with("/api/models/o/n/revision/refs%2Fpr%2F3?blobs=true"), "{listing}");
        let file = model.file_url(&"a".repeat(40), "sub/a b.bin").unwrap();
        assert!(file.ends_with(&format!("/o/n/resolve/{}/sub/a%20b.bin", "a".repeat(40))), "{file}");
    }
}
