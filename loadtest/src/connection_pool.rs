//! Keep-alive connections to the proxy, shared by all visitors. A held poll keeps one for itself; nothing else does.
//!
//! The client is a small HTTP/1.1 one of its own (RFC 9112): no task and no channel per connection, so that one core
//! can act for a crowd.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Answers longer than this are no page of ours.
pub const LONGEST_ANSWER: usize = 4 << 20;
/// Header fields in an answer at most.
const MOST_HEADERS: usize = 64;
/// What is read at once.
const READ_BYTES: usize = 4096;

/// One answer, whole.
#[derive(Debug)]
pub struct Received {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The connection could not be made.
    #[error("could not connect: {0}")]
    Connect(io::Error),
    /// It ended before the answer was whole.
    #[error("the connection ended: {0}")]
    Ended(io::Error),
    /// What came is no answer of HTTP/1.1.
    #[error("no valid answer: {0}")]
    Invalid(&'static str),
}

/// Keep-alive connections to one address.
#[derive(Debug)]
pub struct ConnectionPool {
    address: SocketAddr,
    idle: RefCell<Vec<Connection>>,
    turns: Semaphore,
    opened: Cell<u64>,
    starved: Cell<u64>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    used: bool,
}

/// Whether a connection may carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    Keep,
    Close,
}

impl ConnectionPool {
    /// A pool of at most `most` connections to `address`.
    pub fn new(address: SocketAddr, most: usize) -> Rc<ConnectionPool> {
        Rc::new(ConnectionPool {
            address,
            idle: RefCell::default(),
            turns: Semaphore::new(most),
            opened: Cell::new(0),
            starved: Cell::new(0),
        })
    }

    /// Sends a request and reads its whole answer. When a connection that was used before died, sends once more on a
    /// new one, as browsers do: the server may close an idle connection at any time (RFC 9112, 9.3.1).
    ///
    /// Dropping the future drops the connection.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub async fn send(&self, request: &Request<Bytes>) -> Result<Received, NoAnswer> {
        if self.turns.available_permits() == 0 {
            self.starved.set(self.starved.get() + 1);
        }
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.map_err(|_| NoAnswer::Invalid("the pool is closed"))?;
        let text = written(request);
        let connection = match self.pop() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let used = connection.used;
        match self.exchange(connection, request.method(), &text).await {
            Err(NoAnswer::Ended(_)) if used => {
                let fresh = self.connect().await?;
                self.exchange(fresh, request.method(), &text).await
            }
            done => done,
        }
    }

    /// Closes the connections nobody uses.
    pub fn close_idle(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Forgets the connections the server has closed.
    pub fn sweep(&self) {
        self.idle.borrow_mut().retain(Connection::is_quiet);
    }

    /// Connections opened so far.
    pub fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// How often a request had to wait because the pool was at its limit: the load was then not open-loop.
    pub fn starved(&self) -> u64 {
        self.starved.get()
    }

    fn pop(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop()).find(Connection::is_quiet)
    }

    async fn connect(&self) -> Result<Connection, NoAnswer> {
        let stream = TcpStream::connect(self.address).await.map_err(NoAnswer::Connect)?;
        stream.set_nodelay(true).map_err(NoAnswer::Connect)?;
        self.opened.set(self.opened.get() + 1);
        Ok(Connection { stream, used: false })
    }

    async fn exchange(&self, mut connection: Connection, method: &Method, text: &[u8]) -> Result<Received, NoAnswer> {
        connection.stream.write_all(text).await.map_err(NoAnswer::Ended)?;
        let (received, afterwards) = read_answer(&mut connection.stream, method).await?;
        connection.used = true;
        if afterwards == Afterwards::Keep {
            self.idle.borrow_mut().push(connection);
        }
        Ok(received)
    }
}

impl Connection {
    /// Whether it stands and nothing came unasked.
    fn is_quiet(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(fault) if fault.kind() == io::ErrorKind::WouldBlock)
    }
}

/// The request as it goes over the wire.
fn written(request: &Request<Bytes>) -> Vec<u8> {
    let mut text = Vec::with_capacity(1024);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    // Writing into memory does not fail.
    let _ = write!(text, "{} {path} HTTP/1.1\r\n", request.method());
    for (name, value) in request.headers().iter().filter(|(name, _)| **name != CONTENT_LENGTH) {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let body = request.body();
    if !body.is_empty() || request.method() == Method::POST {
        let _ = write!(text, "content-length: {}\r\n", body.len());
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body);
    text
}

/// How the end of a body is known (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
    UntilClose,
}

/// The head of an answer.
struct Head {
    status: StatusCode,
    headers: HeaderMap,
    /// HTTP/1.1 or newer: the connection stays open by itself.
    persistent: bool,
}

async fn read_answer(stream: &mut TcpStream, method: &Method) -> Result<(Received, Afterwards), NoAnswer> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let head = loop {
        match parse_head(&mut buffer)? {
            Some(head) if head.status.is_informational() => {}
            Some(head) => break head,
            None => read_more(stream, &mut buffer).await?,
        }
    };
    let length = length(&head, method)?;
    let body = match length {
        Length::Known(bytes) => {
            while buffer.len() < bytes {
                read_more(stream, &mut buffer).await?;
            }
            buffer.split_to(bytes).freeze()
        }
        Length::Chunked => read_chunks(stream, &mut buffer).await?,
        Length::UntilClose => {
            while read_more(stream, &mut buffer).await.is_ok() {}
            buffer.split().freeze()
        }
    };
    let stays = head.persistent && length != Length::UntilClose && buffer.is_empty() && !says_close(&head.headers);
    let afterwards = if stays { Afterwards::Keep } else { Afterwards::Close };
    Ok((Received { status: head.status, headers: head.headers, body }, afterwards))
}

