//! An interpreter for the pickles that torch.save writes. It runs no code.
//!
//! A pickle is a program for a machine with a stack. In Python that machine imports any name and calls it; this one knows
//! the few names below and turns them into plain values, and refuses every other name and every opcode that state dicts
//! do not need. Values live in one list and refer to each other by place, so that neither sharing nor nesting costs more
//! than the pickle is long.

use std::collections::HashMap;

use super::assemble::{StorageAt, TensorAt};
use crate::error::Checked;
use crate::tensor::Dtype;

/// Most values that a pickle may make, those on the stack included. The largest state dicts need some ten thousand.
const MOST_VALUES: usize = 1 << 21;
/// Most axes of a tensor.
const MOST_AXES: usize = 16;

/// The place of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Id(u32);

/// What a pickle made.
#[derive(Debug)]
pub(crate) struct Unpickled<'a> {
    values: Vec<Value<'a>>,
    /// What the program left on the stack.
    pub root: Id,
}

/// A value; text and bytes stay in the file.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(&'a str),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Name(Name),
    Storage(StorageAt<'a>),
    Tensor(TensorAt),
}

/// The names that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Name {
    OrderedDict,
    Size,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

const NAMES: [(&str, &str, Name); 15] = [
    ("collections", "OrderedDict", Name::OrderedDict),
    ("torch", "Size", Name::Size),
    ("torch._utils", "_rebuild_tensor", Name::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v2", Name::RebuildTensor),
    ("torch._utils", "_rebuild_parameter", Name::RebuildParameter),
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
const REFUSED: [(u8, &str); 16] = [
    (b'i', "INST"),
    (b'o', "OBJ"),
    (0x81, "NEWOBJ"),
    (0x92, "NEWOBJ_EX"),
    (0x82, "EXT1"),
    (0x83, "EXT2"),
    (0x84, "EXT4"),
    (b'P', "PERSID"),
    (0x8f, "EMPTY_SET"),
    (0x90, "ADDITEMS"),
    (0x91, "FROZENSET"),
    (0x96, "BYTEARRAY8"),
    (0x97, "NEXT_BUFFER"),
    (0x98, "READONLY_BUFFER"),
    (b'I', "INT"),
    (b'V', "UNICODE"),
];

impl<'a> Unpickled<'a> {
    pub(crate) fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    /// The value of `key` in a dict.
    pub(crate) fn get(&self, dict: Id, key: &str) -> Option<&Value<'a>> {
        let Value::Dict(items) = self.value(dict) else { return None };
        let found = items.iter().find(|&&(name, _)| matches!(self.value(name), Value::Text(text) if *text == key));
        found.map(|&(_, value)| self.value(value))
    }

    pub(crate) fn is_tensor(&self, id: Id) -> bool {
        matches!(self.value(id), Value::Tensor(_))
    }

    /// All storages that are named.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &StorageAt<'a>> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(storage),
            _ => None,
        })
    }
}

