//! PNG files that lack their last chunk, as a copy that was broken off leaves them: all pixels are there, and others read them.

use std::io::{BufRead, Read, Result, Seek, SeekFrom};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// The last chunk, which holds nothing.
const END: &[u8] = b"\0\0\0\0IEND\xaeB`\x82";

/// More chunks are not looked at: a gigabyte in chunks of the usual 8 KB has twice as many.
const MOST_CHUNKS: usize = 1 << 16;

/// What a PNG of `length` bytes lacks of its last chunk, if that is all that it lacks; nothing where it is whole, no PNG, or cut off
/// before. `read_at` fills bytes from a place in it.
pub(super) fn lacking(length: u64, read_at: impl Fn(&mut [u8], u64) -> Option<()>) -> &'static [u8] {
    let mut signature = [0; SIGNATURE.len()];
    let mut tail = [0; END.len()];
    let whole = length.checked_sub(END.len() as u64);
    let mut is_whole = || read_at(&mut tail, whole?).map(|()| tail == *END);
    let is_png = read_at(&mut signature, 0).is_some() && signature == *SIGNATURE;
    if !is_png || is_whole().unwrap_or(true) {
        return &[];
    }
    let mut at = SIGNATURE.len() as u64;
    for _ in 0..MOST_CHUNKS {
        let rest = length - at;
        if rest < END.len() as u64 {
            // A part of it may be there.
            let mut part = [0; END.len()];
            let part = &mut part[..rest as usize];
            let is_part = read_at(part, at).is_some() && END.starts_with(part);
            return if is_part { &END[part.len()..] } else { &[] };
        }
        // The length of what a chunk holds, its kind, that, and a checksum.
        let mut head = [0; 8];
        let next = read_at(&mut head, at).and_then(|()| {
            let [a, b, c, d, kind @ ..] = head;
            (kind != *b"IEND" && kind.iter().all(u8::is_ascii_alphabetic))
                .then_some(at + u64::from(u32::from_be_bytes([a, b, c, d])) + END.len() as u64)
        });
        match next.filter(|&next| next <= length) {
            Some(next) => at = next,
            None => return &[],
        }
    }
    &[]
}

/// A file of so many bytes, and an end that it lacks.
pub(super) struct Ended<R> {
    file: R,
    length: u64,
    end: &'static [u8],
    position: u64,
}

impl<R: BufRead + Seek> Ended<R> {
    pub fn new(file: R, length: u64, end: &'static [u8]) -> Self {
        Self { file, length, end, position: 0 }
    }

    fn rest(&self) -> &'static [u8] {
        self.end.get(self.position.saturating_sub(self.length) as usize..).unwrap_or(&[])
    }
}

impl<R: BufRead + Seek> Read for Ended<R> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let count = self.fill_buf()?.read(bytes)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead + Seek> BufRead for Ended<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        if self.position < self.length { self.file.fill_buf() } else { Ok(self.rest()) }
    }

    fn consume(&mut self, count: usize) {
        if self.position < self.length {
            self.file.consume(count);
        }
        self.position += count as u64;
    }
}

impl<R: BufRead + Seek> Seek for Ended<R> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let whole = self.length + self.end.len() as u64;
        let wanted = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => whole.checked_add_signed(by),
        };
        let wanted = wanted.ok_or(std::io::ErrorKind::InvalidInput)?;
        self.file.seek(SeekFrom::Start(wanted.min(self.length)))?;
        self.position = wanted;
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn what_is_lacking_is_read_as_if_it_were_there() {
        // A checksum that ends as the last chunk begins.
        let chunk = b"\0\0\0\x03IDATabc\x01\x02\0\0";
        let whole = [SIGNATURE, chunk, chunk, END].concat();
        let lacking = |file: &[u8]| {
            lacking(file.len() as u64, |bytes, at| {
                bytes.copy_from_slice(file.get(at as usize..)?.get(..bytes.len())?);
                Some(())
            })
        };
        for cut in 0..=END.len() {
            let file = &whole[..whole.len() - cut];
            let end = lacking(file);
            assert_eq!(end.len(), cut);
            let mut ended = Ended::new(Cursor::new(file), file.len() as u64, end);
            let mut read = Vec::new();
            ended.read_to_end(&mut read).unwrap();
            assert_eq!(read, whole, "{cut}");
            assert_eq!(ended.seek(SeekFrom::End(-3)).unwrap(), whole.len() as u64 - 3);
            assert_eq!(ended.fill_buf().unwrap()[0], whole[whole.len() - 3], "{cut}");
            ended.seek(SeekFrom::Start(2)).unwrap();
            ended.seek(SeekFrom::Current(1)).unwrap();
            let mut some = [0; 2];
            ended.read_exact(&mut some).unwrap();
            assert_eq!(some, whole[3..5]);
        }
        for other in [
            &b"\xff\xd8\xff\xe0 a JPEG"[..],
            b"",
            SIGNATURE,
            &whole[..whole.len() - 13],
            &[&whole[..], b"more"].concat(),
        ] {
            assert!(lacking(other).is_empty() || other == SIGNATURE, "{other:?}");
        }
    }
}
