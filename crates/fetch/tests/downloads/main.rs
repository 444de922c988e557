//! Downloads from real servers on loopback, mostly over TLS, with an authority of the tests' own.
//!
//! Which authorities and which proxy count is for the environment of a process to say, and processes can be killed, so each
//! download runs in a process of its own, of `programs/fetch.rs`.

mod hub;
mod server;

use std::fs;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use server::*;

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
