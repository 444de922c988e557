//! TIFF of any number of samples: in strips or tiles, pixel by pixel or plane by plane, of one page or of several, whose
//! samples are then the channels one after the other.
//!
//! The decoder knows samples by their colours, and not all that there may be: it is shown all pages as ones whose samples have
//! no colours.

use std::io::{self, Read, Seek, SeekFrom};

use tiff::decoder::{BufferLayoutPreference, Decoder, DecodingSampleType, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::{Wanted, make_room, rewind};
use crate::decode::tiff::{Directory, GDAL_NODATA, check_pages};
use crate::images::{ArrayLayout, Axes, Element, Numbers};
use crate::limits::{DECODER, quote};
use crate::size::Size;

/// Reads a file of `length` bytes: all its pages, or only the first.
pub(super) fn read(
    reader: &mut (impl Read + Seek),
    length: u64,
    wanted: Wanted<'_>,
    only_first: bool,
    out: &mut Vec<u8>,
) -> Result<ArrayLayout, String> {
    let directories = check_pages(reader, length)?;
    let patches = directories.iter().filter_map(patch).collect();
    // Smaller copies and masks of a page, as GDAL adds them, are no channels.
    let pages: Vec<_> = (0..directories.len()).filter(|&page| !directories[page].is_of_another()).collect();
    let are_classes = matches!(wanted, Wanted::Classes);
    if are_classes && pages.len() > 1 {
        return Err(format!("it has {} pages, and a mask has one", pages.len()));
    }
    let pages = if pages.is_empty() || only_first { vec![0] } else { pages };
    rewind(reader)?;
    let mut decoder = Decoder::new(Patched { reader, place: 0, patches }).map_err(|error| one_line(&error))?;
    let (mut first, mut page_bytes) = (None::<ArrayLayout>, Vec::new());
    for (number, &page) in pages.iter().enumerate() {
        if page > 0 {
            decoder.seek_to_image(page).map_err(|error| one_line(&error))?;
        }
        let is_palette = !are_classes && directories[page].photometric.is_some_and(|(colours, _)| colours == PALETTE);
        let own = layout_of(&mut decoder, is_palette)?;
        let like = first.get_or_insert(own);
        // What stands for none may be said once for all.
        match (like.numbers.fill, own.numbers.fill) {
            (None, said) => like.numbers.fill = said,
            (Some(one), Some(two)) if one != two => {
                return Err(format!("{one} stands for none in a page, and {two} in another"));
            }
            _ => {}
        }
        let like = *like;
        if (ArrayLayout { numbers: Numbers { fill: like.numbers.fill, ..own.numbers }, ..own }) != like {
            return Err(format!(
                "its page {number} has {}×{} pixels of {}, and its first {}×{} of {}; pages that are channels are all alike \
                 (--read-mode rgb reads the first)",
                own.size.width, own.size.height, own.numbers, like.size.width, like.size.height, like.numbers
            ));
        }
        let whole = stacked(like, pages.len());
        wanted.refuse(&whole, length)?;
        let mut limits = Limits::default();
        limits.decoding_buffer_size = own.bytes() + LONGEST_TABLE;
        limits.intermediate_buffer_size = own.bytes() + length as usize + DECODER as usize;
        decoder = decoder.with_limits(limits);
        if pages.len() == 1 {
            read_page(&mut decoder, own, is_palette, out)?;
            return Ok(own);
        }
        if number == 0 {
            make_room(out, whole.bytes());
        }
        read_page(&mut decoder, own, is_palette, &mut page_bytes)?;
        by_planes(&own, &page_bytes, &mut out[number * own.bytes()..(number + 1) * own.bytes()]);
    }
    first.map(|page| stacked(page, pages.len())).ok_or_else(|| "it has no page".to_owned())
}

/// So many pages like this one, plane after plane.
fn stacked(page: ArrayLayout, pages: usize) -> ArrayLayout {
    let numbers = Numbers { channels: page.numbers.channels * pages, ..page.numbers };
    ArrayLayout { numbers, axes: Axes::ChannelsFirst, ..page }
}

/// Colours that the decoder need not know: white or black is zero, red, green and blue, a palette, inks.
const PATCHED: [u64; 5] = [0, 1, 2, PALETTE, 5];
const PALETTE: u64 = 3;
/// Bytes of a palette, at most.
const LONGEST_TABLE: usize = 1 << 20;
/// Kinds of compression that make colours of what they keep.
const JPEG: [u64; 2] = [6, 7];

/// Where black is said to be zero.
fn patch(page: &Directory) -> Option<(u64, [u8; 2])> {
    let (_, place) = page.photometric.filter(|(colours, _)| PATCHED.contains(colours))?;
    let black_is_zero = if page.is_little { 1_u16.to_le_bytes() } else { 1_u16.to_be_bytes() };
    (!JPEG.contains(&page.compression)).then_some((place, black_is_zero))
}

/// A file with other bytes in some places.
struct Patched<'a, R> {
    reader: &'a mut R,
    place: u64,
    patches: Vec<(u64, [u8; 2])>,
}

impl<R: Read> Read for Patched<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(out)?;
        for (start, bytes) in &self.patches {
            for (place, byte) in (*start..).zip(bytes) {
                if let Some(index) = place.checked_sub(self.place).filter(|&index| index < count as u64) {
                    out[index as usize] = *byte;
                }
            }
        }
        self.place += count as u64;
        Ok(count)
    }
}

