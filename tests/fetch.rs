//! Fetching for a whole job: one request, every node has the file, and every fault ends in an error that all know.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use multi_rank_tests::{Mpirun, Outcome, binary, can_make_nodes};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};

/// An HTTP server on loopback that behaves as the first part of the path says, and counts requests.
struct Server {
    address: String,
    requests: Arc<Mutex<HashMap<String, usize>>>,
}

impl Server {
    fn start(content: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let (counts, content) = (Arc::clone(&requests), Arc::new(content));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (counts, content) = (Arc::clone(&counts), Arc::clone(&content));
                // A client that goes away in the middle is part of the tests.
                std::thread::spawn(move || serve(&stream.unwrap(), &counts, &content).ok());
            }
        });
        Self { address, requests }
    }

    fn url(&self, behaviour: &str) -> String {
        format!("{}/{behaviour}/weights.bin", self.address)
    }

    fn requests(&self, behaviour: &str) -> usize {
        self.requests.lock().unwrap().get(behaviour).copied().unwrap_or(0)
    }
}

fn serve(stream: &TcpStream, counts: &Mutex<HashMap<String, usize>>, content: &[u8]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut from = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
    }
    let behaviour = request.split('/').nth(1).unwrap_or_default().to_owned();
    let nth = {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(behaviour.clone()).or_default();
        *count += 1;
        *count
    };
    let mut out = stream;
    let mut head = |status: &str, length: usize, more: &str| {
        write!(out, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n")
    };
    let total = content.len();
    let range = format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1);
    let (status, range) = if from > 0 { ("206 Partial Content", range.as_str()) } else { ("200 OK", "") };
    match behaviour.as_str() {
        "404" => head("404 Not Found", 0, ""),
        "500-thrice" if nth <= 3 => head("500 Internal Server Error", 0, ""),
        "cut" if nth == 1 => {
            head(status, total, "")?;
            out.write_all(&content[..total / 2])
        }
        "wrong" => {
            head("200 OK", total, "")?;
            out.write_all(&vec![0; total])
        }
        "short" => {
            head("200 OK", total + 1000, "")?;
            out.write_all(content)
        }
        "hang" => {
            head("200 OK", total, "")?;
            out.write_all(&content[..1000])?;
            std::thread::sleep(Duration::from_secs(30));
            Ok(())
        }
        "slow" | "slower" => {
            head(status, total - from, range)?;
            let pause = Duration::from_millis(if behaviour == "slow" { 100 } else { 400 });
            for piece in content[from..].chunks(total / 20) {
                out.write_all(piece)?;
                std::thread::sleep(pause);
            }
            Ok(())
        }
        _ => {
            head(status, total - from, range)?;
            out.write_all(&content[from..])
        }
    }
}

fn content() -> Vec<u8> {
    (0..3_000_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn arguments(url: &str, store: &Path) -> Vec<String> {
    let store = store.to_str().unwrap();
    let hash = sha256(&content());
    let flags = ["fetch", url, "--store", store, "--sha256", &hash, "--stall-timeout", "1", "--timeout", "20"];
    flags.map(str::to_owned).to_vec()
}

/// Where the file of `url` lies in `store`: its name has the key of its address before it.
fn place(store: &Path, url: &str) -> PathBuf {
    store.join(format!("{}-weights.bin", key(url)))
}

fn key(url: &str) -> String {
    sha256(url.as_bytes())[..16].to_owned()
}

/// What lies in `folder`, without keys.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let without_key = |name: String| match name.split_once('-') {
        Some((key, rest)) if key.trim_start_matches('.').len() == 16 => {
            format!("{}{rest}", if key.starts_with('.') { "." } else { "" })
        }
        _ => name,
    };
    let mut names: Vec<_> =
        entries.map(|entry| without_key(entry.unwrap().file_name().into_string().unwrap())).collect();
    names.sort();
    names
}

const WHOLE: [&str; 2] = ["weights.bin", "weights.bin.sha256"];

