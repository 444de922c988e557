//! A folder of fetched files.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::checksum::{self, Checksum};
use crate::download::{Http, download};
use crate::lock::Lock;
use crate::{Error, Result, Source};

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
}

impl Request {
    /// What `source` names; a hash in its file name, as torchvision writes it, counts as known.
    pub fn new(source: Source) -> Self {
        let checksum = match &source {
            Source::Url(_) => Checksum::in_file_name(&source.file_name()),
            Source::File(_) => None,
        };
        Self { source, checksum, size: None }
    }
}

/// How long to wait for what.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How often a transfer is tried.
    pub attempts: usize,
    /// The pause after the first attempt; later ones double.
    pub first_pause: Duration,
    /// The longest pause between attempts.
    pub longest_pause: Duration,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest time in which no byte arrives.
    pub stall_timeout: Duration,
    /// The longest wait for another process that fetches the same file.
    pub lock_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(1800),
        }
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
        Ok(Self { folder: folder.map_or_else(user_cache::folder, Path::to_owned), mirror, offline, limits })
    }

    /// Where the file of `request` lies, or will lie.
    pub fn path(&self, request: &Request) -> PathBuf {
        self.folder.join(request.source.file_name())
    }

    /// The file of `request` on this machine, verified: at its source if that is a local file, else in the store. A
    /// file in the store that is not what it should be counts as missing.
    ///
    /// # Errors
    /// A local source with the wrong content, or a file that cannot be read.
    pub fn find(&self, request: &Request) -> Result<Option<PathBuf>> {
        if let Source::File(path) = &request.source
            && path.is_file()
        {
            verify(path, request, &path.display().to_string())?;
            return Ok(Some(path.clone()));
        }
        let path = self.path(request);
        if !path.is_file() {
            return Ok(None);
        }
        let known = fs::read_to_string(sidecar(&path)).ok().and_then(|text| text.split(' ').next()?.parse().ok());
        let request = Request { checksum: request.checksum.clone().or(known), ..request.clone() };
        match verify(&path, &request, &path.display().to_string()) {
            Ok(_) => Ok(Some(path)),
            Err(error @ (Error::Checksum { .. } | Error::Size { .. })) => {
                log::warn!("{error}; it will be fetched again");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Gets the file of `request` in place, from where it lies or from elsewhere. `progress` is called with the bytes
    /// there are and the bytes there will be.
    ///
    /// # Errors
    /// Whatever keeps the file from being whole and right; then nothing lies under its name.
    pub fn fetch(&self, request: &Request, progress: &dyn Fn(u64, Option<u64>)) -> Result<PathBuf> {
        if let Some(path) = self.find(request)? {
            return Ok(path);
        }
        let url = match &request.source {
            Source::File(path) => {
                let missing = io::Error::from(io::ErrorKind::NotFound);
                return Err(Error::io(path, "looking for the file")(missing));
            }
            Source::Url(url) => url,
        };
        if self.offline {
            let hash = request.checksum.as_ref().map_or_else(String::new, |sum| format!(" (SHA-256 {sum})"));
            return Err(Error::Offline { place: self.path(request), from: url.clone(), hash });
        }
        let mut incoming = self.receive(request)?;
        // Whoever held the lock before may have fetched it.
        if let Some(path) = self.find(request)? {
            return Ok(path);
        }
        if let Some(mirrored) = self.mirrored(request) {
            match incoming.take_from(&mirrored, &self.limits, progress) {
                Ok(()) => return incoming.finish(),
                Err(error) => log::warn!("the mirror does not have it: {error}"),
            }
            incoming.start_over()?;
        }
        let resumed = incoming.length()? > 0;
        incoming.take_from(&request.source, &self.limits, progress)?;
        // What was there from an earlier attempt may have been no beginning of this file.
        if resumed && matches!(incoming.verify(), Err(Error::Checksum { .. } | Error::Size { .. })) {
            incoming.start_over()?;
            incoming.take_from(&request.source, &self.limits, progress)?;
        }
        incoming.finish()
    }

    /// Begins to write the file of `request`, whose bytes come some other way: [`Incoming`] takes them.
    ///
    /// # Errors
    /// A folder that cannot be written to, or another process that holds the file.
    pub fn receive(&self, request: &Request) -> Result<Incoming> {
        fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder, "making the folder for fetched files"))?;
        let name = request.source.file_name();
        let hidden = |suffix: String| self.folder.join(format!(".{name}.{suffix}"));
        let lock = Lock::acquire(&hidden("lock".to_owned()), self.limits.lock_timeout)?;
        // Under the lock the part has one name, so that a later process can go on with it. Without one it has a name
        // of its own.
        let own = || format!("{}-{:08x}.part", std::process::id(), rand::random::<u32>());
        let part = hidden(if lock.is_some() { "part".to_owned() } else { own() });
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&part);
        let file = file.map_err(Error::io(&part, "making the file"))?;
        let incoming =
            Incoming { file, part, path: self.path(request), request: request.clone(), keep: false, _lock: lock };
        // What cannot be verified cannot be trusted to go on with.
        if request.checksum.is_none() {
            incoming.start_over()?;
        }
        Ok(incoming)
    }

    fn mirrored(&self, request: &Request) -> Option<Source> {
        let name = request.source.file_name();
        Some(match self.mirror.as_ref()? {
            Source::File(path) => Source::File(path.with_file_name(name)),
            Source::Url(url) => Source::Url(url.strip_suffix('_').unwrap_or(url).to_owned() + &name),
        })
    }
}

