//! Samples as a page shows them.

use std::path::Path;

use dataset::{Loader, PixelFormat};

/// The paths and thumbnails of samples of `loader`. An image that cannot be read any more is left out of the page.
pub(crate) fn show(loader: &Loader, indices: &[usize]) -> Vec<(String, Option<String>)> {
    let paths = loader.images().names(indices);
    let image = |&index: &usize| {
        let batch = loader.sample(index).ok()?;
        match batch.format {
            PixelFormat::Rgb8 => report::thumbnail(&batch.pixels, batch.side),
            PixelFormat::Planes { channels } => {
                report::thumbnail(&seen(batch.values(), channels, batch.side), batch.side)
            }
        }
    };
    paths.iter().map(|path| text(path)).zip(indices.iter().map(image)).collect()
}

/// Planes of normalized numbers as people can see them: three of them, or one as gray, from 2 standard deviations below the mean
/// to 2 above.
fn seen(values: &[f32], channels: usize, side: usize) -> Vec<u8> {
    let plane = side * side;
    let byte =
        |channel: usize, pixel: usize| ((values[channel * plane + pixel] / 4.0 + 0.5) * 255.0).clamp(0.0, 255.0) as u8;
    let of = |colour: usize| if channels >= 3 { colour } else { 0 };
    (0..plane).flat_map(|pixel| [0, 1, 2].map(|colour| byte(of(colour), pixel))).collect()
}

/// A path for a page.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
