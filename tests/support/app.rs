//! The whole program in this process: real sockets, a fake portal, a clock that only the test moves, and visitors with
//! cookie jars. Nothing here sleeps until something is ready: time passes when [`Running::advance`] says so.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anticamera::admin::ReloadAnswer;
use anticamera::app::{App, StartError};
use anticamera::clock::{Clock, ManualClock};
use anticamera::config;
use anticamera::domain::time::Unix;
use anticamera::store::StoreError;
use anticamera::telemetry::log::{Log, LogWriter};
use anticamera::telemetry::metrics::Metrics;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::portal::FakePortal;

/// The room of most tests.
pub const ROOM: &str = "fair";
/// How long, in real time, anything may take that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The clock's first instant, in the year 2030: later than the time stamps of files that tests write.
const BEGINNING: Unix = Unix(1_900_000_000_000);
const STEP: Duration = Duration::from_millis(100);

/// What to start; text that goes into the configuration file as it stands.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Lines of `[server]`.
    pub server: String,
    /// Lines of `[server.limits]`.
    pub limits: String,
    /// The portal's address when it is not the fake portal's own.
    pub portal_url: Option<String>,
    /// Lines of `[portal]`.
    pub portal: String,
    /// `admission_rate` of the room.
    pub rate: String,
    /// Lines of the room.
    pub room: String,
    /// Whatever else the file says, after the room.
    pub more: String,
}

/// A room of so many entries, written as in the file: `10/s`.
pub fn room_of(rate: &str) -> Setup {
    Setup {
        server: String::new(),
        limits: "drain_timeout = \"2s\"\n".to_owned(),
        portal_url: None,
        portal: String::new(),
        rate: rate.to_owned(),
        room: String::new(),
        more: String::new(),
    }
}

impl Setup {
    /// Adds lines to the room.
    pub fn with(mut self, lines: &str) -> Setup {
        self.room.push_str(lines);
        self.room.push('\n');
        self
    }

    /// Adds lines to `[server]`.
    pub fn with_server(mut self, lines: &str) -> Setup {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// Adds lines to `[server.limits]`.
    pub fn with_limits(mut self, lines: &str) -> Setup {
        self.limits.push_str(lines);
        self.limits.push('\n');
        self
    }

    /// Another address of the portal.
    pub fn with_portal_url(self, url: &str) -> Setup {
        Setup { portal_url: Some(url.to_owned()), ..self }
    }

    /// Adds lines to `[portal]`.
    pub fn with_portal(mut self, lines: &str) -> Setup {
        self.portal.push_str(lines);
        self.portal.push('\n');
        self
    }

    /// Adds whole tables at the end of the file.
    pub fn with_more(mut self, lines: &str) -> Setup {
        self.more.push_str(lines);
        self.more.push('\n');
        self
    }

    fn text(&self, portal: SocketAddr) -> String {
        let portal = self.portal_url.clone().unwrap_or_else(|| format!("http://{portal}"));
        format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nthreads = 1\n{}\n\
             [server.limits]\n{}\n\
             [portal]\nurl = \"{portal}\"\n{}\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n\
             [tokens]\nactivate_after = \"0s\"\n\
             [[room]]\nname = \"{ROOM}\"\npaths = [\"/fair/**\"]\nadmission_rate = \"{}\"\n{}\n{}\n",
            self.server, self.limits, self.portal, self.rate, self.room, self.more
        )
    }

    /// Starts it with a directory and a portal of its own, and lets one second pass, so that the budget is full.
    pub async fn start(self) -> Running {
        self.start_in(directory()).await
    }

    /// The same in this directory.
    pub async fn start_in(self, directory: tempfile::TempDir) -> Running {
        let portal = FakePortal::start().await;
        let clock = ManualClock::starting_at(BEGINNING);
        let running = self.start_on(directory, portal, clock).await;
        running.advance(Duration::from_secs(1)).await;
        running
    }

