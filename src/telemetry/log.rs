//! The log: one line per request, and events of the program through `tracing`; both as JSON or as text.
//!
//! The line of a request is formatted here by hand because it is written for every request: that is about four times
//! cheaper than an event of `tracing` with as many fields. It never contains a query, a cookie or a token: the path is
//! cut at `?`, path parameters such as `;jsessionid=...` are blotted out, and there is no field for the rest.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::IntCounter;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;

use super::metrics::Decision;
use super::sink;
pub use super::sink::{EventLine, LogSink, LogWriter};
use crate::config;
use crate::domain::names::{ClassName, RoomName};
use crate::domain::time::Unix;

/// Characters of a path, a host or another text from outside that are logged at most.
const MAX_TEXT: usize = 256;

/// What is logged about one request.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Wall time at which the request was answered.
    pub at: Unix,
    /// The request's id, ours or the one that came along.
    pub request_id: &'a str,
    /// The visitor's address, whole; it is cut here when the configuration says so.
    pub client: IpAddr,
    /// The request's method.
    pub method: &'a Method,
    /// The host that was asked for.
    pub host: &'a str,
    /// The path that was asked for, as it came.
    pub path: &'a str,
    /// The answer's status.
    pub status: StatusCode,
    /// What became of the request.
    pub decision: Decision,
    /// The room that protects the path, if any.
    pub room: Option<&'a RoomName>,
    /// The visitor's class, when a room protects the path.
    pub class: Option<&'a ClassName>,
    /// Bytes of the answer's body, when known.
    pub bytes: Option<u64>,
    /// From the end of the request's head to the answer.
    pub duration: Duration,
    /// Time spent waiting for the portal, when it was asked.
    pub upstream: Option<Duration>,
}

/// The program's log; cheap to clone.
#[derive(Clone, Debug)]
pub struct Log(LogSink);

/// A subscriber for events was installed before.
#[derive(Debug, thiserror::Error)]
#[error("another part of the process already receives the log's events: install the log once, at the start")]
pub struct AlreadyInstalled;

impl Log {
    /// Starts a log that writes to `out`, and the thread behind it. Keep the writer until the end of the program:
    /// dropping it writes the last lines. Lines dropped because `out` is too slow are counted in `dropped`.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(out: impl Write + Send + 'static, dropped: IntCounter) -> io::Result<(Log, LogWriter)> {
        let (sink, writer) = sink::start(out, dropped)?;
        Ok((Log(sink), writer))
    }

    /// Makes this log receive the events of the whole process, from level INFO up. The format of events stays until
    /// the end of the process.
    ///
    /// # Errors
    /// [`AlreadyInstalled`] when something else receives them already.
    pub fn install(&self, settings: config::Log) -> Result<(), AlreadyInstalled> {
        if settings.json {
            tracing::subscriber::set_global_default(self.json_events())
        } else {
            tracing::subscriber::set_global_default(self.text_events())
        }
        .map_err(|_| AlreadyInstalled)
    }

    fn json_events(&self) -> impl Subscriber + Send + Sync + 'static {
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_max_level(LevelFilter::INFO)
            .with_writer(self.0.clone())
            .finish()
    }

    fn text_events(&self) -> impl Subscriber + Send + Sync + 'static {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(LevelFilter::INFO)
            .with_writer(self.0.clone())
            .finish()
    }

    /// Logs one request, if the configuration wants requests logged.
    pub fn access(&self, settings: config::Log, access: &Access<'_>) {
        if settings.access {
            self.0.push(&access.line(settings));
        }
    }
}

impl Access<'_> {
    fn line(&self, settings: config::Log) -> Vec<u8> {
        let client = if settings.truncate_addresses { truncated(self.client) } else { self.client };
        let mut line = Line::new(if settings.json { Format::Json } else { Format::Text });
        line.timestamp(self.at);
        line.word("level", "INFO");
        line.word("target", "access");
        line.text("request_id", self.request_id);
        line.value("client", Quoted(client));
        line.text("method", self.method.as_str());
        line.text("host", self.host);
        line.path("path", self.path);
        line.value("status", self.status.as_u16());
        line.word("decision", self.decision.as_str());
        line.optional_word("room", self.room.map(RoomName::as_str));
        line.optional_word("class", self.class.map(ClassName::as_str));
        line.optional_value("bytes", self.bytes);
        line.value("duration_ms", Millis(self.duration));
        line.optional_value("upstream_ms", self.upstream.map(Millis));
        line.end()
    }
}

/// The address without the part that tells one household from the next: /24 and /48.
fn truncated(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `{"key":value,...}`
    Json,
    /// `key=value ...`
    Text,
}

