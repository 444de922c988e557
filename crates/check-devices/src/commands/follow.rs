//! From the commands of a script to what they start: through wrappers, shells, scripts beside this one, and launchers.

use shell::{Argument, Executed, Reason, Shell, Status, Value, Watcher};
use source_text::Span;

use super::launch::{Launch, Step, file_name, name_of};
use super::launcher::{LAUNCHERS, Launcher, Reach};
use super::wrapper::{WRAPPERS, Wrapper};

/// Reads files that a script names, for what they start.
pub(crate) trait Files {
    /// The text of `path`, which is relative to `folder` (itself relative to where the job starts); `None` where it is not
    /// there, or is no text.
    fn read(&self, folder: &str, path: &str) -> Option<String>;
}

/// What a script does.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// All its commands, those of scripts that it starts among them.
    pub(crate) commands: Vec<Executed>,
    /// What they start.
    pub(crate) launches: Vec<Launch>,
    /// Why it is not followed to its end, where it is not.
    pub(crate) broken: Option<Reason>,
}

/// Follows `script` in `shell`.
pub(crate) fn follow(script: &shell::Script, shell: &mut Shell<'_>, files: &dyn Files) -> Followed {
    let mut follower = Follower { files, found: Followed::default() };
    shell.run(script, &mut follower);
    let mut found = follower.found;
    found.broken = match script.broken {
        Some(span) => Some(Reason::new("the script cannot be read as a shell would from here on", span)),
        None if shell.is_exhausted() => Some(Reason::new("the script is too long to be followed", None)),
        None => None,
    };
    found
}

struct Follower<'f> {
    files: &'f dyn Files,
    found: Followed,
}

impl Watcher for Follower<'_> {
    fn command(&mut self, command: &Executed, shell: &mut Shell<'_>) -> Status {
        if !command.words.is_empty() {
            let mut chain = Chain { steps: Vec::new(), early: Vec::new() };
            self.chain(&mut chain, &command.words, command, shell);
        }
        self.found.commands.push(command.clone());
        Status::Unknown
    }

    fn sourced(&mut self, path: &str, shell: &Shell<'_>) -> Option<String> {
        self.files.read(shell.folder()?, path)
    }
}

/// The launchers that were passed on the way to a program.
#[derive(Clone)]
struct Chain {
    steps: Vec<Step>,
    early: Vec<Argument>,
}

/// Programs that read commands.
const SHELLS: &[&str] = &["bash", "sh", "zsh", "ksh", "dash"];

/// Endings of scripts for a shell, of which some cannot be followed.
const SCRIPTS: &[&str] = &["sh", "bash", "zsh", "ksh", "csh", "tcsh", "fish", "sbatch", "slurm", "pbs", "lsf", "job"];

/// Programs that start others in a way that their words do not tell.
const OPAQUE: &[&str] = &[
    "make",
    "xargs",
    "parallel",
    "ssh",
    "pdsh",
    "clush",
    "su",
    "snakemake",
    "nextflow",
    "dvc",
    "ray",
    "pbsdsh",
    "blaunch",
    "ezpz",
    "oumi",
    "csh",
    "tcsh",
    "fish",
    "expect",
    "screen",
    "tmux",
    "systemd-run",
    "wandb",
    "paramrun",
    "launcher_gpu",
];

