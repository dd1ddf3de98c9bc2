//! Puts together what visitors met and what the portal recorded, and finds out what it means.

use std::collections::HashMap;

use serde::Serialize;

use crate::clock::Moment;
use crate::crowd::Crowd;
use crate::measures::{Counts, Durations, Figures, Kind, Measures, Troubles};
use crate::portal::{Mode, Reached};
use crate::process::Usage;
use crate::scenario::Scenario;
use crate::verdict::{
    Allowance, Call, Calm, Course, Excess, Overtaken, Window, duplicates, overtaken, rate_share, windows, worst_excess,
};
use crate::visitor::{Seen, Visitor};

/// What a run showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Where the entries' instants come from.
    pub entries_measured_at: Instants,
    /// Visitors who entered.
    pub entries: usize,
    /// Of these, those who never saw a line.
    pub straight_through: usize,
    /// Visitors whose admission was spent on a forwarding that failed: they came with a pass and are no entries.
    pub came_with_a_pass: usize,
    /// From the first to the last entry, in seconds.
    pub entering_seconds: f64,
    /// Windows of ten seconds from shortly after the first call to shortly before the last.
    pub windows: Vec<Window>,
    /// The interval nearest to the upper bound, or worst above it.
    pub worst_excess: Option<Excess>,
    /// Entries as a share of what the rate had due, first to last.
    pub rate_share: Option<f64>,
    /// Who was certainly overtaken.
    pub overtaken: Overtaken,
    /// Who was overtaken if held polls are answered at the moment of the call.
    pub overtaken_by_held_answers: Overtaken,
    /// Numbers given twice.
    pub duplicates: usize,
    /// How often a shown `ahead` grew.
    pub ahead_grew: u64,
    /// From the first request under the turn to the portal's answer.
    pub gate: Figures,
    /// Requests under the turn that were answered with the page.
    pub held_in_vain: Figures,
    /// Visitors who were neither done nor away when the run ended.
    pub still_trying: u64,
    /// Tickets or passes the proxy did not know any more.
    pub forgotten: u64,
    /// Tickets whose number changed.
    pub place_changed: u64,
    /// Visitors inside who were sent back to the line.
    pub thrown_out: u64,
    /// Requests that went wrong.
    pub troubles: Troubles,
    /// Running counts at the end.
    pub counts: Counts,
    /// Latencies by kind, from the instant a request was due.
    pub latencies: Vec<Latency>,
    /// The load tester's own lateness in sending.
    pub own_lag: Figures,
    /// Connections opened.
    pub connections_opened: u64,
    /// Requests that had to wait for one of our own connections.
    pub connections_starved: u64,
    /// What the proxy used, when its process is known.
    pub proxy: Option<ProxyUsage>,
}

/// Where the entries' instants come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Instants {
    /// The portal's record: the forwarding instant.
    Portal,
    /// The visitors' answers, which are later.
    #[default]
    Visitors,
}

/// Latencies of one kind of request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Which kind.
    pub kind: &'static str,
    /// The figures.
    pub figures: Figures,
}

/// What the proxy's process used during the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProxyUsage {
    /// CPU time during the run, in milliseconds, kernel included.
    pub cpu_ms: u64,
    /// The same divided by the visitors' requests, in microseconds.
    pub cpu_us_per_request: f64,
    /// Resident memory at the beginning, in KiB.
    pub resident_kib_before: u64,
    /// The most resident memory seen, in KiB.
    pub resident_kib_peak: u64,
}

/// How the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everybody was done, or time was up.
    AsPlanned,
    /// Enough had entered; others were still waiting, as they should.
    Enough,
}

impl Findings {
    /// Visitors who lost something they had.
    pub fn lost(&self) -> u64 {
        self.still_trying + self.forgotten + self.place_changed + self.thrown_out
    }

    /// Finds out what a run that began at `start` showed.
    pub fn of(
        crowd: &Crowd,
        reached: Option<&[Reached]>,
        scenario: &Scenario,
        start: Moment,
        ended: Ended,
    ) -> Findings {
        let visitors = crowd.visitors();
        let measures = crowd.measures();
        let mut findings = Findings {
            entries_measured_at: if reached.is_some() { Instants::Portal } else { Instants::Visitors },
            troubles: measures.troubles,
            counts: measures.counts,
            held_in_vain: measures.held_in_vain.figures(),
            own_lag: measures.lag.figures(),
            latencies: latencies(&measures),
            connections_opened: crowd.pool().opened(),
            connections_starved: crowd.pool().starved(),
            ..Findings::default()
        };
        findings.judge_visitors(&visitors, ended);
        findings.judge_rate(&entries(&visitors, reached), &measures, scenario, start);
        findings
    }

    fn judge_visitors(&mut self, visitors: &[Visitor], ended: Ended) {
        let all = || visitors.iter().map(|visitor| &visitor.seen);
        let sum = |of: fn(&Seen) -> u32| all().map(|seen| u64::from(of(seen))).sum();
        self.ahead_grew = sum(|seen| seen.ahead_grew);
        self.forgotten = sum(|seen| seen.forgotten);
        self.place_changed = sum(|seen| seen.place_changed);
        self.thrown_out = sum(|seen| seen.thrown_out);
        self.came_with_a_pass = all().filter(|seen| seen.pass_before_portal).count();
        self.straight_through = all().filter(|seen| seen.entered.is_some() && seen.joined.is_none()).count();
        self.duplicates = duplicates(all().filter_map(|seen| seen.place));
        self.overtaken = overtaken(&calls(visitors, |seen| seen.uncalled_at));
        self.overtaken_by_held_answers = overtaken(&calls(visitors, |seen| seen.uncalled_by_held_answer));
        self.gate = time_at_gate(visitors).figures();
        if ended == Ended::AsPlanned {
            self.still_trying = visitors.iter().filter(|visitor| visitor.is_under_way()).count() as u64;
        }
    }

