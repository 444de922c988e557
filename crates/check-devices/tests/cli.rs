//! The binary as a user sees it.

use assert_cmd::Command;

fn check_devices(flags: &str) -> (i32, String) {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("check-devices"))
        .args(flags.split_whitespace())
        .output()
        .expect("the binary starts");
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().expect("an exit status"), text)
}

#[test]
fn what_fits_and_what_does_not() {
    let fits = check_devices("--batch 4096 --nodes 8 --gpus-per-node 4");
    insta::assert_snapshot!(fits.1, @r"
    nodes                         8   (flag)
    CUDA devices per node         4   (flag)
    device of each rank        cuda   (default)
    ranks per node                4   (one for each device)
    ranks                        32   (nodes × ranks per node)
    accumulation                  1   (default)
    batch                      4096   (flag)
    batch per rank              128   (batch / ranks / accumulation)
    ok
    ");
    assert_eq!(fits.0, 0);
    let uneven = check_devices("--batch 100 --nodes 8 --gpus-per-node 4");
    insta::assert_snapshot!(uneven.1, @r"
    nodes                         8   (flag)
    CUDA devices per node         4   (flag)
    device of each rank        cuda   (default)
    ranks per node                4   (one for each device)
    ranks                        32   (nodes × ranks per node)
    accumulation                  1   (default)
    batch                       100   (flag)
    error: --batch: a global batch of 100 cannot be shared evenly by 32 ranks; nearest batches that fit: 96, 128; nearest numbers of ranks for 100: 25, 50
    ");
    assert_eq!(uneven.0, 1);
    let unknown = check_devices("--batch 64 --device gpu");
    insta::assert_snapshot!(
        unknown.1,
        @"error: --device: 'gpu' in device 'gpu' is no device: use '', cpu, cuda, 0, 0,1 or cuda:0"
    );
    assert_eq!(unknown.0, 2);
}

#[test]
fn the_help_teaches_with_examples() {
    let (status, text) = check_devices("--help");
    assert_eq!(status, 0);
    assert!(text.contains("check-devices --batch 64 --device 0,1"), "{text}");
}
