//! What a scenario expects, and whether it came about.

use serde::{Deserialize, Serialize};

use crate::findings::Findings;
use crate::measures::Kind;
use crate::units::Span;

/// What a scenario expects; what is left out is not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectations {
    /// Every calm window of ten seconds is within this share of the rate in force.
    #[serde(default)]
    pub windows_within: Option<f64>,
    /// At least so many windows could be judged: guards against a run too short to show anything.
    #[serde(default)]
    pub calm_windows_at_least: Option<usize>,
    /// Entries are at least this share of what the rate had due.
    #[serde(default)]
    pub rate_share_at_least: Option<f64>,
    /// Entries beyond the upper bound in the worst interval.
    #[serde(default)]
    pub excess_at_most: Option<f64>,
    /// Visitors who stayed and were called after a later ticket.
    #[serde(default)]
    pub overtaken_at_most: Option<usize>,
    /// 99th percentile from the first request under the turn to the portal's answer.
    #[serde(default)]
    pub gate_p99_below: Option<Span>,
    /// The longest a request stood at the gate in vain.
    #[serde(default)]
    pub held_at_most: Option<Span>,
    /// How often a shown `ahead` grew.
    #[serde(default)]
    pub ahead_grew_at_most: Option<u64>,
    /// Places given twice.
    #[serde(default)]
    pub duplicates_at_most: Option<usize>,
    /// Visitors still trying at the end, tickets forgotten or changed, visitors thrown out.
    #[serde(default)]
    pub lost_at_most: Option<u64>,
    /// Requests that went wrong without excuse.
    #[serde(default)]
    pub errors_at_most: Option<u64>,
    /// Entries at least.
    #[serde(default)]
    pub entries_at_least: Option<usize>,
    /// The longest line, as visitors in it.
    #[serde(default)]
    pub waiting_at_least: Option<u64>,
    /// The share of first waits shown that came true within their range, allowing a tenth and five seconds on each side.
    #[serde(default)]
    pub waits_true_at_least: Option<f64>,
    /// Answers of the portal that had been given to somebody else.
    #[serde(default)]
    pub leaks_at_most: Option<u64>,
    /// Forgers who reached the portal.
    #[serde(default)]
    pub forgeries_at_most: Option<usize>,
    /// Hostile visitors' requests that were refused: guards against a run in which nobody attacked.
    #[serde(default)]
    pub refusals_at_least: Option<u64>,
    /// While each crowd of hostile visitors is at it, entries are at least this share of what the rate had due.
    #[serde(default)]
    pub attacked_rate_share_at_least: Option<f64>,
    /// ... and this is what the 99th percentile of honest visitors' requests that are never held stays below.
    #[serde(default)]
    pub attacked_p99_below: Option<Span>,
    /// The share of the calls that hoarded tickets take which were passed and came back.
    #[serde(default)]
    pub returns_share_at_most: Option<f64>,
    /// Such tickets: guards against a run in which none came back.
    #[serde(default)]
    pub returns_at_least: Option<usize>,
    /// Joins of hostile visitors of which work was asked: guards against limits that nobody reached.
    #[serde(default)]
    pub challenges_at_least: Option<u64>,
    /// Visitors of any kind who worked for their place.
    #[serde(default)]
    pub worked_at_least: Option<usize>,
    /// 99th percentile of the load tester's own lateness: beyond it the other figures mean little.
    #[serde(default)]
    pub own_lag_p99_below: Option<Span>,
    /// 99th percentile of the latency of polls that are never held.
    #[serde(default)]
    pub poll_p99_below: Option<Span>,
    /// The proxy's resident memory at its highest, in MiB.
    #[serde(default)]
    pub proxy_mib_at_most: Option<u64>,
    /// Journeys begun that were done by the end, as a share.
    #[serde(default)]
    pub journeys_done_at_least: Option<f64>,
}

/// One expectation and what came about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What was expected.
    pub expected: String,
    /// What came about.
    pub found: String,
    /// Whether that is what was expected.
    pub met: bool,
}

impl Check {
    fn new(expected: impl Into<String>, found: impl Into<String>, met: bool) -> Check {
        Check { expected: expected.into(), found: found.into(), met }
    }
}

impl Expectations {
    /// What can be expected of a short form with a fraction of the visitors.
    #[must_use]
    pub fn shortened(self, factor: f64) -> Expectations {
        Expectations {
            calm_windows_at_least: None,
            windows_within: None,
            entries_at_least: self.entries_at_least.map(|n| (n as f64 * factor) as usize),
            waiting_at_least: self.waiting_at_least.map(|n| (n as f64 * factor) as u64),
            refusals_at_least: self.refusals_at_least.map(|n| (n as f64 * factor) as u64),
            challenges_at_least: self.challenges_at_least.map(|n| (n as f64 * factor) as u64),
            returns_at_least: self.returns_at_least.map(|n| (n as f64 * factor) as usize),
            worked_at_least: self.worked_at_least.map(|n| (n as f64 * factor) as usize),
            ..self
        }
    }

