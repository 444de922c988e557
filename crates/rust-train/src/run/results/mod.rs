//! What rank 0 writes while a run goes on, for programs and for people.
//!
//! `metrics.jsonl` is the run's record: what a full disk does not take of it waits, and a run that cannot write it in the
//! end has failed. Everything else follows from it and from the last evaluation (`metrics.csv`, TensorBoard's events,
//! `evaluation.json`, `environment.json`, `report.html`): where that cannot be written the run says so and goes on.

mod environment;
mod lines;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use dataset::Loader;
use model_card::{About, ClassLine, README_START};
use report::tensorboard::EventFile;
use report::{Environment, EpochLine, Evaluation, Run, Session, SessionEnd, StepLine};

use crate::config::recipe;
use crate::data::shown::show;
use crate::files::write_whole;
use crate::model::card;
use crate::run::bits::{self, BitsLine};
use crate::task::Scorer;
use lines::Lines;

pub(crate) use environment::{session, versions};

/// The run's record.
const RECORD: &str = "metrics.jsonl";

/// Between two times that the page is drawn while the run goes on, at least; and how many times as long as it took.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
const REFRESH_SHARE: u32 = 100;

/// The files of a run. Only rank 0 has them.
pub(crate) struct Results {
    folder: PathBuf,
    lines: Lines,
    /// Hashes of what each step computed, where they are recorded.
    bits: Option<Lines>,
    /// `None` once they could not be written.
    events: Option<EventFile>,
    environment: Environment,
    classes: Vec<String>,
    /// The last evaluation and its epoch, where it has not been written down yet.
    unwritten: Option<(usize, Box<dyn Scorer>)>,
    next_refresh: Instant,
}

impl Results {
    /// Begins the files of a new run in `folder`; or, with the numbers of steps and epochs that `goes_on` names, those of
    /// a run that goes on in its own folder, cut back to there. `classes` are the names of the classes.
    pub(crate) fn open(
        folder: &Path,
        goes_on: Option<(usize, usize)>,
        session: Session,
        classes: Vec<String>,
        records_bits: bool,
    ) -> anyhow::Result<Self> {
        let open = |name: &str| match goes_on {
            None => Lines::create(folder, name),
            Some((steps, epochs)) => Lines::resume(folder, name, steps, epochs),
        };
        let lines = open(RECORD)?;
        // What was recorded of steps that are made once more is cut off, though they be recorded no more.
        let is_there = goes_on.is_some() && folder.join(bits::FILE).exists();
        let bits = if records_bits || is_there { Some(open(bits::FILE)?) } else { None };
        let host = session.ranks.first().map_or("host", |rank| &rank.host);
        let events = EventFile::create(folder, host, session.first_step + 1);
        let events = events.inspect_err(tell).ok();
        let mut environment = Environment::default();
        if goes_on.is_some() {
            match Run::read(folder) {
                Ok(run) => environment = run.environment,
                Err(error) => log::warn!("what was known of this run's past is lost: {:#}", anyhow::Error::from(error)),
            }
        }
        environment.sessions.push(session);
        let next_refresh = Instant::now() + REFRESH_INTERVAL;
        let results = Self {
            folder: folder.to_owned(),
            lines,
            bits,
            events,
            environment,
            classes,
            unwritten: None,
            next_refresh,
        };
        warn(results.write_environment());
        Ok(results)
    }

    /// Writes down steps that were made.
    pub(crate) fn write_steps(&mut self, steps: &[StepLine]) -> anyhow::Result<()> {
        self.lines.write(steps)?;
        let scalars = steps.iter().flat_map(|line| {
            [(line.step + 1, "train/loss", line.loss), (line.step + 1, "train/learning_rate", line.lr)]
        });
        self.write_scalars(scalars);
        Ok(())
    }

    /// Writes down what steps computed.
    pub(crate) fn write_bits(&mut self, lines: &[BitsLine]) -> anyhow::Result<()> {
        self.bits.as_mut().map_or(Ok(()), |bits| bits.write(lines))
    }

