//! What the masks of a data set hold: this side of `scripts/segmentation read`. Prints a line for each training image: its path,
//! height and width of its mask, and the class of each pixel in hexadecimal digits, 255 for none.
//!
//! ```text
//! masks DIR|FILE
//! ```

use std::error::Error;
use std::path::Path;

use dataset::{Dataset, Decoding, FileSpec, LabelKind, Listing, MaskFolders, MaskRule, OnBadImage, unwatched};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("masks DIR|FILE")?;
    let path = Path::new(&path);
    let dataset = match path.is_file() {
        true => Dataset::of_file(path, &FileSpec { kind: LabelKind::Mask, ..FileSpec::default() })?,
        false => {
            let listing = Listing::scan_masks(path, &MaskFolders::default(), None, &unwatched)?;
            Dataset::of_files(&listing, Decoding::default())
        }
    };
    let values = MaskRule::default().values(None, || dataset.train.mask_numbers(OnBadImage::Fail, &unwatched))?;
    let train = dataset.with_mask_values(&values, values.names()).train;
    for (index, name) in train.names(&(0..train.len()).collect::<Vec<_>>()).iter().enumerate() {
        let (size, classes) = train.mask_classes(index)?.ok_or("an image has no mask")?;
        let digits: String = classes.iter().map(|class| format!("{class:02x}")).collect();
        println!("{}\t{}\t{}\t{digits}", name.display(), size.height, size.width);
    }
    Ok(())
}
