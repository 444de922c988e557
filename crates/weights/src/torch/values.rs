//! What a pickle of torch.save makes: plain values in one list, which refer to each other by their places.

use archives::{Checked, MOST_AXES};

use crate::tensor::Dtype;

/// A storage as the pickle names it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StorageAt<'a> {
    pub key: &'a str,
    pub dtype: Dtype,
    /// Values in it.
    pub elements: usize,
}

/// A view of a storage, as the pickle has it: `offset` and `strides` count values. Shape and strides are tuples of as many
/// numbers.
#[derive(Debug)]
pub(crate) struct TensorAt {
    pub storage: Id,
    pub offset: usize,
    pub shape: Id,
    pub strides: Id,
}

/// The place of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Id(pub(super) u32);

/// What a pickle made.
#[derive(Debug)]
pub(crate) struct Unpickled<'a> {
    pub(super) values: Values<'a>,
    /// What the program left on the stack.
    pub root: Id,
    /// The module and the name of the first thing that it wanted and is not known.
    pub foreign: Option<(&'a str, &'a str)>,
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
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Name(Name),
    Storage(Box<StorageAt<'a>>),
    Tensor(TensorAt),
    /// Something of another kind, which is not looked into.
    Opaque,
}

/// The names that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Name {
    OrderedDict,
    DefaultDict,
    Size,
    RebuildTensor,
    RebuildParameter,
    /// A tensor to which somebody has given attributes.
    RebuildFromType,
    Storage(Dtype),
}

impl<'a> Unpickled<'a> {
    pub(crate) fn value(&self, id: Id) -> &Value<'a> {
        self.values.value(id)
    }

    /// The numbers in a tuple: a shape, or strides.
    pub(crate) fn sizes(&self, id: Id) -> Checked<Vec<usize>> {
        self.values.sizes(id)
    }

    /// The value of `key` in a dict.
    pub(crate) fn get(&self, dict: Id, key: &str) -> Option<&Value<'a>> {
        self.at(dict, key).map(|id| self.value(id))
    }

    /// Its place.
    pub(crate) fn at(&self, dict: Id, key: &str) -> Option<Id> {
        let Value::Dict(items) = self.value(dict) else { return None };
        let found = items.iter().find(|&&(name, _)| matches!(self.value(name), Value::Text(text) if *text == key));
        found.map(|&(_, value)| value)
    }

    pub(crate) fn is_tensor(&self, id: Id) -> bool {
        matches!(self.value(id), Value::Tensor(_))
    }

    /// All storages that are named.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &StorageAt<'a>> {
        self.values.0.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(&**storage),
            _ => None,
        })
    }
}

/// All values that a program made, each at its place.
#[derive(Debug, Default)]
pub(super) struct Values<'a>(pub(super) Vec<Value<'a>>);

impl<'a> Values<'a> {
    pub(super) fn value(&self, id: Id) -> &Value<'a> {
        &self.0[id.0 as usize]
    }

    pub(super) fn tuple(&self, id: Id) -> Checked<&[Id]> {
        match self.value(id) {
            Value::Tuple(items) => Ok(items),
            _ => Err("has something else where a tuple should be".to_owned()),
        }
    }

    pub(super) fn size(&self, id: Id) -> Checked<usize> {
        match self.value(id) {
            &Value::Int(number) => usize::try_from(number).map_err(|_| format!("has a size of {number}")),
            _ => Err("has something else where a size should be".to_owned()),
        }
    }

    pub(super) fn sizes(&self, id: Id) -> Checked<Vec<usize>> {
        let items = self.tuple(id)?;
        if items.len() > MOST_AXES {
            return Err(format!("has a tensor of {} axes", items.len()));
        }
        items.iter().map(|&item| self.size(item)).collect()
    }
}
