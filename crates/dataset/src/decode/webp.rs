//! What a WebP file claims, before its decoder believes it: that takes memory for a chunk or a frame as large as its header
//! says, and looks at the file and the canvas only later.

use std::io::{Read, Seek, SeekFrom};

/// Most chunks: a film has three for each of its frames.
const MOST_CHUNKS: usize = 1 << 16;
/// Bytes before the chunks in a file, and before those of a frame of a film.
const FILE_HEADER: u64 = 12;
const FRAME_HEADER: u64 = 16;

/// Whether the bytes begin as a WebP file does.
pub(super) fn is_webp(start: &[u8]) -> bool {
    start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP")
}

/// Checks that the chunks of a file of `length` bytes lie in it, and its frames on its canvas.
pub(super) fn check(reader: &mut (impl Read + Seek), length: u64) -> Result<(), String> {
    check_chunks(reader, FILE_HEADER, length, None, &mut 0)
}

/// The chunks from `position` to `end`, where frames may be as large as `canvas`.
fn check_chunks(
    reader: &mut (impl Read + Seek),
    mut position: u64,
    end: u64,
    mut canvas: Option<(u32, u32)>,
    chunks: &mut usize,
) -> Result<(), String> {
    while let Some([a, b, c, d, size @ ..]) = bytes::<8>(reader, position, end)? {
        let (name, size) = ([a, b, c, d], u64::from(u32::from_le_bytes(size)));
        let start = position + 8;
        *chunks += 1;
        if size > end - start || *chunks > MOST_CHUNKS {
            let name = String::from_utf8_lossy(&name).trim_end().escape_debug().to_string();
            return Err(match *chunks {
                0..=MOST_CHUNKS => format!("the file is cut off: its chunk {name} has {size} bytes"),
                _ => format!("it has more than {MOST_CHUNKS} chunks"),
            });
        }
        let body = start + size;
        match &name {
            b"VP8X" => {
                canvas = bytes(reader, start + 4, body)?.map(|[w @ .., h0, h1, h2]: [u8; 6]| sides(w, [h0, h1, h2]));
            }
            b"VP8 " => {
                if let Some([w0, w1, h0, h1]) = bytes(reader, start + 6, body)? {
                    let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
                    fits((side([w0, w1]), side([h0, h1])), canvas)?;
                }
            }
            b"ANMF" => {
                let frame = bytes(reader, start + 6, body)?.map(|[w @ .., h0, h1, h2]: [u8; 6]| sides(w, [h0, h1, h2]));
                if let Some(frame) = frame {
                    fits(frame, canvas)?;
                    check_chunks(reader, start + FRAME_HEADER, body, Some(frame), chunks)?;
                }
            }
            _ => {}
        }
        position = body + (size & 1);
    }
    Ok(())
}

/// The `N` bytes at `position`, if they lie before `end`.
fn bytes<const N: usize>(reader: &mut (impl Read + Seek), position: u64, end: u64) -> Result<Option<[u8; N]>, String> {
    if position + N as u64 > end {
        return Ok(None);
    }
    let mut bytes = [0; N];
    let read = reader.seek(SeekFrom::Start(position)).and_then(|_| reader.read_exact(&mut bytes));
    read.map(|()| Some(bytes)).map_err(|error| error.to_string())
}

fn sides([w0, w1, w2]: [u8; 3], [h0, h1, h2]: [u8; 3]) -> (u32, u32) {
    (u32::from_le_bytes([w0, w1, w2, 0]) + 1, u32::from_le_bytes([h0, h1, h2, 0]) + 1)
}

fn fits(frame: (u32, u32), canvas: Option<(u32, u32)>) -> Result<(), String> {
    match canvas {
        Some(canvas) if frame.0 > canvas.0 || frame.1 > canvas.1 => {
            Err(format!("it has a frame of {}×{} pixels on a canvas of {}×{}", frame.0, frame.1, canvas.0, canvas.1))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let padding = &[0][..body.len() & 1];
        [&name[..], &(body.len() as u32).to_le_bytes(), body, padding].concat()
    }

    fn checked(chunks: &[Vec<u8>]) -> Result<(), String> {
        let file = [b"RIFF\xff\xff\xff\xffWEBP", &chunks.concat()[..]].concat();
        check(&mut Cursor::new(&file), file.len() as u64)
    }

    #[test]
    fn what_a_file_claims_is_in_it() {
        let canvas = |side: u8| chunk(b"VP8X", &[0, 0, 0, 0, side - 1, 0, 0, side - 1, 0, 0]);
        let lossy = |side: [u8; 2]| chunk(b"VP8 ", &[0, 0, 0, 0x9d, 1, 0x2a, side[0], side[1], side[0], side[1], 7]);
        let frame = |side: u8, chunks: &[u8]| {
            chunk(b"ANMF", &[&[0, 0, 0, 0, 0, 0, side - 1, 0, 0, side - 1, 0, 0, 0, 0, 0, 0][..], chunks].concat())
        };
        assert_eq!(checked(&[canvas(9), lossy([9, 0])]), Ok(()));
        assert_eq!(checked(&[lossy([255, 0x3f])]), Ok(()), "a file without a canvas has the size of its frame");
        assert_eq!(checked(&[canvas(9), frame(5, &lossy([5, 0])), frame(9, &lossy([9, 0]))]), Ok(()));
        for (chunks, words) in [
            (vec![canvas(9), lossy([255, 0x3f])], "a frame of 16383×16383 pixels on a canvas of 9×9"),
            (vec![canvas(9), frame(10, &lossy([5, 0]))], "a frame of 10×10 pixels on a canvas of 9×9"),
            (vec![canvas(9), frame(5, &lossy([6, 0]))], "a frame of 6×6 pixels on a canvas of 5×5"),
            (vec![canvas(9), b"EXIF\xff\xff\xff\xffII".to_vec()], "its chunk EXIF has 4294967295 bytes"),
            (vec![canvas(9), frame(5, b"EXIF\xff\xff\xff\xffII")], "its chunk EXIF has 4294967295 bytes"),
            (vec![chunk(b"none", b""); MOST_CHUNKS + 1], "more than 65536 chunks"),
        ] {
            let reason = checked(&chunks).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
    }
}
