//! The configuration as the rest of the program needs it: every default filled in, every value in its own unit, no
//! combination left that makes no sense. How it is read stands in the neighbouring files.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::class::Class;
use super::page::{LocalText, Page, RoomPage};
use crate::domain::adaptive::Adaptive;
pub use crate::domain::client::ClientAddressHeader;
use crate::domain::closing::Closing;
use crate::domain::leak_guard::Rules;
use crate::domain::names::{ClassName, RoomId, RoomName};
use crate::domain::opening::Plan;
use crate::domain::operator::Role;
pub use crate::domain::orders::RoomState;
use crate::domain::pass_limits::PassLimits;
use crate::domain::paths::{HostPattern, PathPattern};
use crate::domain::portal_health::{Bearable, Thresholds};
use crate::domain::rate::Rate;
use crate::domain::schedule::Schedule;
use crate::domain::seat::{ForkedPass, Stay};
pub use crate::domain::tls_names::ServedName;

/// A configuration that is whole and valid. Travels as `Arc<Config>`; a request reads one from beginning to end.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Sockets that visitors reach, and how visitors are told apart.
    pub server: Server,
    /// The protected application.
    pub portal: Portal,
    /// The operators' listener.
    pub admin: Admin,
    /// Signing keys.
    pub tokens: Tokens,
    /// Where the line lives.
    pub store: Store,
    /// Classes of visitors besides the citizens, the first that is proven counts.
    pub classes: Vec<Class>,
    /// Rooms in the order in which they are tried.
    pub rooms: Vec<Arc<Room>>,
    /// What pages are made of.
    pub page: Page,
    /// What may be shared between visitors.
    pub leak_guard: LeakGuard,
    /// What is logged.
    pub log: Log,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Request threads; 0 means one per core.
    pub threads: usize,
    /// Networks whose statements about the client are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The one header that is read from them.
    pub client_address: ClientAddressHeader,
    /// How visitors reach us, scheme and authority (`https://portal.example`), when configured.
    pub public_url: Option<PublicUrl>,
    /// Prefix of our own paths, without a slash at the end: `/.waiting-room`.
    pub own_path: String,
    /// Whether a change of the file reloads it.
    pub watch: bool,
    /// Other sites whose scripts may read our JSON and post to us: origins such as `https://app.example`.
    pub cors_origins: Vec<String>,
    /// Addresses on which plain HTTP is only sent to HTTPS.
    pub redirect_listen: Vec<SocketAddr>,
    /// The value of `Strict-Transport-Security` on answers over our own TLS, when configured.
    pub hsts: Option<String>,
    /// Certificates by name, in the order of the file.
    pub tls: Vec<TlsEntry>,
    /// Limits on time and size towards visitors.
    pub limits: Limits,
}

/// `public_url`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    /// Whether it begins with `https:`.
    pub https: bool,
    /// Host and, when given, port.
    pub authority: String,
}

/// `[[server.tls]]`: one certificate, the names it is shown for, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsEntry {
    /// Addresses to listen on; several entries may share one.
    pub listen: Vec<SocketAddr>,
    /// Names for which the certificate is shown, at least one.
    pub names: Vec<ServedName>,
    /// The certificate and those of its issuers, as PEM.
    pub certificate: PathBuf,
    /// Its key, as PEM.
    pub private_key: PathBuf,
    /// Whether clients are asked for a certificate.
    pub client_auth: ClientAuth,
}

/// `server.tls.client_auth`, with the file of those who issue client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nobody is asked.
    None,
    /// Whoever has a certificate may show it.
    Optional(PathBuf),
    /// Nobody gets further without one.
    Required(PathBuf),
}

impl Server {
    /// The addresses of all `[[server.tls]]`, each once, in the order of the file.
    pub fn tls_listen(&self) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        for address in self.tls.iter().flat_map(|entry| &entry.listen) {
            // Port 0 is a different port each time, but one entry's several ports 0 make no sense either.
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        addresses
    }
}