/// A file on its way into a store, under a hidden name. Dropped without [`finish`](Self::finish) it goes, but for the
/// beginning of a download that can be verified when it goes on.
#[derive(Debug)]
pub struct Incoming {
    file: File,
    part: PathBuf,
    path: PathBuf,
    request: Request,
    keep: bool,
    _lock: Option<Lock>,
}

impl Incoming {
    /// Appends bytes.
    ///
    /// # Errors
    /// A full disk, say.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io(&self.part, "writing the file"))
    }

    /// Forgets the bytes there are.
    ///
    /// # Errors
    /// A file that cannot be cut.
    pub fn start_over(&self) -> Result<()> {
        self.file.set_len(0).and_then(|()| (&self.file).rewind_start()).map_err(Error::io(&self.part, "starting over"))
    }

    /// Verifies the bytes, puts them on the disk, and gives the file its name.
    ///
    /// # Errors
    /// Wrong content, or a disk that does not take it; then nothing lies under the name.
    pub fn finish(mut self) -> Result<PathBuf> {
        let hash = self.verify()?;
        self.file.sync_all().map_err(Error::io(&self.part, "writing the file to disk"))?;
        // First the hash, then the file: a file without its hash could not be verified later.
        let name = self.request.source.file_name();
        let sums = sidecar(&self.path);
        fs::write(&sums, format!("{hash}  {name}\n")).map_err(Error::io(&sums, "writing the hash"))?;
        fs::rename(&self.part, &self.path).map_err(Error::io(&self.path, "giving the file its name"))?;
        self.keep = true;
        if let Some(folder) = self.path.parent() {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(Error::io(folder, "writing the folder to disk"))?;
        }
        Ok(self.path.clone())
    }

    fn length(&self) -> Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(Error::io(&self.part, "measuring what is there"))
    }

    fn verify(&self) -> Result<String> {
        verify(&self.part, &self.request, &self.request.source.to_string())
    }

    fn take_from(&mut self, source: &Source, limits: &Limits, progress: &dyn Fn(u64, Option<u64>)) -> Result<()> {
        let taken = match source {
            Source::File(path) => {
                let copied = File::open(path).and_then(|mut from| io::copy(&mut from, &mut self.file));
                copied.map(|_| ()).map_err(Error::io(path, "copying the file"))
            }
            Source::Url(url) => {
                let transport = Http { limits: limits.clone() };
                download(url, &mut self.file, &transport, limits, progress)
            }
        };
        // A cut download can go on later, if its end will show whether it is right.
        self.keep = matches!(taken, Err(Error::Transfer { .. })) && self.request.checksum.is_some();
        match taken {
            Err(Error::Io { doing, source, .. }) => Err(Error::Io { path: self.path.clone(), doing, source }),
            other => other,
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_file(&self.part); // nobody trusts it by its name
        }
    }
}

