//! Any bytes are an archive of images or are refused: no panic, nothing read beyond what is there.

#![no_main]

use dataset::{ArchiveIndex, Dataset, Decoding, Listing, unwatched};
use dataset_fuzz::{check_words, folder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let root = folder();
    for name in ["train.tar", "train.zip", "train.tar.gz", "train.tar.zst", "train.parquet"] {
        let path = root.join(name);
        std::fs::write(&path, bytes).expect("a file in memory");
        match Listing::of_path(&path, None, None, &unwatched) {
            Ok(listing) => {
                let again = Listing::from_bytes(&listing.root, &listing.to_bytes()).expect("a listing travels");
                // Reads every image, and decodes it where it is one.
                let images = Dataset::of_files(&again, Decoding::default()).train;
                let _ = images.undecodable(0..images.len()).map_err(|error| check_words(&error.to_string()));
            }
            Err(error) => check_words(&error.to_string()),
        }
        std::fs::remove_file(&path).expect("it was written");
    }
    let _ = ArchiveIndex::from_bytes(bytes);
});
