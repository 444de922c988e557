//! Whole scripts and what is said of each: the number of ranks with what is known of it, the headline, every finding.
//!
//! `cases/*.txt` hold them. `=== NAME FLAGS`, then the sections `--- script`, `--- site` and `--- file NAME`, for files that lie
//! beside the script. The answers were worked out by hand, or tried out with the scheduler; the snapshots hold them.

mod sections;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use sections::{Case, cases};

impl Case {
    /// What the program says of it, in a few lines.
    fn judged(&self) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("check-devices"));
        command.current_dir(folder.path()).env_clear().env("HOME", folder.path()).arg("job");
        for (section, text) in &self.sections {
            // A blank line ends a case in the file, and is none of the script's.
            let text = format!("{}\n", text.trim_end_matches('\n'));
            match section.as_str() {
                "script" => fs::write(folder.path().join("job"), text).unwrap(),
                "site" => {
                    fs::write(folder.path().join("site.toml"), text).unwrap();
                    command.args(["--site", "site.toml"]);
                }
                file => fs::write(folder.path().join(file.strip_prefix("file ").expect("a section")), text).unwrap(),
            }
        }
        let output = command.args(["--format", "json"]).args(&self.flags).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let Ok(report) = serde_json::from_str::<serde_json::Value>(&text) else {
            return format!("{}\n{text}{}\n", self.word, String::from_utf8_lossy(&output.stderr));
        };
        let row = |name: &str| {
            let rows = report["layout"][0].as_array().unwrap();
            let row = rows.iter().find(|row| row["name"] == name).unwrap();
            let value = row["value"].as_str().unwrap();
            let reason = if value.parse::<usize>().is_ok() {
                String::new()
            } else {
                format!(" ({})", row["origin"].as_str().unwrap())
            };
            format!("{name} {value}{reason}")
        };
        let mut shown = format!(
            "{}: {}, exit {}\n",
            self.word,
            if report["ok"] == true { "ok" } else { "not ok" },
            output.status.code().unwrap()
        );
        shown += &format!(
            "  {}; {}; {}; {}\n",
            row("nodes"),
            row("CUDA devices per node"),
            row("ranks per node"),
            row("ranks")
        );
        for group in report["not_judged"].as_array().unwrap() {
            let checks: Vec<_> = group["checks"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
            shown += &format!("  not judged: {}: {}\n", checks.join(" "), group["reason"].as_str().unwrap());
        }
        for check in report["checks"].as_array().unwrap() {
            let asked = check["id"].as_str().unwrap().starts_with(['B', 'M']);
            if check["status"] == "unknown" && !asked {
                shown +=
                    &format!("  unknown {}: {}\n", check["id"].as_str().unwrap(), check["reason"].as_str().unwrap());
            }
        }
        for finding in report["findings"].as_array().unwrap() {
            let line = finding["place"]["line"].as_u64().map_or_else(String::new, |line| format!(" line {line}"));
            let (severity, id) = (finding["severity"].as_str().unwrap(), finding["id"].as_str().unwrap());
            shown += &format!("  {severity} {id}{line}: {}\n", finding["message"].as_str().unwrap());
        }
        shown
    }
}

#[test]
fn scripts_of_every_kind() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut count = 0;
    for file in files {
        let cases = cases(&fs::read_to_string(&file).unwrap());
        count += cases.len();
        let shown: Vec<_> = cases.iter().map(Case::judged).collect();
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("cases-{}", file.file_stem().unwrap().to_str().unwrap()), shown.join("\n"));
        });
    }
    assert!(count >= 66, "{count}");
}
