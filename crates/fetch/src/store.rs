//! A folder of fetched files.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checksum::{self, Checksum};
use crate::download::{Wanted, download};
use crate::http::Http;
use crate::limits::Limits;
use crate::lock::Lock;
use crate::part::Part;
use crate::progress::{Doing, Watch, Watched};
use crate::transport::Transport;
use crate::{Error, Result, Source, hub, own};

/// The environment variable that names a mirror: a folder, or an address that file names are appended to.
const MIRROR: &str = "RUST_TRAIN_MIRROR";

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it comes from.
    pub source: Source,
    /// What its content must be, where that is known.
    pub checksum: Option<Checksum>,
    /// How many bytes it must have, where that is known.
    pub size: Option<u64>,
    /// Whether the server is the Hugging Face Hub, and may see this user's token. No other server ever does.
    pub is_of_hub: bool,
    /// What it is called in a folder of the store that is of one origin ([`Store::within`]), whatever its address is.
    pub name: Option<String>,
}

impl Request {
    /// What `source` names; a hash in its file name, as torchvision writes it, counts as known.
    pub fn new(source: Source) -> Self {
        let checksum = match &source {
            Source::Url(_) => Checksum::in_file_name(&source.file_name()),
            Source::File(_) | Source::Hub(_) => None,
        };
        Self { source, checksum, size: None, is_of_hub: false, name: None }
    }
}

/// A folder of fetched files. Under its final name a file is whole and verified.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    mirror: Option<Source>,
    offline: bool,
    limits: Limits,
}

impl Store {
    /// The store in `folder`, or where none is named, in the user's cache folder. A mirror comes from
    /// `RUST_TRAIN_MIRROR`. An `offline` store only finds what is there.
    ///
    /// # Errors
    /// A mirror that is no source.
    pub fn open(folder: Option<&Path>, offline: bool, limits: Limits) -> Result<Self> {
        let mirror = env::var(MIRROR).ok().filter(|text| !text.is_empty());
        // An address of a folder: with a name behind it, it is an address of a file.
        let mirror = mirror.map(|text| format!("{}/_", text.trim_end_matches('/')).parse()).transpose()?;
        let folder = folder.map_or_else(user_cache::folder, Path::to_owned);
        Ok(Self { folder, mirror, offline, limits })
    }

