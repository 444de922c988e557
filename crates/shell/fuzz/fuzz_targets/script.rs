//! Any text is read and followed without a panic and in bounded time, and every place that comes out of it lies inside it, at
//! character boundaries.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shell::{Executed, Shell, Status, Watcher};

struct Places<'t>(&'t str);

impl Watcher for Places<'_> {
    fn command(&mut self, command: &Executed, shell: &mut Shell<'_>) -> Status {
        for word in &command.words {
            // What stands in a text of the script's own making has the place of the command that runs it.
            assert!(self.0.get(word.span.range()).is_some() || shell.place().is_some());
        }
        let _ = shell.child(command.span, &command.words, command);
        Status::Unknown
    }
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let script = shell::parse(&text);
    for span in script.comments.iter().chain(&script.broken) {
        assert!(text.get(span.range()).is_some());
    }
    Shell::new(&|name| (name == "HOME").then(|| "/home/me".to_owned())).run(&script, &mut Places(&text));
});
