//! What a benchmark over several numbers of ranks found: a table, `scaling.csv`, `scaling.svg` and a page.

use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use crate::chart::{Axis, Chart, Colour, Series, Shape, number};
use crate::page::{count, document, percent, section, tile};

/// What stays the same as ranks are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The samples of each rank: the global batch grows.
    Weak,
    /// The global batch: each rank's part shrinks.
    Strong,
}

/// The parts of a step, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// Waiting for the batch.
    pub data: f64,
    /// The network's output and the loss.
    pub forward: f64,
    /// The gradients.
    pub backward: f64,
    /// What the exchange of gradients, and the agreement of the ranks, take longer than the gradients' computation.
    pub exchange: f64,
    /// The update of the weights.
    pub optimizer: f64,
    /// The rest.
    pub other: f64,
}

/// Name, colour and value of each part, in the order of a step.
const PARTS: [(&str, Colour, fn(&Parts) -> f64); 6] = [
    ("data", Colour::Orange, |parts| parts.data),
    ("forward", Colour::Sky, |parts| parts.forward),
    ("backward", Colour::Green, |parts| parts.backward),
    ("exchange", Colour::Blue, |parts| parts.exchange),
    ("optimizer", Colour::Purple, |parts| parts.optimizer),
    ("other", Colour::Gray, |parts| parts.other),
];

/// One number of ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Ranks.
    pub ranks: usize,
    /// Nodes that they were on.
    pub nodes: usize,
    /// Samples a step over all ranks.
    pub batch: usize,
    /// Samples per second over all ranks: the median over the windows.
    pub images_per_second: f64,
    /// The slowest window.
    pub slowest: f64,
    /// The fastest window.
    pub fastest: f64,
    /// The parts of a step on rank 0: of the window with the median speed.
    pub parts: Parts,
}

/// A benchmark over several numbers of ranks, smallest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// What stays the same.
    pub mode: Mode,
    /// What was trained: "resnet50 at 224×224 pixels".
    pub subject: String,
    /// Names and values of what it ran on.
    pub machine: Vec<(String, String)>,
    /// Windows of each point.
    pub windows: usize,
    /// At least one.
    pub points: Vec<Point>,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Weak => "weak",
            Self::Strong => "strong",
        }
    }
}

impl Parts {
    /// All of them together: the length of a step.
    pub fn step(&self) -> f64 {
        PARTS.iter().map(|(_, _, part)| part(self)).sum()
    }
}

/// A row of `scaling.csv`.
#[derive(Serialize)]
struct Row {
    mode: Mode,
    ranks: usize,
    nodes: usize,
    batch: usize,
    images_per_second: f64,
    slowest: f64,
    fastest: f64,
    speedup: f64,
    efficiency: f64,
    step_seconds: f64,
    data: f64,
    forward: f64,
    backward: f64,
    exchange: f64,
    optimizer: f64,
    other: f64,
}

impl Scaling {
    /// How many times as fast as the first point `point` is.
    pub fn speedup(&self, point: &Point) -> f64 {
        point.images_per_second / self.points[0].images_per_second
    }

    /// The speed-up over the one that the number of ranks promises.
    pub fn efficiency(&self, point: &Point) -> f64 {
        self.speedup(point) * self.points[0].ranks as f64 / point.ranks as f64
    }

