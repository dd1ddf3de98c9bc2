//! What a visitor does inside the portal: signs in with a login provider, reads a form, sends it.

use std::time::Duration;

use serde::Deserialize;

use crate::behaviour::Delay;
use crate::units::Span;

/// The way through the portal, as written in a scenario.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// So many requests: a form, read and sent by turns.
    #[serde(default)]
    requests: u16,
    /// Before each of them.
    #[serde(default)]
    pause: Span,
    /// Or step by step.
    #[serde(default)]
    step: Vec<WrittenStep>,
    /// From which step on somebody with several clients begins again for the next one, counted from 0.
    #[serde(default)]
    next_client_from: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    how: How,
    path: String,
    after: Delay,
}

impl Written {
    /// The same in a fraction of the time.
    #[must_use]
    pub fn compressed(mut self, factor: f64) -> Written {
        self.pause.0 = self.pause.0.mul_f64(factor);
        self.step.iter_mut().for_each(|step| step.after = step.after.compressed(factor));
        self
    }
}

/// How a step is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// A page is read.
    Get,
    /// A form is sent.
    Post,
    /// The login provider's answer is sent through the visitor's browser, from another site.
    Callback,
}

/// One request of the journey.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// How.
    pub how: How,
    /// Where, below the room's page.
    pub path: String,
    /// How long after the answer before.
    pub after: Delay,
}

/// The way through the portal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Journey {
    /// All requests after the one that enters.
    pub steps: Vec<Step>,
    /// Where somebody with several clients begins again.
    pub next_client_from: u16,
}

impl Journey {
    /// The journey written in a scenario.
    pub fn of(written: &Written) -> Journey {
        let forms = (0..written.requests).map(|n| Step {
            how: if n % 2 == 0 { How::Get } else { How::Post },
            path: "form".to_owned(),
            after: Delay::Fixed(written.pause),
        });
        let steps = written.step.iter().map(|step| Step { how: step.how, path: step.path.clone(), after: step.after });
        Journey { steps: forms.chain(steps).collect(), next_client_from: written.next_client_from }
    }

    /// How long a visitor takes before a step, drawn with `number`; `None` when there is no such step.
    pub fn pause_before(&self, step: u16, number: u64) -> Option<Duration> {
        use rand::SeedableRng;
        let step = self.steps.get(usize::from(step))?;
        let mut chance = rand::rngs::SmallRng::seed_from_u64(number);
        Some(step.after.draw(&mut chance).unwrap_or_default())
    }

    /// Whether a step is the login provider's answer.
    pub fn is_callback(&self, step: u16) -> bool {
        self.steps.get(usize::from(step)).is_some_and(|step| step.how == How::Callback)
    }
}
