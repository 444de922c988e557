//! `report.html`: one page that asks for nothing from elsewhere. Class names, paths and flags are data, not markup: all
//! of them are escaped.

mod classes;
mod comparison;
mod confusion;
mod curves;
mod machine;
mod masks;
mod outputs;
mod summary;
mod worst;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{Run, chart};

pub use comparison::comparison;

/// Where the page may load from: nowhere. Images are part of it.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The page that shows a run.
pub fn page(run: &Run) -> String {
    let evaluation = run.evaluation.as_ref();
    // An evaluation by itself has no curves; a run that has just begun will have some.
    let has_curves = !run.metrics.is_empty() || evaluation.is_none();
    let sections = html! {
        @if has_curves { (section("Curves", curves::figures(run))) }
        @if let Some(evaluation) = evaluation.filter(|evaluation| !evaluation.classes.is_empty()) {
            (section("Confusion", confusion::matrix(evaluation)))
            (section("Classes", classes::table(evaluation)))
            @if !evaluation.worst.is_empty() { (section("Worst samples", worst::gallery(evaluation))) }
        }
        @if let Some(evaluation) = evaluation.filter(|evaluation| !evaluation.outputs.is_empty()) {
            @if outputs::has_charts(evaluation) { (section("Outputs", outputs::charts(evaluation))) }
            (section(outputs::title(evaluation), outputs::table(evaluation)))
            @if !evaluation.worst_masks.is_empty() { (section("Worst masks", masks::gallery(evaluation))) }
        }
        @if !run.environment.sessions.is_empty() { (section("Machine", machine::tables(&run.environment))) }
        @if let Some(plan) = &run.plan {
            (section("Plan", html! { details { summary { "Every flag of the run" } pre { (plan) } } }))
        }
    };
    document(&run.name, &summary::header(run), &sections)
}

/// A page around a header and sections.
pub(crate) fn document(title: &str, header: &Markup, sections: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(chart::STYLE)) (PreEscaped(include_str!("page.css"))) }
            }
            body {
                main {
                    (header)
                    (sections)
                }
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    }
    .into_string()
}

/// A section under its heading.
pub(crate) fn section(title: &str, content: Markup) -> Markup {
    html! { section { h2 { (title) } (content) } }
}

/// A large number with what it is.
pub(crate) fn tile(label: &str, value: &str, note: &str) -> Markup {
    html! { div.tile { span.label { (label) } strong { (value) } span.note { (note) } } }
}

/// A share, 0–1, in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2}\u{a0}%", share * 100.0)
}

/// A share that may not exist.
fn maybe_percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}\u{a0}%", share * 100.0))
}

