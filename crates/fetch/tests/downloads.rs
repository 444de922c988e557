//! Downloads from real servers on loopback, mostly over TLS, with an authority of the tests' own.
//!
//! Which authorities and which proxy count is for the environment of a process to say, and processes can be killed, so each
//! download runs in a process of its own, of `programs/fetch.rs`.

use std::collections::HashMap;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};

/// A download in a process of its own.
struct Download {
    command: Command,
}

impl Download {
    fn new(url: &str, folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fetch-program"));
        command.arg(url).arg(folder);
        for name in
            ["all_proxy", "http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", "rust_train_mirror"]
        {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self { command }
    }

    fn with(mut self, variable: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(variable, value);
        self
    }

    fn checksum(mut self, hash: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(hash);
        self
    }

    fn start(mut self) -> Child {
        self.command.spawn().unwrap()
    }

    /// The line in which it says how it ended.
    fn run(self) -> String {
        let start = Instant::now();
        let output = self.start().wait_with_output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(20), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("fetched: ") || line.starts_with("failed"));
        line.unwrap_or_else(|| panic!("the child said: {text}")).to_owned()
    }

    fn bytes(self) -> Vec<u8> {
        let line = self.run();
        fs::read(line.strip_prefix("fetched: ").unwrap_or_else(|| panic!("{line}"))).unwrap()
    }
}

/// What the authority is called.
const NAME: &str = "authority";

/// An authority of the tests' own.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        Self::named(NAME, folder)
    }

    fn named(name: &str, folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = folder.join("authority.pem");
        fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// A server for `names`, with a certificate that is valid until `until`.
    fn certificate(&self, names: &[&str], until: i32) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder().with_no_client_auth();
        Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }
}

/// A request as a server got it: its path with what is behind `?`, and its headers in lower case.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    headers: HashMap<String, String>,
}

impl Asked {
    fn from(&self) -> usize {
        let range = self.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
        range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap())
    }
}

/// How a server answers: the head of the answer after its status line's protocol, and bytes, of which so many are sent.
type Answer = (String, Vec<u8>, usize);

/// A header of a server that keeps the connection when it has sent what it sends.
const STAYS: &str = "X-Stays: yes\r\n";

/// A server on loopback, with TLS or without.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    sent: Arc<Mutex<usize>>,
}

impl Server {
    fn start(tls: Option<Arc<ServerConfig>>, answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, asked: Arc::default(), sent: Arc::default() };
        let (asked, sent, answer) = (Arc::clone(&server.asked), Arc::clone(&server.sent), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tls, asked, sent) = (tls.clone(), Arc::clone(&asked), Arc::clone(&sent));
                let answer = Arc::clone(&answer);
                // A client that goes away is part of the tests.
                std::thread::spawn(move || match tls {
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        serve(StreamOwned::new(connection, stream), &asked, &sent, &*answer).ok()
                    }
                    None => serve(stream, &asked, &sent, &*answer).ok(),
                });
            }
        });
        server
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many bytes of files it has sent.
    fn sent(&self) -> usize {
        *self.sent.lock().unwrap()
    }
}

