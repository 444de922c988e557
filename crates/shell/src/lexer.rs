//! Text to tokens: quotes, escapes, continuation lines, comments, here-documents, expansions.

use source_text::Span;

use crate::syntax::{self, Node};
use crate::word::{Index, Operation, Parameter, Parts, Piece, Word, is_name};

/// A token of the shell's grammar.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Word(Word),
    Newline,
    /// `;`
    Semicolon,
    /// `;;`, `;&`, `;;&`
    EndOfArm,
    /// `&`
    Background,
    And,
    Or,
    Pipe,
    Open,
    Close,
    /// `((…))` where a command may stand.
    Arithmetic(Word),
    /// `>`, `2>&1`, `<`, `<<`…
    Redirection(Redirection),
}

/// Where a command reads from, or what else is redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirection {
    /// The next word is a file.
    ToWord,
    /// The next word is what the command reads.
    HereString,
    /// A text that follows the line is what the command reads.
    HereDocument,
}

/// Deeper nesting is not followed: a script is not trusted.
pub(crate) const DEEPEST: usize = 48;

/// Bytes of `[…]` behind an array's name; what is longer is not followed.
const LONGEST_INDEX: usize = 256;

pub(crate) struct Lexer<'t> {
    pub(crate) text: &'t str,
    pub(crate) at: usize,
    pub(crate) end: usize,
    pub(crate) depth: usize,
    /// Something that no shell would read, or that is nested too deeply: the first of it.
    pub(crate) broken: Option<Span>,
    /// Comments.
    pub(crate) comments: Vec<Span>,
    /// The delimiters of the here-documents that start behind this line, and whether tabs before them are dropped.
    here_documents: Vec<(String, bool)>,
}

