//! Spans and rates as people write them in scenarios: `"60s"`, `"500ms"`, `"2min"`; `"50/s"`, `"6/min"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time, written as a number with `ms`, `s`, `min` or `h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// So many a second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate {
    per_second: f64,
}

impl Rate {
    /// A rate of `count` a second.
    pub fn per_second(count: f64) -> Rate {
        Rate { per_second: count }
    }

    /// How many a second.
    pub fn in_seconds(self) -> f64 {
        self.per_second
    }
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = text.strip_suffix(unit)?.parse().ok()?;
    Some((number, unit.trim()))
}

/// Reads a span.
pub fn span(text: &str) -> Option<Span> {
    let (number, unit) = number_and_unit(text.trim())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok().map(Span)
}

fn rate(text: &str) -> Option<Rate> {
    let (count, unit) = text.split_once('/')?;
    let count: f64 = count.trim().parse().ok()?;
    let per_second = match unit.trim() {
        "s" => count,
        "min" => count / 60.0,
        "h" => count / 3600.0,
        _ => return None,
    };
    (per_second.is_finite() && per_second > 0.0).then_some(Rate { per_second })
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        span(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is no span: write \"500ms\", \"60s\", \"2min\"")))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        let text = String::deserialize(deserializer)?;
        rate(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is no rate: write \"50/s\" or \"6/min\"")))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        for (text, millis) in [("500ms", 500), ("60s", 60_000), ("2min", 120_000), ("1.5 s", 1500), ("1h", 3_600_000)] {
            assert_eq!(span(text), Some(Span(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1d"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn rates_are_read() {
        assert_eq!(rate("50/s").map(Rate::in_seconds), Some(50.0));
        assert_eq!(rate("6/min").map(Rate::in_seconds), Some(0.1));
        for text in ["", "50", "0/s", "-1/s", "x/s", "1/d"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}
