//! What libtorch says, without where in its C++ it says so.

/// The message at the beginning of a text of libtorch's; dozens of lines of its C++ may follow it.
pub fn without_frames(text: &str) -> &str {
    // As it is, and as Rust quotes it.
    let marks = ["\nframe #", "\\nframe #", "\nException raised from ", "\\nException raised from "];
    let end = marks.iter().filter_map(|mark| text.find(mark)).min();
    end.map_or(text, |end| text[..end].trim_end())
}

/// The message of libtorch in that of a panic: tch panics where libtorch throws.
pub fn thrown(panic: &str) -> Option<String> {
    let quoted = panic.strip_prefix("called `Result::unwrap()` on an `Err` value: Torch(\"")?;
    Some(format!("libtorch: {}", without_frames(quoted.strip_suffix("\")").unwrap_or(quoted))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn messages_come_without_frames() {
        let text = "can't allocate memory: you tried to allocate 4 bytes";
        for frames in ["\nframe #0: c10::ThrowEnforce\nframe #1: main", "\nException raised from f at a.cpp:1\n", ""] {
            let (whole, quoted) = (format!("{text}{frames}"), format!("{text}{frames}").escape_debug().to_string());
            assert_eq!((without_frames(&whole), without_frames(&quoted)), (text, &*text.escape_debug().to_string()));
        }
    }

    #[test]
    fn what_tch_panics_with_is_known() {
        let place = std::panic::catch_unwind(|| Tensor::zeros([1 << 50], (Kind::Float, Device::Cpu)));
        let panic = *place.unwrap_err().downcast::<String>().unwrap();
        assert!(panic.contains("frame #"), "libtorch says no more where it was: {panic}");
        let words = thrown(&panic).unwrap();
        assert!(words.starts_with("libtorch: ") && words.contains("you tried to allocate"), "{words}");
        assert!(!words.contains("frame #") && words.lines().count() == 1, "{words}");
        assert_eq!(thrown("out of cheese"), None);
    }
}
