//! A fake portal on a port of its own: it records what reached it and misbehaves on request, by path.
//!
//! Without a script it answers 200 `hello`. A few paths answer by themselves: `/echo` (length and SHA-256 of the body
//! that came), `/status/NNN`, `/bytes/N` (N bytes, length-framed), `/ws` (agrees to a WebSocket and sends back what
//! comes).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anticamera::clock::{Clock, ManualClock};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The fake portal. Dropping it closes its port; connections that stand go on.
pub struct FakePortal {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    scripts: Mutex<HashMap<String, Vec<Script>>>,
    seen: Mutex<Vec<Seen>>,
    arrived: watch::Sender<usize>,
    traits: Mutex<Vec<(String, String)>>,
    calibrations: watch::Sender<usize>,
    connections: AtomicUsize,
    sent: AtomicU64,
}

/// A request as it reached the portal, in the order of its head's arrival.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The connection it came on, counted from 0.
    pub connection: usize,
    /// `GET`
    pub method: String,
    /// The target as written.
    pub target: String,
    /// `HTTP/1.1`
    pub version: String,
    /// Header lines in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body that arrived.
    pub length: u64,
    /// SHA-256 of them in hexadecimal digits, once the body came to its end.
    pub hash: Option<String>,
    /// Trailer lines.
    pub trailers: Vec<(String, String)>,
}

impl Seen {
    /// The value of a header that came once at most.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter().filter(|(line, _)| line == name);
        let value = lines.next().map(|(_, value)| value.as_str());
        assert!(lines.next().is_none(), "{name} came more than once");
        value
    }
}

/// What the portal does with a request.
#[derive(Clone, Debug)]
pub struct Script {
    reading: Reading,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Reading {
    BeforeTheAnswer,
    AfterTheAnswer,
    Never,
}

/// One step of an answer.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends so many bytes of filler.
    Fill(u64),
    /// Sends these bytes one by one with a pause before each.
    Trickle(Vec<u8>, Duration),
    /// Waits.
    Pause(Duration),
    /// Waits until the test says go.
    Gate(watch::Receiver<bool>),
    /// Waits by the test's clock, for so many milliseconds as are said when the request comes.
    Takes(ManualClock, Arc<AtomicU64>),
    /// Waits until the other side closes.
    Hang,
    /// Closes the connection properly.
    Close,
    /// Resets the connection.
    Reset,
    /// Sends back whatever comes until the other side closes.
    Echo,
}

impl Script {
    /// Reads the request to its end, then takes these steps.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Script {
        Script { reading: Reading::BeforeTheAnswer, steps: steps.into_iter().collect() }
    }

    /// Reads the request to its end, then sends this text as it stands.
    pub fn raw(text: &str) -> Script {
        Script::new([Step::Send(text.as_bytes().to_vec())])
    }

    /// A length-framed answer.
    pub fn answer(status: u16, headers: &str, body: &str) -> Script {
        Script::raw(&format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()))
    }

    /// Takes the steps as soon as the head is there and reads the body afterwards.
    pub fn early(mut self) -> Script {
        self.reading = Reading::AfterTheAnswer;
        self
    }

    /// Never reads the body.
    pub fn deaf(mut self) -> Script {
        self.reading = Reading::Never;
        self
    }
}

/// A gate for [`Step::Gate`]: send `true` to open it.
pub fn gate() -> (watch::Sender<bool>, Step) {
    let (open, opened) = watch::channel(false);
    (open, Step::Gate(opened))
}

