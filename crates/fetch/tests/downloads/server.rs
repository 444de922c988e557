//! Servers on loopback with an authority of the tests' own, and downloads in processes of their own.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A download in a process of its own.
pub struct Download {
    pub command: Command,
}

impl Download {
    pub fn new(url: &str, folder: &Path) -> Self {
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

    pub fn with(mut self, variable: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(variable, value);
        self
    }

    pub fn checksum(mut self, hash: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(hash);
        self
    }

    pub fn start(mut self) -> Child {
        self.command.spawn().unwrap()
    }

    /// The line in which it says how it ended.
    pub fn run(self) -> String {
        let start = Instant::now();
        let output = self.start().wait_with_output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(20), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("fetched: ") || line.starts_with("failed"));
        line.unwrap_or_else(|| panic!("the child said: {text}")).to_owned()
    }

    pub fn bytes(self) -> Vec<u8> {
        let line = self.run();
        fs::read(line.strip_prefix("fetched: ").unwrap_or_else(|| panic!("{line}"))).unwrap()
    }
}

/// What the authority is called.
pub const NAME: &str = "authority";

/// An authority of the tests' own.
pub struct Authority {
    pub issuer: CertifiedIssuer<'static, KeyPair>,
    pub file: PathBuf,
}

impl Authority {
    pub fn new(folder: &Path) -> Self {
        Self::named(NAME, folder)
    }

    pub fn named(name: &str, folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = folder.join("authority.pem");
        fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// A server for `names`, with a certificate that is valid until `until`.
    pub fn certificate(&self, names: &[&str], until: i32) -> Arc<ServerConfig> {
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
pub struct Asked {
    pub path: String,
    pub headers: HashMap<String, String>,
}

impl Asked {
    pub fn from(&self) -> usize {
        let range = self.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
        range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap())
    }
}

/// How a server answers: the head of the answer after its status line's protocol, and bytes, of which so many are sent.
pub type Answer = (String, Vec<u8>, usize);

/// A header of a server that keeps the connection when it has sent what it sends.
pub const STAYS: &str = "X-Stays: yes\r\n";

/// A server on loopback, with TLS or without.
pub struct Server {
    pub port: u16,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    pub sent: Arc<Mutex<usize>>,
}

impl Server {
    pub fn start(tls: Option<Arc<ServerConfig>>, answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
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

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many bytes of files it has sent.
    pub fn sent(&self) -> usize {
        *self.sent.lock().unwrap()
    }
}

pub fn serve(
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

pub fn content() -> Vec<u8> {
    (0..300_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// The part of `content` that is asked for, of a version called `tag`, of which at most `most` bytes are sent.
pub fn file(content: &[u8], tag: &str, asked: &Asked, most: usize) -> Answer {
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

pub fn whole(asked: &Asked) -> Answer {
    file(&content(), "\"1\"", asked, usize::MAX)
}

pub fn redirect(to: String) -> impl Fn(&Asked) -> Answer {
    move |_| (format!("302 Found\r\nLocation: {to}\r\n"), b"elsewhere".to_vec(), usize::MAX)
}