impl<'t> Lexer<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, at: 0, end: text.len(), depth: 0, broken: None, comments: Vec::new(), here_documents: Vec::new() }
    }

    pub(crate) fn rest(&self) -> &'t str {
        &self.text[self.at..self.end]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, what: &str) -> bool {
        let found = self.rest().starts_with(what);
        if found {
            self.at += what.len();
        }
        found
    }

    pub(crate) fn broken_at(&mut self, start: usize) {
        if self.broken.is_none() {
            let mut start = start.min(self.end);
            while !self.text.is_char_boundary(start) {
                start -= 1;
            }
            let length = self.text[start..self.end].chars().next().map_or(0, char::len_utf8);
            self.broken = Some(Span::new(start, start + length));
        }
    }

    /// Everything up to `end`, which is eaten too; all that is left, and broken, where it does not come.
    fn until(&mut self, end: &str) -> &'t str {
        let start = self.at;
        let rest = self.rest();
        match rest.find(end) {
            Some(length) => {
                self.at += length + end.len();
                &rest[..length]
            }
            None => {
                self.at = self.end;
                self.broken_at(start.saturating_sub(1));
                rest
            }
        }
    }

    /// Blanks, continuation lines and comments.
    fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\\') if self.rest().starts_with("\\\n") => self.at += 2,
                Some('\\') if self.rest().starts_with("\\\r\n") => self.at += 3,
                Some('#') => {
                    let length = self.rest().find('\n').unwrap_or(self.rest().len());
                    self.comments.push(Span::new(self.at, self.at + length));
                    self.at += length;
                }
                _ => return,
            }
        }
    }

    /// The next token; `None` at the end. `commands`: whether a command may start here.
    pub(crate) fn token(&mut self, commands: bool) -> Option<Token> {
        self.skip_blanks();
        let token = match self.peek()? {
            '\n' => {
                self.at += 1;
                self.skip_here_documents();
                Token::Newline
            }
            '&' if self.eat("&&") => Token::And,
            '&' if self.eat("&>>") || self.eat("&>") => Token::Redirection(Redirection::ToWord),
            '&' => self.single(Token::Background),
            '|' if self.eat("||") => Token::Or,
            '|' if self.eat("|&") => Token::Pipe,
            '|' => self.single(Token::Pipe),
            ';' if self.eat(";;&") || self.eat(";;") || self.eat(";&") => Token::EndOfArm,
            ';' => self.single(Token::Semicolon),
            '(' if commands && self.rest().starts_with("((") => self.arithmetic_command(),
            '(' => self.single(Token::Open),
            ')' => self.single(Token::Close),
            '<' if self.eat("<<<") => Token::Redirection(Redirection::HereString),
            '<' if self.eat("<<-") => self.here_document(true),
            '<' if self.eat("<<") => self.here_document(false),
            '<' | '>' if self.rest()[1..].starts_with('(') => Token::Word(self.word()),
            '<' | '>' => self.redirection(),
            c if c.is_ascii_digit() && self.is_numbered_redirection() => {
                self.at += 1;
                if self.eat("<<<") {
                    Token::Redirection(Redirection::HereString)
                } else if self.eat("<<-") {
                    self.here_document(true)
                } else if self.eat("<<") {
                    self.here_document(false)
                } else {
                    self.redirection()
                }
            }
            _ => Token::Word(self.word()),
        };
        Some(token)
    }

    fn single(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    /// `2>file`: one digit before the arrow.
    fn is_numbered_redirection(&self) -> bool {
        matches!(self.rest().as_bytes().get(1), Some(b'<' | b'>'))
    }

    fn redirection(&mut self) -> Token {
        for arrow in [">>", ">&", ">|", "<&", "<>", ">", "<"] {
            if self.eat(arrow) {
                break;
            }
        }
        Token::Redirection(Redirection::ToWord)
    }

    fn here_document(&mut self, tabs: bool) -> Token {
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.at += 1;
        }
        let delimiter = self.word().literal().unwrap_or_default();
        if delimiter.is_empty() {
            self.broken_at(self.at.saturating_sub(1));
        } else {
            self.here_documents.push((delimiter, tabs));
        }
        Token::Redirection(Redirection::HereDocument)
    }

    fn skip_here_documents(&mut self) {
        for (delimiter, tabs) in std::mem::take(&mut self.here_documents) {
            while self.at < self.end {
                let rest = self.rest();
                let length = rest.find('\n').unwrap_or(rest.len());
                self.at += (length + 1).min(rest.len());
                let line = if tabs { rest[..length].trim_start_matches('\t') } else { &rest[..length] };
                if line == delimiter {
                    break;
                }
            }
        }
    }

    /// The tokens of `[[ … ]]` are words, cut at white space alone; `None` at its end or at the script's.
    pub(crate) fn word_of_test(&mut self) -> Option<Word> {
        loop {
            self.skip_blanks();
            match self.peek()? {
                '\n' => self.at += 1,
                _ => break,
            }
        }
        let start = self.at;
        let mut parts = Parts::default();
        // `]]` ends the test also where `;` follows without a space.
        let behind = self.rest().strip_prefix("]]").map(|behind| behind.chars().next());
        if let Some(None | Some(' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | ')')) = behind {
            self.at += 2;
            parts.literal("]]", false);
            return Some(Word { parts: parts.0, span: Span::new(start, self.at) });
        }
        while let Some(c) = self.peek() {
            if matches!(c, ' ' | '\t' | '\r' | '\n') {
                break;
            }
            self.piece(c, &mut parts);
        }
        Some(Word { parts: parts.0, span: Span::new(start, self.at) })
    }

    /// `((…))` as a command.
    fn arithmetic_command(&mut self) -> Token {
        let start = self.at;
        self.at += 2;
        match self.arithmetic() {
            Some(word) => Token::Arithmetic(word),
            None => {
                // Two brackets that only stand side by side.
                self.at = start + 1;
                Token::Open
            }
        }
    }

    /// Behind `((`: the inside, up to `))`; `None`, and nothing is eaten, where the brackets do not close so.
    fn arithmetic(&mut self) -> Option<Word> {
        let start = self.at;
        let mut depth = 0usize;
        let bytes = self.rest().as_bytes();
        let mut length = None;
        for (at, &byte) in bytes.iter().enumerate().take(4096) {
            match byte {
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b')' => {
                    length = (bytes.get(at + 1) == Some(&b')')).then_some(at);
                    break;
                }
                _ => {}
            }
        }
        let length = length?;
        let mut inside = self.part_of(start, start + length);
        let mut parts = Parts::default();
        while let Some(c) = inside.peek() {
            inside.quoted_piece(c, &mut parts);
        }
        self.take_over(inside);
        self.at = start + length + 2;
        Some(Word { parts: parts.0, span: Span::new(start, start + length) })
    }

    /// A lexer of a part of the text, one level deeper.
    fn part_of(&self, start: usize, end: usize) -> Self {
        Self { at: start, end, depth: self.depth + 1, ..Self::new(self.text) }
    }

    fn take_over(&mut self, inside: Self) {
        if self.broken.is_none() {
            self.broken = inside.broken;
        }
        self.comments.extend(inside.comments);
    }

    pub(crate) fn word(&mut self) -> Word {
        let start = self.at;
        let mut parts = Parts::default();
        while let Some(c) = self.peek() {
            match c {
                '(' if parts.is_array_assignment() => {
                    self.at += 1;
                    let words = self.words_of_array();
                    parts.push(Piece::Words(words), false);
                }
                '<' | '>' if self.at == start && self.rest()[1..].starts_with('(') => {
                    self.at += 2;
                    let _ = self.commands_in_brackets(start);
                    parts.push(Piece::Pipe, true);
                }
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                _ => self.piece(c, &mut parts),
            }
        }
        if self.at == start {
            self.bump(); // a stray character that nothing else takes: never stand still
        }
        Word { parts: parts.0, span: Span::new(start, self.at) }
    }

    /// Behind `NAME=(`: words up to the bracket.
    fn words_of_array(&mut self) -> Vec<Word> {
        let start = self.at;
        let mut words = Vec::new();
        self.depth += 1;
        loop {
            self.skip_blanks();
            match self.peek() {
                None => {
                    self.broken_at(start);
                    break;
                }
                Some('\n') => self.at += 1,
                Some(')') => {
                    self.at += 1;
                    break;
                }
                Some(_) if self.depth > DEEPEST => {
                    self.broken_at(start);
                    self.at = self.end;
                }
                Some(_) => words.push(self.word()),
            }
        }
        self.depth -= 1;
        words
    }

    /// One piece outside of quotes, which starts with `c`.
    fn piece(&mut self, c: char, parts: &mut Parts) {
        match c {
            '\\' => {
                self.at += 1;
                match self.bump() {
                    Some('\n') | None => {}
                    Some(c) => parts.literal(c.encode_utf8(&mut [0; 4]), true),
                }
            }
            '\'' => {
                self.at += 1;
                let text = self.until("'");
                parts.literal(text, true);
            }
            '"' => {
                self.at += 1;
                self.double_quoted(parts);
            }
            '$' if self.rest().starts_with("$'") => {
                self.at += 2;
                let text = self.until("'");
                parts.literal(text, true);
            }
            '$' if self.rest().starts_with("$\"") => self.at += 1,
            '$' | '`' => self.expansion(parts, false),
            _ => {
                self.at += c.len_utf8();
                parts.literal(c.encode_utf8(&mut [0; 4]), false);
            }
        }
    }

    fn double_quoted(&mut self, parts: &mut Parts) {
        let start = self.at;
        parts.literal("", true);
        loop {
            match self.peek() {
                None => return self.broken_at(start.saturating_sub(1)),
                Some('"') => {
                    self.at += 1;
                    return;
                }
                Some(c) => self.quoted_piece(c, parts),
            }
        }
    }

    /// One piece inside of double quotes.
    fn quoted_piece(&mut self, c: char, parts: &mut Parts) {
        match c {
            '\\' => {
                self.at += 1;
                match self.bump() {
                    Some('\n') | None => {}
                    Some(c @ ('"' | '\\' | '$' | '`')) => parts.literal(c.encode_utf8(&mut [0; 4]), true),
                    Some(c) => {
                        parts.literal("\\", true);
                        parts.literal(c.encode_utf8(&mut [0; 4]), true);
                    }
                }
            }
            '$' | '`' => self.expansion(parts, true),
            _ => {
                self.at += c.len_utf8();
                parts.literal(c.encode_utf8(&mut [0; 4]), true);
            }
        }
    }

    fn expansion(&mut self, parts: &mut Parts, quoted: bool) {
        let start = self.at;
        if self.eat("`") {
            let length = self.skip_to_backquote(start);
            let mut inside = self.part_of(start + 1, start + 1 + length);
            let nodes = syntax::nested(&mut inside);
            self.take_over(inside);
            return parts.push(Piece::Substitution(nodes), quoted);
        }
        self.at += 1; // $
        if self.rest().starts_with("((") {
            self.at += 2;
            if let Some(word) = self.arithmetic() {
                return parts.push(Piece::Arithmetic(word), quoted);
            }
            self.at -= 2;
        }
        if self.eat("(") {
            let nodes = self.commands_in_brackets(start);
            return parts.push(Piece::Substitution(nodes), quoted);
        }
        if self.eat("{") {
            let parameter = self.braced(start);
            return parts.push(Piece::Parameter(parameter), quoted);
        }
        let rest = self.rest();
        let length = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let length = match rest.chars().next() {
            Some(c) if c.is_ascii_digit() => 1,
            Some('@' | '*' | '#' | '?' | '!' | '$' | '-') => 1,
            _ => length,
        };
        if length == 0 {
            return parts.literal("$", quoted);
        }
        self.at += length;
        let parameter = Parameter { name: rest[..length].to_owned(), index: Index::None, operation: Operation::Value };
        parts.push(Piece::Parameter(parameter), quoted);
    }

    /// Behind a backquote: how many bytes there are up to the next one, which is eaten too.
    fn skip_to_backquote(&mut self, start: usize) -> usize {
        let inside = self.at;
        while let Some(c) = self.bump() {
            match c {
                '`' => return self.at - 1 - inside,
                '\\' => drop(self.bump()),
                _ => {}
            }
        }
        self.broken_at(start);
        self.at - inside
    }

    /// Behind `(`: the commands up to the bracket.
    fn commands_in_brackets(&mut self, start: usize) -> Vec<Node> {
        self.depth += 1;
        let nodes = syntax::up_to_bracket(self, start);
        self.depth -= 1;
        nodes
    }

    /// Behind `${`: the parameter up to the brace.
    fn braced(&mut self, start: usize) -> Parameter {
        let other = |name: &str| Parameter { name: name.to_owned(), index: Index::None, operation: Operation::Other };
        let counts = self.rest().starts_with('#') && !self.rest().starts_with("#}");
        if counts {
            self.at += 1;
        }
        let rest = self.rest();
        let length = match rest.chars().next() {
            Some('@' | '*' | '#' | '?' | '$' | '-') => 1,
            Some('!') => 0, // ${!name}: another variable's
            _ => rest.find(|c: char| !is_name(c)).unwrap_or(rest.len()),
        };
        let name = &rest[..length];
        self.at += length;
        let mut index = Index::None;
        if self.peek() == Some('[') && length > 0 {
            let rest = &self.rest().as_bytes()[1..];
            let end = rest.iter().take(LONGEST_INDEX).position(|&byte| byte == b']');
            if let Some(inside) = end.map(|end| self.rest()[1..=end].to_owned()) {
                self.at += inside.len() + 2;
                index = if inside == "@" || inside == "*" { Index::All } else { Index::One(inside) };
            }
        }
        let operation = if counts {
            Operation::Length
        } else if length == 0 {
            Operation::Other
        } else {
            self.operation()
        };
        match self.peek() {
            Some('}') => {
                self.at += 1;
                Parameter { name: name.to_owned(), index, operation }
            }
            _ => {
                self.skip_to_brace(start);
                other(name)
            }
        }
    }

    fn operation(&mut self) -> Operation {
        let colon = self.rest().starts_with(':');
        let operator = self.rest()[usize::from(colon)..].chars().next();
        let Some(operator @ ('-' | '=' | '+')) = operator else {
            return match self.rest() {
                // `${NAME:?message}`: the value, or the end.
                rest if rest.starts_with(":?") || rest.starts_with('?') => {
                    self.skip_inside();
                    Operation::Value
                }
                rest if rest.starts_with('}') => Operation::Value,
                _ => Operation::Other,
            };
        };
        self.at += 1 + usize::from(colon);
        let word = self.word_in_braces();
        match operator {
            '+' => Operation::Alternative { word, empty_too: colon },
            _ => Operation::Default { word, empty_too: colon },
        }
    }

    /// The word of `${NAME:-word}`, up to the brace, which stays.
    fn word_in_braces(&mut self) -> Word {
        let start = self.at;
        let mut parts = Parts::default();
        self.depth += 1;
        while let Some(c) = self.peek() {
            if c == '}' {
                break;
            }
            if self.depth > DEEPEST {
                self.broken_at(start);
                self.at = self.end;
                break;
            }
            self.piece(c, &mut parts);
        }
        self.depth -= 1;
        Word { parts: parts.0, span: Span::new(start, self.at) }
    }

    /// To the brace that closes, which stays.
    fn skip_inside(&mut self) {
        let mut depth = 0usize;
        while let Some(c) = self.peek() {
            match c {
                '}' if depth == 0 => return,
                '}' => depth -= 1,
                '{' => depth += 1,
                '\\' => drop(self.bump()),
                '\'' | '"' => {
                    // A lone quote (`${X%'}`) is no start of a text that ends lines later.
                    let rest = &self.rest()[1..];
                    let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
                    self.at += line.find(c).map_or(0, |length| length + 1);
                }
                _ => {}
            }
            self.bump();
        }
    }

    fn skip_to_brace(&mut self, start: usize) {
        self.skip_inside();
        if self.bump().is_none() {
            self.broken_at(start);
        }
    }
}
