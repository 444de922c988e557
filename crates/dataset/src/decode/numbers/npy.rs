//! One image as an array of NumPy: `H×W`, `H×W×C` or `C×H×W`.

use std::io::{Read, Seek};

use archives::{Header, LONGEST_HEADER};

use super::{Wanted, make_room, rewind};
use crate::images::{ArrayLayout, Axes, Element, Numbers};
use crate::size::Size;

/// Bytes of an array before the text of its header, at most.
const PREFIX: usize = 12;

/// Whether a file begins as an array of NumPy does.
pub(in crate::decode) fn is_npy(start: &[u8]) -> bool {
    start.starts_with(b"\x93NUMPY")
}

/// Reads a file of `length` bytes. Where the order of the axes is not given it follows from the number of channels, if that is
/// known, or else from the shape.
pub(super) fn read(
    reader: &mut (impl Read + Seek),
    length: u64,
    wanted: Wanted<'_>,
    out: &mut Vec<u8>,
) -> Result<ArrayLayout, String> {
    let io = |error: std::io::Error| error.to_string();
    rewind(reader)?;
    let mut start = Vec::new();
    reader.by_ref().take((PREFIX + LONGEST_HEADER) as u64).read_to_end(&mut start).map_err(io)?;
    let header = Header::parse(&start).map_err(|reason| format!("the array {reason}"))?;
    let element = Element::of_descr(&header.descr).map_err(|reason| format!("the array {reason}"))?;
    let shape = &header.shape;
    let (height, width, channels, axes) = match **shape {
        [height, width] => (height, width, 1, Axes::ChannelsLast),
        [one, two, three] => match axes(wanted, [one, two, three]) {
            Axes::ChannelsFirst => (two, three, one, Axes::ChannelsFirst),
            Axes::ChannelsLast => (one, two, three, Axes::ChannelsLast),
        },
        _ => return Err(format!("the array has the shape {shape:?}; H×W, H×W×C or C×H×W is needed")),
    };
    let side = |side: usize| u32::try_from(side).map_err(|_| format!("{width}×{height} pixels are too many"));
    let size = Size { width: side(width)?, height: side(height)? };
    let layout = ArrayLayout { numbers: Numbers::plain(element, channels), axes, size };
    wanted.refuse(&layout, length)?;
    if (header.length + layout.bytes()) as u64 != length {
        let (rest, needed) = (length.saturating_sub(header.length as u64), layout.bytes());
        return Err(format!("the array has {rest} bytes, and its shape {shape:?} takes {needed}"));
    }
    make_room(out, layout.bytes());
    let known = start[header.length..].len().min(out.len());
    out[..known].copy_from_slice(&start[header.length..][..known]);
    reader.read_exact(&mut out[known..]).map_err(io)?;
    Ok(layout)
}

fn axes(wanted: Wanted<'_>, [one, two, three]: [usize; 3]) -> Axes {
    let (given, channels) = match wanted {
        Wanted::Pixels(decoding) => (decoding.axes, decoding.numbers.map(|numbers| numbers.channels)),
        Wanted::Classes => (None, Some(1)),
    };
    given.unwrap_or_else(|| match [one, three].map(|length| Some(length) == channels) {
        [true, false] => Axes::ChannelsFirst,
        [false, true] => Axes::ChannelsLast,
        _ => Axes::of_shape([one, two, three]),
    })
}
