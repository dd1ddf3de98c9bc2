//! `anticamera plan`: a day before it comes, from arrivals and rates as people write them, or from a room of the configuration.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Done, finished};
use crate::clock::Clock;
use crate::config;
use crate::domain::effect::with_thousands;
use crate::domain::line_plan::{Arrivals, Moment, Plan, plan as work_out};
use crate::domain::local_time::{self, LocalTime};
use crate::domain::names::ClassName;
use crate::domain::outlook::Stretch;
use crate::domain::rate::Rate;
use crate::domain::time::Unix;
use crate::domain::wait_estimate::WaitRange;
use crate::room::planned_stretches;

/// Hours that are looked at: the day and the night after it.
const LOOKED_AT: Duration = Duration::from_secs(36 * 3600);
/// Between two moments among which the longest line and wait are looked for.
const LOOKED_CLOSELY: Duration = Duration::from_secs(60);
/// A larger file has no arrivals.
const LARGEST: u64 = 1 << 20;

/// A day that is to be worked out.
#[derive(Args, Debug)]
pub struct PlanOrder {
    /// Who comes when: "08:00-09:00 300/s, 09:00-13:00 60/s", or a file with such lines.
    #[arg(long)]
    arrivals: String,
    /// Entries at the portal, such as 100/s.
    #[arg(long, required_unless_present_any = ["windows", "config"])]
    rate: Option<String>,
    /// Entries by the hour: "08:00-16:00 100/s, 16:00-20:00 50/s"; nobody enters outside.
    #[arg(long, conflicts_with_all = ["rate", "config"])]
    windows: Option<String>,
    /// A configuration file, whose room's rates, windows and shares hold.
    #[arg(long, conflicts_with = "rate", requires = "room")]
    config: Option<PathBuf>,
    /// The room of the configuration.
    #[arg(long, requires = "config")]
    room: Option<String>,
    /// The class that arrives; every class with a share is taken to use it.
    #[arg(long, default_value = "citizen")]
    class: String,
    /// The day. Left out: today.
    #[arg(long, requires = "config")]
    date: Option<Date>,
    /// Between two lines of the table, such as 15min.
    #[arg(long, default_value = "15min")]
    step: String,
}

/// Works out how long the line gets and how long one waits in it.
pub fn plan(order: &PlanOrder) -> ExitCode {
    finished(planned(order))
}

fn planned(order: &PlanOrder) -> Done {
    let arrivals: Vec<Arrivals> = spans(&typed_or_file(&order.arrivals)?)?
        .into_iter()
        .map(|(from, until, rate)| Arrivals { from, until, rate: rate.per_second() })
        .collect();
    let stretches = match (&order.rate, &order.windows, &order.config) {
        (Some(rate), _, _) => vec![Stretch { until: LOOKED_AT, rate: parsed(rate)?.per_second() }],
        (_, Some(windows), _) => by_windows(&spans(windows)?)?,
        (_, _, Some(config)) => of_room(order, config)?,
        _ => return Err("name --rate, --windows, or --config and --room".to_owned()),
    };
    let step = super::span(&order.step).map_err(|()| format!("--step {:?}: write a span such as 15min", order.step))?;
    let first = arrivals.iter().map(|some| some.from).min().unwrap_or_default();
    let last = arrivals.iter().map(|some| some.until).max().unwrap_or_default();
    let whole = work_out(&arrivals, &stretches, LOOKED_CLOSELY, LOOKED_AT);
    let end = if whole.longest.is_some() { whole.empty_at.unwrap_or(LOOKED_AT) } else { last };
    let mut shown = work_out(&arrivals, &stretches, step, (end.max(last) + step).min(LOOKED_AT));
    shown.moments.retain(|moment| moment.at + step > first);
    Ok(table(&shown, &whole))
}

fn typed_or_file(text: &str) -> Result<String, String> {
    let path = Path::new(text);
    match std::fs::metadata(path) {
        Ok(facts) if facts.is_file() && facts.len() <= LARGEST => {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
        }
        Ok(_) => Err(format!("{}: no file of arrivals", path.display())),
        Err(_) => Ok(text.to_owned()),
    }
}

/// `08:00-09:00 300/s`, between commas or on lines of their own; what follows a `#` is a remark.
fn spans(text: &str) -> Result<Vec<(Duration, Duration, Rate)>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let members: Vec<&str> =
        lines.flat_map(|line| line.split(',')).map(str::trim).filter(|one| !one.is_empty()).collect();
    if members.is_empty() {
        return Err("there is no span of time: write 08:00-09:00 300/s".to_owned());
    }
    members.into_iter().map(one_span).collect()
}

fn one_span(text: &str) -> Result<(Duration, Duration, Rate), String> {
    let fault = || format!("{text:?}: write two hours of one day and a rate, such as 08:00-09:00 300/s");
    let (hours, rate) = text.split_once(char::is_whitespace).ok_or_else(fault)?;
    let (from, until) = hours.split_once('-').ok_or_else(fault)?;
    let hour = |text: &str| {
        let time: Result<LocalTime, _> = text.parse();
        time.map(|time| Duration::from_secs(u64::from(time.minutes()) * 60)).map_err(|_| fault())
    };
    let (from, until) = (hour(from)?, hour(until)?);
    // The next midnight is read as the time of day that it is.
    let until = if until.is_zero() { Duration::from_secs(24 * 3600) } else { until };
    if until <= from {
        return Err(fault());
    }
    Ok((from, until, parsed(rate)?))
}

