//! What may be run: behind `&&` and `||`, in `if` and `case`, and what is known where it is open which.

use std::rc::Rc;

use source_text::Span;

use super::{Flow, Shell, Status, Watcher};
use crate::nodes::{is_condition, span_of};
use crate::syntax::Node;
use crate::variables::Reason;
use crate::word::Word;

impl Shell<'_> {
    pub(super) fn chain(&mut self, first: &Node, rest: &[(bool, Node)], watcher: &mut dyn Watcher) -> (Flow, Status) {
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
    pub(super) fn maybe(&mut self, nodes: &[Node], reason: &Reason, watcher: &mut dyn Watcher) -> Flow {
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
    pub(super) fn functions_of(&mut self, other: &Self) {
        if !Rc::ptr_eq(&self.functions, &other.functions) {
            let theirs = other.functions.iter().map(|(name, body)| (name.clone(), Rc::clone(body)));
            let theirs: Vec<_> = theirs.filter(|(name, _)| !self.functions.contains_key(name)).collect();
            Rc::make_mut(&mut self.functions).extend(theirs);
        }
    }

    pub(super) fn branches(
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
    pub(super) fn guarded(&mut self, nodes: &[Node], span: Span, watcher: &mut dyn Watcher) -> (Flow, Status) {
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
    pub(super) fn either(&mut self, ways: &[&[Node]], reason: &Reason, watcher: &mut dyn Watcher) -> (Flow, Status) {
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

    pub(super) fn case(
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
}
