//! Text to simple commands: quotes, escapes, continuation lines, comments, here-documents, expansions.

use sbatch::Span;

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// As it stands.
    Literal(String),
    /// `$NAME`, `${NAME}`, `${NAME:-default}`.
    Variable { name: String, default: Option<String> },
    /// `$((…))`.
    Arithmetic(String),
    /// What only a shell can know: `$(…)`, `${NAME%.*}`, `$1`.
    Opaque,
}

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) span: Span,
}

/// A simple command: its words, the first of which may be assignments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) words: Vec<Word>,
    pub(crate) span: Span,
}

enum Token {
    Word(Word),
    /// The end of a simple command.
    End,
    /// `>`, `2>&1`, `<`…: the next word, if `true`, is its target.
    Redirection(bool),
}

/// Words that open or close a compound command and are followed by a simple one.
const RESERVED: &[&str] = &[
    "if", "then", "elif", "else", "fi", "do", "done", "while", "until", "!", "{", "}", "time", "esac", "exec",
    "command",
];

/// What a script's text holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    /// All simple commands, in their order. Compound commands come as the simple ones inside them.
    pub(crate) commands: Vec<Command>,
    /// The texts of here-documents: what looks like commands there is data.
    pub(crate) here_documents: Vec<Span>,
}

/// Reads `text` as a shell would, without running anything.
pub(crate) fn read(text: &str) -> Body {
    let mut lexer = Lexer { text, at: 0, here_documents: Vec::new(), bodies: Vec::new() };
    let mut found = Vec::new();
    let mut words: Vec<Word> = Vec::new();
    let mut skip_next = false;
    loop {
        let token = lexer.token();
        match token {
            Some(Token::Word(_)) if skip_next => skip_next = false,
            Some(Token::Word(word)) => {
                let reserved = words.is_empty() && word.literal().is_some_and(|text| RESERVED.contains(&text));
                if !reserved {
                    words.push(word);
                }
            }
            Some(Token::Redirection(has_target)) => skip_next = has_target,
            Some(Token::End) | None => {
                skip_next = false;
                if let (Some(first), Some(last)) = (words.first(), words.last()) {
                    let span = first.span.cover(last.span);
                    found.push(Command { words: std::mem::take(&mut words), span });
                }
                if token.is_none() {
                    return Body { commands: found, here_documents: lexer.bodies };
                }
            }
        }
    }
}

impl Word {
    /// The word, if it is nothing but text.
    pub(crate) fn literal(&self) -> Option<&str> {
        match &self.pieces[..] {
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    /// The delimiters of the here-documents that start behind this line, and whether tabs before them are dropped.
    here_documents: Vec<(String, bool)>,
    /// The texts of those that have ended.
    bodies: Vec<Span>,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, what: &str) -> bool {
        let found = self.text[self.at..].starts_with(what);
        if found {
            self.at += what.len();
        }
        found
    }

    /// Everything up to `end`, which is eaten too; all that is left where it does not come.
    fn until(&mut self, end: &str) -> &str {
        let rest = &self.text[self.at..];
        let length = rest.find(end).unwrap_or(rest.len());
        self.at += length;
        self.eat(end);
        &rest[..length]
    }

    fn token(&mut self) -> Option<Token> {
        loop {
            match self.peek()? {
                ' ' | '\t' | '\r' => self.at += 1,
                '\\' if self.text[self.at..].starts_with("\\\n") => self.at += 2,
                '#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                '\n' => {
                    self.at += 1;
                    self.skip_here_documents();
                    return Some(Token::End);
                }
                '&' if self.eat("&>>") || self.eat("&>") => return Some(Token::Redirection(true)),
                ';' | '&' | '|' | '(' | ')' => {
                    self.at += 1;
                    return Some(Token::End);
                }
                '<' if self.eat("<<<") => return Some(Token::Redirection(true)),
                '<' if self.eat("<<-") => return Some(self.here_document(true)),
                '<' if self.eat("<<") => return Some(self.here_document(false)),
                '<' | '>' => return Some(self.redirection()),
                c if c.is_ascii_digit() && self.is_numbered_redirection() => {
                    self.at += 1;
                    return Some(self.redirection());
                }
                _ => return Some(Token::Word(self.word())),
            }
        }
    }