/// Runs the pickle at the start of `bytes`; what it made, and its length.
pub(crate) fn unpickle(bytes: &[u8]) -> Checked<(Unpickled<'_>, usize)> {
    let mut machine = Machine {
        bytes,
        position: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        pushed: 0,
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
    Ok((Unpickled { values: machine.values, root }, machine.position))
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// How often something was put on the stack.
    pushed: usize,
}

impl<'a> Machine<'a> {
    fn take(&mut self, length: usize) -> Checked<&'a [u8]> {
        let end = self.position.checked_add(length).filter(|&end| end <= self.bytes.len()).ok_or("is cut off")?;
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

    fn count(&mut self) -> Checked<()> {
        self.pushed += 1;
        if self.pushed > MOST_VALUES {
            return Err(format!("makes more than {MOST_VALUES} values; no state dict has so many"));
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Checked<()> {
        self.count()?;
        self.stack.push(Id(self.values.len() as u32));
        self.values.push(value);
        Ok(())
    }

    fn push_again(&mut self, id: Id) -> Checked<()> {
        self.count()?;
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Checked<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("takes from an empty stack".to_owned());
        }
        Ok(self.stack.pop().expect("the stack is higher than its floor"))
    }

    fn top(&self) -> Checked<Id> {
        self.stack.last().copied().ok_or_else(|| "takes from an empty stack".to_owned())
    }

    fn pop_to_mark(&mut self) -> Checked<Vec<Id>> {
        let mark = self.marks.pop().ok_or("ends a group that was not begun")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
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
                self.count()?;
                self.marks.push(self.stack.len());
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_to_mark()?;
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
                if length > 8 {
                    return Err(format!("has an integer of {length} bytes"));
                }
                let number = self.number(length)?;
                let unused = 64 - 8 * length as u32;
                let number = if length == 0 { 0 } else { ((number << unused) as i64) >> unused };
                self.push(Value::Int(number))?;
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
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items))?;
            }
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0..opcode - 0x84 {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Value::Tuple(items))?;
            }
            b']' => self.push(Value::List(Vec::new()))?,
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend_list(items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new()))?,
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
                let value = self.apply(function, arguments)?;
                self.push(value)?;
            }
            b'b' => {
                self.pop()?; // the attributes of an object: `_metadata` of a state dict
                if !matches!(self.value(self.top()?), Value::Dict(_)) {
                    return Err("sets the state of something that is no dict".to_owned());
                }
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage))?;
            }
            b'q' | b'r' => {
                let key = self.number(if opcode == b'q' { 1 } else { 4 })? as u32;
                let top = self.top()?;
                self.count()?;
                self.memo.insert(key, top);
            }
            0x94 => {
                let top = self.top()?;
                self.count()?;
                self.memo.insert(self.memo.len() as u32, top);
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
        match &mut self.values[list.0 as usize] {
            Value::List(list) => list.extend(items),
            _ => return Err("appends to something that is no list".to_owned()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<Id>) -> Checked<()> {
        let dict = self.top()?;
        if !items.len().is_multiple_of(2) {
            return Err("sets a key without a value".to_owned());
        }
        match &mut self.values[dict.0 as usize] {
            Value::Dict(pairs) => pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err("sets a key of something that is no dict".to_owned()),
        }
        Ok(())
    }

    fn push_name(&mut self, module: &str, name: &str) -> Checked<()> {
        let known = NAMES.iter().find(|(known_module, known_name, _)| (module, name) == (known_module, known_name));
        let short = |text: &str| text.chars().take(80).collect::<String>();
        let (_, _, name) = known.ok_or_else(|| {
            let (module, name) = (short(module), short(name));
            format!("wants {module}.{name}, which no state dict needs; nothing was run. Save model.state_dict() alone")
        })?;
        self.push(Value::Name(*name))
    }

    fn tuple(&self, id: Id) -> Checked<&[Id]> {
        match self.value(id) {
            Value::Tuple(items) => Ok(items),
            _ => Err("has something else where a tuple should be".to_owned()),
        }
    }

    fn size(&self, id: Id) -> Checked<usize> {
        match self.value(id) {
            &Value::Int(number) => usize::try_from(number).map_err(|_| format!("has a size of {number}")),
            _ => Err("has something else where a size should be".to_owned()),
        }
    }

    fn sizes(&self, id: Id) -> Checked<Vec<usize>> {
        let items = self.tuple(id)?;
        if items.len() > MOST_AXES {
            return Err(format!("has a tensor of {} axes", items.len()));
        }
        items.iter().map(|&item| self.size(item)).collect()
    }

    /// The call of one of the known names.
    fn apply(&self, function: Id, arguments: Id) -> Checked<Value<'a>> {
        let &Value::Name(name) = self.value(function) else {
            return Err("calls something that is no function".to_owned());
        };
        let arguments = self.tuple(arguments)?;
        match (name, arguments) {
            (Name::OrderedDict, []) => Ok(Value::Dict(Vec::new())),
            (Name::Size, &[sizes]) => Ok(Value::Tuple(self.tuple(sizes)?.to_vec())),
            (Name::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
                if shape.len() != strides.len() || !matches!(self.value(storage), Value::Storage(_)) {
                    return Err("describes a tensor that cannot be".to_owned());
                }
                Ok(Value::Tensor(TensorAt { storage, offset: self.size(offset)?, shape, strides }))
            }
            (Name::RebuildParameter, &[data, ..]) => match self.value(data) {
                Value::Tensor(view) => Ok(Value::Tensor(view.clone())),
                _ => Err("describes a parameter that is no tensor".to_owned()),
            },
            _ => Err(format!("calls {name:?} in a way that torch.save does not")),
        }
    }

    /// `("storage", type, key, device, values[, view])`.
    fn storage(&self, id: Id) -> Checked<StorageAt<'a>> {
        let fields = self.tuple(id)?;
        let (word, kind, key, elements, view) = match *fields {
            [word, kind, key, _, elements] => (word, kind, key, elements, None),
            [word, kind, key, _, elements, view] => (word, kind, key, elements, Some(view)),
            _ => return Err("refers to something that is no storage".to_owned()),
        };
        if view.is_some_and(|view| !matches!(self.value(view), Value::None)) {
            return Err("has a storage that is the view of another".to_owned());
        }
        match (self.value(word), self.value(kind), self.value(key)) {
            (Value::Text("storage"), &Value::Name(Name::Storage(dtype)), &Value::Text(key)) => {
                Ok(StorageAt { key, dtype, elements: self.size(elements)? })
            }
            _ => Err("refers to something that is no storage".to_owned()),
        }
    }
}

