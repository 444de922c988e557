//! Where this user's fetched files and caches lie: one rule for all programs, that of the XDG Base Directory Specification.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// The folder of `rust-train` in the user's cache folder, which is `XDG_CACHE_HOME`, or `~/.cache`, or where the user has
/// no home either, the folder for temporary files.
pub fn folder() -> PathBuf {
    cache_home(env::var_os("XDG_CACHE_HOME"), env::home_dir()).unwrap_or_else(env::temp_dir).join("rust-train")
}

/// A path that is empty or relative does not count, as the specification says: it would be another folder wherever a
/// program is started.
fn cache_home(named: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    let named = named.map(PathBuf::from);
    let of_home = home.map(|home| home.join(".cache"));
    [named, of_home].into_iter().flatten().find(|folder| folder.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absolute_path_counts() {
        let cases = [
            (Some("/scratch/me"), Some("/home/me"), Some("/scratch/me")),
            (None, Some("/home/me"), Some("/home/me/.cache")),
            (Some(""), Some("/home/me"), Some("/home/me/.cache")),
            (Some("."), Some("/home/me"), Some("/home/me/.cache")),
            (Some("cache/me"), Some("/home/me"), Some("/home/me/.cache")),
            (Some("~/cache"), None, None),
            (Some(""), Some(""), None),
            (None, None, None),
        ];
        for (named, home, expected) in cases {
            let found = cache_home(named.map(OsString::from), home.map(PathBuf::from));
            assert_eq!(found, expected.map(PathBuf::from), "XDG_CACHE_HOME {named:?}, home {home:?}");
        }
    }
}
