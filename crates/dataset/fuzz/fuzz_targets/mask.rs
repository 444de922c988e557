//! Any bytes are a mask or are refused: no panic, no memory beyond 64 MB, 16 bytes for each pixel that they declare, and 48 times their
//! size.

#![no_main]

use dataset::{Dataset, Decoding, Listing, MaskFolders, MaskValues, unwatched};
use dataset_fuzz::{FREE, check_words, declared, folder, within};
use libfuzzer_sys::{Corpus, fuzz_target};

const MOST_PIXELS: usize = 4 << 20;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let pixels = declared(bytes);
    if pixels > MOST_PIXELS {
        return Corpus::Reject;
    }
    let root = folder();
    for kind in ["images", "masks"] {
        std::fs::create_dir_all(root.join(kind)).expect("a folder in memory");
        std::fs::write(root.join(kind).join("a.png"), bytes).expect("a file in memory");
    }
    let listing = Listing::scan_masks(&root, &MaskFolders::default(), None, &unwatched).expect("a folder of each");
    let values = MaskValues::new(vec![0, 1, 2, 300], Some(255)).expect("four classes");
    within(FREE + 16 * pixels + 48 * bytes.len(), || {
        let dataset = Dataset::of_files(&listing, Decoding::default()).with_mask_values(&values, values.names());
        let _ = dataset.train.mask_classes(0).map_err(|error| check_words(&error.to_string()));
    });
    Corpus::Keep
});