fn text(bytes: &[u8]) -> Checked<&str> {
    std::str::from_utf8(bytes).map_err(|_| "has a text that is no UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(pickle: &[u8]) -> String {
        unpickle(pickle).unwrap_err()
    }

    #[test]
    fn code_is_refused_by_name_and_not_run() {
        // What pickle.dumps makes of an object whose __reduce__ is (os.system, ("touch /tmp/pwned",)).
        let system = b"\x80\x02cposix\nsystem\nq\x00X\x10\x00\x00\x00touch /tmp/pwnedq\x01\x85q\x02Rq\x03.";
        assert!(error(system).contains("wants posix.system, which no state dict needs; nothing was run"));
        let by_stack = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.";
        assert!(error(by_stack).contains("wants builtins.eval"));
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
            (b"NNa", "no list"),
            (b"}Ns", "empty stack"),
            (b"}(Nu", "without a value"),
            (b"h\x07", "value 7"),
            (b"NNR", "no function"),
            (b"NQ", "tuple"),
            (b"cos\nsystem", "without an end"),
            (b"\x8a\x09123456789", "integer of 9 bytes"),
        ] {
            let reason = error(pickle);
            assert!(reason.contains(words), "{pickle:?}: {reason}");
        }
    }

    #[test]
    fn nesting_and_sharing_cost_no_more_than_the_pickle_is_long() {
        // A million lists, each in the other: no recursion takes them apart.
        let mut deep = vec![b']'; 1_000_000];
        deep.extend(vec![b'a'; 999_999]);
        deep.push(b'.');
        assert!(unpickle(&deep).is_ok());
        // "A billion laughs": each tuple holds the one before twice.
        let mut laughs = b")q\x00".to_vec();
        laughs.extend(b"h\x00h\x00\x86q\x00".repeat(10_000));
        laughs.push(b'.');
        assert!(unpickle(&laughs).is_ok());
        assert!(error(&vec![b'N'; 3_000_000]).contains("more than 2097152 values"));
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
            let (unpickled, length) = unpickle(pickle).unwrap();
            assert!(matches!(unpickled.value(unpickled.root), Value::Int(number) if *number == expected), "{pickle:?}");
            assert_eq!(length, pickle.len());
        }
    }
}