#[test]
fn eight_ranks_on_two_nodes_make_one_request() {
    if !can_make_nodes() {
        return;
    }
    let server = Server::start(content());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    // Every rank verifies the copy on its own node, which goes with the job.
    let script =
        format!("\"$0\" \"$@\" && cd '{}' && sha256sum --quiet -c *weights.bin.sha256 && ls -A", store.display());
    let mut command = vec!["-c".to_owned(), script, binary("rust-train").to_str().unwrap().to_owned()];
    command.extend(arguments(&server.url("ok"), store));
    let launcher = Mpirun::new(8).nodes(2).node_local(store, "64m");
    let outcome = launcher.run(Path::new("bash"), command);
    outcome.expect_success();
    assert_eq!(server.requests("ok"), 1);
    assert_eq!(outcome.stdout.matches("weights.bin.sha256\n").count(), 8, "{outcome:?}");
    assert!(!outcome.stdout.contains(".part") && !outcome.stdout.contains(".lock"), "{outcome:?}");
    assert_eq!(names(store), [""; 0], "the nodes had disks of their own");

    // With a folder that all share, one copy serves all.
    let shared = folder.path().join("shared");
    let outcome = Mpirun::new(4).nodes(2).run(&binary("rust-train"), arguments(&server.url("shared"), &shared));
    outcome.expect_success();
    assert_eq!((server.requests("shared"), names(&shared)), (1, WHOLE.map(str::to_owned).to_vec()));
    // And when it is there, nobody asks again.
    Mpirun::new(3).run(&binary("rust-train"), arguments(&server.url("shared"), &shared)).expect_success();
    assert_eq!(server.requests("shared"), 1);
}

#[test]
fn servers_that_fail() {
    let server = Server::start(content());
    let cases: [(&str, usize, Result<(), (i32, &str)>); 6] = [
        ("404", 1, Err((2, "the server answered 404"))),
        ("500-thrice", 4, Ok(())),
        ("cut", 2, Ok(())),
        ("wrong", 1, Err((1, "wrong content: SHA-256"))),
        ("short", 2, Err((1, "gave up after 2 attempts: the connection "))),
        ("hang", 2, Err((1, "gave up after 2 attempts: the connection broke"))),
    ];
    for (behaviour, requests, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = arguments(&server.url(behaviour), folder.path());
        if expected.is_err() {
            arguments.extend(["--attempts".to_owned(), "2".to_owned()]);
        }
        let outcome = Mpirun::new(3).run(&binary("rust-train"), arguments);
        let case = format!("{behaviour}: {outcome:?}");
        assert!(outcome.elapsed < Duration::from_secs(10), "{case}");
        assert_eq!(server.requests(behaviour), requests, "{case}");
        match expected {
            Ok(()) => {
                assert_eq!(outcome.status, Some(0), "{case}");
                assert_eq!(fs::read(place(folder.path(), &server.url(behaviour))).unwrap(), content(), "{case}");
                assert_eq!(names(folder.path()), WHOLE, "{case}");
            }
            Err((status, words)) => {
                assert_eq!(outcome.status, Some(status), "{case}");
                assert_eq!(outcome.error_lines().len(), 1, "{case}");
                assert!(outcome.error_lines()[0].contains(words), "{case}");
                // What stays is at most the hidden beginning of a download that can go on.
                assert!(names(folder.path()).iter().all(|name| name == ".weights.bin.part"), "{case}");
            }
        }
    }
}

#[test]
fn disks_that_fail() {
    let server = Server::start(content());
    let folder = tempfile::tempdir().unwrap();
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    if can_make_nodes() {
        let launcher = Mpirun::new(4).nodes(2).node_local(&full, "1m");
        let outcome = launcher.run(&binary("rust-train"), arguments(&server.url("ok"), &full));
        assert_eq!(outcome.status, Some(1), "{outcome:?}");
        assert_eq!(outcome.error_lines().len(), 1, "{outcome:?}");
        assert!(outcome.error_lines()[0].contains("No space left on device"), "{outcome:?}");
    }

    // A store that cannot be made.
    fs::write(folder.path().join("file"), "").unwrap();
    let outcome =
        Mpirun::new(2).run(&binary("rust-train"), arguments(&server.url("ok"), &folder.path().join("file/store")));
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(outcome.error_lines()[0].contains("making the folder for fetched files"), "{outcome:?}");

    // Offline: what to put where.
    let mut offline = arguments(&server.url("ok"), &folder.path().join("empty"));
    offline.push("--offline".to_owned());
    let outcome = Mpirun::new(2).run(&binary("rust-train"), offline);
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
    let place = place(&folder.path().join("empty"), &server.url("ok"));
    let words = format!("{} is not there: download http://", place.display());
    assert!(outcome.error_lines()[0].contains(&words), "{outcome:?}");
}