impl Follower<'_> {
    /// Goes along `words` to what they start.
    fn chain(&mut self, chain: &mut Chain, words: &[Argument], command: &Executed, shell: &mut Shell<'_>) {
        let mut words = words;
        loop {
            let Some(first) = words.first() else { return self.launch(chain, None, &[], command) };
            let Some(name) = name_of(first) else {
                // A lone `$WITH_CONDA` sets something up.
                if words.len() == 1
                    && first.is_any_number
                    && first.start.is_empty()
                    && chain.steps.is_empty()
                    && shell.place().is_some()
                {
                    return;
                }
                return self.hidden(chain, words, first.reason(), command);
            };
            if let Some((launcher, used)) = launcher(words) {
                words = self.pass(chain, launcher, words, used, command, shell);
                continue;
            }
            if let Some(wrapper) = wrapper(name, words) {
                match unwrapped(wrapper, words) {
                    // An image's own program, to which the words go.
                    Ok(rest) if is_of_image(wrapper, words, rest) => {
                        let image = words.len() - rest.len() - 1;
                        return self.launch(chain, Some(&words[image]), rest, command);
                    }
                    Ok([]) => return self.launch(chain, Some(first), &words[1..], command),
                    Ok(rest) => words = rest,
                    Err(reason) => return self.hidden(chain, words, reason, command),
                }
                continue;
            }
            if SHELLS.contains(&name) {
                return self.shell(chain, words, command, shell);
            }
            if let Some(rest) = behind_python(words) {
                return self.python(chain, words, rest, command);
            }
            if OPAQUE.contains(&name) {
                let reason = Reason::new(format!("what {name} starts is not followed"), first.span);
                return self.hidden(chain, words, reason, command);
            }
            if let Some(at) = started_by_an_unknown(name, words) {
                words = &words[at..];
                continue;
            }
            return self.program(chain, words, command, shell);
        }
    }

    /// Passes a launcher, and returns the words behind its own.
    fn pass<'w>(
        &self,
        chain: &mut Chain,
        launcher: &'static Launcher,
        words: &'w [Argument],
        used: usize,
        command: &Executed,
        shell: &Shell<'_>,
    ) -> &'w [Argument] {
        let (mut options, next) = launcher.grammar.read(words, used);
        for (variable, option) in launcher.environment {
            let own = command.assignments.iter().rfind(|assignment| assignment.name == *variable);
            let set =
                own.map(|assignment| assignment.value.clone()).or_else(|| shell.exported(variable, words[0].span));
            if let Some(value) = set {
                options.add_default(option, value);
            }
        }
        let span = words[..next].iter().map(|word| word.span).reduce(Span::cover).unwrap_or_default();
        let is_first = chain.steps.iter().all(|step| step.launcher.reach == Reach::Node);
        if is_first && launcher.reach == Reach::Job && shell.place().is_none() {
            chain.early = words[next..].to_vec();
        }
        chain.steps.push(Step { launcher, span, options });
        &words[next..]
    }

    /// `bash -c TEXT`, `bash FILE`.
    fn shell(&mut self, chain: &mut Chain, words: &[Argument], command: &Executed, shell: &mut Shell<'_>) {
        let mut next = 1;
        let mut is_text = false;
        while let Some(word) = words.get(next) {
            let Some(text) = word.known() else { break };
            match text.strip_prefix("--").or_else(|| text.strip_prefix(['-', '+'])) {
                Some("") | None => break,
                Some(letters) if !text.starts_with("--") => {
                    is_text |= letters.contains('c') && text.starts_with('-');
                    next += 1 + usize::from(letters.contains('o') || letters.contains('O'));
                }
                Some("rcfile" | "init-file") => next += 2,
                Some(_) => next += 1,
            }
        }
        let name = name_of(&words[0]).unwrap_or("the shell");
        let Some(what) = words.get(next) else {
            let reason = Reason::new(format!("what {name} reads from its input is not followed"), words[0].span);
            return self.hidden(chain, words, reason, command);
        };
        if !is_text {
            return self.script(chain, what, &words[next + 1..], command, shell);
        }
        let Some(text) = what.known() else { return self.hidden(chain, words, what.reason(), command) };
        let arguments = words.get(next + 2..).unwrap_or_default();
        self.inside(chain, text, arguments, command, shell, words);
    }

    /// A script that is started by its name.
    fn script(
        &mut self,
        chain: &mut Chain,
        file: &Argument,
        arguments: &[Argument],
        command: &Executed,
        shell: &mut Shell<'_>,
    ) {
        let words: Vec<_> = std::iter::once(file).chain(arguments).cloned().collect();
        let text = file.known().zip(shell.folder()).and_then(|(path, folder)| self.files.read(folder, path));
        match text {
            Some(text) => self.inside(chain, &text, arguments, command, shell, &words),
            None => {
                let reason = match file.known() {
                    Some(path) => {
                        Reason::new(format!("what {path} starts is not known: it is not here to be read"), file.span)
                    }
                    None => file.reason(),
                };
                self.hidden(chain, &words, reason, command);
            }
        }
    }

    /// The commands of another script, started from here.
    fn inside(
        &mut self,
        chain: &Chain,
        text: &str,
        arguments: &[Argument],
        command: &Executed,
        shell: &mut Shell<'_>,
        words: &[Argument],
    ) {
        let place = words.first().map_or(command.span, |word| word.span);
        let place = if chain.steps.is_empty() { command.span } else { place.cover(command.span) };
        let Some(mut child) = shell.child(place, arguments, command) else {
            let reason = Reason::new("shells start shells without an end", place);
            return self.hidden(chain, words, reason, command);
        };
        if let Some(step) = chain.steps.iter().rfind(|step| step.launcher.reach == Reach::Job) {
            set_of_task(&mut child, step);
        }
        let script = shell::parse(text);
        let mut inner = Follower { files: self.files, found: Followed::default() };
        child.run(&script, &mut inner);
        if script.broken.is_some() {
            let reason = Reason::new("a script that is started here cannot be read as a shell would", place);
            return self.hidden(chain, words, reason, command);
        }
        self.found.commands.extend(inner.found.commands);
        let mut launches = inner.found.launches;
        if launches.is_empty() && !chain.steps.is_empty() {
            return self.launch(chain, words.first(), arguments, command);
        }
        for launch in &mut launches {
            launch.steps.splice(0..0, chain.steps.iter().cloned());
            launch.early = chain.early.clone();
            launch.span = command.span;
        }
        self.found.launches.extend(launches);
    }

    fn python(&mut self, chain: &mut Chain, words: &[Argument], rest: &[Argument], command: &Executed) {
        match rest {
            [dash_m, module, arguments @ ..] if dash_m.known() == Some("-m") => {
                self.launch_python(chain, Some(module), arguments, command);
            }
            // A line of code looks or prepares.
            [dash_c, ..] if dash_c.known() == Some("-c") && chain.steps.is_empty() => {}
            [program, arguments @ ..] => self.launch_python(chain, Some(program), arguments, command),
            [] => self.launch_python(chain, words.first(), &[], command),
        }
    }

    fn program(&mut self, chain: &mut Chain, words: &[Argument], command: &Executed, shell: &mut Shell<'_>) {
        let (program, arguments) = (&words[0], &words[1..]);
        let name = name_of(program).unwrap_or_default();
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        if SCRIPTS.contains(&ending) {
            return self.script(chain, program, arguments, command, shell);
        }
        // A program that is a script, though its name does not say so.
        let path = program.known().filter(|path| path.contains('/'));
        let text = path.zip(shell.folder()).and_then(|(path, folder)| self.files.read(folder, path));
        match text.as_deref().and_then(interpreter) {
            Some(interpreter) if SHELLS.contains(&interpreter) => {
                let text = text.unwrap_or_default();
                self.inside(chain, &text, arguments, command, shell, words);
            }
            Some(interpreter) if interpreter.starts_with("python") => {
                self.launch_python(chain, Some(program), arguments, command);
            }
            _ if ending == "py" => self.launch_python(chain, Some(program), arguments, command),
            _ => self.launch(chain, Some(program), arguments, command),
        }
    }

    fn launch_python(&mut self, chain: &Chain, program: Option<&Argument>, arguments: &[Argument], command: &Executed) {
        self.launch(chain, program, arguments, command);
        if let Some(launch) = self.found.launches.last_mut() {
            launch.is_python = true;
        }
    }

    fn hidden(&mut self, chain: &Chain, words: &[Argument], reason: Reason, command: &Executed) {
        let (program, arguments) = words.split_first().map_or((None, words), |(program, rest)| (Some(program), rest));
        self.launch(chain, program, arguments, command);
        if let Some(launch) = self.found.launches.last_mut() {
            launch.hidden = Some(reason);
        }
    }

    fn launch(&mut self, chain: &Chain, program: Option<&Argument>, arguments: &[Argument], command: &Executed) {
        self.found.launches.push(Launch {
            steps: chain.steps.clone(),
            program: program.cloned(),
            arguments: arguments.to_vec(),
            is_python: false,
            hidden: None,
            doubt: command.doubt.clone(),
            background: command.background,
            in_substitution: command.in_substitution,
            early: chain.early.clone(),
            span: command.span,
        });
    }
}