    /// The store in the folder `path` of this one, for files of one origin alone, whose requests say what they are called in it.
    #[must_use]
    pub fn within(&self, path: &Path) -> Self {
        let mirror = self.mirror.as_ref().map(|mirror| match mirror {
            Source::File(file) => Source::File(file.with_file_name(path).join("_")),
            Source::Url(url) => Source::Url(format!("{}{}/_", url.strip_suffix('_').unwrap_or(url), path.display())),
            Source::Hub(model) => Source::Hub(model.clone()),
        });
        Self { folder: self.folder.join(path), mirror, ..self.clone() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether nothing may be downloaded.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Where the file of `request` lies, or will lie: under its name alone if that has the file's hash in it, as
    /// torchvision's have; else with a key of its address before it, for a name is not enough: every second network's
    /// weights are called `model.safetensors`.
    pub fn path(&self, request: &Request) -> PathBuf {
        if let Some(name) = &request.name {
            return self.folder.join(name);
        }
        let name = request.source.file_name();
        let says_hash = match (Checksum::in_file_name(&name), &request.checksum) {
            (Some(in_name), Some(checksum)) => checksum.implies(&in_name),
            _ => false,
        };
        self.folder.join(if says_hash { name } else { keyed(&request.source) })
    }

    /// The file of `request` on this machine, verified: at its source if that is a local file, else in the store. A
    /// file in the store that is not what it should be counts as missing.
    ///
    /// # Errors
    /// A local source with the wrong content, a file that cannot be read, or `watch`, which stopped it.
    pub fn find(&self, request: &Request, watch: &Watch<'_>) -> Result<Option<PathBuf>> {
        if let Source::File(path) = &request.source
            && path.is_file()
        {
            verify(path, request, &path.display().to_string(), watch)?;
            return Ok(Some(path.clone()));
        }
        let path = self.path(request);
        if path.is_file() {
            let known = Known::of(&path);
            let is_other = |origin: &String| request.name.is_none() && *origin != request.source.origin();
            if let Some(origin) = known.origin.as_ref().filter(|origin| request.checksum.is_none() && is_other(origin))
            {
                log::warn!(
                    "{} came from {origin}, not from {}; it will be fetched again",
                    path.display(),
                    request.source
                );
                return Ok(None);
            }
            let request = Request { checksum: request.checksum.clone().or(known.checksum), ..request.clone() };
            return match verify(&path, &request, &path.display().to_string(), watch) {
                Ok(_) => Ok(Some(path)),
                Err(error @ (Error::Checksum { .. } | Error::Size { .. })) => {
                    log::warn!("{error}; it will be fetched again");
                    Ok(None)
                }
                Err(error) => Err(error),
            };
        }
        // Earlier versions of this program named a file by its name alone; whose it is then shows by its hash only.
        let by_name = self.folder.join(request.source.file_name());
        if request.checksum.is_none() || by_name == path || !by_name.is_file() {
            return Ok(None);
        }
        match verify(&by_name, request, &by_name.display().to_string(), watch) {
            Ok(_) => Ok(Some(by_name)),
            Err(Error::Checksum { .. } | Error::Size { .. }) => Ok(None), // another file with the same name
            Err(error) => Err(error),
        }
    }

    /// Gets the file of `request` in place, from where it lies or from elsewhere. `watch` is told how far it is.
    ///
    /// # Errors
    /// Whatever keeps the file from being whole and right; then nothing lies under its name.
    pub fn fetch(&self, request: &Request, watch: &Watch<'_>) -> Result<PathBuf> {
        if let Some(path) = self.find(request, watch)? {
            return Ok(path);
        }
        match &request.source {
            Source::File(path) => {
                let missing = io::Error::from(io::ErrorKind::NotFound);
                return Err(Error::io(path, "looking for the file")(missing));
            }
            Source::Hub(model) => return Err(model.refused("is a model, and one of its files was to be named")),
            Source::Url(_) if self.offline => return Err(self.missing(request)),
            Source::Url(_) => {}
        }
        let mut incoming = self.begin(request, watch)?;
        // Whoever held the lock before may have fetched it.
        if let Some(path) = self.find(request, watch)? {
            return Ok(path);
        }
        if let Some(mirrored) = self.mirrored(request) {
            match incoming.take_from(&mirrored, &self.limits, watch) {
                Ok(()) => {
                    if request.checksum.is_none() {
                        let name = request.source.file_name();
                        log::warn!(
                            "{name} is taken from the mirror by its name alone; a SHA-256 would show that it is right"
                        );
                    }
                    incoming.through = Some(mirrored.origin());
                    return incoming.finish(watch);
                }
                Err(error @ Error::Interrupted { .. }) => return Err(error),
                Err(error) => log::warn!("the mirror does not have it: {error}"),
            }
            // What the mirror gave is no beginning to go on with elsewhere.
            if incoming.has_from(&mirrored)? {
                incoming.start_over()?;
            }
        }
        let resumed = incoming.part.end()? > 0;
        incoming.take_from(&request.source, &self.limits, watch).map_err(|error| match error {
            Error::Refused { url, status: status @ (401 | 403) } if request.is_of_hub => {
                let reason = format!("the Hub answered {status}: {}", hub::ask_for_access());
                Error::Unusable { url, reason }
            }
            error => error,
        })?;
        // What was there from an earlier attempt may have been no beginning of this file.
        if resumed && matches!(incoming.verify(watch), Err(Error::Checksum { .. } | Error::Size { .. })) {
            incoming.start_over()?;
            incoming.take_from(&request.source, &self.limits, watch)?;
        }
        incoming.finish(watch)
    }

    /// Gets the file of `request` from its source, whatever was there before: for what changes. It takes its place if `check` says that
    /// it is one.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch); then what was there before is there still.
    pub(crate) fn refresh(
        &self,
        request: &Request,
        check: impl Fn(&Path) -> Result<()>,
        watch: &Watch<'_>,
    ) -> Result<PathBuf> {
        let mut incoming = self.begin(request, watch)?;
        incoming.start_over()?;
        incoming.take_from(&request.source, &self.limits, watch)?;
        check(incoming.part.path())?;
        incoming.finish(watch)
    }

    /// Begins to write the file of `request`, whose bytes come some other way: [`Incoming`] takes them. Waits for nobody,
    /// so that processes that are in step with each other can do so together, on one folder or on several.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn receive(&self, request: &Request) -> Result<Incoming> {
        self.make_folder()?;
        let part = Part::fresh(&self.folder, &self.name(request))?;
        Ok(self.incoming(request, part, None))
    }

    /// Begins to download the file of `request`, when no other process does.
    fn begin(&self, request: &Request, watch: &Watch<'_>) -> Result<Incoming> {
        self.make_folder()?;
        let name = self.name(request);
        let from = request.source.to_string();
        let watched = Watched { watch, from: &from };
        let waiting = || watched.tell(Doing::Waiting, Part::length_elsewhere(&self.folder, &name), None);
        let lock = Lock::acquire(&self.folder.join(format!(".{name}.lock")), self.limits.lock_timeout, &waiting)?;
        Part::forget_old(&self.folder, &name);
        // Under the lock the part has one name, so that a later process can go on with it.
        let part = if lock.is_some() { Part::open(&self.folder, &name) } else { Part::fresh(&self.folder, &name) };
        Ok(self.incoming(request, part?, lock))
    }

    fn incoming(&self, request: &Request, part: Part, lock: Option<Lock>) -> Incoming {
        let is_found_again = lock.is_some();
        let (path, request) = (self.path(request), request.clone());
        Incoming { part, path, request, through: None, is_found_again, is_done: false, keep: false, _lock: lock }
    }

    fn make_folder(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder, "making the folder for fetched files"))
    }

    fn name(&self, request: &Request) -> String {
        self.path(request).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The same, which may download nothing where `offline`.
    #[must_use]
    pub(crate) fn or_offline(self, offline: bool) -> Self {
        Self { offline: self.offline || offline, ..self }
    }

    /// Nothing may be downloaded: what to put where.
    fn missing(&self, request: &Request) -> Error {
        let mut hint = request.checksum.as_ref().map_or_else(String::new, |sum| format!(" (SHA-256 {sum})"));
        let place = self.path(request);
        let by_name = self.folder.join(request.source.file_name());
        if by_name != place && by_name.is_file() {
            let by_name = by_name.display();
            hint += &match request.checksum {
                Some(_) => format!("; {by_name} has that name and another content"),
                None => {
                    format!("; {by_name} has that name, but nothing says that it came from there: rename it if it did")
                }
            };
        }
        Error::Offline { place, from: request.source.to_string(), hint }
    }

    fn mirrored(&self, request: &Request) -> Option<Source> {
        let name = request.source.file_name();
        Some(match self.mirror.as_ref()? {
            // A store serves as a mirror, too.
            Source::File(path) if let Some(name) = &request.name => Source::File(path.with_file_name(name)),
            Source::File(path) => {
                let with_key = path.with_file_name(keyed(&request.source));
                Source::File(if with_key.is_file() { with_key } else { path.with_file_name(name) })
            }
            Source::Url(url) => Source::Url(url.strip_suffix('_').unwrap_or(url).to_owned() + &name),
            Source::Hub(_) => return None,
        })
    }
}

