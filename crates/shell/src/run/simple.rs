//! One simple command: assignments, what the shell does itself, functions, sourced files, and what is told to the watcher.

use std::rc::Rc;

use source_text::Span;

use super::{Assignment, DEEPEST_CALL, Executed, Flow, Shell, Status, Watcher};
use crate::condition::holds;
use crate::expand::Argument;
use crate::nodes::{DECLARING, split_assignment};
use crate::syntax::{Command, Node};
use crate::variables::{Found, Reason, Value};
use crate::word::{Piece, Word, is_variable};

/// Files that set up a shell, and not a job's numbers.
const SETUP_FILES: &[&str] = &[
    "activate",
    "bashrc",
    ".bashrc",
    ".bash_profile",
    ".profile",
    "profile",
    "conda.sh",
    "mamba.sh",
    "init.sh",
    "setvars.sh",
    "lmod.sh",
    "modules.sh",
    "setup-env.sh",
];

impl Shell<'_> {
    pub(super) fn assign(&mut self, name: &str, value: &Argument, exported: bool) {
        let uses = Self::uses(value);
        let value = match &value.text {
            Some(text) => Value::Text(text.clone()),
            None => Value::Unknown(value.reason().named(&format!("${name}"))),
        };
        self.variables.set(name, value, exported, uses);
    }

    pub(super) fn simple(&mut self, command: &Command, watcher: &mut dyn Watcher) -> (Flow, Status) {
        self.substitutions(&command.words, watcher);
        let first = command.words.first().and_then(Word::bare).map(str::to_owned);
        let declares = first.as_deref().is_some_and(|word| DECLARING.contains(&word));
        let exports = first.as_deref() == Some("export");
        let mut executed = Executed {
            span: self.at(command.span),
            doubt: self.doubt.clone(),
            background: self.background,
            in_substitution: self.in_substitution,
            is_fed: command.is_fed,
            ..Executed::default()
        };
        let mut arrays = Vec::new();
        for word in &command.words {
            let assigned = (executed.words.is_empty() || declares).then(|| split_assignment(word)).flatten();
            let Some((name, adds, value)) = assigned else {
                executed.words.extend(self.expand(word));
                continue;
            };
            let is_array = matches!(value.parts.first(), Some(part) if matches!(part.piece, Piece::Words(_)));
            if is_array {
                arrays.push((name, adds, self.expand(&value)));
                continue;
            }
            let mut value = self.expand_to_one(&value);
            value.span = word.span;
            if adds {
                value = self.added(&name, value);
            }
            if self.place.is_some() {
                value.span = self.at(value.span);
            }
            executed.assignments.push(Assignment { name, value, exported: exports });
        }
        if let Some(place) = self.place {
            executed.words.iter_mut().for_each(|word| word.span = place);
        }
        for (name, adds, words) in arrays {
            self.set_array(&name, adds, words);
        }
        let before_a_command = !declares && !executed.words.is_empty();
        for assignment in &mut executed.assignments {
            if before_a_command {
                assignment.exported = true; // seen by that command alone
                continue;
            }
            let uses = Self::uses(&assignment.value);
            let value = match &assignment.value.text {
                Some(text) => Value::Text(text.clone()),
                None => Value::Unknown(assignment.value.reason().named(&format!("${}", assignment.name))),
            };
            self.variables.set(&assignment.name, value, assignment.exported, uses);
        }
        if exports {
            let names: Vec<_> = executed.words.iter().skip(1).filter_map(|word| word.text.clone()).collect();
            names.iter().for_each(|name| self.variables.export(name));
        }
        self.execute(&mut executed, watcher)
    }

    /// `NAME+=value`.
    pub(super) fn added(&self, name: &str, value: Argument) -> Argument {
        let old = match self.variables.find(name) {
            Found::Set(variable) => match &variable.value {
                Value::Text(text) => Ok(text.clone()),
                Value::Words(_) => Err(Reason::new(format!("${name} is an array"), value.span)),
                Value::Unknown(reason) => Err(reason.clone()),
            },
            Found::Inherited(text) => Ok(text),
            Found::Unset => Ok(String::new()),
        };
        match old {
            Ok(old) => Argument { text: value.text.as_ref().map(|text| old + text), ..value },
            Err(reason) => Argument { text: None, why: Some(reason), ..value },
        }
    }

    pub(super) fn set_array(&mut self, name: &str, adds: bool, words: Vec<Argument>) {
        let old = match self.variables.find(name) {
            Found::Set(variable) if adds => match &variable.value {
                Value::Words(words) => Ok(words.clone()),
                Value::Text(text) => Ok(vec![Argument::literal(text.clone(), Span::default())]),
                Value::Unknown(reason) => Err(reason.clone()),
            },
            _ => Ok(Vec::new()),
        };
        let value = match old {
            Ok(mut old) if old.len() < 4096 => {
                old.extend(words);
                Value::Words(old)
            }
            Ok(_) => Value::Unknown(Reason::new(format!("${name} is too long to be followed"), None)),
            Err(reason) => Value::Unknown(reason),
        };
        self.variables.set(name, value, false, Rc::default());
    }

    pub(super) fn execute(&mut self, executed: &mut Executed, watcher: &mut dyn Watcher) -> (Flow, Status) {
        let Some(first) = executed.words.first() else {
            // Assignments alone: they are told, too.
            if !executed.assignments.is_empty() {
                watcher.command(executed, self);
            }
            return (Flow::Next, Status::Success);
        };
        let name = first.known().unwrap_or_default().to_owned();
        if let Some(body) = self.functions.get(&name).cloned() {
            return self.call(&body, &executed.words[1..], executed, watcher);
        }
        let rest: Vec<_> = executed.words[1..].to_vec();
        match name.as_str() {
            "break" => return (Flow::Break, Status::Success),
            "continue" => return (Flow::Continue, Status::Success),
            "return" => return (Flow::Return, Status::Unknown),
            "exit" => {
                let fails = rest.first().is_some_and(|word| word.known() != Some("0"));
                return (Flow::Exit, if fails { Status::Failure } else { Status::Success });
            }
            "exec" if !rest.is_empty() => {
                executed.words.remove(0);
                let (_, status) = self.execute(executed, watcher);
                return (Flow::Exit, status);
            }
            "command" | "builtin"
                if rest.first().is_some_and(|word| word.known().is_some_and(|word| !word.starts_with('-'))) =>
            {
                executed.words.remove(0);
                return self.execute(executed, watcher);
            }
            "true" | ":" => return (Flow::Next, Status::Success),
            "false" => return (Flow::Next, Status::Failure),
            "[" | "test" => {
                let words = match rest.split_last() {
                    Some((last, words)) if name == "[" && last.known() == Some("]") => words,
                    _ => &rest,
                };
                return (Flow::Next, holds(words, false, &|name| self.number(name)));
            }
            "shift" => self.shift(&rest),
            "set" => {
                if let Some(at) = rest.iter().position(|word| word.known() == Some("--")) {
                    self.positional = Some(rest[at + 1..].into());
                }
            }
            "unset" => {
                for name in rest.iter().filter_map(Argument::known).filter(|name| is_variable(name)) {
                    self.variables.set(name, Value::Text(String::new()), false, Rc::default());
                }
            }
            "read" | "mapfile" | "readarray" | "getopts" | "let" => self.set_by_command(&name, &rest, executed.span),
            "printf" => {
                if let [flag, name, ..] = &rest[..]
                    && flag.known() == Some("-v")
                    && let Some(name) = name.known()
                {
                    let reason = Reason::new(format!("${name} is what printf makes"), executed.span);
                    self.variables.set(name, Value::Unknown(reason), false, Rc::default());
                }
            }
            "cd" | "pushd" => self.change_folder(&rest),
            "popd" => self.folder = None,
            "source" | "." => return self.source(&rest, executed, watcher),
            "eval" => return self.eval(&rest, executed, watcher),
            _ => {}
        }
        let status = watcher.command(executed, self);
        (Flow::Next, status)
    }

    pub(super) fn shift(&mut self, rest: &[Argument]) {
        let by = rest.first().map_or(Some(1), |word| word.known()?.parse().ok());
        self.positional = match (&self.positional, by) {
            (Some(words), Some(by)) if words.iter().take(by).all(|word| !word.is_any_number) => {
                Some(words.iter().skip(by).cloned().collect())
            }
            _ => None,
        };
    }

    pub(super) fn set_by_command(&mut self, command: &str, rest: &[Argument], span: Span) {
        let names: Vec<_> = match command {
            "let" => {
                rest.iter().filter_map(Argument::known).filter_map(|text| text.split(['=', '+', '-']).next()).collect()
            }
            _ => rest.iter().filter_map(Argument::known).filter(|text| !text.starts_with('-')).collect(),
        };
        for name in names.into_iter().filter(|name| is_variable(name)) {
            let reason = Reason::new(format!("${name} is read when the job runs"), span);
            self.variables.set(name, Value::Unknown(reason), false, Rc::default());
        }
    }

    pub(super) fn change_folder(&mut self, rest: &[Argument]) {
        let to = rest.iter().rfind(|word| !word.known().is_some_and(|text| text.starts_with('-')));
        let to = to.and_then(Argument::known).filter(|text| !text.starts_with('~') && !text.is_empty());
        self.folder = match (&self.folder, to) {
            (_, Some(to)) if to.starts_with('/') => Some(to.to_owned()),
            (Some(folder), Some(to)) => Some(if folder.is_empty() { to.to_owned() } else { format!("{folder}/{to}") }),
            _ => None,
        };
    }

    pub(super) fn source(
        &mut self,
        rest: &[Argument],
        executed: &mut Executed,
        watcher: &mut dyn Watcher,
    ) -> (Flow, Status) {
        let Some(file) = rest.first() else { return (Flow::Next, Status::Unknown) };
        let text = file.known().and_then(|path| watcher.sourced(path, self));
        let mut child_depth = self.depth + 1;
        if let Some(text) = text
            && child_depth < DEEPEST_CALL
        {
            std::mem::swap(&mut self.depth, &mut child_depth);
            let place = self.place.replace(executed.span);
            let (flow, status) = self.list(&crate::syntax::parse(&text).nodes, watcher);
            self.place = place;
            self.depth = child_depth;
            return (if flow == Flow::Return { Flow::Next } else { flow }, status);
        }
        let shown = file.known().unwrap_or(&file.end);
        let name = shown.rsplit('/').next().unwrap_or_default();
        let sets_up = SETUP_FILES.contains(&name) || shown.starts_with("/etc/") || shown.contains("/bin/activate");
        if !sets_up {
            let shown = if shown.is_empty() { "a file that is not known" } else { shown };
            self.variables
                .forget(&Reason::new(format!("{shown} may set it, and is not here to be read"), executed.span));
        }
        let status = watcher.command(executed, self);
        (Flow::Next, status)
    }

    pub(super) fn eval(
        &mut self,
        rest: &[Argument],
        executed: &mut Executed,
        watcher: &mut dyn Watcher,
    ) -> (Flow, Status) {
        let texts: Option<Vec<_>> = rest.iter().map(Argument::known).collect();
        if let Some(texts) = texts
            && self.depth + 1 < DEEPEST_CALL
        {
            self.depth += 1;
            let place = self.place.replace(executed.span);
            let result = self.list(&crate::syntax::parse(&texts.join(" ")).nodes, watcher);
            self.place = place;
            self.depth -= 1;
            return result;
        }
        let status = watcher.command(executed, self);
        (Flow::Next, status)
    }

    pub(super) fn call(
        &mut self,
        body: &Rc<Vec<Node>>,
        arguments: &[Argument],
        executed: &Executed,
        watcher: &mut dyn Watcher,
    ) -> (Flow, Status) {
        if self.depth + 1 >= DEEPEST_CALL {
            return (Flow::Next, Status::Unknown);
        }
        for assignment in &executed.assignments {
            self.assign(&assignment.name, &assignment.value, true);
        }
        let positional = self.positional.replace(arguments.into());
        let doubt = self.doubt.clone();
        self.depth += 1;
        let (flow, status) = self.list(body, watcher);
        self.depth -= 1;
        self.positional = positional;
        self.doubt = doubt;
        (if flow == Flow::Exit { Flow::Exit } else { Flow::Next }, status)
    }
}