    /// Holds the findings against the expectations.
    pub fn check(&self, found: &Findings) -> Vec<Check> {
        let parts = [self.rate(found), self.order(found), self.gate(found), self.losses(found), self.truth(found)];
        [parts.concat(), self.attack(found), self.machine(found)].concat()
    }

    fn rate(&self, found: &Findings) -> Vec<Check> {
        let calm = || found.windows.iter().filter(|window| window.calm);
        let worst = calm().map(|window| window.off().abs()).fold(0.0, f64::max);
        let excess = found.worst_excess.map_or(f64::NEG_INFINITY, |excess| excess.by);
        let share = found.rate_share.unwrap_or(0.0);
        let checks = [
            self.windows_within.map(|within| {
                let expected = format!("every 10 s within {:.1} % of the rate", within * 100.0);
                Check::new(expected, format!("worst {:.1} % off", worst * 100.0), worst <= within + 1e-9)
            }),
            self.calm_windows_at_least.map(|n| {
                let count = calm().count();
                Check::new(format!("at least {n} windows to judge"), count.to_string(), count >= n)
            }),
            self.rate_share_at_least.map(|least| {
                let expected = format!("entries at least {:.1} % of the rate", least * 100.0);
                Check::new(expected, format!("{:.1} %", share * 100.0), share >= least)
            }),
            self.excess_at_most.map(|most| {
                let expected = format!("no interval more than {most} entries above rate x (T + tick) + burst");
                Check::new(expected, format!("worst {excess:+.1}"), excess <= most)
            }),
            self.entries_at_least.map(|least| {
                Check::new(format!("at least {least} entries"), found.entries.to_string(), found.entries >= least)
            }),
        ];
        checks.into_iter().flatten().collect()
    }

    fn order(&self, found: &Findings) -> Vec<Check> {
        let checks = [
            self.overtaken_at_most.map(|most| {
                let (certain, held) = (found.overtaken.visitors, found.overtaken_by_held_answers.visitors);
                let words = format!("{certain} certainly, {held} by the moments of held answers");
                Check::new(format!("at most {most} overtaken"), words, certain.max(held) <= most)
            }),
            self.duplicates_at_most.map(|most| {
                Check::new(
                    format!("at most {most} numbers given twice"),
                    found.duplicates.to_string(),
                    found.duplicates <= most,
                )
            }),
            self.ahead_grew_at_most.map(|most| {
                Check::new(
                    format!("shown ahead grows at most {most} times"),
                    found.ahead_grew.to_string(),
                    found.ahead_grew <= most,
                )
            }),
        ];
        checks.into_iter().flatten().collect()
    }

    fn gate(&self, found: &Findings) -> Vec<Check> {
        let below = |what: &str, limit: Span, ms: f64| {
            let expected = format!("{what} below {:.1} s", limit.0.as_secs_f64());
            Check::new(expected, format!("{:.2} s", ms / 1000.0), ms < limit.0.as_secs_f64() * 1000.0)
        };
        let checks = [
            self.gate_p99_below.map(|limit| below("time at the gate p99", limit, found.gate.p99_ms)),
            self.held_at_most.map(|limit| below("longest request held in vain", limit, found.held_in_vain.max_ms)),
        ];
        checks.into_iter().flatten().collect()
    }

    fn truth(&self, found: &Findings) -> Vec<Check> {
        let checks = [
            self.waits_true_at_least.map(|least| {
                let (shown, held) = (found.shown_waits.visitors, found.shown_waits.true_share);
                let words = format!("{:.1} % of {shown}", held * 100.0);
                Check::new(format!("at least {:.0} % of waits shown come true", least * 100.0), words, held >= least)
            }),
            self.journeys_done_at_least.map(|least| {
                let words = format!("{:.1} % of {}", found.journeys_done * 100.0, found.journeys);
                let expected = format!("at least {:.1} % of journeys done", least * 100.0);
                Check::new(expected, words, found.journeys_done >= least)
            }),
            self.leaks_at_most.map(|most| {
                let expected = format!("at most {most} answers given to somebody else");
                Check::new(expected, found.leaks.to_string(), found.leaks <= most)
            }),
        ];
        checks.into_iter().flatten().collect()
    }

