//! Panics that are caught. In a job of many ranks a panic ends all of them, in the hook of the process ([`hook`]), before anything is
//! unwound; whoever catches one, and reports it in another way, says so here before.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::OnceLock;

static WORDS: OnceLock<fn(&str) -> Option<String>> = OnceLock::new();

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

/// From here on a panic for whose message `words` has others is told in these, without its place.
pub fn tell_by(words: fn(&str) -> Option<String>) {
    let _ = WORDS.set(words); // whoever was first
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let text = text(info.payload());
    if let Some(words) = WORDS.get().and_then(|words| words(text)) {
        return words;
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
        tell_by(|message| message.strip_prefix("in Latin: ").map(str::to_owned));
        assert_eq!(catch(|| -> u8 { panic!("in Latin: ignis") }), Err("ignis".to_owned()));
        assert!(catch(|| -> u8 { panic!("fire") }).unwrap_err().ends_with(": fire"));
        let _ = panic::take_hook();
    }
}