/// Variables that each task has for itself, or that the step sets anew.
fn set_of_task(child: &mut Shell<'_>, step: &Step) {
    let own = Reason::new("each task has its own", step.span);
    for name in
        ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES"]
    {
        child.set(name, Value::Unknown(own.clone()));
    }
    const COUNTS: &[&str] = &["ntasks", "n", "nodes", "N", "ntasks-per-node", "tasks-per-node"];
    if step.launcher.name == "srun" && (step.option(COUNTS).is_some() || step.options.hidden.is_some()) {
        let reason = Reason::new("srun sets it for its step", step.span);
        for name in ["SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NNODES", "SLURM_NTASKS_PER_NODE", "SLURM_TASKS_PER_NODE"] {
            child.set(name, Value::Unknown(reason.clone()));
        }
    }
}

/// The interpreter of a script's first line.
fn interpreter(text: &str) -> Option<&str> {
    let line = text.lines().next()?.strip_prefix("#!")?;
    let mut words = line.split_whitespace();
    let first = file_name(words.next()?);
    if first != "env" {
        return Some(first);
    }
    words.find(|word| !word.starts_with('-'))
}

/// The interpreter of the batch script, if it is no shell that can be followed.
pub(crate) fn foreign_interpreter(text: &str) -> Option<&str> {
    interpreter(text).filter(|interpreter| !SHELLS.contains(interpreter))
}

