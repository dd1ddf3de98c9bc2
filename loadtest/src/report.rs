//! What a run showed, for people and as JSON.

use std::fmt;

use serde::Serialize;

use crate::findings::{Findings, Instants};
use crate::timeline::Sample;
use crate::verdict::{Check, Window};

/// A run's result.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's title.
    pub title: String,
    /// The admission rate, per second, from each of these seconds on.
    pub rates: Vec<(f64, f64)>,
    /// What came about.
    pub findings: Findings,
    /// What was expected.
    pub checks: Vec<Check>,
    /// The run second by second.
    pub timeline: Vec<Sample>,
}

impl Report {
    /// Whether everything that was expected came about.
    pub fn expectations_met(&self) -> bool {
        self.checks.iter().all(|check| check.met)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title)?;
        write_visitors(f, &self.findings)?;
        write_rate(f, &self.findings)?;
        write_order(f, &self.findings)?;
        write_times(f, &self.findings)?;
        write_troubles(f, &self.findings)?;
        write_checks(f, &self.checks)
    }
}

fn write_visitors(f: &mut fmt::Formatter<'_>, found: &Findings) -> fmt::Result {
    let counts = &found.counts;
    writeln!(
        f,
        "visitors    {} arrived, {} joined, {} called, {} entered, {} left; {} requests",
        counts.arrived, counts.joined, counts.called, counts.entered, counts.left, counts.requests
    )?;
    let measured_at = match found.entries_measured_at {
        Instants::Portal => "as the portal saw them",
        Instants::Visitors => "as visitors saw them (no portal was named)",
    };
    writeln!(
        f,
        "entries     {} in {:.1} s, {measured_at}; {} straight through, {} came with a pass after a failed forwarding",
        found.entries, found.entering_seconds, found.straight_through, found.came_with_a_pass
    )
}

fn write_rate(f: &mut fmt::Formatter<'_>, found: &Findings) -> fmt::Result {
    if let Some(share) = found.rate_share {
        writeln!(f, "rate        {:.2} % of the rate in force from the first entry to the last", share * 100.0)?;
    }
    if let Some(worst) = found.worst_excess {
        writeln!(
            f,
            "bound       worst interval {:+.1} entries against rate x (T + tick) + burst ({} entries in {:.3} s)",
            worst.by,
            worst.entries,
            worst.to.since(worst.from).as_secs_f64()
        )?;
    }
    let calm: Vec<&Window> = found.windows.iter().filter(|window| window.calm).collect();
    if let Some(worst) = calm.iter().max_by(|a, b| a.off().abs().total_cmp(&b.off().abs())) {
        writeln!(
            f,
            "10 s        {} windows, {} of them calm; worst of these {:+.1} % ({} entries, {:.0} due, at {:.0} s)",
            found.windows.len(),
            calm.len(),
            worst.off() * 100.0,
            worst.entries,
            worst.due,
            worst.from.seconds()
        )?;
    }
    for row in found.windows.chunks(12) {
        let cell = |window: &Window| format!("{}{}", window.entries, if window.calm { "" } else { "~" });
        writeln!(f, "            {}", row.iter().map(cell).collect::<Vec<_>>().join(" "))?;
    }
    Ok(())
}

fn write_order(f: &mut fmt::Formatter<'_>, found: &Findings) -> fmt::Result {
    let (certain, held) = (found.overtaken, found.overtaken_by_held_answers);
    writeln!(
        f,
        "order       {} overtaken for certain (by {:.1} s at most), {} by the moments of held answers (by {:.1} s)",
        certain.visitors, certain.worst_seconds, held.visitors, held.worst_seconds
    )?;
    writeln!(
        f,
        "truth       {} numbers given twice, {} times `ahead` grew, {} tickets forgotten, {} changed, {} thrown out, {} still trying",
        found.duplicates, found.ahead_grew, found.forgotten, found.place_changed, found.thrown_out, found.still_trying
    )
}

