//! What CIFAR's files for Python hold, pickles of a dict with an array and lists, and pickles of one image with its label. No pickle is run here: its instructions are read one
//! after the other, and of each only how long it is and the text, the number or the bytes in it.

use std::ops::Range;

use super::Checked;

/// What an instruction of a pickle brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Text(&'a [u8]),
    Number(i64),
    Bool(bool),
    /// The end of a part of a list.
    ListEnd,
    Other,
}

/// The lists of numbers and of texts in a dict, and its largest text of bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Under the key `data`: where in the file.
    pub data: Range<usize>,
    pub labels: Vec<i64>,
    pub names: Vec<String>,
    /// The numbers and texts that stand before the array's bytes, and whether these are in Fortran's order, if that stands right before
    /// them, as NumPy writes it.
    before: (Vec<i64>, Vec<Vec<u8>>),
    is_fortran: Option<bool>,
}

impl Found {
    /// Whether the array is one of `rows` of so many bytes, one after the other.
    pub fn is_rows_of(&self, rows: usize, bytes: usize) -> bool {
        let (numbers, texts) = &self.before;
        let is_byte = texts.iter().any(|text| [&b"u1"[..], b"uint8", b"|u1"].contains(&&text[..]));
        let has_shape = numbers.windows(2).any(|pair| *pair == [rows as i64, bytes as i64]);
        is_byte && has_shape && self.is_fortran == Some(false)
    }
}

/// Looks for an array called `data`, numbers called `labels` and texts called `names` in the pickle of a dict.
pub(super) fn look_through(bytes: &[u8], labels: &str, names: &str) -> Checked<Found> {
    const KEYS: [&str; 10] = [
        "data",
        "labels",
        "fine_labels",
        "coarse_labels",
        "label_names",
        "fine_label_names",
        "coarse_label_names",
        "batch_label",
        "filenames",
        "num_vis",
    ];
    let mut found = Found::default();
    let (mut key, mut last) = ("", Token::Other);
    let mut before = (Vec::new(), Vec::new());
    let mut rest = bytes;
    while let Some(token) = next(&mut rest)? {
        match token {
            Token::Text(text) => {
                let known = KEYS.iter().find(|known| known.as_bytes() == text);
                match known {
                    Some(known) => key = known,
                    // The longest is the array; its type and the name of its kind are short.
                    None if key == "data" && text.len() > found.data.len() => {
                        let end = bytes.len() - rest.len();
                        found.data = end - text.len()..end;
                        found.before.clone_from(&before);
                        found.is_fortran = if let Token::Bool(flag) = last { Some(flag) } else { None };
                        if text.len() < SHORT {
                            before.1.push(text.to_vec());
                        }
                    }
                    None if key == "data" && text.len() < SHORT => before.1.push(text.to_vec()),
                    None if key == names => found.names.push(String::from_utf8_lossy(text).into_owned()),
                    None => {}
                }
            }
            Token::Number(number) if key == labels => found.labels.push(number),
            Token::Number(number) if key == "data" && before.0.len() < SHORT => before.0.push(number),
            // What follows the names is another key.
            Token::ListEnd if key == names => key = "",
            Token::Number(_) | Token::Bool(_) | Token::ListEnd | Token::Other => {}
        }
        if token != Token::Other {
            last = token;
        }
    }
    Ok(found)
}

/// The texts, bytes too, and the whole numbers of a pickle.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TextsAndNumbers {
    /// Where each is.
    pub texts: Vec<Range<usize>>,
    pub numbers: Vec<i64>,
}

/// Looks for texts and numbers in the pickle of something small: a pair, a dict.
pub(super) fn texts_and_numbers(bytes: &[u8]) -> Checked<TextsAndNumbers> {
    let mut found = TextsAndNumbers::default();
    let mut rest = bytes;
    while let Some(token) = next(&mut rest)? {
        if found.texts.len() + found.numbers.len() >= SHORT {
            return Err("holds more than an image and a label".to_owned());
        }
        match token {
            Token::Text(text) => {
                let end = bytes.len() - rest.len();
                found.texts.push(end - text.len()..end);
            }
            Token::Number(number) => found.numbers.push(number),
            Token::Bool(_) | Token::ListEnd | Token::Other => {}
        }
    }
    Ok(found)
}

/// More texts and numbers than that, and longer ones, do not describe an array.
const SHORT: usize = 64;