/// `[server.limits]`: every wait and every size towards visitors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until TLS stands, or a proxy has said for whom it speaks.
    pub handshake_timeout: Duration,
    /// From then to the first byte of a request.
    pub first_byte_timeout: Duration,
    /// From a request's first byte to the end of its head.
    pub head_timeout: Duration,
    /// Between two pieces of a request body.
    pub body_idle_timeout: Duration,
    /// Bytes per second that a request body brings on average at least, once it was waited for as long as
    /// `body_idle_timeout` in all; 0 means no such limit.
    pub min_body_rate: usize,
    /// While a visitor takes nothing of what we send.
    pub write_idle_timeout: Duration,
    /// Between two requests of an HTTP/1.1 connection.
    pub keep_alive_timeout: Duration,
    /// While an HTTP/2 connection has no request.
    pub http2_idle_timeout: Duration,
    /// How long the answer to a poll is held back.
    pub held_poll_timeout: Duration,
    /// After which a connection gets no further requests.
    pub max_connection_age: Duration,
    /// Head bytes (request line and headers) at most.
    pub max_head_bytes: usize,
    /// Header lines at most.
    pub max_headers: usize,
    /// Bytes of all cookies of a request at most.
    pub max_cookie_bytes: usize,
    /// Connections at most, over all threads.
    pub max_connections: usize,
    /// Connections of one client prefix at most; 0 means no limit.
    pub max_connections_per_client: usize,
    /// Percent of `max_connections` above which connections without a request are closed early.
    pub idle_watermark: u8,
    /// Requests at the same time on one HTTP/2 connection.
    pub http2_max_streams: u32,
    /// Bytes of request bodies that one HTTP/2 connection may send ahead.
    pub http2_window: usize,
    /// How long everybody is still served, though told not to come back, before the doors close.
    pub drain_notice: Duration,
    /// Time for requests under way once draining began.
    pub drain_timeout: Duration,
}

/// `[portal]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// Its addresses, at least one; a visitor stays with one of them.
    pub urls: Vec<PortalUrl>,
    /// What is used where an address begins with `https:`.
    pub tls: PortalTls,
    /// Requests under way at the portal at most.
    pub max_in_flight: usize,
    /// How long a visitor inside waits for one of them.
    pub queue_timeout: Duration,
    /// Whether the portal sees the visitor's Host or its own.
    pub preserve_host: bool,
    /// Until the connection stands.
    pub connect_timeout: Duration,
    /// From the request's last byte to the answer's head.
    pub first_byte_timeout: Duration,
    /// Between two pieces of an answer.
    pub idle_timeout: Duration,
    /// How long an unused connection is kept.
    pub keep_alive: Duration,
    /// Request bodies up to this are read before a connection is taken, in bytes.
    pub request_buffer: usize,
    /// Answers are read ahead of a slow visitor up to this, in bytes.
    pub response_buffer: usize,
    /// From a tenth of the rate to the whole after the portal recovered.
    pub ramp: Duration,
    /// How it is asked whether it is well.
    pub probes: Probes,
    /// What its answers to visitors may be like while it counts as well.
    pub bearable: Bearable,
}

/// `portal.health` and what belongs to it; login providers are asked at the same pace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    /// What is asked for, with its query; `None` means that nobody asks.
    pub path: Option<String>,
    /// Between two questions.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Answers in a row that make ill, and well again.
    pub thresholds: Thresholds,
}

/// `room.login_health`: where a login provider is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoginHealth {
    /// Where it is.
    pub at: PortalUrl,
    /// What is asked for there, with its query.
    pub path: String,
}

/// TLS towards the portal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortalTls {
    /// Those whose certificates are believed, as PEM; `None` means those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The name in the portal's certificate, when it is not the host of its address.
    pub server_name: Option<String>,
    /// Our own certificate and its key, as PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// One address of the portal: `http://host[:port]` or `https://host[:port]`, without a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortalUrl {
    /// Whether it begins with `https:`.
    pub https: bool,
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `host[:port]` as written, for the Host header and for rewriting.
    pub authority: String,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where operators and Prometheus reach us.
    pub listen: AdminListen,
    /// Host names other than loopback ones under which the listener answers.
    pub hosts: Vec<String>,
    /// The bearer token for everything.
    pub token_file: PathBuf,
    /// Whether looking needs a token, too; metrics and health never do.
    pub view_needs_token: bool,
    /// Where what operators changed at run time is kept: overrides, audit log, history.
    pub state_dir: PathBuf,
    /// Further tokens.
    pub tokens: Vec<OperatorToken>,
}

/// `[[admin.token]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorToken {
    /// Whose it is; the audit log has it.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// The file that holds it.
    pub file: PathBuf,
    /// The last day on which it is good, by this machine's clock.
    pub expires: Option<jiff::civil::Date>,
}

/// Where the private listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// `[tokens]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Directory of `<id>.key` files.
    pub key_dir: PathBuf,
    /// A new key signs only when it is this old.
    pub activate_after: Duration,
    /// Directory of the passes of staff.
    pub pass_dir: PathBuf,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// A file of this machine.
    Embedded {
        /// Directory of the state.
        path: PathBuf,
    },
    /// A Valkey or Redis server that several nodes share.
    Valkey(Box<SharedStore>),
}

