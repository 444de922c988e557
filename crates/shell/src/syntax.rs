//! Tokens to a tree: the grammar of POSIX's shell, with bash's `[[ ]]`, `(( ))`, `function` and arrays.

use std::rc::Rc;

use source_text::Span;

use crate::lexer::{DEEPEST, Lexer, Redirection, Token};
use crate::word::Word;

/// A command, simple or compound.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// Words, the first of which may be assignments.
    Simple(Command),
    /// `a | b`.
    Pipeline(Vec<Node>),
    /// `a && b || c`: each with whether it stands behind `&&`.
    Chain(Box<Node>, Vec<(bool, Node)>),
    /// `! a`.
    Not(Box<Node>),
    /// `a &`.
    Background(Box<Node>),
    /// Conditions and what follows from them.
    If { arms: Vec<(Vec<Node>, Vec<Node>)>, otherwise: Vec<Node>, span: Span },
    /// `for NAME in WORDS`; without words over the script's own arguments. `select` comes as one whose words are unknown.
    For { name: String, words: Option<Vec<Word>>, is_select: bool, body: Vec<Node>, span: Span },
    /// `for ((start; test; step))`.
    Count { header: Word, body: Vec<Node>, span: Span },
    /// `while`, and `until`.
    While { until: bool, condition: Vec<Node>, body: Vec<Node>, span: Span },
    /// Patterns and what follows from them.
    Case { word: Word, arms: Vec<(Vec<Word>, Vec<Node>)>, span: Span },
    /// `{ a; b; }`.
    Group(Vec<Node>),
    /// `( a; b )`.
    Subshell(Vec<Node>),
    /// `name() { … }`.
    Function { name: String, body: Rc<Vec<Node>> },
    /// `[[ … ]]`.
    Test(Vec<Word>, Span),
    /// `(( … ))`.
    Arithmetic(Word),
}

/// A simple command.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Command {
    pub(crate) words: Vec<Word>,
    pub(crate) span: Span,
    /// Whether it is given its input here: by a here-document or a here-string.
    pub(crate) is_fed: bool,
    /// The file that it reads: `< FILE`.
    pub(crate) input: Option<Word>,
}

/// A script, read.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub(crate) nodes: Vec<Node>,
    /// Comments, in the order of the text: what looks like one in a quoted text or a here-document is none.
    pub comments: Vec<Span>,
    /// The first thing that no shell would read (or that is nested too deeply): what comes behind it is not to be relied on.
    pub broken: Option<Span>,
}

impl Script {
    /// Whether `span` lies in a comment.
    pub fn has_comment(&self, span: Span) -> bool {
        let behind = self.comments.partition_point(|comment| comment.start <= span.start);
        behind > 0 && self.comments[behind - 1].contains(span)
    }
}

/// Reads `text` as a shell would, without running anything.
pub fn parse(text: &str) -> Script {
    let mut lexer = Lexer::new(text);
    let nodes = top(&mut lexer);
    lexer.comments.sort_unstable();
    Script { nodes, comments: lexer.comments, broken: lexer.broken }
}

/// All commands of `lexer`'s text.
fn top(lexer: &mut Lexer<'_>) -> Vec<Node> {
    let mut parser = Parser::new(lexer, 0);
    let mut nodes = parser.list();
    while parser.peek().is_some() {
        // A closing word that nothing opened.
        parser.broken();
        parser.take();
        parser.list();
    }
    nodes.truncate(parser.whole);
    nodes
}

/// The commands of a text inside of another, if it is not too deep.
pub(crate) fn nested(lexer: &mut Lexer<'_>) -> Vec<Node> {
    if lexer.depth > DEEPEST {
        lexer.broken_at(lexer.at);
        return Vec::new();
    }
    top(lexer)
}

/// The commands of `$( … )`, whose first bracket is eaten; `start` is where it stands.
pub(crate) fn up_to_bracket(lexer: &mut Lexer<'_>, start: usize) -> Vec<Node> {
    if lexer.depth > DEEPEST {
        lexer.broken_at(start);
        lexer.at = lexer.end;
        return Vec::new();
    }
    let mut parser = Parser::new(lexer, start);
    let mut nodes = parser.list();
    loop {
        match parser.take() {
            Some(Token::Close) => return nodes,
            None => {
                parser.lexer.broken_at(start);
                return nodes;
            }
            Some(_) => {
                parser.broken();
                nodes.extend(parser.list());
            }
        }
    }
}

/// Words that end a list of commands.
const CLOSING: &[&str] = &["then", "elif", "else", "fi", "do", "done", "esac", "}"];

struct Parser<'l, 't> {
    lexer: &'l mut Lexer<'t>,
    next: Option<Token>,
    /// Where the next token, or the last one that was taken, starts.
    came: usize,
    /// The depth of the outermost list.
    outermost: usize,
    /// How many commands of the outermost list stand on lines that were read to their end: a shell runs a line as a whole.
    whole: usize,
}

