//! What a flag of a training run is about, said beside its field: `add = Scope::Free`.

use clap::builder::ArgExt;

/// What a flag of a training run is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The result: a run that resumes must have it again. So it is with every flag that does not say otherwise.
    #[default]
    Result,
    /// Where and how fast the result is computed: a run that resumes may have another.
    Free,
    /// This one start of a run: it is not in `plan.toml` either, which is the recipe of the next run.
    OneRun,
}

impl ArgExt for Scope {}

impl Scope {
    /// That of a flag.
    pub fn of(flag: &clap::Arg) -> Self {
        flag.get().copied().unwrap_or_default()
    }
}

/// Marks a flag that the short help shows: `-h` fits on one screen, `--help` has all of them.
#[derive(Clone, Copy, Debug)]
pub struct Essential;

impl ArgExt for Essential {}

/// Why a flag cannot stand in a recipe.
#[derive(Clone, Copy, Debug)]
pub struct NotInRecipe(pub &'static str);

impl ArgExt for NotInRecipe {}
