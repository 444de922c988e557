//! What variables hold.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use source_text::Span;

use crate::expand::Argument;

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// In words, to stand behind "because": `$N is what a command prints`.
    pub text: Rc<str>,
    /// The place that makes it so.
    pub span: Option<Span>,
}

impl Reason {
    /// Because of `text`, which stands at `span`.
    pub fn new(text: impl Into<Rc<str>>, span: impl Into<Option<Span>>) -> Self {
        Self { text: text.into(), span: span.into() }
    }

    /// The same of something that has a name: `it is what a command prints` becomes `$N is what a command prints`.
    pub fn named(&self, name: &str) -> Self {
        match self.text.strip_prefix("it ") {
            Some(rest) => Self::new(format!("{name} {rest}"), self.span),
            None => self.clone(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a variable holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// An array's words.
    Words(Vec<Argument>),
    /// Something that only a run can tell.
    Unknown(Reason),
}

/// A variable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Variable {
    pub(crate) value: Value,
    /// Whether programs see it.
    pub(crate) exported: bool,
    /// The variables that went into it, also through others.
    pub(crate) uses: Rc<[String]>,
}

/// What is asked for and how it was found.
pub(crate) enum Found<'v> {
    /// It is set.
    Set(&'v Variable),
    /// The surroundings have it.
    Inherited(String),
    /// Nobody sets it.
    Unset,
}

/// All variables of a shell. A copy costs nothing until it is changed.
#[derive(Clone)]
pub(crate) struct Variables<'a> {
    set: Rc<HashMap<String, Variable>>,
    surroundings: &'a dyn Fn(&str) -> Option<String>,
    /// Something that was read and is not known here may have set anything: what it was.
    pub(crate) disturbed: Option<Reason>,
}

impl<'a> Variables<'a> {
    pub(crate) fn new(surroundings: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { set: Rc::default(), surroundings, disturbed: None }
    }

    pub(crate) fn find(&self, name: &str) -> Found<'_> {
        match self.set.get(name) {
            Some(variable) => Found::Set(variable),
            None => (self.surroundings)(name).map_or(Found::Unset, Found::Inherited),
        }
    }

    /// How many there are, which is what a change of a copy costs.
    pub(crate) fn cost(&self) -> usize {
        if Rc::strong_count(&self.set) > 1 { self.set.len() } else { 0 }
    }

    pub(crate) fn set(&mut self, name: &str, value: Value, exported: bool, uses: Rc<[String]>) {
        let was_exported = match self.find(name) {
            Found::Set(variable) => variable.exported,
            Found::Inherited(_) => true,
            Found::Unset => false,
        };
        let variable = Variable { value, exported: exported || was_exported, uses };
        Rc::make_mut(&mut self.set).insert(name.to_owned(), variable);
    }

    pub(crate) fn export(&mut self, name: &str) {
        if let Some(variable) = Rc::make_mut(&mut self.set).get_mut(name) {
            variable.exported = true;
        }
    }

    /// Nothing that was set is known any more.
    pub(crate) fn forget(&mut self, reason: &Reason) {
        for variable in Rc::make_mut(&mut self.set).values_mut() {
            variable.value = Value::Unknown(reason.clone());
        }
        self.disturbed = Some(reason.clone());
    }

    /// What a program sees that this shell starts.
    pub(crate) fn of_child(&self) -> Self {
        let exported = self.set.iter().filter(|(_, variable)| variable.exported);
        let set = exported.map(|(name, variable)| (name.clone(), variable.clone())).collect();
        Self { set: Rc::new(set), surroundings: self.surroundings, disturbed: self.disturbed.clone() }
    }

    /// What holds whichever of two ways was taken: what differs is unknown.
    pub(crate) fn merge(&mut self, other: &Self, reason: &Reason) {
        if self.disturbed.is_none() {
            self.disturbed = other.disturbed.clone();
        }
        if Rc::ptr_eq(&self.set, &other.set) {
            return;
        }
        let unknown = |variable: &Variable| Variable { value: Value::Unknown(reason.clone()), ..variable.clone() };
        let differs = |(name, variable): (&String, &Variable)| {
            (self.set.get(name) != Some(variable)).then(|| (name.clone(), unknown(variable)))
        };
        let mut changed: Vec<_> = other.set.iter().filter_map(differs).collect();
        let lost = self.set.iter().filter(|(name, _)| !other.set.contains_key(*name));
        changed.extend(lost.map(|(name, variable)| (name.clone(), unknown(variable))));
        if !changed.is_empty() {
            Rc::make_mut(&mut self.set).extend(changed);
        }
    }
}