#[test]
fn what_others_left_does_no_harm() {
    let server = Server::start(content());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    let (place, key) = (place(store, &server.url("ok")), key(&server.url("ok")));
    fs::write(store.join(format!(".{key}-weights.bin.lock")), "a process that is no more").unwrap();
    fs::write(store.join(format!(".{key}-weights.bin.part")), "not the beginning of this file").unwrap();
    fs::write(&place, "a corrupt file").unwrap();
    let outcome = Mpirun::new(2).run(&binary("rust-train"), arguments(&server.url("ok"), store));
    outcome.expect_success();
    assert!(outcome.stderr.contains("wrong content") && outcome.stderr.contains("fetched again"), "{outcome:?}");
    assert_eq!(fs::read(&place).unwrap(), content());
    assert_eq!(names(store), WHOLE);
}

#[test]
fn two_jobs_fetch_once() {
    let server = Server::start(content());
    let folder = tempfile::tempdir().unwrap();
    let arguments = arguments(&server.url("slow"), folder.path());
    let jobs = [(); 2].map(|()| Mpirun::new(2).start(&binary("rust-train"), &arguments));
    for job in jobs {
        job.wait().expect_success();
    }
    assert_eq!((server.requests("slow"), names(folder.path())), (1, WHOLE.map(str::to_owned).to_vec()));
}

/// The processes that run `program` with `argument`, in the order in which they were started.
fn processes(program: &str, argument: &str) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        if words.next().is_some_and(|first| first.ends_with(program)) && words.any(|word| word == argument) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found.into_iter().filter_map(Pid::from_raw).collect()
}

#[test]
fn a_killed_leader_or_follower_ends_the_job_and_the_next_goes_on() {
    let server = Server::start(content());
    for who in [0, 1] {
        let folder = tempfile::tempdir().unwrap();
        let url = server.url("slow");
        let place = place(folder.path(), &url);
        let part = folder.path().join(format!(".{}-weights.bin.part", key(&url)));
        let arguments = arguments(&url, folder.path());
        let job = Mpirun::new(2).timeout(Duration::from_secs(30)).start(&binary("rust-train"), &arguments);
        while fs::metadata(&part).map_or(0, |metadata| metadata.len()) < 500_000 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let killed = std::time::Instant::now();
        let ranks = processes("rust-train", folder.path().to_str().unwrap());
        assert_eq!(ranks.len(), 2);
        kill_process(ranks[who], Signal::KILL).unwrap();
        let outcome: Outcome = job.wait();
        assert!(killed.elapsed() < Duration::from_secs(10) && outcome.status != Some(0), "{outcome:?}");
        assert!(outcome.stderr.contains(&format!("process rank {who} with PID")), "{outcome:?}");
        assert!(!place.exists());

        // The next job goes on where that one was cut.
        let there = fs::metadata(&part).unwrap().len();
        assert!(there >= 500_000);
        let outcome = Mpirun::new(2).run(&binary("rust-train"), &arguments);
        outcome.expect_success();
        assert_eq!(fs::read(&place).unwrap(), content());
        assert_eq!(names(folder.path()), WHOLE);
    }
}

