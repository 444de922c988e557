//! Writing what torch.load reads, `weights_only=True` included.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::error::{Error, Result};
use crate::tensor::{Dtype, Tensor};

/// Where torch begins a storage in the file, in bytes.
const ALIGNMENT: u16 = 64;

/// Writes `entries` to the file `path` as a state dict, an OrderedDict of tensors on the CPU, of this `version` of the network's class: 1
/// where it has no other.
///
/// # Errors
/// A file that cannot be written.
pub fn write_pth(path: &Path, entries: &[(String, Tensor)], version: u8) -> Result<()> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = BufWriter::new(File::create(path).map_err(io)?);
    write(file, entries, version).map_err(|error| io(std::io::Error::other(error)))
}

/// Adds the extra file `name` to the TorchScript program in the file `path`, as libtorch has just written it: what `torch.jit.load` gives of it with
/// `_extra_files={name: ""}`.
///
/// # Errors
/// A file that is no such program, or cannot be written.
pub fn add_extra_file(path: &Path, name: &str, contents: &[u8]) -> Result<()> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let add = || -> zip::result::ZipResult<()> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut zip = ZipWriter::new_append(file)?;
        // libtorch calls its folder like the file.
        let folder = path.file_stem().unwrap_or_default().to_string_lossy();
        zip.start_file(format!("{folder}/extra/{name}"), options())?;
        zip.write_all(contents)?;
        zip.finish()?;
        Ok(())
    };
    add().map_err(|error| io(std::io::Error::other(error)))
}

/// How entries are stored. Their time is left at zip's first, so that the same contents are the same file.
fn options() -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .with_alignment(ALIGNMENT)
}

fn write(file: BufWriter<File>, entries: &[(String, Tensor)], version: u8) -> zip::result::ZipResult<()> {
    let mut zip = ZipWriter::new(file);
    let options = options();
    let mut put = |name: &str, bytes: &[u8]| -> zip::result::ZipResult<()> {
        zip.start_file(format!("archive/{name}"), options.large_file(bytes.len() > u32::MAX as usize))?;
        Ok(zip.write_all(bytes)?)
    };
    put("data.pkl", &pickle(entries, version))?;
    put("byteorder", b"little")?;
    for (number, (_, tensor)) in entries.iter().enumerate() {
        put(&format!("data/{number}"), tensor.bytes())?;
    }
    put("version", b"3\n")?;
    zip.finish()?.flush()?;
    Ok(())
}

/// The pickle of the state dict, in protocol 2.
fn pickle(entries: &[(String, Tensor)], version: u8) -> Vec<u8> {
    let mut program = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for (number, (name, tensor)) in entries.iter().enumerate() {
        text(&mut program, name);
        program.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut program, "storage");
        program.extend(format!("ctorch\n{}\n", storage_class(tensor.dtype())).bytes());
        text(&mut program, &number.to_string());
        text(&mut program, "cpu");
        integer(&mut program, tensor.shape().iter().product());
        program.extend(b"tQ"); // the storage
        integer(&mut program, 0); // where the tensor begins in it
        let strides = strides(tensor.shape());
        for sides in [tensor.shape(), &strides] {
            program.push(b'(');
            sides.iter().for_each(|&side| integer(&mut program, side));
            program.push(b't');
        }
        program.extend(b"\x89ccollections\nOrderedDict\n)RtR"); // requires_grad, hooks
    }
    program.push(b'u');
    // The dictionary's attribute _metadata: what version of its class the network is of.
    program.push(b'}');
    text(&mut program, "_metadata");
    program.extend(b"ccollections\nOrderedDict\n)R");
    text(&mut program, "");
    program.push(b'}');
    text(&mut program, "version");
    program.extend([b'K', version]);
    program.extend(b"sssb.");
    program
}

fn text(program: &mut Vec<u8>, text: &str) {
    program.push(b'X');
    program.extend((text.len() as u32).to_le_bytes());
    program.extend(text.bytes());
}

fn integer(program: &mut Vec<u8>, number: usize) {
    match i32::try_from(number) {
        Ok(number) => {
            program.push(b'J');
            program.extend(number.to_le_bytes());
        }
        Err(_) => {
            program.extend(b"\x8a\x08");
            program.extend((number as u64).to_le_bytes());
        }
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

fn storage_class(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "BoolStorage",
        Dtype::U8 => "ByteStorage",
        Dtype::I8 => "CharStorage",
        Dtype::I16 => "ShortStorage",
        Dtype::I32 => "IntStorage",
        Dtype::I64 => "LongStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::BF16 => "BFloat16Storage",
        Dtype::F32 => "FloatStorage",
        Dtype::F64 => "DoubleStorage",
    }
}