/// Whether a container is started without a program: with nothing behind the image, or with options for what it starts itself.
fn is_of_image(wrapper: &Wrapper, words: &[Argument], rest: &[Argument]) -> bool {
    let has_image = wrapper.positional > 0 && !wrapper.verbs.is_empty() && words.len() > rest.len() + 2;
    has_image && rest.first().is_none_or(|word| word.known().unwrap_or(&word.start).starts_with('-'))
}

/// Where a launcher or a shell with a text stands right behind a program that is not known, or behind its `exec` or `run`: a
/// wrapper of the site's.
fn started_by_an_unknown(name: &str, words: &[Argument]) -> Option<usize> {
    if super::launch::is_bystander(name) || SCRIPTS.iter().any(|ending| name.ends_with(&format!(".{ending}"))) {
        return None;
    }
    let known = |at: usize| words.get(at).and_then(Argument::known);
    let is_behind = |at: usize| at == 1 || matches!(known(at - 1), Some("exec" | "run" | "--"));
    let reads_text = |at: usize| {
        known(at).is_some_and(|text| SHELLS.contains(&text)) && matches!(known(at + 1), Some("-c" | "-lc" | "-ec"))
    };
    let is_bare = |at: usize| known(at).is_some_and(|text| !text.contains('/'));
    let is_launcher = |at: usize| is_bare(at) && !is_python(&words[at]) && launcher(&words[at..]).is_some();
    (1..words.len()).find(|&at| is_behind(at) && (reads_text(at) || is_launcher(at)))
}

fn is_python(word: &Argument) -> bool {
    name_of(word).is_some_and(|name| {
        let version = name.strip_prefix("python").or_else(|| name.strip_prefix("pypy"));
        version.is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
    })
}

/// What follows `python` and its own flags, if that is what `words` start with.
fn behind_python(words: &[Argument]) -> Option<&[Argument]> {
    let (python, rest) = words.split_first()?;
    if !is_python(python) {
        return None;
    }
    let mut next = 0;
    while let Some(text) = rest.get(next).and_then(Argument::known) {
        match text {
            "-W" | "-X" => next += 2,
            "-m" | "-c" => break,
            _ if text.starts_with('-') && text.len() > 1 => next += 1,
            _ => break,
        }
    }
    // `python -m cProfile -o f train.py`: the module runs another one.
    let rest = rest.get(next..).unwrap_or_default();
    match rest {
        [dash_m, module, inner @ ..] if dash_m.known() == Some("-m") => match module.known() {
            Some("cProfile" | "profile" | "pdb" | "coverage" | "scalene" | "kernprof" | "memray") => {
                let skips = |word: &&Argument| word.known().is_some_and(|text| text.starts_with('-') || text == "run");
                let values = |text: Option<&str>| matches!(text, Some("-o" | "-s" | "-c" | "--source" | "--outfile"));
                let mut at = 0;
                while inner.get(at).as_ref().is_some_and(skips) {
                    at += 1 + usize::from(values(inner[at].known()));
                }
                inner.get(at..)
            }
            _ => Some(rest),
        },
        _ => Some(rest),
    }
}

