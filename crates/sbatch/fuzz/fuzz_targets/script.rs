//! Any text is read without a panic, and every place that comes out of it lies inside it, at character boundaries.
//!
//! `cargo +nightly fuzz run -s none script -- -runs=10000000 -max_len=512` in `crates/sbatch`. There is no unsafe code to
//! need a sanitizer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbatch::{Position, Script};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let script = Script::parse(&text);
    for problem in script.problems() {
        assert!(text.get(problem.span.range()).is_some());
        let _ = problem.kind.to_string();
        let _ = Position::of(&text, problem.span.start);
    }
    for component in 0..script.components() {
        for directive in script.directives(component) {
            assert!(text.get(directive.span.range()).is_some());
            assert!(text.get(directive.value_span.range()).is_some());
            if let Some(value) = &directive.value {
                let _ = directive.option.kind.validate(value);
            }
        }
        let request = script.request(component, |_| None, &[]);
        let _ = request.conflicts().len();
        let _ = request.gres_beside_gpus_per_node().is_some();
    }
});
