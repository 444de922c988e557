//! The binary as a user sees it, without a launcher.

use assert_cmd::Command;

fn rust_train(flags: &str) -> (i32, String, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("rust-train"));
    let output = command.args(flags.split_whitespace()).output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("an exit status"), text(output.stdout), text(output.stderr))
}

#[test]
fn the_help_teaches_with_examples() {
    let (status, help, _) = rust_train("--help");
    assert_eq!(status, 0);
    assert!(help.contains("mpirun -n 4 rust-train --data pets --model resnet50 --batch 256"), "{help}");
    for architecture in architectures::ARCHITECTURES {
        assert!(help.contains(architecture.name), "the help does not name {}", architecture.name);
    }
}

#[test]
fn the_short_help_fits_on_a_screen_and_every_verb_has_examples() {
    let (_, help, _) = rust_train("-h");
    assert!(help.lines().count() <= 54, "{} lines", help.lines().count());
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs: Vec<_> =
        verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help").collect();
    assert!(verbs.len() >= 13, "{verbs:?}");
    for verb in verbs {
        let (status, help, _) = rust_train(&format!("{verb} --help"));
        assert!(status == 0 && help.contains("Examples:\n  "), "{verb}: {help}");
    }
}

#[test]
fn shells_and_manuals_know_the_flags() {
    for (shell, words) in [("bash", "--label-smoothing"), ("zsh", "--label-smoothing"), ("fish", "label-smoothing")] {
        let (status, text, _) = rust_train(&format!("completions {shell}"));
        assert!(status == 0 && text.contains(words), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (status, ..) = rust_train(&format!("man {}", folder.path().display()));
    let page = std::fs::read_to_string(folder.path().join("rust-train-eval.1")).unwrap();
    assert!(status == 0 && page.contains("validation images"), "{page}");
    let (status, version, _) = rust_train("--version");
    assert_eq!(status, 0);
    for words in ["rust-train 0.1.0 (", "\nlibtorch  2.", "\nMPI       ", "\nHDF5      1.", "\nCUDA      not used: "] {
        assert!(version.contains(words), "{version}");
    }
}

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    let (status, _, error) = rust_train("--batch 0");
    assert_eq!((status, error.as_str()), (2, "error: --batch: the batch must be at least 1\n"));
}
