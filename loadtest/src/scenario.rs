//! A scenario, as written in TOML: who comes, what they do, what happens meanwhile, and what is expected of the proxy.

use std::net::Ipv4Addr;
use std::path::Path;

use serde::Deserialize;

use crate::arrival::Curve;
use crate::behaviour::Habits;
use crate::journey::{self, Journey};
use crate::portal;
use crate::request::Addresses;
use crate::units::{self, Rate, Span};
use crate::verdict::Expectations;
use crate::work::Work;
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
    /// How long after the start the room opens, filled in as `{opens_at}`.
    #[serde(default)]
    pub opens_after: Option<Span>,
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
    /// In which order visitors are called.
    #[serde(default)]
    pub order: Order,
    /// What visitors do inside.
    #[serde(default)]
    pub journey: journey::Written,
    /// The share of visitors and of all times that `--short` leaves: the shape of the day stays.
    #[serde(default)]
    pub short: Option<f64>,
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

/// In which order visitors are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By the numbers in their tickets.
    #[default]
    Tickets,
    /// By lot, which nobody can tell from their tickets: it is not judged.
    Lot,
}

/// Some visitors who come alike and act alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrowdOf {
    /// What reports call them.
    #[serde(default = "visitors")]
    pub name: String,
    /// Who they are.
    #[serde(default)]
    pub who: Who,
    /// What they do when work is asked of them before they get a place.
    #[serde(default)]
    pub work: Work,
    /// Between an answer and the next request of bots, forgers and those who insist.
    #[serde(default = "fifth_of_a_second")]
    pub every: Span,
    /// The first of the addresses they come from; left out, each has one out of 10.0.0.0/8.
    #[serde(default)]
    pub first_address: Option<Ipv4Addr>,
    /// How many addresses they share.
    #[serde(default = "one_address")]
    pub addresses: u32,
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

/// Who comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// People with browsers.
    #[default]
    People,
    /// Programs that draw tickets to keep them: their patience counts from having one.
    Hoarders,
    /// Programs that ask as often as they like.
    Bots,
    /// Programs that show tokens of their own making.
    Forgers,
}

impl Who {
    /// Whether they play by the rules: only then is a refusal a fault.
    pub fn is_honest(self) -> bool {
        self == Who::People
    }
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
    pub portal: Option<portal::Order>,
    /// Closes the login provider for so long: it says it is ill, and nobody comes back from it.
    #[serde(default)]
    pub login_out: Option<Span>,
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
    /// Its configuration file. `{listen}`, `{admin}`, `{portal}`, `{login}` (addresses), `{dir}` (a new directory) and
    /// `{opens_at}` (a time) are filled in, and spans such as `{span 60s}`, which the short form shortens.
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

    /// The short form: fewer visitors in less time, at the same rates. What the windows of ten seconds show is left out.
    #[must_use]
    pub fn shortened(self) -> Scenario {
        let factor = self.short.unwrap_or(1.0);
        self.compressed(factor)
    }

    /// The whole form.
    #[must_use]
    pub fn whole(self) -> Scenario {
        self.compressed(1.0)
    }

    fn compressed(mut self, factor: f64) -> Scenario {
        let less = |span: &mut Span| span.0 = span.0.mul_f64(factor);
        less(&mut self.limit);
        self.opens_after.iter_mut().for_each(less);
        self.stop_after_entries = self.stop_after_entries.map(|n| (n as f64 * factor) as u64);
        for crowd in &mut self.crowd {
            crowd.visitors = (f64::from(crowd.visitors) * factor).ceil() as u32;
            less(&mut crowd.from);
            less(&mut crowd.over);
            crowd.habits = crowd.habits.clone().compressed(factor);
        }
        for event in &mut self.event {
            less(&mut event.at);
            event.cut.iter_mut().chain(&mut event.login_out).for_each(less);
            event.portal = event.portal.map(|order| order.compressed(factor));
        }
        for span in [&mut self.judge.after_first_call, &mut self.judge.before_last_call, &mut self.judge.settle] {
            less(span);
        }
        if let Some(proxy) = &mut self.proxy {
            proxy.config = with_spans(&proxy.config, factor);
        }
        self.journey = self.journey.compressed(factor);
        if factor < 1.0 {
            self.expect = self.expect.shortened(factor);
        }
        self
    }

    /// The journey.
    pub fn journey(&self) -> Journey {
        Journey::of(&self.journey)
    }

    /// How many visitors come.
    pub fn visitors(&self) -> usize {
        self.crowd.iter().map(|crowd| crowd.visitors as usize).sum()
    }

    /// The admission rate, per second, from each of these seconds on.
    pub fn rates(&self) -> Vec<(f64, f64)> {
        let changed = self.event.iter().filter_map(|event| Some((event.at.0.as_secs_f64(), event.rate?.in_seconds())));
        let mut rates: Vec<_> = std::iter::once((0.0, self.rate.in_seconds())).chain(changed).collect();
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        rates
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

/// Fills in the spans of a configuration that are written as `{span 60s}`.
fn with_spans(config: &str, factor: f64) -> String {
    let mut parts = config.split("{span ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (written, rest) = part.split_once('}').unwrap_or((part, ""));
        let millis = units::span(written).map_or(0.0, |span| span.0.as_secs_f64() * 1000.0 * factor);
        format!("{text}{millis:.0}ms{rest}")
    })
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
    Habits::default()
}

fn visitors() -> String {
    "visitors".to_owned()
}

fn fifth_of_a_second() -> Span {
    Span(std::time::Duration::from_millis(200))
}

fn one_address() -> u32 {
    1
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
    fn the_short_form_has_the_same_shape() {
        let text = "title='x'\nroom='r'\npage='/'\nrate='5/s'\nlimit='100s'\nshort=0.1\n\
            [[crowd]]\nvisitors=50\nover='20s'\n[[event]]\nat='30s'\ncut='10s'\n\
            [proxy]\nconfig='a = \"{span 60s}\" b = \"{span 5s}\" {dir}'";
        let short = text.parse::<Scenario>().unwrap().shortened();
        let seconds = |span: Span| span.0.as_secs_f64();
        assert_eq!((seconds(short.limit), short.visitors(), short.rate.in_seconds()), (10.0, 5, 5.0));
        assert_eq!((seconds(short.event[0].at), seconds(short.event[0].cut.unwrap())), (3.0, 1.0));
        assert_eq!(short.proxy.unwrap().config, "a = \"6000ms\" b = \"500ms\" {dir}");
        assert!(text.parse::<Scenario>().unwrap().whole().proxy.unwrap().config.contains("60000ms"));
    }

    #[test]
    fn mistyped_keys_are_refused() {
        let fault = "title='x'\nroom='r'\npage='/'\nrate='1/s'\nlimit='1s'\ncrowd=[]\nevnet=[]".parse::<Scenario>();
        assert!(fault.unwrap_err().to_string().contains("evnet"));
    }
}
