//! How much files of images may ask for, all in one place.
//!
//! What a file claims is checked against the file before memory is taken for it. So an image takes at most 64 MB and 16
//! bytes for each pixel that it declares, of which there may be so many and no more; somebody's HDF5 file takes at most 64
//! MB and 4 times its size; a list is read a block at a time, and no further than it is text.

use std::fmt::{self, Write as _};

/// Most pixels of an image. Pillow refuses more as a decompression bomb. The largest cameras have 151 million; what is
/// larger, as slides of tissue and maps from satellites, is cut into tiles before it is learned from.
pub(crate) const MOST_PIXELS: u64 = 178_956_970;
/// Most channels of an image.
pub(crate) const MOST_CHANNELS: usize = 1 << 10;
/// Most classes of masks: their numbers are kept in a byte, in which two mark what is none.
pub(crate) const MOST_MASK_CLASSES: usize = 254;
/// Memory for each pixel: four channels of 16 bits, and the same once more in a decoder.
pub(crate) const BYTES_PER_PIXEL: u64 = 16;
/// What a decoder may take beyond that: tables, metadata, rows. With the file and what is not counted it makes 64 MB.
pub(crate) const DECODER: u64 = 32 << 20;
/// An image file up to this size is read as it is. Of a longer one the pixels are declared in this part, or it is refused.
pub(crate) const READ_AT_ONCE: u64 = 16 << 20;
/// A longer JPEG file is read into memory too, if it has no more bytes for each pixel. Files of the other kinds stay on the
/// disk. Of cameras' files the largest have 3 bytes a pixel.
pub(crate) const JPEG_BYTES_PER_PIXEL: u64 = 4;
/// As four inks take a third more, so many here.
pub(crate) const CMYK_BYTES_PER_PIXEL: u64 = 1;
/// No image file is longer: all pixels that there may be, with four channels of 16 bits, take 1.4 GB.
pub(crate) const LONGEST_IMAGE_FILE: u64 = 2 << 30;
/// A JPEG decodes each pixel anew for each of its scans. Files of cameras and of programs have at most 12 or so; this many
/// pixels take some seconds.
pub(crate) const MOST_PIXELS_OF_ALL_SCANS: u64 = 1 << 34;
/// Most scans, however small the image is.
pub(crate) const MOST_SCANS: u64 = 500;

/// Memory that any HDF5 file of somebody else may take, in bytes. The rest of the 64 MB is for what HDF5 takes itself.
const HDF5_FREE: u64 = 48 << 20;
/// Memory beyond that for each byte of it.
const HDF5_TIMES_THE_FILE: u64 = 3;

/// The memory, in bytes, that what an HDF5 file of `length` bytes claims may take.
pub(crate) fn of_hdf5(length: u64) -> u64 {
    length.saturating_mul(HDF5_TIMES_THE_FILE).saturating_add(HDF5_FREE)
}

/// Most characters of a file's own words, or of a decoder's about them, that an error repeats.
const LONGEST_QUOTE: usize = 120;

/// Words as an error may repeat them: on one line, and not all of a megabyte, of which no copy is made.
pub(crate) fn quote(words: impl fmt::Display) -> String {
    let mut quote = Quote::default();
    match write!(quote, "{words}") {
        Ok(()) => quote.shown,
        Err(fmt::Error) => quote.shown + "…",
    }
}

/// What takes so many characters and then no more.
#[derive(Default)]
struct Quote {
    shown: String,
    characters: usize,
    /// Whether a line has ended, and none has begun after it.
    is_between: bool,
}

impl fmt::Write for Quote {
    fn write_str(&mut self, words: &str) -> fmt::Result {
        for letter in words.chars() {
            if letter == '\n' || letter == '\r' {
                self.is_between = true;
                continue;
            }
            if self.is_between && letter.is_whitespace() {
                continue; // a line that is set in
            }
            if std::mem::take(&mut self.is_between) && !self.shown.is_empty() {
                self.shown.push_str("; ");
            }
            if self.characters == LONGEST_QUOTE {
                return Err(fmt::Error);
            }
            self.characters += 1;
            match letter.is_control() {
                true => self.shown.extend(letter.escape_default()),
                false => self.shown.push(letter),
            }
        }
        Ok(())
    }
}

/// Longest line of a list of images or of classes, in bytes: no system's paths are as long. What has a longer one is no
/// list, but perhaps a sparse file of a terabyte.
pub(crate) const LONGEST_LINE: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_short_and_on_one_line() {
        assert_eq!(quote("Format error\n  decoding Pnm: \"é\"\r\n"), "Format error; decoding Pnm: \"é\"");
        assert_eq!(quote(format_args!("{}{}", "\na", "\n\nb\n")), "a; b");
        assert_eq!(quote("\0\u{1b}[2J"), "\\u{0}\\u{1b}[2J");
        assert_eq!(quote("x".repeat(121)), format!("{}…", "x".repeat(120)));
    }
}
