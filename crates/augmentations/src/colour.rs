//! Changes of colour, with Pillow's arithmetic (`ImageEnhance`, `ImageOps`).

/// Pixels of RGB bytes.
fn rgb(pixels: &mut [u8]) -> impl Iterator<Item = &mut [u8; 3]> {
    pixels.as_chunks_mut::<3>().0.iter_mut()
}

/// ITU-R 601-2 luma, as Pillow's `convert("L")` rounds it.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19595 * u32::from(red) + 38470 * u32::from(green) + 7471 * u32::from(blue) + 0x8000;
    (sum >> 16) as u8
}

/// Pillow's `Image.blend`: 0 is `from`, 1 is `to`, and beyond that the difference grows. Cut off, not rounded.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor * (to - from)) as u8 // `as` stops at 0 and 255
}

/// The values that one channel's values become.
type Table = [u8; 256];

fn map(pixels: &mut [u8], table: &Table) {
    pixels.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

fn map_channels(pixels: &mut [u8], tables: &[Table; 3]) {
    for pixel in rgb(pixels) {
        pixel.iter_mut().zip(tables).for_each(|(value, table)| *value = table[usize::from(*value)]);
    }
}

fn table(of: impl Fn(u8) -> u8) -> Table {
    std::array::from_fn(|value| of(value as u8))
}

/// Brighter or darker: 0 is black, 1 the image.
pub(super) fn brightness(pixels: &mut [u8], factor: f32) {
    map(pixels, &table(|value| blend(0, value, factor)));
}

/// More or less contrast: 0 is gray, 1 the image.
pub(super) fn contrast(pixels: &mut [u8], factor: f32) {
    let count = (pixels.len() / 3) as f64;
    let sum: u64 = pixels.as_chunks::<3>().0.iter().map(|&pixel| u64::from(luma(pixel))).sum();
    let mean = (sum as f64 / count + 0.5) as u8;
    map(pixels, &table(|value| blend(mean, value, factor)));
}

/// More or less colour: 0 is gray, 1 the image.
pub(super) fn saturation(pixels: &mut [u8], factor: f32) {
    for pixel in rgb(pixels) {
        let gray = luma(*pixel);
        pixel.iter_mut().for_each(|value| *value = blend(gray, *value, factor));
    }
}

/// Turns the circle of colours by `shift` 255ths.
pub(super) fn hue(pixels: &mut [u8], shift: u8) {
    for pixel in rgb(pixels) {
        let [hue, saturation, value] = to_hsv(*pixel);
        *pixel = from_hsv([hue.wrapping_add(shift), saturation, value]);
    }
}

fn to_hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let (highest, lowest) = (red.max(green).max(blue), red.min(green).min(blue));
    if highest == lowest {
        return [0, 0, highest];
    }
    let range = f32::from(highest - lowest);
    let saturation = range / f32::from(highest);
    let distance = |channel: u8| f32::from(highest - channel) / range;
    let sixths = if red == highest {
        distance(blue) - distance(green)
    } else if green == highest {
        2.0 + distance(red) - distance(blue)
    } else {
        4.0 + distance(green) - distance(red)
    };
    let hue = (f64::from(sixths) / 6.0 + 1.0).fract();
    [(hue * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, highest]
}

fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f32::from(hue) * 6.0 / 255.0;
    let sector = sixths.floor();
    let within = sixths - sector;
    let saturation = f32::from(saturation) / 255.0;
    let part = |share: f32| (f32::from(value) * (1.0 - share)).round() as u8;
    let (p, q, t) = (part(saturation), part(saturation * within), part(saturation * (1.0 - within)));
    match sector as u8 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}

/// Keeps the upper `bits` of each value.
pub(super) fn posterize(pixels: &mut [u8], bits: u32) {
    let mask = (0xff00u32 >> bits) as u8;
    pixels.iter_mut().for_each(|value| *value &= mask);
}

/// Inverts all values from `threshold` on.
pub(super) fn solarize(pixels: &mut [u8], threshold: f64) {
    map(pixels, &table(|value| if f64::from(value) < threshold { value } else { 255 - value }));
}

fn histograms(pixels: &[u8]) -> [[u32; 256]; 3] {
    let mut histograms = [[0; 256]; 3];
    for pixel in pixels.as_chunks::<3>().0 {
        histograms.iter_mut().zip(pixel).for_each(|(histogram, &value)| histogram[usize::from(value)] += 1);
    }
    histograms
}

/// Stretches each channel from its darkest to its brightest value.
pub(super) fn autocontrast(pixels: &mut [u8]) {
    let tables = histograms(pixels).map(|histogram| {
        let lowest = histogram.iter().position(|&count| count > 0).unwrap_or(0);
        let highest = histogram.iter().rposition(|&count| count > 0).unwrap_or(0);
        if highest <= lowest {
            return table(|value| value);
        }
        let scale = 255.0 / (highest - lowest) as f64;
        let offset = -(lowest as f64) * scale;
        table(|value| (f64::from(value) * scale + offset) as u8)
    });
    map_channels(pixels, &tables);
}

