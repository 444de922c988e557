//! Reading files: an image whose size is known, in three system calls, a list, and what is mapped.
#![expect(unsafe_code, reason = "maps files")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use crate::decode::jpeg;
use crate::limits::{JPEG_BYTES_PER_PIXEL, LONGEST_IMAGE_FILE, LONGEST_LINE, READ_AT_ONCE};
use crate::{Error, Result};

/// Reads an image file of `size` bytes into `bytes`. A large one stays on the disk, and is given open: its decoder reads of
/// it what it needs.
///
/// # Errors
/// A file that cannot be read, or whose size is another: it was changed since it was listed. A
/// [image](Error::Image) that cannot be one, because it is longer than any, or than its pixels need.
pub(crate) fn read(path: &Path, size: u64, bytes: &mut Vec<u8>) -> Result<Option<File>> {
    let refused = |reason| Error::Image { path: path.to_owned(), reason };
    refuse_long(size).map_err(refused)?;
    let mut file = File::open(path).map_err(Error::io(path, "opening the image"))?;
    let read = |file: &mut File, bytes: &mut [u8]| {
        file.read_exact(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => changed(path, size),
            _ => Error::io(path, "reading the image")(error),
        })
    };
    let first = size.min(READ_AT_ONCE) as usize;
    bytes.resize(first, 0);
    read(&mut file, bytes)?;
    if size <= READ_AT_ONCE {
        return Ok(None);
    }
    if jpeg::declared(bytes).is_none() {
        return Ok(Some(file));
    }
    refuse_padded(bytes, size).map_err(refused)?;
    bytes.resize(size as usize, 0);
    read(&mut file, &mut bytes[first..])?;
    Ok(None)
}

/// Refuses an image file that is longer than any.
pub(crate) fn refuse_long(size: u64) -> std::result::Result<(), String> {
    if size > LONGEST_IMAGE_FILE {
        return Err(format!(
            "it is {size} bytes long, and at most {LONGEST_IMAGE_FILE} are read; save it as a smaller file"
        ));
    }
    Ok(())
}

/// Refuses a long image file of `size` bytes by its first: a JPEG that is longer than its pixels need.
pub(crate) fn refuse_padded(first: &[u8], size: u64) -> std::result::Result<(), String> {
    let Some(pixels) = jpeg::declared(first) else { return Ok(()) };
    let pixels = pixels?;
    if size > READ_AT_ONCE + JPEG_BYTES_PER_PIXEL * pixels {
        return Err(format!("{size} bytes are too many for {pixels} pixels; save it as a smaller file"));
    }
    Ok(())
}

/// Reads the image file at `path`, which nobody has listed, into `bytes`; a large one is given open.
pub(crate) fn read_image(path: &Path, bytes: &mut Vec<u8>) -> std::result::Result<Option<File>, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    read(path, size, bytes).map_err(|error| match error {
        Error::Image { reason, .. } | Error::Input(reason) => reason,
        Error::Io { doing, source, .. } => format!("{doing}: {source}"),
        error => error.to_string(),
    })
}

/// All of a file as memory.
///
/// # Errors
/// A file system that maps nothing.
pub(crate) fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read as plain bytes, for which every content is valid. A cache is replaced by renaming and never
    // changed in place, so the bytes stay as they are; whoever truncates a file that a job reads ends that job.
    unsafe { Mmap::map(file) }
}

pub(crate) fn changed(path: &Path, size: u64) -> Error {
    Error::Input(format!(
        "{}: was {size} bytes long when the images were listed, and is shorter now; start again",
        path.display()
    ))
}

/// The bytes of a list, of images or of classes: `what` it is stands in an error.
pub(crate) fn read_list(path: &Path, what: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    each_line(path, what, 0..u64::MAX, |_, line| {
        text.extend_from_slice(line);
        Ok(())
    })?;
    Ok(text)
}

/// Calls `take` with each line of a list that begins in these bytes of it, and where: one after the other, the list is not kept. No
/// line is very long: a file that is no text is not read to its end.
pub(crate) fn each_line(
    path: &Path,
    what: &str,
    bytes: Range<u64>,
    mut take: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let cannot = |reason: String| Error::Input(format!("{}: cannot read the {what}: {reason}", path.display()));
    let io = |error: std::io::Error| cannot(error.to_string());
    let mut file = File::open(path).map_err(io)?;
    if bytes.start > 0 {
        file.seek(SeekFrom::Start(bytes.start)).map_err(io)?;
    }
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut at, mut line) = (bytes.start, Vec::new());
    for number in 1.. {
        if at >= bytes.end {
            break;
        }
        line.clear();
        match reader.by_ref().take(LONGEST_LINE as u64).read_until(b'\n', &mut line).map_err(io)? {
            0 => break,
            LONGEST_LINE if !line.ends_with(b"\n") => {
                return Err(cannot(format!("line {number} is longer than {LONGEST_LINE} bytes, so it is not a list")));
            }
            length => {
                take(at, &line)?;
                at += length as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.tsv");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_list(&path, "list").map_err(|error| error.to_string())
        };
        assert_eq!(read(b"a.png\tant\nb.png\tb\xff").unwrap(), b"a.png\tant\nb.png\tb\xff");
        assert_eq!(read(b"").unwrap(), b"");
        let long = [&b"a\tb\n"[..], &[b'x'; LONGEST_LINE + 1]].concat();
        assert!(read(&long).unwrap_err().contains("line 2 is longer than 65536 bytes"));
        let sparse = File::create(&path).unwrap();
        sparse.set_len(1 << 33).unwrap();
        assert!(read_list(&path, "list").unwrap_err().to_string().contains("line 1 is longer"));
    }
}
