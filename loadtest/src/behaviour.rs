//! How one visitor acts: patience, return, and how long after the call they enter. Everything is drawn once, from the
//! scenario's seed, before the visitor comes.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use serde::Deserialize;

use crate::units::Span;

/// How long somebody takes to do something.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Delay {
    /// No time.
    AtOnce,
    /// For ever: it is not done.
    Never,
    /// Always the same.
    Fixed(Span),
    /// Anything between the two, equally likely.
    Uniform([Span; 2]),
    /// Exponential with this mean.
    Exponential(Span),
    /// Normal with this mean and deviation; never below zero.
    Normal([Span; 2]),
}

impl Delay {
    /// The same in a fraction of the time.
    pub fn compressed(self, factor: f64) -> Delay {
        let less = |span: Span| Span(span.0.mul_f64(factor));
        match self {
            Delay::AtOnce | Delay::Never => self,
            Delay::Fixed(span) => Delay::Fixed(less(span)),
            Delay::Uniform(spans) => Delay::Uniform(spans.map(less)),
            Delay::Exponential(mean) => Delay::Exponential(less(mean)),
            Delay::Normal(spans) => Delay::Normal(spans.map(less)),
        }
    }

    /// Draws a delay; `None` is never.
    pub fn draw(&self, chance: &mut SmallRng) -> Option<Duration> {
        let seconds = match self {
            Delay::AtOnce => 0.0,
            Delay::Never => return None,
            Delay::Fixed(span) => span.0.as_secs_f64(),
            Delay::Uniform([from, to]) => {
                let (from, to) = (from.0.as_secs_f64(), to.0.as_secs_f64());
                from + (to - from) * chance.random::<f64>()
            }
            Delay::Exponential(mean) => -(1.0 - chance.random::<f64>()).ln() * mean.0.as_secs_f64(),
            Delay::Normal([mean, deviation]) => {
                mean.0.as_secs_f64() + deviation.0.as_secs_f64() * standard_normal(chance)
            }
        };
        Some(Duration::from_secs_f64(seconds.max(0.0)))
    }
}

/// A standard normal number (Box and Muller, 1958).
fn standard_normal(chance: &mut SmallRng) -> f64 {
    let radius = (-2.0 * (1.0 - chance.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * chance.random::<f64>()).cos()
}

/// A share of the visitors and how long after their call they enter.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Weight among the claims; they need not sum to one.
    pub share: f64,
    /// From learning of the turn to the first request under it.
    pub after: Delay,
}

/// Those who do not wait to the end.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    /// The share of visitors with limited patience, 0 to 1. Whoever is called before it runs out stays.
    pub share: f64,
    /// Patience: from arriving to closing the page.
    pub after: Delay,
    /// The share of those who left that comes back, 0 to 1.
    #[serde(default)]
    pub return_share: f64,
    /// From leaving to coming back.
    #[serde(default = "never")]
    pub return_after: Delay,
}

fn never() -> Delay {
    Delay::Never
}

/// How visitors of a crowd act.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Habits {
    /// Those who do not wait to the end.
    #[serde(default)]
    pub leave: Option<Leave>,
    /// How the called enter; empty means all at once.
    #[serde(default)]
    pub claim: Vec<Claim>,
    /// Those who open the page in several tabs of one browser.
    #[serde(default)]
    pub tabs: Option<Tabs>,
    /// How many clients' forms one visit sends, one after the other; 0 counts as 1.
    #[serde(default)]
    pub clients: u16,
}

/// Visitors with several tabs, which share one place.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tabs {
    /// The share of visitors who do so, 0 to 1.
    pub share: f64,
    /// How many tabs each of them has open.
    pub count: u8,
}

/// What one visitor will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// From arriving until the page is closed, if it is.
    pub patience: Option<Duration>,
    /// From closing the page until coming back, if they do.
    pub returns_after: Option<Duration>,
    /// From learning of the turn to entering; `None` is never.
    pub claims_after: Option<Duration>,
    /// Tabs opened besides the first.
    pub more_tabs: u8,
    /// Clients served besides the first.
    pub more_clients: u16,
}

impl Habits {
    /// The same in a fraction of the time.
    pub fn compressed(mut self, factor: f64) -> Habits {
        if let Some(leave) = &mut self.leave {
            leave.after = leave.after.compressed(factor);
            leave.return_after = leave.return_after.compressed(factor);
        }
        self.claim.iter_mut().for_each(|claim| claim.after = claim.after.compressed(factor));
        self
    }

    /// Draws one visitor's behaviour.
    pub fn draw(&self, chance: &mut SmallRng) -> Behaviour {
        let leaves = self.leave.filter(|leave| chance.random::<f64>() < leave.share);
        let returns = leaves.filter(|leave| chance.random::<f64>() < leave.return_share);
        Behaviour {
            patience: leaves.and_then(|leave| leave.after.draw(chance)),
            returns_after: returns.and_then(|leave| leave.return_after.draw(chance)),
            claims_after: self.claim_delay(chance),
            more_tabs: self
                .tabs
                .filter(|tabs| chance.random::<f64>() < tabs.share)
                .map_or(0, |tabs| tabs.count.saturating_sub(1)),
            more_clients: self.clients.saturating_sub(1),
        }
    }

    fn claim_delay(&self, chance: &mut SmallRng) -> Option<Duration> {
        let whole: f64 = self.claim.iter().map(|claim| claim.share).sum();
        let mut point = whole * chance.random::<f64>();
        for claim in &self.claim {
            if point < claim.share {
                return claim.after.draw(chance);
            }
            point -= claim.share;
        }
        self.claim.last().map_or(Some(Duration::ZERO), |claim| claim.after.draw(chance))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn habits(toml: &str) -> Habits {
        toml::from_str(toml).unwrap()
    }

    fn drawn(habits: &Habits, n: usize) -> Vec<Behaviour> {
        let mut chance = SmallRng::seed_from_u64(7);
        (0..n).map(|_| habits.draw(&mut chance)).collect()
    }

    #[test]
    fn without_habits_everybody_stays_and_enters_at_once() {
        let expected = Behaviour { claims_after: Some(Duration::ZERO), ..Behaviour::default() };
        assert!(drawn(&habits(""), 100).iter().all(|b| *b == expected));
    }

    #[test]
    fn shares_come_out_as_written() {
        let habits = habits(
            r#"
            leave = { share = 0.4, after = { exponential = "60s" }, return_share = 0.1, return_after = { uniform = ["10s", "20s"] } }
            claim = [
                { share = 0.5, after = "at_once" },
                { share = 0.25, after = { normal = ["6s", "2s"] } },
                { share = 0.25, after = "never" },
            ]"#,
        );
        let all = drawn(&habits, 20_000);
        let share = |of: &dyn Fn(&Behaviour) -> bool| all.iter().filter(|b| of(b)).count() as f64 / all.len() as f64;
        assert!((share(&|b| b.patience.is_some()) - 0.4).abs() < 0.02);
        assert!((share(&|b| b.returns_after.is_some()) - 0.04).abs() < 0.01);
        assert!((share(&|b| b.claims_after == Some(Duration::ZERO)) - 0.5).abs() < 0.02);
        assert!((share(&|b| b.claims_after.is_none()) - 0.25).abs() < 0.02);
        let patience: f64 = all.iter().filter_map(|b| b.patience).map(|p| p.as_secs_f64()).sum();
        assert!((patience / (0.4 * 20_000.0) - 60.0).abs() < 4.0);
    }
}
