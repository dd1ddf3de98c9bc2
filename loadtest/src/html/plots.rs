//! Which plots a report has.

use super::chart::{Caption, Curve, curves, dots, dots_about_diagonal, ranges};
use super::grouped;
use crate::findings::Findings;
use crate::report::Report;
use crate::timeline::Sample;

/// Points in a curve at most, about.
const POINTS: usize = 300;

/// All of them, in order.
pub(super) fn all(report: &Report) -> Vec<String> {
    let samples = report.timeline.as_slice();
    let found = &report.findings;
    let mut plots = vec![arrivals(samples), admissions(report), line(samples)];
    plots.extend(order(found));
    plots.extend(waits(found));
    plots.extend(shown(found));
    plots.extend([errors(samples, found), latency(samples), cpu(samples), memory(samples)]);
    plots
}

const SECONDS: &str = "seconds since the start";

fn arrivals(samples: &[Sample]) -> String {
    let come = per_second(samples, |sample| sample.arrived);
    let most = most(&come);
    let words = format!(
        "{} visitors came, {:.0} a second at most; {} closed the page while waiting.",
        grouped(last(samples).arrived),
        most,
        grouped(last(samples).left)
    );
    let caption = Caption { id: "arrivals", title: "Arrivals a second", words: &words, across: SECONDS };
    let left = per_second(samples, |sample| sample.left);
    curves(
        caption,
        &[Curve { name: "came", look: "one", points: come }, Curve { name: "left", look: "two", points: left }],
    )
}

fn admissions(report: &Report) -> String {
    let samples = report.timeline.as_slice();
    let found = &report.findings;
    let end = last(samples).second as f64;
    let mut rate = Vec::new();
    for (n, (from, per_second)) in report.rates.iter().enumerate() {
        let until = report.rates.get(n + 1).map_or(end, |(at, _)| at.min(end));
        rate.extend([(*from, *per_second), (until, *per_second)]);
    }
    let words = format!(
        "{} entered. The worst interval has {} entries beyond what the rate allows (rate x (T + tick) + burst); {} were overtaken.",
        grouped(found.entries as u64),
        found.worst_excess.map_or_else(|| "no".to_owned(), |excess| format!("{:+.1}", excess.by)),
        grouped(found.overtaken.visitors as u64)
    );
    let caption =
        Caption { id: "admissions", title: "Admissions a second, against the rate", words: &words, across: SECONDS };
    let entered = Curve { name: "entered", look: "one", points: per_second(samples, |sample| sample.entered) };
    curves(caption, &[entered, Curve { name: "rate", look: "two", points: rate }])
}

fn line(samples: &[Sample]) -> String {
    let points = values(samples, |sample| sample.waiting as f64);
    let words = format!("{} stood in line at most.", grouped(most(&points) as u64));
    let caption = Caption { id: "line", title: "Visitors in line", words: &words, across: SECONDS };
    curves(caption, &[Curve { name: "waiting", look: "one", points }])
}

fn order(found: &Findings) -> Option<String> {
    let points: Vec<(f64, f64)> =
        found.order_sample.iter().map(|[second, number]| (f64::from(*second), f64::from(*number))).collect();
    let words = format!(
        "Up: the number in a ticket; across: when its visitor learnt of the turn, who had stayed. Each lane has numbers of its \
        own and is a line that rises; who learns late of a call lies to the right of it. {} were overtaken for certain, {} by the moments of held \
        answers.",
        grouped(found.overtaken.visitors as u64),
        grouped(found.overtaken_by_held_answers.visitors as u64)
    );
    let caption = Caption { id: "order", title: "Order of the calls", words: &words, across: SECONDS };
    (!points.is_empty()).then(|| dots(caption, &points))
}

fn waits(found: &Findings) -> Option<String> {
    let rows: Vec<(String, [f64; 3])> = found
        .waits
        .iter()
        .filter(|waits| waits.figures.count > 0)
        .map(|waits| {
            (
                waits.crowd.clone(),
                [waits.figures.p10_ms, waits.figures.p50_ms, waits.figures.p90_ms].map(|ms| ms / 1000.0),
            )
        })
        .collect();
    let said = rows.iter().map(|(name, [low, middle, high])| format!("{name}: {low:.0}, {middle:.0}, {high:.0} s"));
    let words = format!(
        "From joining to the turn: nine in ten wait longer than the first figure, half the second, one in ten the third. {}.",
        said.collect::<Vec<_>>().join("; ")
    );
    let caption = Caption { id: "waits", title: "Waits, p10 to p90", words: &words, across: "seconds waited" };
    (!rows.is_empty()).then(|| ranges(caption, &rows))
}

