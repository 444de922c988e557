//! Charts as SVG: few colours that a colour-blind reader tells apart, round ticks, labels with units.
//!
//! A chart inside a page takes its colours from the page's style sheet, so that they follow its light or dark theme;
//! [`Chart::file`] brings its own.

mod draw;
mod scale;
mod thin;

use maud::Markup;

pub(crate) use scale::{Ticks, number};
pub use thin::{Bucket, thin};

/// The variables and rules that charts are drawn with.
pub(crate) const STYLE: &str = include_str!("chart.css");

/// A chart.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// What it shows: "Loss".
    pub title: String,
    /// The axis below.
    pub x: Axis,
    /// The axis at the side.
    pub y: Axis,
    /// What is drawn, from back to front.
    pub series: Vec<Series>,
}

/// An axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// What is measured, with its unit: "images/s".
    pub label: String,
    /// A value that the axis must reach, whatever the data.
    pub includes: Vec<f64>,
    /// Whether values are shares, 0–1, written as percentages.
    pub percent: bool,
    /// Names for 0, 1, 2…: these then are all its ticks, each with room around it.
    pub categories: Vec<String>,
}

/// Something that is drawn.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend; empty for none.
    pub name: String,
    /// Its colour, one of [`Colour`]'s.
    pub colour: Colour,
    /// Its shape and values.
    pub shape: Shape,
}

/// The shape of a series, with its values. What is not finite leaves a gap.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A line through points (x, y).
    Line(Vec<(f64, f64)>),
    /// The same, dashed: what would be, not what is.
    Dashed(Vec<(f64, f64)>),
    /// A line with a dot at each point.
    Dotted(Vec<(f64, f64)>),
    /// A dot at each point.
    Dots(Vec<(f64, f64)>),
    /// The area between two lines (x, low, high).
    Band(Vec<(f64, f64, f64)>),
    /// Bars around x, from low to high.
    Bars(Vec<(f64, f64, f64)>),
    /// From low to high at x: what was measured lies between.
    Whiskers(Vec<(f64, f64, f64)>),
}

/// Colours by their place in a palette, after Okabe and Ito (2008).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// The first choice.
    Blue,
    /// The second.
    Orange,
    /// The third.
    Green,
    /// The fourth.
    Purple,
    /// The fifth.
    Sky,
    /// For what stands back.
    Gray,
}

impl Colour {
    fn class(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Orange => "orange",
            Self::Green => "green",
            Self::Purple => "purple",
            Self::Sky => "sky",
            Self::Gray => "gray",
        }
    }
}

impl Axis {
    /// An axis for values of which `label` says what they are.
    pub fn new(label: &str) -> Self {
        Self { label: label.to_owned(), ..Self::default() }
    }

    /// The same, from 0 on.
    #[must_use]
    pub fn from_zero(mut self) -> Self {
        self.includes.push(0.0);
        self
    }

    /// An axis of shares from 0 to 100 %.
    pub fn percent(label: &str) -> Self {
        Self { label: label.to_owned(), percent: true, ..Self::default() }
    }

    /// An axis of named places.
    pub fn categories(label: &str, names: Vec<String>) -> Self {
        Self { label: label.to_owned(), categories: names, ..Self::default() }
    }
}

impl Series {
    /// A series.
    pub fn new(name: &str, colour: Colour, shape: Shape) -> Self {
        Self { name: name.to_owned(), colour, shape }
    }
}

impl Shape {
    /// x, low and high of every point.
    fn extents(&self) -> Vec<(f64, f64, f64)> {
        match self {
            Self::Line(points) | Self::Dashed(points) | Self::Dotted(points) | Self::Dots(points) => {
                points.iter().map(|&(x, y)| (x, y, y)).collect()
            }
            Self::Band(points) | Self::Bars(points) | Self::Whiskers(points) => points.clone(),
        }
    }
}

impl Chart {
    /// The chart as a part of a page that has [`STYLE`] in its style sheet: a figure with its title and legend.
    pub(crate) fn figure(&self) -> Markup {
        draw::figure(self)
    }

    /// The chart as an SVG file of its own.
    pub fn file(&self) -> String {
        draw::file(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        Chart {
            title: "Loss <of> \"x\"".to_owned(),
            x: Axis::new("epoch"),
            y: Axis::new("loss").from_zero(),
            series: vec![
                Series::new(
                    "train & more",
                    Colour::Blue,
                    Shape::Line(vec![(0.0, 2.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, 0.5)]),
                ),
                Series::new("", Colour::Blue, Shape::Band(vec![(0.0, 1.0, 3.0), (3.0, 0.2, 1.0)])),
            ],
        }
    }

    #[test]
    fn a_file_is_well_formed_and_escaped() {
        let svg = chart().file();
        assert!(svg.starts_with("<svg ") && svg.contains("xmlns=\"http://www.w3.org/2000/svg\""), "{svg}");
        assert!(svg.contains("Loss &lt;of&gt;") && svg.contains("train &amp; more"));
        // Every element that is opened is closed.
        let (opened, closed) = (svg.matches('<').count() - svg.matches("</").count(), svg.matches("</").count());
        assert_eq!(opened, closed);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "a value that is not finite is not drawn");
    }

    #[test]
    fn a_value_that_is_no_number_leaves_a_gap() {
        // One point before the gap, two after it.
        let svg = chart().file();
        assert_eq!(svg.matches("<polyline").count(), 2);
        let empty = Chart { title: "Nothing".to_owned(), ..Chart::default() };
        assert!(empty.file().contains("no values"));
    }
}
