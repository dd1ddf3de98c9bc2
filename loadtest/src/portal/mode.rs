//! How the portal behaves: well, or ill in one of three ways.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// How the portal behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As it should.
    #[default]
    Ok,
    /// No connection can be made, and those that stood are closed.
    Refuse,
    /// Every page is an error.
    Error(StatusCode),
    /// Every page comes late.
    Slow(Duration),
}

/// An order to behave in some way, as sent to `/__portal/mode` and as written in scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    mode: Name,
    /// After which the portal is well again; without it, until the next order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    Ok,
    Refuse,
    Error,
    Slow,
}

impl Order {
    /// The ordered mode.
    pub fn mode(&self) -> Mode {
        let status = self.status.and_then(|code| StatusCode::from_u16(code).ok());
        match self.mode {
            Name::Ok => Mode::Ok,
            Name::Refuse => Mode::Refuse,
            Name::Error => Mode::Error(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE)),
            Name::Slow => Mode::Slow(Duration::from_millis(self.delay_ms.unwrap_or(1000))),
        }
    }

    /// The same for a fraction of the time.
    #[must_use]
    pub fn compressed(self, factor: f64) -> Order {
        Order { seconds: self.seconds.map(|seconds| seconds * factor), ..self }
    }

    /// How long the mode lasts, if it ends by itself.
    pub fn lasts(&self) -> Option<Duration> {
        self.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> Order {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn orders_are_read() {
        assert_eq!(order(r#"{"mode":"ok"}"#).mode(), Mode::Ok);
        assert_eq!(order(r#"{"mode":"error","status":500}"#).mode(), Mode::Error(StatusCode::INTERNAL_SERVER_ERROR));
        assert_eq!(order(r#"{"mode":"slow","delay_ms":5}"#).mode(), Mode::Slow(Duration::from_millis(5)));
        assert_eq!(order(r#"{"mode":"refuse","seconds":120}"#).lasts(), Some(Duration::from_secs(120)));
        assert!(serde_json::from_str::<Order>(r#"{"mode":"sulk"}"#).is_err());
    }
}
