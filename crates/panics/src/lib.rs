//! Panics that are caught. In a job of many ranks a panic ends all of them, in the hook of the process ([`hook`]), before anything is
//! unwound; whoever catches one, and reports it in another way, says so here before.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

thread_local! {
    /// This thread's panics are caught and reported by their catcher.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `task` on this thread; a panic in it comes back as its message.
///
/// # Errors
/// The panic's place and message.
pub fn catch<T>(task: impl FnOnce() -> T) -> Result<T, String> {
    let was_caught = CAUGHT.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(task));
    CAUGHT.set(was_caught);
    // Without the hook its place is not known.
    outcome.map_err(|payload| MESSAGE.take().unwrap_or_else(|| format!("panicked: {}", text(&*payload))))
}

/// From here on a panic that nobody [`catch`]es ends in `end`, which gets its message and does not come back.
pub fn hook(end: impl Fn(&str) + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |info| {
        let message = describe(info);
        if CAUGHT.get() {
            MESSAGE.with_borrow_mut(|slot| *slot = Some(message));
        } else {
            end(&message);
        }
    }));
}

/// The message of libtorch at the beginning of a text; what follows it says in dozens of lines where in its C++ that was.
pub fn without_frames(text: &str) -> &str {
    // As it is, and as Rust quotes it.
    let marks = ["\nframe #", "\\nframe #", "\nException raised from ", "\\nException raised from "];
    let end = marks.iter().filter_map(|mark| text.find(mark)).min();
    end.map_or(text, |end| text[..end].trim_end())
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let text = text(info.payload());
    // tch panics where libtorch throws.
    if let Some(quoted) = text.strip_prefix("called `Result::unwrap()` on an `Err` value: Torch(\"") {
        return format!("libtorch: {}", without_frames(quoted.strip_suffix("\")").unwrap_or(quoted)));
    }
    match info.location() {
        Some(place) => format!("panicked at {}:{}: {text}", place.file(), place.line()),
        None => format!("panicked: {text}"),
    }
}

/// What a panic says.
fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorchs_words_come_without_its_frames() {
        let text = "can't allocate memory: you tried to allocate 4 bytes";
        for frames in ["\nframe #0: c10::ThrowEnforce\nframe #1: main", "\nException raised from f at a.cpp:1\n", ""] {
            assert_eq!(without_frames(&format!("{text}{frames}")), text);
            assert_eq!(
                without_frames(&format!("{text}{frames}").escape_debug().to_string()),
                text.escape_debug().to_string()
            );
        }
    }

    #[test]
    fn what_is_caught_comes_back_and_the_hook_sees_the_rest() {
        panic::set_hook(Box::new(|_| {}));
        assert_eq!(catch(|| -> u8 { panic!("on {}", "ice") }), Err("panicked: on ice".to_owned()));
        hook(|message| panic::resume_unwind(Box::new(message.to_owned())));
        assert_eq!(catch(|| 7), Ok(7));
        let caught = catch(|| -> u8 { panic!("on {}", "fire") }).unwrap_err();
        assert!(caught.starts_with("panicked at ") && caught.ends_with(": on fire"), "{caught}");
        // On another thread nobody has said that it is caught; inside one that is, it is.
        let nested = catch(|| catch(|| -> u8 { panic!("inside") }).unwrap_err());
        assert!(nested.unwrap().ends_with("inside"));
        #[derive(Debug)]
        #[expect(dead_code, reason = "shown")]
        enum Thrown {
            Torch(&'static str),
        }
        let throw = || Err::<u8, _>(Thrown::Torch("no memory\nframe #0: main"));
        assert_eq!(catch(|| throw().unwrap()), Err("libtorch: no memory".to_owned()));
        let _ = panic::take_hook();
    }
}
