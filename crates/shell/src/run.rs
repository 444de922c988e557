//! The walk through a script: what it would start, in which order, and what of that is in doubt.

use std::collections::HashMap;
use std::rc::Rc;

use source_text::Span;

use crate::arithmetic;
use crate::condition::holds;
use crate::expand::Argument;
use crate::lexer::{Piece, Word, is_variable};
use crate::prints::Lines;
use crate::syntax::{Command, Node, Script};
use crate::variables::{Found, Reason, Value, Variables};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// With 0.
    Success,
    /// With something else.
    Failure,
    /// Only a run can tell.
    Unknown,
}

/// `NAME=value`, alone, exported, or before a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The variable.
    pub name: String,
    /// Its value.
    pub value: Argument,
    /// Whether commands see it.
    pub exported: bool,
}

/// A simple command with its words expanded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Executed {
    /// The variables that it sets: for itself, where there are words, too.
    pub assignments: Vec<Assignment>,
    /// The program and its arguments.
    pub words: Vec<Argument>,
    /// Where it stands.
    pub span: Span,
    /// Why it may not be run, or not once; nothing where it is.
    pub doubt: Option<Reason>,
    /// Whether the script goes on while it runs.
    pub background: bool,
    /// Whether what it prints becomes a word: `$(…)`.
    pub in_substitution: bool,
    /// Whether what it reads stands in the script.
    pub is_fed: bool,
}

/// Who is told of each command.
pub trait Watcher {
    /// A command is run in `shell`. What is known of how it ends decides branches; ordinary programs are taken to succeed.
    fn command(&mut self, command: &Executed, shell: &mut Shell<'_>) -> Status;

    /// The text of a file that the script reads into itself (`. FILE`); `None` where there is none.
    fn sourced(&mut self, _path: &str, _shell: &Shell<'_>) -> Option<String> {
        None
    }
}

/// What goes on behind a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
    Return,
    Exit,
}

/// A shell and its state.
#[derive(Clone)]
pub struct Shell<'a> {
    pub(crate) variables: Variables<'a>,
    functions: Rc<HashMap<String, Rc<Vec<Node>>>>,
    /// `$1`, `$2`…; `None` where they are not known.
    pub(crate) positional: Option<Rc<[Argument]>>,
    /// The folder that it works in, as far as it was said: relative to where it started. `None`: not known.
    folder: Option<String>,
    doubt: Option<Reason>,
    background: bool,
    in_substitution: bool,
    /// Where everything stands, for a shell whose text is not the script's own.
    place: Option<Span>,
    depth: usize,
    /// How many lines files have that are known by their path.
    lines: Rc<HashMap<String, Lines>>,
    /// What may still be done.
    budget: Rc<std::cell::Cell<usize>>,
}

/// Commands, and copies of variables, that are followed at most; a loop in a loop in a loop is soon more.
const BUDGET: usize = 200_000;

/// Rounds of a loop that are followed one by one.
const MOST_ROUNDS: usize = 128;

/// Calls inside of calls, and files inside of files.
const DEEPEST_CALL: usize = 16;

/// Commands that only look or say, whose end is not known.
const ASKING: &[&str] = &[
    "grep",
    "egrep",
    "fgrep",
    "which",
    "type",
    "hash",
    "diff",
    "cmp",
    "pgrep",
    "ping",
    "mountpoint",
    "squeue",
    "scontrol",
    "test",
    "[",
    "command",
    "read",
    "nvidia-smi",
    "git",
    "kill",
    "wait",
    "false",
];

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

const DECLARING: &[&str] = &["export", "declare", "typeset", "readonly", "local"];

