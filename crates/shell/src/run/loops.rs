//! Loops: round by round where the rounds are known, else once and in doubt.

use std::rc::Rc;

use source_text::Span;

use super::{Flow, Shell, Status, Watcher};
use crate::arithmetic;
use crate::expand::Argument;
use crate::nodes::assigned;
use crate::run::MOST_ROUNDS;
use crate::syntax::Node;
use crate::variables::{Reason, Value};
use crate::word::Word;

impl Shell<'_> {
    pub(super) fn rounds(
        &mut self,
        words: &[Argument],
        name: &str,
        body: &[Node],
        watcher: &mut dyn Watcher,
    ) -> (Flow, Status) {
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

    pub(super) fn count(
        &mut self,
        header: &Word,
        body: &[Node],
        span: Span,
        watcher: &mut dyn Watcher,
    ) -> (Flow, Status) {
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
    pub(super) fn count_step(&mut self, text: &str) -> bool {
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
    pub(super) fn unknown_loop(
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
}
