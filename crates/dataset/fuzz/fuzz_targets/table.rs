//! Any bytes are a table of images or are refused: no panic, no memory beyond 64 MB and 256 times their size.

#![no_main]

use dataset::{LabelKind, Listing, TableSpec, unwatched};
use dataset_fuzz::{FREE, check_words, folder, within};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let root = folder();
    let path = root.join("table.csv");
    std::fs::write(&path, bytes).expect("a file in memory");
    within(FREE + 256 * bytes.len(), || {
        for kind in [LabelKind::Class, LabelKind::Flags, LabelKind::Numbers] {
            let spec = TableSpec { path: path.clone(), kind, ..TableSpec::default() };
            let listed = Listing::of_table(&root, &spec, None, None, &unwatched);
            let _ = listed.map_err(|error| check_words(&error.to_string()));
        }
    });
});
