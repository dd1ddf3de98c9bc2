//! Plots as SVG: lines over time, dots, and ranges. They only draw; what they mean is said by whoever asks for them.

use std::fmt::Write;

use super::escaped;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 38.0;
/// Grid lines across at most.
const LINES: f64 = 5.0;

/// A curve.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// What it shows.
    pub(super) name: &'static str,
    /// How it looks: `one`, `two` or `three` of the style sheet.
    pub(super) look: &'static str,
    /// Its points.
    pub(super) points: Vec<(f64, f64)>,
}

/// What a plot is called and what it means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caption<'c> {
    /// Distinguishes it within the page.
    pub(super) id: &'static str,
    /// Its title.
    pub(super) title: &'static str,
    /// What it shows, in a sentence with figures.
    pub(super) words: &'c str,
    /// What stands under the horizontal axis.
    pub(super) across: &'static str,
}

/// Curves over a common axis.
pub(super) fn curves(caption: Caption<'_>, curves: &[Curve]) -> String {
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let axes = Axes::up_to(all().map(|point| point.0), all().map(|point| point.1));
    let mut drawing = axes.grid(caption.across);
    for curve in curves {
        let _ = writeln!(drawing, "<path class=\"{}\" d=\"{}\"/>", curve.look, axes.path(&curve.points));
    }
    figure(caption, &keys(curves), &drawing)
}

/// Dots, and the diagonal on which both axes agree.
pub(super) fn dots_about_diagonal(caption: Caption<'_>, points: &[(f64, f64)]) -> String {
    let most = points.iter().flat_map(|(x, y)| [*x, *y]).fold(0.0, f64::max);
    let axes = Axes::up_to([most].into_iter(), [most].into_iter());
    let mut drawing = axes.grid(caption.across);
    let _ = writeln!(drawing, "<path class=\"two\" d=\"{}\"/>", axes.path(&[(0.0, 0.0), (most, most)]));
    drawing.push_str(&axes.dots(points));
    figure(caption, "", &drawing)
}

/// Dots.
pub(super) fn dots(caption: Caption<'_>, points: &[(f64, f64)]) -> String {
    let axes = Axes::up_to(points.iter().map(|point| point.0), points.iter().map(|point| point.1));
    figure(caption, "", &(axes.grid(caption.across) + &axes.dots(points)))
}

/// One range for each name: from the first figure to the third, with a mark at the second.
pub(super) fn ranges(caption: Caption<'_>, rows: &[(String, [f64; 3])]) -> String {
    let axes = Axes::up_to(rows.iter().map(|(_, [.., high])| *high), std::iter::empty());
    let mut drawing = axes.columns(caption.across);
    let room = (HEIGHT - TOP - BOTTOM) / rows.len().max(1) as f64;
    for (n, (name, [low, middle, high])) in rows.iter().enumerate() {
        let y = TOP + room * (n as f64 + 0.5);
        let [low, middle, high] = [low, middle, high].map(|value| axes.x(*value));
        let _ = writeln!(
            drawing,
            "<rect class=\"bar\" x=\"{low:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"16\"/>\
            <line class=\"mid\" x1=\"{middle:.1}\" x2=\"{middle:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
            <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            y - 4.0,
            (high - low).max(1.0),
            y - 8.0,
            y + 16.0,
            LEFT + 4.0,
            y - 10.0,
            escaped(name)
        );
    }
    figure(caption, "", &drawing)
}

fn figure(caption: Caption<'_>, keys: &str, drawing: &str) -> String {
    let Caption { id, title, words, .. } = caption;
    let words = escaped(words);
    format!(
        "<figure>\n<figcaption>{title}</figcaption>\n<p>{words}</p>\n{keys}\
        <svg role=\"img\" aria-labelledby=\"{id}-t {id}-d\" viewBox=\"0 0 {WIDTH} {HEIGHT}\">\n\
        <title id=\"{id}-t\">{title}</title>\n<desc id=\"{id}-d\">{words}</desc>\n{drawing}</svg>\n</figure>\n"
    )
}

fn keys(curves: &[Curve]) -> String {
    if curves.len() < 2 {
        return String::new();
    }
    let key = |curve: &Curve| {
        format!(
            "<span class=\"key\"><svg aria-hidden=\"true\" viewBox=\"0 0 28 10\"><path class=\"{}\" d=\"M0 5H28\"/></svg>{}</span>",
            curve.look, curve.name
        )
    };
    format!("<p>{}</p>\n", curves.iter().map(key).collect::<String>())
}

/// The scales of a plot, both from zero.
struct Axes {
    across: f64,
    up: f64,
}

impl Axes {
    fn up_to(across: impl Iterator<Item = f64>, up: impl Iterator<Item = f64>) -> Axes {
        let most = |values: &mut dyn Iterator<Item = f64>| values.filter(|v| v.is_finite()).fold(0.0, f64::max);
        let least = |value: f64| if value > 0.0 { value } else { 1.0 };
        let (mut across, mut up) = (across, up);
        Axes { across: least(most(&mut across)), up: least(most(&mut up)) * 1.05 }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (value / self.across)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / self.up)
    }

    fn dots(&self, points: &[(f64, f64)]) -> String {
        let mut drawing = "<g class=\"dots\">".to_owned();
        for (x, y) in points {
            let _ = write!(drawing, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\"/>", self.x(*x), self.y(*y));
        }
        drawing + "</g>\n"
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (n, (x, y)) in points.iter().enumerate() {
            let command = if n == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(*x), self.y(*y));
        }
        path
    }

    fn grid(&self, across: &str) -> String {
        let mut drawing = self.columns(across);
        for value in marks(self.up) {
            let y = self.y(value);
            let _ = writeln!(
                drawing,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                short(value)
            );
        }
        drawing
    }

    fn columns(&self, across: &str) -> String {
        let bottom = HEIGHT - BOTTOM;
        let mut drawing = String::new();
        for value in marks(self.across) {
            let x = self.x(value);
            let _ = writeln!(
                drawing,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\"/>\
                <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 4.0,
                bottom + 17.0,
                short(value)
            );
        }
        let _ = writeln!(
            drawing,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{across}</text>",
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 5.0
        );
        drawing
    }
}

/// Round values from zero to `most`, not too many.
fn marks(most: f64) -> Vec<f64> {
    let magnitude = 10_f64.powf((most / LINES).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * magnitude).into_iter().find(|step| most / step <= LINES);
    let step = step.unwrap_or(most);
    (0..).map(|n| f64::from(n) * step).take_while(|value| *value <= most * 1.0001).collect()
}

/// A figure on an axis.
fn short(value: f64) -> String {
    let trimmed = |value: f64, unit: &str| {
        let text = format!("{value:.1}");
        format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match value {
        v if v >= 1e6 => trimmed(v / 1e6, "M"),
        v if v >= 1e4 => trimmed(v / 1e3, "k"),
        v if v >= 1.0 || v == 0.0 => trimmed(v, ""),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(marks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(marks(137.0), [0.0, 50.0, 100.0]);
        for most in [0.003, 0.7, 1.0, 99.0, 12_345.0, 7e6] {
            assert!((2..=6).contains(&marks(most).len()), "{most}");
        }
    }

    #[test]
    fn figures_on_axes_are_short() {
        assert_eq!([0.0, 0.25, 40.0, 2500.0, 25_000.0, 1.5e6].map(short), ["0", "0.25", "40", "2500", "25k", "1.5M"]);
    }
}