async fn read_more(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), NoAnswer> {
    if buffer.len() > LONGEST_ANSWER {
        return Err(NoAnswer::Invalid("it is too long"));
    }
    buffer.reserve(READ_BYTES);
    match stream.read_buf(buffer).await {
        Ok(0) => Err(NoAnswer::Ended(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(()),
        Err(fault) => Err(NoAnswer::Ended(fault)),
    }
}

/// Takes a whole head off the front of `buffer`; `None` when there is more to come.
fn parse_head(buffer: &mut BytesMut) -> Result<Option<Head>, NoAnswer> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(buffer).map_err(|_| NoAnswer::Invalid("the head cannot be read"))?;
    let httparse::Status::Complete(end) = parsed else { return Ok(None) };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(NoAnswer::Invalid("the status cannot be read"))?;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for field in response.headers.iter() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(field.name.as_bytes()), HeaderValue::from_bytes(field.value))
        {
            headers.append(name, value);
        }
    }
    let head = Head { status, headers, persistent: response.version == Some(1) };
    let _ = buffer.split_to(end);
    Ok(Some(head))
}

fn length(head: &Head, method: &Method) -> Result<Length, NoAnswer> {
    if *method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304) {
        return Ok(Length::Known(0));
    }
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return Ok(Length::Chunked);
    }
    let Some(value) = head.headers.get(CONTENT_LENGTH) else { return Ok(Length::UntilClose) };
    let bytes = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    match bytes {
        Some(bytes) if bytes <= LONGEST_ANSWER => Ok(Length::Known(bytes)),
        Some(_) => Err(NoAnswer::Invalid("it is too long")),
        None => Err(NoAnswer::Invalid("its length cannot be read")),
    }
}

fn says_close(headers: &HeaderMap) -> bool {
    headers.get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

async fn read_chunks(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Bytes, NoAnswer> {
    let mut body = BytesMut::new();
    loop {
        let (start, size) = loop {
            match httparse::parse_chunk_size(buffer) {
                Ok(httparse::Status::Complete(found)) => break found,
                Ok(httparse::Status::Partial) => read_more(stream, buffer).await?,
                Err(_) => return Err(NoAnswer::Invalid("a chunk cannot be read")),
            }
        };
        let size = usize::try_from(size).ok().filter(|size| body.len().saturating_add(*size) <= LONGEST_ANSWER);
        let size = size.ok_or(NoAnswer::Invalid("it is too long"))?;
        let _ = buffer.split_to(start);
        if size == 0 {
            return skip_trailers(stream, buffer).await.map(|()| body.freeze());
        }
        while buffer.len() < size + 2 {
            read_more(stream, buffer).await?;
        }
        body.extend_from_slice(&buffer.split_to(size));
        let _ = buffer.split_to(2);
    }
}

/// After the last chunk come fields that nobody here reads, and an empty line.
async fn skip_trailers(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), NoAnswer> {
    loop {
        match buffer.windows(2).position(|pair| pair == b"\r\n") {
            Some(0) => {
                let _ = buffer.split_to(2);
                return Ok(());
            }
            Some(end) => drop(buffer.split_to(end + 2)),
            None => read_more(stream, buffer).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each request on one connection with the next of `answers`, then closes it.
    async fn server(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await.unwrap();
                for part in answer.split_inclusive('|') {
                    stream.write_all(part.trim_end_matches('|').as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        address
    }

    async fn bodies(answers: &'static [&'static str]) -> (Vec<String>, u64) {
        let pool = ConnectionPool::new(server(answers).await, 1);
        let mut found = Vec::new();
        for _ in answers {
            let received = pool.send(&Request::new(Bytes::new())).await.unwrap();
            found.push(String::from_utf8_lossy(&received.body).into_owned());
        }
        (found, pool.opened())
    }

    #[tokio::test]
    async fn all_kinds_of_length_are_read_over_one_connection() {
        let answers = &[
            "HTTP/1.1 200 OK\r\ncontent-le|ngth: 5\r\n\r\nhe|llo",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n|2;x=y\r\nde\r\n0|\r\nsome: trailer\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end",
        ];
        let (found, opened) = bodies(answers).await;
        assert_eq!((found, opened), (["hello", "", "abcde", "to the end"].map(String::from).to_vec(), 1));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_a_fault() {
        for answer in [&["nonsense\r\n\r\n"], &["HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"]] {
            let pool = ConnectionPool::new(server(answer).await, 1);
            let fault = pool.send(&Request::new(Bytes::new())).await.unwrap_err();
            assert!(matches!(fault, NoAnswer::Invalid(_)), "{fault}");
        }
    }

    #[test]
    fn a_request_goes_over_the_wire_as_the_standard_says() {
        let mut request = Request::new(Bytes::from_static(b"{}"));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static("/a?b=c");
        request.headers_mut().insert("host", HeaderValue::from_static("x"));
        assert_eq!(written(&request), b"POST /a?b=c HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}");
    }
}
