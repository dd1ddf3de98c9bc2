//! A portal whose every page belongs to the person in its `user` cookie, under every combination of headers, status,
//! framing and path that portals have. It misuses validators: one for everybody.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// One page.
#[derive(Clone, Debug)]
pub struct Case {
    /// Status of the answer.
    pub status: u16,
    /// Header lines of the answer.
    pub headers: String,
    /// How its body is framed.
    pub framing: Framing,
    /// What follows the page's number in the path.
    pub ending: &'static str,
    /// How the first visitor asks.
    pub asked: Asked,
}

impl Case {
    /// Whether the portal itself says what a cache says of a hit: of a page, it is stopped.
    pub fn looks_like_a_hit(&self) -> bool {
        self.headers.contains("Age: ") || self.headers.contains("X-Cache: ")
    }
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Framing {
    Length,
    Chunked,
    ChunkedWithTrailers,
    Close,
}

/// How the first visitor asks; the others always `GET`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    Get,
    HeadThenGet,
    Post,
    WithAuthorization,
}

const ONE_VALIDATOR: &str = "ETag: \"same\"\r\n";
const OLD: &str = "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\n";
const LATER: &str = "Expires: Thu, 01 Jan 2099 00:00:00 GMT\r\n";

/// Every combination.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = policies().into_iter().map(of).collect();
    let usual = || {
        let policy = |line: &str| format!("Cache-Control: {line}\r\n");
        [
            String::new(),
            policy("max-age=600"),
            policy("public, max-age=600") + ONE_VALIDATOR,
            OLD.to_owned(),
            LATER.to_owned(),
            policy("max-age=600") + "Set-Cookie: S=of-USER; Path=/\r\n",
        ]
        .map(of)
    };
    for status in [203, 301, 302, 307, 404, 410, 500] {
        cases.extend(usual().map(|case| Case {
            status,
            headers: format!("{}Location: /of-USER\r\n", case.headers),
            ..case
        }));
    }
    for ending in [".css", "/a.js", ";a.css", "%2ecss", "/a.css?v=1", "//a.png"] {
        cases.extend(usual().map(|case| Case { ending, ..case }));
    }
    for asked in [Asked::HeadThenGet, Asked::Post, Asked::WithAuthorization] {
        cases.extend(usual().map(|case| Case { asked, ..case }));
    }
    for framing in [Framing::Chunked, Framing::ChunkedWithTrailers, Framing::Close] {
        cases.extend(usual().map(|case| Case { framing, ..case }));
    }
    cases
}

fn of(headers: String) -> Case {
    Case { status: 200, headers, framing: Framing::Length, ending: "", asked: Asked::Get }
}

/// Everything a portal may say about caching.
fn policies() -> Vec<String> {
    let plain = [
        "",
        "public",
        "public, max-age=600",
        "max-age=600",
        "s-maxage=600",
        "private",
        "Private",
        "private, max-age=600",
        "no-cache",
        "no-store",
        "No-Store",
        "private, no-store",
        "no-cache, max-age=600",
        "max-age=600, must-revalidate",
        "max-age=600, immutable",
        "max-age=0",
        "max-age=0, must-revalidate",
        "stale-while-revalidate=600, max-age=1",
        "prvate, max-age=600",
        "no_store, max-age=600",
        "nostore, max-age=600",
        "max-age=\"600\"",
        "max-age=600;private",
        "private=\"set-cookie\", max-age=600",
        "no-cache=\"set-cookie\", max-age=600",
        "max-age=99999999999999999999",
        "max-age=-1",
        "max-age=600, max-age=0",
        "\u{e8}, max-age=600",
    ]
    .map(|line| if line.is_empty() { String::new() } else { format!("Cache-Control: {line}\r\n") });
    let long = format!("Cache-Control: {}max-age=600\r\n", "x-padding, ".repeat(300));
    let others = [
        "Cache-Control: private\r\nCache-Control: max-age=600\r\n",
        "Cache-Control: max-age=600\r\nCache-Control: no-store\r\n",
        "Cache-Control: no-store\r\nX-Accel-Expires: 600\r\n",
        "Cache-Control: private\r\nX-Accel-Expires: 600\r\n",
        "Cache-Control: no-store\r\nSurrogate-Control: max-age=600\r\n",
        "Cache-Control: no-store\r\nCDN-Cache-Control: max-age=600\r\n",
        "Pragma: no-cache\r\n",
        "Pragma: no-cache\r\nCache-Control: max-age=600\r\n",
        "Expires: 0\r\n",
        "Expires: 0\r\nCache-Control: max-age=600\r\n",
        "Cache-Control: max-age=600\r\nVary: Cookie\r\n",
        "Cache-Control: max-age=600\r\nVary: *\r\n",
        "Cache-Control: max-age=600\r\nVary: Accept-Encoding\r\n",
        "Cache-Control: max-age=600\r\nVary: Authorization\r\n",
        "Set-Cookie: S=of-USER; Path=/\r\n",
        "Set-Cookie: S=of-USER; Path=/\r\nSet-Cookie: T=of-USER, U=of-USER; Path=/\r\nCache-Control: max-age=600\r\n",
        "Cache-Control: s-maxage=600\r\nSet-Cookie: S=of-USER; Path=/\r\n",
        "Cache-Control: max-age=600\r\nAge: 5\r\n",
        "Cache-Control: max-age=600\r\nContent-Location: /of-USER\r\n",
        "Cache-Control: max-age=600\r\nWarning: 110 - stale\r\n",
        "Cache-Control: max-age=600\r\nSurrogate-Key: all\r\nCache-Tag: all\r\n",
        "Edge-Control: max-age=600\r\n",
    ]
    .map(str::to_owned);
    let validated = [
        ONE_VALIDATOR.to_owned(),
        OLD.to_owned(),
        LATER.to_owned(),
        format!("{LATER}Cache-Control: private\r\n"),
        format!("{ONE_VALIDATOR}Cache-Control: no-cache\r\n"),
        format!("{ONE_VALIDATOR}Cache-Control: max-age=0, must-revalidate\r\n"),
        format!("{ONE_VALIDATOR}Cache-Control: private, max-age=600\r\n"),
        format!("{OLD}Cache-Control: no-cache\r\n"),
        format!("{OLD}Cache-Control: public\r\n"),
        format!("{OLD}{ONE_VALIDATOR}{LATER}"),
    ];
    plain.into_iter().chain([long]).chain(others).chain(validated).collect()
}

