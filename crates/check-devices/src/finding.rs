//! What a check has found: severity, words, places in the script, help, and a change that mends it.

use serde::Serialize;
use source_text::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Good to know.
    Info,
    /// The job may start, and likely disappoints.
    Warning,
    /// The job is refused, fails, hangs, or computes something else than was meant.
    Error,
}

/// A place in the script and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) span: Span,
    pub(crate) text: String,
}

/// A change to the script that is safe to make without being asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fix {
    /// What it does: "use the number alone"; empty for one that is too long to be shown.
    pub(crate) description: String,
    /// The bytes to replace.
    pub(crate) span: Span,
    /// What to put there.
    pub(crate) replacement: String,
}

/// One thing that a check has found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) message: String,
    /// The place, where there is one in the script.
    pub(crate) primary: Option<Label>,
    /// Places that explain it.
    pub(crate) context: Vec<Label>,
    pub(crate) help: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) fix: Option<Fix>,
}

impl Finding {
    fn new(severity: Severity, message: impl Into<String>) -> Self {
        let (context, help, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { severity, message: message.into(), primary: None, context, help, notes, fix: None }
    }

    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message)
    }

    pub(crate) fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message)
    }

    pub(crate) fn info(message: impl Into<String>) -> Self {
        Self::new(Severity::Info, message)
    }

    /// The place that the message is about. The first one is primary, the others explain.
    pub(crate) fn at(mut self, span: impl Into<Option<Span>>, text: impl Into<String>) -> Self {
        if let Some(span) = span.into() {
            let label = Label { span, text: text.into() };
            match self.primary {
                None => self.primary = Some(label),
                Some(_) => self.context.push(label),
            }
        }
        self
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    pub(crate) fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// A change that is too long to be shown.
    pub(crate) fn silent_fix(mut self, span: Span, replacement: impl Into<String>) -> Self {
        self.fix = Some(Fix { description: String::new(), span, replacement: replacement.into() });
        self
    }

    pub(crate) fn fix(mut self, description: impl Into<String>, span: Span, replacement: impl Into<String>) -> Self {
        self.fix = Some(Fix { description: description.into(), span, replacement: replacement.into() });
        self
    }
}
