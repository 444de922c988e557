//! Recipes: the flags of a training run in a TOML file, as text and as lines. What a flag means, its program knows.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::{DeTable, DeValue};

/// The recipes inside the program: their names and texts.
pub const SHIPPED: [(&str, &str); 14] = [
    ("digits", include_str!("../../../recipes/digits.toml")),
    ("cifar10", include_str!("../../../recipes/cifar10.toml")),
    ("finetune", include_str!("../../../recipes/finetune.toml")),
    ("imagenet-resnet50", include_str!("../../../recipes/imagenet-resnet50.toml")),
    ("resnet50-a1", include_str!("../../../recipes/resnet50-a1.toml")),
    ("resnet50-a2", include_str!("../../../recipes/resnet50-a2.toml")),
    ("resnet50-a3", include_str!("../../../recipes/resnet50-a3.toml")),
    ("resnet50-lars-32k", include_str!("../../../recipes/resnet50-lars-32k.toml")),
    ("resnet50-torchvision", include_str!("../../../recipes/resnet50-torchvision.toml")),
    ("mobilenet-v2-torchvision", include_str!("../../../recipes/mobilenet-v2-torchvision.toml")),
    ("vit-b-16-torchvision", include_str!("../../../recipes/vit-b-16-torchvision.toml")),
    ("vit-small-deit", include_str!("../../../recipes/vit-small-deit.toml")),
    ("swin-t-torchvision", include_str!("../../../recipes/swin-t-torchvision.toml")),
    ("convnext-tiny", include_str!("../../../recipes/convnext-tiny.toml")),
];

/// No recipe is as long, in bytes: what is longer is another file.
pub const LONGEST: u64 = 1 << 20;

/// One line of a recipe: a flag without its dashes, and what would stand behind it.
#[derive(Clone, Debug)]
pub struct Entry<'t> {
    /// The flag.
    pub key: Cow<'t, str>,
    /// Where it stands, from 1.
    pub line: usize,
    /// Its value.
    pub value: DeValue<'t>,
}

/// The text of the recipe at `path`, or of the one inside the program that is called so, where there is no such file.
///
/// # Errors
/// In words, with the path: no such file or recipe, or a file that is not a recipe.
pub fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let shipped = SHIPPED.iter().find(|(name, _)| Path::new(name) == path);
    match (std::fs::metadata(path), shipped) {
        (Err(_), Some((_, text))) => return Ok((*text).to_owned()),
        // A run's folder, say, that is called like the recipe.
        (Ok(found), Some((_, text))) if found.is_dir() => return Ok((*text).to_owned()),
        (Err(error), None) => {
            let names: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
            let meant = suggest::did_you_mean(&shown.to_string(), names.iter().copied());
            return Err(format!("{shown}: {error}{meant}; the recipes inside the program are {}", names.join(", ")));
        }
        (Ok(_), _) => {}
    }
    // What is read counts, not what the file says: a device or a pipe says that it is empty.
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut text));
    read.map_err(|error| format!("{shown}: {error}"))?;
    if text.len() as u64 > LONGEST {
        return Err(format!("{shown}: more than {LONGEST} bytes; that is not a recipe"));
    }
    String::from_utf8(text).map_err(|error| format!("{shown}: not UTF-8 ({error}); that is not a recipe"))
}

/// Whether a recipe inside the program is called `name`.
pub fn is_shipped(name: &str) -> bool {
    SHIPPED.iter().any(|(shipped, _)| *shipped == name)
}

/// The lines of `text`, the recipe that is called `name`, in their order.
///
/// # Errors
/// In words, with name and line: what is not TOML.
pub fn entries<'t>(name: &str, text: &'t str) -> Result<Vec<Entry<'t>>, String> {
    // Where lines end, found once: a recipe of a megabyte may have a line for every other byte.
    let ends: Vec<_> = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(end, _)| end).collect();
    let line = |start: usize| ends.partition_point(|&end| end < start) + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        format!("{name}:{}: {}", line(start), error.message().replace('\n', ", "))
    })?;
    let entry = |(key, value): (toml::Spanned<Cow<'t, str>>, toml::Spanned<DeValue<'t>>)| {
        let line = line(key.span().start);
        Entry { key: key.into_inner(), line, value: value.into_inner() }
    };
    let mut entries: Vec<_> = table.into_inner().into_iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_recipes_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("long.toml"), vec![b'#'; LONGEST as usize + 1]).unwrap();
        std::fs::write(path("bytes.toml"), [0xff, 0xfe]).unwrap();
        std::fs::write(path("good.toml"), "epochs = 1").unwrap();
        let error = |name: &str| read(&path(name)).unwrap_err();
        assert!(error("long.toml").ends_with("more than 1048576 bytes; that is not a recipe"));
        assert!(error("bytes.toml").contains("bytes.toml: not UTF-8"));
        // It says that it has no bytes, and has no end.
        assert!(read(Path::new("/dev/zero")).unwrap_err().ends_with("more than 1048576 bytes; that is not a recipe"));
        let names = SHIPPED.map(|(name, _)| name).join(", ");
        assert!(error("none.toml").ends_with(&format!("the recipes inside the program are {names}")));
        assert_eq!(read(&path("good.toml")).unwrap(), "epochs = 1");
        assert_eq!(read(Path::new("digits")).unwrap(), SHIPPED[0].1);
        assert!(is_shipped("digits") && !is_shipped("digits.toml"));
    }

    #[test]
    fn lines_stand_in_their_order_and_know_their_number() {
        let entries = entries("r", "# first\nlr = 0.1\n\nbatch = 64 # global\n").unwrap();
        let lines: Vec<_> = entries.iter().map(|entry| (entry.line, &*entry.key)).collect();
        assert_eq!(lines, [(2, "lr"), (4, "batch")]);
    }

    #[test]
    fn a_megabyte_of_anything_is_read_or_refused_soon() {
        let start = std::time::Instant::now();
        let length = LONGEST as usize;
        let numbered: String = (0..100_000).map(|number| format!("k{number}=1\n")).collect();
        assert_eq!(entries("r", &numbered).unwrap().last().unwrap().line, 100_000);
        for text in [
            "[".repeat(length),
            format!("a={}", "[".repeat(length)),
            format!("a={}1{}", "[".repeat(length / 2), "]".repeat(length / 2)),
            format!("a={}", "{a=".repeat(length / 3)),
            format!("{}a=1", "a.".repeat(length / 2)),
            format!("[{}a]", "a.".repeat(length / 2)),
            "[[a]]\n".repeat(length / 6),
            "[a.b]\n".repeat(length / 6),
            "a=1\n".repeat(length / 4),
            format!("a=\"\"\"{}", "\"\\".repeat(length / 2)),
            (0..50_000).map(|number| format!("[k{number}]\n")).collect(),
            (0..50_000).map(|number| format!("a.k{number}=1\n")).collect(),
        ] {
            if let Err(reason) = entries("r", &text) {
                assert!(reason.starts_with("r:") && reason.len() < 1000 && !reason.contains('\n'), "{reason}");
            }
            assert!(start.elapsed() < std::time::Duration::from_secs(60), "{}", &text[..20]);
        }
    }

    #[test]
    fn what_is_no_toml_is_named_with_its_line() {
        let error = entries("r.toml", "lr = 0.1\nbatch =\n").unwrap_err();
        assert!(error.starts_with("r.toml:2: "), "{error}");
    }
}
