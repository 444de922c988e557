//! Launchers: `srun`, `mpirun`, `torchrun`, `accelerate launch`, `deepspeed`, and one inside the other.

use sbatch::Span;

use super::launcher::Launcher;
use super::options::values;
use crate::shell::{Argument, Executed};

/// One launcher of a command and its options.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) launcher: Launcher,
    /// The launcher's own words.
    pub(crate) span: Span,
    options: Vec<(String, Argument)>,
}

impl Step {
    /// The value of the first of `names` that is given; the last time counts. `Some` with an empty text for a flag.
    pub(crate) fn option(&self, names: &[&str]) -> Option<&Argument> {
        let mut found = self.options.iter().filter(|(name, _)| names.contains(&name.as_str()));
        found.next_back().map(|(_, value)| value)
    }

    /// The option's value as a number, and where it stands.
    pub(crate) fn number(&self, names: &[&str]) -> Option<(usize, Span)> {
        let value = self.option(names)?;
        Some((value.known()?.parse().ok()?, value.span))
    }
}

/// A command that starts a program, through one launcher or several.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Outermost first.
    pub(crate) steps: Vec<Step>,
    /// The program.
    pub(crate) program: Option<Argument>,
    /// Its arguments.
    pub(crate) arguments: Vec<Argument>,
    /// The whole command.
    pub(crate) span: Span,
}

impl Launch {
    /// The step of this launcher.
    pub(crate) fn step(&self, launcher: Launcher) -> Option<&Step> {
        self.steps.iter().find(|step| step.launcher == launcher)
    }

    /// The program's file name.
    pub(crate) fn program_name(&self) -> Option<&str> {
        self.program.as_ref()?.known().map(file_name)
    }
}

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Every command that a launcher starts, and every one that starts a known trainer without one.
pub(crate) fn launches(commands: &[Executed]) -> Vec<Launch> {
    let launch = |command: &Executed| {
        let mut words = &command.words[..];
        let mut steps = Vec::new();
        words = skip_wrappers(words);
        while let Some((launcher, used)) = launcher(words) {
            let (step, rest) = read_step(launcher, words, used);
            steps.push(step);
            words = skip_wrappers(rest);
        }
        let words = behind_python(words).filter(|rest| !rest.is_empty()).unwrap_or(words);
        let (program, arguments) = words.split_first().map_or((None, words), |(program, rest)| (Some(program), rest));
        let launch = Launch { steps, program: program.cloned(), arguments: arguments.to_vec(), span: command.span };
        let starts = !launch.steps.is_empty() || super::trainer(&launch).is_some();
        starts.then_some(launch)
    };
    commands.iter().filter_map(launch).collect()
}

fn is_python(word: &Argument) -> bool {
    word.known().is_some_and(|text| {
        let rest = file_name(text).strip_prefix("python");
        rest.is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
    })
}

/// What follows `python` and its own flags, if that is what `words` start with.
fn behind_python(words: &[Argument]) -> Option<&[Argument]> {
    let (python, rest) = words.split_first()?;
    let flags = rest.iter().take_while(|word| matches!(word.known(), Some("-u" | "-O" | "-B"))).count();
    is_python(python).then_some(&rest[flags..])
}

/// `env A=1`, `nohup`, `numactl --…`, `stdbuf -oL`: what stands before a program without being one.
fn skip_wrappers(mut words: &[Argument]) -> &[Argument] {
    loop {
        let Some(first) = words.first().and_then(Argument::known) else { return words };
        let skipped = match file_name(first) {
            "env" => {
                1 + words[1..]
                    .iter()
                    .take_while(|word| word.known().is_some_and(|text| text.contains('=') || text.starts_with('-')))
                    .count()
            }
            "nohup" | "time" | "nice" => 1,
            "numactl" | "stdbuf" | "taskset" | "timeout" => {
                let options =
                    words[1..].iter().take_while(|word| word.known().is_some_and(|text| text.starts_with('-'))).count();
                1 + options + usize::from(matches!(file_name(first), "timeout"))
            }
            _ => return words,
        };
        words = words.get(skipped..).unwrap_or_default();
    }
}

/// The launcher that `words` start with, and how many words name it.
fn launcher(words: &[Argument]) -> Option<(Launcher, usize)> {
    let known = |index: usize| words.get(index).and_then(Argument::known);
    match file_name(known(0)?) {
        "srun" => Some((Launcher::Srun, 1)),
        "mpirun" | "mpiexec" | "mpiexec.hydra" | "orterun" | "prterun" => Some((Launcher::Mpirun, 1)),
        "torchrun" => Some((Launcher::Torchrun, 1)),
        "accelerate" if known(1) == Some("launch") => Some((Launcher::Accelerate, 2)),
        "deepspeed" => Some((Launcher::Deepspeed, 1)),
        _ => match behind_python(words)? {
            [dash_m, module, rest @ ..] if dash_m.known() == Some("-m") => {
                let used = words.len() - rest.len();
                match module.known()? {
                    "torch.distributed.run" | "torch.distributed.launch" => Some((Launcher::Torchrun, used)),
                    "accelerate.commands.launch" => Some((Launcher::Accelerate, used)),
                    _ => None,
                }
            }
            _ => None,
        },
    }
}

