//! Samples as a page shows them.

use std::path::Path;

use dataset::Loader;

/// The paths and thumbnails of samples of `loader`. An image that cannot be read any more is left out of the page.
pub(crate) fn show(loader: &Loader, indices: &[usize]) -> Vec<(String, Option<String>)> {
    let paths = loader.images().names(indices);
    let image = |&index: &usize| {
        let batch = loader.sample(index).ok()?;
        report::thumbnail(&batch.pixels, batch.side)
    };
    paths.iter().map(|path| text(path)).zip(indices.iter().map(image)).collect()
}

/// A path for a page.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