impl<R: Seek> Seek for Patched<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.place = self.reader.seek(to)?;
        Ok(self.place)
    }
}

/// What the page is that the decoder stands at.
fn layout_of<R: Read + Seek>(decoder: &mut Decoder<R>, is_palette: bool) -> Result<ArrayLayout, String> {
    let (width, height) = decoder.dimensions().map_err(|error| one_line(&error))?;
    let size = Size { width, height }.check()?;
    let colours = decoder.colortype().map_err(|error| one_line(&error))?;
    let buffer = decoder.image_buffer_layout().map_err(|error| one_line(&error))?;
    let element = element(&buffer, colours)?;
    let samples = decoder.find_tag_unsigned(Tag::SamplesPerPixel).map_err(|error| one_line(&error))?.unwrap_or(1_u32);
    let (samples, axes) = match buffer.planes {
        1 => (samples as usize, Axes::ChannelsLast),
        planes => (planes, Axes::ChannelsFirst),
    };
    let channels = if is_palette { 3 } else { samples };
    let fill = nodata(decoder, element)?;
    Ok(ArrayLayout { numbers: Numbers { fill, ..Numbers::plain(element, channels) }, axes, size })
}

/// The type of a sample.
fn element(buffer: &BufferLayoutPreference, colours: ColorType) -> Result<Element, String> {
    let element = match buffer.sample_type {
        Some(DecodingSampleType::U8) => Element::U8,
        Some(DecodingSampleType::I8) => Element::I8,
        Some(DecodingSampleType::U16) => Element::U16,
        Some(DecodingSampleType::I16) => Element::I16,
        Some(DecodingSampleType::U32) => Element::U32,
        Some(DecodingSampleType::I32) => Element::I32,
        Some(DecodingSampleType::U64) => Element::U64,
        Some(DecodingSampleType::I64) => Element::I64,
        Some(DecodingSampleType::F32) => Element::F32,
        Some(DecodingSampleType::F64) => Element::F64,
        _ => return Err("its samples are of a type that is not read; save it as uint16 or float32, say".to_owned()),
    };
    let bits = usize::from(colours.bit_depth());
    if bits != element.width() * 8 {
        return Err(format!("its samples have {bits} bits; save them as 8 or 16"));
    }
    if let ColorType::YCbCr(_) | ColorType::Lab(_) = colours {
        return Err(format!("its colours are {colours:?}, which is not read; save it as RGB"));
    }
    Ok(element)
}

/// The number that stands for none, if the file says so and a sample can have it.
fn nodata<R: Read + Seek>(decoder: &mut Decoder<R>, element: Element) -> Result<Option<f64>, String> {
    let tag = decoder.find_tag(Tag::Unknown(GDAL_NODATA)).map_err(|error| one_line(&error))?;
    let Some(text) = tag.and_then(|value| value.into_string().ok()) else { return Ok(None) };
    let text = text.trim_matches(['\0', ' ']);
    let number: f64 = text.parse().map_err(|_| format!("its GDAL_NODATA '{}' is no number", quote(text)))?;
    Ok(element.holds(number).filter(|number| !number.is_nan()))
}

/// Reads the page of this layout into `out`.
fn read_page<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    layout: ArrayLayout,
    is_palette: bool,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let buffer = decoder.image_buffer_layout().map_err(|error| one_line(&error))?;
    let expected = if is_palette { layout.size.count() as usize } else { layout.bytes() };
    if buffer.complete_len != expected {
        return Err(format!(
            "{} samples of it are read, and it has {}; save it without those that are no numbers",
            buffer.complete_len / (layout.size.count() as usize * layout.numbers.element.width()),
            layout.numbers.channels
        ));
    }
    make_room(out, buffer.complete_len);
    decoder.read_image_bytes(out).map_err(|error| one_line(&error))?;
    if is_palette {
        let table = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(|error| one_line(&error))?;
        *out = of_palette(out, &table)?;
    }
    Ok(())
}

/// The colours that `indices` of a table of 16 bits each stand for, as bytes of red, green and blue.
fn of_palette(indices: &[u8], table: &[u16]) -> Result<Vec<u8>, String> {
    let entries = table.len() / 3;
    let colour = |&index: &u8| {
        let index = usize::from(index);
        let of = |colour: usize| (table[colour * entries + index] >> 8) as u8;
        if index < entries { Ok([of(0), of(1), of(2)]) } else { Err(format!("its palette has no colour {index}")) }
    };
    Ok(indices.iter().map(colour).collect::<Result<Vec<_>, _>>()?.concat())
}

/// The numbers of a page, plane by plane.
fn by_planes(layout: &ArrayLayout, bytes: &[u8], out: &mut [u8]) {
    let (width, channels) = (layout.numbers.element.width(), layout.numbers.channels);
    if layout.axes == Axes::ChannelsFirst || channels == 1 {
        return out.copy_from_slice(bytes);
    }
    let pixels = layout.size.count() as usize;
    for (pixel, samples) in bytes.chunks_exact(channels * width).enumerate() {
        for (channel, sample) in samples.chunks_exact(width).enumerate() {
            out[(channel * pixels + pixel) * width..][..width].copy_from_slice(sample);
        }
    }
}

fn one_line(error: &TiffError) -> String {
    match error {
        TiffError::LimitsExceeded => "a strip or tile of it would take more memory than the image".to_owned(),
        error => quote(error),
    }
}
