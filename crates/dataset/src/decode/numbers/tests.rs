use super::*;
use ::tiff::encoder::{TiffEncoder, colortype};
use ::tiff::tags::Tag;
use std::io::{Cursor, Write};

fn decoder(numbers: Option<Numbers>) -> Decoder {
    Decoder::new(Decoding { numbers, ..Decoding::default() })
}

/// What is read of a file: its layout, and its numbers, plane by plane.
fn read_file(bytes: &[u8]) -> Result<(ArrayLayout, Vec<f64>), String> {
    let mut decoder = decoder(None);
    let (layout, stored) = decoder.numbers(Source::Memory(bytes))?;
    let mut planes = vec![Vec::new(); layout.numbers.channels];
    let raw = ArrayLayout { numbers: Numbers { scale: 1.0, offset: 0.0, ..layout.numbers }, ..layout };
    raw.each(stored, |channel, number| planes[channel].push(number));
    Ok((layout, planes.concat()))
}

fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((text.len() as u16).to_le_bytes());
    file.extend(text.as_bytes());
    file.extend(values);
    file
}

fn u16s(values: impl IntoIterator<Item = u16>) -> Vec<u8> {
    values.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// A TIFF of pages of 3×2 pixels of 16 bits, each with tags of its own.
fn tiff(pages: &[([u16; 6], &[(u16, &str)], u32)]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    for (pixels, tags, kind) in pages {
        let mut image = encoder.new_image::<colortype::Gray16>(3, 2).unwrap();
        for (tag, text) in *tags {
            image.encoder().write_tag(Tag::Unknown(*tag), *text).unwrap();
        }
        image.encoder().write_tag(Tag::NewSubfileType, *kind).unwrap();
        image.write_data(pixels).unwrap();
    }
    file.into_inner()
}

const ONE: [u16; 6] = [0, 1, 2, 300, 40_000, 65_535];
const TWO: [u16; 6] = [7; 6];

#[test]
fn arrays_of_numpy_are_read_in_either_order() {
    let values = u16s(0..24);
    for (shape, channels, axes) in [
        ("(2, 1, 12)", 2, Axes::ChannelsFirst),
        ("(12, 1, 2)", 2, Axes::ChannelsLast),
        ("(2, 4, 3)", 3, Axes::ChannelsLast),
        ("(4, 6)", 1, Axes::ChannelsLast),
    ] {
        let (layout, numbers) = read_file(&npy("<u2", shape, &values)).unwrap();
        assert_eq!((layout.numbers, layout.axes), (Numbers::plain(Element::U16, channels), axes), "{shape}");
        let pixels = 24 / channels;
        let at = |index: usize| match axes {
            Axes::ChannelsFirst => index,
            Axes::ChannelsLast => index % pixels * channels + index / pixels,
        };
        assert_eq!(numbers, (0..24).map(|index| at(index) as f64).collect::<Vec<_>>(), "{shape}");
    }
    // Where the number of channels is known it says which axis is theirs.
    let mut known = decoder(Some(Numbers::plain(Element::U16, 12)));
    let file = npy("<u2", "(2, 1, 12)", &values);
    let (layout, _) = known.numbers(Source::Memory(&file)).unwrap();
    assert_eq!((layout.axes, layout.size), (Axes::ChannelsLast, Size { width: 1, height: 2 }));
}

#[test]
fn pages_are_channels_but_for_copies_and_masks_of_others() {
    let of = |numbers: &[u16]| numbers.iter().map(|&number| f64::from(number)).collect::<Vec<_>>();
    let (layout, numbers) = read_file(&tiff(&[(ONE, &[], 0), (TWO, &[], 0)])).unwrap();
    assert_eq!((layout.numbers, numbers), (Numbers::plain(Element::U16, 2), of(&[ONE, TWO].concat())));
    let (layout, numbers) = read_file(&tiff(&[(ONE, &[], 0), (TWO, &[], 1), (TWO, &[], 4)])).unwrap();
    assert_eq!((layout.numbers.channels, numbers), (1, of(&ONE)));
}

#[test]
fn the_number_that_stands_for_none_is_gdals() {
    for (text, expected) in [("300", Some(300.0)), ("-9999", None), ("nan", None), (" 7 ", Some(7.0))] {
        let (layout, numbers) = read_file(&tiff(&[(ONE, &[(42113, text)], 0)])).unwrap();
        assert_eq!(layout.numbers.fill, expected, "{text}");
        assert_eq!(numbers[3].is_nan(), text == "300");
    }
    assert!(read_file(&tiff(&[(ONE, &[(42113, "none")], 0)])).unwrap_err().contains("GDAL_NODATA 'none' is no number"));
}

#[test]
fn faults_of_files_are_named() {
    let values = u16s(0..24);
    let whole = tiff(&[(ONE, &[], 0)]);
    let mut other = Vec::new();
    {
        let mut encoder = TiffEncoder::new(Cursor::new(&mut other)).unwrap();
        encoder.write_image::<colortype::Gray16>(3, 2, &ONE).unwrap();
        encoder.write_image::<colortype::Gray8>(3, 2, &[1; 6]).unwrap();
    }
    let mut wide = Vec::new();
    TiffEncoder::new(Cursor::new(&mut wide)).unwrap().write_image::<colortype::Gray32>(1, 1, &[5]).unwrap();
    for (file, words) in [
        (npy("<u2", "(4, 2, 3)", &values[1..]), "the array has 47 bytes, and its shape [4, 2, 3] takes 48"),
        (npy("<u2", "(2, 2, 2, 3)", &values), "H×W, H×W×C or C×H×W is needed"),
        (npy("<i4", "(4, 3)", &values), "its values are int32"),
        (npy("<c8", "(2, 3)", &values), "has values of type '<c8'"),
        (npy("<f8", "(100000, 100000)", &values), "pixels"),
        (npy("<f8", "(2000, 2000, 1000)", &values), "are too few for 2000×2000 pixels of 1000 channels"),
        (npy("<u2", "(0, 3)", &[]), "no pixels"),
        (whole[..whole.len() - 9].to_vec(), "cut off"),
        (other, "pages that are channels are all alike"),
        (wide, "its values are uint32"),
        (b"what is this".to_vec(), "not an image of a known format"),
        (Vec::new(), "the file is empty"),
    ] {
        let reason = read_file(&file).unwrap_err();
        assert!(reason.contains(words) && !reason.contains('\n'), "{words}: {reason}");
    }
}

#[test]
fn images_of_other_numbers_than_the_first_are_refused() {
    let first = Numbers::plain(Element::U16, 2);
    for (file, words) in [
        (npy("<u2", "(4, 6)", &u16s(0..24)), "it has 1 channel of uint16, and 2 channels of uint16 are read"),
        (npy("<i2", "(2, 3, 4)", &u16s(0..24)), "it has 2 channels of int16, and 2 channels of uint16 are read"),
        (tiff(&[(ONE, &[(42113, "7")], 0), (TWO, &[], 0)]), "7 stands for none in it, and nothing in the others"),
    ] {
        let reason = decoder(Some(first)).numbers(Source::Memory(&file)).map(drop).unwrap_err();
        assert!(reason.contains(words), "{words}: {reason}");
    }
}

#[test]
fn what_is_read_follows_from_the_first_image() {
    let png = |image: image::DynamicImage| {
        let mut file = Cursor::new(Vec::new());
        image.write_to(&mut file, image::ImageFormat::Png).unwrap();
        file.into_inner()
    };
    let gray = image::DynamicImage::new_luma8(3, 2);
    for (file, auto, unchanged) in [
        (png(gray.clone()), None, (Element::U8, 1)),
        (png(image::DynamicImage::new_rgba8(3, 2)), None, (Element::U8, 4)),
        (png(image::DynamicImage::new_luma16(3, 2)), Some(()), (Element::U16, 1)),
        (png(image::DynamicImage::new_rgb16(3, 2)), Some(()), (Element::U16, 3)),
        (npy("|u1", "(2, 3)", &[0; 6]), Some(()), (Element::U8, 1)),
        (tiff(&[(ONE, &[], 0)]), Some(()), (Element::U16, 1)),
    ] {
        let mut decoder = decoder(None);
        let source = Source::Memory(&file);
        assert_eq!(decoder.probe(source, false).unwrap().map(drop), auto);
        assert_eq!(decoder.probe(source, true).unwrap().unwrap().0, Numbers::plain(unchanged.0, unchanged.1));
    }
    // The first that can be decoded says it.
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("train/ant")).unwrap();
    for (name, bytes) in [("1.npy", npy("<u2", "(4, 7)", &[])), ("2.npy", npy("<u2", "(2, 3)", &u16s(0..6)))] {
        std::fs::File::create(root.path().join("train/ant").join(name)).unwrap().write_all(&bytes).unwrap();
    }
    let listing = Listing::scan(root.path(), None).unwrap();
    let FirstImage { path, numbers, size } = listing.numbers(Decoding::default(), false).unwrap().unwrap();
    assert!(path.ends_with("2.npy") && numbers == Numbers::plain(Element::U16, 1));
    assert_eq!(size, Size { width: 3, height: 2 });
}