    fn write_scalars<'a>(&mut self, scalars: impl IntoIterator<Item = (usize, &'a str, f64)>) {
        // A file with a record that was cut off is not read any further.
        let Some(events) = &mut self.events else { return };
        if let Err(error) = events.write(scalars) {
            tell(&error);
            self.events = None;
        }
    }

    /// Writes down an epoch, which has ended after `steps` steps of the run, and what its evaluation on `val` found, if there was one; of the
    /// run's last epoch all of it at once, before its last checkpoint says that nothing is left to do.
    pub(crate) fn write_epoch(
        &mut self,
        line: &EpochLine,
        steps: usize,
        scorer: Option<Box<dyn Scorer>>,
        val: &Loader,
        is_last: bool,
    ) -> anyhow::Result<()> {
        self.lines.write(&[line])?;
        let scores = line.scores.0.iter().map(|(name, value)| (format!("val/{name}"), *value));
        let mut scalars = vec![("val/loss".to_owned(), line.val_loss)];
        scalars.extend(scores.filter(|(tag, _)| tag != "val/loss"));
        scalars.extend([
            ("speed/images_per_second".to_owned(), line.images_per_second),
            ("speed/data_wait".to_owned(), line.data_wait),
            ("speed/communication_wait".to_owned(), line.communication_wait),
        ]);
        let known = scalars.iter().filter(|(_, value)| !value.is_nan()); // there may be no validation
        self.write_scalars(known.map(|(tag, value)| (steps, tag.as_str(), *value)));
        self.unwritten = scorer.map(|scorer| (line.epoch, scorer));
        if is_last || Instant::now() >= self.next_refresh {
            self.refresh(val);
        }
        Ok(())
    }

    /// Writes down what a full disk has not taken so far.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.lines.flush()
    }

    /// The same; and the record must be where it was.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        self.lines.settle()
    }

    /// The run ends, `how`, after `step` steps.
    pub(crate) fn end(&mut self, step: usize, how: &str, val: &Loader) {
        if let Some(session) = self.environment.sessions.last_mut() {
            session.end = Some(SessionEnd { time: environment::now(), step, how: how.to_owned() });
        }
        warn(self.write_environment());
        self.refresh(val);
    }

    /// Brings everything up to date that follows from the record and the last evaluation.
    fn refresh(&mut self, val: &Loader) {
        let start = Instant::now();
        if let Some((epoch, scorer)) = self.unwritten.take() {
            let evaluation = scorer.evaluation(Some(epoch), &self.classes, &|worst| show(val, worst));
            warn(write(&self.folder, "evaluation.json", || Ok(serde_json::to_string(&evaluation)?)));
        }
        warn(render(&self.folder));
        let took = start.elapsed();
        self.next_refresh = Instant::now() + REFRESH_INTERVAL.max(took * REFRESH_SHARE);
        log::debug!("{}: brought up to date in {:.3} s", self.folder.display(), took.as_secs_f64());
    }

    fn write_environment(&self) -> anyhow::Result<()> {
        write(&self.folder, "environment.json", || Ok(serde_json::to_string_pretty(&self.environment)?))
    }
}

/// Writes `report.html` and `metrics.csv` of the run in `folder` from its other files.
pub(crate) fn render(folder: &Path) -> anyhow::Result<()> {
    let run = Run::read(folder)?;
    if !run.metrics.epochs.is_empty() {
        let epochs = run.metrics.epochs.iter().map(|(line, _)| line);
        write(folder, "metrics.csv", || Ok(report::csv(epochs)))?;
    }
    write(folder, "report.html", || Ok(report::page(&run)))?;
    write_readme(folder, &run)
}

/// Writes `README.md`, the model card for people, of the run in `folder`, once it has a model; in the place of an older one,
/// not of somebody's own.
fn write_readme(folder: &Path, run: &Run) -> anyhow::Result<()> {
    let files = ["best.safetensors", "last.safetensors"].map(|name| folder.join(name));
    let Some(file) = files.iter().find(|file| file.is_file()) else { return Ok(()) };
    let Some(card) = card::of_file(file, weights::read(file)?.metadata())? else { return Ok(()) };
    let own = std::fs::read_to_string(folder.join("README.md"));
    if own.is_ok_and(|text| !text.starts_with(README_START)) {
        return Ok(());
    }
    let line = |class: &report::ClassScores| ClassLine {
        name: class.name.clone(),
        support: class.support,
        precision: class.precision,
        recall: class.recall,
        f1: class.f1,
    };
    let about = About {
        data: recipe::data_name(folder),
        is_in_torchvision: architectures::architecture(&card.network).is_ok_and(|known| known.published.is_some()),
        epoch: run.evaluation.as_ref().and_then(|evaluation| evaluation.epoch),
        classes: run.evaluation.iter().flat_map(|evaluation| &evaluation.classes).map(line).collect(),
    };
    write(folder, "README.md", || Ok(card.readme(&about)))
}

/// The same for a folder that the user names.
pub(crate) fn render_again(folder: &Path) -> anyhow::Result<()> {
    if folder.is_dir() && !["metrics.jsonl", "evaluation.json"].iter().any(|name| folder.join(name).exists()) {
        return Err(report::Error::Nothing { path: folder.to_owned() }.into());
    }
    render(folder)
}

/// Writes an evaluation by itself into `folder`, with a page that shows it.
pub(crate) fn write_evaluation(folder: &Path, evaluation: &Evaluation) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    write(folder, "evaluation.json", || Ok(serde_json::to_string(evaluation)?))?;
    render(folder)
}