/// The next instruction, which is taken off `rest`; `None` behind the last.
fn next<'a>(rest: &mut &'a [u8]) -> Checked<Option<Token<'a>>> {
    const CUT: &str = "is cut off: a pickle without an end";
    let mut take = |length: usize| -> Checked<&'a [u8]> {
        let (taken, behind) = rest.split_at_checked(length).ok_or(CUT)?;
        *rest = behind;
        Ok(taken)
    };
    let opcode = take(1)?[0];
    let mut number = |length: usize| -> Checked<u64> {
        Ok(take(length)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    };
    let length = match opcode {
        b'.' => return Ok(None),
        b'K' => return Ok(Some(Token::Number(number(1)? as i64))),
        b'M' => return Ok(Some(Token::Number(number(2)? as i64))),
        b'J' => return Ok(Some(Token::Number(i64::from(number(4)? as u32 as i32)))),
        // Texts and bytes by the length of their length.
        b'U' | b'C' | 0x8c => number(1)?,
        b'T' | b'X' | b'B' => number(4)?,
        0x8d | 0x8e | 0x96 => number(8)?,
        // Lines: names of classes, and numbers of the oldest protocol.
        b'c' | b'i' => {
            for _ in 0..2 {
                let end = rest.iter().position(|&byte| byte == b'\n').ok_or(CUT)?;
                *rest = &rest[end + 1..];
            }
            return Ok(Some(Token::Other));
        }
        b'I' | b'L' | b'F' | b'S' | b'V' | b'P' | b'p' | b'g' => {
            let end = rest.iter().position(|&byte| byte == b'\n').ok_or(CUT)?;
            let line = &rest[..end];
            *rest = &rest[end + 1..];
            let number = str::from_utf8(line).ok().and_then(|line| line.trim_end_matches('L').parse().ok());
            return Ok(Some(match (opcode, number) {
                (b'I' | b'L', Some(number)) => Token::Number(number),
                _ => Token::Other,
            }));
        }
        0x8a => {
            let length = number(1)?;
            take(length as usize)?;
            return Ok(Some(Token::Other));
        }
        0x8b => {
            let length = number(4)?;
            take(length as usize)?;
            return Ok(Some(Token::Other));
        }
        // Of a fixed length, of which nothing is wanted.
        b'q' | b'h' | 0x80 | 0x82 => return take(1).map(|_| Some(Token::Other)),
        0x83 => return take(2).map(|_| Some(Token::Other)),
        b'r' | b'j' | 0x84 => return take(4).map(|_| Some(Token::Other)),
        b'G' | 0x95 => return take(8).map(|_| Some(Token::Other)),
        0x88 | 0x89 => return Ok(Some(Token::Bool(opcode == 0x88))),
        b'a' | b'e' => return Ok(Some(Token::ListEnd)),
        // Without anything behind them.
        _ if b"(012NQRbd}l]ost)u\x81\x85\x86\x87\x8f\x90\x91\x92\x93\x94\x97\x98".contains(&opcode) => {
            return Ok(Some(Token::Other));
        }
        other => return Err(format!("is no pickle: it has the instruction 0x{other:02x}")),
    };
    take(usize::try_from(length).map_err(|_| CUT)?).map(|text| Some(Token::Text(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_python_2_wrote() {
        // {'data': numpy.zeros(…), 'labels': [6, 300], 'batch_label': 'x'}, as cPickle has it.
        let pickle = b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05\
            (K\x01K\x01K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89\
            T\x03\x00\x00\x00\x01\x02\x03tbU\x06labelsq\x08]q\x09(K\x06M\x2c\x01eU\x0bbatch_labelq\x0aU\x01xu.";
        let found = look_through(pickle, "labels", "label_names").unwrap();
        assert_eq!((&pickle[found.data.clone()], &found.labels[..]), (&[1, 2, 3][..], &[6, 300][..]));
        assert!(found.is_rows_of(1, 3) && !found.is_rows_of(3, 1));
        let fortran = pickle.iter().map(|&byte| if byte == 0x89 { 0x88 } else { byte }).collect::<Vec<_>>();
        assert!(!look_through(&fortran, "labels", "label_names").unwrap().is_rows_of(1, 3));
        let names = b"\x80\x02}q\x01(U\x0blabel_namesq\x02]q\x03(U\x08airplaneq\x04U\x04birdq\x05eU\x05otherK\x07u.";
        assert_eq!(look_through(names, "labels", "label_names").unwrap().names, ["airplane", "bird"]);
        for end in 0..pickle.len() {
            assert!(look_through(&pickle[..end], "labels", "label_names").is_err(), "{end}");
        }
        assert!(look_through(b"GIF89a", "labels", "").unwrap_err().contains("pickle"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_through_or_refused(bytes: Vec<u8>) {
            let _ = look_through(&bytes, "labels", "label_names");
            let _ = texts_and_numbers(&bytes);
        }
    }
}
