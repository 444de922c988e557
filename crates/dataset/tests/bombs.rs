//! Small files that claim to be large: each is refused by name, with no more memory than its size and its pixels allow.
//!
//! What C libraries take counts too, so each file is read by a child of its own: this program once more, which says how much
//! memory it had at its peak.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dataset::{Contents, Dataset, Decoder, Decoding, Listing, OnBadImage, Spec, cache};
use flate2::write::ZlibEncoder;
use hdf5::types::VarLenUnicode;

/// What any file may take, in bytes, and how long a small one may.
const FREE: u64 = 64 << 20;
const LONGEST: Duration = Duration::from_secs(60);
/// The file that a child reads.
const FILE: &str = "BOMBS_FILE";

/// What a child is for: it reads a file, says why it is refused, and how much memory that took.
#[test]
fn child() {
    let Some(path) = std::env::var_os(FILE).map(PathBuf::from) else { return };
    let before = memory("VmRSS:");
    let reason = match path.extension() {
        Some(extension) if extension == "h5" => {
            Dataset::of_file(&path, &dataset::FileSpec::default()).map(drop).map_err(|error| {
                assert!(error.is_bad_input(), "{error}");
                error.to_string()
            })
        }
        _ => Decoder::new(Decoding { exif_orientation: true, ..Decoding::default() }).center_crop_file(
            &path,
            9,
            8,
            &mut [0; 8 * 8 * 3],
        ),
    };
    let peak = memory("VmHWM:").saturating_sub(before);
    println!("\n{peak} {}", reason.err().unwrap_or_default().replace('\n', "; "));
}

/// A line of /proc/self/status, in bytes.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Why a child refuses the file, and how much memory that took.
fn read(path: &Path) -> (String, u64) {
    let start = Instant::now();
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["child", "--exact", "--nocapture"]).env(FILE, path).output().unwrap();
    let shown = path.display();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}: {}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(start.elapsed() < LONGEST, "{shown}: {:?}", start.elapsed());
    let answer = text.lines().find_map(|line| {
        line.split_once(' ').and_then(|(peak, reason)| Some((reason.to_owned(), peak.parse::<u64>().ok()?)))
    });
    answer.unwrap_or_else(|| panic!("{shown}: {text}"))
}

fn png(width: u32, height: u32, chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let end: (&[u8; 4], Vec<u8>) = (b"IEND", Vec::new());
    for (name, bytes) in [(b"IHDR", header)].iter().chain(chunks).chain([&end]) {
        let mut checksum = flate2::Crc::new();
        checksum.update(*name);
        checksum.update(bytes);
        file.extend((bytes.len() as u32).to_be_bytes());
        file.extend(*name);
        file.extend(bytes);
        file.extend(checksum.sum().to_be_bytes());
    }
    file
}

fn zeros(count: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..count >> 20 {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    encoder.write_all(&vec![0; count & ((1 << 20) - 1)]).unwrap();
    encoder.finish().unwrap()
}

fn webp(chunks: &[(&[u8; 4], u32, &[u8])]) -> Vec<u8> {
    let mut file = b"RIFF\xff\xff\0\0WEBP".to_vec();
    for (name, size, bytes) in chunks {
        file.extend(*name);
        file.extend(size.to_le_bytes());
        file.extend(*bytes);
    }
    file
}

fn tiff(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    file.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, value) in entries {
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 4]);
    file
}

/// An image of colours of 16 bits in one strip, up to that strip.
fn start_of_16_bits(width: u32, height: u32) -> Vec<u8> {
    let entries =
        [(256, 4, width), (257, 4, height), (258, 3, 122), (259, 3, 1), (262, 3, 2), (273, 4, 128), (277, 3, 3)];
    let mut file = tiff(&[&entries[..], &[(278, 4, height), (279, 4, width * height * 6)]].concat());
    file[8 + 2 + 2 * 12 + 4] = 3; // three numbers of bits, behind the directory
    file.extend([16, 0, 16, 0, 16, 0]);
    file
}

/// A directory that says it has seven million strips, with room for them.
fn many_strips() -> Vec<u8> {
    let mut file =
        tiff(&[(256, 4, 4), (257, 4, 4), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 3, 100), (279, 3, 100)]);
    for entry in [5, 6] {
        file[8 + 2 + entry * 12 + 4..][..4].copy_from_slice(&7_000_000_u32.to_le_bytes());
    }
    file.resize(15 << 20, 0);
    file
}