/// Rewinding through a shared reference, which `Seek` has for `&File`.
trait RewindStart {
    fn rewind_start(&mut self) -> io::Result<()>;
}

impl RewindStart for &File {
    fn rewind_start(&mut self) -> io::Result<()> {
        io::Seek::rewind(self)
    }
}

/// Checks size and content; gives the hash.
fn verify(path: &Path, request: &Request, from: &str) -> Result<String> {
    let from = || from.to_owned();
    if let Some(expected) = request.size {
        let got = fs::metadata(path).map_err(Error::io(path, "measuring the file"))?.len();
        if got != expected {
            return Err(Error::Size { from: from(), expected, got });
        }
    }
    let got = checksum::of_file(path).map_err(Error::io(path, "reading the file"))?;
    match &request.checksum {
        Some(expected) if !expected.matches(&got) => {
            Err(Error::Checksum { from: from(), expected: expected.to_string(), got })
        }
        _ => Ok(got),
    }
}

/// Where the hash of a fetched file lies, in the form of `sha256sum`.
fn sidecar(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn store(folder: &Path) -> Store {
        Store { folder: folder.to_owned(), mirror: None, offline: true, limits: Limits::default() }
    }

    fn request(hash: Option<&str>) -> Request {
        let checksum = hash.map(|hash| hash.parse().unwrap());
        Request { source: "http://host/file.bin".parse().unwrap(), checksum, size: None }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn bytes_become_a_file_when_they_are_right() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut incoming = store.receive(&request(Some(ABC))).unwrap();
        incoming.write(b"ab").unwrap();
        incoming.write(b"c").unwrap();
        assert!(store.find(&request(None)).unwrap().is_none());
        let path = incoming.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert_eq!(names(folder.path()), ["file.bin", "file.bin.sha256"]);
        assert_eq!(store.find(&request(Some(ABC))).unwrap(), Some(path.clone()));

        // A flipped byte is noticed, also by a request that does not know the hash.
        fs::write(&path, b"abd").unwrap();
        assert!(store.find(&request(None)).unwrap().is_none());
    }

    #[test]
    fn wrong_or_forsaken_bytes_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut incoming = store.receive(&request(Some(ABC))).unwrap();
        incoming.write(b"abd").unwrap();
        assert!(matches!(incoming.finish(), Err(Error::Checksum { .. })));
        let mut incoming = store.receive(&request(None)).unwrap();
        incoming.write(b"ab").unwrap();
        drop(incoming);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn offline_says_what_to_put_where() {
        let folder = tempfile::tempdir().unwrap();
        let error = store(folder.path()).fetch(&request(Some(ABC)), &|_, _| {}).unwrap_err();
        let text = error.to_string();
        assert!(error.is_bad_input());
        assert!(text.contains(&format!("{} is not there", folder.path().join("file.bin").display())), "{text}");
        assert!(text.contains("download http://host/file.bin elsewhere") && text.contains(ABC), "{text}");
    }

    #[test]
    fn a_mirror_is_asked_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("mirror")).unwrap();
        fs::write(folder.path().join("mirror/file.bin"), b"abc").unwrap();
        let mirror = Some(Source::File(folder.path().join("mirror/_")));
        let store = Store { mirror, offline: false, ..store(&folder.path().join("store")) };
        let path = store.fetch(&request(Some(ABC)), &|_, _| {}).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"abc");
        let url = Store { mirror: Some(Source::Url("http://mirror/x/_".to_owned())), ..store };
        assert_eq!(url.mirrored(&request(None)).unwrap().to_string(), "http://mirror/x/file.bin");
    }
}