/// So many seconds, in words: "3 h 12 min", "41.5 s".
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if !seconds.is_finite() || seconds < 0.0 => "–".to_owned(),
        0..120 => format!("{seconds:.1} s"),
        120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// "1 rank", "2 ranks".
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{} {what}{}", chart::number(number as f64, 1.0), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Confusion, Curve, EpochLine, Evaluation, Metric, Metrics, OutputScores, Rank, Scores, Session, StepLine,
        WorstMask, WorstSample,
    };

    const HOSTILE: &str = "<script>alert('x')</script>&\"'";

    fn run(classes: usize) -> Run {
        let epoch = |epoch: usize| EpochLine {
            epoch,
            train_loss: 2.0 / epoch as f64,
            val_loss: f64::NAN,
            scores: Scores(vec![("top1".to_owned(), 0.3 * epoch as f64), ("top5".to_owned(), 1.0)]),
            images_per_second: 1234.5,
            data_wait: 0.1,
            communication_wait: 0.2,
            elapsed_seconds: 8000.0,
        };
        let steps = (0..20).map(|step| StepLine { step, loss: 2.0 - 0.05 * step as f64, lr: 0.1 }).collect();
        let mut confusion = Confusion::default();
        (0..classes as u32).for_each(|class| confusion.add_many(class, class, 9));
        confusion.add(0, 1);
        let names: Vec<_> = (0..classes).map(|class| format!("{HOSTILE}{class}")).collect();
        let worst = WorstSample {
            path: format!("val/{HOSTILE}.png"),
            label: 0,
            predicted: 1,
            probability: 0.99,
            label_probability: 0.01,
            loss: 4.6,
            thumbnail: Some("data:image/png;base64,AA==".to_owned()),
        };
        Run {
            name: format!("run {HOSTILE}"),
            metrics: Metrics { steps, epochs: vec![(epoch(1), 10), (epoch(2), 20)] },
            evaluation: Some(Evaluation {
                outputs: vec![OutputScores {
                    name: HOSTILE.to_owned(),
                    support: 3,
                    curves: vec![
                        Curve::new("pr", vec![[0.0, 1.0], [1.0, 0.5]]),
                        Curve::new("scatter", vec![[1.0, 2.0], [3.0, f64::NAN]]),
                    ],
                    scores: Scores(vec![("ap".to_owned(), f64::NAN)]),
                }],
                classes: confusion.scores(&names),
                confusion,
                worst: vec![worst],
                worst_masks: vec![WorstMask {
                    path: HOSTILE.to_owned(),
                    accuracy: f64::NAN,
                    loss: 1.0,
                    thumbnail: None,
                    truth: Some(format!("javascript:{HOSTILE}")),
                    predicted: None,
                }],
                ..Evaluation::plain(
                    Some(2),
                    0.5,
                    9 * classes as u64 + 1,
                    Vec::new(),
                    Scores(vec![("top1".to_owned(), 0.6), ("top5".to_owned(), 1.0)]),
                )
            }),
            environment: crate::Environment {
                sessions: vec![Session {
                    command: vec!["rust-train".to_owned(), HOSTILE.to_owned()],
                    ranks: vec![Rank { host: HOSTILE.to_owned(), ..Rank::default() }],
                    ..Session::default()
                }],
            },
            plan: Some(format!("model = '''{HOSTILE}'''")),
        }
    }

    #[test]
    fn data_are_never_markup() {
        for classes in [2, 10, 1000] {
            let page = page(&run(classes));
            assert!(!page.contains("<script>alert"), "{classes} classes");
            assert!(page.contains("&lt;script&gt;alert"));
            assert_eq!(page.matches("<script").count(), 1, "the page's own");
            // Inside attributes quotes end a value; HOSTILE's must not.
            assert!(!page.contains("&\"'"));
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let page = page(&run(10));
        let outside = page.replace("http://www.w3.org/2000/svg", ""); // a name, not an address
        for word in ["http:", "https:", "src=\"/", "@import", "url(", "<link", "<iframe"] {
            assert!(!outside.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn a_grid_becomes_a_list_where_classes_are_many() {
        assert!(page(&run(10)).contains("<table class=\"matrix\">"));
        let many = page(&run(1000));
        assert!(!many.contains("<table class=\"matrix\">") && many.contains("Taken for"));
        assert!(many.len() < 2 << 20, "{} bytes", many.len());
    }

    #[test]
    fn a_task_without_classes_has_its_own_curves_and_no_matrix() {
        let mut run = run(3);
        run.name = "levels".to_owned();
        for (line, _) in &mut run.metrics.epochs {
            line.scores = Scores(vec![("mae".to_owned(), 1.5 / line.epoch as f64)]);
        }
        let evaluation = run.evaluation.as_mut().unwrap();
        (evaluation.metrics, evaluation.scores) = (vec![Metric::error("mae")], Scores(vec![("mae".to_owned(), 0.75)]));
        (evaluation.classes, evaluation.confusion, evaluation.worst) = Default::default();
        let page = page(&run);
        assert!(page.contains("Best mae") && page.contains("0.7500") && page.contains("after epoch 2"));
        assert!(!page.contains("Confusion") && !page.contains("top-1") && !page.contains("Top-1"));
    }

    #[test]
    fn an_empty_run_has_a_page() {
        let page = page(&Run { name: "new".to_owned(), ..Run::default() });
        assert!(page.contains("no values yet"));
    }

    #[test]
    fn times_are_in_words() {
        let words = [0.25, 119.0, 150.4, 7199.0, 11_520.0, f64::NAN].map(duration);
        assert_eq!(words, ["0.2 s", "119.0 s", "2 min 30 s", "119 min 59 s", "3 h 12 min", "–"]);
        assert_eq!((count(1, "rank"), count(4096, "rank")), ("1 rank".to_owned(), "4,096 ranks".to_owned()));
    }
}