fn shown(found: &Findings) -> Option<String> {
    let shown = &found.shown_waits;
    let points: Vec<(f64, f64)> =
        shown.sample.iter().map(|[low, high, real]| (f64::from(*real), f64::from((low + high) / 2.0))).collect();
    let words = format!(
        "Up: the middle of the first range shown; across: the wait that came. {:.1} % of {} came true within their range, \
        allowing a tenth and five seconds; the middle is off by {:.1} % (median).",
        shown.true_share * 100.0,
        grouped(shown.visitors as u64),
        shown.median_error * 100.0
    );
    let caption = Caption {
        id: "shown",
        title: "Wait shown, against the wait that came",
        words: &words,
        across: "seconds that came",
    };
    (!points.is_empty()).then(|| dots_about_diagonal(caption, &points))
}

fn errors(samples: &[Sample], found: &Findings) -> String {
    let words = format!(
        "{} requests of honest visitors went wrong without excuse; {} of hostile visitors were refused or asked for work first. {} were overtaken, {} lost something.",
        grouped(found.troubles.errors()),
        grouped(found.hostile.too_many_requests + found.hostile.challenged),
        grouped(found.overtaken.visitors as u64),
        grouped(found.lost())
    );
    let caption = Caption { id: "errors", title: "Errors and refusals a second", words: &words, across: SECONDS };
    let points = |of: fn(&Sample) -> u64| per_second(samples, of);
    let errors = Curve { name: "errors", look: "two", points: points(|sample| sample.errors) };
    curves(caption, &[errors, Curve { name: "refused", look: "one", points: points(|sample| sample.refused) }])
}

fn latency(samples: &[Sample]) -> String {
    let (p50, p99) = (values(samples, |sample| sample.p50_ms), values(samples, |sample| sample.p99_ms));
    let words = format!(
        "Of requests that are never held, second by second: p99 is {:.1} ms at most, the median {:.1} ms at most.",
        most(&p99),
        most(&p50)
    );
    let caption = Caption { id: "latency", title: "Latency in milliseconds", words: &words, across: SECONDS };
    curves(caption, &[Curve { name: "p50", look: "one", points: p50 }, Curve { name: "p99", look: "two", points: p99 }])
}

fn cpu(samples: &[Sample]) -> String {
    let percent = |of: fn(&Sample) -> u64| -> Vec<(f64, f64)> {
        per_second(samples, of).into_iter().map(|(x, ms)| (x, ms / 10.0)).collect()
    };
    let (proxy, own) = (percent(|sample| sample.proxy_cpu_ms), percent(|sample| sample.own_cpu_ms));
    let words = format!(
        "Percent of one core, kernel included: the proxy {:.0} at most, the load tester {:.0} at most.",
        most(&proxy),
        most(&own)
    );
    let caption = Caption { id: "cpu", title: "CPU in percent of a core", words: &words, across: SECONDS };
    curves(
        caption,
        &[Curve { name: "proxy", look: "one", points: proxy }, Curve { name: "load tester", look: "two", points: own }],
    )
}

fn memory(samples: &[Sample]) -> String {
    let mib = |of: fn(&Sample) -> u64| values(samples, |sample| of(sample) as f64 / 1024.0);
    let (proxy, own) = (mib(|sample| sample.proxy_kib), mib(|sample| sample.own_kib));
    let words =
        format!("Resident: the proxy {:.0} MiB at most, the load tester {:.0} MiB at most.", most(&proxy), most(&own));
    let caption = Caption { id: "memory", title: "Memory in MiB", words: &words, across: SECONDS };
    curves(
        caption,
        &[Curve { name: "proxy", look: "one", points: proxy }, Curve { name: "load tester", look: "two", points: own }],
    )
}

fn first(samples: &[Sample]) -> Sample {
    samples.first().copied().unwrap_or_default()
}

fn last(samples: &[Sample]) -> Sample {
    samples.last().copied().unwrap_or_default()
}

fn most(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|point| point.1).fold(0.0, f64::max)
}

/// Samples between two points of a curve.
fn stride(samples: &[Sample]) -> usize {
    samples.len() / POINTS + 1
}

/// How fast a running count grows.
fn per_second(samples: &[Sample], of: fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    let begin = Sample {
        proxy_cpu_ms: first(samples).proxy_cpu_ms,
        own_cpu_ms: first(samples).own_cpu_ms,
        ..Sample::default()
    };
    let picked: Vec<&Sample> = std::iter::once(&begin).chain(samples.iter().step_by(stride(samples))).collect();
    let growth = |pair: &[&Sample]| {
        let [before, after] = pair else { return None };
        let seconds = after.second.saturating_sub(before.second);
        let grown = of(after).saturating_sub(of(before));
        (seconds > 0).then(|| (after.second as f64, grown as f64 / seconds as f64))
    };
    picked.windows(2).filter_map(growth).collect()
}

/// A value over time; between two points its highest.
fn values(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let highest = |chunk: &[Sample]| {
        let at = chunk.last()?.second as f64;
        Some((at, chunk.iter().map(&of).fold(0.0, f64::max)))
    };
    samples.chunks(stride(samples)).filter_map(highest).collect()
}
