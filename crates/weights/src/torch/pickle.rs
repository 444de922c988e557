//! An interpreter for the pickles that torch.save writes. It runs no code.
//!
//! A pickle is a program for a machine with a stack. In Python that machine imports any name and calls it; this one knows
//! the few names below and turns them into plain values. Whatever else a training program has put beside its state dict, of any
//! name, is an opaque value: nothing is imported, called or looked into, and what is made of it is opaque, too. Values live in one list and refer to each other by place: no opcode copies what is there already, and no
//! recursion takes apart what is nested. What each step keeps is counted before it is kept.

use std::collections::HashMap;

use archives::{Budget, Checked};

use super::values::{Id, Name, StorageAt, TensorAt, Unpickled, Value, Values};
use crate::limits::{LONGEST_PICKLE, LONGEST_STORAGE_NAME, MOST_VALUES};
use crate::tensor::Dtype;

/// A list that grows has room for up to twice what is in it.
const GROWTH: usize = 2;
/// What the allocator adds to a block of its own, and the block's smallest size.
const BLOCK: usize = 48;

const NAMES: [(&str, &str, Name); 18] = [
    ("collections", "OrderedDict", Name::OrderedDict),
    ("collections", "defaultdict", Name::DefaultDict),
    ("torch", "Size", Name::Size),
    ("torch._utils", "_rebuild_tensor", Name::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v2", Name::RebuildTensor),
    ("torch._utils", "_rebuild_parameter", Name::RebuildParameter),
    ("torch._utils", "_rebuild_parameter_with_state", Name::RebuildParameter),
    ("torch._tensor", "_rebuild_from_type_v2", Name::RebuildFromType),
    ("torch", "FloatStorage", Name::Storage(Dtype::F32)),
    ("torch", "DoubleStorage", Name::Storage(Dtype::F64)),
    ("torch", "HalfStorage", Name::Storage(Dtype::F16)),
    ("torch", "BFloat16Storage", Name::Storage(Dtype::BF16)),
    ("torch", "LongStorage", Name::Storage(Dtype::I64)),
    ("torch", "IntStorage", Name::Storage(Dtype::I32)),
    ("torch", "ShortStorage", Name::Storage(Dtype::I16)),
    ("torch", "CharStorage", Name::Storage(Dtype::I8)),
    ("torch", "ByteStorage", Name::Storage(Dtype::U8)),
    ("torch", "BoolStorage", Name::Storage(Dtype::Bool)),
];

/// Opcodes that are refused, by the names that Python's pickletools give them.
const REFUSED: [(u8, &str); 10] = [
    (b'i', "INST"),
    (b'o', "OBJ"),
    (0x82, "EXT1"),
    (0x83, "EXT2"),
    (0x84, "EXT4"),
    (b'P', "PERSID"),
    (0x97, "NEXT_BUFFER"),
    (0x98, "READONLY_BUFFER"),
    (b'I', "INT"),
    (b'V', "UNICODE"),
];

/// Runs the pickle at the start of `bytes`; what it made, and its length.
pub(crate) fn unpickle<'a>(bytes: &'a [u8], budget: &Budget) -> Checked<(Unpickled<'a>, usize)> {
    let mut machine = Machine {
        bytes: &bytes[..bytes.len().min(LONGEST_PICKLE)],
        budget,
        position: 0,
        values: Values::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        pushed: 0,
        foreign: None,
    };
    let root = loop {
        let at = machine.position;
        let opcode = machine.take(1)?[0];
        match machine.step(opcode) {
            Ok(None) => {}
            Ok(Some(root)) => break root,
            Err(reason) => return Err(format!("{reason} (at byte {at})")),
        }
    };
    Ok((Unpickled { values: machine.values, root, foreign: machine.foreign }, machine.position))
}

struct Machine<'a, 'b> {
    bytes: &'a [u8],
    budget: &'b Budget,
    position: usize,
    values: Values<'a>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// How often something was put on the stack.
    pushed: usize,
    foreign: Option<(&'a str, &'a str)>,
}