    /// `2>file`: one digit before the arrow.
    fn is_numbered_redirection(&self) -> bool {
        matches!(self.text.as_bytes().get(self.at + 1), Some(b'<' | b'>'))
    }

    fn redirection(&mut self) -> Token {
        for arrow in [">>", ">&", ">|", "<&", "<>", ">", "<"] {
            if self.eat(arrow) {
                break;
            }
        }
        if self.peek() == Some('(') {
            self.at += 1; // <(…), a process's output as a file
            self.balanced('(', ')');
            return Token::Redirection(false);
        }
        Token::Redirection(true)
    }

    fn here_document(&mut self, tabs: bool) -> Token {
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.at += 1;
        }
        let word = self.word();
        let delimiter = word.literal().unwrap_or_default().to_owned();
        if !delimiter.is_empty() {
            self.here_documents.push((delimiter, tabs));
        }
        Token::Redirection(false)
    }

    fn skip_here_documents(&mut self) {
        for (delimiter, tabs) in std::mem::take(&mut self.here_documents) {
            let start = self.at;
            while self.at < self.text.len() {
                let line = self.until("\n");
                let line = if tabs { line.trim_start_matches('\t') } else { line };
                if line == delimiter {
                    break;
                }
            }
            self.bodies.push(Span::new(start, self.at));
        }
    }

    fn word(&mut self) -> Word {
        let start = self.at;
        let mut pieces = Pieces::default();
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                '\\' => {
                    self.at += 1;
                    match self.bump() {
                        Some('\n') | None => {}
                        Some(c) => pieces.char(c),
                    }
                }
                '\'' => {
                    self.at += 1;
                    let text = self.until("'").to_owned();
                    pieces.text(&text);
                }
                '"' => {
                    self.at += 1;
                    self.double_quoted(&mut pieces);
                }
                '$' | '`' => self.expansion(&mut pieces),
                _ => {
                    self.at += c.len_utf8();
                    pieces.char(c);
                }
            }
        }
        if self.at == start {
            self.bump(); // a stray character that nothing else takes: never stand still
        }
        Word { pieces: pieces.finish(), span: Span::new(start, self.at) }
    }

    fn double_quoted(&mut self, pieces: &mut Pieces) {
        pieces.text("");
        while let Some(c) = self.peek() {
            match c {
                '"' => {
                    self.at += 1;
                    return;
                }
                '\\' => {
                    self.at += 1;
                    match self.bump() {
                        Some('\n') | None => {}
                        Some(c @ ('"' | '\\' | '$' | '`')) => pieces.char(c),
                        Some(c) => {
                            pieces.char('\\');
                            pieces.char(c);
                        }
                    }
                }
                '$' | '`' => self.expansion(pieces),
                _ => {
                    self.at += c.len_utf8();
                    pieces.char(c);
                }
            }
        }
    }

    fn expansion(&mut self, pieces: &mut Pieces) {
        if self.eat("`") {
            self.until("`");
            return pieces.push(Piece::Opaque);
        }
        self.at += 1; // $
        if self.eat("((") {
            let inner = self.until("))").to_owned();
            return pieces.push(Piece::Arithmetic(inner));
        }
        if self.eat("(") {
            self.balanced('(', ')');
            return pieces.push(Piece::Opaque);
        }
        if self.eat("{") {
            let start = self.at;
            self.balanced('{', '}');
            let inner = self.text[start..self.at].strip_suffix('}').unwrap_or(&self.text[start..self.at]);
            return pieces.push(braced(inner));
        }
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = &rest[..length];
        match name.chars().next() {
            Some(c) if !c.is_ascii_digit() => {
                self.at += length;
                pieces.push(Piece::Variable { name: name.to_owned(), default: None });
            }
            Some(_) => {
                self.at += 1;
                pieces.push(Piece::Opaque);
            }
            None if matches!(self.peek(), Some('@' | '*' | '#' | '?' | '!' | '$' | '-')) => {
                self.at += 1;
                pieces.push(Piece::Opaque);
            }
            None => pieces.char('$'),
        }
    }

    /// Behind an opening bracket: everything up to the closing one, which is eaten too.
    fn balanced(&mut self, open: char, close: char) {
        let mut depth = 1usize;
        while let Some(c) = self.bump() {
            match c {
                '\\' => drop(self.bump()),
                '\'' if open == '(' => drop(self.until("'").len()),
                _ if c == open => depth += 1,
                _ if c == close => {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    }
}

/// The inside of `${…}`.
fn braced(inner: &str) -> Piece {
    let length = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (name, rest) = inner.split_at(length);
    let default = [":-", ":=", "-", "="].iter().find_map(|operator| rest.strip_prefix(operator));
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Piece::Opaque;
    }
    match default {
        _ if rest.is_empty() => Piece::Variable { name: name.to_owned(), default: None },
        // A default that is itself an expansion is left to the shell.
        Some(default) if !default.contains(['$', '`', '\\', '"', '\'']) => {
            Piece::Variable { name: name.to_owned(), default: Some(default.to_owned()) }
        }
        _ if rest.starts_with(":?") || rest.starts_with('?') => {
            Piece::Variable { name: name.to_owned(), default: None }
        }
        _ => Piece::Opaque,
    }
}

/// Pieces in the making: neighbouring texts are one.
#[derive(Default)]
struct Pieces {
    pieces: Vec<Piece>,
}

impl Pieces {
    fn text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Literal(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Literal(text.to_owned())),
        }
    }

    fn char(&mut self, c: char) {
        self.text(c.encode_utf8(&mut [0; 4]));
    }

    fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }

    fn finish(self) -> Vec<Piece> {
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Words joined by `|`, variables as `<NAME>`, what is opaque as `?`.
    fn shown(text: &str) -> Vec<String> {
        let piece = |piece: &Piece| match piece {
            Piece::Literal(text) => text.clone(),
            Piece::Variable { name, default: None } => format!("<{name}>"),
            Piece::Variable { name, default: Some(default) } => format!("<{name}:{default}>"),
            Piece::Arithmetic(text) => format!("<({text})>"),
            Piece::Opaque => "?".to_owned(),
        };
        let word = |word: &Word| word.pieces.iter().map(piece).collect::<String>();
        read(text).commands.iter().map(|command| command.words.iter().map(word).collect::<Vec<_>>().join("|")).collect()
    }

    #[test]
    fn commands_and_words() {
        let cases: &[(&str, &[&str])] = &[
            ("srun -n 4 ./a # b", &["srun|-n|4|./a"]),
            ("srun \\\n  -n 4 \\\n  ./a\n", &["srun|-n|4|./a"]),
            ("a 'b c' \"d $E\" \\$F", &["a|b c|d <E>|$F"]),
            ("a; b && c | d & e", &["a", "b", "c", "d", "e"]),
            ("if true; then srun a; fi", &["true", "srun|a"]),
            ("a > out 2>&1 < in b", &["a|b"]),
            ("a &> out", &["a"]),
            ("cat <<EOF\nsrun x\nEOF\nb", &["cat", "b"]),
            ("cat <<-'E'\n\tsrun x\n\tE\nb", &["cat", "b"]),
            ("BATCH=${BATCH:-64} x", &["BATCH=<BATCH:64>|x"]),
            ("a $((2 * N)) $(nproc) `nproc` ${A%x} $1 ${B}", &["a|<(2 * N)>|?|?|?|?|<B>"]),
            ("a '$SLURM_PROCID'", &["a|$SLURM_PROCID"]),
            ("(cd x && y)", &["cd|x", "y"]),
            ("a $(echo $(b) ')' ) c", &["a|?|c"]),
            ("a \"unfinished", &["a|unfinished"]),
            ("echo $", &["echo|$"]),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), *expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[a$`'\"\\\\(){}<>|&; \n#=:é-]{0,60}") {
            for command in read(&text).commands {
                for word in &command.words {
                    prop_assert!(text.get(word.span.range()).is_some());
                }
            }
        }
    }
}