/// Spreads each channel's values evenly.
pub(super) fn equalize(pixels: &mut [u8]) {
    let tables = histograms(pixels).map(|histogram| {
        let used: Vec<u32> = histogram.iter().copied().filter(|&count| count > 0).collect();
        let Some((_, all_but_last)) = used.split_last() else { return table(|value| value) };
        let step = all_but_last.iter().sum::<u32>() / 255;
        if step == 0 {
            return table(|value| value);
        }
        let mut sum = step / 2;
        let mut out = [0; 256];
        for (out, count) in out.iter_mut().zip(histogram) {
            *out = (sum / step).min(255) as u8;
            sum += count;
        }
        out
    });
    map_channels(pixels, &tables);
}

/// Sharper or smoother: 0 is smoothed, 1 the image. Pixels at the edge stay.
pub(super) fn sharpness(pixels: &mut [u8], side: usize, factor: f32, scratch: &mut Vec<u8>) {
    if side < 3 {
        return;
    }
    scratch.clear();
    scratch.extend_from_slice(pixels);
    let source = &scratch[..];
    let pitch = side * 3;
    for y in 1..side - 1 {
        for index in y * pitch + 3..(y + 1) * pitch - 3 {
            let mut sum = 4 * u32::from(source[index]); // the middle counts 5, its neighbours 1, of 13
            for row in [index - pitch, index, index + pitch] {
                sum += u32::from(source[row - 3]) + u32::from(source[row]) + u32::from(source[row + 3]);
            }
            let smooth = (sum as f32 / 13.0 + 0.5) as u8;
            pixels[index] = blend(smooth, source[index], factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4×4 pixels of all kinds.
    fn image() -> Vec<u8> {
        (0..48u32).map(|index| (index * index * 5 + index * 37 + 11) as u8).collect()
    }

    #[test]
    fn pillow_agrees() {
        let changes: &[(&str, fn(&mut [u8]))] = &[
            ("brightness 0.6", |pixels| brightness(pixels, 0.6)),
            ("brightness 1.9", |pixels| brightness(pixels, 1.9)),
            ("contrast 0.4", |pixels| contrast(pixels, 0.4)),
            ("contrast 1.5", |pixels| contrast(pixels, 1.5)),
            ("saturation 0.3", |pixels| saturation(pixels, 0.3)),
            ("saturation 1.7", |pixels| saturation(pixels, 1.7)),
            ("hue 40", |pixels| hue(pixels, 40)),
            ("hue 200", |pixels| hue(pixels, 200)),
            ("posterize 3", |pixels| posterize(pixels, 3)),
            ("solarize 100", |pixels| solarize(pixels, 100.0)),
            ("autocontrast", |pixels| {
                pixels.iter_mut().for_each(|value| *value = *value / 3 + 40);
                autocontrast(pixels);
            }),
            ("sharpness 0.2", |pixels| sharpness(pixels, 4, 0.2, &mut Vec::new())),
            ("sharpness 1.8", |pixels| sharpness(pixels, 4, 1.8, &mut Vec::new())),
        ];
        // What Pillow 13.0 makes of the image: a name and 48 bytes a line.
        let expected = include_str!("pillow.csv");
        assert_eq!(expected.lines().count(), changes.len());
        for (line, (name, change)) in expected.lines().zip(changes) {
            let expected: Vec<_> = line.split(',').map(str::to_owned).collect();
            let mut pixels = image();
            change(&mut pixels);
            let found: Vec<_> = std::iter::once((*name).to_owned()).chain(pixels.iter().map(u8::to_string)).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn equalized_as_pillow_does() {
        let mut pixels: Vec<u8> =
            (0..32 * 32 * 3u32).map(|i| (i * i * 5 + i * 37 + 11) >> 3).map(|v| v as u8 & 127).collect();
        equalize(&mut pixels);
        assert_eq!(pixels[..12], [3, 16, 35, 53, 77, 107, 136, 171, 208, 248, 255, 255]);
        let sum: u64 = pixels.iter().zip(1..).map(|(&value, place)| u64::from(value) * place).sum();
        assert_eq!(sum, 746_936_448, "Pillow's image, each byte weighted with its place");
    }

    #[test]
    fn nothing_is_changed_where_nothing_is_asked_for() {
        let same: &[fn(&mut [u8])] = &[
            |pixels| brightness(pixels, 1.0),
            |pixels| contrast(pixels, 1.0),
            |pixels| saturation(pixels, 1.0),
            |pixels| posterize(pixels, 8),
            |pixels| solarize(pixels, 256.0),
            |pixels| sharpness(pixels, 4, 1.0, &mut Vec::new()),
        ];
        for change in same {
            let mut pixels = image();
            change(&mut pixels);
            assert_eq!(pixels, image());
        }
    }
}