    /// The table for a terminal.
    pub fn table(&self) -> String {
        let milliseconds = |seconds: f64| format!("{:.2}", seconds * 1e3);
        let mut rows = vec![
            ["ranks", "nodes", "batch", "images/s", "spread", "speed-up", "efficiency", "step"]
                .into_iter()
                .chain(PARTS.iter().map(|part| part.0))
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        ];
        rows.extend(self.points.iter().map(|point| {
            let spread = (point.fastest - point.slowest) / 2.0 / point.images_per_second;
            let mut row = vec![
                point.ranks.to_string(),
                point.nodes.to_string(),
                number(point.batch as f64, 1.0),
                number(point.images_per_second, 1.0),
                format!("±{:.1} %", spread * 100.0),
                format!("{:.2}", self.speedup(point)),
                format!("{:.1} %", self.efficiency(point) * 100.0),
                milliseconds(point.parts.step()),
            ];
            row.extend(PARTS.iter().map(|(_, _, part)| milliseconds(part(&point.parts))));
            row
        }));
        let widths: Vec<_> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
            cells.join("  ") + "\n"
        };
        let head = format!(
            "{} scaling of {}; median of {}, half the range as spread; step and its parts in ms\n",
            self.mode.word(),
            self.subject,
            count(self.windows, "window"),
        );
        head + &rows.iter().map(line).collect::<String>()
    }

    /// The points as a table with a header; times in seconds.
    pub fn csv(&self) -> String {
        let row = |point: &Point| {
            let Parts { data, forward, backward, exchange, optimizer, other } = point.parts;
            Row {
                mode: self.mode,
                ranks: point.ranks,
                nodes: point.nodes,
                batch: point.batch,
                images_per_second: point.images_per_second,
                slowest: point.slowest,
                fastest: point.fastest,
                speedup: self.speedup(point),
                efficiency: self.efficiency(point),
                step_seconds: point.parts.step(),
                data,
                forward,
                backward,
                exchange,
                optimizer,
                other,
            }
        };
        crate::metrics::table(self.points.iter().map(row))
    }

    /// Throughput over ranks, with the line of perfect scaling: `scaling.svg`.
    pub fn throughput(&self) -> Chart {
        let over = |value: &dyn Fn(&Point) -> f64| self.over(value);
        let first = &self.points[0];
        let ideal = over(&|point| first.images_per_second * point.ranks as f64 / first.ranks as f64);
        let spread =
            self.points.iter().enumerate().map(|(x, point)| (x as f64, point.slowest, point.fastest)).collect();
        Chart {
            title: format!("Throughput, {} scaling", self.mode.word()),
            x: self.ranks(),
            y: Axis::new("images/s").from_zero(),
            series: vec![
                Series::new("perfect", Colour::Gray, Shape::Dashed(ideal)),
                Series::new("", Colour::Blue, Shape::Whiskers(spread)),
                Series::new("measured", Colour::Blue, Shape::Dotted(over(&|point| point.images_per_second))),
            ],
        }
    }

    fn efficiency_chart(&self) -> Chart {
        let efficiency = self.over(&|point| self.efficiency(point));
        let perfect = self.over(&|_| 1.0);
        Chart {
            title: format!("Efficiency against {}", count(self.points[0].ranks, "rank")),
            x: self.ranks(),
            y: Axis { includes: vec![0.0, 1.0], ..Axis::percent("efficiency") },
            series: vec![
                Series::new("perfect", Colour::Gray, Shape::Dashed(perfect)),
                Series::new("measured", Colour::Green, Shape::Dotted(efficiency)),
            ],
        }
    }

    /// The parts of a step one above the other: in milliseconds, or as shares of the step.
    fn parts_chart(&self, as_shares: bool) -> Chart {
        let bars = |index: usize| {
            let bar = |(x, point): (usize, &Point)| {
                let below: f64 = PARTS[..index].iter().map(|(_, _, part)| part(&point.parts)).sum();
                let scale = if as_shares { 1.0 / point.parts.step() } else { 1e3 };
                (x as f64, below * scale, (below + PARTS[index].2(&point.parts)) * scale)
            };
            Shape::Bars(self.points.iter().enumerate().map(bar).collect())
        };
        let series = PARTS.iter().enumerate().map(|(index, &(name, colour, _))| Series::new(name, colour, bars(index)));
        Chart {
            title: if as_shares { "The same, as shares" } else { "The parts of a step on rank 0" }.to_owned(),
            x: self.ranks(),
            y: if as_shares { Axis::percent("share of a step").from_zero() } else { Axis::new("ms").from_zero() },
            series: series.collect(),
        }
    }

    fn ranks(&self) -> Axis {
        Axis::categories("ranks", self.points.iter().map(|point| point.ranks.to_string()).collect())
    }

    fn over(&self, value: &dyn Fn(&Point) -> f64) -> Vec<(f64, f64)> {
        self.points.iter().enumerate().map(|(x, point)| (x as f64, value(point))).collect()
    }

    /// The page: `scaling.html`.
    pub fn page(&self) -> String {
        let title = format!("{} scaling", if self.mode == Mode::Weak { "Weak" } else { "Strong" });
        let last = self.points.last().unwrap_or(&self.points[0]);
        let header = html! {
            header {
                h1 { (title) }
                p.state { (self.subject) }
                div.tiles {
                    (tile("Largest", &count(last.ranks, "rank"), &format!("on {}", count(last.nodes, "node"))))
                    (tile("Images per second", &number(last.images_per_second, 1.0), "median of the windows"))
                    (tile("Speed-up", &format!("{:.2}", self.speedup(last)), &against(&self.points[0])))
                    (tile("Efficiency", &percent(self.efficiency(last)), &against(&self.points[0])))
                }
            }
        };
        let charts = [self.throughput(), self.efficiency_chart(), self.parts_chart(false), self.parts_chart(true)];
        let sections = html! {
            (section("Curves", html! { div.charts { @for chart in &charts { (chart.figure()) } } }))
            (section("Table", self.html_table()))
            (section("Machine", html! {
                div.card { dl { @for (name, value) in &self.machine { dt { (name) } dd { (value) } } } }
            }))
        };
        document(&title, &header, &sections)
    }

    fn html_table(&self) -> Markup {
        html! {
            div.card { div.scroll { table {
                thead { tr {
                    @for name in ["Ranks", "Nodes", "Batch", "Images/s", "Slowest", "Fastest", "Speed-up", "Efficiency"] {
                        th.number { (name) }
                    }
                    th.number { "Step, ms" }
                    @for (name, ..) in PARTS { th.number { (name) ", ms" } }
                } }
                tbody { @for point in &self.points { tr {
                    @for whole in [point.ranks, point.nodes, point.batch] { td.number { (number(whole as f64, 1.0)) } }
                    @for speed in [point.images_per_second, point.slowest, point.fastest] {
                        td.number { (number(speed, 1.0)) }
                    }
                    td.number { (format!("{:.2}", self.speedup(point))) }
                    td.number { (percent(self.efficiency(point))) }
                    td.number { (format!("{:.2}", point.parts.step() * 1e3)) }
                    @for (_, _, part) in PARTS { td.number { (format!("{:.2}", part(&point.parts) * 1e3)) } }
                } } }
            } } }
        }
    }
}