/// A line that is being written, field by field. Keys are ours and need no escaping.
struct Line {
    format: Format,
    bytes: Vec<u8>,
}

impl Line {
    fn new(format: Format) -> Line {
        Line { format, bytes: Vec::with_capacity(512) }
    }

    fn key(&mut self, key: &str) {
        let first = self.bytes.is_empty();
        match self.format {
            Format::Json => {
                self.raw(if first { "{\"" } else { ",\"" });
                self.raw(key);
                self.raw("\":");
            }
            Format::Text => {
                self.raw(if first { "" } else { " " });
                self.raw(key);
                self.raw("=");
            }
        }
    }

    fn raw(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn display(&mut self, value: impl fmt::Display) {
        // Writing into memory cannot fail.
        let _ = write!(self.bytes, "{value}");
    }

    fn timestamp(&mut self, at: Unix) {
        self.key("timestamp");
        self.display(Quoted(Timestamp(at)));
    }

    /// A value that is a number, or quoted already.
    fn value(&mut self, key: &str, value: impl fmt::Display) {
        self.key(key);
        self.display(value);
    }

    fn optional_value(&mut self, key: &str, value: Option<impl fmt::Display>) {
        match value {
            Some(value) => self.value(key, value),
            None => self.absent(key),
        }
    }

    /// One of our own words or names, which need no escaping.
    fn word(&mut self, key: &str, word: &str) {
        self.key(key);
        match self.format {
            Format::Json => {
                self.raw("\"");
                self.raw(word);
                self.raw("\"");
            }
            Format::Text => self.raw(word),
        }
    }

    fn optional_word(&mut self, key: &str, word: Option<&str>) {
        match word {
            Some(word) => self.word(key, word),
            None => self.absent(key),
        }
    }

    fn absent(&mut self, key: &str) {
        self.key(key);
        self.raw(match self.format {
            Format::Json => "null",
            Format::Text => "-",
        });
    }

    /// A text from outside: bounded, and escaped as in JSON, which also keeps it on one line.
    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.raw("\"");
        self.escaped(text);
        self.raw("\"");
    }

    /// A path: without its query, and with `;...` in place of path parameters, which may carry a session's id.
    fn path(&mut self, key: &str, path: &str) {
        let path = path.split_once('?').map_or(path, |(before, _)| before);
        if !path.contains(';') {
            return self.text(key, path);
        }
        self.text(key, &without_parameters(path));
    }

    fn escaped(&mut self, text: &str) {
        let kept = bounded(text);
        if kept.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
            self.raw(kept);
        } else {
            kept.chars().for_each(|char| self.escaped_char(char));
        }
        if kept.len() < text.len() {
            self.raw("...");
        }
    }

    /// A character as a JSON string has it (RFC 8259, section 7), everything beyond plain ASCII as `\u....`.
    fn escaped_char(&mut self, char: char) {
        match char {
            '"' => self.raw("\\\""),
            '\\' => self.raw("\\\\"),
            ' '..='~' => self.display(char),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(self.bytes, "\\u{unit:04x}");
                }
            }
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.raw(match self.format {
            Format::Json => "}\n",
            Format::Text => "\n",
        });
        self.bytes
    }
}

/// The beginning of a text, at most [`MAX_TEXT`] bytes of it and no half characters.
fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or(text)
}