impl<'a> Shell<'a> {
    /// A shell that inherits the variables that `surroundings` knows.
    pub fn new(surroundings: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            variables: Variables::new(surroundings),
            functions: Rc::default(),
            positional: None,
            folder: Some(String::new()),
            doubt: None,
            background: false,
            in_substitution: false,
            place: None,
            depth: 0,
            lines: Rc::default(),
            budget: Rc::new(std::cell::Cell::new(BUDGET)),
        }
    }

    /// Sets a variable that programs see.
    pub fn set(&mut self, name: &str, value: Value) {
        self.variables.set(name, value, true, Rc::default());
    }

    /// Says how many lines the file `path` has.
    pub fn set_lines(&mut self, path: &str, lines: Lines) {
        Rc::make_mut(&mut self.lines).insert(path.to_owned(), lines);
    }

    pub(crate) fn lines_of(&self, path: &str) -> Option<Lines> {
        self.lines.get(path).copied()
    }

    /// The text of a variable, where it is known.
    pub fn text(&self, name: &str) -> Option<String> {
        self.number(name)
    }

    /// What programs see of the variable `name`, for a word that stands at `place`; `None` where it is not set.
    pub fn exported(&self, name: &str, place: Span) -> Option<Argument> {
        match self.variables.find(name) {
            Found::Set(variable) if !variable.exported => None,
            Found::Set(variable) => Some(match &variable.value {
                Value::Text(text) => Argument::literal(text.clone(), place),
                Value::Words(_) => return None, // arrays are not exported
                Value::Unknown(reason) => {
                    Argument { text: None, why: Some(reason.clone()), ..Argument::literal("", place) }
                }
            }),
            Found::Inherited(text) => Some(Argument::literal(text, place)),
            Found::Unset => None,
        }
    }

    /// The folder that it works in, relative to where it started; `None` where it is not known.
    pub fn folder(&self) -> Option<&str> {
        self.folder.as_deref()
    }

    /// Whether what is started in another script stands here: then it has this place, too.
    pub fn place(&self) -> Option<Span> {
        self.place
    }

    /// A shell that a command of this one starts, at `place` of the script, with `arguments` behind its own name. `doubt`:
    /// why it may not be run, where it may not. `None` where shells start shells without an end.
    pub fn child(&self, place: Span, arguments: &[Argument], command: &Executed) -> Option<Shell<'a>> {
        let mut child = self.clone();
        child.variables = self.variables.of_child();
        child.functions = Rc::default();
        child.positional = Some(arguments.into());
        child.place = Some(self.place.unwrap_or(place));
        child.doubt = command.doubt.clone();
        child.background = command.background;
        child.in_substitution = command.in_substitution;
        child.depth += 1;
        for assignment in &command.assignments {
            child.assign(&assignment.name, &assignment.value, true);
        }
        (child.depth < DEEPEST_CALL).then_some(child)
    }

    /// Follows `script`, and tells `watcher` of every command.
    pub fn run(&mut self, script: &Script, watcher: &mut dyn Watcher) {
        self.list(&script.nodes, watcher);
    }

    /// Whether everything was followed.
    pub fn is_exhausted(&self) -> bool {
        self.budget.get() == 0
    }

    fn spend(&self, cost: usize) -> bool {
        let left = self.budget.get();
        self.budget.set(left.saturating_sub(cost));
        left > cost
    }

    fn at(&self, span: Span) -> Span {
        self.place.unwrap_or(span)
    }

    fn list(&mut self, nodes: &[Node], watcher: &mut dyn Watcher) -> (Flow, Status) {
        let mut status = Status::Success;
        for node in nodes {
            let (flow, ended) = self.node(node, watcher);
            status = ended;
            if flow != Flow::Next {
                return (flow, status);
            }
        }
        (Flow::Next, status)
    }

    fn node(&mut self, node: &Node, watcher: &mut dyn Watcher) -> (Flow, Status) {
        if !self.spend(1) {
            return (Flow::Exit, Status::Unknown);
        }
        match node {
            Node::Simple(command) => self.simple(command, watcher),
            Node::Pipeline(all) => {
                let mut status = Status::Unknown;
                for node in all {
                    status = self.apart(std::slice::from_ref(node), watcher);
                }
                (Flow::Next, status)
            }
            Node::Chain(first, rest) => self.chain(first, rest, watcher),
            Node::Not(node) => {
                let (flow, status) = self.node(node, watcher);
                (flow, status.not())
            }
            Node::Background(node) => {
                let mut shell = self.clone();
                shell.background = true;
                shell.list(std::slice::from_ref(node), watcher);
                (Flow::Next, Status::Success)
            }
            Node::If { arms, otherwise, span } => self.branches(arms, otherwise, *span, watcher),
            Node::For { name, words, is_select, body, span } => {
                self.substitutions(words.as_deref().unwrap_or_default(), watcher);
                let words = match words {
                    _ if *is_select => None,
                    Some(words) => Some(words.iter().flat_map(|word| self.expand(&ranges(word))).collect::<Vec<_>>()),
                    None => self.positional.as_ref().map(|words| words.to_vec()),
                };
                let known = words.filter(|words| {
                    words.len() <= MOST_ROUNDS
                        && words.iter().all(|word| !word.is_any_number)
                        && !words.iter().any(|word| word.known().is_some_and(|text| text.contains(['*', '?', '['])))
                });
                match known {
                    Some(words) => self.rounds(&words, name, body, watcher),
                    None => {
                        let reason = Reason::new("how often a loop runs is not known", self.at(*span));
                        self.unknown_loop(&[], body, Some(name), &reason, watcher)
                    }
                }
            }
            Node::Count { header, body, span } => self.count(header, body, *span, watcher),
            Node::While { until: _, condition, body, span } => {
                let reason = Reason::new("how often a loop runs is not known", self.at(*span));
                self.unknown_loop(condition, body, None, &reason, watcher)
            }
            Node::Case { word, arms, span } => self.case(word, arms, *span, watcher),
            Node::Group(nodes) => self.list(nodes, watcher),
            Node::Subshell(nodes) => (Flow::Next, self.apart(nodes, watcher)),
            Node::Function { name, body } => {
                Rc::make_mut(&mut self.functions).insert(name.clone(), Rc::clone(body));
                (Flow::Next, Status::Success)
            }
            Node::Test(words, _) => {
                self.substitutions(words, watcher);
                let words: Vec<_> = words.iter().map(|word| self.expand_to_one(word)).collect();
                (Flow::Next, holds(&words, true, &|name| self.number(name)))
            }
            Node::Arithmetic(word) => (Flow::Next, self.arithmetic(word)),
        }
    }

    /// Commands that change nothing here: a subshell, a pipeline's part.
    fn apart(&mut self, nodes: &[Node], watcher: &mut dyn Watcher) -> Status {
        let mut shell = self.clone();
        self.spend(self.variables.cost() / 64);
        shell.list(nodes, watcher).1
    }

    fn chain(&mut self, first: &Node, rest: &[(bool, Node)], watcher: &mut dyn Watcher) -> (Flow, Status) {
        let (mut flow, mut status) = self.node(first, watcher);
        // A condition decides; any other program is taken to succeed.
        let mut decides = is_condition(first);
        for (is_and, node) in rest {
            if flow != Flow::Next {
                return (flow, status);
            }
            let runs = match (status, is_and) {
                (Status::Success, true) | (Status::Failure, false) => Some(true),
                (Status::Failure, true) | (Status::Success, false) => Some(false),
                (Status::Unknown, true) if !decides => Some(true),
                (Status::Unknown, _) => None,
            };
            match runs {
                Some(false) => continue,
                Some(true) => {
                    let span = span_of(node);
                    (flow, status) = match decides {
                        true => self.guarded(std::slice::from_ref(node), span, watcher),
                        false => self.node(node, watcher),
                    };
                    decides = is_condition(node);
                }
                None => {
                    let reason = Reason::new("whether it runs is decided when the job runs", self.at(span_of(node)));
                    self.maybe(std::slice::from_ref(node), &reason, watcher);
                    status = Status::Unknown;
                }
            }
        }
        (flow, status)
    }

    /// Commands that may be run, or not: both are possible behind them.
    fn maybe(&mut self, nodes: &[Node], reason: &Reason, watcher: &mut dyn Watcher) -> Flow {
        let mut shell = self.clone();
        shell.doubt.get_or_insert_with(|| reason.clone());
        let (flow, _) = shell.list(nodes, watcher);
        if !self.spend(shell.variables.cost()) {
            return Flow::Exit;
        }
        // A branch that ends the script leaves nothing behind.
        if !matches!(flow, Flow::Exit | Flow::Return) {
            self.variables.merge(&shell.variables, reason);
            if self.folder != shell.folder {
                self.folder = None;
            }
            self.functions_of(&shell);
        }
        flow
    }

    /// Functions that `other` defines and this one does not.
    fn functions_of(&mut self, other: &Self) {
        if !Rc::ptr_eq(&self.functions, &other.functions) {
            let theirs = other.functions.iter().map(|(name, body)| (name.clone(), Rc::clone(body)));
            let theirs: Vec<_> = theirs.filter(|(name, _)| !self.functions.contains_key(name)).collect();
            Rc::make_mut(&mut self.functions).extend(theirs);
        }
    }

    fn branches(
        &mut self,
        arms: &[(Vec<Node>, Vec<Node>)],
        otherwise: &[Node],
        span: Span,
        watcher: &mut dyn Watcher,
    ) -> (Flow, Status) {
        let reason = Reason::new("which branch is taken is decided when the job runs", self.at(span));
        let mut open: Vec<&[Node]> = Vec::new();
        let mut ends: &[Node] = otherwise;
        for (condition, body) in arms {
            let (flow, status) = self.list(condition, watcher);
            if flow != Flow::Next {
                return (flow, status);
            }
            match status {
                Status::Success => {
                    ends = body;
                    break;
                }
                Status::Failure => {}
                Status::Unknown => open.push(body),
            }
        }
        if open.is_empty() {
            return self.guarded(ends, span, watcher);
        }
        open.push(ends);
        self.either(&open, &reason, watcher)
    }

    /// A branch that is taken. Where it ends the script with a failure, that is a guard against something that is not set here:
    /// what stands behind it is followed, too, and in doubt.
    fn guarded(&mut self, nodes: &[Node], span: Span, watcher: &mut dyn Watcher) -> (Flow, Status) {
        let before = self.clone();
        let (flow, status) = self.list(nodes, watcher);
        if flow != Flow::Exit || status == Status::Success || self.is_exhausted() {
            return (flow, status);
        }
        let reason = Reason::new("as it is here, the script ends before it", self.at(span));
        let doubt = before.doubt.clone().or(Some(reason));
        *self = Self { doubt, ..before };
        (Flow::Next, Status::Unknown)
    }

    /// One of `ways` is taken.
    fn either(&mut self, ways: &[&[Node]], reason: &Reason, watcher: &mut dyn Watcher) -> (Flow, Status) {
        let mut after: Option<Self> = None;
        let mut leaves = None;
        for nodes in ways {
            let mut shell = self.clone();
            shell.doubt.get_or_insert_with(|| reason.clone());
            let (flow, _) = shell.list(nodes, watcher);
            if !self.spend(1 + shell.variables.cost()) {
                return (Flow::Exit, Status::Unknown);
            }
            match flow {
                Flow::Exit | Flow::Return => continue,
                Flow::Break | Flow::Continue => leaves = Some(flow),
                Flow::Next => {}
            }
            match &mut after {
                None => after = Some(shell),
                Some(after) => {
                    after.variables.merge(&shell.variables, reason);
                    if after.folder != shell.folder {
                        after.folder = None;
                    }
                    after.functions_of(&shell);
                }
            }
        }
        // Every way ends the script.
        let Some(after) = after else { return (Flow::Exit, Status::Unknown) };
        let doubt = match leaves {
            // Some ways leave the loop: what follows in it is run only on the others.
            Some(_) => Some(reason.clone()),
            None => self.doubt.clone(),
        };
        *self = Self { doubt, ..after };
        (Flow::Next, Status::Unknown)
    }

    fn case(
        &mut self,
        word: &Word,
        arms: &[(Vec<Word>, Vec<Node>)],
        span: Span,
        watcher: &mut dyn Watcher,
    ) -> (Flow, Status) {
        let word = self.expand_to_one(word);
        let reason = Reason::new("which case holds is decided when the job runs", self.at(span));
        let mut open: Vec<&[Node]> = Vec::new();
        let mut is_settled = false;
        'arms: for (patterns, body) in arms {
            for pattern in patterns {
                let pattern = self.expand_to_one(pattern);
                match (word.known(), pattern.known()) {
                    (_, Some("*")) => {
                        open.push(body);
                        is_settled = true;
                        break 'arms;
                    }
                    (Some(word), Some(pattern)) if !pattern.contains(['*', '?', '[', '\\']) => {
                        if word == pattern {
                            open.push(body);
                            is_settled = true;
                            break 'arms;
                        }
                    }
                    _ => open.push(body),
                }
            }
        }
        match (is_settled, &open[..]) {
            (true, [only]) => self.list(only, watcher),
            (false, []) => (Flow::Next, Status::Success),
            (settled, _) => {
                if !settled {
                    open.push(&[]);
                }
                self.either(&open, &reason, watcher)
            }
        }
    }

    fn rounds(&mut self, words: &[Argument], name: &str, body: &[Node], watcher: &mut dyn Watcher) -> (Flow, Status) {
        let doubt = self.doubt.clone();
        for word in words {
            self.assign(name, word, false);
            match self.list(body, watcher).0 {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break,
                flow => return (flow, Status::Unknown),
            }
        }
        self.doubt = doubt;
        (Flow::Next, Status::Unknown)
    }

    fn count(&mut self, header: &Word, body: &[Node], span: Span, watcher: &mut dyn Watcher) -> (Flow, Status) {
        let reason = Reason::new("how often a loop runs is not known", self.at(span));
        let text = self.expand_to_one(header).text;
        let parts = text.as_deref().map(|text| text.split(';').collect::<Vec<_>>());
        let Some(&[start, test, step]) = parts.as_deref() else {
            return self.unknown_loop(&[], body, None, &reason, watcher);
        };
        let variable = arithmetic::assignment(start, &|name| self.number(name)).map(|(name, _)| name.to_owned());
        // How often, before anything is run: it must end, and the body must leave the counter alone.
        let mut trial = self.clone();
        trial.count_step(start);
        let mut rounds = 0;
        while rounds <= MOST_ROUNDS
            && arithmetic::evaluate(test, &|name| trial.number(name)).is_some_and(|value| value != 0)
        {
            rounds += 1;
            if !trial.count_step(step) {
                rounds = MOST_ROUNDS + 1;
            }
        }
        let ends = arithmetic::evaluate(test, &|name| trial.number(name)) == Some(0);
        if !ends || rounds > MOST_ROUNDS {
            return self.unknown_loop(&[], body, variable.as_deref(), &reason, watcher);
        }
        let doubt = self.doubt.clone();
        self.count_step(start);
        for _ in 0..=MOST_ROUNDS {
            match arithmetic::evaluate(test, &|name| self.number(name)) {
                Some(0) => break,
                Some(_) => {}
                None => return self.unknown_loop(&[], body, variable.as_deref(), &reason, watcher),
            }
            match self.list(body, watcher).0 {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break,
                flow => return (flow, Status::Unknown),
            }
            self.count_step(step);
        }
        self.doubt = doubt;
        (Flow::Next, Status::Unknown)
    }

    /// `i = 0`, `i++`; whether a variable got a value that is known.
    fn count_step(&mut self, text: &str) -> bool {
        let Some((name, value)) = arithmetic::assignment(text, &|name| self.number(name)) else {
            return text.trim().is_empty();
        };
        let is_known = value.is_some();
        let value = value.map_or_else(
            || Value::Unknown(Reason::new(format!("${name} is worked out from what is not known"), None)),
            |value| Value::Text(value.to_string()),
        );
        let name = name.to_owned();
        self.variables.set(&name, value, false, Rc::default());
        is_known
    }

    /// A loop that runs never, once or often: what it sets is unknown in it and behind it.
    fn unknown_loop(
        &mut self,
        condition: &[Node],
        body: &[Node],
        counter: Option<&str>,
        reason: &Reason,
        watcher: &mut dyn Watcher,
    ) -> (Flow, Status) {
        let mut names = Vec::new();
        assigned(condition, &mut names, 0);
        assigned(body, &mut names, 0);
        names.extend(counter.map(str::to_owned));
        let changed = |name: &str| Reason::new(format!("${name} changes in a loop"), reason.span);
        for name in &names {
            self.variables.set(name, Value::Unknown(changed(name)), false, Rc::default());
        }
        self.list(condition, watcher);
        self.maybe(body, reason, watcher);
        for name in &names {
            self.variables.set(name, Value::Unknown(changed(name)), false, Rc::default());
        }
        (Flow::Next, Status::Unknown)
    }

    fn arithmetic(&mut self, word: &Word) -> Status {
        let inside = self.expand_to_one(word);
        let Some(text) = inside.known() else { return Status::Unknown };
        if arithmetic::assignment(text, &|name| self.number(name)).is_some() {
            self.count_step(text);
            return Status::Unknown;
        }
        let value = arithmetic::evaluate(text, &|name| self.number(name));
        value.map_or(Status::Unknown, |value| (value != 0).into())
    }

    /// The commands whose output becomes a part of one of `words`.
    fn substitutions(&mut self, words: &[Word], watcher: &mut dyn Watcher) {
        for piece in words.iter().flat_map(|word| &word.parts).map(|part| &part.piece) {
            match piece {
                Piece::Substitution(nodes) => {
                    let mut shell = self.clone();
                    shell.in_substitution = true;
                    shell.list(nodes, watcher);
                }
                Piece::Words(words) => self.substitutions(words, watcher),
                _ => {}
            }
        }
    }

    fn assign(&mut self, name: &str, value: &Argument, exported: bool) {
        let uses = Self::uses(value);
        let value = match &value.text {
            Some(text) => Value::Text(text.clone()),
            None => Value::Unknown(value.reason().named(&format!("${name}"))),
        };
        self.variables.set(name, value, exported, uses);
    }

    fn simple(&mut self, command: &Command, watcher: &mut dyn Watcher) -> (Flow, Status) {
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
    fn added(&self, name: &str, value: Argument) -> Argument {
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

    fn set_array(&mut self, name: &str, adds: bool, words: Vec<Argument>) {
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

    fn execute(&mut self, executed: &mut Executed, watcher: &mut dyn Watcher) -> (Flow, Status) {
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

    fn shift(&mut self, rest: &[Argument]) {
        let by = rest.first().map_or(Some(1), |word| word.known()?.parse().ok());
        self.positional = match (&self.positional, by) {
            (Some(words), Some(by)) if words.iter().take(by).all(|word| !word.is_any_number) => {
                Some(words.iter().skip(by).cloned().collect())
            }
            _ => None,
        };
    }

    fn set_by_command(&mut self, command: &str, rest: &[Argument], span: Span) {
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

    fn change_folder(&mut self, rest: &[Argument]) {
        let to = rest.iter().rfind(|word| !word.known().is_some_and(|text| text.starts_with('-')));
        let to = to.and_then(Argument::known).filter(|text| !text.starts_with('~') && !text.is_empty());
        self.folder = match (&self.folder, to) {
            (_, Some(to)) if to.starts_with('/') => Some(to.to_owned()),
            (Some(folder), Some(to)) => Some(if folder.is_empty() { to.to_owned() } else { format!("{folder}/{to}") }),
            _ => None,
        };
    }

    fn source(&mut self, rest: &[Argument], executed: &mut Executed, watcher: &mut dyn Watcher) -> (Flow, Status) {
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

    fn eval(&mut self, rest: &[Argument], executed: &mut Executed, watcher: &mut dyn Watcher) -> (Flow, Status) {
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

    fn call(
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

/// Whether the command is there to decide something.
fn is_condition(node: &Node) -> bool {
    match node {
        Node::Test(..) | Node::Arithmetic(_) => true,
        Node::Not(node) => is_condition(node),
        Node::Simple(command) => command.words.first().and_then(Word::bare).is_some_and(|name| ASKING.contains(&name)),
        Node::Pipeline(all) => all.last().is_some_and(is_condition),
        Node::Chain(first, rest) => is_condition(first) || rest.iter().any(|(_, node)| is_condition(node)),
        Node::Group(nodes) | Node::Subshell(nodes) => nodes.last().is_some_and(is_condition),
        _ => false,
    }
}

fn span_of(node: &Node) -> Span {
    match node {
        Node::Simple(command) => command.span,
        Node::Pipeline(all) | Node::Group(all) | Node::Subshell(all) => all.first().map(span_of).unwrap_or_default(),
        Node::Chain(node, _) | Node::Not(node) | Node::Background(node) => span_of(node),
        Node::If { span, .. }
        | Node::For { span, .. }
        | Node::Count { span, .. }
        | Node::While { span, .. }
        | Node::Case { span, .. }
        | Node::Test(_, span) => *span,
        Node::Arithmetic(word) => word.span,
        Node::Function { .. } => Span::default(),
    }
}

/// The variables that `nodes` may set.
fn assigned(nodes: &[Node], names: &mut Vec<String>, depth: usize) {
    if depth > 64 || names.len() > 4096 {
        return;
    }
    let one = |node: &Node, names: &mut Vec<String>| assigned(std::slice::from_ref(node), names, depth + 1);
    for node in nodes {
        match node {
            Node::Simple(command) => assigned_by(command, names),
            Node::Pipeline(nodes) | Node::Group(nodes) | Node::Subshell(nodes) => assigned(nodes, names, depth + 1),
            Node::Chain(first, rest) => {
                one(first, names);
                rest.iter().for_each(|(_, node)| one(node, names));
            }
            Node::Not(node) | Node::Background(node) => one(node, names),
            Node::If { arms, otherwise, .. } => {
                for (condition, body) in arms {
                    assigned(condition, names, depth + 1);
                    assigned(body, names, depth + 1);
                }
                assigned(otherwise, names, depth + 1);
            }
            Node::For { name, body, .. } => {
                names.push(name.clone());
                assigned(body, names, depth + 1);
            }
            Node::Count { header, body, .. } => {
                names.extend(header.literal().as_deref().and_then(leading_name));
                assigned(body, names, depth + 1);
            }
            Node::While { condition, body, .. } => {
                assigned(condition, names, depth + 1);
                assigned(body, names, depth + 1);
            }
            Node::Case { arms, .. } => arms.iter().for_each(|(_, body)| assigned(body, names, depth + 1)),
            Node::Function { body, .. } => assigned(body, names, depth + 1),
            Node::Test(..) => {}
            Node::Arithmetic(word) => names.extend(word.literal().as_deref().and_then(leading_name)),
        }
    }
}

fn assigned_by(command: &Command, names: &mut Vec<String>) {
    let first = command.words.first().and_then(Word::bare).unwrap_or_default();
    let declares = DECLARING.contains(&first);
    let reads = matches!(first, "read" | "mapfile" | "readarray" | "let" | "unset");
    for word in &command.words {
        match split_assignment(word) {
            Some((name, ..)) => names.push(name),
            None if declares => {}
            None if reads => names.extend(word.bare().and_then(leading_name)),
            None => break,
        }
    }
}

/// `i` of `++i`, `i += 2`, `i=0; i<4; i++`.
fn leading_name(text: &str) -> Option<String> {
    let text = text.trim_start_matches(['+', '-', ' ']);
    let name: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    is_variable(&name).then_some(name)
}

/// `NAME=…` taken apart: the name, whether the value is added, and the value.
fn split_assignment(word: &Word) -> Option<(String, bool, Word)> {
    let first = word.parts.first().filter(|part| !part.quoted)?;
    let Piece::Literal(text) = &first.piece else { return None };
    let (name, rest) = text.split_once('=')?;
    let (name, adds) = name.strip_suffix('+').map_or((name, false), |name| (name, true));
    // An element of an array (`A[0]=…`) is not followed: the array stays as it was said, and is rarely a number.
    if !is_variable(name) {
        return None;
    }
    let mut value = word.clone();
    value.parts.remove(0);
    if !rest.is_empty() {
        let literal = crate::lexer::Part { piece: Piece::Literal(rest.to_owned()), quoted: false };
        value.parts.insert(0, literal);
    }
    Some((name.to_owned(), adds, value))
}

/// `{1..4}` as the words that it stands for.
fn ranges(word: &Word) -> Word {
    let bounds = || {
        let inside = word.bare()?.strip_prefix('{')?.strip_suffix('}')?;
        let (from, to) = inside.split_once("..")?;
        Some((from.parse::<i64>().ok()?, to.parse::<i64>().ok()?))
    };
    let Some((from, to)) = bounds().filter(|(from, to)| from.abs_diff(*to) < MOST_ROUNDS as u64) else {
        return word.clone();
    };
    let numbers: Vec<_> = if from <= to { (from..=to).collect() } else { (to..=from).rev().collect() };
    let literal = |number: i64| Word {
        parts: vec![crate::lexer::Part { piece: Piece::Literal(number.to_string()), quoted: false }],
        span: word.span,
    };
    let words = numbers.into_iter().map(literal).collect();
    Word { parts: vec![crate::lexer::Part { piece: Piece::Words(words), quoted: false }], span: word.span }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Told(Vec<String>);

    impl Watcher for Told {
        fn command(&mut self, command: &Executed, _: &mut Shell<'_>) -> Status {
            if command.words.is_empty() {
                return Status::Success;
            }
            let words: Vec<_> = command
                .words
                .iter()
                .map(|word| match &word.text {
                    Some(text) => text.clone(),
                    None => format!("{}?{}", word.start, word.end),
                })
                .collect();
            let doubt = if command.doubt.is_some() { "~" } else { "" };
            let background = if command.background { "&" } else { "" };
            self.0.push(format!("{doubt}{}{background}", words.join("|")));
            Status::Unknown
        }
    }

    fn told(text: &str) -> Vec<String> {
        let mut told = Told::default();
        let surroundings = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        Shell::new(&surroundings).run(&crate::parse(text), &mut told);
        told.0
    }

    #[test]
    fn what_is_started() {
        let cases: &[(&str, &[&str])] = &[
            ("N=4; a $N", &["a|4"]),
            ("B=${B:-64}\na --batch $B", &["a|--batch|64"]),
            ("B=32; B=${B:-64}; a $B ${C-x} ${B:+y}", &["a|32|x|y"]),
            ("N=8; export B=$((N * 2)); a $B", &["export", "a|16"]),
            ("a ${HOME}/x --n=$NOWHERE $NOWHERE/bin/b", &["a|/home/me/x|--n=?|?/bin/b"]),
            ("B=$(cat f); a $B ${B:-1}", &["cat|f", "a|?|?"]),
            ("L='x  y z'; a $L \"$L\" '$L'", &["a|x|y|z|x  y z|$L"]),
            ("A=(--n 4 \"x y\"); A+=(-v); a ${A[@]} ${#A[@]} ${A[1]}", &["a|--n|4|x y|-v|4|4"]),
            ("E=; a $E \"$E\" b", &["a||b"]),
            ("for i in 1 {2..3}; do a $i; done; b $i", &["a|1", "a|2", "a|3", "b|3"]),
            ("for ((i=0; i<2; i++)); do a $i & done; wait", &["a|0&", "a|1&", "wait"]),
            ("for i in $(ls); do a $i; done; b $i", &["ls", "~a|?", "b|?"]),
            ("N=1; while read x; do N=2; a $x $N; done; b $N", &["read|x", "~a|?|2", "b|?"]),
            ("if [ -z \"$N\" ]; then N=4; fi; a $N", &["a|?"]),
            ("N=3; if [ $N -gt 2 ]; then a; else b; fi", &["a"]),
            ("N=3; if [[ $N == 3 && -n $N ]]; then a; else b; fi", &["a"]),
            ("N=3; if (( N > 4 )); then a; elif ((N==3)); then b; fi", &["b"]),
            ("N=1; if [ -f x ]; then N=2; a; else b; fi; c $N", &["~a", "~b", "c|?"]),
            ("if [ -f x ]; then N=2; else N=2; fi; c $N", &["c|2"]),
            ("if [ ! -f x ]; then echo no; exit 1; fi; a", &["~echo|no", "a"]),
            ("cd x && a || b; [ -f y ] && c", &["cd|x", "a", "~b", "~c"]),
            ("X=a; case $X in a|b) c ;; *) d ;; esac", &["c"]),
            ("case $1 in a) c ;; *) d ;; esac", &["~c", "~d"]),
            ("f() { a $1 $#; }; f x y", &["a|x|2"]),
            ("set -- p q; a $1 \"$@\"; shift; b $1", &["set|--|p|q", "a|p|p|q", "shift", "b|q"]),
            ("eval \"a b\"; eval \"$(conda hook)\"", &["a|b", "conda|hook", "eval|?"]),
            ("N=4; source my.cfg; a $N", &["source|my.cfg", "a|?"]),
            ("N=4; source ~/.bashrc; a $N", &["source|~/.bashrc", "a|4"]),
            ("(N=4; a $N); b $N", &["a|4", "b|?"]),
            ("N=4 a $N", &["a|?"]),
            ("a | b > c 2>&1 <<E\nd\nE\ne", &["a", "b", "e"]),
            ("read N; a $N; unset M; b \"$M\"", &["read|N", "a|?", "unset|M", "b|"]),
            ("exec a b; c", &["a|b"]),
            ("trap 'x y' TERM; a; exit 0; b", &["trap|x y|TERM", "a"]),
            ("if true; then a; fi; false && b; ! false && c", &["a", "c"]),
            ("f() { return; a; }; f; b", &["b"]),
            ("while true; do a; break; done; b", &["~a", "b"]),
            ("if [ -z \"${X:-}\" ]; then echo no; exit 1; fi; a", &["echo|no", "~a"]),
            ("[ -n \"${X:-}\" ] || exit 2; a", &["~a"]),
            ("if true; then a; exit 0; fi; b", &["a"]),
            ("N=$(wc -l < $NODEFILE); a $N", &["wc|-l", "a|?"]),
            (
                "N=$(seq 3 | tail -1); a $(echo x $HOME) $(seq 2) $(expr 2 \\* 3)",
                &["seq|3", "tail|-1", "echo|x|/home/me", "seq|2", "expr|2|*|3", "a|x|/home/me|1|2|6"],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(told(text), *expected, "{text}");
        }
    }

    #[test]
    fn reasons_name_the_place() {
        struct Why(Vec<String>);
        impl Watcher for Why {
            fn command(&mut self, command: &Executed, _: &mut Shell<'_>) -> Status {
                let reasons = command.words.iter().filter_map(|word| word.why.as_ref());
                self.0.extend(reasons.map(|reason| format!("{} at {:?}", reason.text, reason.span.map(Span::range))));
                Status::Unknown
            }
        }
        let mut why = Why(Vec::new());
        Shell::new(&|_| None).run(&crate::parse("N=$(x)\nM=$N; a $M $2\n"), &mut why);
        assert_eq!(
            why.0,
            [
                "$N is what a command prints at Some(0..6)",
                "the script's own arguments are not given here at Some(18..20)"
            ]
        );
    }

    #[test]
    fn nothing_takes_for_ever() {
        let texts = [
            "A=x\n".to_owned() + &"A=$A$A\n".repeat(60) + "a $A",
            "for i in {1..100}; do for j in {1..100}; do for k in {1..100}; do a $i; done; done; done".to_owned(),
            "f() { f; f; }; f".to_owned(),
            "eval 'eval \"eval a\"'; f() { eval f; }; f".to_owned(),
            "A=(x); ".to_owned() + &"A+=(${A[@]}); ".repeat(60) + "a ${A[@]}",
            "if [ -f x ]; then A=1; fi\n".repeat(20_000),
            (0..20_000).map(|i| format!("V{i}=1; if [ -f x ]; then W{i}=2; fi\n")).collect(),
        ];
        for text in texts {
            let start = std::time::Instant::now();
            let _ = told(&text);
            assert!(start.elapsed().as_secs() < 20, "{:?} for {}", start.elapsed(), &text[..40]);
        }
    }

    proptest! {
        #[test]
        fn any_script_is_followed(text in "(if|then|fi|for|i|in|do|done|case|esac|f\\(\\) |\\[\\[|\\]\\]|\\$\\(\\(|[a$`'\"\\\\(){}<>|&; \n#=:é-]){0,60}") {
            for line in told(&text) {
                prop_assert!(line.len() < 1 << 20);
            }
        }
    }
}
