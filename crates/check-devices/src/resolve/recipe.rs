//! The recipe of a trainer (`--config`): found where the job would find it, its lines as flags.

use std::path::Path;

use anyhow::anyhow;
use shell::Executed;
use toml::de::DeValue;

use crate::commands::{RecipeFlag, Trainer, TrainerKind};
use crate::origin::{Origin, Sourced};
use crate::subject::Recipe;

/// The trainer with the flags of its recipe, for a script with these commands that is submitted from this folder; and what became of that, where it has one.
///
/// # Errors
/// A recipe that a flag of this program names, and that is none.
pub(super) fn with_recipe<'l>(
    trainer: Trainer<'l>,
    script: Option<(&[Executed], &Path)>,
) -> anyhow::Result<(Trainer<'l>, Option<Recipe>)> {
    let is_named = trainer.kind == TrainerKind::RustTrain && !trainer.lacks("config");
    if !is_named {
        return Ok((trainer, None));
    }
    let Some(Sourced { value: name, origin }) = trainer.text("config") else {
        return Ok((trainer, Some(Recipe::Unknown("its name is a variable that is not known here"))));
    };
    let (Some((commands, folder)), false) = (script, origin == Origin::Flag) else {
        let flags = flags(&name, Path::new("")).map_err(|why| anyhow!("--config {why}"))?;
        return Ok((trainer.with_recipe(flags), Some(Recipe::Read)));
    };
    let changes_folder = |word: &str| matches!(word, "cd" | "pushd");
    let is_elsewhere = Path::new(&name).is_relative()
        && !recipes::is_shipped(&name)
        && commands
            .iter()
            .any(|command| command.words.first().and_then(|word| word.known()).is_some_and(changes_folder));
    if is_elsewhere {
        return Ok((trainer, Some(Recipe::Unknown("its path is relative, and the script changes the folder"))));
    }
    Ok(match flags(&name, folder) {
        Ok(flags) => (trainer.with_recipe(flags), Some(Recipe::Read)),
        Err(why) => (trainer, Some(Recipe::Unreadable(Sourced::new(why, origin)))),
    })
}

/// The flags of the recipe that is called `name` in `folder`.
fn flags(name: &str, folder: &Path) -> Result<Vec<RecipeFlag>, String> {
    let path = folder.join(name);
    // Without a file of that name, the name is one of those inside the program.
    let text = if path.exists() && !(path.is_dir() && recipes::is_shipped(name)) {
        recipes::read(&path)
    } else {
        recipes::read(Path::new(name))
    }?;
    let short = Path::new(name).file_name().map_or(name.into(), |file| file.to_string_lossy());
    let mut flags = Vec::new();
    for recipes::Entry { key, line, value } in recipes::entries(name, &text)? {
        let value = word(&value).ok_or_else(|| format!("{name}:{line}: {key}: is not a value of a flag"))?;
        flags.push(RecipeFlag { name: key.into_owned(), value, place: format!("{short}:{line}") });
    }
    Ok(flags)
}

/// What stands behind a flag for this value.
fn word(value: &DeValue<'_>) -> Option<String> {
    Some(match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok()?.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Array(values) => {
            let words: Option<Vec<_>> = values.iter().map(|value| word(value.get_ref())).collect();
            words?.join(",")
        }
        DeValue::Datetime(_) | DeValue::Table(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_flags_with_their_places() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pets.toml");
        std::fs::write(&path, "batch = 0x60\nlr = 0.1\n\nsync-bn = true\nmilestones = [1, 2]\nmodel = \"resnet18\"\n")
            .unwrap();
        let flags = flags("pets.toml", folder.path()).unwrap();
        let lines: Vec<_> = flags.iter().map(|flag| format!("{} {} {}", flag.name, flag.value, flag.place)).collect();
        let expected = [
            "batch 96 pets.toml:1",
            "lr 0.1 pets.toml:2",
            "sync-bn true pets.toml:4",
            "milestones 1,2 pets.toml:5",
            "model resnet18 pets.toml:6",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_no_recipe_says_why() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("date.toml"), "epochs = 3\nlr = 2026-11-26\n").unwrap();
        std::fs::write(folder.path().join("text.toml"), "epochs\n").unwrap();
        for (name, why) in [
            ("date.toml", "date.toml:2: lr: is not a value of a flag"),
            ("text.toml", "text.toml:1: "),
            ("none.toml", "none.toml: No such file or directory"),
        ] {
            let got = flags(name, folder.path()).unwrap_err();
            assert!(got.contains(why), "{got}");
        }
    }
}
