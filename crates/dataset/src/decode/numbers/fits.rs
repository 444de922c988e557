//! FITS, as telescopes write it: the first image of a file, and what its header says of the numbers.
//!
//! ```text
//! SIMPLE  =                    T      cards of 80 bytes, in blocks of 2880, up to END
//! BITPIX  =                   16      type: 8, 16, 32, −32, −64
//! NAXIS1 …                            columns, rows, and planes, which are channels
//! BZERO, BSCALE, BLANK                number · BSCALE + BZERO; what stands for none
//! …                                   numbers, the most significant byte first; to the end of a block
//! XTENSION= 'IMAGE   '                the next part, if this one had no image
//! ```
//!
//! Numbers become what astropy makes of them. The crate for it (fitsrs) reads one at a time, and images in compressed tiles into the wrong
//! places: these are refused.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use super::{Wanted, make_room, rewind};
use crate::images::{ArrayLayout, Axes, Element, Numbers};
use crate::limits::quote;
use crate::size::Size;

const BLOCK: u64 = 2880;
const CARD: usize = 80;
/// Most blocks of a header, and most parts of a file.
const MOST_BLOCKS: usize = 1 << 10;
const MOST_PARTS: usize = 1 << 10;
/// Bytes that are read at a time; of all types a whole number.
const AT_ONCE: usize = 1 << 16;

/// Whether a file begins as FITS does.
pub(in crate::decode) fn is_fits(start: &[u8]) -> bool {
    start.starts_with(b"SIMPLE  =")
}

/// The values of a part's header, by their keywords.
struct Header(HashMap<String, String>);