fn serve(
    stream: impl Read + Write,
    asked: &Mutex<Vec<Asked>>,
    sent: &Mutex<usize>,
    answer: &dyn Fn(&Asked) -> Answer,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line).map(|_| line.trim_end().to_owned())
    };
    let path = line()?.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    while let Some((name, value)) = line()?.split_once(": ") {
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let request = Asked { path, headers };
    asked.lock().unwrap().push(request.clone());
    let (head, bytes, most) = answer(&request);
    let mut stream = stream.into_inner();
    write!(stream, "HTTP/1.1 {head}Content-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())?;
    for piece in bytes[..bytes.len().min(most)].chunks(64 << 10) {
        stream.write_all(piece)?;
        stream.flush()?;
        *sent.lock().unwrap() += piece.len();
    }
    if head.contains(STAYS) {
        std::thread::sleep(Duration::from_secs(60)); // the test ends before
    }
    Ok(())
}

fn content() -> Vec<u8> {
    (0..300_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// The part of `content` that is asked for, of a version called `tag`, of which at most `most` bytes are sent.
fn file(content: &[u8], tag: &str, asked: &Asked, most: usize) -> Answer {
    let is_same = asked.headers.get("if-range").is_none_or(|known| known == tag);
    let from = if is_same { asked.from() } else { 0 };
    let rest = content[from..].to_vec();
    let total = content.len();
    let head = match from {
        0 => format!("200 OK\r\nETag: {tag}\r\n"),
        _ => format!("206 Partial Content\r\nETag: {tag}\r\nContent-Range: bytes {from}-{}/{total}\r\n", total - 1),
    };
    (head, rest, most)
}

fn whole(asked: &Asked) -> Answer {
    file(&content(), "\"1\"", asked, usize::MAX)
}

fn redirect(to: String) -> impl Fn(&Asked) -> Answer {
    move |_| (format!("302 Found\r\nLocation: {to}\r\n"), b"elsewhere".to_vec(), usize::MAX)
}

#[test]
fn only_an_authority_that_is_trusted_counts() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let server = Server::start(Some(authority.certificate(&["localhost"], 2100)), whole);
    let url = format!("https://localhost:{}/model.bin", server.port);
    let store = folder.path().join("store");

    // Without it: said once, in plain words, and not tried again.
    for name in ["another", NAME] {
        let other = folder.path().join(name);
        fs::create_dir(&other).unwrap();
        let line = Download::new(&url, &store).with("SSL_CERT_FILE", Authority::named(name, &other).file).run();
        assert!(
            line.starts_with(&format!("failed for good: {url}: the server cannot be trusted: no authority")),
            "{line}"
        );
        assert!(line.contains("SSL_CERT_FILE"), "{line}");
    }
    assert!(server.asked().is_empty());

    assert_eq!(Download::new(&url, &store).with("SSL_CERT_FILE", &authority.file).bytes(), content());
    assert_eq!(server.asked().len(), 1);
    assert!(!server.asked()[0].headers.contains_key("authorization"));

    // The same from a folder; what is no certificate in it does not spoil the others.
    let certificates = folder.path().join("certificates");
    fs::create_dir(&certificates).unwrap();
    fs::copy(&authority.file, certificates.join("site.pem")).unwrap();
    fs::write(certificates.join("a.pem"), "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap();
    let again = folder.path().join("again");
    assert_eq!(Download::new(&url, &again).with("SSL_CERT_DIR", &certificates).bytes(), content());
}

#[test]
fn a_machine_without_certificates_is_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::write(&empty, "").unwrap();
    let cases = [
        (folder.path().join("missing"), "none can be read where SSL_CERT_FILE says ("),
        (empty, "there are none where SSL_CERT_FILE says"),
    ];
    for (file, words) in cases {
        let line = Download::new("https://localhost:1/m.bin", folder.path()).with("SSL_CERT_FILE", file).run();
        assert!(
            line.starts_with("failed for good: https needs the certificates of authorities") && line.contains(words),
            "{line}"
        );
        assert!(line.contains("install the package ca-certificates, or name a file"), "{line}");
    }
    // http needs none.
    let server = Server::start(None, whole);
    let url = format!("http://localhost:{}/m.bin", server.port);
    assert_eq!(Download::new(&url, folder.path()).with("SSL_CERT_FILE", "/missing").bytes(), content());
}

#[test]
fn a_certificate_must_be_of_the_server_and_of_today() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let cases = [
        (
            authority.certificate(&["elsewhere.example"], 2100),
            "its certificate is for elsewhere.example, not for localhost",
        ),
        (authority.certificate(&["localhost"], 2021), "its certificate has expired, or this machine's clock is wrong"),
    ];
    for (certificate, words) in cases {
        let server = Server::start(Some(certificate), whole);
        let url = format!("https://localhost:{}/model.bin", server.port);
        let line = Download::new(&url, folder.path()).with("SSL_CERT_FILE", &authority.file).run();
        assert_eq!(line, format!("failed for good: {url}: the server cannot be trusted: {words}"));
    }
    // A server that does not speak TLS at all.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/model.bin", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let line = Download::new(&url, folder.path()).with("SSL_CERT_FILE", &authority.file).run();
    assert!(line.contains("it does not speak a TLS that this program knows"), "{line}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the authority's file is there");
}

#[test]
fn redirects_are_followed_but_not_into_the_open() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let tls = || Some(authority.certificate(&["localhost", "127.0.0.1"], 2100));
    let (plain, secure) = (Server::start(None, whole), Server::start(tls(), whole));

    let open = format!("http://localhost:{}/model.bin?secret=1", plain.port);
    let server = Server::start(tls(), redirect(open));
    let url = format!("https://localhost:{}/model.bin", server.port);
    let line = Download::new(&url, folder.path()).with("SSL_CERT_FILE", &authority.file).run();
    assert!(line.starts_with(&format!("failed for good: {url}: the server sends on to http://localhost:")), "{line}");
    assert!(
        line.ends_with("where anybody on the way could change the file; refused") && !line.contains("secret"),
        "{line}"
    );
    assert_eq!((server.asked().len(), plain.asked().len()), (1, 0));

    // To another host, with a signature, by way of a relative address: as hubs of models send on to where files lie. What
    // is cut there goes on there.
    let (signed, cut) = (format!("https://127.0.0.1:{}/b/c?X-Amz-Signature=%2Fx%3D&e=1", secure.port), Mutex::new(0));
    let server = Server::start(tls(), move |asked: &Asked| match &asked.path[..] {
        "/org/model.bin" => redirect("../there?x=1".to_owned())(asked),
        "/there?x=1" => {
            *cut.lock().unwrap() += 1;
            if *cut.lock().unwrap() == 1 {
                file(&content(), "\"1\"", asked, 100_000)
            } else {
                redirect(signed.clone())(asked)
            }
        }
        _ => ("404 Not Found\r\n".to_owned(), Vec::new(), 0),
    });
    let url = format!("https://localhost:{}/org/model.bin", server.port);
    assert_eq!(Download::new(&url, folder.path()).with("SSL_CERT_FILE", &authority.file).bytes(), content());
    assert_eq!(server.asked().len(), 4);
    let asked = secure.asked();
    assert_eq!((asked.len(), &asked[0].path[..], asked[0].from()), (1, "/b/c?X-Amz-Signature=%2Fx%3D&e=1", 100_000));
    assert_eq!(asked[0].headers["if-range"], "\"1\"");
    assert!(!asked[0].headers.contains_key("authorization"));
    assert_eq!(asked[0].headers["host"], format!("127.0.0.1:{}", secure.port));

    // In a circle.
    let server = Server::start(tls(), redirect("/again".to_owned()));
    let url = format!("https://localhost:{}/circle.bin", server.port);
    let line = Download::new(&url, folder.path()).with("SSL_CERT_FILE", &authority.file).run();
    assert!(line.contains("sent on to another address 10 times"), "{line}");
    assert_eq!(server.asked().len(), 11);
}