/// Puts `;...` in the place of everything from `;` to the end of its segment.
fn without_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.split_once(';') {
        Some((before, _)) => format!("{before};..."),
        None => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Something whose text needs no escaping, in quotes.
struct Quoted<T>(T);

impl<T: fmt::Display> fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// Milliseconds with three decimals.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

/// RFC 3339 in UTC, with milliseconds.
struct Timestamp(Unix);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0.0).unwrap_or(i64::MAX);
        let timestamp = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{timestamp:.3}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sink::tests::{Paper, dropped};
    use super::*;

    const JSON: config::Log = config::Log { json: true, access: true, truncate_addresses: true };
    const TEXT: config::Log = config::Log { json: false, access: true, truncate_addresses: true };

    fn access<'a>(path: &'a str, room: Option<&'a RoomName>) -> Access<'a> {
        Access {
            at: Unix(1_585_728_000_007),
            request_id: "0af7651916cd43dd",
            client: "192.0.2.77".parse().unwrap(),
            method: &Method::GET,
            host: "portal.example",
            path,
            status: StatusCode::OK,
            decision: Decision::AdmittedPass,
            room,
            class: None,
            bytes: Some(1024),
            duration: Duration::from_micros(1234),
            upstream: None,
        }
    }

    fn json(access: &Access<'_>) -> serde_json::Value {
        serde_json::from_slice(&access.line(JSON)).unwrap()
    }

    #[test]
    fn a_request_as_json() {
        let room = RoomName::new("bonus-600").unwrap();
        let line = String::from_utf8(access("/bonus-600/form", Some(&room)).line(JSON)).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"timestamp":"2020-04-01T08:00:00.007Z","level":"INFO","target":"access","#,
                r#""request_id":"0af7651916cd43dd","client":"192.0.2.0","method":"GET","host":"portal.example","#,
                r#""path":"/bonus-600/form","status":200,"decision":"admitted_pass","room":"bonus-600","class":null,"#,
                r#""bytes":1024,"duration_ms":1.234,"upstream_ms":null}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_request_as_text() {
        let line = String::from_utf8(access("/a b", None).line(TEXT)).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"timestamp="2020-04-01T08:00:00.007Z" level=INFO target=access request_id="0af7651916cd43dd" "#,
                r#"client="192.0.2.0" method="GET" host="portal.example" path="/a b" status=200 "#,
                r#"decision=admitted_pass room=- class=- bytes=1024 duration_ms=1.234 upstream_ms=-"#,
                "\n"
            )
        );
    }

    #[test]
    fn queries_and_session_ids_in_paths_are_not_logged() {
        for (path, logged) in [
            ("/form?token=secret", "/form"),
            ("/form;jsessionid=secret", "/form;..."),
            ("/a;jsessionid=secret/b;x=secret?y=secret", "/a;.../b;..."),
            ("/form;a?b;c", "/form;..."),
        ] {
            assert_eq!(json(&access(path, None))["path"], logged);
        }
    }

    #[test]
    fn a_long_path_is_cut() {
        let path = "/".to_owned() + &"x".repeat(5000);
        assert_eq!(json(&access(&path, None))["path"], format!("/{}...", "x".repeat(MAX_TEXT - 1)));
    }

    #[test]
    fn a_line_cannot_be_forged() {
        for settings in [JSON, TEXT] {
            let line = access("/x\" status=200\r\n{\"level\":\"INFO\u{1b}[31m", None).line(settings);
            let line = String::from_utf8(line).unwrap();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(line.contains(r#"/x\" status=200\u000d\u000a{\"level\":\"INFO\u001b[31m"#), "{line}");
        }
    }

    #[test]
    fn addresses_are_cut_unless_the_configuration_says_otherwise() {
        for (whole, cut) in [
            ("192.0.2.77", "192.0.2.0"),
            ("::ffff:192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
            ("::1", "::"),
        ] {
            let access = Access { client: whole.parse().unwrap(), ..access("/", None) };
            assert_eq!(json(&access)["client"], cut);
        }
        let line = access("/", None).line(config::Log { truncate_addresses: false, ..JSON });
        assert!(String::from_utf8(line).unwrap().contains("192.0.2.77"));
    }

    #[test]
    fn requests_are_logged_only_when_wanted() {
        let paper = Paper::default();
        let (log, writer) = Log::start(paper.clone(), dropped()).unwrap();
        log.access(config::Log { access: false, ..JSON }, &access("/silent", None));
        log.access(JSON, &access("/told", None));
        drop(writer);
        assert!(!paper.text().contains("/silent"));
        assert!(paper.text().contains("/told"));
    }

    #[test]
    fn events_of_the_program_go_the_same_way() {
        let paper = Paper::default();
        let (log, writer) = Log::start(paper.clone(), dropped()).unwrap();
        tracing::subscriber::with_default(log.json_events(), || {
            tracing::debug!("too fine");
            tracing::warn!(room = "a", "the portal\ndoes not answer");
        });
        tracing::subscriber::with_default(log.text_events(), || tracing::info!("started"));
        drop(writer);
        let text = paper.text();
        let (first, second) = text.split_once('\n').unwrap();
        let event: serde_json::Value = serde_json::from_str(first).unwrap();
        assert_eq!(event["level"], "WARN");
        assert_eq!(event["message"], "the portal\ndoes not answer");
        assert_eq!(event["room"], "a");
        assert!(second.contains("started") && second.ends_with('\n'), "{second}");
    }

    proptest! {
        #[test]
        fn whatever_comes_the_line_is_one_line_of_json(path in "(?s).{0,400}", host in "(?s).{0,40}") {
            let line = Access { host: &host, ..access(&path, None) }.line(JSON);
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(value["host"].as_str(), Some(host.as_str()));
            prop_assert!(!value["path"].as_str().unwrap().contains('?'));
        }
    }
}
