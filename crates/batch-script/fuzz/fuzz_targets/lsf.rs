//! Any text is read without a panic, and every place that comes out of it lies inside it, at character boundaries.

#![no_main]

use batch_script::{Scheduler, read, scheduler};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let _ = scheduler(&text, &|span| span.start % 7 == 1);
    let script = read(Scheduler::Lsf, &text, &|_| false);
    for span in script.problems.iter().map(|problem| problem.span).chain(script.directives) {
        assert!(text.get(span.range()).is_some());
    }
});
