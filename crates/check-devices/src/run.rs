//! The program: from arguments to exit status.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use batch_script::Scheduler;
use clap::Parser;

use crate::cli::{Cli, Color, Command, Deny, JudgeArgs, SiteInitArgs};
use crate::facts::{AllocationFacts, Facts, RankFacts};
use crate::finding::{Fix, Severity};
use crate::judge::{Selection, find, judge, unknown};
use crate::resolve::{Source, Surroundings, resolve};
use crate::site::Site;
use crate::subject::PathUse;
use crate::{explain, fix, gather, machine, plan, report, site, terminal};

/// Runs the program: exit status 0 where nothing is wrong, 1 where something is, 2 on wrong usage.
pub fn main() -> ExitCode {
    Invocation::parse(std::env::args_os()).map_or_else(|code| code, |invocation| invocation.run(None))
}

/// The program with its arguments, read.
#[derive(Clone, Debug)]
pub struct Invocation {
    cli: Cli,
    arguments: Vec<OsString>,
}

impl Invocation {
    /// Reads the arguments, the program's name first. Prints help, version or what is wrong.
    ///
    /// # Errors
    /// The exit status, where there is nothing to run.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        match Cli::try_parse_from(&arguments) {
            Ok(cli) => Ok(Self { cli, arguments }),
            Err(error) => {
                let _ = error.print(); // where stderr is closed there is nobody to tell
                Err(ExitCode::from(error.exit_code() as u8))
            }
        }
    }

    /// How long ranks wait for each other under `--probe`.
    pub fn probe_timeout(&self) -> Duration {
        // A time that makes no sense is refused later.
        Duration::try_from_secs_f64(self.cli.judge.probe_timeout).unwrap_or(Duration::from_secs(30))
    }

    /// What this process sees in the allocation.
    pub fn look_around(&self) -> AllocationFacts {
        gather::allocation()
    }

    /// The folder of the results that the script names, if there is a script that does.
    pub fn output_folder(&self) -> Option<PathBuf> {
        let args = &self.cli.judge;
        let source = read_script(args.script.as_deref()?).ok()?;
        let site = Site::load(args.site.as_deref(), &variable).ok()?;
        let subject = resolve(args, Some(&source), around(&site, &Facts::default())).ok()?;
        let output = subject.training.paths.iter().find(|(purpose, _)| *purpose == PathUse::Output);
        output.map(|(_, path)| PathBuf::from(&path.value))
    }

    /// Runs the program; `ranks` is what the ranks have said, if they were asked.
    pub fn run(self, ranks: Option<Vec<RankFacts>>) -> ExitCode {
        ExitCode::from(self.run_for_status(ranks))
    }

    /// Runs the program, for its exit status as a number.
    pub fn run_for_status(self, ranks: Option<Vec<RankFacts>>) -> u8 {
        let color = match &self.cli.command {
            Some(Command::Plan(args)) => args.color,
            Some(Command::SiteInit(_)) => Color::Never, // a file
            None => self.cli.judge.color,
        };
        let mut out =
            anstream::AutoStream::new(io::stdout().lock(), terminal::choice(color, ranks.is_some(), &variable));
        let outcome = match &self.cli.command {
            Some(Command::Plan(args)) => plan::run(args, &mut out),
            Some(Command::SiteInit(args)) => site_init(args, &mut out),
            None => self.judge(&self.cli.judge, ranks, &mut out),
        };
        let outcome = outcome.and_then(|code| out.flush().map(|()| code).map_err(Into::into));
        match outcome {
            Ok(code) => code,
            // Whoever read the output has read enough.
            Err(error) if is_broken_pipe(&error) => 1,
            Err(error) => {
                eprintln!("error: {error:#}");
                2
            }
        }
    }

    fn judge(&self, args: &JudgeArgs, ranks: Option<Vec<RankFacts>>, out: &mut dyn Write) -> anyhow::Result<u8> {
        if let Some(id) = &args.explain {
            explain::explain(out, find(id).ok_or_else(|| unknown("--explain", id))?)?;
            return Ok(0);
        }
        if args.list_checks {
            explain::list(out)?;
            return Ok(0);
        }
        ensure!(args.probe_timeout > 0.0 && args.probe_timeout.is_finite(), "--probe-timeout: must be positive");
        if args.probe && ranks.is_none() {
            return self.become_probe();
        }
        let asked = args.script.is_some()
            || args.run.gives("batch")
            || args.run.gives("config")
            || args.micro_batch.is_some()
            || args.print_facts;
        ensure!(asked, "nothing to judge: give a batch script, or --batch N for this machine (--help has examples)");
        let selection = Selection::new(&args.only, &args.skip)?;
        let mut source = args.script.as_deref().map(read_script).transpose()?;
        let site = Site::load(args.site.as_deref(), &variable)?;
        let mut facts = match &args.facts {
            Some(path) => read_facts(path)?,
            None => Facts::default(),
        };
        if let Some(ranks) = ranks {
            facts.allocation = ranks.first().map(|rank| rank.allocation.clone());
            facts.ranks = Some(ranks);
        } else if args.facts.is_none() && args.script.is_none() && variable("SLURM_JOB_ID").is_some() {
            // A script that is judged from inside a job is another job's.
            facts.allocation = Some(gather::allocation());
        }
        if args.facts.is_none() && (args.login || args.test_only) {
            let subject = resolve(args, source.as_ref(), around(&site, &facts))?;
            let test_only = args.script.as_deref().filter(|script| args.test_only && *script != Path::new("-"));
            let login = gather::login(&subject, &gather::Questions { test_only, sbatch: &args.sbatch });
            facts.login = Some(login);
        }
        if args.print_facts {
            write!(out, "{}", toml::to_string_pretty(&facts)?)?;
            return Ok(0);
        }
        if args.fix
            && let (Some(source), Some(path)) = (&mut source, args.script.as_deref())
        {
            mend(args, source, path, &site, &facts, &selection)?;
        }
        let subject = resolve(args, source.as_ref(), around(&site, &facts))?;
        if args.explain_layout {
            report::write_layout(out, args.format, &subject)?;
            return Ok(0);
        }
        let judgement = judge(&subject, &selection);
        report::write(out, args.format, &subject, &judgement, args.verbose)?;
        let failed = judgement.count(Severity::Error) > 0
            || (args.deny.contains(&Deny::Warnings) && judgement.count(Severity::Warning) > 0)
            || (args.deny.contains(&Deny::Unknown) && !judgement.not_judged().is_empty());
        Ok(u8::from(failed))
    }

    /// Puts the program that knows MPI in this one's place. It lies beside this one.
    fn become_probe(&self) -> anyhow::Result<u8> {
        let own = std::env::current_exe().context("finding this program")?;
        let probe = own.with_file_name("check-devices-probe");
        if !probe.is_file() {
            bail!("--probe wants {}: build it with cargo build --release -p check-devices-probe", probe.display());
        }
        let error = Process::new(&probe).args(&self.arguments[1..]).exec();
        Err(error).with_context(|| format!("starting {}", probe.display()))
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn around<'a>(site: &Site, facts: &Facts) -> Surroundings<'a> {
    Surroundings {
        site: site.clone(),
        facts: facts.clone(),
        environment: &variable,
        visible_devices: &machine::nvidia_devices,
    }
}

/// Larger files are no batch scripts: Slurm takes 4 MB.
const LARGEST_SCRIPT_BYTES: u64 = 4 << 20;

fn read_script(path: &Path) -> anyhow::Result<Source> {
    let shown = path.display().to_string();
    let mut bytes = Vec::new();
    let read = |reader: &mut dyn Read, bytes: &mut Vec<u8>| reader.take(LARGEST_SCRIPT_BYTES + 1).read_to_end(bytes);
    let name = if path == Path::new("-") {
        read(&mut io::stdin().lock(), &mut bytes).context("standard input")?;
        "stdin".to_owned()
    } else {
        let mut file = std::fs::File::open(path).with_context(|| shown.clone())?;
        read(&mut file, &mut bytes).with_context(|| shown.clone())?;
        shown.clone()
    };
    ensure!(bytes.len() as u64 <= LARGEST_SCRIPT_BYTES, "{shown}: larger than 4 MiB, which Slurm refuses");
    // Slurm reads bytes; what is not UTF-8 is shown as a replacement character.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Source { name, text, folder: PathBuf::from(".") })
}

fn read_facts(path: &Path) -> anyhow::Result<Facts> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--facts {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("--facts {}", path.display()))
}

