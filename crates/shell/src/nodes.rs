//! What the words of commands tell before any of them is run.

use source_text::Span;

use crate::run::MOST_ROUNDS;
use crate::syntax::{Command, Node};
use crate::word::{Part, Piece, Word, is_variable};

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

/// Commands that give variables their values.
pub(crate) const DECLARING: &[&str] = &["export", "declare", "typeset", "readonly", "local"];

/// Whether the command is there to decide something.
pub(crate) fn is_condition(node: &Node) -> bool {
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

pub(crate) fn span_of(node: &Node) -> Span {
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
pub(crate) fn assigned(nodes: &[Node], names: &mut Vec<String>, depth: usize) {
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

pub(crate) fn assigned_by(command: &Command, names: &mut Vec<String>) {
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
pub(crate) fn leading_name(text: &str) -> Option<String> {
    let text = text.trim_start_matches(['+', '-', ' ']);
    let name: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    is_variable(&name).then_some(name)
}

/// `NAME=…` taken apart: the name, whether the value is added, and the value.
pub(crate) fn split_assignment(word: &Word) -> Option<(String, bool, Word)> {
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
        let literal = Part { piece: Piece::Literal(rest.to_owned()), quoted: false };
        value.parts.insert(0, literal);
    }
    Some((name.to_owned(), adds, value))
}

/// `{1..4}` as the words that it stands for.
pub(crate) fn ranges(word: &Word) -> Word {
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
        parts: vec![Part { piece: Piece::Literal(number.to_string()), quoted: false }],
        span: word.span,
    };
    let words = numbers.into_iter().map(literal).collect();
    Word { parts: vec![Part { piece: Piece::Words(words), quoted: false }], span: word.span }
}
