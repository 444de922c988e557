//! Every check with scripts that make it fire and scripts that do not: `fixtures/ID.txt`.
//!
//! A file holds cases. `=== fires FLAGS`: the check reports, as the snapshot shows it. `=== silent FLAGS`: the check looks
//! and passes. `=== unknown FLAGS`: it says that it cannot know. `=== skips FLAGS`: it says that it does not apply. Below
//! come the sections `--- script`, `--- site`, `--- facts` and `--- env`. `␍` stands for a carriage return, `␀` for NUL.

mod sections;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use sections::{Case, cases};

impl Case {
    fn section(&self, name: &str) -> Option<&str> {
        self.sections.iter().find(|(section, _)| section == name).map(|(_, text)| text.as_str())
    }

    /// Runs the program on this case with one check only.
    fn run(&self, id: &str, format: &str) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("check-devices"));
        command.current_dir(folder.path()).env_clear().env("HOME", folder.path());
        if let Some(script) = self.section("script") {
            // A blank line ends a case in the file, and is none of the script's.
            let script = format!("{}\n", script.trim_end_matches('\n'));
            fs::write(at("job.sbatch"), script.replace('␍', "\r").replace('␀', "\0")).unwrap();
            command.arg("job.sbatch");
        }
        for (section, flag) in [("site", "--site"), ("facts", "--facts")] {
            if let Some(text) = self.section(section) {
                fs::write(at(section), text).unwrap();
                command.args([flag, section]);
            }
        }
        for line in self.section("env").unwrap_or_default().lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once('=').unwrap();
            command.env(name, value);
        }
        command.args(["--only", id, "--format", format]).args(&self.flags).output().unwrap()
    }
}

fn fixtures() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path)).collect()
}

#[test]
fn every_check_fires_and_is_silent_where_it_should() {
    let mut wrong = Vec::new();
    for (id, path) in fixtures() {
        let cases = cases(&fs::read_to_string(&path).unwrap());
        assert!(cases.iter().any(|case| case.word == "fires"), "{id} never fires");
        assert!(cases.iter().any(|case| case.word != "fires"), "{id} is never silent");
        let mut shown = String::new();
        for (index, case) in cases.iter().enumerate() {
            let output = case.run(&id, "json");
            let text = String::from_utf8(output.stdout).unwrap();
            let errors = String::from_utf8(output.stderr).unwrap();
            let Ok(report) = serde_json::from_str::<serde_json::Value>(&text) else {
                wrong.push(format!("{id} case {index}: {errors}"));
                continue;
            };
            let fires = !report["findings"].as_array().unwrap().is_empty();
            let status = report["checks"][0]["status"].as_str().unwrap();
            let right = match case.word.as_str() {
                "fires" => fires,
                "silent" => !fires && status == "pass",
                "unknown" => !fires && status == "unknown",
                "skips" => !fires && status == "skip",
                other => panic!("{id}: no such kind of case: {other}"),
            };
            if !right {
                wrong.push(format!("{id} case {index} should be '{}': {}", case.word, report["checks"][0]));
            }
            if case.word == "fires" {
                let text = String::from_utf8(case.run(&id, "text").stdout).unwrap();
                shown += &findings_of(&text);
            }
        }
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(id.as_str(), shown);
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The text report without layout and count: the paragraphs in between.
fn findings_of(text: &str) -> String {
    let paragraphs: Vec<_> = text.split("\n\n").collect();
    paragraphs[1..paragraphs.len() - 1].iter().map(|paragraph| format!("{paragraph}\n\n")).collect()
}

#[test]
fn every_check_has_fixtures() {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("check-devices")).arg("--list-checks").output().unwrap();
    let listed: Vec<_> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    let mut with_fixtures: Vec<_> = fixtures().into_iter().map(|(id, _)| id).collect();
    let mut sorted = listed.clone();
    sorted.sort();
    with_fixtures.sort();
    assert_eq!(with_fixtures, sorted);
    assert!(listed.len() > 100);
}