/// `[store]` of kind `valkey`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedStore {
    /// Where it is.
    pub servers: Servers,
    /// Who we are there.
    pub login: Login,
    /// TLS towards it.
    pub tls: StoreTls,
    /// What all keys begin with.
    pub prefix: String,
    /// For how long a node goes on with its share of the rate while the store is away; `None`: nobody enters.
    pub share_for: Option<Duration>,
}

/// The servers of a shared store, each as `redis://host:port[/database]` or, for TLS, `rediss://...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// One.
    One(String),
    /// The one that sentinels watch.
    Sentinels {
        /// The sentinels.
        urls: Vec<String>,
        /// The name under which they watch it.
        primary: String,
        /// Who we are at the sentinels.
        login: Login,
    },
    /// Some of a cluster, which name the others.
    Cluster(Vec<String>),
}

impl Servers {
    /// All addresses that are known.
    pub fn urls(&self) -> &[String] {
        match self {
            Servers::One(url) => std::slice::from_ref(url),
            Servers::Sentinels { urls, .. } | Servers::Cluster(urls) => urls,
        }
    }

    /// Whether TLS is spoken with them.
    pub fn are_tls(&self) -> bool {
        self.urls().iter().any(|url| url.starts_with("rediss://"))
    }
}

/// A user's name and where the password is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The user; none for servers without users.
    pub user: Option<String>,
    /// The file that holds the password.
    pub password_file: Option<PathBuf>,
}

/// TLS towards a shared store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreTls {
    /// Those whose certificates are believed, as PEM; `None` means those that the system trusts.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, as PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// `[[room]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    /// `[a-z0-9-]{1,32}`
    pub name: RoomName,
    /// Its number in tokens, derived from the name.
    pub id: RoomId,
    /// Hosts it protects.
    pub hosts: Vec<HostPattern>,
    /// Paths it protects.
    pub paths: Vec<PathPattern>,
    /// Where a visitor goes who wanted no particular page.
    pub start: String,
    /// Entries at the portal.
    pub admission_rate: Rate,
    /// Seats; `None` means no limit.
    pub max_active_sessions: Option<u32>,
    /// Idle time after which a seat ends; slides.
    pub session_duration: Duration,
    /// Time after which it ends in any case; `None` means never.
    pub session_limit: Option<Duration>,
    /// How often a visitor may put that off, each time by as long again.
    pub session_limit_extensions: u32,
    /// How long a called visitor's turn is kept.
    pub claim_window: Duration,
    /// How long a ticket is good without being renewed.
    pub ticket_lifetime: Duration,
    /// How long a request is held at the gate.
    pub gate_wait: Duration,
    /// Joins per client prefix without work or delay; `None` means no limit.
    pub joins_per_client: Option<Rate>,
    /// The same of everybody together; `None` means no limit.
    pub joins_in_all: Option<Rate>,
    /// What one pass may ask of the portal.
    pub pass_limits: PassLimits,
    /// What becomes of an older pass that comes from elsewhere than the newer one.
    pub forked_pass: ForkedPass,
    /// For what people read.
    pub time_zone: jiff::tz::TimeZone,
    /// Every class that may join; the citizens are the last.
    pub classes: Vec<ClassName>,
    /// Who may enter when, and in which shares.
    pub schedule: Schedule,
    /// What windows say instead of the room's message.
    pub window_messages: Vec<LocalText>,
    /// What the operator wants of the room.
    pub state: RoomState,
    /// Whether a visitor may go straight through when nobody waits.
    pub entry: Entry,
    /// Shown on the page; escaped.
    pub message: LocalText,
    /// Status of the waiting page: 200, 202, 429 or 503.
    pub page_status: u16,
    /// Never gated.
    pub bypass: Vec<PathPattern>,
    /// A login provider's cross-site POST comes back here.
    pub login_callbacks: Vec<PathPattern>,
    /// Ends the pass and frees the seat.
    pub logout: Vec<PathPattern>,
    /// Where the login provider is asked whether it is well.
    pub login_health: Option<LoginHealth>,
    /// When fewer enter because the portal is slow.
    pub adaptive: Option<Adaptive>,
    /// Texts, links and colours of its pages.
    pub page: RoomPage,
    /// When it opens, if it has not always been open.
    pub opening: Option<Plan>,
    /// When nobody new can join any more, if ever.
    pub closing: Option<Ending>,
    /// What operators said at run time, which goes before the windows.
    pub by_hand: ByHandTerms,
}

