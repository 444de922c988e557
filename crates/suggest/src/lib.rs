//! Which name somebody means who has mistyped it.

/// How much alike two names must be, 0–1, for one to be meant by the other: `resnet5` and `resnet50` are 0.97.
const ALIKE: f64 = 0.85;

/// The one of the `known` names that is most like `name`, if any is like it. Case, dashes and underscores do not count.
pub fn closest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let plain = |name: &str| name.chars().filter(|&letter| !"-_ ".contains(letter)).collect::<String>().to_lowercase();
    let name = plain(name);
    let alike = known.into_iter().map(|known| (strsim::jaro_winkler(&name, &plain(known)), known));
    // The first of several that are equally alike.
    let best = alike.fold(None, |best: Option<(f64, &str)>, one| match best {
        Some(best) if best.0 >= one.0 => Some(best),
        _ => Some(one),
    });
    best.filter(|(likeness, _)| *likeness >= ALIKE).map(|(_, known)| known)
}

/// What an error ends with: `; did you mean resnet50?`, or nothing.
pub fn did_you_mean<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    closest(name, known).map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_meant_if_any_is_close() {
        let known = ["resnet18", "resnet50", "wide_resnet50_2", "mobilenet_v3_small", "vit_b_16", "label-smoothing"];
        for (typed, meant) in [
            ("resnet5", Some("resnet50")),
            ("ResNet-50", Some("resnet50")),
            ("resent18", Some("resnet18")),
            ("mobilenetv3_small", Some("mobilenet_v3_small")),
            ("vit-b16", Some("vit_b_16")),
            ("label_smoothing", Some("label-smoothing")),
            ("yolo", None),
            ("", None),
        ] {
            assert_eq!(closest(typed, known), meant, "{typed}");
        }
        assert_eq!(did_you_mean("resnet5", known), "; did you mean resnet50?");
        assert_eq!(did_you_mean("yolo", known), "");
    }
}
