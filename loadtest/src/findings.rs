//! Puts together what visitors met and what the portal recorded, and finds out what it means.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Moment;
use crate::crowd::Crowd;
use crate::measures::{Attack, Counts, Durations, Figures, Kind, Measures, Troubles};
use crate::portal::{Mode, Reached};
use crate::process::Usage;
use crate::scenario::{Order, Scenario};
use crate::verdict::{
    Allowance, Call, Calm, Course, Excess, Overtaken, Returns, Ticket, Window, duplicates, overtaken, rate_share,
    share_between, windows, worst_excess,
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
    /// Some of those who stayed, evenly picked: the second in which they learnt of the turn, and the number.
    pub order_sample: Vec<[f32; 2]>,
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
    /// What the load tester itself used.
    pub tester: Usage,
    /// What went wrong for those who do not play by the rules, as it should.
    pub hostile: Troubles,
    /// The same crowd by crowd, and how honest visitors fared meanwhile.
    pub attacks: Vec<Attacked>,
    /// What share of the calls hoarded tickets took that had been passed and came back.
    pub returns: Returns,
    /// Visitors of any kind who worked for their place.
    pub worked: usize,
    /// Hashes done for places.
    pub hashes: u64,
    /// Forgers who reached the portal.
    pub forgers_inside: usize,
    /// Answers of the portal that had been given to somebody else.
    pub leaks: u64,
    /// The most visitors in line at once.
    pub longest_line: u64,
    /// Journeys begun by honest visitors.
    pub journeys: usize,
    /// The share of them that was done by the end.
    pub journeys_done: f64,
    /// From joining to learning of the turn, crowd by crowd.
    pub waits: Vec<WaitsOf>,
    /// First waits shown, against what came.
    pub shown_waits: ShownWaits,
}

/// How long visitors of a crowd waited.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WaitsOf {
    /// The crowd.
    pub crowd: String,
    /// From joining to learning of the turn.
    pub figures: Figures,
    /// Visitors of it who entered.
    pub entered: usize,
}

/// One crowd that does not play by the rules, and how honest visitors fared from its first request to its last.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Attacked {
    /// The crowd.
    pub by: String,
    /// From its first request to its last.
    pub seconds: f64,
    /// Its requests.
    pub requests: u64,
    /// Those of them that were refused (429).
    pub refused: u64,
    /// Joins that were asked for work.
    pub challenged: u64,
    /// Places it got.
    pub places: usize,
    /// Entries meanwhile as a share of what the rate had due; unknown where that is too few to say.
    pub rate_share: Option<f64>,
    /// The honest visitors' part of these entries.
    pub honest_share: Option<f64>,
    /// Latency of honest visitors' polls that are never held, while it went on.
    pub polls: Figures,
    /// The same of everything that is never held.
    pub never_held: Figures,
}

/// First waits shown to visitors who stayed, against what came.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShownWaits {
    /// Visitors to whom a wait was shown and who were called.
    pub visitors: usize,
    /// The share for whom it came true within the range, allowing a tenth and five seconds on each side.
    pub true_share: f64,
    /// Half of the middles shown were off by more than this share.
    pub median_error: f64,
    /// Some of them, evenly picked: seconds shown (low, high) and seconds that came.
    pub sample: Vec<[f32; 3]>,
}