fn shipped(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

/// A JPEG of this size whose one scan is that of a small image.
fn jpeg(name: &str, width: u16, height: u16) -> Vec<u8> {
    let mut file = shipped(name);
    let frame = file.windows(2).position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2])).unwrap();
    file[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    file[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    file
}

/// A progressive JPEG of 2048×2048 pixels that has its last scan a hundred thousand times.
fn many_scans() -> Vec<u8> {
    let file = jpeg("progressive.jpg", 2048, 2048);
    let scan = file.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
    [&file[..scan], &file[scan..file.len() - 2].repeat(100_000), b"\xff\xd9"].concat()
}

#[test]
fn images_that_claim_to_be_large() {
    let folder = tempfile::tempdir().unwrap();
    let profile = [b"icc\0\0".to_vec(), zeros(1 << 30)].concat();
    let text = [b"text\0\0".to_vec(), zeros(1 << 30)].concat();
    let pixel = || (b"IDAT", zeros(4));
    let canvas = [0_u8; 10];
    let frame = [0, 0, 0, 0x9d, 1, 0x2a, 0xff, 0x3f, 0xff, 0x3f];
    let gif = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\0\0\0\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0\x3b";
    let bmp = |width: i32, height: i32| {
        let mut file = shipped("rgb.bmp");
        file[18..22].copy_from_slice(&width.to_le_bytes());
        file[22..26].copy_from_slice(&height.to_le_bytes());
        file
    };
    let sides = |width, height, more: &[(u16, u16, u32)]| {
        let first = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1)];
        tiff(&[&first[..], more].concat())
    };
    // (name, bytes, pixels that it declares, words of the reason; none where it is an image)
    let cases: Vec<(&str, Vec<u8>, u64, &str)> = vec![
        ("65535.png", png(65535, 65535, &[pixel()]), 0, "65535×65535 pixels are too many"),
        ("2147483647.png", png(i32::MAX as u32, i32::MAX as u32, &[pixel()]), 0, "more than 64 MB"),
        ("large.png", png(13_000, 13_000, &[pixel()]), 169_000_000, "not have enough data"),
        ("wide.png", png(178_956_970, 1, &[pixel()]), 178_956_970, "more than 64 MB"),
        ("profile.png", png(1, 1, &[(b"iCCP", profile), pixel()]), 1, ""),
        ("text.png", png(1, 1, &[(b"zTXt", text), pixel()]), 1, ""),
        ("more.png", png(1, 1, &[(b"IDAT", zeros(1 << 30))]), 1, ""),
        ("65500.jpg", jpeg("420.jpg", 65500, 65500), 0, "too many"),
        ("few.jpg", jpeg("420.jpg", 13_000, 13_000), 0, "bytes are too few for 13000×13000 pixels"),
        ("scans.jpg", many_scans(), 2048 * 2048, "scan"),
        ("frame.gif", gif.to_vec(), 1, "more than 64 MB and 16 bytes a pixel"),
        ("negative.bmp", bmp(i32::MIN + 1, i32::MIN + 1), 0, ""),
        ("65535.bmp", bmp(65535, 65535), 0, "pixels are too many"),
        ("65535.ppm", b"P6 65535 65535 255\n".to_vec(), 0, "pixels are too many"),
        ("overflow.ppm", b"P6 4294967295 4294967295 65535\n".to_vec(), 0, ""),
        ("header.pgm", [b"P7\n".to_vec(), vec![b'x'; 10 << 20]].concat(), 0, ""),
        ("words.pgm", [b"P7\n".to_vec(), vec![b'\0'; 10 << 20], b"\n1 2\n".to_vec()].concat(), 0, "\\0\\0…"),
        ("65535.tiff", sides(65535, 65535, &[(273, 4, 8), (278, 4, 65535), (279, 4, 8)]), 0, "pixels are too many"),
        ("strip.tiff", sides(4, 4, &[(273, 4, 8), (278, 4, 4), (279, 4, u32::MAX)]), 16, ""),
        ("tile.tiff", sides(4, 4, &[(322, 4, u32::MAX), (323, 4, u32::MAX), (324, 4, 8), (325, 4, 8)]), 16, ""),
        ("strips.tiff", many_strips(), 16, "its tag 279 has 7000000 values, too many for 4×4 pixels"),
        (
            "exif.webp",
            webp(&[(b"VP8X", 10, &[&[8][..], &canvas[1..]].concat()), (b"EXIF", u32::MAX, b"II")]),
            1,
            "chunk EXIF",
        ),
        ("frame.webp", webp(&[(b"VP8X", 10, &canvas), (b"VP8 ", 10, &frame)]), 1, "a frame of 16383×16383"),
        ("16383.webp", webp(&[(b"VP8 ", 10, &frame)]), 0, "pixels are too many"),
    ];
    let mut wrong = Vec::new();
    for (name, bytes, pixels, words) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let (reason, peak) = read(&path);
        if !reason.contains(words) || reason.len() > 500 || peak > FREE + 16 * pixels {
            wrong.push(format!("{name}: {} MB, {reason}", peak >> 20));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn sparse_files_are_not_read_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let start = png(8, 8, &[(b"IDAT", zeros(8 * 25))]);
    for (name, start, length, words) in [
        ("terabyte.png", &start[..], 1 << 40, "it is 1099511627776 bytes long, and at most 2147483648 are read"),
        ("gigabyte.png", &start, 1 << 30, ""), // it is an image, with something behind its end
        ("empty.png", b"", 1 << 30, "not an image of a known format"),
        ("start.png", &start[..8], 1 << 30, ""),
        ("gigabyte.jpg", &shipped("420.jpg"), 1 << 30, "1073741824 bytes are too many for 7000 pixels"),
        ("start.jpg", b"\xff\xd8\xff\xe0", 1 << 30, "its first 16777216 bytes do not say how many pixels it has"),
        ("gigabyte.tiff", &shipped("rgb.tiff"), 1 << 30, ""),
        ("start.tiff", b"II*\0", 1 << 30, ""),
        (
            "many.tiff",
            b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0\xff\xff\xff\xff",
            1 << 30,
            "its directory has 4294967295 entries",
        ),
        ("start.ppm", b"P6\n", 1 << 30, ""),
        ("start.webp", b"RIFF\xff\xff\xff\xffWEBP", 1 << 30, "chunks"),
        ("start.gif", b"GIF89a", 1 << 30, ""),
        ("start.bmp", b"BM", 1 << 30, ""),
        ("terabyte.h5", b"\x89HDF\r\n\x1a\n", 1 << 40, "cannot be opened as HDF5"),
    ] {
        let path = folder.path().join(name);
        let mut file = File::create(&path).unwrap();
        file.write_all(start).unwrap();
        if let Err(error) = file.set_len(length) {
            eprintln!("SKIPPED: a sparse {name}, because {} holds none: {error}", folder.path().display());
            continue;
        }
        let (reason, peak) = read(&path);
        assert!(reason.contains(words), "{name}: {reason}");
        assert!(peak <= FREE + 16 * 7000, "{name}: {} MB ({reason})", peak >> 20);
    }
}

