//! The walk through a script: what it would start, in which order, and what of that is in doubt.

mod branches;
mod loops;
mod simple;

use std::collections::HashMap;
use std::rc::Rc;

use source_text::Span;

use crate::arithmetic;
use crate::condition::holds;
use crate::expand::Argument;
use crate::nodes::ranges;
use crate::prints::Lines;
use crate::syntax::{Node, Script};
use crate::variables::{Found, Reason, Value, Variables};
use crate::word::{Piece, Word};

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
pub(crate) const MOST_ROUNDS: usize = 128;

/// Calls inside of calls, and files inside of files.
const DEEPEST_CALL: usize = 16;

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