#[test]
fn a_jpeg_has_one_channel_or_three() {
    for (name, channels) in [("gray.jpg", 1), ("420.jpg", 3)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let file = std::fs::read(folder.join(name)).unwrap();
        let (layout, numbers) = read_file(&file).unwrap();
        assert_eq!(layout.numbers, Numbers::plain(Element::U8, channels));
        let mut rgb = decoder(None);
        let (_, pixels) = rgb.decode(&file).unwrap();
        let red: Vec<_> = pixels.iter().step_by(3).map(|&byte| f64::from(byte)).collect();
        assert_eq!(numbers[..red.len()], red);
    }
}

#[test]
fn a_palette_and_gray_with_transparency_are_photographs_too() {
    use ::tiff::tags::PhotometricInterpretation as Photometric;
    let table: Vec<u16> = (0..768).map(|index: u32| (index * 2477 % 65536) as u16).collect();
    let of = |photometric: Photometric, samples: &[u8], count: u16, extra: Option<u16>| {
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        let mut image = encoder.image_directory().unwrap();
        image.write_tag(Tag::ImageWidth, 2_u32).unwrap();
        image.write_tag(Tag::ImageLength, 1_u32).unwrap();
        image.write_tag(Tag::BitsPerSample, &vec![8_u16; usize::from(count)][..]).unwrap();
        image.write_tag(Tag::SamplesPerPixel, count).unwrap();
        image.write_tag(Tag::PhotometricInterpretation, photometric.to_u16()).unwrap();
        if photometric == Photometric::RGBPalette {
            image.write_tag(Tag::ColorMap, &table[..]).unwrap();
        }
        if let Some(extra) = extra {
            image.write_tag(Tag::ExtraSamples, extra).unwrap();
        }
        let place = image.write_data(samples).unwrap();
        image.write_tag(Tag::StripOffsets, place as u32).unwrap();
        image.write_tag(Tag::StripByteCounts, samples.len() as u32).unwrap();
        image.finish().unwrap();
        file.into_inner()
    };
    let colour = |index: usize| [0, 1, 2].map(|colour| (table[colour * 256 + index] >> 8) as u8);
    for (file, rgb) in [
        (of(Photometric::RGBPalette, &[3, 200], 1, None), Some([colour(3), colour(200)].concat())),
        (of(Photometric::BlackIsZero, &[9, 255, 80, 0], 2, Some(2)), Some(vec![9, 9, 9, 80, 80, 80])),
        (of(Photometric::RGB, &[1, 2, 3, 0, 4, 5, 6, 9], 4, Some(2)), Some(vec![1, 2, 3, 4, 5, 6])),
        // Near infrared beside red, green and blue, and what nobody has named.
        (of(Photometric::RGB, &[1, 2, 3, 0, 4, 5, 6, 9], 4, Some(0)), None),
        (of(Photometric::BlackIsZero, &[9, 255, 80, 0], 2, Some(0)), None),
    ] {
        let mut decoder = decoder(None);
        let source = Source::Memory(&file);
        let probed = decoder.probe(source, false).unwrap();
        assert_eq!(probed.is_none(), rgb.is_some(), "{probed:?}");
        if let Some(rgb) = rgb {
            assert_eq!(decoder.decode(&file).unwrap().1, rgb);
        }
    }
}