fn write_times(f: &mut fmt::Formatter<'_>, found: &Findings) -> fmt::Result {
    let named = [("at the gate", found.gate), ("held in vain", found.held_in_vain), ("own lag", found.own_lag)];
    for waits in found.waits.iter().filter(|waits| waits.figures.count > 0) {
        let name = format!("wait, {}", waits.crowd);
        let (s, figures) = (|ms: f64| ms / 1000.0, waits.figures);
        writeln!(
            f,
            "{name:<18} {:>9} times   p10 {:>9.1} s    p50 {:>9.1} s    p90 {:>9.1} s    max {:>9.1} s",
            figures.count,
            s(figures.p10_ms),
            s(figures.p50_ms),
            s(figures.p90_ms),
            s(figures.max_ms)
        )?;
    }
    let shown = &found.shown_waits;
    if shown.visitors > 0 {
        writeln!(
            f,
            "shown wait  {} first ranges: {:.1} % came true, the middle is off by {:.1} % (median)",
            shown.visitors,
            shown.true_share * 100.0,
            shown.median_error * 100.0
        )?;
    }
    let kinds = found.latencies.iter().map(|latency| (latency.kind, latency.figures));
    for (name, figures) in named.into_iter().chain(kinds).filter(|(_, figures)| figures.count > 0) {
        writeln!(
            f,
            "{name:<18} {:>9} times   p50 {:>9.1} ms   p99 {:>9.1} ms   max {:>9.1} ms",
            figures.count, figures.p50_ms, figures.p99_ms, figures.max_ms
        )?;
    }
    Ok(())
}

fn write_troubles(f: &mut fmt::Formatter<'_>, found: &Findings) -> fmt::Result {
    let t = &found.troubles;
    writeln!(
        f,
        "troubles    {} unreachable, {} strange, {} 502/504 (and {} while the portal was ill), {} portal errors, {} 429, {} cut",
        t.unreachable,
        t.strange,
        t.gateway_errors,
        t.gateway_errors_in_outage,
        t.portal_errors,
        t.too_many_requests,
        t.cut
    )?;
    let h = &found.hostile;
    if h.errors() > 0 || found.forgers_inside > 0 {
        writeln!(
            f,
            "hostile     {} requests refused (429), {} forgers inside, {} strange, {} unreachable",
            h.too_many_requests, found.forgers_inside, h.strange, h.unreachable
        )?;
    }
    write_attacks(f, found)?;
    let tester = &found.tester;
    writeln!(
        f,
        "tester      {:.1} s CPU, {:.0} us a request; {} MiB at most, longest line {}",
        tester.cpu_ms as f64 / 1000.0,
        tester.cpu_ms as f64 * 1000.0 / found.counts.requests.max(1) as f64,
        tester.resident_kib / 1024,
        found.longest_line
    )?;
    if found.connections_starved > 0 {
        writeln!(
            f,
            "            {} requests waited for a connection of our own: not an open loop",
            found.connections_starved
        )?;
    }
    if let Some(proxy) = found.proxy {
        writeln!(
            f,
            "proxy       {:.1} s CPU, {:.0} us a request; memory {} MiB at first, {} MiB at most",
            proxy.cpu_ms as f64 / 1000.0,
            proxy.cpu_us_per_request,
            proxy.resident_kib_before / 1024,
            proxy.resident_kib_peak / 1024
        )?;
    }
    Ok(())
}

fn write_attacks(f: &mut fmt::Formatter<'_>, found: &Findings) -> fmt::Result {
    let percent = |share: Option<f64>| share.map_or_else(|| "?".to_owned(), |share| format!("{:.1} %", share * 100.0));
    for attack in &found.attacks {
        writeln!(
            f,
            "attack      {}: {:.1} s, {} requests, {} refused, {} asked for work, {} places",
            attack.by, attack.seconds, attack.requests, attack.refused, attack.challenged, attack.places
        )?;
        writeln!(
            f,
            "            meanwhile {} of the rate, {} of it honest; polls p99 {:.1} ms, all that is never held {:.1} ms",
            percent(attack.rate_share),
            percent(attack.honest_share),
            attack.polls.p99_ms,
            attack.never_held.p99_ms
        )?;
    }
    let returns = found.returns;
    if returns.tickets > 0 {
        writeln!(
            f,
            "returns     {} hoarded tickets came back after they were passed: {} of {} calls, {:.1} %",
            returns.tickets,
            returns.calls,
            returns.of_calls,
            returns.share() * 100.0
        )?;
    }
    if found.hashes > 0 {
        let asked = found.troubles.challenged;
        writeln!(
            f,
            "work        asked of {asked} honest joins; {} places worked for, {} hashes",
            found.worked, found.hashes
        )?;
    }
    Ok(())
}

fn write_checks(f: &mut fmt::Formatter<'_>, checks: &[Check]) -> fmt::Result {
    writeln!(f)?;
    for check in checks {
        let word = if check.met { "met   " } else { "NOT MET" };
        writeln!(f, "{word:<8} {}: {}", check.expected, check.found)?;
    }
    Ok(())
}