/// The portal. It lives as long as the test program.
pub struct Portal {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Portal {
    /// Starts it on a free port.
    pub fn start() -> Portal {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let (cases, counts) = (Arc::new(cases()), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (cases, counts) = (cases.clone(), counts.clone());
                thread::spawn(move || drop(serve(stream, &cases, &counts)));
            }
        });
        Portal { address, asked }
    }

    /// Requests for public files that reached it, and forgets them.
    pub fn take_public_requests(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap()).values().sum()
    }
}

struct Head {
    method: String,
    target: String,
    user: String,
    session: String,
    conditional: bool,
    length: u64,
}

fn serve(stream: TcpStream, cases: &[Case], counts: &Mutex<HashMap<String, usize>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut writer, mut reader) = (stream.try_clone()?, BufReader::new(stream));
    while let Some(head) = read_head(&mut reader)? {
        std::io::copy(&mut (&mut reader).take(head.length), &mut std::io::sink())?;
        if head.target.starts_with("/static/") {
            *counts.lock().unwrap().entry(head.target.clone()).or_default() += 1;
            writer.write_all(public_file(&head).as_bytes())?;
            continue;
        }
        let number =
            head.target.strip_prefix("/p/").map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap());
        let Some(case) = number.and_then(|number| cases.get(number.parse::<usize>().ok()?)) else {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok")?;
            continue;
        };
        writer.write_all(page(case, &head).as_bytes())?;
        if case.framing == Framing::Close {
            return Ok(());
        }
    }
    Ok(())
}

fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut head =
        Head { method, target, user: "nobody".to_owned(), session: String::new(), conditional: false, length: 0 };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(Some(head)) };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "cookie" => {
                let user = value.split("; ").find_map(|pair| pair.strip_prefix("user="));
                head.user = user.map_or(head.user, str::to_owned);
                let session = value.split("; ").find_map(|pair| pair.strip_prefix("JSESSIONID="));
                head.session = session.unwrap_or_default().to_owned();
            }
            "authorization" => head.user = value.trim_start_matches("Bearer ").to_owned(),
            "if-none-match" | "if-modified-since" => head.conditional = true,
            "content-length" => head.length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
}

fn page(case: &Case, head: &Head) -> String {
    let headers = case.headers.replace("USER", &head.user);
    let validated = case.headers.contains("ETag") || case.headers.contains("Last-Modified");
    if head.conditional && validated {
        return format!("HTTP/1.1 304 Not Modified\r\n{headers}\r\n");
    }
    let body = format!("<html>page of-{}</html>", head.user);
    let body = if head.method == "HEAD" { String::new() } else { body };
    let start = format!("HTTP/1.1 {} X\r\nContent-Type: text/html\r\n{headers}", case.status);
    let length = body.len();
    match case.framing {
        _ if head.method == "HEAD" => format!("{start}Content-Length: 24\r\n\r\n"),
        Framing::Length => format!("{start}Content-Length: {length}\r\n\r\n{body}"),
        Framing::Chunked => format!("{start}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
        Framing::ChunkedWithTrailers => format!(
            "{start}Transfer-Encoding: chunked\r\nTrailer: Cache-Control\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\
             Cache-Control: public, max-age=600\r\n\r\n"
        ),
        Framing::Close => format!("{start}Connection: close\r\n\r\n{body}"),
    }
}

/// A style sheet as nginx, Apache and Tomcat serve it: with validators, and with or without a lifetime.
fn public_file(head: &Head) -> String {
    let policy = if head.target.contains("lifetime") { "Cache-Control: public, max-age=600\r\n" } else { "" };
    if head.conditional {
        return format!("HTTP/1.1 304 Not Modified\r\n{OLD}{ONE_VALIDATOR}{policy}\r\n");
    }
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/css\r\n{OLD}{ONE_VALIDATOR}{policy}Content-Length: 4\r\n\r\na{{}}\n")
}

/// One of several servers that do not know each other's sessions, as Tomcats without replication are: `/login` opens a
/// session, `/me` is for those who have one here, and every file opens another.
pub fn start_server_with_sessions(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sessions: Arc<Mutex<Vec<String>>> = Arc::default();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sessions = sessions.clone();
            thread::spawn(move || drop(serve_with_sessions(stream, name, &sessions)));
        }
    });
    address
}

fn serve_with_sessions(stream: TcpStream, name: &str, sessions: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (mut writer, mut reader) = (stream.try_clone()?, BufReader::new(stream));
    while let Some(head) = read_head(&mut reader)? {
        let mut sessions = sessions.lock().unwrap();
        let is_known = sessions.contains(&head.session);
        let answer = if head.target == "/me" && is_known {
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{name}", name.len())
        } else if head.target == "/me" {
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned()
        } else {
            let session = format!("{name}{}", sessions.len());
            sessions.push(session.clone());
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nSet-Cookie: JSESSIONID={session}; Path=/\r\n\
                 Content-Length: 0\r\n\r\n"
            )
        };
        drop(sessions);
        writer.write_all(answer.as_bytes())?;
    }
    Ok(())
}
