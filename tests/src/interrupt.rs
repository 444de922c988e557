//! Programs that are interrupted in the middle of what they do to files, by `programs/interrupt.c`: it counts, and kills
//! them or makes the disk full at the operation that it is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::Job;

/// What a program did to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// From 1 on.
    pub number: usize,
    /// The call and the names, without what differs from run to run: `rename .rust* -> last.safetensors`.
    pub place: String,
    /// Whether it takes space on the disk.
    pub is_write: bool,
    /// `failed`, `held`, `killed before` or `killed after`; nothing where it was left alone.
    pub fate: String,
}

impl Operation {
    fn parse(line: &str) -> Self {
        let fields: Vec<_> = line.split('\t').collect();
        let [number, call, path, new_path, fate] = fields[..] else { panic!("'{line}' is not an operation") };
        let place = match new_path {
            "" => format!("{call} {}", timeless(path)),
            new_path => format!("{call} {} -> {}", timeless(path), timeless(new_path)),
        };
        let number = number.parse().expect("operations are counted");
        Self { number, place, is_write: call == "write", fate: fate.to_owned() }
    }
}

/// A path without what differs from run to run: numbers, and what makes a temporary name unique.
fn timeless(path: &str) -> String {
    let part = |name: &str| match name.strip_prefix('.') {
        None | Some("") => {
            let mut text = name.replace(|letter: char| letter.is_ascii_digit(), "*");
            while text.contains("**") {
                text = text.replace("**", "*");
            }
            text
        }
        Some("lock") => name.to_owned(),
        Some(hidden) => {
            let length = hidden.find(['-', '.']).unwrap_or(hidden.len().min(3));
            format!(".{}*", &hidden[..length])
        }
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Starts `command`, whose operations on files below `folder` are written down in `list`, with `actions` as
/// `programs/interrupt.c` describes them: `kill-after:17`.
///
/// # Panics
/// If the program that interrupts cannot be compiled or started.
pub fn start(command: &Command, folder: &Path, list: &Path, actions: &str) -> Job {
    let mut interrupted = Command::new(interrupter());
    interrupted.args([folder.as_os_str(), list.as_os_str(), actions.as_ref(), command.get_program()]);
    interrupted.args(command.get_args());
    interrupted.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        interrupted.current_dir(directory);
    }
    Job::start(interrupted, Duration::from_secs(120))
}

/// What a list says; empty where the program did not begin.
///
/// # Panics
/// If it is not a list.
pub fn operations(list: &Path) -> Vec<Operation> {
    let text = fs::read_to_string(list).unwrap_or_else(|error| panic!("{}: {error}", list.display()));
    text.lines().map(Operation::parse).collect()
}

/// The program that interrupts, compiled, beside the tests.
fn interrupter() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows itself");
        let folder = test.parent().expect("a test lies in a folder");
        let unfinished = tempfile::Builder::new().prefix(".interrupt-").make_in(folder, |_| Ok(()));
        let unfinished = unfinished.expect("a temporary name").into_temp_path();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/interrupt.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&unfinished).arg(source);
        let status = compiler.status().unwrap_or_else(|error| panic!("cc: {error}; scripts/setup brings a compiler"));
        assert!(status.success(), "programs/interrupt.c does not compile");
        let program = folder.join("interrupt");
        unfinished.persist(&program).expect("the program can be put in its place");
        program
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shell that does one thing of each kind below a folder leaves there, with `actions`; its status, and the
    /// operations.
    fn shell(actions: &str) -> (Option<i32>, Vec<Operation>, Vec<String>) {
        run("mkdir $0 && cd $0 && echo 12345 >one && mv one two && ln two three && rm two && echo 12345 >four", actions)
    }

    fn run(script: &str, actions: &str) -> (Option<i32>, Vec<Operation>, Vec<String>) {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("folder");
        let list = place.path().join("list");
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&folder);
        let outcome = start(&command, &folder, &list, actions).wait();
        let mut left = fs::read_dir(&folder).map_or(Vec::new(), |entries| {
            let entry = |entry: fs::DirEntry| {
                let text = fs::read_to_string(entry.path()).unwrap();
                format!("{} {}", entry.file_name().display(), text.trim_end())
            };
            entries.map(|found| entry(found.unwrap())).collect()
        });
        left.sort();
        (outcome.status, operations(&list), left)
    }

    const PLACES: [&str; 8] = [
        "mkdir .",
        "open one",
        "write one",
        "rename one -> two",
        "link two -> three",
        "unlink two",
        "open four",
        "write four",
    ];

    #[test]
    fn every_operation_is_counted() {
        let (status, operations, left) = shell("");
        assert_eq!((status, left), (Some(0), vec!["four 12345".to_owned(), "three 12345".to_owned()]));
        assert_eq!(operations.iter().map(|operation| &operation.place).collect::<Vec<_>>(), PLACES);
        assert!(operations.iter().zip(1..).all(|(operation, number)| operation.number == number));
        assert!(operations.iter().all(|operation| operation.fate.is_empty()), "{operations:?}");
    }

    #[test]
    fn it_kills_where_it_is_told() {
        // What is left after the operation, each time.
        let left: [&[&str]; 8] = [
            &[],
            &["one "],
            &["one 12345"],
            &["two 12345"],
            &["three 12345", "two 12345"],
            &["three 12345"],
            &["four ", "three 12345"],
            &["four 12345", "three 12345"],
        ];
        for (number, after) in (1..).zip(left) {
            let (status, operations, left) = shell(&format!("kill-after:{number}"));
            assert_eq!((status, left), (Some(137), after.iter().map(ToString::to_string).collect()), "{operations:?}");
            assert_eq!((operations.len(), operations[number - 1].fate.as_str()), (number, "killed after"));
            let (status, operations, left) = shell(&format!("kill-before:{}", number + 1));
            if number < PLACES.len() {
                assert_eq!(
                    (status, left),
                    (Some(137), after.iter().map(ToString::to_string).collect()),
                    "{operations:?}"
                );
                assert_eq!((operations.len(), operations[number].fate.as_str()), (number + 1, "killed before"));
            } else {
                assert_eq!(status, Some(0), "there is no such operation: {operations:?}");
            }
        }
        let (status, operations, left) = shell("kill-within:3");
        assert_eq!((status, left, operations.len()), (Some(137), vec!["one 123".to_owned()], 3));
    }

    #[test]
    fn it_makes_the_disk_full_where_it_is_told() {
        let (status, operations, left) = shell("fail:7");
        assert_ne!(status, Some(0));
        assert_eq!((left, operations[6].fate.as_str()), (vec!["three 12345".to_owned()], "failed"));
        // A name that is there already takes no space, and neither does one that goes.
        let (status, operations, left) = shell("full:5");
        assert_ne!(status, Some(0));
        assert_eq!((left, operations[4].fate.as_str(), operations.len()), (vec!["two 12345".to_owned()], "failed", 5));
        let script = "mkdir $0; cd $0; echo 1 >one; echo 2 >two; echo 3 >three";
        let (_, operations, left) = run(script, "full:2,free:4");
        let fates: Vec<_> = operations.iter().map(|operation| operation.fate.as_str()).collect();
        assert_eq!((fates, left), (vec!["", "failed", "failed", "", ""], vec!["three 3".to_owned()]));
        let (status, _, left) = shell("fail:3,kill-before:4");
        assert_eq!((status, left), (Some(1), vec!["one ".to_owned()]));
    }

    #[test]
    fn it_holds_where_it_is_told() {
        let place = tempfile::tempdir().unwrap();
        let [one, list] = ["one", "list"].map(|name| place.path().join(name));
        let mut command = Command::new("sh");
        command.current_dir(place.path()).args(["-c", "mkdir two; mkdir one"]);
        let mut job = start(&command, &one, &list, "hold:1");
        while !place.path().join("two").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(50));
        assert!(job.is_running() && !one.exists());
        fs::write(place.path().join("list.go"), "").unwrap();
        assert_eq!(job.wait().status, Some(0));
        assert!(one.exists());
        assert_eq!(operations(&list)[0].fate, "held");
    }

    #[test]
    fn names_are_the_same_in_every_run() {
        for (path, expected) in [
            ("checkpoints/.unfinished-GwlXKo/.tmpsnS4Nr", "checkpoints/.unfinished*/.tmp*"),
            (".rust-train.wr5xir.part", ".rust*"),
            ("checkpoints/step-00000120.1/state.json", "checkpoints/step-*.*/state.json"),
            (".lock", ".lock"),
            (".", "."),
        ] {
            assert_eq!(timeless(path), expected);
        }
    }
}