impl FakePortal {
    /// Starts on a free port of loopback, in the runtime of the caller.
    pub async fn start() -> FakePortal {
        FakePortal::on("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts on a given address: a portal that comes back.
    pub async fn on(address: SocketAddr) -> FakePortal {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        FakePortal { address, shared, accepting }
    }

    /// What to do with requests for a path (without query). Given several scripts, each is used once, the last for
    /// ever.
    pub fn script(&self, path: &str, scripts: impl IntoIterator<Item = Script>) {
        let mut scripts: Vec<Script> = scripts.into_iter().collect();
        scripts.reverse();
        self.shared.scripts.lock().unwrap().insert(path.to_owned(), scripts);
    }

    /// Header lines that it puts on the answer to a path that nobody ever asked for.
    pub fn has_traits(&self, lines: &str) {
        self.has_traits_below("/", lines);
    }

    /// The same, below a folder only.
    pub fn has_traits_below(&self, folder: &str, lines: &str) {
        self.shared.traits.lock().unwrap().push((folder.to_owned(), lines.to_owned()));
    }

    /// Everything that has reached the portal.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How much has reached the portal: connections and requests.
    pub fn asked(&self) -> usize {
        self.connections() + self.shared.seen.lock().unwrap().len()
    }

    /// The one request for a target.
    pub fn one(&self, target: &str) -> Seen {
        let mut found: Vec<Seen> = self.seen().into_iter().filter(|seen| seen.target == target).collect();
        assert_eq!(found.len(), 1, "requests for {target}");
        found.remove(0)
    }

    /// Waits until so many heads have arrived.
    pub async fn arrived(&self, count: usize) {
        let mut arrived = self.shared.arrived.subscribe();
        arrived.wait_for(|so_far| *so_far >= count).await.unwrap();
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes that the other sides' systems have taken so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Drop for FakePortal {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let shared = Arc::clone(&shared);
        // The other side may break off at any time: that is what tests are about.
        tokio::spawn(async move {
            drop(Conversation { stream: BufReader::new(stream), shared, number: 0, counted: false }.run().await)
        });
    }
}

struct Conversation {
    stream: BufReader<TcpStream>,
    shared: Arc<Shared>,
    number: usize,
    counted: bool,
}

/// What follows a script.
enum Then {
    NextRequest,
    Close,
}

impl Conversation {
    async fn run(mut self) -> io::Result<()> {
        while let Some(index) = self.read_head().await? {
            let script = self.script(index);
            if script.reading == Reading::BeforeTheAnswer {
                self.read_body(index).await?;
            }
            let steps = self.with_facts(script.steps, index);
            if let Then::Close = self.play(steps).await? {
                return Ok(());
            }
            match script.reading {
                Reading::BeforeTheAnswer => {}
                Reading::AfterTheAnswer => self.read_body(index).await?,
                Reading::Never => return self.hang().await,
            }
        }
        Ok(())
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).await?;
        Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
    }

    async fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        while let Some(line) = self.line().await?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(fields)
    }

    async fn read_head(&mut self) -> io::Result<Option<usize>> {
        let Some(line) = self.line().await? else { return Ok(None) };
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let (method, target, version) = (word(), word(), word());
        let headers = self.fields().await?;
        if target.contains("/anticamera-calibration-") {
            self.calibrate(&target).await?;
            return Ok(None);
        }
        if !std::mem::replace(&mut self.counted, true) {
            self.number = self.shared.connections.fetch_add(1, Ordering::SeqCst);
        }
        let seen = Seen { connection: self.number, method, target, version, headers, ..Seen::default() };
        let index = {
            let mut all = self.shared.seen.lock().unwrap();
            all.push(seen);
            all.len() - 1
        };
        self.shared.arrived.send_modify(|arrived| *arrived += 1);
        Ok(Some(index))
    }

    /// Answers the proxy's own question, of which tests see nothing.
    async fn calibrate(&mut self, target: &str) -> io::Result<()> {
        let traits: String = {
            let traits = self.shared.traits.lock().unwrap();
            traits.iter().filter(|(folder, _)| target.starts_with(folder)).map(|(_, lines)| lines.as_str()).collect()
        };
        let answer = format!("HTTP/1.1 404 X\r\nContent-Length: 0\r\n{traits}Connection: close\r\n\r\n");
        self.shared.calibrations.send_modify(|asked| *asked += 1);
        self.stream.write_all(answer.as_bytes()).await
    }

    fn record(&self, index: usize, note: impl FnOnce(&mut Seen)) {
        note(&mut self.shared.seen.lock().unwrap()[index]);
    }

    fn seen(&self, index: usize) -> Seen {
        self.shared.seen.lock().unwrap()[index].clone()
    }