/// The name of a file with the key of its address.
fn keyed(source: &Source) -> String {
    format!("{}-{}", source.key(), source.file_name())
}

/// A file on its way into a store, under a hidden name. Dropped without [`finish`](Self::finish) it goes, but for the
/// beginning of a download that can go on later.
#[derive(Debug)]
pub struct Incoming {
    part: Part,
    path: PathBuf,
    request: Request,
    /// The mirror that it came from.
    through: Option<String>,
    /// Whether a later process finds the part.
    is_found_again: bool,
    is_done: bool,
    keep: bool,
    _lock: Option<Lock>,
}

impl Incoming {
    /// Appends bytes.
    ///
    /// # Errors
    /// A full disk, say.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.part.write(bytes)
    }

    /// Verifies the bytes, puts them on the disk, and gives the file its name. `watch` is told how far it is.
    ///
    /// # Errors
    /// Wrong content, or a disk that does not take it; then nothing lies under the name.
    pub fn finish(mut self, watch: &Watch<'_>) -> Result<PathBuf> {
        // What has come whole need not come again because somebody stops it now.
        self.keep = self.is_resumable();
        let hash = self.verify(watch).inspect_err(|error| self.keep &= matches!(error, Error::Interrupted { .. }))?;
        self.keep = false;
        self.part.sync()?;
        // First the hash, then the file: a file without its hash could not be verified later.
        let sums = sidecar(&self.path);
        let known = Known::text(&hash, &self.path, &self.request.source, self.through.as_deref());
        own::write_whole(&sums, &known).map_err(Error::io(&sums, "writing the hash"))?;
        self.part.publish(&self.path, &hash)?;
        self.part.remove();
        self.is_done = true;
        if let Some(folder) = self.path.parent() {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(Error::io(folder, "writing the folder to disk"))?;
        }
        Ok(self.path.clone())
    }

    /// Forgets the bytes there are.
    fn start_over(&mut self) -> Result<()> {
        self.part.start_over(None)
    }

    /// Whether there are bytes that `source` gave.
    fn has_from(&mut self, source: &Source) -> Result<bool> {
        let is_from = self.part.version().is_none_or(|version| version.origin == source.origin());
        Ok(is_from && self.part.end()? > 0)
    }

    /// Whether a later process can go on with what is there.
    fn is_resumable(&self) -> bool {
        self.is_found_again && (self.request.checksum.is_some() || self.part.version().is_some())
    }

    fn verify(&self, watch: &Watch<'_>) -> Result<String> {
        verify(self.part.path(), &self.request, &self.request.source.to_string(), watch)
    }

    fn take_from(&mut self, source: &Source, limits: &Limits, watch: &Watch<'_>) -> Result<()> {
        let (from, origin) = (source.to_string(), source.origin());
        let watched = Watched { watch, from: &from };
        // From here on a process that is killed leaves what it has.
        let taken = match source {
            Source::File(path) => self.copy(path, watched),
            Source::Hub(model) => Err(model.refused("is a model, and one of its files was to be named")),
            Source::Url(url) => {
                // A mirror must not have it.
                let token = (self.request.is_of_hub && *source == self.request.source).then(hub::token).flatten();
                let transport: Arc<dyn Transport> = Arc::new(Http::new(limits.clone(), token));
                let wanted =
                    Wanted { url, shown: &from, origin: &origin, is_verified: self.request.checksum.is_some() };
                download(&wanted, &mut self.part, &transport, limits, watched)
            }
        };
        // A cut download can go on later, if it will show that it is right.
        let is_cut = matches!(taken, Err(Error::Transfer { .. } | Error::Interrupted { .. }));
        self.keep = is_cut && self.is_resumable();
        taken
    }

    fn copy(&mut self, path: &Path, watched: Watched<'_>) -> Result<()> {
        let local = |error| Error::io(path, "copying the file")(error);
        let mut file = File::open(path).map_err(local)?;
        let total = file.metadata().map_err(local)?.len();
        self.part.start_over(None)?;
        let (mut buffer, mut done) = (vec![0; 1 << 20], 0);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.part.write(&buffer[..count])?;
                    done += count as u64;
                    watched.tell(Doing::Receiving, done, Some(total))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(local(error)),
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.keep && !self.is_done {
            self.part.remove();
        }
    }
}

