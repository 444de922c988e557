//! Models of a Hub on loopback, over TLS, whose large files lie on another host. `scripts/hub` holds this against huggingface_hub.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::server::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A Hub with the model `o/n`, whose file `w.bin` is `content`; and the host that it lies on.
struct Hub {
    hub: Server,
    host: Server,
    authority: Authority,
}

impl Hub {
    fn new(folder: &Path, is_private: bool) -> Self {
        let authority = Authority::new(folder);
        let host = Server::start(Some(authority.certificate(&["127.0.0.1"], 2100)), whole);
        let elsewhere = format!("https://127.0.0.1:{}/blobs/1?X-Amz-Signature=1", host.port);
        let listing = format!(
            r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "config.json", "size": 2}},
                {{"rfilename": "w.bin", "size": 300000, "lfs": {{"sha256": "{}", "size": 300000}}}}]}}"#,
            hash(&content())
        );
        let answer = move |asked: &Asked| -> Answer {
            let may = asked.headers.get("authorization").map(String::as_str) == Some("Bearer hf_secret");
            let file = format!("/o/n/resolve/{COMMIT}/w.bin");
            match asked.path.split('?').next().unwrap() {
                _ if is_private && !may => ("401 Unauthorized\r\n".to_owned(), Vec::new(), 0),
                "/api/models/o/n/revision/main" | "/api/models/o/n/revision/refs%2Fpr%2F1" => {
                    ("200 OK\r\n".to_owned(), listing.clone().into_bytes(), usize::MAX)
                }
                path if path == file => redirect(elsewhere.clone())(asked),
                _ => ("404 Not Found\r\n".to_owned(), Vec::new(), 0),
            }
        };
        let hub = Server::start(Some(authority.certificate(&["localhost"], 2100)), answer);
        Self { hub, host, authority }
    }

    fn download(&self, model: &str, store: &Path) -> Download {
        Download::new(model, store)
            .with("HF_ENDPOINT", format!("https://localhost:{}", self.hub.port))
            .with("SSL_CERT_FILE", &self.authority.file)
            .with("HF_HOME", store.join("no-cache"))
    }
}

#[test]
fn a_model_is_listed_and_its_file_fetched_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(folder.path(), false);
    let store = folder.path().join("store");
    assert_eq!(hub.download("hf:o/n/w.bin", &store).bytes(), content());
    assert_eq!(fs::read(store.join(format!("hf/o--n/{COMMIT}/w.bin"))).unwrap(), content());
    // A branch may have moved, so the list is asked for again; the commit has not, so the file is not.
    assert_eq!(hub.download("hf://o/n@refs%2Fpr%2F1/w.bin", &store).bytes(), content());
    assert_eq!((hub.hub.asked().len(), hub.host.asked().len()), (3, 1));
    // Offline it is what it was.
    assert_eq!(hub.download("hf:o/n/w.bin", &store).with("HF_HUB_OFFLINE", "1").bytes(), content());
    assert_eq!(hub.hub.asked().len(), 3);
    let line = hub.download("hf:o/n/w.bin", &folder.path().join("empty")).with("HF_HUB_OFFLINE", "1").run();
    assert_eq!(line, "failed for good: hf:o/n/w.bin: offline, and nothing of it was fetched before");
    let line = hub.download("hf:o/n@v9/w.bin", &store).run();
    assert!(
        line.starts_with("failed for good: hf:o/n@v9/w.bin: the Hub answered 404: ") && line.contains("v9"),
        "{line}"
    );
}

#[test]
fn a_token_is_for_the_hub_alone() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(folder.path(), true);
    let store = folder.path().join("store");
    let line = hub.download("hf:o/n/w.bin", &store).run();
    assert!(line.contains("answered 401") && line.contains("HF_TOKEN"), "{line}");
    let login = folder.path().join("login");
    fs::create_dir(&login).unwrap();
    fs::write(login.join("token"), "hf_secret\n").unwrap();
    assert_eq!(hub.download("hf:o/n/w.bin", &store).with("HF_HOME", &login).bytes(), content());
    let other = folder.path().join("other");
    assert_eq!(hub.download("hf:o/n/w.bin", &other).with("HF_TOKEN", "hf_secret").bytes(), content());
    let is_told = |asked: &Asked| asked.headers.contains_key("authorization");
    assert!(hub.hub.asked()[1..].iter().all(is_told));
    let elsewhere = hub.host.asked();
    assert!(elsewhere.len() == 2 && !elsewhere.iter().any(is_told), "{elsewhere:?}");
    // Nor may a mirror have it, nor who listens on the way.
    let mirror = Server::start(None, whole);
    let mirrored = hub.download("hf:o/n/w.bin", &folder.path().join("mirrored")).with("HF_TOKEN", "hf_secret");
    assert_eq!(mirrored.with("RUST_TRAIN_MIRROR", format!("http://127.0.0.1:{}", mirror.port)).bytes(), content());
    let asked = mirror.asked();
    assert!(
        asked.len() == 1 && asked[0].path == format!("/hf/o--n/{COMMIT}/w.bin") && !is_told(&asked[0]),
        "{asked:?}"
    );
}

#[test]
fn what_huggingface_hub_has_fetched_is_read_where_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(folder.path(), false);
    let model = folder.path().join("hub/models--o--n");
    let (snapshot, blob) = (model.join("snapshots").join(COMMIT), model.join("blobs").join(hash(&content())));
    for folder in [&snapshot, &model.join("refs"), &model.join("blobs")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(model.join("refs/main"), COMMIT).unwrap();
    fs::write(&blob, content()).unwrap();
    symlink(format!("../../blobs/{}", hash(&content())), snapshot.join("w.bin")).unwrap();
    let store = folder.path().join("store");
    let download = |offline: &str| {
        let download = hub.download("hf:o/n/w.bin", &store).with("HF_HOME", folder.path());
        download.with("HF_HUB_OFFLINE", offline)
    };
    for offline in ["0", "1"] {
        assert_eq!(download(offline).run(), format!("fetched: {}", snapshot.join("w.bin").display()));
    }
    assert_eq!((hub.hub.asked().len(), hub.host.asked().len()), (1, 0));
    // The name of what a link leads to is its hash.
    fs::write(&blob, b"changed").unwrap();
    fs::remove_dir_all(&store).unwrap();
    let line = download("1").run();
    assert!(line.contains("wrong content: SHA-256") && line.contains(&hash(&content())), "{line}");
}

#[test]
fn a_list_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    for (text, words) in [
        ("<html>", "is not understood"),
        (r#"{"siblings": []}"#, "is not understood"),
        (r#"{"sha": "../../x", "siblings": []}"#, "names no commit"),
    ] {
        let answer = move |_: &Asked| ("200 OK\r\n".to_owned(), text.as_bytes().to_vec(), usize::MAX);
        let server = Server::start(Some(authority.certificate(&["localhost"], 2100)), answer);
        let download = Download::new("hf:o/n/w.bin", &folder.path().join("store"));
        let endpoint = format!("https://localhost:{}", server.port);
        let line = download.with("HF_ENDPOINT", endpoint).with("SSL_CERT_FILE", &authority.file).run();
        assert!(line.starts_with("failed for good: hf:o/n/w.bin: ") && line.contains(words), "{line}");
    }
}
