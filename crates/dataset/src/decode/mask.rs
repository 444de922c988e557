//! The bytes of a mask's file to the number of each pixel, as it stands there: the index into a palette, not its colour, and 3 of
//! 4 bits as 3, not scaled to 51.

use std::io::{BufRead, Seek};

use png::{BitDepth, ColorType, Transformations};

use super::buffer::make_room;
use super::numbers::{Wanted, read_any};
use super::{Source, other};
use crate::images::{ArrayLayout, Axes, Element};
use crate::limits::{BYTES_PER_PIXEL, DECODER, quote};
use crate::size::Size;

/// Decodes masks, and keeps its buffers for the next.
#[derive(Debug, Default)]
pub(crate) struct MaskDecoder {
    numbers: Vec<u8>,
    /// As a PNG has them: several numbers a byte, and two bytes in the other order.
    packed: Vec<u8>,
}

/// The number of each pixel of a mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RawMask<'a> {
    pub size: Size,
    pub element: Element,
    /// height×width of them.
    pub bytes: &'a [u8],
}

impl MaskDecoder {
    /// The numbers of a mask.
    ///
    /// # Errors
    /// Why the file is none, in one line without its name.
    pub fn read(&mut self, source: Source<'_>) -> Result<RawMask<'_>, String> {
        if source.jpeg().is_some() {
            return Err("it is a JPEG, which changes numbers a little; save masks as PNG".to_owned());
        }
        let may_have_alpha = !source.is_npy() && source.has_alpha();
        let Self { numbers, packed } = self;
        let layout = source.with_reader(|mut reader, length| {
            let start = reader.fill_buf().map_err(|error| error.to_string())?;
            match start.starts_with(b"\x89PNG") {
                true => png(&mut reader, packed, numbers),
                false => read_any(reader, length, Wanted::Classes, numbers),
            }
        })?;
        one_channel(&layout, may_have_alpha, numbers)?;
        let element = layout.numbers.element;
        if element.is_float() {
            return Err(format!("its values are {}; masks hold whole numbers", element.name()));
        }
        Ok(RawMask { size: layout.size, element, bytes: &numbers[..layout.size.count() as usize * element.width()] })
    }
}

/// Makes one channel of several that are all the same: gray that was saved as RGB. The last of two or of four may be transparency.
fn one_channel(layout: &ArrayLayout, may_have_alpha: bool, numbers: &mut [u8]) -> Result<(), String> {
    let (channels, width, count) =
        (layout.numbers.channels, layout.numbers.element.width(), layout.size.count() as usize);
    let colours = match channels {
        1 => return Ok(()),
        2 | 4 if may_have_alpha => channels - 1,
        channels => channels,
    };
    let place = |pixel: usize, channel: usize| match layout.axes {
        Axes::ChannelsLast => (pixel * channels + channel) * width,
        Axes::ChannelsFirst => (channel * count + pixel) * width,
    };
    for pixel in 0..count {
        let first = place(pixel, 0);
        let is_same = |channel| numbers[place(pixel, channel)..][..width] == numbers[first..][..width];
        if channels > 4 || !(1..colours).all(is_same) {
            return Err(format!(
                "it has {channels} channels; a mask has one, with the number of a class at each pixel: save it as PNG, gray or \
                 with a palette"
            ));
        }
        numbers.copy_within(first..first + width, pixel * width);
    }
    Ok(())
}

/// Reads a PNG as it is stored.
fn png(reader: &mut (impl BufRead + Seek), packed: &mut Vec<u8>, numbers: &mut Vec<u8>) -> Result<ArrayLayout, String> {
    let words = |error: png::DecodingError| quote(error);
    let mut decoder = png::Decoder::new_with_limits(reader, png::Limits { bytes: DECODER as usize });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(words)?;
    let (width, height) = reader.info().size();
    let size = Size { width, height }.check()?;
    let (colours, depth) = reader.output_color_type();
    let bytes = reader.output_buffer_size().filter(|&bytes| bytes as u64 <= BYTES_PER_PIXEL * size.count() + DECODER);
    let bytes = bytes.ok_or("it has too many bytes a pixel")?;
    make_room(packed, bytes);
    let frame = reader.next_frame(&mut packed[..bytes]).map_err(words)?;
    let (element, bits) = match depth {
        BitDepth::Sixteen => (Element::U16, 16),
        depth => (Element::U8, depth as usize),
    };
    let layout = other::layout(size, element, colours.samples());
    make_room(numbers, layout.bytes());
    let row_numbers = width as usize * colours.samples();
    let rows = packed.chunks_exact(frame.line_size).zip(numbers.chunks_exact_mut(row_numbers * element.width()));
    for (packed, row) in rows {
        match bits {
            8 => row.copy_from_slice(&packed[..row_numbers]),
            16 => {
                for (from, to) in packed.as_chunks::<2>().0.iter().zip(row.as_chunks_mut::<2>().0) {
                    *to = u16::from_be_bytes(*from).to_ne_bytes();
                }
            }
            // From the upper bits down.
            bits => {
                for (index, number) in row.iter_mut().enumerate() {
                    let bit = index * bits;
                    *number = packed[bit / 8] >> (8 - bits - bit % 8) & ((1 << bits) - 1);
                }
            }
        }
    }
    debug_assert!(colours != ColorType::Indexed || layout.numbers.channels == 1);
    Ok(layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(colours: ColorType, depth: BitDepth, (width, height): (u32, u32), data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(colours);
        encoder.set_depth(depth);
        if colours == ColorType::Indexed {
            encoder.set_palette((0..=255).flat_map(|index: u8| [255 - index, 7, index / 2]).collect::<Vec<_>>());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Size, Element, Vec<u8>), String> {
        let mut decoder = MaskDecoder::default();
        let RawMask { size, element, bytes } = decoder.read(Source::Memory(bytes))?;
        Ok((size, element, bytes.to_vec()))
    }

    #[test]
    fn numbers_are_those_of_the_file() {
        let size = Size { width: 3, height: 2 };
        let read = |colours, depth, data: &[u8]| read(&encoded(colours, depth, (3, 2), data)).unwrap();
        for colours in [ColorType::Grayscale, ColorType::Indexed] {
            let eight = read(colours, BitDepth::Eight, &[0, 1, 2, 253, 254, 255]);
            assert_eq!(eight, (size, Element::U8, vec![0, 1, 2, 253, 254, 255]));
            assert_eq!(read(colours, BitDepth::Four, &[0x12, 0x30, 0xf0, 0x50]).2, [1, 2, 3, 15, 0, 5]);
            assert_eq!(read(colours, BitDepth::Two, &[0b00_01_10_00, 0b11_00_01_00]).2, [0, 1, 2, 3, 0, 1]);
            assert_eq!(read(colours, BitDepth::One, &[0b0110_0000, 0b1010_0000]).2, [0, 1, 1, 1, 0, 1]);
        }
        let sixteen: Vec<u8> = [0_u16, 1, 300, 7, 65535, 256].iter().flat_map(|number| number.to_be_bytes()).collect();
        let native: Vec<u8> = [0_u16, 1, 300, 7, 65535, 256].iter().flat_map(|number| number.to_ne_bytes()).collect();
        assert_eq!(read(ColorType::Grayscale, BitDepth::Sixteen, &sixteen), (size, Element::U16, native));
        let rgb: Vec<u8> = [0, 1, 2, 3, 4, 255].iter().flat_map(|&gray| [gray; 3]).collect();
        assert_eq!(read(ColorType::Rgb, BitDepth::Eight, &rgb).2, [0, 1, 2, 3, 4, 255]);
        let rgba: Vec<u8> = [0, 1, 2, 3, 4, 255].iter().flat_map(|&gray| [gray, gray, gray, 99]).collect();
        assert_eq!(read(ColorType::Rgba, BitDepth::Eight, &rgba).2, [0, 1, 2, 3, 4, 255]);
    }

    #[test]
    fn what_is_no_mask() {
        let colours: Vec<u8> = (0..18).collect();
        let png = encoded(ColorType::Rgb, BitDepth::Eight, (3, 2), &colours);
        let whole =
            encoded(ColorType::Grayscale, BitDepth::Eight, (30, 20), &(0..600).map(|n| n as u8).collect::<Vec<_>>());
        let cases: [(&[u8], &str); 4] = [
            (&png, "it has 3 channels; a mask has one"),
            (b"\xff\xd8\xff\xe0....", "it is a JPEG, which changes numbers a little; save masks as PNG"),
            (b"", "the file is empty"),
            (&whole[..whole.len() / 2], ""),
        ];
        for (bytes, words) in cases {
            let reason = read(bytes).unwrap_err();
            assert!(reason.starts_with(words) && !reason.contains('\n'), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_other_numbers(place in 0usize..200, byte: u8) {
            let mut png = encoded(ColorType::Indexed, BitDepth::Four, (9, 5), &[0x12; 25]);
            let place = place % png.len();
            png[place] = byte;
            let _ = read(&png); // no panic
        }
    }
}
