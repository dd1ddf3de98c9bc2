//! Asks the portal's addresses for the health path that the operator named, again and again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::portal::{Address, Portal};
use super::request_body::RequestBody;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::portal_health::Probe;
use crate::domain::time::Mono;

/// What an answer below this says is good.
const FIRST_ERROR: StatusCode = StatusCode::BAD_REQUEST;

/// What is asked of each address, and how long it may take.
#[derive(Clone)]
struct Question {
    path: Uri,
    host: Option<HeaderValue>,
    limit: Duration,
}

impl Question {
    fn of(config: &Config) -> Option<Question> {
        let public = config.server.public_url.as_ref().filter(|_| config.portal.preserve_host);
        Some(Question {
            path: config.portal.probes.path.as_ref()?.parse().ok()?,
            host: public.and_then(|public| HeaderValue::from_str(&public.authority).ok()),
            limit: config.portal.probes.timeout,
        })
    }
}

impl Portal {
    /// Asks for the health path of the configuration, which stands somewhere in what is in force, each interval of `clock`.
    /// Runs until dropped; to be spawned once.
    pub async fn ask_after_health<S>(
        self: Arc<Self>,
        mut in_force: watch::Receiver<S>,
        config_of: fn(&S) -> Arc<Config>,
        clock: Clock,
    ) {
        loop {
            let config = config_of(&in_force.borrow_and_update());
            let asked = Question::of(&config);
            match &asked {
                Some(question) => self.ask_all(question, &config, &clock).await,
                None => self.forget_probes(clock.mono()),
            }
            let pause = async {
                match asked {
                    Some(_) => clock.sleep(config.portal.probes.interval).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = pause => {}
                changed = in_force.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn ask_all(self: &Arc<Self>, question: &Question, config: &Config, clock: &Clock) {
        let mut asking = JoinSet::new();
        for address in self.addresses().iter().cloned() {
            let (portal, question, now) = (self.clone(), question.clone(), clock.mono());
            asking.spawn(async move { (portal.ask(&address, &question, now).await, address) });
        }
        while let Some(answered) = asking.join_next().await {
            let Ok((answer, address)) = answered else { continue };
            let probe = match answer {
                Ok(status) if status < FIRST_ERROR => Probe::Good,
                Ok(status) => {
                    tracing::warn!(address = address.url.authority, %status, "the portal's health path");
                    Probe::Bad
                }
                Err(error) => {
                    tracing::warn!(address = address.url.authority, %error, "the portal's health path");
                    Probe::Bad
                }
            };
            self.note_probe(&address, probe, config.portal.probes.thresholds, clock.mono());
        }
    }

    async fn ask(&self, address: &Address, question: &Question, now: Mono) -> io::Result<StatusCode> {
        let asking = async {
            let mut connection = self.open(address, question.limit, now).await?;
            let host = question.host.clone().unwrap_or_else(|| address.host.clone());
            let request = probe_request(Method::GET, question.path.clone(), host, RequestBody::Empty);
            let answer = connection.sender.send_request(request).await.map_err(io::Error::other)?;
            Ok(answer.status())
        };
        timeout(question.limit, asking).await?
    }
}

/// What whoever is asked after its health gets, on a connection for this alone.
pub(crate) fn probe_request<B>(method: Method, target: Uri, host: HeaderValue, body: B) -> Request<B> {
    let mut request = Request::new(body);
    (*request.method_mut(), *request.uri_mut()) = (method, target);
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("anticamera-probe"));
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    request
}