/// Writes one of a run's files.
pub(crate) fn write(
    folder: &Path,
    name: &str,
    contents: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let contents = contents()?;
    write_whole(&folder.join(name), |file| Ok(std::fs::write(file, contents)?))
}

/// What only people look at is not worth the end of a run.
fn warn(written: anyhow::Result<()>) {
    if let Err(error) = written {
        tell(&error);
    }
}

fn tell(error: &(impl std::fmt::Display + ?Sized)) {
    log::warn!("{error:#}; training continues without it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataset::{ImageSet, LoaderConfig};
    use layout::Shard;
    use report::Scores;
    use std::sync::Arc;
    use tch::Tensor;

    use crate::task::Targets;
    use crate::task::classification::Counts;

    fn loader() -> Loader {
        let images = ImageSet::from_memory(vec![7; 3 * 8 * 8 * 3], vec![0, 1, 0], 8);
        Loader::new(Arc::new(images), Shard::new(0, 1), LoaderConfig::new(2, 8))
    }

    fn steps(range: std::ops::Range<usize>) -> Vec<StepLine> {
        range.map(|step| StepLine { step, loss: 1.0 / (step + 1) as f64, lr: 0.1 }).collect()
    }

    fn epoch(results: &mut Results, epoch: usize) {
        let line = EpochLine {
            epoch,
            train_loss: 0.5,
            val_loss: 0.4,
            scores: Scores(vec![("top1".to_owned(), 0.5), ("top5".to_owned(), 1.0)]),
            images_per_second: 100.0,
            data_wait: 0.0,
            communication_wait: 0.0,
            elapsed_seconds: 1.0,
        };
        let mut scorer: Box<dyn Scorer> = Box::<Counts>::default();
        let logits = Tensor::from_slice2(&[[2.0f32, 0.0], [1.0, 0.0]]);
        scorer.add(&[logits], &Targets::of(vec![Tensor::from_slice(&[0i64, 1])]), 0).unwrap();
        results.write_epoch(&line, epoch * 2, Some(scorer), &loader(), epoch == 2).unwrap();
    }

    fn classes() -> Vec<String> {
        ["<b>ant</b>", "bee"].map(str::to_owned).to_vec()
    }

    /// A run of two epochs, killed after `written` lines of steps and begun again from step 2 where `stops`.
    fn run(folder: &Path, stops: bool) {
        let mut results = Results::open(folder, None, Session::default(), classes(), false).unwrap();
        results.write_steps(&steps(0..2)).unwrap();
        epoch(&mut results, 1);
        if stops {
            results.write_steps(&steps(2..3)).unwrap();
            drop(results);
            let session = Session { first_step: 2, ..Session::default() };
            results = Results::open(folder, Some((2, 1)), session, classes(), false).unwrap();
        }
        results.write_steps(&steps(2..4)).unwrap();
        epoch(&mut results, 2);
        results.end(4, "done", &loader());
    }

    #[test]
    fn a_run_that_goes_on_leaves_the_same_curves() {
        let [whole, resumed] = [false, true].map(|stops| {
            let folder = tempfile::tempdir().unwrap();
            run(folder.path(), stops);
            folder
        });
        for name in ["metrics.jsonl", "metrics.csv", "evaluation.json"] {
            let read = |folder: &tempfile::TempDir| std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!(read(&whole), read(&resumed), "{name}");
        }
        let sessions = |folder: &tempfile::TempDir| Run::read(folder.path()).unwrap().environment.sessions;
        assert_eq!((sessions(&whole).len(), sessions(&resumed).len()), (1, 2));
        assert_eq!(sessions(&resumed)[1].end.as_ref().map(|end| end.step), Some(4));
        let page = std::fs::read_to_string(resumed.path().join("report.html")).unwrap();
        assert!(page.contains("resumed") && page.contains("&lt;b&gt;ant") && !page.contains("<b>ant"));
        let worst = &Run::read(whole.path()).unwrap().evaluation.unwrap().worst;
        assert_eq!((worst.len(), worst[0].path.as_str()), (1, "image 1"));
        assert!(worst[0].thumbnail.as_ref().unwrap().starts_with("data:image/png;base64,"));
    }

    #[test]
    fn the_run_outlives_what_people_look_at() {
        let folder = tempfile::tempdir().unwrap();
        let mut results = Results::open(folder.path(), None, Session::default(), classes(), false).unwrap();
        std::fs::create_dir(folder.path().join("report.html")).unwrap(); // in its way
        results.write_steps(&steps(0..2)).unwrap();
        epoch(&mut results, 1);
        results.end(2, "done", &loader());
        assert!(folder.path().join("metrics.csv").is_file());
    }
}