fn parsed(rate: &str) -> Result<Rate, String> {
    rate.trim().parse().map_err(|fault| format!("{rate:?}: {fault}"))
}

/// Rates of windows that follow one another; nobody enters in between.
fn by_windows(windows: &[(Duration, Duration, Rate)]) -> Result<Vec<Stretch>, String> {
    let mut stretches = Vec::new();
    let mut end = Duration::ZERO;
    for (from, until, rate) in windows {
        if *from < end {
            return Err("windows follow one another without an overlap".to_owned());
        }
        stretches.push(Stretch { until: *from, rate: 0.0 });
        stretches.push(Stretch { until: *until, rate: rate.per_second() });
        end = *until;
    }
    stretches.push(Stretch { until: LOOKED_AT, rate: 0.0 });
    Ok(stretches)
}

fn of_room(order: &PlanOrder, path: &Path) -> Result<Vec<Stretch>, String> {
    let config = config::load(path).map_err(|faults| faults.to_string())?;
    let name = order.room.as_deref().unwrap_or_default();
    let room = config.rooms.iter().find(|room| room.name.as_str() == name);
    let room: &Arc<config::Room> = room.ok_or_else(|| format!("there is no room {name:?} in {}", path.display()))?;
    let class = ClassName::new(&order.class).map_err(|fault| fault.to_string())?;
    if !room.classes.contains(&class) {
        return Err(format!("there is no class {:?} in {}", order.class, path.display()));
    }
    let zone: &TimeZone = &room.time_zone;
    let date = order.date.unwrap_or_else(|| local_time::date_at(zone, Clock::system().now().wall));
    let midnight: Unix = local_time::beginning(zone, date, LocalTime::MIDNIGHT);
    Ok(planned_stretches(room, class.id(), midnight))
}

fn table(shown: &Plan, whole: &Plan) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = write_table(&mut out, shown, whole);
    out
}

fn write_table(out: &mut String, shown: &Plan, whole: &Plan) -> std::fmt::Result {
    writeln!(
        out,
        "{:>6} {:>10} {:>10} {:>12} {:>19}",
        "hour", "arriving/s", "entering/s", "in line", "wait of who joins"
    )?;
    for Moment { at, arriving, rate, line, wait } in &shown.moments {
        let line = with_thousands(*line);
        writeln!(out, "{:>6} {arriving:>10.1} {rate:>10.1} {line:>12} {:>19}", hour(*at), range(*wait))?;
    }
    writeln!(out, "\n{} arrive", with_thousands(whole.arrived))?;
    match &whole.longest {
        None => writeln!(out, "nobody ever waits")?,
        Some(longest) => {
            writeln!(out, "the line is longest at {}: {}", hour(longest.at), with_thousands(longest.line))?
        }
    }
    if let Some(slowest) = &whole.slowest {
        writeln!(out, "whoever joins at {} waits longest: {}", hour(slowest.at), range(slowest.wait))?;
    }
    match (whole.longest, whole.empty_at) {
        (None, _) => Ok(()),
        (_, Some(at)) => writeln!(out, "the line is empty at {}", hour(at)),
        (_, None) => {
            writeln!(out, "the line is NOT empty by {}: {} are left", hour(LOOKED_AT), with_thousands(whole.left))
        }
    }
}

/// An hour of the day; those of the next day are marked.
fn hour(at: Duration) -> String {
    let minutes = at.as_secs() / 60;
    let next_day = if minutes >= 24 * 60 { "+" } else { "" };
    format!("{next_day}{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

fn range(wait: Option<WaitRange>) -> String {
    let Some(WaitRange { low, high }) = wait else { return "beyond the plan".to_owned() };
    match high.as_secs() {
        0 => "none".to_owned(),
        1..120 => format!("{}-{} s", low.as_secs(), high.as_secs()),
        120..18_000 => format!("{}-{} min", low.as_secs() / 60, high.as_secs().div_ceil(60)),
        _ => format!("{:.1}-{:.1} h", low.as_secs_f64() / 3600.0, high.as_secs_f64() / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_rates_are_read_and_what_is_wrong_is_said() {
        let read = spans("08:00-09:00 300/s, 09:00-13:00 60/s # then it calms down\n20:00-24:00 6/min").unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!((read[0].0.as_secs(), read[2].1.as_secs()), (8 * 3600, 24 * 3600));
        for bad in ["", "08:00 3/s", "09:00-08:00 3/s", "08:00-09:00 fast", "8-9 3/s"] {
            assert!(spans(bad).is_err(), "{bad}");
        }
        assert!(by_windows(&spans("08:00-10:00 1/s, 09:00-11:00 1/s").unwrap()).is_err());
        let windows = by_windows(&spans("08:00-10:00 1/s").unwrap()).unwrap();
        assert_eq!(windows.iter().map(|stretch| stretch.rate).collect::<Vec<_>>(), [0.0, 1.0, 0.0]);
    }
}
