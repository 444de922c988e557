//! Any bytes are a list of images, or of classes, or are refused: no panic, no memory beyond 64 MB and 64 times their size.

#![no_main]

use dataset::{Listing, read_classes};
use dataset_fuzz::{FREE, check_words, folder, within};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let root = folder();
    for name in ["train.tsv", "val.tsv"] {
        std::fs::write(root.join(name), bytes).expect("a file in memory");
    }
    within(FREE + 64 * bytes.len(), || {
        let classes = read_classes(&root.join("train.tsv")).map_err(|error| check_words(&error.to_string()));
        let _ = Listing::scan(&root, classes.as_deref().ok()).map_err(|error| check_words(&error.to_string()));
        let _ = Listing::from_bytes(&root, bytes);
    });
});