/// The library that makes nodes remember that a file was not there, for `LD_PRELOAD`.
fn stale_names(folder: &Path) -> PathBuf {
    let library = folder.join("stale-names.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("stale-names.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(compiled.expect("cc is installed: scripts/setup").success());
    library
}

#[test]
fn nodes_that_do_not_see_a_shared_file_yet_wait_for_nobody() {
    if !can_make_nodes() {
        return;
    }
    let server = Server::start(content());
    let folder = tempfile::tempdir().unwrap();
    let library = stale_names(folder.path());
    // As NFS does it after a look in vain; and where somebody on these nodes had looked before the job began.
    for from in ["look", "start"] {
        let store = folder.path().join(from);
        let url = server.url(from);
        let mut command = vec![
            format!("LD_PRELOAD={}", library.display()),
            "STALE_NAME=weights.bin".to_owned(),
            "STALE_HOSTS=n2,n3".to_owned(),
            "STALE_SECONDS=600".to_owned(),
            format!("STALE_FROM={from}"),
            binary("rust-train").to_str().unwrap().to_owned(),
        ];
        command.extend(arguments(&url, &store));
        let outcome = Mpirun::new(4).nodes(4).timeout(Duration::from_secs(60)).run(Path::new("env"), command);
        outcome.expect_success();
        assert_eq!((server.requests(from), names(&store)), (1, WHOLE.map(str::to_owned).to_vec()), "{outcome:?}");
        assert_eq!(fs::read(place(&store, &url)).unwrap(), content());
    }
}

/// Eight seconds of a download, where a rank that is not heard of for four is given up.
#[test]
fn a_download_that_makes_progress_is_waited_for() {
    let server = Server::start(content());
    let store = tempfile::tempdir().unwrap();
    let mut arguments = arguments(&server.url("slower"), store.path());
    *arguments.last_mut().unwrap() = "4".to_owned(); // --timeout
    Mpirun::new(2).run(&binary("rust-train"), &arguments).expect_success();
    assert_eq!(fs::read(place(store.path(), &server.url("slower"))).unwrap(), content());
}

#[test]
fn a_signal_ends_a_download_and_the_next_call_goes_on() {
    let server = Server::start(content());
    let store = tempfile::tempdir().unwrap();
    let url = server.url("slower");
    let arguments = arguments(&url, store.path());
    let program = binary("rust-train");
    for rank in [0, 1] {
        let job = Mpirun::new(2).start(&program, &arguments);
        while server.requests("slower") <= rank {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(600));
        let ranks = processes("rust-train", store.path().to_str().unwrap());
        assert_eq!(ranks.len(), 2, "{ranks:?}");
        let begun = std::time::Instant::now();
        kill_process(ranks[rank], Signal::TERM).unwrap();
        let outcome = job.wait();
        assert_eq!(outcome.status, Some(75), "{outcome:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{outcome:?}");
        assert_eq!(outcome.stderr.matches("stopped by a signal while downloading").count(), 1, "{outcome:?}");
        assert!(!place(store.path(), &url).exists());
    }
    Mpirun::new(2).run(&program, &arguments).expect_success();
    assert_eq!(fs::read(place(store.path(), &url)).unwrap(), content());
}

/// A Hub with the model `o/n`, of which `files` are the files; gives its address and counts requests for each.
fn hub(files: &[(&str, Vec<u8>)]) -> (String, Arc<Mutex<HashMap<String, usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let sibling = |(path, bytes): &(&str, Vec<u8>)| {
        format!(r#"{{"rfilename": "{path}", "lfs": {{"sha256": "{}", "size": {}}}}}"#, sha256(bytes), bytes.len())
    };
    let siblings: Vec<_> = files.iter().map(sibling).collect();
    let listing = format!(r#"{{"sha": "{commit}", "siblings": [{}]}}"#, siblings.join(", "));
    let mut answers: HashMap<String, Vec<u8>> =
        files.iter().map(|(path, bytes)| (format!("/o/n/resolve/{commit}/{path}"), bytes.clone())).collect();
    answers.insert("/api/models/o/n/revision/main".to_owned(), listing.into_bytes());
    let requests: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let counts = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut lines = BufReader::new(&stream).lines();
            let request = lines.next().unwrap().unwrap();
            lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let path = request.split([' ', '?']).nth(1).unwrap();
            *counts.lock().unwrap().entry(path.rsplit('/').next().unwrap().to_owned()).or_default() += 1;
            let (status, bytes) = answers.get(path).map_or(("404 Not Found", &[][..]), |bytes| ("200 OK", &bytes[..]));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            (&stream).write_all(&[head.as_bytes(), bytes].concat()).unwrap();
        }
    });
    (address, requests)
}

