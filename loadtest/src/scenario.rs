//! A scenario, as written in TOML: who comes, what they do, what happens meanwhile, and what is expected of the proxy.

use std::path::Path;

use serde::Deserialize;

use crate::arrival::Curve;
use crate::behaviour::Habits;
use crate::portal::Order;
use crate::request::Addresses;
use crate::units::{Rate, Span};
use crate::verdict::Expectations;
use crate::{Context, Outcome};

/// A whole scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a line.
    pub title: String,
    /// From which all chance is drawn.
    #[serde(default = "one")]
    pub seed: u64,
    /// The room's name.
    pub room: String,
    /// The page visitors want.
    pub page: String,
    /// Prefix of the proxy's own paths.
    #[serde(default = "own_path")]
    pub own_path: String,
    /// The admission rate at the beginning.
    pub rate: Rate,
    /// When the run ends at the latest.
    pub limit: Span,
    /// So many entries end the run.
    #[serde(default)]
    pub stop_after_entries: Option<u64>,
    /// Whether visitors have addresses of their own.
    #[serde(default)]
    pub addresses: Addresses,
    /// Between a first failed request and the next attempt: at least, at most. Scripts double it each time.
    #[serde(default = "retry")]
    pub retry: [Span; 2],
    /// How late the answer to a held poll may be without anybody having been overtaken.
    #[serde(default = "second")]
    pub order_slack: Span,
    /// What visitors do inside.
    #[serde(default)]
    pub journey: Journey,
    /// Who comes.
    pub crowd: Vec<CrowdOf>,
    /// What happens meanwhile.
    #[serde(default)]
    pub event: Vec<Event>,
    /// How it is judged.
    #[serde(default)]
    pub judge: Judge,
    /// What is expected.
    #[serde(default)]
    pub expect: Expectations,
    /// The proxy to run it against, for `--proxy`.
    #[serde(default)]
    pub proxy: Option<Proxy>,
}

/// Some visitors who come alike and act alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrowdOf {
    /// How many.
    pub visitors: u32,
    /// When the first may come, after the start.
    #[serde(default)]
    pub from: Span,
    /// Within which time they come.
    pub over: Span,
    /// How arrivals are spread.
    #[serde(default)]
    pub curve: Curve,
    /// How they act.
    #[serde(default = "plain")]
    pub habits: Habits,
}

/// What visitors do inside: forms, read and sent by turns.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journey {
    /// How many requests.
    pub requests: u16,
    /// Before each.
    pub pause: Span,
}

/// Something that happens at a given time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, after the start.
    pub at: Span,
    /// Replaces a text in the proxy's configuration file (`--config`, or the one of `--proxy`).
    #[serde(default)]
    pub edit: Option<Edit>,
    /// Runs a shell command.
    #[serde(default)]
    pub shell: Option<String>,
    /// Says that this is the admission rate from now on.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// Orders the portal to behave in some way.
    #[serde(default)]
    pub portal: Option<Order>,
    /// Cuts the line between visitors and proxy for so long.
    #[serde(default)]
    pub cut: Option<Span>,
}

/// A text in the configuration file and what replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// What must be there.
    pub from: String,
    /// What is there afterwards.
    pub to: String,
}

/// How a run is judged.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Judge {
    /// Windows are judged from so long after the first call ...
    pub after_first_call: Span,
    /// ... to so long before the last.
    pub before_last_call: Span,
    /// For so long after a change, outage or cut only the upper bound is judged.
    pub settle: Span,
    /// Within which time a changed rate takes effect.
    pub reaction: Span,
    /// The proxy's tick.
    pub tick: Span,
    /// Entries the portal may see closer together than they were forwarded; for busy machines.
    pub jitter: f64,
}

impl Default for Judge {
    fn default() -> Judge {
        let seconds = |s| Span(std::time::Duration::from_secs(s));
        Judge {
            after_first_call: seconds(30),
            before_last_call: seconds(60),
            settle: seconds(60),
            reaction: seconds(1),
            tick: Span(std::time::Duration::from_millis(100)),
            jitter: 0.0,
        }
    }
}

/// The proxy a scenario is written for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Its configuration file. `{listen}`, `{admin}`, `{portal}` (addresses) and `{dir}` (a new directory) are filled
    /// in.
    pub config: String,
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// When the file cannot be read or is no scenario.
    pub fn read(file: &Path) -> Outcome<Scenario> {
        let text = std::fs::read_to_string(file).context(|| file.display().to_string())?;
        text.parse().context(|| file.display().to_string())
    }

    /// How many visitors come.
    pub fn visitors(&self) -> usize {
        self.crowd.iter().map(|crowd| crowd.visitors as usize).sum()
    }

    /// The fastest admission rate in force at any time.
    pub fn fastest_rate(&self) -> Rate {
        let changed = self.event.iter().filter_map(|event| event.rate);
        changed.fold(self.rate, |fastest, rate| if rate > fastest { rate } else { fastest })
    }
}

impl std::str::FromStr for Scenario {
    type Err = toml::de::Error;

    fn from_str(text: &str) -> Result<Scenario, toml::de::Error> {
        toml::from_str(text)
    }
}

fn one() -> u64 {
    1
}

fn own_path() -> String {
    "/.waiting-room".to_owned()
}

fn retry() -> [Span; 2] {
    [2, 3].map(|seconds| Span(std::time::Duration::from_secs(seconds)))
}

fn second() -> Span {
    Span(std::time::Duration::from_secs(1))
}

fn plain() -> Habits {
    Habits { leave: None, claim: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_scenarios_of_the_repository_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let scenario = Scenario::read(&file).unwrap();
            let config = &scenario.proxy.as_ref().unwrap().config;
            let mut edited = config.clone();
            for edit in scenario.event.iter().filter_map(|event| event.edit.as_ref()) {
                assert_eq!(edited.matches(&edit.from).count(), 1, "{}: {:?}", file.display(), edit.from);
                edited = edited.replace(&edit.from, &edit.to);
            }
            toml::from_str::<toml::Table>(config).unwrap();
            names.push(file.file_stem().unwrap().to_string_lossy().into_owned());
        }
        assert!(names.len() >= 8, "{names:?}");
    }

    #[test]
    fn mistyped_keys_are_refused() {
        let fault = "title='x'\nroom='r'\npage='/'\nrate='1/s'\nlimit='1s'\ncrowd=[]\nevnet=[]".parse::<Scenario>();
        assert!(fault.unwrap_err().to_string().contains("evnet"));
    }
}
