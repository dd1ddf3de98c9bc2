//! Our proxy as it is measured: one configuration for all comparisons, in which only what is compared differs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::header::{ACCEPT, HOST};
use http::{HeaderValue, Request, StatusCode};
use tokio::process::Child;

use super::nginx::{AccessLog, Front};
use super::tls::Certificate;
use crate::clock::Clock;
use crate::connection_pool::ConnectionPool;
use crate::cookies::Cookies;
use crate::free_port::free_addresses;
use crate::portal::PORTAL_MARK;
use crate::stage::{filled_in, start_proxy};
use crate::{Context, Failure, Outcome};

pub(super) const ROOM: &str = "bench";
pub(super) const PAGE: &str = "/bench/page";
/// Until then the room must have let us in.
const ENTRY_LIMIT: Duration = Duration::from_secs(10);

/// Whoever measures comes from one address and is one visitor, so that limits of either are out of the way.
const CONFIG: &str = r#"
[server]
listen = ["{plain}"]
threads = {workers}
{tls}
[portal]
url = "http://{portal}"

[admin]
listen = "{admin}"
token_file = "{dir}/admin-token"

[tokens]
key_dir = "{dir}/keys"

[store]
{store}

[log]
access = {access}

[[room]]
name = "bench"
paths = ["/bench/**"]
start = "/bench/page"
joins_per_client = "unlimited"
joins_in_all = "unlimited"
requests_per_pass = "unlimited"
requests_at_once_per_pass = 0
{room}

{more}
"#;

const TLS: &str = r#"
[[server.tls]]
listen = ["{tls}"]
names = ["localhost"]
certificate = "{certificate}"
private_key = "{key}"
"#;

/// Who gets into the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Everybody who measures.
    Open,
    /// Hardly anybody: a line stands before it, and its page has the status that peers give.
    Full,
}

impl Room {
    fn lines(self) -> &'static str {
        match self {
            Room::Open => "admission_rate = \"1000/s\"",
            Room::Full => "admission_rate = \"6/min\"\nentry = \"page\"\npage_status = 200",
        }
    }
}

/// What differs between comparisons.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup<'s> {
    /// Where it listens, and with how many threads.
    pub(super) front: Front<'s>,
    /// What it stands before.
    pub(super) portal: SocketAddr,
    /// Who gets in.
    pub(super) room: Room,
    /// Whether each request is logged.
    pub(super) log: AccessLog,
    /// Where the state is kept: the lines of `[store]`.
    pub(super) store: &'s str,
    /// More tables of the configuration.
    pub(super) more: &'s str,
}

/// A file of its own keeps the state.
const OWN_STORE: &str = "path = \"{dir}/state\"";

impl<'s> Setup<'s> {
    /// Without a log and as it comes.
    pub(super) fn new(front: Front<'s>, portal: SocketAddr, room: Room) -> Setup<'s> {
        Setup { front, portal, room, log: AccessLog::Off, store: OWN_STORE, more: "" }
    }

    fn text(&self, admin: SocketAddr, directory: &Path) -> String {
        let values = [
            ("{plain}", self.front.plain.to_string()),
            ("{workers}", self.front.workers.to_string()),
            ("{store}", self.store.to_owned()),
            ("{tls}", self.front.tls.map_or_else(String::new, |(at, certificate)| tls(at, certificate))),
            ("{portal}", self.portal.to_string()),
            ("{admin}", admin.to_string()),
            ("{dir}", directory.display().to_string()),
            ("{access}", (self.log == AccessLog::On).to_string()),
            ("{room}", self.room.lines().to_owned()),
            ("{more}", self.more.to_owned()),
        ];
        filled_in(CONFIG, &values)
    }

    /// Starts it in `directory`, where its state stays.
    ///
    /// # Errors
    /// When it does not listen.
    pub(super) async fn start(&self, program: &Path, directory: &Path, clock: &Clock) -> Outcome<Child> {
        let [admin] = free_addresses()?;
        self.start_with_admin(admin, program, directory, clock).await
    }

    /// The same with the private listener there.
    ///
    /// # Errors
    /// When it does not listen.
    pub(super) async fn start_with_admin(
        &self,
        admin: SocketAddr,
        program: &Path,
        directory: &Path,
        clock: &Clock,
    ) -> Outcome<Child> {
        let file = directory.join("config.toml");
        std::fs::write(&file, self.text(admin, directory)).context(|| file.display().to_string())?;
        start_proxy(program, &file, directory, self.front.plain, clock).await
    }
}

fn tls(at: SocketAddr, certificate: &Certificate) -> String {
    let values = [
        ("{tls}", at.to_string()),
        ("{certificate}", certificate.certificate.display().to_string()),
        ("{key}", certificate.key.display().to_string()),
    ];
    filled_in(TLS, &values)
}

/// Enters the room as a visitor, and returns the `Cookie` header with the pass.
///
/// # Errors
/// When nobody is let in.
pub(super) async fn enter(address: SocketAddr, clock: &Clock) -> Outcome<String> {
    let pool = ConnectionPool::new(address, 1);
    let mut cookies = Cookies::default();
    let limit = clock.now() + ENTRY_LIMIT;
    while clock.now() < limit {
        let mut request = Request::new(bytes::Bytes::new());
        *request.uri_mut() = http::Uri::from_static(PAGE);
        let headers = request.headers_mut();
        headers.insert(HOST, address.to_string().parse().context(|| "address")?);
        headers.insert(ACCEPT, HeaderValue::from_static("text/html"));
        if let Some(kept) = cookies.header() {
            headers.insert(http::header::COOKIE, kept.parse().context(|| "cookie")?);
        }
        let received = pool.send(&request).await.context(|| "enter the room")?;
        cookies.take(&received.headers, ROOM);
        let let_in = received.status == StatusCode::OK && received.headers.contains_key(PORTAL_MARK);
        if let (true, Some(_), Some(header)) = (let_in, cookies.pass(), cookies.header()) {
            return Ok(header);
        }
        clock.sleep_until(clock.now() + Duration::from_millis(200)).await;
    }
    Err(Failure::new(format!("the room {ROOM} let nobody in, or gave no pass, within {ENTRY_LIMIT:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_configuration_is_whole() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let certificate = Certificate { certificate: "c.pem".into(), key: "k.pem".into(), both: "b.pem".into() };
        for room in [Room::Open, Room::Full] {
            for tls in [None, Some((at(2), &certificate))] {
                let front = Front { plain: at(1), tls, workers: 2 };
                let setup = Setup { log: AccessLog::On, more: "[leak_guard]", ..Setup::new(front, at(3), room) };
                let text = setup.text(at(4), Path::new("/d"));
                let read: toml::Table = toml::from_str(&text).unwrap();
                assert!(!text.contains('{') && read.contains_key("leak_guard"), "{text}");
                assert_eq!(read["server"].get("tls").is_some(), tls.is_some());
            }
        }
    }
}