#[test]
fn a_model_in_several_files_is_on_every_node() {
    let index = br#"{"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}"#.to_vec();
    let files = [
        ("README.md", b"of nobody".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("model.safetensors.index.json", index),
        ("model-1-of-2.safetensors", content()),
        ("model-2-of-2.safetensors", b"small".to_vec()),
    ];
    let (address, requests) = hub(&files);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    let run = |nodes: usize, model: &str, flags: &[&str]| {
        let script = "\"$0\" fetch \"$@\" && cd \"$STORE\"/hf/o--n/0*7 && sha256sum --quiet -c *.sha256 && ls -1";
        let job = Mpirun::new(4).nodes(nodes).variable("HF_ENDPOINT", &address).variable("STORE", store);
        let job = job.variable("HF_HOME", store.join("no-cache"));
        let job = if nodes > 1 { job.node_local(store, "64m") } else { job };
        let program = binary("rust-train");
        let words = ["-c", script, program.to_str().unwrap(), model, "--store", store.to_str().unwrap()];
        job.run(Path::new("bash"), [&words[..], flags].concat())
    };
    for nodes in if can_make_nodes() { vec![2, 1] } else { vec![1] } {
        requests.lock().unwrap().clear();
        let outcome = run(nodes, "hf:o/n", &[]);
        outcome.expect_success();
        for name in
            ["config.json", "model.safetensors.index.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors"]
        {
            assert_eq!(outcome.stdout.lines().filter(|line| line.trim_end() == name).count(), 4, "{name}: {outcome:?}");
            assert_eq!(requests.lock().unwrap().get(name), Some(&1), "{name}");
        }
        assert_eq!(requests.lock().unwrap().get("main"), Some(&1));
        assert!(!outcome.stdout.contains("README.md"), "{outcome:?}");
    }
    let outcome = run(1, "hf:o/n/gone.bin", &[]);
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
    assert_eq!(outcome.error_lines().len(), 1, "{outcome:?}");
    assert!(outcome.error_lines()[0].contains("hf:o/n/gone.bin: there is no such file; it has: "), "{outcome:?}");
    requests.lock().unwrap().clear();
    run(1, "hf:o/n", &["--offline"]).expect_success();
    assert!(requests.lock().unwrap().is_empty());
}

#[test]
fn a_node_that_lacks_a_file_gets_that_of_today() {
    if !can_make_nodes() {
        return;
    }
    let (disk, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (disk, kept) = (disk.path(), kept.path());
    let index = br#"{"weight_map": {"a": "model-1-of-1.safetensors"}}"#;
    fs::write(kept.join("index"), index).unwrap();
    // The file lies on a disk of the node `HAS` alone; stores stay from one job to the next, each node has its own.
    let run = |has: &str, content: &str, source: &str| {
        let script = r#"if [ "$(hostname)" = "$HAS" ]; then
              printf %s "$CONTENT" >"$DISK/model-1-of-1.safetensors"; cp "$KEPT/index" "$DISK/model.safetensors.index.json"; fi
            exec "$0" fetch "$DISK/$SOURCE" --store "$KEPT/$(hostname)""#;
        let job = Mpirun::new(4).nodes(2).node_local(disk, "4m").variable("DISK", disk).variable("KEPT", kept);
        let job = job.variable("HAS", has).variable("CONTENT", content).variable("SOURCE", source);
        job.run(Path::new("bash"), ["-c", script, binary("rust-train").to_str().unwrap()])
    };
    let kept_by = |node: &str| -> Vec<String> {
        let files = walk(&kept.join(node)).into_iter().filter(|path| path.to_str().unwrap().ends_with(".safetensors"));
        files.map(|path| fs::read_to_string(path).unwrap()).collect()
    };
    for source in ["model-1-of-1.safetensors", "model.safetensors.index.json"] {
        for (has, lacks, content) in
            [("n1", "n2", "old"), ("n1", "n2", "new"), ("n2", "n1", "newest"), ("n1", "n2", "newest of all")]
        {
            run(has, content, source).expect_success();
            assert_eq!(kept_by(lacks), [content], "{source}, {content}");
        }
        for node in ["n1", "n2"] {
            fs::remove_dir_all(kept.join(node)).unwrap();
        }
    }
}

/// The files below `folder`.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
