//! Any bytes are an archive of images or are refused: no panic, nothing read beyond what is there.

#![no_main]

use dataset::{ArchiveIndex, Dataset, Decoding, Listing, unwatched};
use dataset_fuzz::{check_words, folder, leave_caught_panics};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: leave_caught_panics(), |bytes: &[u8]| {
    let root = folder();
    // What gives CIFAR's files their names, and images of idx their labels.
    for name in ["batches.meta", "batches.meta.txt", "train-labels-idx1-ubyte"] {
        std::fs::write(root.join(name), bytes).expect("a file in memory");
    }
    let names = [
        "train.tar",
        "train.zip",
        "train.tar.gz",
        "train.tar.zst",
        "train.parquet",
        "train-images-idx3-ubyte",
        "train-images-idx3-ubyte.gz",
        "data_batch_1",
        "data_batch_1.bin",
    ];
    for name in names {
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