/// The launcher's options up to the program.
fn read_step(launcher: Launcher, words: &[Argument], used: usize) -> (Step, &[Argument]) {
    let mut options = Vec::new();
    let mut next = used;
    while let Some(word) = words.get(next) {
        let Some(text) = word.known() else {
            // `$SRUN_ARGS`, unknown here, is likely options; anything with a path in it is likely the program.
            if word.variables.is_empty() || next + 1 == words.len() {
                break;
            }
            next += 1;
            continue;
        };
        if text == "--" {
            next += 1;
            break;
        }
        let Some(dashless) = text.strip_prefix("--").or_else(|| text.strip_prefix('-')).filter(|name| !name.is_empty())
        else {
            if text.is_empty() {
                next += 1;
                continue;
            }
            break;
        };
        next += 1;
        let is_long = text.starts_with("--");
        if let Some((name, value)) = dashless.split_once('=') {
            let value = Argument { text: Some(value.to_owned()), ..word.clone() };
            options.push((name.replace('_', "-"), value));
        } else if launcher == Launcher::Srun && !is_long {
            next += read_letters(dashless, word, words.get(next), &mut options);
        } else {
            let count = values(launcher, dashless);
            let value = if count > 0 { words.get(next) } else { None };
            let value = value.cloned().unwrap_or_else(|| Argument { text: Some(String::new()), ..word.clone() });
            options.push((dashless.replace('_', "-"), value));
            next += count;
        }
    }
    let next = next.min(words.len());
    let span = words[..next].iter().map(|word| word.span).reduce(Span::cover).unwrap_or_default();
    (Step { launcher, span, options }, &words[next..])
}

/// `-n4`, `-n 4`, `-lN2`: how many words behind this one they take.
fn read_letters(
    letters: &str,
    word: &Argument,
    following: Option<&Argument>,
    options: &mut Vec<(String, Argument)>,
) -> usize {
    for (at, letter) in letters.char_indices() {
        let name = letter.to_string();
        if values(Launcher::Srun, &name) == 0 {
            options.push((name, Argument { text: Some(String::new()), ..word.clone() }));
            continue;
        }
        let rest = &letters[at + letter.len_utf8()..];
        if rest.is_empty() {
            options.extend(following.map(|value| (name, value.clone())));
            return 1;
        }
        options.push((name, Argument { text: Some(rest.to_owned()), ..word.clone() }));
        return 0;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::{execute, read};

    fn shown(text: &str) -> Vec<String> {
        let executed = execute(&read(text).commands, Default::default(), &|_| None);
        let show = |launch: &Launch| {
            let steps: Vec<_> = launch.steps.iter().map(|step| step.launcher.name()).collect();
            format!("{} > {} {}", steps.join(" > "), launch.program_name().unwrap_or("?"), launch.arguments.len())
        };
        launches(&executed).iter().map(show).collect()
    }

    #[test]
    fn launchers_and_programs() {
        let cases: &[(&str, &[&str])] = &[
            ("srun -n 4 --mpi=pmix ./a x", &["srun > a 1"]),
            ("srun -lN2 --ntasks-per-node 4 a", &["srun > a 0"]),
            ("srun --gpus-per-task 1 --cpu-bind none -- python -u t.py --batch 4", &["srun > t.py 2"]),
            ("mpirun -np 8 --mca btl tcp,self -x PATH --map-by ppr:4:node a", &["mpirun > a 0"]),
            ("mpiexec -n 4 -ppn 2 -genv A 1 a b", &["mpirun > a 1"]),
            ("srun torchrun --nnodes 2 --nproc_per_node=4 t.py --x 1", &["srun > torchrun > t.py 2"]),
            ("python -m torch.distributed.run --nproc-per-node 4 t.py", &["torchrun > t.py 0"]),
            ("python3 -u -m torch.distributed.launch --use_env --nproc_per_node 4 t.py", &["torchrun > t.py 0"]),
            ("accelerate launch --multi_gpu --num_processes 8 t.py", &["accelerate launch > t.py 0"]),
            ("deepspeed --num_gpus 4 t.py", &["deepspeed > t.py 0"]),
            ("time srun env A=1 nohup a", &["srun > a 0"]),
            ("srun $FLAGS a b", &["srun > a 1"]),
            ("echo srun; hostname", &[]),
            ("./rust-train --batch 64", &[" > rust-train 2"]),
            ("srun", &["srun > ? 0"]),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), *expected, "{text}");
        }
    }
}