/// The launcher that `words` start with, and how many words name it.
fn launcher(words: &[Argument]) -> Option<(&'static Launcher, usize)> {
    let name = name_of(words.first()?)?;
    let named = |launcher: &&'static Launcher| {
        launcher.programs.iter().find_map(|program| {
            let (first, verbs) = program.split_first()?;
            let verbs_follow =
                verbs.iter().enumerate().all(|(at, verb)| words.get(at + 1).and_then(Argument::known) == Some(*verb));
            (*first == name && verbs_follow).then_some((*launcher, program.len()))
        })
    };
    if let Some(found) = LAUNCHERS.iter().find_map(named) {
        return Some(found);
    }
    match behind_python(words)? {
        [dash_m, module, rest @ ..] if dash_m.known() == Some("-m") => {
            let module = module.known()?;
            let found = LAUNCHERS.iter().find(|launcher| launcher.modules.contains(&module))?;
            Some((found, words.len() - rest.len()))
        }
        // `python /path/to/torchrun`, `python launch.py` of PyTorch's own.
        [script, rest @ ..] if name_of(script) == Some("torchrun") => {
            let found = LAUNCHERS.iter().find(|launcher| launcher.name == "torchrun")?;
            Some((found, words.len() - rest.len()))
        }
        _ => None,
    }
}

/// The wrapper that `words` start with.
fn wrapper(name: &str, words: &[Argument]) -> Option<&'static Wrapper> {
    let has_verb = |wrapper: &Wrapper| {
        wrapper.verbs.is_empty()
            || words[1..].iter().take(6).any(|word| word.known().is_some_and(|text| wrapper.verbs.contains(&text)))
    };
    WRAPPERS.iter().find(|wrapper| wrapper.names.contains(&name) && has_verb(wrapper))
}