impl<'l, 't> Parser<'l, 't> {
    fn new(lexer: &'l mut Lexer<'t>, came: usize) -> Self {
        let outermost = lexer.depth + 1;
        Self { lexer, next: None, came, outermost, whole: 0 }
    }

    /// The next token, where a command may start.
    fn peek(&mut self) -> Option<&Token> {
        self.look(true)
    }

    fn look(&mut self, commands: bool) -> Option<&Token> {
        if self.next.is_none() {
            self.came = self.lexer.at;
            self.next = self.lexer.token(commands);
        }
        self.next.as_ref()
    }

    fn take(&mut self) -> Option<Token> {
        self.peek();
        self.next.take()
    }

    fn broken(&mut self) {
        self.lexer.broken_at(self.came);
    }

    fn is_word(&mut self, text: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(word)) if word.bare() == Some(text))
    }

    fn eat_word(&mut self, text: &str) -> bool {
        let found = self.is_word(text);
        if found {
            self.next = None;
        }
        found
    }

    fn expect_word(&mut self, text: &str) {
        if !self.eat_word(text) {
            self.broken();
        }
    }

    fn skip_newlines(&mut self) {
        while matches!(self.peek(), Some(Token::Newline)) {
            self.next = None;
        }
    }

    /// Commands up to what closes the list, which stays.
    fn list(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        self.lexer.depth += 1;
        if self.lexer.depth > DEEPEST {
            self.lexer.broken_at(self.lexer.at);
            self.lexer.at = self.lexer.end;
            self.next = None;
        }
        loop {
            let ends_line = matches!(self.peek(), None | Some(Token::Newline));
            if ends_line && self.lexer.broken.is_none() && self.lexer.depth == self.outermost {
                self.whole = nodes.len();
            }
            match self.peek() {
                None | Some(Token::Close | Token::EndOfArm) => break,
                Some(Token::Word(word)) if word.bare().is_some_and(|text| CLOSING.contains(&text)) => break,
                Some(Token::Newline | Token::Semicolon | Token::Background) => self.next = None,
                Some(Token::And | Token::Or | Token::Pipe) => {
                    self.broken();
                    self.next = None;
                }
                Some(_) => {
                    let node = self.chain();
                    let background = matches!(self.peek(), Some(Token::Background));
                    nodes.push(if background { Node::Background(Box::new(node)) } else { node });
                }
            }
        }
        self.lexer.depth -= 1;
        nodes
    }

    fn chain(&mut self) -> Node {
        let first = self.pipeline();
        let mut rest = Vec::new();
        loop {
            let is_and = match self.peek() {
                Some(Token::And) => true,
                Some(Token::Or) => false,
                _ => break,
            };
            self.next = None;
            self.skip_newlines();
            rest.push((is_and, self.pipeline()));
        }
        if rest.is_empty() { first } else { Node::Chain(Box::new(first), rest) }
    }

    fn pipeline(&mut self) -> Node {
        let mut negated = false;
        loop {
            if self.eat_word("!") {
                negated = !negated;
            } else if self.eat_word("time") {
                self.eat_word("-p");
            } else {
                break;
            }
        }
        let first = self.command();
        let mut all = vec![first];
        while matches!(self.peek(), Some(Token::Pipe)) {
            self.next = None;
            self.skip_newlines();
            all.push(self.command());
        }
        let node = if all.len() == 1 { all.remove(0) } else { Node::Pipeline(all) };
        if negated { Node::Not(Box::new(node)) } else { node }
    }

    fn command(&mut self) -> Node {
        let start = self.came_now();
        let node = match self.peek() {
            Some(Token::Open) => {
                self.next = None;
                let body = self.list();
                match self.take() {
                    Some(Token::Close) => {}
                    _ => self.broken(),
                }
                Node::Subshell(body)
            }
            Some(Token::Arithmetic(_)) => match self.take() {
                Some(Token::Arithmetic(word)) => Node::Arithmetic(word),
                _ => unreachable!("it was peeked"),
            },
            Some(Token::Word(word)) => match word.bare() {
                Some("if") => self.branches(start),
                Some("for" | "select") => self.for_loop(start),
                Some("while" | "until") => self.while_loop(start),
                Some("case") => self.case(start),
                Some("function") => return self.function(),
                Some("{") => {
                    self.next = None;
                    let body = self.list();
                    self.expect_word("}");
                    Node::Group(body)
                }
                Some("[[") => self.test(start),
                _ => return self.simple(),
            },
            _ => return self.simple(),
        };
        self.skip_redirections();
        node
    }

    /// Where the next token starts.
    fn came_now(&mut self) -> usize {
        match self.peek() {
            Some(Token::Word(word)) => word.span.start,
            _ => self.came,
        }
    }

    fn span_from(&self, start: usize) -> Span {
        let line = &self.lexer.text[start..];
        Span::new(start, start + line.find('\n').unwrap_or(line.len()))
    }

    /// `> file`, `2>&1` behind a compound command.
    fn skip_redirections(&mut self) {
        while let Some(Token::Redirection(kind)) = self.peek() {
            let kind = *kind;
            self.next = None;
            if matches!(kind, Redirection::ToWord | Redirection::HereString) {
                self.look(false);
                self.next = None;
            }
        }
    }

    fn simple(&mut self) -> Node {
        let mut command = Command::default();
        loop {
            // Only the first word may be a reserved one, or start with two brackets.
            match self.look(command.words.is_empty()) {
                Some(Token::Word(_)) => {
                    if let Some(Token::Word(word)) = self.next.take() {
                        command.words.push(word);
                    }
                }
                Some(Token::Redirection(kind)) => {
                    let kind = *kind;
                    let reads = self.lexer.text[..self.lexer.at].ends_with('<');
                    self.next = None;
                    command.is_fed |= matches!(kind, Redirection::HereString | Redirection::HereDocument);
                    if matches!(kind, Redirection::ToWord | Redirection::HereString) {
                        // `<(…)` may follow, which is a word, too.
                        match self.look(false) {
                            Some(Token::Word(word)) => {
                                if reads && kind == Redirection::ToWord {
                                    command.input = Some(word.clone());
                                }
                                self.next = None;
                            }
                            _ => self.broken(),
                        }
                    }
                }
                Some(Token::Open) if command.words.len() == 1 => {
                    self.next = None;
                    if !matches!(self.look(false), Some(Token::Close)) {
                        self.broken();
                        break;
                    }
                    self.next = None;
                    let name = command.words[0].bare().unwrap_or_default().to_owned();
                    return self.function_body(name);
                }
                Some(Token::Open | Token::Arithmetic(_)) => {
                    self.broken();
                    self.next = None;
                }
                _ => break,
            }
        }
        if let (Some(first), Some(last)) = (command.words.first(), command.words.last()) {
            command.span = first.span.cover(last.span);
        }
        Node::Simple(command)
    }

    fn function(&mut self) -> Node {
        self.next = None;
        let name = match self.look(false) {
            Some(Token::Word(word)) => word.bare().unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        self.next = None;
        if matches!(self.look(false), Some(Token::Open)) {
            self.next = None;
            if matches!(self.look(false), Some(Token::Close)) {
                self.next = None;
            }
        }
        self.function_body(name)
    }

    fn function_body(&mut self, name: String) -> Node {
        self.skip_newlines();
        let body = match self.peek() {
            None => {
                self.broken();
                Vec::new()
            }
            Some(_) => vec![self.nested_command()],
        };
        Node::Function { name, body: Rc::new(body) }
    }

    /// A command one level deeper: functions can define functions.
    fn nested_command(&mut self) -> Node {
        self.lexer.depth += 1;
        let node = if self.lexer.depth > DEEPEST {
            self.broken();
            self.lexer.at = self.lexer.end;
            self.next = None;
            Node::Group(Vec::new())
        } else {
            self.command()
        };
        self.lexer.depth -= 1;
        node
    }

    fn branches(&mut self, start: usize) -> Node {
        self.next = None; // if
        let span = self.span_from(start);
        let mut arms = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let condition = self.list();
            self.expect_word("then");
            arms.push((condition, self.list()));
            if self.eat_word("elif") {
                continue;
            }
            if self.eat_word("else") {
                otherwise = self.list();
            }
            self.expect_word("fi");
            return Node::If { arms, otherwise, span };
        }
    }

    /// `do … done`, or bash's `{ … }`.
    fn body(&mut self) -> Vec<Node> {
        while matches!(self.peek(), Some(Token::Newline | Token::Semicolon)) {
            self.next = None;
        }
        let closing = if self.eat_word("{") { "}" } else { "done" };
        if closing == "done" {
            self.expect_word("do");
        }
        let body = self.list();
        self.expect_word(closing);
        body
    }

    fn for_loop(&mut self, start: usize) -> Node {
        let is_select = self.is_word("select");
        self.next = None;
        let span = self.span_from(start);
        if let Some(Token::Arithmetic(_)) = self.look(true) {
            let Some(Token::Arithmetic(header)) = self.next.take() else { unreachable!("it was peeked") };
            return Node::Count { header, body: self.body(), span };
        }
        let name = match self.look(false) {
            Some(Token::Word(word)) => word.bare().unwrap_or_default().to_owned(),
            _ => {
                self.broken();
                String::new()
            }
        };
        self.next = None;
        self.skip_newlines();
        let mut words = None;
        if self.eat_word("in") {
            let mut list = Vec::new();
            while let Some(Token::Word(_)) = self.look(false) {
                if let Some(Token::Word(word)) = self.next.take() {
                    list.push(word);
                }
            }
            words = Some(list);
        }
        Node::For { name, words, is_select, body: self.body(), span }
    }

    fn while_loop(&mut self, start: usize) -> Node {
        let until = self.is_word("until");
        self.next = None;
        let span = self.span_from(start);
        let condition = self.list();
        Node::While { until, condition, body: self.body(), span }
    }

    fn case(&mut self, start: usize) -> Node {
        self.next = None;
        let span = self.span_from(start);
        let word = match self.look(false) {
            Some(Token::Word(_)) => match self.next.take() {
                Some(Token::Word(word)) => word,
                _ => unreachable!("it was peeked"),
            },
            _ => {
                self.broken();
                Word::default()
            }
        };
        self.skip_newlines();
        self.expect_word("in");
        let mut arms = Vec::new();
        loop {
            self.skip_newlines();
            if self.eat_word("esac") {
                break;
            }
            if matches!(self.look(false), Some(Token::Open)) {
                self.next = None;
            }
            let mut patterns = Vec::new();
            loop {
                match self.look(false) {
                    Some(Token::Word(_)) => {
                        if let Some(Token::Word(word)) = self.next.take() {
                            patterns.push(word);
                        }
                    }
                    Some(Token::Pipe) => self.next = None,
                    _ => break,
                }
            }
            match self.take() {
                Some(Token::Close) => {}
                _ => {
                    self.broken();
                    break;
                }
            }
            arms.push((patterns, self.list()));
            if matches!(self.peek(), Some(Token::EndOfArm)) {
                self.next = None;
            } else {
                self.expect_word("esac");
                break;
            }
        }
        Node::Case { word, arms, span }
    }

    fn test(&mut self, start: usize) -> Node {
        self.next = None; // [[
        let mut words = Vec::new();
        loop {
            match self.lexer.word_of_test() {
                Some(word) if word.bare() == Some("]]") => break,
                Some(word) => words.push(word),
                None => {
                    self.broken();
                    break;
                }
            }
        }
        Node::Test(words, self.span_from(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_no_shell_reads_is_said() {
        let sound = [
            "a; b && c | d & e\n",
            "if a; then b; elif c; then d; else e; fi",
            "for i in 1 2; do a $i; done > log 2>&1",
            "for ((i=0; i<4; i++)); do a; done",
            "while read -r line; do a; done < file",
            "case $x in a|b) c ;; (d) e ;; *) ;; esac",
            "f() { a; }; function g { b; }; function h() ( c )",
            "[[ $a == b* && ( -f c || $d =~ ^(x|y)$ ) ]] && e",
            "if [[ $a ]]; then b; fi",
            "while [[ $a ]];do b; done; [[ a ]]&& b; ([[ a ]])",
            "(( a > 1 )) && b",
            "cat <<EOF > out\n$( fi \" ' \nEOF\nb",
            "a=(1 2 $(b)\n 3) c",
            "x=$(case a in b) c;; esac)",
            "x=`a \\` b`",
            "a \"${b:-\"c d\"}\" ${e%'}'} ${f#*\\}}",
            "diff <(a) <(b)",
            "echo \"it's\" # don't",
            "{ a; } 2>/dev/null",
        ];
        for text in sound {
            assert_eq!(parse(text).broken, None, "{text}");
        }
        for text in [
            "if a; then b",
            "a \"b",
            "fi",
            "for i in a; do b",
            "case a in b",
            "$(a",
            "a )",
            "f( x",
            "${a",
            "f(\u{fffd}{ c; }",
            "[[ a\u{c} b",
        ] {
            assert!(parse(text).broken.is_some(), "{text}");
        }
        // However deep, however long: neither a full stack nor minutes.
        for text in ["$(", "{ ", "(", "if a; then ", "((", "${a:-", "`", "f() ", "a=(", "case a in b) ", "! ", "[[ "] {
            let _ = parse(&text.repeat(20_000));
        }
    }

    #[test]
    fn comments_are_comments() {
        let text = "#!/bin/sh\na '\n# not\n' # yes\nb <<E\n# not\nE\n# yes\n";
        let comments: Vec<_> = parse(text).comments.iter().map(|span| &text[span.range()]).collect();
        assert_eq!(comments, ["#!/bin/sh", "# yes", "# yes"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(if|then|fi|for|do|done|case|in|esac|\\[\\[|\\]\\]|[a$`'\"\\\\(){}<>|&; \n#=:é-]){0,60}") {
            for comment in parse(&text).comments {
                prop_assert!(text.get(comment.range()).is_some());
            }
        }
    }
}