    async fn read_body(&mut self, index: usize) -> io::Result<()> {
        let seen = self.seen(index);
        let mut hash = Sha256::new();
        if seen.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let size = u64::from_str_radix(&line, 16).map_err(io::Error::other)?;
                if size == 0 {
                    break;
                }
                self.read_piece(index, size, &mut hash).await?;
                self.line().await?;
            }
            let trailers = self.fields().await?;
            self.record(index, |seen| seen.trailers = trailers);
        } else if let Some(length) = seen.header("content-length") {
            self.read_piece(index, length.parse().map_err(io::Error::other)?, &mut hash).await?;
        }
        self.record(index, |seen| seen.hash = Some(hex(&hash.finalize())));
        Ok(())
    }

    async fn read_piece(&mut self, index: usize, mut size: u64, hash: &mut Sha256) -> io::Result<()> {
        let mut buffer = vec![0; 65536];
        while size > 0 {
            let wanted = buffer.len().min(usize::try_from(size).unwrap_or(usize::MAX));
            let read = self.stream.read(&mut buffer[..wanted]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hash.update(&buffer[..read]);
            size -= read as u64;
            self.record(index, |seen| seen.length += read as u64);
        }
        Ok(())
    }

    fn script(&self, index: usize) -> Script {
        let target = self.seen(index).target;
        let path = target.split('?').next().unwrap_or_default();
        let mut scripts = self.shared.scripts.lock().unwrap();
        match scripts.get_mut(path) {
            Some(left) if left.len() > 1 => left.pop().unwrap(),
            Some(left) => left[0].clone(),
            None => unscripted(path),
        }
    }

    /// Fills in what only the request tells: `/echo`, and that `HEAD` has no body.
    fn with_facts(&self, steps: Vec<Step>, index: usize) -> Vec<Step> {
        let seen = self.seen(index);
        if seen.target == "/echo" {
            let facts = format!("{} {}", seen.length, seen.hash.unwrap_or_default());
            return Script::answer(200, "", &facts).steps;
        }
        if seen.method != "HEAD" {
            return steps;
        }
        let head =
            |bytes: &[u8]| bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|at| bytes[..at + 4].to_vec());
        steps
            .into_iter()
            .filter_map(|step| match step {
                Step::Send(bytes) => head(&bytes).map(Step::Send),
                Step::Fill(_) => None,
                other => Some(other),
            })
            .collect()
    }

    async fn play(&mut self, steps: Vec<Step>) -> io::Result<Then> {
        for step in steps {
            match step {
                Step::Send(bytes) => self.send(&bytes).await?,
                Step::Fill(mut count) => {
                    let filler = [b'x'; 16384];
                    while count > 0 {
                        let size = filler.len().min(usize::try_from(count).unwrap_or(usize::MAX));
                        self.send(&filler[..size]).await?;
                        count -= size as u64;
                    }
                }
                Step::Trickle(bytes, pause) => {
                    for byte in bytes {
                        tokio::time::sleep(pause).await;
                        self.send(&[byte]).await?;
                    }
                }
                Step::Pause(span) => tokio::time::sleep(span).await,
                Step::Gate(mut opened) => drop(opened.wait_for(|open| *open).await),
                Step::Takes(clock, millis) => {
                    Clock::Manual(clock).sleep(Duration::from_millis(millis.load(Ordering::SeqCst))).await;
                }
                Step::Hang => {
                    self.hang().await?;
                    return Ok(Then::Close);
                }
                Step::Close => return Ok(Then::Close),
                Step::Reset => {
                    socket2::SockRef::from(self.stream.get_ref()).set_linger(Some(Duration::ZERO))?;
                    return Ok(Then::Close);
                }
                Step::Echo => {
                    self.echo().await?;
                    return Ok(Then::Close);
                }
            }
        }
        Ok(Then::NextRequest)
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let written = self.stream.write(left).await?;
            self.shared.sent.fetch_add(written as u64, Ordering::SeqCst);
            left = &left[written..];
        }
        self.stream.flush().await
    }

    /// Takes nothing more, and notices only that the other side is gone.
    async fn hang(&mut self) -> io::Result<()> {
        let mut byte = [0];
        while self.stream.get_ref().peek(&mut byte).await? > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn echo(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let read = self.stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            self.send(&buffer[..read]).await?;
        }
    }
}

fn unscripted(path: &str) -> Script {
    let after = |prefix: &str| path.strip_prefix(prefix).and_then(|number| number.parse::<u64>().ok());
    if let Some(status) = after("/status/") {
        return Script::answer(u16::try_from(status).unwrap(), "", "");
    }
    if let Some(count) = after("/bytes/") {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n");
        return Script::new([Step::Send(head.into_bytes()), Step::Fill(count)]);
    }
    if path == "/ws" {
        let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        return Script::new([Step::Send(agreed.into()), Step::Echo]);
    }
    Script::answer(200, "Content-Type: text/html\r\n", "hello")
}

/// SHA-256 in hexadecimal digits, as [`Seen::hash`] has it.
pub fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