fn against(first: &Point) -> String {
    format!("against {}", count(first.ranks, "rank"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling() -> Scaling {
        let point = |ranks: usize, images_per_second: f64, exchange: f64| Point {
            ranks,
            nodes: ranks.div_ceil(2),
            batch: 64 * ranks,
            images_per_second,
            slowest: images_per_second * 0.98,
            fastest: images_per_second * 1.01,
            parts: Parts { data: 0.001, forward: 0.01, backward: 0.02, exchange, optimizer: 0.002, other: 0.0005 },
        };
        Scaling {
            mode: Mode::Weak,
            subject: "resnet18 at 32×32 pixels".to_owned(),
            machine: vec![("CPU".to_owned(), "<2 cores>".to_owned())],
            windows: 5,
            points: vec![point(1, 1900.0, 0.0), point(2, 3600.0, 0.002), point(4, 6080.0, 0.006)],
        }
    }

    #[test]
    fn efficiency_is_against_the_first_point() {
        let scaling = scaling();
        let last = &scaling.points[2];
        assert!((scaling.speedup(last) - 3.2).abs() < 1e-12);
        assert!((scaling.efficiency(last) - 0.8).abs() < 1e-12);
        insta::assert_snapshot!(scaling.table(), @r"
        weak scaling of resnet18 at 32×32 pixels; median of 5 windows, half the range as spread; step and its parts in ms
        ranks  nodes  batch  images/s  spread  speed-up  efficiency   step  data  forward  backward  exchange  optimizer  other
            1      1     64     1,900  ±1.5 %      1.00     100.0 %  33.50  1.00    10.00     20.00      0.00       2.00   0.50
            2      1    128     3,600  ±1.5 %      1.89      94.7 %  35.50  1.00    10.00     20.00      2.00       2.00   0.50
            4      2    256     6,080  ±1.5 %      3.20      80.0 %  39.50  1.00    10.00     20.00      6.00       2.00   0.50
        ");
        insta::assert_snapshot!(scaling.csv(), @r"
        mode,ranks,nodes,batch,images_per_second,slowest,fastest,speedup,efficiency,step_seconds,data,forward,backward,exchange,optimizer,other
        weak,1,1,64,1900.0,1862.0,1919.0,1.0,1.0,0.0335,0.001,0.01,0.02,0.0,0.002,0.0005
        weak,2,1,128,3600.0,3528.0,3636.0,1.894736842105263,0.9473684210526315,0.035500000000000004,0.001,0.01,0.02,0.002,0.002,0.0005
        weak,4,2,256,6080.0,5958.4,6140.8,3.2,0.8,0.0395,0.001,0.01,0.02,0.006,0.002,0.0005
        ");
    }

    #[test]
    fn the_page_shows_every_part() {
        let page = scaling().page();
        assert!(PARTS.iter().all(|(name, ..)| page.contains(name)));
        assert!(page.contains("&lt;2 cores&gt;") && !page.contains("<2 cores>"));
        assert_eq!(page.matches("<rect class=\"bar\" x=").count(), PARTS.len() * 3 * 2);
    }
}