impl Header {
    /// Reads the header that begins here; `None` where none does.
    fn read(reader: &mut impl Read) -> Result<Option<Self>, String> {
        let mut values = HashMap::new();
        for block in 0..MOST_BLOCKS {
            let mut cards = [0; BLOCK as usize];
            let mut length = 0;
            while length < cards.len() {
                match reader.read(&mut cards[length..]).map_err(|error| error.to_string())? {
                    0 => break,
                    count => length += count,
                }
            }
            // Behind the last part some files have anything.
            if block == 0 && !cards[..length].starts_with(b"XTENSION") && !is_fits(&cards[..length]) {
                return Ok(None);
            }
            if length < cards.len() {
                return Err("it is cut off in its header".to_owned());
            }
            for card in cards.chunks_exact(CARD) {
                let Ok(card) = str::from_utf8(card) else { continue };
                let (Some(key), Some(rest)) = (card.get(..8), card.get(8..)) else { continue };
                match (key.trim_end(), rest.strip_prefix("= ")) {
                    ("END", _) => return Ok(Some(Self(values))),
                    (key, Some(value)) => drop(values.entry(key.to_owned()).or_insert_with(|| value_of(value))),
                    _ => {} // comments, and history
                }
            }
        }
        Err("its header has no end".to_owned())
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// A number; FORTRAN's exponents may be D.
    fn number(&self, key: &str) -> Result<Option<f64>, String> {
        let Some(text) = self.0.get(key).filter(|text| !text.is_empty()) else { return Ok(None) };
        let number = text.replace(['D', 'd'], "E").parse().ok().filter(|number: &f64| number.is_finite());
        number.map(Some).ok_or_else(|| format!("its {key} is '{}', which is no number", quote(text)))
    }

    fn whole(&self, key: &str) -> Result<u64, String> {
        let text = self.text(key);
        text.parse().map_err(|_| format!("its {key} is '{}', which is no number of things", quote(text)))
    }

    /// The lengths of the axes, the fastest first.
    fn axes(&self) -> Result<Vec<u64>, String> {
        let count = self.whole("NAXIS")?;
        if count > 999 {
            return Err(format!("it has {count} axes"));
        }
        (1..=count).map(|axis| self.whole(&format!("NAXIS{axis}"))).collect()
    }

    /// Bytes of the data behind it.
    fn bytes(&self, axes: &[u64]) -> Option<u64> {
        let width = self.text("BITPIX").parse::<i64>().ok()?.unsigned_abs() / 8;
        let other = |key: &str, usual| self.0.get(key).map_or(Some(usual), |text| text.parse::<u64>().ok());
        // Groups of data have none on their first axis.
        let axes = if self.text("GROUPS") == "T" && axes.first() == Some(&0) { &axes[1..] } else { axes };
        let numbers =
            if axes.is_empty() { 0 } else { axes.iter().try_fold(1_u64, |all, axis| all.checked_mul(*axis))? };
        numbers.checked_add(other("PCOUNT", 0)?)?.checked_mul(other("GCOUNT", 1)?)?.checked_mul(width)
    }
}

/// A card's value: a text without its quotes, or what stands before the comment.
fn value_of(rest: &str) -> String {
    match rest.trim_start().strip_prefix('\'') {
        Some(text) => text.split('\'').next().unwrap_or_default().trim_end().to_owned(),
        None => rest.split('/').next().unwrap_or_default().trim().to_owned(),
    }
}

/// What becomes of the numbers that a file holds.
#[derive(Clone, Copy, Debug)]
enum Become {
    /// They stay, read as what they are or with their first bit turned over, which is how unsigned ones are kept.
    Same { flip: bool },
    /// Numbers of single precision, or of double, as which they are multiplied and added to; `blank` is none.
    Scaled { scale: f64, zero: f64, blank: Option<f64> },
}

/// Reads the first image of a file of `length` bytes.
pub(super) fn read(
    reader: &mut (impl Read + Seek),
    length: u64,
    wanted: Wanted<'_>,
    out: &mut Vec<u8>,
) -> Result<ArrayLayout, String> {
    let io = |error: std::io::Error| error.to_string();
    rewind(reader)?;
    for _ in 0..MOST_PARTS {
        let Some(header) = Header::read(reader)? else { break };
        let start = reader.stream_position().map_err(io)?;
        let axes = header.axes()?;
        let bytes = header.bytes(&axes).ok_or("its header says nothing of how long its data are")?;
        if header.text("ZIMAGE") == "T" {
            let how = quote(header.text("ZCMPTYPE"));
            return Err(format!("its image is compressed ({how}), which is not read; unpack it with funpack"));
        }
        let is_image = matches!(header.text("XTENSION"), "" | "IMAGE") && bytes > 0 && header.text("GROUPS") != "T";
        if is_image {
            return image(&header, &axes, reader, length - start.min(length), (length, wanted), out);
        }
        let next = start.checked_add(bytes.div_ceil(BLOCK).saturating_mul(BLOCK)).filter(|next| *next <= length);
        let Some(next) = next else { break };
        reader.seek(SeekFrom::Start(next)).map_err(io)?;
    }
    Err("it is a FITS file without an image".to_owned())
}

fn image(
    header: &Header,
    axes: &[u64],
    reader: &mut impl Read,
    rest: u64,
    (length, wanted): (u64, Wanted<'_>),
    out: &mut Vec<u8>,
) -> Result<ArrayLayout, String> {
    // Axes of one, behind the others, are of no image but of how it was taken.
    let significant = axes.iter().rposition(|axis| *axis != 1).map_or(1, |last| last + 1).max(2);
    let (width, height, channels) = match *axes {
        [width, height, ..] if significant == 2 => (width, height, 1),
        [width, height, channels, ..] if significant == 3 => (width, height, channels),
        _ => return Err(format!("its image has the axes {axes:?}; columns and rows, and planes, are read")),
    };
    let side = |side: u64| u32::try_from(side).map_err(|_| format!("{width}×{height} pixels are too many"));
    let size = Size { width: side(width)?, height: side(height)? };
    let channels = usize::try_from(channels).unwrap_or(usize::MAX);
    let (stored, becomes, numbers) = numbers(header, channels, wanted)?;
    let axes = if channels == 1 { Axes::ChannelsLast } else { Axes::ChannelsFirst };
    let layout = ArrayLayout { numbers, axes, size };
    wanted.refuse(&layout, length)?;
    let count = layout.bytes() / numbers.element.width();
    let bytes = count as u64 * stored.width() as u64;
    if rest < bytes {
        return Err(format!("it is cut off: its image takes {bytes} bytes, and there are {rest}"));
    }
    make_room(out, layout.bytes());
    let mut piece = vec![0; AT_ONCE.min(bytes as usize)];
    let mut written = 0;
    let mut left = bytes as usize;
    while left > 0 {
        let piece = &mut piece[..left.min(AT_ONCE)];
        reader.read_exact(piece).map_err(|error| error.to_string())?;
        left -= piece.len();
        let place = &mut out[written..][..piece.len() / stored.width() * numbers.element.width()];
        written += place.len();
        convert(piece, stored, becomes, numbers.element, place);
    }
    Ok(layout)
}

/// How numbers are stored, and what they become.
fn numbers(header: &Header, channels: usize, wanted: Wanted<'_>) -> Result<(Element, Become, Numbers), String> {
    let (scale, zero) = (header.number("BSCALE")?.unwrap_or(1.0), header.number("BZERO")?.unwrap_or(0.0));
    let stored = match header.text("BITPIX") {
        "8" => Element::U8,
        "16" => Element::I16,
        "32" => Element::I32,
        "64" => Element::I64,
        "-32" => Element::F32,
        "-64" => Element::F64,
        other => return Err(format!("its BITPIX is '{}'", quote(other))),
    };
    let blank = if stored.is_float() { None } else { header.number("BLANK")? };
    let is_plain = scale == 1.0 && zero == 0.0;
    let (element, becomes) = match stored {
        Element::I64 => return Err("its values are of 64 bits; save them as of 32, or as float32".to_owned()),
        Element::I16 if scale == 1.0 && zero == 32_768.0 => (Element::U16, Become::Same { flip: true }),
        Element::U8 if scale == 1.0 && zero == -128.0 => (Element::I8, Become::Same { flip: true }),
        Element::I32 if is_plain && matches!(wanted, Wanted::Classes) => (stored, Become::Same { flip: false }),
        _ if is_plain && stored != Element::I32 => (stored, Become::Same { flip: false }),
        Element::I32 | Element::F64 => (Element::F64, Become::Scaled { scale, zero, blank }),
        _ => (Element::F32, Become::Scaled { scale, zero, blank }),
    };
    let fill = match becomes {
        // Of unsigned numbers astropy leaves it to whoever reads them.
        Become::Same { flip } => blank.filter(|_| !flip),
        Become::Scaled { .. } => None, // NaN by now
    };
    Ok((stored, becomes, Numbers { fill, ..Numbers::plain(element, channels) }))
}

/// Big-endian numbers of the type `from`, as this machine's of the type `to`.
fn convert(bytes: &[u8], from: Element, becomes: Become, to: Element, out: &mut [u8]) {
    let width = from.width();
    match becomes {
        Become::Same { flip } => {
            for (place, number) in out.chunks_exact_mut(width).zip(bytes.chunks_exact(width)) {
                place.copy_from_slice(number);
                if flip {
                    place[0] ^= 0x80;
                }
                if cfg!(target_endian = "little") {
                    place.reverse();
                }
            }
        }
        Become::Scaled { scale, zero, blank } => {
            for (place, bytes) in out.chunks_exact_mut(to.width()).zip(bytes.chunks_exact(width)) {
                let number = match *bytes {
                    [byte] => f64::from(byte),
                    [a, b] => f64::from(i16::from_be_bytes([a, b])),
                    [a, b, c, d] if from == Element::I32 => f64::from(i32::from_be_bytes([a, b, c, d])),
                    [a, b, c, d] => f64::from(f32::from_be_bytes([a, b, c, d])),
                    _ => f64::from_be_bytes(bytes.try_into().unwrap_or_default()),
                };
                let number = if blank == Some(number) { f64::NAN } else { number };
                // Each step in the precision of the result, as astropy computes it.
                if to == Element::F32 {
                    let scaled = if scale == 1.0 { number as f32 } else { number as f32 * scale as f32 };
                    place.copy_from_slice(&(if zero == 0.0 { scaled } else { scaled + zero as f32 }).to_ne_bytes());
                } else {
                    place.copy_from_slice(&(number * scale + zero).to_ne_bytes());
                }
            }
        }
    }
}