    fn attack(&self, found: &Findings) -> Vec<Check> {
        let checks = [
            self.forgeries_at_most.map(|most| {
                let expected = format!("at most {most} forgers reach the portal");
                Check::new(expected, found.forgers_inside.to_string(), found.forgers_inside <= most)
            }),
            self.refusals_at_least.map(|least| {
                let refused = found.hostile.too_many_requests;
                Check::new(
                    format!("hostile visitors refused at least {least} times"),
                    refused.to_string(),
                    refused >= least,
                )
            }),
            self.challenges_at_least.map(|least| {
                let (asked, expected) =
                    (found.hostile.challenged, format!("work asked of at least {least} hostile joins"));
                Check::new(expected, asked.to_string(), asked >= least)
            }),
            self.worked_at_least.map(|least| {
                let expected = format!("at least {least} places worked for");
                Check::new(expected, format!("{}, {} hashes", found.worked, found.hashes), found.worked >= least)
            }),
        ];
        let judged = [self.while_attacked(found), self.returns(found)];
        [checks.into_iter().flatten().collect(), judged.concat()].concat()
    }

    fn while_attacked(&self, found: &Findings) -> Vec<Check> {
        let shares = || found.attacks.iter().filter_map(|attack| Some((attack.rate_share?, attack.by.as_str())));
        let nobody = || "nobody attacked".to_owned();
        let slowest = found.attacks.iter().filter(|attack| attack.never_held.count > 0);
        let slowest = slowest.max_by(|a, b| a.never_held.p99_ms.total_cmp(&b.never_held.p99_ms));
        let checks = [
            self.attacked_rate_share_at_least.map(|least| {
                let expected = format!("entries at least {:.1} % of the rate while each attack goes on", least * 100.0);
                let worst = shares().min_by(|a, b| a.0.total_cmp(&b.0));
                let words = worst.map(|(share, by)| format!("{:.1} % with {by}", share * 100.0));
                Check::new(expected, words.unwrap_or_else(nobody), worst.is_some_and(|(share, _)| share >= least))
            }),
            self.attacked_p99_below.map(|limit| {
                let limit = limit.0.as_secs_f64() * 1000.0;
                let expected = format!("p99 of what is never held below {limit:.0} ms while each attack goes on");
                let words = slowest.map(|attack| format!("{:.1} ms with {}", attack.never_held.p99_ms, attack.by));
                let met = slowest.is_some_and(|attack| attack.never_held.p99_ms < limit);
                Check::new(expected, words.unwrap_or_else(nobody), met)
            }),
        ];
        checks.into_iter().flatten().collect()
    }

    fn returns(&self, found: &Findings) -> Vec<Check> {
        let returns = found.returns;
        let checks = [
            self.returns_at_least.map(|least| {
                let expected = format!("at least {least} hoarded tickets come back after they were passed");
                Check::new(expected, returns.tickets.to_string(), returns.tickets >= least)
            }),
            self.returns_share_at_most.map(|most| {
                let expected = format!("they take at most {:.0} % of the calls", most * 100.0);
                let words = format!("{:.1} % ({} of {})", returns.share() * 100.0, returns.calls, returns.of_calls);
                Check::new(expected, words, returns.share() <= most)
            }),
        ];
        checks.into_iter().flatten().collect()
    }

    fn machine(&self, found: &Findings) -> Vec<Check> {
        let below = |what: &str, limit: Span, ms: f64| {
            let limit = limit.0.as_secs_f64() * 1000.0;
            Check::new(format!("{what} below {limit:.0} ms"), format!("{ms:.1} ms"), ms < limit)
        };
        let poll = found.latency(Kind::Poll).p99_ms;
        let resident = found.proxy.map_or(0, |proxy| proxy.resident_kib_peak / 1024);
        let checks = [
            self.waiting_at_least.map(|least| {
                let longest = found.longest_line;
                Check::new(format!("a line of at least {least}"), longest.to_string(), longest >= least)
            }),
            self.own_lag_p99_below.map(|limit| below("the load tester's own lag p99", limit, found.own_lag.p99_ms)),
            self.poll_p99_below.map(|limit| below("poll p99", limit, poll)),
            self.proxy_mib_at_most.map(|most| {
                let expected = format!("at most {most} MiB of the proxy's memory");
                Check::new(expected, format!("{resident} MiB"), resident <= most)
            }),
        ];
        checks.into_iter().flatten().collect()
    }

    fn losses(&self, found: &Findings) -> Vec<Check> {
        let checks = [
            self.lost_at_most.map(|most| {
                let words = format!(
                    "{} still trying, {} tickets forgotten, {} changed, {} thrown out",
                    found.still_trying, found.forgotten, found.place_changed, found.thrown_out
                );
                Check::new(format!("at most {most} lost"), words, found.lost() <= most)
            }),
            self.errors_at_most.map(|most| {
                let errors = found.troubles.errors();
                Check::new(format!("at most {most} errors"), errors.to_string(), errors <= most)
            }),
        ];
        checks.into_iter().flatten().collect()
    }
}