/// `[room.closing]`
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// The hour, and what becomes of those who still wait then.
    pub closing: Closing,
    /// What is shown from then on instead of the room's message; escaped. Nothing: the message stays.
    pub message: LocalText,
}

/// What operators said of a room at run time, as far as it is not another value of one of the room's keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByHandTerms {
    /// Entries at the portal, in every window.
    pub rate: Option<Rate>,
    /// The message, in every window.
    pub message: Option<LocalText>,
}

impl Room {
    /// How long a visitor may stay inside.
    pub fn stay(&self) -> Stay {
        Stay { idle: self.session_duration, limit: self.session_limit, extensions: self.session_limit_extensions }
    }
}

/// `room.entry`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The first navigation goes straight through when nobody waits.
    Direct,
    /// Everybody sees the page first.
    Page,
}

/// `[leak_guard]`
#[derive(Clone, Debug, PartialEq)]
pub struct LeakGuard {
    /// What holds on every route.
    pub rules: Rules,
    /// Ungated, anonymous, cacheable.
    pub public: Vec<PathPattern>,
    /// Personal routes on which Range is allowed.
    pub downloads: Vec<PathPattern>,
    /// Personal routes on which Back may show the answer to a POST.
    pub back_paths: Vec<PathPattern>,
    /// Personal routes on which answers keep their ETag.
    pub etag_paths: Vec<PathPattern>,
    /// Whether personal requests carry a random query value that no cache behind us can know.
    pub upstream_bust: bool,
    /// `X-Accel-Buffering`, `Vary` and `Age`, in this order.
    pub armour: [ArmourRule; 3],
    /// Cookies that are sessions of the portal.
    pub session_cookies: Vec<String>,
    /// Sessions remembered at most.
    pub remember_sessions: usize,
    /// How long a session is remembered without being seen.
    pub remember_for: Duration,
    /// What is done about each finding.
    pub detectors: Detectors,
    /// When a room stops letting visitors in.
    pub breaker: LeakBreaker,
    /// Where findings are written.
    pub audit: AuditFile,
    /// What is done when the edge keeps personal pages.
    pub canary: CanaryAction,
    /// Between two rounds of asking through the edge.
    pub canary_interval: Duration,
}

/// A piece of armour.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmourRule {
    /// Whether answers wear it.
    pub worn: Wears,
    /// Paths on which they do not.
    pub except: Vec<PathPattern>,
}

/// Whether a piece of armour is worn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wears {
    /// It is.
    Worn,
    /// It is not.
    Off,
}

/// What is done about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectorAction {
    /// The answer is stopped (502).
    Block,
    /// It is reported.
    Alarm,
    /// Nothing; nobody looks.
    Off,
}

/// `[leak_guard.detectors]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detectors {
    /// One session cookie's value is issued to two visitors.
    pub session_reissued: DetectorAction,
    /// A cache behind us answers a personal request.
    pub cache_hit: DetectorAction,
    /// The answer names another person than the one the session is bound to.
    pub identity_mismatch: DetectorAction,
    /// One session has two identities, and the visitor is new to it.
    pub session_identities: DetectorAction,
    /// One identity has many sessions.
    pub identity_sessions: DetectorAction,
    /// A session cookie is presented by another visitor than the one it was issued to.
    pub session_presented: DetectorAction,
}

/// When blocks stop the admissions of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeakBreaker {
    /// Whether they do.
    pub action: BreakerAction,
    /// So many visitors.
    pub visitors: usize,
    /// From so many client prefixes.
    pub networks: usize,
    /// Within this time.
    pub within: Duration,
    /// After so long without a block, admissions begin again.
    pub quiet: Duration,
}

/// What many blocks lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerAction {
    /// Nobody enters any more.
    Stop,
    /// It is reported.
    Alarm,
}

/// Where findings are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFile {
    /// The file of the present; older ones lie beside it.
    pub file: PathBuf,
    /// The key of its hashes.
    pub key: PathBuf,
    /// How long files are kept.
    pub retention: Duration,
    /// Bytes of one file at most.
    pub max_bytes: usize,
    /// Files at most, the one of the present included.
    pub max_files: usize,
}

/// What is done when the edge keeps personal pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryAction {
    /// Nobody enters any more.
    Stop,
    /// It is reported.
    Alarm,
    /// Nobody looks.
    Off,
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// `json` or `text`.
    pub json: bool,
    /// Whether every request is logged.
    pub access: bool,
    /// Whether client addresses are cut to /24 and /48.
    pub truncate_addresses: bool,
}