    fn judge_rate(&mut self, entries: &[Moment], measures: &Measures, scenario: &Scenario, start: Moment) {
        let judge = &scenario.judge;
        let course = course(scenario, start);
        let allowance = Allowance { tick: judge.tick.0.as_secs_f64(), jitter: judge.jitter };
        self.entries = entries.len();
        self.entering_seconds =
            entries.last().zip(entries.first()).map_or(0.0, |(last, first)| last.since(*first).as_secs_f64());
        self.worst_excess = worst_excess(entries, &course.at_most(judge.reaction.0), allowance);
        self.rate_share = rate_share(entries, &course);
        if let (Some(first), Some(last)) = (measures.first_call, measures.last_call) {
            let (from, to) = (first + judge.after_first_call.0, last - judge.before_last_call.0);
            self.windows = windows(entries, &course, &calm(scenario, start), from, to);
        }
    }
}

/// The instants at which visitors' first requests reached the portal, in order. Who came with a pass, because the
/// forwarding on which the admission was spent had failed, is no entry.
fn entries(visitors: &[Visitor], reached: Option<&[Reached]>) -> Vec<Moment> {
    let first_at = |visitor: &Visitor, first: &HashMap<u32, Moment>| first.get(&visitor.mark()).copied();
    let counted = visitors.iter().filter(|visitor| !visitor.seen.pass_before_portal);
    let mut entries: Vec<Moment> = match reached {
        Some(reached) => {
            let mut first = HashMap::new();
            for (mark, at) in reached.iter().filter_map(|reached| Some((reached.visitor?, reached.at_us))) {
                first.entry(mark).or_insert(at);
            }
            counted.filter_map(|visitor| first_at(visitor, &first)).collect()
        }
        None => counted.filter_map(|visitor| visitor.seen.entered).collect(),
    };
    entries.sort_unstable();
    entries
}

fn calls(visitors: &[Visitor], uncalled_at: fn(&Seen) -> Moment) -> Vec<Call> {
    let call = |seen: &Seen| {
        let place = seen.place?;
        Some(Call { place, stayed: !seen.left, uncalled_at: uncalled_at(seen), called_by: seen.called_by })
    };
    visitors.iter().filter_map(|visitor| call(&visitor.seen)).collect()
}

fn time_at_gate(visitors: &[Visitor]) -> Durations {
    let mut gate = Durations::default();
    for (knocked, entered) in visitors.iter().filter_map(|visitor| visitor.seen.knocked.zip(visitor.seen.entered)) {
        gate.add(entered.since(knocked));
    }
    gate
}

fn latencies(measures: &Measures) -> Vec<Latency> {
    let kinds = Kind::ALL.iter().zip(&measures.latencies);
    kinds.map(|(kind, durations)| Latency { kind: kind.name(), figures: durations.figures() }).collect()
}

fn course(scenario: &Scenario, start: Moment) -> Course {
    let mut changes: Vec<_> = scenario.event.iter().filter_map(|e| Some((start + e.at.0, e.rate?))).collect();
    changes.sort_by_key(|(at, _)| *at);
    Course::new(scenario.rate, &changes)
}

/// When nothing disturbs: not within `settle` after a change of rate, an illness of the portal, a cut.
fn calm(scenario: &Scenario, start: Moment) -> Calm {
    let settle = scenario.judge.settle.0;
    let mut calm = Calm::default();
    let mut ill_since: Option<Moment> = None;
    let mut events: Vec<_> = scenario.event.iter().collect();
    events.sort_by_key(|event| event.at);
    for event in events {
        let at = start + event.at.0;
        if event.rate.is_some() {
            calm.disturb(at, at + settle);
        }
        if let Some(span) = event.cut {
            calm.disturb(at, at + span.0 + settle);
        }
        match event.portal.map(|order| (order.mode(), order.lasts())) {
            None => {}
            Some((Mode::Ok, _)) => calm.disturb(ill_since.take().unwrap_or(at), at + settle),
            Some((_, Some(span))) => calm.disturb(at, at + span + settle),
            Some((_, None)) => ill_since = Some(at),
        }
    }
    if let Some(since) = ill_since {
        calm.disturb(since, Moment::NEVER);
    }
    calm
}

impl ProxyUsage {
    /// The difference of two readings.
    pub fn between(before: Usage, after: Usage, resident_kib_peak: u64, requests: u64) -> ProxyUsage {
        let cpu_ms = after.cpu_ms.saturating_sub(before.cpu_ms);
        ProxyUsage {
            cpu_ms,
            cpu_us_per_request: cpu_ms as f64 * 1000.0 / requests.max(1) as f64,
            resident_kib_before: before.resident_kib,
            resident_kib_peak: resident_kib_peak.max(after.resident_kib),
        }
    }
}
