//! What the portal says of itself that looks like a cache's hit and is none.
//!
//! The proxy asks for a path that nobody ever asked for: no cache can have it. An `Age` or a hit marker on that answer
//! is a trait of the portal, and the detector of hits then only reports. Until the portal has been asked, it only
//! reports as well.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CACHE_CONTROL, HOST, USER_AGENT};
use http_body_util::Empty;
use tokio::sync::watch;

use super::Leaks;
use super::fetch::{Fetched, NotFetched, Side, fetch};
use crate::config::Config;
use crate::domain::hit_header::{HitHeader, hit_header};
use crate::entropy;
use crate::gateway::snapshot::Snapshot;
use crate::proxy::tls::PortalTls;

/// Until an attempt that failed is repeated.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two summaries in the audit file.
const SUMMARY: Duration = Duration::from_secs(60);
/// How often the portal is asked in one calibration.
const QUESTIONS: usize = 2;

/// What is known of the portal's own traits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Calibration {
    /// Nothing yet.
    #[default]
    Unknown,
    /// The header that the portal puts on answers that no cache can have had, if there is one.
    Known(Option<HitHeader>),
}

impl Calibration {
    /// Whether a hit may be blocked.
    pub fn may_block(&self) -> bool {
        *self == Calibration::Known(None)
    }
}

impl Leaks {
    /// Calibrates at the start, at every reload and when hits were blocked, and writes summaries. Never ends.
    pub async fn look_after(self: Arc<Leaks>, mut snapshot: watch::Receiver<Arc<Snapshot>>) {
        let mut summary_at = self.clock.mono() + SUMMARY;
        loop {
            let config = snapshot.borrow_and_update().config.clone();
            let next = if self.calibrate(&config).await { None } else { Some(self.clock.mono() + AGAIN) };
            self.show_detectors(&config.leak_guard);
            loop {
                let wake = next.map_or(summary_at, |next| next.min(summary_at));
                tokio::select! {
                    changed = snapshot.changed() => if changed.is_err() { return } else { break },
                    () = self.look_again.notified() => break,
                    () = self.clock.sleep_until(wake) => {}
                }
                let now = self.clock.mono();
                if now >= summary_at {
                    self.write_tally();
                    summary_at = now + SUMMARY;
                }
                if next.is_some_and(|next| now >= next) {
                    break;
                }
            }
        }
    }

    /// Asks the portal; false when it did not answer.
    async fn calibrate(&self, config: &Config) -> bool {
        let mut found = None;
        for _ in 0..QUESTIONS {
            match ask(config).await {
                Ok(fetched) => {
                    found = found.or(hit_header(&fetched.headers, &config.leak_guard.rules.ignored_markers));
                }
                Err(error) => {
                    tracing::debug!(%error, "the portal could not be asked for a path that nobody ever asked for");
                    return false;
                }
            }
        }
        let known = Calibration::Known(found);
        let mut calibration = self.calibration.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *calibration, known.clone());
        drop(calibration);
        if before != known {
            match found {
                None => tracing::info!("the portal was calibrated: its answers carry no traits of a cache"),
                Some(header) => tracing::warn!(
                    header = header.as_str(),
                    "the portal itself says what caches say of their hits: the detector cache_hit only reports; \
                     list the header in leak_guard.ignore_hit_headers if no cache writes it"
                ),
            }
        }
        true
    }
}

/// As requests reach the portal.
fn over_tls(config: &Config, host: &str) -> Result<Side, NotFetched> {
    let failed = |error: &dyn std::fmt::Display| NotFetched::Tls(error.to_string());
    let tls = PortalTls::load(&config.portal).map_err(|error| failed(&error))?;
    let tls = tls.ok_or_else(|| failed(&"not set up"))?;
    let name = tls.name_of(host).ok_or_else(|| failed(&"the host is no name for a certificate"))?;
    Ok(Side::Tls(tls.config, name))
}

async fn ask(config: &Config) -> Result<Fetched, NotFetched> {
    let Some(url) = config.portal.urls.first() else { return Err(NotFetched::Body) };
    let host = match &config.server.public_url {
        Some(public) if config.portal.preserve_host => &public.authority,
        _ => &url.authority,
    };
    let random = entropy::bytes::<16>().map_err(|_| NotFetched::Body)?;
    let request = Request::get(format!("/anticamera-calibration-{}", super::audit::hex(random)))
        .header(HOST, host)
        .header(ACCEPT, "text/html")
        .header(CACHE_CONTROL, "no-store, no-cache")
        .header(USER_AGENT, "anticamera")
        .body(Empty::<Bytes>::new());
    let side = if url.https { over_tls(config, &url.host)? } else { Side::Plain };
    fetch(&url.host, url.port, side, request.map_err(|_| NotFetched::Body)?).await
}
