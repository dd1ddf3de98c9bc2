//! What a scenario expects, and whether it came about.

use serde::{Deserialize, Serialize};

use crate::findings::Findings;
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
    /// Holds the findings against the expectations.
    pub fn check(&self, found: &Findings) -> Vec<Check> {
        [self.rate(found), self.order(found), self.gate(found), self.losses(found)].concat()
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
