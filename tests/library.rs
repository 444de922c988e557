//! A program of somebody's own, which uses the trainer as a library.

use std::fs;
use std::path::Path;

use multi_rank_tests::{Mpirun, binary};

#[test]
fn the_example_of_the_documentation_trains() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let [shown, source] = ["docs/library.md", "crates/rust-train/examples/own_model.rs"]
        .map(|file| fs::read_to_string(root.join(file)).unwrap());
    assert!(shown.contains(&source), "docs/library.md shows another program than the example");
    assert!(source.lines().count() <= 60);

    let folder = tempfile::tempdir().unwrap();
    let job = Mpirun::new(2).directory(folder.path());
    let outcome = job.run(&binary("examples/own_model"), ["--epochs", "2", "--output", "run"]);
    outcome.expect_success();
    assert!(outcome.stderr.contains("my-net at 8×8 pixels"), "{outcome:?}");
    let weights = weights::read(&folder.path().join("run/best.safetensors")).unwrap();
    let names: Vec<_> = weights.entries().iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"head.weight") && names.contains(&"norm.running_mean"), "{names:?}");

    // Its own weights are a start; another model's are refused in one line.
    let again = ["--weights", "run/best.safetensors", "--epochs", "1", "--output", "again"];
    job.run(&binary("examples/own_model"), again).expect_success();
    let refused = job.run(&binary("rust-train"), ["--weights", "run/best.safetensors", "--output", "never"]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
}