/// Makes the safe changes until none is left, and writes the script once.
fn mend(
    args: &JudgeArgs,
    source: &mut Source,
    path: &Path,
    site: &Site,
    facts: &Facts,
    selection: &Selection,
) -> anyhow::Result<()> {
    ensure!(path != Path::new("-"), "--fix: standard input cannot be changed");
    let mut total = 0;
    // A change may uncover another finding; each round makes progress or ends.
    for _ in 0..16 {
        let subject = resolve(args, Some(&*source), around(site, facts))?;
        let judgement = judge(&subject, selection);
        let fixes: Vec<Fix> = judgement.findings().into_iter().filter_map(|(_, finding)| finding.fix.clone()).collect();
        drop(subject);
        let (text, done) = fix::apply(&source.text, &fixes.iter().collect::<Vec<_>>());
        if done == 0 {
            break;
        }
        source.text = text;
        total += done;
    }
    if total > 0 {
        fix::replace(path, &source.text)?;
    }
    eprintln!("{}: {}", path.display(), crate::words::plural(total, "change"));
    Ok(())
}

fn site_init(args: &SiteInitArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let (version, partitions) = gather::sinfo();
    let of_others = || [Scheduler::Pbs, Scheduler::Lsf].into_iter().find_map(gather::queues);
    let Some(partitions) = partitions.or_else(of_others) else {
        bail!("neither sinfo nor qstat nor bqueues answers here: call this on a login node of the cluster");
    };
    let text = site::site_init(version.as_deref(), &partitions);
    match &args.output {
        None => out.write_all(text.as_bytes())?,
        Some(path) => {
            let mut file = std::fs::File::create_new(path).with_context(|| path.display().to_string())?;
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
                .with_context(|| path.display().to_string())?;
        }
    }
    Ok(0)
}
