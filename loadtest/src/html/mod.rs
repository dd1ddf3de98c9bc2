//! A run's result as one page: nothing is fetched from anywhere, the plots are SVG within it, and what they show is
//! said in words and tables as well.

mod chart;
mod plots;

use std::fmt::Write;

use crate::findings::Findings;
use crate::report::Report;

const STYLE: &str = include_str!("report.css");

/// The page.
pub fn page(report: &Report) -> String {
    let title = escaped(&report.title);
    let met = report.expectations_met();
    let verdict = if met { "Every expectation was met." } else { "Not every expectation was met." };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{title}</title>\n\
        <style>\n{STYLE}</style>\n<main>\n<h1>{title}</h1>\n<p class=\"verdict {}\">{verdict}</p>\n",
        if met { "met" } else { "broken" }
    );
    page.push_str(&tiles(report));
    page.push_str(&checks(report));
    page.push_str("<h2>The course of the day</h2>\n<div class=\"plots\">\n");
    for plot in plots::all(report) {
        page.push_str(&plot);
    }
    page.push_str("</div>\n<h2>Figures</h2>\n");
    page.push_str(&latencies(&report.findings));
    page.push_str(&waits(&report.findings));
    page.push_str(&troubles(&report.findings));
    page.push_str(&attacks(&report.findings));
    page.push_str(
        "<p class=\"note\">Latencies count from the instant a request was due, so that a slow server cannot hide behind \
        its own slowness. Entries beyond the bound are counted at the portal, over all intervals.</p>\n</main>\n</html>\n",
    );
    page
}

/// Text as it may stand in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A whole number with groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn tiles(report: &Report) -> String {
    let found = &report.findings;
    let excess = found.worst_excess.map_or_else(|| "none".to_owned(), |excess| format!("{:+.1}", excess.by));
    let share = found.rate_share.map_or_else(|| "unknown".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let tiles = [
        ("visitors", grouped(found.counts.arrived)),
        ("entered", grouped(found.entries as u64)),
        ("longest line", grouped(found.longest_line)),
        ("of the rate used", share),
        ("entries beyond the bound, at worst", excess),
        ("overtaken", grouped(found.overtaken.visitors as u64)),
        ("lost", grouped(found.lost())),
        ("answers given to somebody else", grouped(found.leaks)),
        ("waits shown that came true", format!("{:.1} %", found.shown_waits.true_share * 100.0)),
        ("errors", grouped(found.troubles.errors())),
    ];
    let tile = |(name, figure): &(&str, String)| format!("<div><dt>{name}</dt><dd>{figure}</dd></div>\n");
    format!("<dl class=\"tiles\">\n{}</dl>\n", tiles.iter().map(tile).collect::<String>())
}

fn checks(report: &Report) -> String {
    let row = |check: &crate::verdict::Check| {
        let (class, word) = if check.met { ("met", "met") } else { ("broken", "not met") };
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"{class}\">{word}</td></tr>\n",
            escaped(&check.expected),
            escaped(&check.found)
        )
    };
    let rows: String = report.checks.iter().map(row).collect();
    table("What was expected", &["expectation", "found", "verdict"], &rows)
}

fn latencies(found: &Findings) -> String {
    let named = [("at the gate", found.gate), ("the load tester's own lag", found.own_lag)];
    let kinds = found.latencies.iter().map(|latency| (latency.kind, latency.figures));
    let mut rows = String::new();
    for (name, figures) in kinds.chain(named).filter(|(_, figures)| figures.count > 0) {
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{name}</th><td>{}</td><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td></tr>",
            grouped(figures.count),
            figures.p50_ms,
            figures.p90_ms,
            figures.p99_ms,
            figures.max_ms
        );
    }
    table("Latencies in milliseconds", &["request", "times", "p50", "p90", "p99", "longest"], &rows)
}

fn waits(found: &Findings) -> String {
    let mut rows = String::new();
    for waits in found.waits.iter().filter(|waits| waits.figures.count > 0) {
        let figures = waits.figures;
        let seconds = |ms: f64| format!("{:.1}", ms / 1000.0);
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&waits.crowd),
            grouped(waits.entered as u64),
            seconds(figures.p10_ms),
            seconds(figures.p50_ms),
            seconds(figures.p90_ms),
            seconds(figures.p99_ms),
            seconds(figures.max_ms)
        );
    }
    table("Waits in seconds", &["who", "entered", "p10", "p50", "p90", "p99", "longest"], &rows)
}

fn troubles(found: &Findings) -> String {
    let (t, h) = (&found.troubles, &found.hostile);
    let rows: String = [
        ("no connection or no answer", t.unreachable, h.unreachable),
        ("answers nobody knows", t.strange, h.strange),
        ("502 or 504 while the portal was well", t.gateway_errors, h.gateway_errors),
        ("502 or 504 while it was ill", t.gateway_errors_in_outage, h.gateway_errors_in_outage),
        ("errors of the portal's own", t.portal_errors, h.portal_errors),
        ("asked too often (429)", t.too_many_requests, h.too_many_requests),
        ("joins asked for work first", t.challenged, h.challenged),
        ("the line was cut", t.cut, h.cut),
    ]
    .iter()
    .map(|(name, honest, hostile)| {
        format!("<tr><th scope=\"row\">{name}</th><td>{}</td><td>{}</td></tr>\n", grouped(*honest), grouped(*hostile))
    })
    .collect();
    table("What went wrong", &["what", "honest visitors", "hostile visitors"], &rows)
}

fn attacks(found: &Findings) -> String {
    let percent = |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.1} %", share * 100.0));
    let mut rows = String::new();
    for attack in &found.attacks {
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td></tr>",
            escaped(&attack.by),
            grouped(attack.requests),
            grouped(attack.refused),
            grouped(attack.challenged),
            grouped(attack.places as u64),
            percent(attack.rate_share),
            percent(attack.honest_share),
            attack.never_held.p99_ms
        );
    }
    let heads = ["who", "requests", "refused", "asked for work", "places", "of the rate", "of it honest", "p99 ms"];
    if rows.is_empty() { rows } else { table("While attacks went on, honest visitors' latency", &heads, &rows) }
}

fn table(caption: &str, heads: &[&str], rows: &str) -> String {
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    format!(
        "<div class=\"wide\"><table>\n<caption>{caption}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Sample;

    fn report(samples: u64) -> Report {
        let sample =
            |second| Sample { second, arrived: second * 3, entered: second, waiting: second, ..Sample::default() };
        Report {
            title: "A <day>".to_owned(),
            rates: vec![(0.0, 10.0), (5.0, 20.0)],
            findings: Findings::default(),
            checks: Vec::new(),
            timeline: (0..samples).map(sample).collect(),
        }
    }

    #[test]
    fn the_page_stands_alone_and_every_plot_has_a_name() {
        for samples in [0, 1, 2, 5000] {
            let page = page(&report(samples));
            assert!(page.contains("A &lt;day&gt;") && !page.contains("A <day>"));
            for foreign in ["http://", "https://", "src=", "<script", "<link", "NaN", "inf"] {
                assert!(!page.contains(foreign), "{foreign} with {samples} samples");
            }
            let (named, hidden) = ("<svg role=\"img\" aria-labelledby=", "<svg aria-hidden=\"true\"");
            assert_eq!(page.matches("<svg").count(), page.matches(named).count() + page.matches(hidden).count());
            assert!(page.len() < 400_000, "{}", page.len());
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
