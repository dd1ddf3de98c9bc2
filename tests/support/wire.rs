//! A visitor who speaks HTTP/1.1 by hand over one socket, so that tests see exactly what is sent and what comes.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long a busy machine may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connection.
pub struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Default)]
pub struct Reply {
    /// `200`
    pub status: u16,
    /// Header lines in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body without framing.
    pub body: Vec<u8>,
    /// Trailer lines.
    pub trailers: Vec<(String, String)>,
    /// Whether it came to its end.
    pub whole: bool,
}

impl Reply {
    /// The value of a header that came once at most.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} came more than once: {values:?}");
        values.first().copied()
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(line, _)| line == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The value of a cookie that it sets.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let mut set = self.all("set-cookie").into_iter().filter_map(|line| line.split(';').next()?.split_once('='));
        set.rfind(|(set, _)| *set == name).map(|(_, value)| value)
    }

    /// Checks that it leaves with the one policy of personal answers.
    #[track_caller]
    pub fn assert_personal(&self) {
        let policy = "private, no-store, no-cache, must-revalidate, max-age=0";
        assert_eq!(self.all("cache-control"), [policy], "{self:?}");
        for (name, value) in [("pragma", "no-cache"), ("expires", "0"), ("age", "0"), ("vary", "*")] {
            assert_eq!(self.all(name), [value], "{name}: {self:?}");
        }
        for gone in ["etag", "last-modified", "warning", "x-cache"] {
            assert_eq!(self.header(gone), None, "{gone}");
        }
    }
}

impl Wire {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Wire {
        Wire::over(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
    }

    /// Connects from another address of loopback.
    pub fn connect_from(from: std::net::Ipv4Addr, address: SocketAddr) -> Wire {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from.into(), 0).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Wire::over(socket.into())
    }

    /// Connects as somebody whose system takes almost nothing ahead.
    pub fn connect_narrow(address: SocketAddr) -> Wire {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        Wire::over(socket.into())
    }

    fn over(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire { stream, read: Vec::new() }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the other side has broken off.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends bytes; false when the other side has broken off.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Breaks off with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads more; false at the end, however it came.
    fn more(&mut self) -> bool {
        let mut piece = vec![0; 64 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&piece[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came for {PATIENCE:?}; so far {:?}", String::from_utf8_lossy(&self.read))
            }
            Err(_) => false,
        }
    }

    /// Reads on until the other side ends, and returns what came.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.read)
    }

    /// Whether the other side has nothing more to say and has closed.
    pub fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }

    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return Some(self.read.drain(..at + end.len()).collect());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// Reads so many bytes.
    pub fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if !self.more() {
                return None;
            }
        }
        Some(self.read.drain(..count).collect())
    }

    /// Reads so many bytes and throws them away.
    pub fn skip(&mut self, mut count: u64) -> bool {
        let mut piece = vec![0; 256 * 1024];
        let here = self.read.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        self.read.drain(..here);
        count -= here as u64;
        while count > 0 {
            let most = piece.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            match self.stream.read(&mut piece[..most]) {
                Ok(0) | Err(_) => return false,
                Ok(read) => count -= read as u64,
            }
        }
        true
    }

    /// The head of an answer, or `None` when the other side ended first.
    pub fn try_head(&mut self) -> Option<Reply> {
        let head = String::from_utf8_lossy(&self.until(b"\r\n\r\n")?).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.get(9..12)?.parse().ok()?;
        Some(Reply { status, headers: lines.filter_map(field).collect(), ..Reply::default() })
    }

    /// The head of an answer.
    pub fn head(&mut self) -> Reply {
        self.try_head().expect("an answer")
    }

    /// An answer to anything but HEAD, or `None` when the other side ended first.
    pub fn try_head_and_body(&mut self) -> Option<Reply> {
        let mut reply = self.try_head()?;
        reply.whole = self.body(&mut reply).is_some();
        Some(reply)
    }

    /// An answer to anything but HEAD.
    pub fn reply(&mut self) -> Reply {
        let mut reply = self.head();
        reply.whole = self.body(&mut reply).is_some();
        reply
    }

    fn body(&mut self, reply: &mut Reply) -> Option<()> {
        if reply.header("transfer-encoding") == Some("chunked") {
            assert_eq!(reply.header("content-length"), None);
            return self.chunks(reply);
        }
        if reply.status == 304 || reply.status == 204 {
            return Some(());
        }
        if let Some(length) = reply.header("content-length") {
            let length = length.parse().unwrap();
            let body = self.exactly(length);
            reply.body = body.unwrap_or_else(|| std::mem::take(&mut self.read));
            return (reply.body.len() == length).then_some(());
        }
        reply.body = self.rest();
        None
    }

    /// One chunk, empty at the end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.until(b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
        if size == 0 {
            return Some(Vec::new());
        }
        let chunk = self.exactly(size)?;
        self.exactly(2)?;
        Some(chunk)
    }

    fn chunks(&mut self, reply: &mut Reply) -> Option<()> {
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                break;
            }
            reply.body.extend(chunk);
        }
        loop {
            let line = String::from_utf8(self.until(b"\r\n")?).unwrap();
            match field(line.trim_end()) {
                Some(trailer) => reply.trailers.push(trailer),
                None => return Some(()),
            }
        }
    }
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// A browser: keeps cookies, asks for pages.
pub struct Visitor {
    address: SocketAddr,
    /// The host it believes to talk to.
    pub host: &'static str,
    /// Its cookies by name.
    pub cookies: BTreeMap<String, String>,
}