/// A FITS part: its cards and its data, each filled up to a block.
fn part(cards: &[&str], data: &[u8]) -> Vec<u8> {
    let mut part: Vec<u8> = cards.iter().chain(&["END"]).flat_map(|card| format!("{card:80}").into_bytes()).collect();
    part.resize(part.len().next_multiple_of(2880), b' ');
    part.extend(data);
    part.resize(part.len().next_multiple_of(2880), 0);
    part
}

fn fits(cards: &[&str], data: &[u8]) -> Vec<u8> {
    part(&[&["SIMPLE  =                    T"], cards].concat(), data)
}

#[test]
fn fits_as_astropy_reads_it() {
    let nan = f64::NAN;
    let plane = ["NAXIS   =                    2", "NAXIS1  =                    2", "NAXIS2  =                    1"];
    let shorts: Vec<u8> = [-5_i16, 300].into_iter().flat_map(i16::to_be_bytes).collect();
    let ints: Vec<u8> = [-70_000_i32, 3].into_iter().flat_map(i32::to_be_bytes).collect();
    let floats: Vec<u8> = [1.5_f32, f32::NAN].into_iter().flat_map(f32::to_be_bytes).collect();
    let doubles: Vec<u8> = [0.1_f64, -2.0].into_iter().flat_map(f64::to_be_bytes).collect();
    type Case<'a> = (&'a [&'a str], &'a [u8], Element, [f64; 2], Option<f64>);
    let cases: [Case<'_>; 12] = [
        (&["BITPIX  = 8"], &[7, 200], Element::U8, [7.0, 200.0], None),
        (&["BITPIX  = 8", "BZERO   = -128"], &[7, 200], Element::I8, [-121.0, 72.0], None),
        (&["BITPIX  = 16 / bits"], &shorts, Element::I16, [-5.0, 300.0], None),
        (&["BITPIX  = 16", "BZERO   = 32768.", "BSCALE  = 1"], &shorts, Element::U16, [32763.0, 33068.0], None),
        (&["BITPIX  = 16", "BLANK   = -5"], &shorts, Element::I16, [nan, 300.0], Some(-5.0)),
        (&["BITPIX  = 16", "BLANK   = -5", "BZERO   = 32768"], &shorts, Element::U16, [32763.0, 33068.0], None),
        (&["BITPIX  = 16", "BSCALE  = 2.5D-1", "BZERO   = 10"], &shorts, Element::F32, [8.75, 85.0], None),
        (&["BITPIX  = 16", "BSCALE  = 0.5", "BLANK   = -5"], &shorts, Element::F32, [nan, 150.0], None),
        (&["BITPIX  = 32"], &ints, Element::F64, [-70_000.0, 3.0], None),
        (&["BITPIX  = 32", "BZERO   = 2147483648"], &ints, Element::F64, [2_147_413_648.0, 2_147_483_651.0], None),
        (&["BITPIX  = -32", "OBJECT  = 'END of O''Neil / x'"], &floats, Element::F32, [1.5, nan], None),
        (&["BITPIX  = -64", "COMMENT BITPIX  = 8"], &doubles, Element::F64, [0.1, -2.0], None),
    ];
    for (cards, data, element, expected, fill) in cases {
        let file = fits(&[cards, &plane].concat(), data);
        let (layout, numbers) = read_file(&file).unwrap_or_else(|error| panic!("{cards:?}: {error}"));
        let plain = Numbers { fill, ..Numbers::plain(element, 1) };
        assert_eq!((layout.numbers, layout.size), (plain, Size { width: 2, height: 1 }), "{cards:?}");
        for (number, expected) in numbers.iter().zip(expected) {
            assert!(*number == expected || number.is_nan() && expected.is_nan(), "{cards:?}: {numbers:?}");
        }
    }
    // Planes are channels; axes of one behind them are none. A table before the image is passed over, and so is what stands behind.
    let cube = ["NAXIS   = 4", "NAXIS1  = 1", "NAXIS2  = 2", "NAXIS3  = 3", "NAXIS4  = 1"];
    let table = [
        "XTENSION= 'BINTABLE'",
        "BITPIX  = 8",
        "NAXIS   = 2",
        "NAXIS1  = 3",
        "NAXIS2  = 1000",
        "PCOUNT  = 7",
        "GCOUNT  = 1",
    ];
    let image = [&["XTENSION= 'IMAGE   '", "BITPIX  = 8"][..], &cube].concat();
    let file = [
        fits(&["BITPIX  = 8", "NAXIS   = 0"], &[]),
        part(&table, &[1; 3007]),
        part(&image, &[0, 1, 2, 3, 4, 5]),
        b"XTENSION is no part".to_vec(),
    ];
    let (layout, numbers) = read_file(&file.concat()).unwrap();
    assert_eq!(
        (layout.axes, layout.size, layout.numbers.channels),
        (Axes::ChannelsFirst, Size { width: 1, height: 2 }, 3)
    );
    assert_eq!(numbers, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn fits_that_is_none() {
    let plane = |bitpix: &str, axes: &[u64]| {
        let mut cards = vec![format!("BITPIX  = {bitpix}"), format!("NAXIS   = {}", axes.len())];
        cards.extend(
            axes.iter().enumerate().map(|(axis, length)| format!("{:8}= {length}", format!("NAXIS{}", axis + 1))),
        );
        fits(&cards.iter().map(String::as_str).collect::<Vec<_>>(), &[0; 64])
    };
    let whole = plane("8", &[8, 8]);
    let compressed =
        part(&["XTENSION= 'BINTABLE'", "BITPIX  = 8", "NAXIS   = 0", "ZIMAGE  =    T", "ZCMPTYPE= 'RICE_1  '"], &[]);
    for (file, words) in [
        (whole[..2880 + 63].to_vec(), "cut off: its image takes 64 bytes, and there are 63"),
        (whole[..2000].to_vec(), "cut off in its header"),
        (b"SIMPLE  = T".to_vec(), "cut off in its header"),
        (b"SIMPLE  = T ".repeat(400_000), "its header has no end"),
        (plane("8", &[]), "a FITS file without an image"),
        (plane("8", &[8]), "its image has the axes [8]"),
        (plane("8", &[2, 2, 2, 2]), "its image has the axes [2, 2, 2, 2]"),
        (plane("12", &[8, 8]), "its BITPIX is '12'"),
        (plane("64", &[8, 1]), "its values are of 64 bits"),
        (plane("-64", &[100_000, 100_000]), "pixels"),
        (plane("8", &[u64::MAX, 8]), "says nothing of how long its data are"),
        (plane("8", &[5_000_000_000, 1]), "5000000000×1 pixels are too many"),
        (fits(&["BITPIX  = 8"], &[]), "its NAXIS is ''"),
        (fits(&["BITPIX  = 8", "NAXIS   = 1000"], &[]), "it has 1000 axes"),
        (fits(&["BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = -3"], &[]), "its NAXIS1 is '-3'"),
        (
            [fits(&["BITPIX  = 8", "NAXIS   = 0"], &[]), compressed].concat(),
            "is compressed (RICE_1), which is not read; unpack it with funpack",
        ),
    ] {
        let error = read_file(&file).expect_err(words);
        assert!(error.contains(words), "{error}, and not: {words}");
    }
}

proptest::proptest! {
    #[test]
    fn any_fits_is_read_or_refused(changes in proptest::collection::vec((0..2880_usize, 32..127_u8), 1..30), length in 9..2950_usize) {
        let mut file = fits(&["BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 4", "NAXIS2  = 4", "BZERO   = 3"], &[1; 32]);
        for (at, byte) in changes.into_iter().filter(|(at, _)| *at >= 9) {
            file[at % 560] = if at % 560 < 9 { file[at % 560] } else { byte };
        }
        let _ = read_file(&file);
        let _ = read_file(&file[..length.min(file.len())]);
    }
}