#[test]
fn large_images_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for (name, width, height) in [("24.tiff", 6000_u32, 4000_u32), ("45.tiff", 8200, 5500)] {
        let path = folder.path().join(name);
        let start = start_of_16_bits(width, height);
        let mut file = File::create(&path).unwrap();
        file.write_all(&start).unwrap();
        let pixels = u64::from(width) * u64::from(height);
        if let Err(error) = file.set_len(128 + 6 * pixels) {
            eprintln!("SKIPPED: a sparse {name}, because {} holds none: {error}", folder.path().display());
            continue;
        }
        let (reason, peak) = read(&path);
        assert_eq!(reason, "", "{name}");
        assert!(peak <= FREE + 16 * pixels, "{name}: {} MB", peak >> 20);
    }
}

#[test]
fn a_bomb_is_one_skipped_image() {
    let root = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        let folder = root.path().join(split).join("ant");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.jpg"), shipped("420.jpg")).unwrap();
        fs::write(folder.join("b.png"), png(65535, 65535, &[])).unwrap();
    }
    let sparse = |name: &str, start: &[u8], length| {
        let mut file = File::create(root.path().join("train/ant").join(name)).unwrap();
        file.write_all(start).unwrap();
        file.set_len(length).is_ok()
    };
    if !sparse("c.png", &[], 1 << 40) || !sparse("d.jpg", &shipped("420.jpg"), 1 << 26) {
        eprintln!("SKIPPED: sparse images, because {} holds none", root.path().display());
        return;
    }
    // An image with much behind its end is one, and stays as it is.
    assert!(sparse("e.png", &shipped("rgb.png"), 1 << 25));
    let listing = Listing::scan(root.path(), None).unwrap();
    let path = root.path().join("cache.h5");
    for contents in [Contents::Pixels { side: 8, crop: 8 }, Contents::Encoded] {
        let spec = Spec { contents, decoding: Decoding::default(), masks: None };
        let error = cache::build(&listing, &spec, &path, OnBadImage::Fail, &dataset::unwatched).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        let bad = cache::build(&listing, &spec, &path, OnBadImage::Skip, &dataset::unwatched).unwrap();
        let names: Vec<_> = bad.iter().map(|image| image.path.display().to_string()).collect();
        assert_eq!(names, ["train/ant/b.png", "train/ant/c.png", "train/ant/d.jpg", "val/ant/b.png"]);
        assert!(bad[1].reason.contains("at most 2147483648 are read"), "{}", bad[1].reason);
        assert!(bad[2].reason.contains("67108864 bytes are too many"), "{}", bad[2].reason);
        let verified = cache::verify(&path, &dataset::unwatched).unwrap();
        assert_eq!((verified.images, verified.damaged), (3, Vec::<String>::new()));
        assert!(fs::metadata(&path).unwrap().len() < 1 << 28);
    }
}