impl<'a> Machine<'a, '_> {
    fn take(&mut self, length: usize) -> Checked<&'a [u8]> {
        let end = self.position.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| match self.bytes.len() {
            LONGEST_PICKLE => format!("is a pickle of more than {LONGEST_PICKLE} bytes, which no state dict needs"),
            _ => "is cut off".to_owned(),
        })?;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    /// A little-endian number of `length` bytes.
    fn number(&mut self, length: usize) -> Checked<u64> {
        Ok(self.take(length)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Checked<&'a str> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().take(1024).position(|&byte| byte == b'\n').ok_or("has a name without an end")?;
        let line = self.take(length + 1)?;
        text(&line[..length])
    }

    /// Counts a step that keeps so many `bytes`.
    fn count(&mut self, bytes: usize) -> Checked<()> {
        self.pushed += 1;
        if self.pushed > MOST_VALUES {
            return Err(format!("makes more than {MOST_VALUES} values; no state dict has so many"));
        }
        self.budget.take(bytes * GROWTH)
    }

    fn push(&mut self, value: Value<'a>) -> Checked<()> {
        self.count(size_of::<Value<'_>>() + size_of::<Id>())?;
        self.stack.push(Id(self.values.0.len() as u32));
        self.values.0.push(value);
        Ok(())
    }

    /// What is there already is named once more, however large it is.
    fn push_again(&mut self, id: Id) -> Checked<()> {
        self.count(size_of::<Id>())?;
        self.stack.push(id);
        Ok(())
    }

    fn push_tuple(&mut self, from: usize) -> Checked<()> {
        self.budget.take(BLOCK + (self.stack.len() - from) * size_of::<Id>())?;
        // Not split_off: that may give the room of the whole stack away with the items.
        let items = self.stack.drain(from..).collect();
        self.push(Value::Tuple(items))
    }

    fn pop(&mut self) -> Checked<Id> {
        self.top()?;
        self.stack.pop().ok_or_else(empty_stack)
    }

    /// The value on top of the stack, in the group that was begun last.
    fn top(&self) -> Checked<Id> {
        self.stack.last().copied().filter(|_| self.floor() < self.stack.len()).ok_or_else(empty_stack)
    }

    /// Where on the stack the group that was begun last, and has not ended, begins.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    /// Where on the stack the last group begins.
    fn pop_mark(&mut self) -> Checked<usize> {
        let mark = self.marks.pop().ok_or("ends a group that was not begun")?;
        Ok(mark.min(self.stack.len()))
    }

    fn pop_to_mark(&mut self) -> Checked<Vec<Id>> {
        let mark = self.pop_mark()?;
        Ok(self.stack.drain(mark..).collect())
    }

    fn value(&self, id: Id) -> &Value<'a> {
        self.values.value(id)
    }

    fn remember(&mut self, key: u32) -> Checked<()> {
        let top = self.top()?;
        self.count(2 * size_of::<(u32, Id)>())?; // a table is half empty, and grows
        self.memo.insert(key, top);
        Ok(())
    }

    fn remembered(&mut self, key: u32) -> Checked<()> {
        let id = self.memo.get(&key).copied().ok_or_else(|| format!("uses a value {key} that was not kept"))?;
        self.push_again(id)
    }

    fn step(&mut self, opcode: u8) -> Checked<Option<Id>> {
        match opcode {
            0x80 => {
                let protocol = self.number(1)?;
                if !(2..=5).contains(&protocol) {
                    return Err(format!("has protocol {protocol}; 2 to 5 are read"));
                }
            }
            0x95 => {
                self.number(8)?; // a frame: its length is of no use here
            }
            b'.' => return self.pop().map(Some),
            b'(' => {
                self.count(size_of::<usize>())?;
                self.marks.push(self.stack.len());
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                let mark = self.pop_mark()?;
                self.stack.truncate(mark);
            }
            b'2' => {
                let top = self.top()?;
                self.push_again(top)?;
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' => {
                let number = self.number(4)? as u32 as i32;
                self.push(Value::Int(number.into()))?;
            }
            b'K' | b'M' => {
                let number = self.number(if opcode == b'K' { 1 } else { 2 })?;
                self.push(Value::Int(number as i64))?;
            }
            0x8a => {
                let length = self.number(1)? as usize;
                self.push_integer(length)?;
            }
            0x8b => {
                let length = self.number(4)? as usize;
                self.push_integer(length)?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Float)?;
            }
            b'X' | 0x8c | 0x8d | b'T' | b'U' => {
                let length = self.number(match opcode {
                    0x8c | b'U' => 1,
                    0x8d => 8,
                    _ => 4,
                })?;
                let bytes = self.take(usize::try_from(length).map_err(|error| error.to_string())?)?;
                self.push(Value::Text(text(bytes)?))?;
            }
            b'B' | b'C' | 0x8e => {
                let length = self.number(match opcode {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                })?;
                self.take(usize::try_from(length).map_err(|error| error.to_string())?)?;
                self.push(Value::Bytes)?;
            }
            0x96 => {
                let length = self.number(8)?;
                self.take(usize::try_from(length).map_err(|error| error.to_string())?)?;
                self.push(Value::Opaque)?;
            }
            0x8f => self.push(Value::Opaque)?, // a set
            0x90 => {
                let mark = self.pop_mark()?;
                self.stack.truncate(mark);
                if !matches!(self.value(self.top()?), Value::Opaque) {
                    return Err("adds to something that is not a set".to_owned());
                }
            }
            0x91 => {
                let mark = self.pop_mark()?;
                self.stack.truncate(mark);
                self.push(Value::Opaque)?;
            }
            // A new object, with arguments, and perhaps named ones.
            0x81 | 0x92 => {
                for _ in 0..if opcode == 0x81 { 2 } else { 3 } {
                    self.pop()?;
                }
                self.push(Value::Opaque)?;
            }
            b')' => self.push(Value::Tuple(Box::default()))?,
            b't' => {
                let mark = self.pop_mark()?;
                self.push_tuple(mark)?;
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(opcode - 0x84));
                self.push_tuple(from.filter(|&from| from >= self.floor()).ok_or_else(empty_stack)?)?;
            }
            b']' => {
                self.budget.take(BLOCK)?;
                self.push(Value::List(Vec::new()))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend_list(items)?;
            }
            b'}' => {
                self.budget.take(BLOCK)?;
                self.push(Value::Dict(Vec::new()))?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.extend_dict(items)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_name(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (&Value::Text(name), &Value::Text(module)) = (self.value(name), self.value(module)) else {
                    return Err("imports something without a name".to_owned());
                };
                self.push_name(module, name)?;
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                match self.apply(function, arguments)? {
                    Applied::New(value) => self.push(value)?,
                    Applied::Same(id) => self.push_again(id)?,
                }
            }
            b'b' => {
                self.pop()?; // the attributes of an object: `_metadata` of a state dict
                self.top()?;
            }
            b'Q' => {
                let id = self.pop()?;
                match self.storage(id)? {
                    None => self.push(Value::Opaque)?,
                    Some(storage) => {
                        self.budget.take(BLOCK + size_of::<StorageAt<'_>>())?;
                        self.push(Value::Storage(Box::new(storage)))?;
                    }
                }
            }
            b'q' | b'r' => {
                let key = self.number(if opcode == b'q' { 1 } else { 4 })? as u32;
                self.remember(key)?;
            }
            0x94 => {
                self.remember(self.memo.len() as u32)?;
            }
            b'h' => {
                let key = self.number(1)? as u32;
                self.remembered(key)?;
            }
            b'j' => {
                let key = self.number(4)? as u32;
                self.remembered(key)?;
            }
            other => {
                let known = REFUSED.iter().find(|(opcode, _)| *opcode == other);
                let name = known.map_or("unknown", |(_, name)| name);
                return Err(format!("uses the opcode 0x{other:02x} ({name}), which no state dict needs"));
            }
        }
        Ok(None)
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Checked<()> {
        let list = self.top()?;
        self.budget.take(items.len() * size_of::<Id>() * GROWTH)?;
        match &mut self.values.0[list.0 as usize] {
            Value::List(list) => list.extend(items),
            Value::Opaque => {}
            _ => return Err("appends to something that is not a list".to_owned()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<Id>) -> Checked<()> {
        let dict = self.top()?;
        if !items.len().is_multiple_of(2) {
            return Err("sets a key without a value".to_owned());
        }
        self.budget.take(items.len() * size_of::<Id>() * GROWTH)?;
        match &mut self.values.0[dict.0 as usize] {
            Value::Dict(pairs) => pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            Value::Opaque => {}
            _ => return Err("sets a key of something that is not a dict".to_owned()),
        }
        Ok(())
    }

    fn push_name(&mut self, module: &'a str, name: &'a str) -> Checked<()> {
        let known = NAMES.iter().find(|(known_module, known_name, _)| (module, name) == (known_module, known_name));
        if known.is_none() {
            self.foreign = self.foreign.or(Some((module, name)));
        }
        self.push(known.map_or(Value::Opaque, |(_, _, name)| Value::Name(*name)))
    }

    /// An integer of so many bytes, the lowest first; one that is too large is opaque.
    fn push_integer(&mut self, length: usize) -> Checked<()> {
        if length > 8 {
            self.take(length)?;
            return self.push(Value::Opaque);
        }
        let number = self.number(length)?;
        let unused = 64 - 8 * length as u32;
        let number = if length == 0 { 0 } else { ((number << unused) as i64) >> unused };
        self.push(Value::Int(number))
    }

    /// What a call of one of the known names gives.
    fn apply(&self, function: Id, arguments: Id) -> Checked<Applied<'a>> {
        let name = match self.value(function) {
            &Value::Name(name) => name,
            Value::Opaque => return Ok(Applied::New(Value::Opaque)),
            _ => return Err("calls something that is not a function".to_owned()),
        };
        let arguments = self.values.tuple(arguments)?;
        match (name, arguments) {
            (Name::OrderedDict, []) => {
                self.budget.take(BLOCK)?;
                Ok(Applied::New(Value::Dict(Vec::new())))
            }
            // Its only argument says what is missing, and nothing is.
            (Name::DefaultDict, [] | [_]) => {
                self.budget.take(BLOCK)?;
                Ok(Applied::New(Value::Dict(Vec::new())))
            }
            // A size is the tuple that it is made of, and a parameter its tensor: neither is copied.
            (Name::Size, &[sizes]) => self.values.tuple(sizes).map(|_| Applied::Same(sizes)),
            (Name::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                if let Value::Opaque = self.value(storage) {
                    return Ok(Applied::New(Value::Opaque)); // of a type that has no numbers
                }
                let axes = self.values.sizes(shape)?.len();
                if axes != self.values.sizes(strides)?.len() || !matches!(self.value(storage), Value::Storage(_)) {
                    return Err("describes a tensor that cannot be".to_owned());
                }
                let offset = self.values.size(offset)?;
                Ok(Applied::New(Value::Tensor(TensorAt { storage, offset, shape, strides })))
            }
            (Name::RebuildParameter, &[data, ..]) => match self.value(data) {
                Value::Tensor(_) | Value::Opaque => Ok(Applied::Same(data)),
                _ => Err("describes a parameter that is not a tensor".to_owned()),
            },
            (Name::RebuildFromType, &[rebuild, _, inner, ..]) => match self.value(rebuild) {
                Value::Name(Name::RebuildFromType) => Err("describes a tensor that cannot be".to_owned()),
                _ => self.apply(rebuild, inner),
            },
            // A dict or a size, say, that was made in a way of its own.
            (Name::OrderedDict | Name::DefaultDict | Name::Size, _) => Ok(Applied::New(Value::Opaque)),
            _ => Err(format!("calls {name:?} in a way that torch.save does not")),
        }
    }

    /// `("storage", type, key, device, values[, view])`; `None` for one of a type that is not known.
    fn storage(&self, id: Id) -> Checked<Option<StorageAt<'a>>> {
        let fields = self.values.tuple(id)?;
        let (word, kind, key, elements, view) = match *fields {
            [word, kind, key, _, elements] => (word, kind, key, elements, None),
            [word, kind, key, _, elements, view] => (word, kind, key, elements, Some(view)),
            _ => return Err("refers to something that is no storage".to_owned()),
        };
        if view.is_some_and(|view| !matches!(self.value(view), Value::None)) {
            return Err("has a storage that is the view of another".to_owned());
        }
        match (self.value(word), self.value(kind), self.value(key)) {
            (Value::Text("storage"), &Value::Name(Name::Storage(_)), &Value::Text(key))
                if key.len() > LONGEST_STORAGE_NAME =>
            {
                Err(format!("has a storage whose name is {} bytes long", key.len()))
            }
            (Value::Text("storage"), &Value::Name(Name::Storage(dtype)), &Value::Text(key)) => {
                Ok(Some(StorageAt { key, dtype, elements: self.values.size(elements)? }))
            }
            (Value::Text("storage"), Value::Opaque, _) => Ok(None),
            _ => Err("refers to something that is no storage".to_owned()),
        }
    }
}

/// What a call gives.
enum Applied<'a> {
    New(Value<'a>),
    /// A value that is there already.
    Same(Id),
}

fn empty_stack() -> String {
    "takes from an empty stack".to_owned()
}

fn text(bytes: &[u8]) -> Checked<&str> {
    std::str::from_utf8(bytes).map_err(|_| "has a text that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpickled(pickle: &[u8]) -> Checked<(Unpickled<'_>, usize)> {
        unpickle(pickle, &crate::limits::budget(pickle.len()))
    }

    fn error(pickle: &[u8]) -> String {
        unpickled(pickle).unwrap_err()
    }

    #[test]
    fn code_is_opaque_and_not_run() {
        // What pickle.dumps makes of an object whose __reduce__ is (os.system, ("touch /tmp/pwned",)).
        let system = b"\x80\x02cposix\nsystem\nq\x00X\x10\x00\x00\x00touch /tmp/pwnedq\x01\x85q\x02Rq\x03.";
        let by_stack = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.";
        // An object with a state; a set; an integer of nine bytes; a list that is none.
        let object = b"\x80\x02cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrK\x01sb.";
        let large = b"\x80\x02\x8a\x09123456789.";
        let list = b"\x80\x02ccollections\ndeque\n)R(K\x01K\x02e.";
        for pickle in [&system[..], by_stack, object, large, list, b"\x80\x04\x8f(K\x01\x90.", b"\x80\x04(K\x01\x91."] {
            let (unpickled, length) = unpickled(pickle).unwrap();
            assert!(matches!(unpickled.value(unpickled.root), Value::Opaque), "{pickle:?}");
            assert_eq!(length, pickle.len());
        }
        assert!(error(b"\x80\x02(X\x01\x00\x00\x00aios\nsystem\n.").contains("opcode 0x69 (INST)"));
        assert!(error(b"\x80\x02\xff.").contains("opcode 0xff (unknown)"));
    }

    #[test]
    fn broken_programs_have_a_reason() {
        for (pickle, words) in [
            (&b""[..], "cut off"),
            (b"\x80\x02", "cut off"),
            (b"\x80\x09", "protocol 9"),
            (b".", "empty stack"),
            (b"t", "not begun"),
            (b"(0", "empty stack"),
            (b"X\xff\xff\xff\xffabc", "cut off"),
            (b"Na", "empty stack"),
            (b"NNa", "not a list"),
            (b"}Ns", "empty stack"),
            (b"}(Nu", "without a value"),
            (b"h\x07", "value 7"),
            (b"NNR", "not a function"),
            (b"NQ", "tuple"),
            (b"cos\nsystem", "without an end"),
            (b"\x8a\x09123", "cut off"),
            (b"(K\x01\x90.", "empty stack"),
            (b"N(K\x01\x90.", "not a set"),
        ] {
            let reason = error(pickle);
            assert!(reason.contains(words), "{pickle:?}: {reason}");
        }
    }

    #[test]
    fn nesting_and_sharing_cost_no_more_than_the_pickle_is_long() {
        // Lists, each in the other: no recursion takes them apart.
        let mut deep = vec![b']'; 300_000];
        deep.extend(vec![b'a'; 299_999]);
        deep.push(b'.');
        assert!(unpickled(&deep).is_ok());
        // "A billion laughs": each tuple holds the one before twice.
        let mut laughs = b")q\x00".to_vec();
        laughs.extend(b"h\x00h\x00\x86q\x00".repeat(10_000));
        laughs.push(b'.');
        assert!(unpickled(&laughs).is_ok());
        assert!(error(&vec![b'('; 3_000_000]).contains("more than 2097152 values"));
        assert!(error(&vec![b'N'; 3_000_000]).contains("more memory than 64 MB and 4 times the file"));
    }

    #[test]
    fn a_call_does_not_copy_what_it_is_given() {
        let mut program = b"(".to_vec();
        program.extend(b"K\x01".repeat(1000));
        program.extend(b"tq\x00ctorch\nSize\nh\x00\x85R.");
        let (unpickled, _) = unpickled(&program).unwrap();
        let tuples = unpickled.values.0.iter().filter(|value| matches!(value, Value::Tuple(items) if items.len() > 1));
        assert_eq!(tuples.count(), 1);
        assert!(matches!(unpickled.value(unpickled.root), Value::Tuple(items) if items.len() == 1000));
    }

    #[test]
    fn numbers_have_their_sign() {
        for (pickle, expected) in [
            (&b"J\xff\xff\xff\xff."[..], -1),
            (b"K\xff.", 255),
            (b"M\x00\x01.", 256),
            (b"\x8a\x00.", 0),
            (b"\x8a\x01\xfe.", -2),
            (b"\x8a\x05\x00\x00\x00\x00\x01.", 1 << 32),
        ] {
            let (unpickled, length) = unpickled(pickle).unwrap();
            assert!(matches!(unpickled.value(unpickled.root), Value::Int(number) if *number == expected), "{pickle:?}");
            assert_eq!(length, pickle.len());
        }
    }
}
