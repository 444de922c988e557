//! Any bytes are a cache or are refused before HDF5 reads them: as they are, as a cache of ours that they were written into,
//! and with a trailer of ours.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use dataset::{Contents, Decoding, Listing, OnBadImage, Spec, cache};
use dataset_fuzz::{FREE, check_words, folder, within};
use libfuzzer_sys::fuzz_target;

struct Ours {
    listing: Listing,
    spec: Spec,
    path: PathBuf,
    bytes: Vec<u8>,
}

fn ours() -> &'static Ours {
    static OURS: OnceLock<Ours> = OnceLock::new();
    OURS.get_or_init(|| {
        let root = folder().join("images");
        for name in ["train/ant/a.ppm", "train/bee/b.ppm", "val/ant/a.ppm", "val/bee/b.ppm"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder in memory");
            std::fs::write(path, b"P6 2 2 255\n............").expect("a file in memory");
        }
        let listing = Listing::scan(&root, None).expect("what was just written");
        let spec = Spec { contents: Contents::Encoded, decoding: Decoding::default() };
        let path = folder().join("cache.h5");
        cache::build(&listing, &spec, &path, OnBadImage::Fail, &dataset::unwatched).expect("a cache of it");
        let bytes = std::fs::read(&path).expect("what was just written");
        Ours { listing, spec, path, bytes }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Ours { listing, spec, path, bytes: whole } = ours();
    let trailer = whole.len() - 128; // no shorter than ours
    // Where in ours the bytes are written, or that they stand alone, before or in the place of the end.
    let [first, second, rest @ ..] = bytes else { return };
    let at = usize::from(u16::from_le_bytes([*first, *second]));
    let mut file = match at % 8 {
        0 => rest.to_vec(),
        1 => [rest, &whole[trailer..]].concat(),
        2 => [&whole[..trailer], rest].concat(),
        3 => [b"\x89HDF\r\n\x1a\n", rest, &whole[trailer..]].concat(),
        _ => whole.clone(),
    };
    if at % 8 > 3 {
        // Near the end every second time: there the seal is.
        let end = if at % 2 == 0 { whole.len() } else { 200 };
        let place = whole.len() - 1 - (at / 8) % end;
        let length = rest.len().min(whole.len() - place);
        file[place..place + length].copy_from_slice(&rest[..length]);
    }
    std::fs::write(path, &file).expect("a file in memory");
    within(FREE + 4 * file.len(), || {
        let verified = cache::verify(path, &dataset::unwatched).expect("a file that can be read");
        assert_eq!(verified.damaged.is_empty(), file == *whole, "a cache that was changed is refused");
        verified.damaged.iter().for_each(|reason| check_words(reason));
        let _ = cache::open(path, &spec.fingerprint(listing), spec.decoding).expect("a file that can be read");
        cache::explain(path, listing, spec).iter().for_each(|line| check_words(line));
    });
});