/// Dots in a scatter plot at most.
const DOTS: usize = 800;
/// Around a range shown for a wait, what counts as true: so many seconds and this share.
const WAIT_SLACK: (f32, f32) = (5.0, 0.1);

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
    /// The latencies of a kind of request.
    pub fn latency(&self, kind: Kind) -> Figures {
        let found = self.latencies.iter().find(|latency| latency.kind == kind.name());
        found.map_or_else(Figures::default, |latency| latency.figures)
    }

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
            hostile: measures.hostile,
            hashes: measures.hashes,
            counts: measures.counts,
            held_in_vain: measures.held_in_vain.figures(),
            own_lag: measures.lag.figures(),
            latencies: latencies(&measures),
            connections_opened: crowd.pool().opened(),
            connections_starved: crowd.pool().starved(),
            ..Findings::default()
        };
        let honest: Vec<&Visitor> = visitors.iter().filter(|visitor| crowd.is_honest(visitor)).collect();
        findings.judge_visitors(&honest, ended);
        if scenario.order == Order::Tickets {
            findings.judge_order(&honest, start);
        }
        findings.judge_truth(&honest, scenario);
        let forgers = visitors.iter().filter(|visitor| visitor.is_forger());
        findings.forgers_inside = forgers.filter(|visitor| visitor.seen.entered.is_some()).count();
        findings.judge_hoards(&visitors, crowd);
        let all: Vec<&Visitor> = visitors.iter().collect();
        let by_all = entries(&all, reached);
        findings.judge_rate(&by_all, &measures, scenario, start);
        findings.judge_attacks([&by_all, &entries(&honest, reached)], &visitors, &measures, scenario, start);
        findings
    }

    fn judge_hoards(&mut self, visitors: &[Visitor], crowd: &Crowd) {
        self.worked = visitors.iter().filter(|visitor| visitor.seen.worked).count();
        let ticket = |visitor: &Visitor| {
            let Seen { place, joined, waits_again, called_by, .. } = visitor.seen;
            joined?;
            Some(Ticket { place: place?, hoarded: !crowd.is_honest(visitor), waits_again, called_by })
        };
        self.returns = Returns::of(&visitors.iter().filter_map(ticket).collect::<Vec<_>>());
    }

    fn judge_attacks(
        &mut self,
        [by_all, by_honest]: [&[Moment]; 2],
        visitors: &[Visitor],
        measures: &Measures,
        scenario: &Scenario,
        start: Moment,
    ) {
        let course = course(scenario, start);
        let attacked = |(number, attack): (&usize, &Attack)| {
            let begun = attack.first?;
            // Before anybody entered, and after the last, there was no rate to keep.
            let (from, to) = (begun.max(*by_all.first()?), attack.last.min(*by_all.last()?));
            let share = |entries| share_between(entries, &course, from, to);
            let of_it = visitors.iter().filter(|visitor| visitor.crowd() == *number);
            Some(Attacked {
                by: scenario.crowd.get(*number)?.name.clone(),
                seconds: attack.last.since(begun).as_secs_f64(),
                requests: attack.requests,
                refused: attack.refused,
                challenged: attack.challenged,
                places: of_it.filter(|visitor| visitor.seen.joined.is_some()).count(),
                rate_share: share(by_all),
                honest_share: share(by_all).zip(share(by_honest)).map(|(all, honest)| honest / all.max(1e-9)),
                polls: attack.polls.figures(),
                never_held: attack.never_held.figures(),
            })
        };
        self.attacks = measures.attacks.iter().filter_map(attacked).collect();
    }

    fn judge_visitors(&mut self, visitors: &[&Visitor], ended: Ended) {
        let all = || visitors.iter().map(|visitor| &visitor.seen);
        let sum = |of: fn(&Seen) -> u16| all().map(|seen| u64::from(of(seen))).sum();
        self.ahead_grew = sum(|seen| seen.ahead_grew);
        self.forgotten = sum(|seen| seen.forgotten);
        self.place_changed = sum(|seen| seen.place_changed);
        self.thrown_out = sum(|seen| seen.thrown_out);
        self.leaks = sum(|seen| seen.leaks);
        self.came_with_a_pass = all().filter(|seen| seen.pass_before_portal).count();
        self.straight_through = all().filter(|seen| seen.entered.is_some() && seen.joined.is_none()).count();
        self.duplicates = duplicates(all().filter_map(|seen| seen.place));
        self.gate = time_at_gate(visitors).figures();
        if ended == Ended::AsPlanned {
            self.still_trying = visitors.iter().filter(|visitor| visitor.is_under_way()).count() as u64;
        }
    }

    fn judge_order(&mut self, visitors: &[&Visitor], start: Moment) {
        let learnt: Vec<[f32; 2]> = calls(visitors, |seen| seen.uncalled_at)
            .into_iter()
            .filter(|call| call.stayed)
            .filter_map(|call| Some([call.called_by?.since(start).as_secs_f32(), call.place.number as f32]))
            .collect();
        self.order_sample = learnt.iter().step_by(learnt.len() / DOTS + 1).copied().collect();
        self.overtaken = overtaken(&calls(visitors, |seen| seen.uncalled_at));
        self.overtaken_by_held_answers = overtaken(&calls(visitors, |seen| seen.uncalled_by_held_answer));
    }

    fn judge_truth(&mut self, visitors: &[&Visitor], scenario: &Scenario) {
        let inside = visitors.iter().filter(|visitor| visitor.seen.entered.is_some());
        self.journeys = inside.clone().count();
        let done = inside.filter(|visitor| visitor.seen.done.is_some()).count();
        self.journeys_done = if self.journeys == 0 { 1.0 } else { done as f64 / self.journeys as f64 };
        let crowds = scenario.crowd.iter().enumerate().filter(|(_, crowd)| crowd.who.is_honest());
        self.waits = crowds
            .map(|(number, crowd)| {
                let of_it = || visitors.iter().filter(|visitor| visitor.crowd() == number);
                let mut waits = Durations::default();
                of_it().filter_map(|visitor| waited(&visitor.seen)).for_each(|wait| waits.add(wait));
                let entered = of_it().filter(|visitor| visitor.seen.entered.is_some()).count();
                WaitsOf { crowd: crowd.name.clone(), figures: waits.figures(), entered }
            })
            .collect();
        self.shown_waits = shown_waits(visitors);
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
fn entries(visitors: &[&Visitor], reached: Option<&[Reached]>) -> Vec<Moment> {
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

fn calls(visitors: &[&Visitor], uncalled_at: fn(&Seen) -> Moment) -> Vec<Call> {
    let call = |seen: &Seen| {
        let place = seen.place?;
        Some(Call { place, stayed: !seen.left, uncalled_at: uncalled_at(seen), called_by: seen.called_by })
    };
    visitors.iter().filter_map(|visitor| call(&visitor.seen)).collect()
}

/// From joining to learning of the turn.
fn waited(seen: &Seen) -> Option<Duration> {
    Some(seen.called_by?.since(seen.joined?))
}

fn shown_waits(visitors: &[&Visitor]) -> ShownWaits {
    let came = |visitor: &&&Visitor| {
        let (shown, called) = (visitor.seen.shown_wait?, visitor.seen.called_by?);
        let stayed = !visitor.seen.left;
        stayed.then_some([shown.low, shown.high, called.since(shown.at).as_secs_f32()])
    };
    let all: Vec<[f32; 3]> = visitors.iter().filter_map(|visitor| came(&visitor)).collect();
    let (seconds, share) = WAIT_SLACK;
    let is_true = |[low, high, real]: &&[f32; 3]| {
        *real >= low * (1.0 - share) - seconds && *real <= high * (1.0 + share) + seconds
    };
    let mut errors: Vec<f32> =
        all.iter().map(|[low, high, real]| ((low + high) / 2.0 - real).abs() / real.max(1.0)).collect();
    errors.sort_by(f32::total_cmp);
    ShownWaits {
        visitors: all.len(),
        true_share: if all.is_empty() { 1.0 } else { all.iter().filter(is_true).count() as f64 / all.len() as f64 },
        median_error: errors.get(errors.len() / 2).copied().unwrap_or(0.0).into(),
        sample: all.iter().step_by(all.len() / DOTS + 1).copied().collect(),
    }
}

fn time_at_gate(visitors: &[&Visitor]) -> Durations {
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
        if let Some(span) = event.cut.or(event.login_out) {
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