/// Checks size and content; gives the hash.
fn verify(path: &Path, request: &Request, from: &str, watch: &Watch<'_>) -> Result<String> {
    let got = fs::metadata(path).map_err(Error::io(path, "measuring the file"))?.len();
    if let Some(expected) = request.size.filter(|expected| *expected != got) {
        return Err(Error::Size { from: from.to_owned(), expected, got });
    }
    let watched = Watched { watch, from };
    let hash = checksum::of_file(path, &|done| watched.tell(Doing::Verifying, done, Some(got)))?;
    match &request.checksum {
        Some(expected) if !expected.matches(&hash) => {
            Err(Error::Checksum { from: from.to_owned(), expected: expected.to_string(), got: hash })
        }
        _ => Ok(hash),
    }
}

/// Where the hash of a fetched file lies, in the form of `sha256sum`, and where the file came from.
fn sidecar(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

/// What is known of a file in the store. Files that people put there have nothing of it.
#[derive(Debug, Default)]
struct Known {
    checksum: Option<Checksum>,
    origin: Option<String>,
}

impl Known {
    /// What `sha256sum --check` takes for a comment.
    const ORIGIN: &str = "# from ";
    /// The longest text of this kind that is read.
    const LONGEST: u64 = 64 << 10;

    fn of(path: &Path) -> Self {
        let text = own::read_plain(&sidecar(path), Self::LONGEST).unwrap_or_default();
        let checksum = text.split(' ').next().and_then(|digits| digits.parse().ok());
        Self { checksum, origin: text.lines().find_map(|line| line.strip_prefix(Self::ORIGIN)).map(str::to_owned) }
    }

    fn text(hash: &str, path: &Path, source: &Source, through: Option<&str>) -> String {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let through = through.map(|mirror| format!("# through the mirror {mirror}\n")).unwrap_or_default();
        format!("{hash}  {name}\n{}{}\n{through}", Self::ORIGIN, source.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::progress::unwatched;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn store(folder: &Path) -> Store {
        Store { folder: folder.to_owned(), mirror: None, offline: true, limits: Limits::default() }
    }

    fn request(hash: Option<&str>) -> Request {
        let checksum = hash.map(|hash| hash.parse().unwrap());
        Request { source: "http://host/file.bin".parse().unwrap(), checksum, size: None, is_of_hub: false, name: None }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    }

    fn find(store: &Store, request: &Request) -> Option<PathBuf> {
        store.find(request, &unwatched).unwrap()
    }

    #[test]
    fn bytes_become_a_file_when_they_are_right() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut incoming = store.receive(&request(Some(ABC))).unwrap();
        incoming.write(b"ab").unwrap();
        incoming.write(b"c").unwrap();
        assert!(find(&store, &request(None)).is_none());
        let path = incoming.finish(&unwatched).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        let name = keyed(&request(None).source);
        assert_eq!(names(folder.path()), [name.clone(), format!("{name}.sha256")]);
        assert_eq!(find(&store, &request(Some(ABC))), Some(path.clone()));
        assert_eq!(find(&store, &request(None)), Some(path.clone()));
        let known = fs::read_to_string(sidecar(&path)).unwrap();
        assert_eq!(known, format!("{ABC}  {name}\n# from http://host/file.bin\n"));

        // A flipped byte is noticed, also by a request that does not know the hash.
        fs::write(&path, b"abd").unwrap();
        assert!(find(&store, &request(None)).is_none());
    }

    #[test]
    fn wrong_or_forsaken_bytes_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut incoming = store.receive(&request(Some(ABC))).unwrap();
        incoming.write(b"abd").unwrap();
        assert!(matches!(incoming.finish(&unwatched), Err(Error::Checksum { .. })));
        let mut incoming = store.receive(&request(None)).unwrap();
        incoming.write(b"ab").unwrap();
        drop(incoming);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn files_of_one_name_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { offline: false, ..store(folder.path()) };
        let of = |url: &str| Request::new(url.parse().unwrap());
        let put = |url: &str, bytes: &[u8]| {
            let mut incoming = store.receive(&of(url)).unwrap();
            incoming.write(bytes).unwrap();
            incoming.finish(&unwatched).unwrap()
        };
        let (a, b) = ("https://hub/orgA/model.safetensors", "https://hub/orgB/model.safetensors");
        let first = put(a, b"abc");
        assert!(find(&store, &of(b)).is_none());
        let second = put(b, b"abd");
        assert_ne!(first, second);
        for (url, bytes) in [(a, b"abc"), (b, b"abd")] {
            assert_eq!(fs::read(find(&store, &of(url)).unwrap()).unwrap(), bytes);
        }
        // Another signature is no other file; another fragment neither.
        assert_eq!(find(&store, &of(&format!("{a}?Expires=9&Signature=8&Key-Pair-Id=7#there"))), Some(first.clone()));
        assert_eq!(find(&store, &of(&format!("{a}?revision=2"))), None);

        // Where the name says the hash, the name is enough.
        let hashed = put("https://one/model-ba7816bf.bin", b"abc");
        assert_eq!(hashed, folder.path().join("model-ba7816bf.bin"));
        assert_eq!(find(&store, &of("https://other/model-ba7816bf.bin")), Some(hashed.clone()));
        let mut contradicts = of("https://other/model-ba7816bf.bin");
        contradicts.checksum = Some("0".repeat(64).parse().unwrap());
        assert_eq!(find(&store, &contradicts), None);
        assert_ne!(store.path(&contradicts), hashed);

        // A file that was moved by hand, with what is known of it, is not taken for another one.
        fs::rename(&first, &second).unwrap();
        fs::rename(sidecar(&first), sidecar(&second)).unwrap();
        assert!(find(&store, &of(b)).is_none());
    }

    #[test]
    fn what_earlier_versions_fetched_is_found_where_its_hash_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let old = folder.path().join("file.bin");
        fs::write(&old, b"abc").unwrap();
        fs::write(sidecar(&old), format!("{ABC}  file.bin\n")).unwrap();
        assert_eq!(find(&store, &request(Some(ABC))), Some(old.clone()));
        assert_eq!(find(&store, &request(Some(&"0".repeat(64)))), None);
        // Whose it is without one, nobody knows; whoever put it there may.
        assert_eq!(find(&store, &request(None)), None);
        let text = store.fetch(&request(None), &unwatched).unwrap_err().to_string();
        assert!(text.contains(&format!("; {} has that name, but nothing says", old.display())), "{text}");
        fs::rename(&old, store.path(&request(None))).unwrap();
        assert_eq!(find(&store, &request(None)), Some(store.path(&request(None))));
    }

    #[test]
    fn offline_says_what_to_put_where() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let error = store.fetch(&request(Some(ABC)), &unwatched).unwrap_err();
        let text = error.to_string();
        assert!(error.is_bad_input());
        assert!(text.contains(&format!("{} is not there", store.path(&request(None)).display())), "{text}");
        assert!(text.contains("download http://host/file.bin elsewhere") && text.contains(ABC), "{text}");
        fs::write(store.path(&request(None)), b"abc").unwrap();
        store.fetch(&request(Some(ABC)), &unwatched).unwrap();
    }

    #[test]
    fn a_mirror_is_asked_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("mirror")).unwrap();
        fs::write(folder.path().join("mirror/file.bin"), b"abc").unwrap();
        let mirror = Some(Source::File(folder.path().join("mirror/_")));
        let store = Store { mirror, offline: false, ..store(&folder.path().join("store")) };
        let path = store.fetch(&request(None), &unwatched).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        let known = fs::read_to_string(sidecar(&path)).unwrap();
        assert!(known.contains("# from http://host/file.bin\n# through the mirror /"), "{known}");
        // Another store is a mirror that knows more than names.
        fs::write(folder.path().join("mirror").join(keyed(&request(None).source)), b"of this address").unwrap();
        fs::remove_file(&path).unwrap();
        fs::remove_file(sidecar(&path)).unwrap();
        assert_eq!(fs::read(store.fetch(&request(None), &unwatched).unwrap()).unwrap(), b"of this address");
        let url = Store { mirror: Some(Source::Url("http://mirror/x/_".to_owned())), ..store };
        assert_eq!(url.mirrored(&request(None)).unwrap().to_string(), "http://mirror/x/file.bin");
    }

    #[test]
    fn what_others_planted_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "kept").unwrap();
        let origin = folder.path().join("origin");
        fs::create_dir(&origin).unwrap();
        fs::write(origin.join("file.bin"), b"abc").unwrap();
        let mirror = Some(Source::File(origin.join("_")));
        let store = Store { mirror, offline: false, ..store(&folder.path().join("store")) };
        fs::create_dir(store.folder()).unwrap();
        let name = store.name(&request(None));
        let hidden = [".lock", ".part", ".part.from"].map(|suffix| format!(".{name}{suffix}"));
        for planted in hidden.into_iter().chain([format!("{name}.sha256"), name]) {
            std::os::unix::fs::symlink(&precious, store.folder().join(planted)).unwrap();
        }
        let path = store.fetch(&request(Some(ABC)), &unwatched).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
        assert_eq!(find(&store, &request(None)), Some(path));
    }

    #[test]
    fn those_that_write_together_wait_for_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let begun: Vec<_> = (0..3).map(|_| store.receive(&request(Some(ABC))).unwrap()).collect();
        for mut incoming in begun {
            incoming.write(b"abc").unwrap();
            let path = incoming.finish(&unwatched).unwrap();
            assert_eq!(fs::read(path).unwrap(), b"abc");
        }
        assert_eq!(names(folder.path()).len(), 2);
    }
}
