//! Reading a small file whose size is known: three system calls.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// Reads a file of `size` bytes into `bytes`.
///
/// # Errors
/// A file that cannot be read, or whose size is another: it was changed since it was listed.
pub(crate) fn read(path: &Path, size: u64, bytes: &mut Vec<u8>) -> Result<()> {
    let mut file = File::open(path).map_err(Error::io(path, "opening the picture"))?;
    bytes.resize(size as usize, 0);
    file.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => changed(path, size),
        _ => Error::io(path, "reading the picture")(error),
    })
}

fn changed(path: &Path, size: u64) -> Error {
    Error::Input(format!(
        "{}: was {size} bytes long when the pictures were listed, and is shorter now; start again",
        path.display()
    ))
}
