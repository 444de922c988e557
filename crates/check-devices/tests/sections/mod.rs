//! Files of cases: `=== WORD FLAGS`, then sections `--- NAME`.

/// A case.
pub struct Case {
    /// The first word: what the case is, or what it is called.
    pub word: String,
    pub flags: Vec<String>,
    /// The sections' names and texts.
    pub sections: Vec<(String, String)>,
}

/// The cases of a file.
pub fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix("=== ") {
            let mut words = header.split_whitespace().map(str::to_owned);
            let word = words.next().expect("a word");
            cases.push(Case { word, flags: words.collect(), sections: Vec::new() });
        } else if let Some(name) = line.strip_prefix("--- ") {
            cases.last_mut().expect("a case").sections.push((name.to_owned(), String::new()));
        } else if let Some((_, section)) = cases.last_mut().and_then(|case| case.sections.last_mut()) {
            section.push_str(line);
            section.push('\n');
        }
    }
    cases
}