/// A proxy that tunnels every CONNECT to `port`, whatever host it names, and notes what it was asked.
fn proxy(port: u16, status: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            notes.lock().unwrap().push(String::from_utf8(head).unwrap());
            write!(client, "HTTP/1.1 {status}\r\n\r\n").unwrap();
            if !status.starts_with("200") {
                continue;
            }
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    (own, asked)
}

#[test]
fn a_proxy_carries_it_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    // Only the proxy knows where this host is.
    let server = Server::start(Some(authority.certificate(&["files.invalid", "localhost"], 2100)), whole);
    let (port, asked) = proxy(server.port, "200 Connection established");
    let url = "https://files.invalid/model.bin";
    for (variable, value) in
        [("https_proxy", format!("http://127.0.0.1:{port}")), ("HTTPS_PROXY", format!("127.0.0.1:{port}"))]
    {
        let store = folder.path().join(variable);
        let download = Download::new(url, &store).with("SSL_CERT_FILE", &authority.file);
        assert_eq!(download.with(variable, value).with("no_proxy", "localhost,").bytes(), content());
    }
    let heads = asked.lock().unwrap().clone();
    assert!(
        heads.len() == 2 && heads.iter().all(|head| head.starts_with("CONNECT files.invalid:443 HTTP/1.1\r\n")),
        "{heads:?}"
    );
    assert!(!heads.concat().contains("model.bin"));

    // Not for those that are excepted.
    let direct = format!("https://localhost:{}/model.bin", server.port);
    let download = Download::new(&direct, &folder.path().join("direct")).with("SSL_CERT_FILE", &authority.file);
    let download =
        download.with("https_proxy", format!("http://127.0.0.1:{port}")).with("no_proxy", "other, localhost");
    assert_eq!(download.bytes(), content());
    assert_eq!(asked.lock().unwrap().len(), 2);

    // One that refuses is named, and not asked again.
    let (port, asked) = proxy(server.port, "407 Proxy Authentication Required");
    let download = Download::new(url, &folder.path().join("refused")).with("SSL_CERT_FILE", &authority.file);
    let line = download.with("https_proxy", format!("http://127.0.0.1:{port}")).run();
    assert!(line.starts_with(&format!("failed for good: {url}: the proxy 127.0.0.1:{port} answered 407")), "{line}");
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[test]
fn a_cut_connection_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let times = Mutex::new(0);
    let server = Server::start(Some(authority.certificate(&["localhost"], 2100)), move |asked| {
        let mut times = times.lock().unwrap();
        *times += 1;
        file(&content(), "\"1\"", asked, if *times < 3 { 100_000 } else { usize::MAX })
    });
    let url = format!("https://localhost:{}/model.bin", server.port);
    let hash: String = Sha256::digest(content()).iter().map(|byte| format!("{byte:02x}")).collect();
    let download = Download::new(&url, folder.path()).with("SSL_CERT_FILE", &authority.file).checksum(hash);
    assert_eq!(download.bytes(), content());
    let from: Vec<usize> = server.asked().iter().map(Asked::from).collect();
    assert_eq!((from, server.sent()), (vec![0, 100_000, 200_000], content().len()));
}