/// The words behind those of a wrapper.
fn unwrapped<'w>(wrapper: &Wrapper, words: &'w [Argument]) -> Result<&'w [Argument], Reason> {
    let known = |at: usize| words.get(at).and_then(Argument::known);
    if wrapper.behind_dashes {
        let dashes = words.iter().position(|word| word.known() == Some("--"));
        return dashes
            .map(|at| &words[at + 1..])
            .ok_or_else(|| Reason::new("where its program starts is not known", words[0].span));
    }
    let (_, mut next) = wrapper.grammar.read(words, 1);
    if !wrapper.verbs.is_empty() {
        if known(next).is_some_and(|text| wrapper.verbs.contains(&text)) {
            next = wrapper.grammar.read(words, next + 1).1;
        } else {
            return Err(Reason::new("where its program starts is not known", words[0].span));
        }
    }
    if wrapper.assigns {
        while words.get(next).is_some_and(|word| word.known().unwrap_or(&word.start).contains('=')) {
            next += 1;
        }
    }
    next += wrapper.positional;
    if known(next) == Some("--") {
        next += 1;
    }
    Ok(words.get(next..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Beside;

    impl Files for Beside {
        fn read(&self, folder: &str, path: &str) -> Option<String> {
            match (folder, path) {
                ("", "run.sh" | "./run.sh") => Some("torchrun --nproc_per_node=$1 t.py\n".to_owned()),
                ("sub", "inner.sh") => Some("python a.py; python b.py".to_owned()),
                ("", "./plain") => Some("#!/usr/bin/env bash\nexec ./a \"$@\"\n".to_owned()),
                _ => None,
            }
        }
    }

    fn shown(text: &str) -> Vec<String> {
        let mut shell = Shell::new(&|_| None);
        let followed = follow(&shell::parse(text), &mut shell, &Beside);
        let show = |launch: &Launch| {
            let steps: Vec<_> = launch.steps.iter().map(|step| step.launcher.name).collect();
            let program = if launch.hidden.is_some() { "?" } else { launch.program_name().unwrap_or("-") };
            format!("{} > {program} {}", steps.join(" > "), launch.arguments.len())
        };
        followed.launches.iter().filter(|launch| !launch.is_bystander()).map(show).collect()
    }

    #[test]
    fn launchers_and_programs() {
        let cases: &[(&str, &[&str])] = &[
            ("srun -n 4 --mpi=pmix ./a x", &["srun > a 1"]),
            ("srun -lN2 --ntasks-per-node 4 a", &["srun > a 0"]),
            ("srun --gpus-per-task 1 --cpu-bind none -- python -u t.py --batch 4", &["srun > t.py 2"]),
            ("mpirun -np 8 --mca btl tcp,self -x PATH --map-by ppr:4:node a", &["mpirun > a 0"]),
            ("mpiexec -n 4 -ppn 2 -genv A 1 a b", &["mpirun > a 1"]),
            ("mpiexec -n 4 -env A=1 a b; mpirun -r ssh -f hosts -n 4 a", &["mpirun > a 1", "mpirun > a 0"]),
            ("srun torchrun --nnodes 2 --nproc_per_node=4 t.py --x 1", &["srun > torchrun > t.py 2"]),
            ("python -m torch.distributed.run --nproc-per-node 4 t.py", &["torchrun > t.py 0"]),
            ("python3 -u -m torch.distributed.launch --use_env --nproc_per_node 4 t.py", &["torchrun > t.py 0"]),
            ("accelerate launch --multi_gpu --num_processes 8 t.py", &["accelerate launch > t.py 0"]),
            ("deepspeed --num_gpus 4 t.py", &["deepspeed > t.py 0"]),
            ("time srun env A=1 nohup a", &["srun > a 0"]),
            ("srun $FLAGS a b", &["srun > a 1"]),
            ("srun $PYTHON a b", &["srun > ? 2"]),
            ("echo srun; hostname", &[]),
            ("./rust-train --batch 64", &[" > rust-train 2"]),
            ("srun", &["srun > - 0"]),
            ("L='srun -n 4'; $L a", &["srun > a 0"]),
            ("jsrun -n 8 -a 1 -g1 -c7 a b", &["jsrun > a 1"]),
            ("flux run -N2 -n8 a; flux mini run -n4 b", &["flux run > a 0", "flux run > b 0"]),
            ("aprun -n32 -N16 -cc depth a", &["aprun > a 0"]),
            ("ibrun -n 4 -o 0 tacc_affinity a b", &["ibrun > a 1"]),
            ("composer -n 8 t.py; horovodrun -np 4 -H a:4 python t.py", &["composer > t.py 0", "horovodrun > t.py 0"]),
            ("fabric run --devices 4 t.py; lightning run model t.py", &["fabric run > t.py 0", "fabric run > t.py 0"]),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), *expected, "{text}");
        }
    }

    #[test]
    fn wrappers_and_shells() {
        let cases: &[(&str, &[&str])] = &[
            ("srun singularity exec --nv -B /a:/b $IMAGE python t.py", &["srun > t.py 0"]),
            ("srun singularity run x.sif bash -c 'torchrun --nproc_per_node=4 t.py'", &["srun > torchrun > t.py 0"]),
            (
                "srun apptainer exec x.sif bash -lc 'cd x && torchrun --nproc_per_node=4 t.py'",
                &["srun > torchrun > t.py 0"],
            ),
            ("srun nsys profile -o x --trace=cuda torchrun --nproc_per_node=4 t.py", &["srun > torchrun > t.py 0"]),
            ("numactl -N 0 --membind=0 stdbuf -oL timeout 3h ./a", &[" > a 0"]),
            ("uv run torchrun --nproc_per_node=2 t.py; poetry run python t.py", &["torchrun > t.py 0", " > t.py 0"]),
            ("conda run -n e --no-capture-output srun a", &["srun > a 0"]),
            ("bash run.sh 4; ./run.sh 2; bash none.sh", &["torchrun > t.py 0", "torchrun > t.py 0", " > ? 0"]),
            ("srun run.sh 8; srun ./plain x", &["srun > torchrun > t.py 0", "srun > a 1"]),
            ("cd sub; bash inner.sh; cd $X; bash inner.sh", &[" > a.py 0", " > b.py 0", " > ? 0"]),
            ("srun bash -c \"$CMD\"; $CMD; make train", &["srun > ? 2", " > ? 0", " > ? 1"]),
            ("python -m cProfile -o f t.py x; python -m train y", &[" > t.py 1", " > train 1"]),
            ("rocprofv3 --stats -- ./a x", &[" > a 1"]),
            ("f() { srun \"$@\"; }; f -n4 a b", &["srun > a 1"]),
            ("CMD=(srun -n 4 ./a); \"${CMD[@]}\"", &["srun > a 0"]),
            ("srun site_wrapper exec torchrun --nproc_per_node=4 t.py", &["srun > torchrun > t.py 0"]),
            ("srun site_wrapper bash -c 'accelerate launch t.py'", &["srun > accelerate launch > t.py 0"]),
            ("oumi distributed torchrun -m oumi train; time -p ./a", &[" > ? 5", " > a 0"]),
            ("singularity run --nv x.sif --data /d; singularity run x.sif", &[" > x.sif 2", " > x.sif 0"]),
            ("srun ray start --head; ray stop", &[]),
            ("echo 'never ends\nsrun a", &[]),
            ("srun a\nfor x in 1 2; do srun b\nsrun c", &["srun > a 0"]),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), *expected, "{text}");
        }
    }
}