impl Visitor {
    /// Somebody new.
    pub fn new(address: SocketAddr) -> Visitor {
        Visitor { address, host: "portal.example", cookies: BTreeMap::new() }
    }

    /// Somebody new who has been let in by asking for this page.
    #[track_caller]
    pub fn inside(address: SocketAddr, page: &str) -> Visitor {
        let mut visitor = Visitor::new(address);
        let reply = visitor.get(page);
        assert!(visitor.pass().is_some(), "no pass for {page}: {reply:?}");
        visitor
    }

    /// Its pass of the room `r`.
    pub fn pass(&self) -> Option<&str> {
        self.cookies.get("anticamera-pass-r").map(String::as_str)
    }

    /// The `Cookie` line, with its line end, or nothing.
    pub fn cookie_line(&self) -> String {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { String::new() } else { format!("Cookie: {}\r\n", pairs.join("; ")) }
    }

    /// The head of a request of this visitor; `more` are whole header lines.
    pub fn request(&self, method: &str, target: &str, more: &str) -> String {
        let accept = if more.to_ascii_lowercase().contains("accept:") { "" } else { "Accept: text/html\r\n" };
        format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{accept}{}{more}\r\n", self.host, self.cookie_line())
    }

    /// Asks for a page on a connection of its own.
    pub fn get(&mut self, target: &str) -> Reply {
        self.ask("GET", target, "", b"")
    }

    /// Asks on a connection of its own; `more` are whole header lines.
    pub fn ask(&mut self, method: &str, target: &str, more: &str, body: &[u8]) -> Reply {
        let mut wire = Wire::connect(self.address);
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        wire.send(self.request(method, target, &format!("{more}{length}")));
        wire.send(body);
        let reply = wire.reply();
        self.keep(&reply);
        reply
    }

    /// Asks for a head only.
    pub fn head(&mut self, target: &str, more: &str) -> Reply {
        let mut wire = Wire::connect(self.address);
        wire.send(self.request("HEAD", target, &format!("{more}Connection: close\r\n")));
        let mut reply = wire.head();
        reply.body = wire.rest();
        self.keep(&reply);
        reply
    }

    /// Sends a form.
    pub fn post(&mut self, target: &str, form: &str) -> Reply {
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        self.ask("POST", target, kind, form.as_bytes())
    }

    /// Keeps the cookies of an answer.
    pub fn keep(&mut self, reply: &Reply) {
        for line in reply.all("set-cookie") {
            let pair = line.split(';').next().unwrap_or_default();
            let Some((name, value)) = pair.split_once('=') else { continue };
            if line.to_ascii_lowercase().contains("max-age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}