/// Waits until a file that ends with `ending` in `folder` has `bytes`.
fn wait_for(folder: &Path, ending: &str, bytes: u64) {
    let start = Instant::now();
    let is_there = || {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(ending))
            .any(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() >= bytes))
    };
    while !is_there() {
        assert!(start.elapsed() < Duration::from_secs(20), "no {bytes} bytes of {ending} in {}", folder.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_a_killed_process_left_goes_on_if_it_is_of_the_same_version() {
    let (first, second) = (content(), content().into_iter().rev().collect::<Vec<u8>>());
    for (tag, expected, from) in [("\"1\"", first.clone(), 200_000), ("\"2\"", second, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let times = Mutex::new(0);
        let (before, after) = (first.clone(), expected.clone());
        let server = Server::start(None, move |asked| {
            let mut times = times.lock().unwrap();
            *times += 1;
            match *times {
                // More is promised than comes, and the connection stays open.
                1 => {
                    let (head, bytes, _) = file(&before, "\"1\"", asked, usize::MAX);
                    (head + STAYS, bytes, 200_000)
                }
                _ => file(&after, tag, asked, usize::MAX),
            }
        });
        let url = format!("http://localhost:{}/model.bin", server.port);
        let mut child = Download::new(&url, folder.path()).start();
        wait_for(folder.path(), ".part", 200_000);
        child.kill().unwrap(); // with KILL
        child.wait().unwrap();

        assert_eq!(Download::new(&url, folder.path()).bytes(), expected, "{tag}");
        let asked = server.asked();
        let last = asked.last().unwrap();
        assert_eq!((last.from(), &last.headers["if-range"][..]), (200_000, "\"1\""));
        assert_eq!(server.sent(), 200_000 + expected.len() - from, "{tag}");
        // Nothing hidden stays.
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| !name.contains("model.bin")).count(), 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

#[test]
fn a_file_without_an_end_is_not_taken_for_whole() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/model.bin", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nabc");
        }
    });
    let line = Download::new(&url, folder.path()).run();
    assert!(
        line.starts_with(&format!("failed for good: {url}: the server does not say where the file ends")),
        "{line}"
    );
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(Download::new(&url, folder.path()).checksum(hash).bytes(), b"abc");
}

#[test]
fn what_another_user_left_in_a_shared_store_holds_nobody_up() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can be two users");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    fs::set_permissions(&store, Permissions::from_mode(0o1777)).unwrap();
    let precious = folder.path().join("precious");
    fs::write(&precious, "kept").unwrap();
    chown(&precious, Some(NOBODY), None).unwrap(); // whoever writes through a link may write to this one
    let server = Server::start(None, whole);
    for planted in ["files of theirs", "links"] {
        let url = format!("http://localhost:{}/{}/model.bin", server.port, planted.len());
        let key: String = Sha256::digest(&url).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{}-model.bin", &key[..16]);
        let places = [".lock", ".part", ".part.from"].map(|suffix| store.join(format!(".{name}{suffix}")));
        for place in &places {
            if planted == "links" {
                std::os::unix::fs::symlink(&precious, place).unwrap();
            } else {
                fs::write(place, "of another user").unwrap();
                fs::set_permissions(place, Permissions::from_mode(0o600)).unwrap();
            }
        }
        let mut download = Download::new(&url, &store);
        download.command.uid(NOBODY).gid(NOBODY).current_dir("/");
        assert_eq!(download.bytes(), content(), "{planted}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "kept", "{planted}");
        assert!(places.iter().all(|place| fs::symlink_metadata(place).is_ok()), "{planted}");
    }
}
