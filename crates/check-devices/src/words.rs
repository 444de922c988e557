//! Words of findings.

/// `1 error`, `2 errors`, `2 processes`.
pub(crate) fn plural(count: usize, what: &str) -> String {
    let ending = if what.ends_with('s') { "es" } else { "s" };
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}{ending}") }
}