    /// Starts it where another left off.
    pub async fn start_on(self, directory: tempfile::TempDir, portal: FakePortal, clock: ManualClock) -> Running {
        let file = directory.path().join("config.toml");
        std::fs::write(&file, self.text(portal.address)).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let (log, writer) = Log::start(std::io::sink(), metrics.log_lines_dropped()).unwrap();
        let config = config::load(&file).unwrap_or_else(|faults| panic!("{faults}"));
        let app = start_patiently(&config, &file, &clock, &log, &metrics).await;
        // The pacer gets to the point where it waits for the clock.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        Running {
            address: app.addresses[0],
            admin: app.admin_address.unwrap(),
            app,
            clock,
            portal,
            metrics,
            directory,
            file,
            setup: self,
            answered: Arc::default(),
            _writer: writer,
        }
    }
}

/// A directory in memory where there is one: a disk that other work keeps busy for seconds is another test's matter.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A program that crashed lets go of its file a moment later.
async fn start_patiently(
    config: &config::Config,
    file: &std::path::Path,
    clock: &ManualClock,
    log: &Log,
    metrics: &Arc<Metrics>,
) -> App {
    let attempts = async {
        loop {
            let clock = Clock::Manual(clock.clone());
            match App::start(config.clone(), Some(file), clock, log.clone(), metrics.clone()).await {
                Ok(app) => return app,
                Err(StartError::Store(StoreError::InUse { .. })) => tokio::time::sleep(STEP / 10).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(PATIENCE, attempts).await.expect("the state is free")
}

/// The program while it runs.
pub struct Running {
    /// Where visitors reach it.
    pub address: SocketAddr,
    /// Its private listener.
    pub admin: SocketAddr,
    /// The program.
    pub app: App,
    /// Its clock.
    pub clock: ManualClock,
    /// What it protects.
    pub portal: FakePortal,
    /// Its figures.
    pub metrics: Arc<Metrics>,
    /// Where configuration, keys and state lie.
    pub directory: tempfile::TempDir,
    /// The configuration file.
    pub file: PathBuf,
    /// What the file says.
    pub setup: Setup,
    answered: Arc<AtomicUsize>,
    _writer: LogWriter,
}

impl Running {
    /// Lets time pass, a tick after the other.
    pub async fn advance(&self, span: Duration) {
        for _ in 0..span.as_millis() / STEP.as_millis() {
            let mut ticks = self.app.ticks.clone();
            let before = *ticks.borrow_and_update();
            self.clock.advance(STEP);
            let ticked = timeout(PATIENCE, ticks.wait_for(|tick| *tick > before)).await;
            ticked.expect("the pacer ticks").unwrap();
        }
    }

    /// Lets so many seconds pass, and what they set off come to rest.
    pub async fn seconds(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds)).await;
        self.rest().await;
    }

    /// Gives everything that is under way the time to come to rest. The one request thread answers in the order in
    /// which it is woken, so that an answer of its own tells that what was woken before has run; at rest is when that
    /// goes on for a while without anything reaching the portal or a visitor. What waits for the clock goes on waiting.
    pub async fn rest(&self) {
        let seen = || (self.portal.connections(), self.portal.seen().len(), self.answered.load(Ordering::SeqCst));
        let bystander = Visitor { answered: Arc::default(), ..self.visitor() };
        let mut quiet = 0;
        let mut before = seen();
        while quiet < 4 {
            bystander.request("GET", "/.waiting-room/health").send().await;
            let now = seen();
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
    }

    /// Lets time pass until the answer is there, and says how long that took.
    pub async fn until(&self, answer: JoinHandle<Answer>, longest: Duration) -> (Answer, Duration) {
        let mut passed = Duration::ZERO;
        self.rest().await;
        while !answer.is_finished() {
            assert!(passed < longest, "no answer within {longest:?}");
            self.advance(STEP).await;
            passed += STEP;
            self.rest().await;
        }
        (answer.await.unwrap(), passed)
    }

    /// Somebody who has entered, and come once more.
    pub async fn insider(&self) -> Visitor {
        let visitor = self.visitor();
        for _ in 0..2 {
            let (answer, _) = self.until(visitor.navigate("/fair/").begin(), Duration::from_secs(5)).await;
            assert!(answer.is_the_portals(), "{answer:?}");
        }
        visitor
    }

    /// Somebody new.
    pub fn visitor(&self) -> Visitor {
        Visitor { to: self.address, from: Ipv4Addr::LOCALHOST, jar: Arc::default(), answered: self.answered.clone() }
    }

    /// The value of one line of `/metrics`, such as `calls_total{class="citizen",room="fair"}`; 0 when there is none.
    pub fn metric(&self, line: &str) -> f64 {
        let text = self.metrics.encode().unwrap();
        let name = format!("anticamera_{line} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0.0)
    }

    /// A figure of the room's only lane.
    pub fn lane(&self, name: &str) -> f64 {
        self.metric(&format!("{name}{{class=\"citizen\",room=\"{ROOM}\"}}"))
    }

    /// Tokens rejected so far for this reason.
    pub fn rejected(&self, reason: &str) -> f64 {
        self.metric(&format!("token_rejections_total{{reason=\"{reason}\"}}"))
    }

    /// The public board as the last of the ticks that bring it up to date has it: every tenth, and a little later in
    /// real time.
    pub async fn board(&self) -> Value {
        let ticks_since = u32::try_from((*self.app.ticks.borrow()).saturating_sub(1) % 10).unwrap();
        let brought_up_to_date = self.clock.now().wall.0 - (STEP * ticks_since).as_millis() as u64;
        let shown = jiff::Timestamp::from_second((brought_up_to_date / 1000).cast_signed()).unwrap();
        let fresh = async {
            loop {
                let answer = self.visitor().script("GET", &format!("/.waiting-room/board/{ROOM}")).send().await;
                let board = answer.json();
                let updated_at: jiff::Timestamp = board["updated_at"].as_str().unwrap().parse().unwrap();
                if updated_at >= shown {
                    return board;
                }
            }
        };
        timeout(PATIENCE, fresh).await.expect("the board is brought up to date")
    }

    /// Requests that reached the portal below the room's path.
    pub fn entered(&self) -> usize {
        self.portal.seen().iter().filter(|seen| seen.target.starts_with("/fair")).count()
    }

    /// Writes the file anew.
    pub fn write(&self, setup: &Setup) {
        std::fs::write(&self.file, setup.text(self.portal.address)).unwrap();
    }

    /// Writes the file anew and has it read.
    pub async fn reload(&self, setup: &Setup) -> ReloadAnswer {
        self.write(setup);
        self.app.reload().await
    }

    /// A request to the private listener.
    pub async fn operate(&self, method: &str, path: &str) -> Answer {
        at(&self.visitor(), self.admin).request(method, path).send().await
    }

    /// Stops it properly and starts it again.
    pub async fn restart(self) -> Running {
        let Running { app, clock, portal, directory, setup, .. } = self;
        app.stop().await.unwrap();
        setup.start_on(directory, portal, clock).await
    }

    /// Ends it without a chance to save anything, and starts it again.
    pub async fn crash(self) -> Running {
        let Running { app, clock, portal, directory, setup, .. } = self;
        app.abandon();
        setup.start_on(directory, portal, clock).await
    }
}

/// Somebody with a cookie jar. Clones share it: tabs of one browser.
#[derive(Clone)]
pub struct Visitor {
    to: SocketAddr,
    from: Ipv4Addr,
    jar: Arc<Mutex<BTreeMap<String, String>>>,
    answered: Arc<AtomicUsize>,
}

impl Visitor {
    /// The same visitor at another address of loopback.
    pub fn from(self, address: Ipv4Addr) -> Visitor {
        Visitor { from: address, ..self }
    }

    /// The same visitor, whose program listens elsewhere now.
    pub fn at(self, running: &Running) -> Visitor {
        Visitor { to: running.address, answered: running.answered.clone(), ..self }
    }

    /// Another browser with a copy of the cookies.
    pub fn copy(&self) -> Visitor {
        Visitor { jar: Arc::new(Mutex::new(self.jar.lock().unwrap().clone())), ..self.clone() }
    }

    /// The value of one of our cookies: `ticket`, `turn` or `pass`.
    pub fn token(&self, kind: &str) -> Option<String> {
        self.jar.lock().unwrap().get(&cookie(kind)).cloned()
    }

    /// Puts a value into one of our cookies.
    pub fn hold(&self, kind: &str, value: &str) {
        self.jar.lock().unwrap().insert(cookie(kind), value.to_owned());
    }

    /// Loses one of our cookies.
    pub fn lose(&self, kind: &str) {
        self.jar.lock().unwrap().remove(&cookie(kind));
    }

    /// A request without any headers but Host.
    pub fn request(&self, method: &str, target: &str) -> Asking {
        let (method, target) = (method.to_owned(), target.to_owned());
        Asking { visitor: self.clone(), method, target, headers: Vec::new(), body: Vec::new() }
    }

    fn browsing(&self, method: &str, target: &str, mode: &str, dest: &str, accept: &str) -> Asking {
        let asking = self.request(method, target).header("Sec-Fetch-Site", "same-origin");
        asking.header("Sec-Fetch-Mode", mode).header("Sec-Fetch-Dest", dest).header("Accept", accept)
    }

    /// A browser goes to a page.
    pub fn navigate(&self, target: &str) -> Asking {
        self.browsing("GET", target, "navigate", "document", "text/html,*/*;q=0.8")
    }

    /// A script of a page asks.
    pub fn script(&self, method: &str, target: &str) -> Asking {
        self.browsing(method, target, "cors", "empty", "*/*")
    }

    /// A page shows a picture.
    pub fn image(&self, target: &str) -> Asking {
        self.browsing("GET", target, "no-cors", "image", "image/*,*/*;q=0.8")
    }

    /// An app asks: no fetch metadata.
    pub fn app(&self, method: &str, target: &str) -> Asking {
        self.request(method, target).header("Accept", "application/json")
    }

    /// A form is sent.
    pub fn form(&self, target: &str, fields: &str) -> Asking {
        let form = self.browsing("POST", target, "navigate", "document", "text/html,*/*;q=0.8");
        form.header("Content-Type", "application/x-www-form-urlencoded").body(fields)
    }

    /// The page's script joins.
    pub async fn join(&self) -> Answer {
        self.script("POST", &own("join")).send().await
    }

    /// The page's script asks where the visitor stands.
    pub fn poll(&self) -> Asking {
        self.script("POST", &own("status"))
    }
}

/// The same visitor, asking another address.
pub fn at(visitor: &Visitor, address: SocketAddr) -> Visitor {
    Visitor { to: address, ..visitor.clone() }
}

/// One of our own paths for the room.
pub fn own(name: &str) -> String {
    format!("/.waiting-room/{name}?room={ROOM}")
}

/// The name of one of our cookies on plain HTTP.
pub fn cookie(kind: &str) -> String {
    format!("anticamera-{kind}-{ROOM}")
}

/// A request that is being put together.
#[derive(Clone)]
pub struct Asking {
    visitor: Visitor,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Asking {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Asking {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends this body.
    pub fn body(mut self, body: &str) -> Asking {
        self.body = body.as_bytes().to_vec();
        self
    }

    /// Sends this JSON.
    pub fn json(self, body: &Value) -> Asking {
        self.header("Content-Type", "application/json").body(&body.to_string())
    }

    /// The bytes that go over the wire.
    fn bytes(&self, connection: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let has = |name: &str| self.headers.iter().any(|(line, _)| line.eq_ignore_ascii_case(name));
        if !has("host") {
            head.push_str(&format!("Host: {}\r\n", self.visitor.to));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let jar = self.visitor.jar.lock().unwrap();
        if !jar.is_empty() {
            let pairs: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            head.push_str(&format!("Cookie: {}\r\n", pairs.join("; ")));
        }
        if !self.body.is_empty() || self.method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str(&format!("Connection: {connection}\r\n\r\n"));
        [head.as_bytes(), &self.body].concat()
    }

    /// Sends it on a connection of its own and waits for the answer.
    pub async fn send(self) -> Answer {
        let mut wire = Wire::open(&self.visitor).await;
        wire.stream.write_all(&self.bytes("close")).await.unwrap();
        self.received(timeout(PATIENCE, wire.answer(&self.method)).await.expect("an answer"))
    }

    /// Sends it and lets the test go on.
    pub fn begin(self) -> JoinHandle<Answer> {
        tokio::spawn(self.send())
    }

    /// Sends it on a connection that stays open.
    pub async fn on(self, wire: &mut Wire) -> Answer {
        wire.stream.write_all(&self.bytes("keep-alive")).await.unwrap();
        self.received(timeout(PATIENCE, wire.answer(&self.method)).await.expect("an answer"))
    }

    fn received(&self, answer: Answer) -> Answer {
        let mut jar = self.visitor.jar.lock().unwrap();
        for line in answer.all("set-cookie") {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("Max-Age=0;") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        self.visitor.answered.fetch_add(1, Ordering::SeqCst);
        answer
    }
}

/// A connection.
pub struct Wire {
    stream: TcpStream,
    left: Vec<u8>,
}

impl Wire {
    /// Connects as this visitor.
    pub async fn open(visitor: &Visitor) -> Wire {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(visitor.from.into(), 0)).unwrap();
        let stream = socket.connect(visitor.to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { stream, left: Vec::new() }
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16384];
        let read = self.stream.read(&mut buffer).await.unwrap_or(0);
        self.left.extend_from_slice(&buffer[..read]);
        read > 0
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.left.windows(2).position(|end| end == b"\r\n") {
                let line: Vec<u8> = self.left.drain(..end + 2).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            assert!(self.more().await, "the connection was closed in an answer's head");
        }
    }

    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.left.len() < count {
            assert!(self.more().await, "the connection was closed in an answer's body");
        }
        self.left.drain(..count).collect()
    }

    async fn answer(&mut self, method: &str) -> Answer {
        let status = self.line().await.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if method == "HEAD" || status == 204 || status == 304 {
            return answer;
        }
        answer.body = match (answer.header("transfer-encoding"), answer.header("content-length")) {
            (Some(_), _) => self.chunks().await,
            (None, Some(length)) => self.bytes(length.parse().unwrap()).await,
            (None, None) => {
                while self.more().await {}
                std::mem::take(&mut self.left)
            }
        };
        answer
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(self.line().await.split(';').next().unwrap(), 16).unwrap();
            body.extend(self.bytes(size).await);
            self.line().await;
            if size == 0 {
                return body;
            }
        }
    }
}

/// An answer as it came.
#[derive(Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cookies: Vec<&str> = self.all("set-cookie").collect();
        let start: String = self.text().split("<body>").last().unwrap_or_default().chars().take(600).collect();
        write!(f, "{} {:?} {cookies:?} {start:?}", self.status, self.header("content-type"))
    }
}

impl Answer {
    /// The value of a header that comes once.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(line, _)| line == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(line, _)| line == name).map(|(_, value)| value.as_str())
    }

    /// The `Set-Cookie` line for one of our cookies.
    pub fn sets(&self, kind: &str) -> Option<&str> {
        let start = format!("{}=", cookie(kind));
        self.all("set-cookie").find(|line| line.starts_with(&start))
    }

    /// Whether the answer takes one of our cookies away.
    pub fn deletes(&self, kind: &str) -> bool {
        self.sets(kind)
            .is_some_and(|line| line.starts_with(&format!("{}=;", cookie(kind))) && line.contains("Max-Age=0"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text()))
    }

    /// The `queue` object.
    pub fn queue(&self) -> Value {
        self.json()["queue"].clone()
    }

    /// The queue's state.
    pub fn state(&self) -> String {
        self.queue()["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether it leaves with the one policy of personal answers.
    pub fn is_personal(&self) -> bool {
        let policy = self.header("cache-control").unwrap_or_default();
        policy.contains("private") && policy.contains("no-store")
    }

    /// Whether the portal gave it.
    pub fn is_the_portals(&self) -> bool {
        self.status == 200 && self.body == b"hello"
    }
}

/// What a token says, without its signature: 46 bytes.
pub fn fields_of(token: &str) -> Vec<u8> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).unwrap();
    bytes[..46].to_vec()
}

/// The identity in a token.
pub fn identity_of(token: &str) -> Vec<u8> {
    fields_of(token)[6..22].to_vec()
}

/// The ticket number in a token.
pub fn number_of(token: &str) -> u64 {
    u64::from_be_bytes(fields_of(token)[22..30].try_into().unwrap())
}
