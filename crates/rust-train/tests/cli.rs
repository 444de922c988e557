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
fn wrong_usage_is_one_line_and_status_2() {
    let (status, _, error) = rust_train("--batch 0");
    assert_eq!((status, error.as_str()), (2, "error: --batch: the batch must be at least 1\n"));
}