/// A file of `count` images and labels of a group each that are claimed, and were never written.
fn hdf5(path: &Path, shape: [usize; 4], chunk: [usize; 4], labels: usize) -> hdf5::File {
    let file = hdf5::File::with_options().with_fapl(|access| access.libver_v18()).create(path).unwrap();
    for split in ["train", "val"] {
        let group = file.create_group(split).unwrap();
        group.new_dataset::<u8>().shape(shape).chunk(chunk).create("images").unwrap();
        group.new_dataset::<i64>().shape([labels]).chunk([labels.min(64)]).create("labels").unwrap();
    }
    file
}

#[test]
fn hdf5_files_that_claim_to_be_large() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let many = 1 << 36;
    hdf5(&path("labels.h5"), [many, 1, 1, 3], [1, 1, 1, 3], many);
    hdf5(&path("chunk.h5"), [2, 10_000, 10_000, 3], [2, 10_000, 10_000, 3], 2);
    hdf5(&path("image.h5"), [2, 70_000, 70_000, 3], [1, 1, 1, 3], 2);
    hdf5(&path("wide.h5"), [2, 2, (1 << 32) + 3, 3], [1, 1, 3, 3], 2);
    let small = |name: &str| hdf5(&path(name), [2, 2, 2, 3], [1, 2, 2, 3], 2);
    small("classes.h5").new_dataset::<VarLenUnicode>().shape([many]).chunk([64]).create("classes").unwrap();
    small("plane.h5").new_dataset::<VarLenUnicode>().shape([2, 1]).create("classes").unwrap();
    small("numbers.h5").new_dataset::<i32>().shape([2]).create("classes").unwrap();
    // 50,000 names that are one and the same megabyte of the file.
    let file = small("laughs.h5");
    let mut names: Vec<VarLenUnicode> = vec!["a".parse().unwrap(); 50_000];
    names[0] = "x".repeat(1 << 20).parse().unwrap();
    let place = file.new_dataset_builder().with_data(&names).create("classes").unwrap().offset().unwrap();
    file.close().unwrap();
    let raw = File::options().read(true).write(true).open(path("laughs.h5")).unwrap();
    let mut first = [0; 16];
    raw.read_exact_at(&mut first, place).unwrap();
    raw.write_all_at(&first.repeat(50_000), place).unwrap();
    let groups = hdf5::File::create(path("groups.h5")).unwrap();
    (0..1000).for_each(|number| drop(groups.create_group(&format!("group number {number}")).unwrap()));
    groups.close().unwrap();
    for (name, words) in [
        (
            "labels.h5",
            "/train: 68719476736 labels would take 1649267441664 bytes, more than 64 MB and 4 times the file",
        ),
        ("chunk.h5", "/train: a chunk of the images would take 1200000000 bytes"),
        ("image.h5", "70000×70000 pixels are too many"),
        ("wide.h5", "images of 4294967299×2 pixels are too large"),
        ("classes.h5", "/classes cannot be read: its 68719476736 texts take more memory"),
        ("plane.h5", "/classes cannot be read: it has the shape [2, 1]"),
        ("numbers.h5", "/classes cannot be read"),
        ("laughs.h5", "/classes cannot be read: its 50000 texts take more memory"),
        ("groups.h5", "no group /train; it holds group number 0"),
    ] {
        let (reason, peak) = read(&path(name));
        let length = fs::metadata(path(name)).unwrap().len();
        assert!(reason.contains(name) && reason.contains(words), "{name}: {reason}");
        assert!(peak <= FREE + 4 * length, "{name}: {} MB of {length} bytes", peak >> 20);
        assert!(reason.len() < 1000, "{reason}");
    }
    // The recipe of the others is sound.
    small("good.h5");
    assert_eq!(read(&path("good.h5")).0, "");
}
