//! The markers of a JPEG file: where EXIF lies, and whether the file has an end.

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;
const APP1: u8 = 0xe1;
const PROGRESSIVE: u8 = 0xc2;

/// What the markers say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Markers<'a> {
    /// The EXIF data: a TIFF file, without the word that announces it.
    pub exif: Option<&'a [u8]>,
    /// Whether an end-of-image marker follows the first scan. A file without one is cut off.
    pub is_whole: bool,
}

/// Width and height, as the header of the frame has them, if that is among these bytes.
pub(super) fn size(start: &[u8]) -> Option<(u32, u32)> {
    let mut rest = start.get(2..)?;
    loop {
        let at = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff))?;
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        let side = |at: usize| rest.get(at..at + 2).map(|side| u32::from(u16::from_be_bytes([side[0], side[1]])));
        match marker {
            0x01 | 0xd0..=0xd9 => {} // these stand alone
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Some((side(5)?, side(3)?)),
            START_OF_SCAN => return None,
            _ => rest = rest.get(side(0)?.max(2) as usize..)?,
        }
    }
}

/// Reads the markers. What is no JPEG has none.
pub(super) fn read(bytes: &[u8]) -> Markers<'_> {
    let mut markers = Markers { exif: None, is_whole: false };
    let mut rest = bytes.get(2..).unwrap_or_default();
    let (mut in_scans, mut is_progressive) = (false, false);
    loop {
        // What is no marker between segments does not count: fill bytes, and the data of a scan.
        let Some(start) = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff)) else {
            return markers;
        };
        let marker = rest[start + 1];
        rest = &rest[start + 2..];
        if marker == END_OF_IMAGE && in_scans {
            markers.is_whole = true;
            return markers;
        }
        if matches!(marker, 0x01 | 0xd0..=0xd9) {
            continue; // these stand alone
        }
        let length = rest.first_chunk().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
        let Some(segment) = rest.get(2..length) else { return markers };
        rest = &rest[length..];
        match marker {
            START_OF_SCAN => {
                in_scans = true;
                // There it stands in nearly all files of one scan, and spares the walk through it.
                if !is_progressive && rest.ends_with(&[0xff, END_OF_IMAGE]) {
                    markers.is_whole = true;
                    return markers;
                }
            }
            PROGRESSIVE => is_progressive = true,
            APP1 if markers.exif.is_none() => markers.exif = segment.strip_prefix(b"Exif\0\0"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_what_their_markers_say() {
        let exif = b"\xff\xe1\x00\x0aExif\0\0II";
        let scan = b"\xff\xda\x00\x02data\xff\x00";
        let end = b"\xff\xd9";
        let start = b"\xff\xd8";
        let cases: &[(&[&[u8]], Option<&[u8]>, bool)] = &[
            (&[], None, false),
            (&[start], None, false),
            (&[start, scan, end], None, true),
            (&[start, scan], None, false),
            (&[start, scan, b"\xff\xd0more", b"\xff\xc4\x00\x04\xff\xd9", scan, b"\0"], None, false),
            (&[start, scan, b"\xff\xd0more", b"\xff\xc4\x00\x04\xff\xd9", scan, end, b"\0"], None, true),
            // A segment between scans that swallows the end.
            (&[start, b"\xff\xc2\x00\x02", scan, b"\xff\xeb\x00\x09 data", end], None, false),
            (&[start, exif, scan, end], Some(b"II"), true),
            (&[start, b"\xff\xff\xff", exif, scan, end, b"trailing"], Some(b"II"), true),
            // The end of a thumbnail inside EXIF is not the end of the image.
            (&[start, b"\xff\xe1\x00\x0aExif\0\0\xff\xd9", scan], Some(b"\xff\xd9"), false),
            (&[start, b"\xff\xe1\xff\xff cut off"], None, false),
            (&[start, b"\xff\xe1\x00\x00"], None, false),
        ];
        for (parts, exif, is_whole) in cases {
            let bytes = parts.concat();
            assert_eq!(read(&bytes), Markers { exif: *exif, is_whole: *is_whole }, "{bytes:x?}");
        }
    }
}
