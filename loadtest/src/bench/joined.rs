//! A line whose visitors joined over the wire, and what asking for them takes: their cookies, wrk's script of their polls,
//! an answer to a poll and the page, for peers to give the same.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};

use super::ours::{PAGE, ROOM};
use crate::connection_pool::{ConnectionPool, Received};
use crate::cookies::Cookies;
use crate::ticket::{Place, place};
use crate::{Context, Failure, Outcome};

pub(super) const STATUS: &str = "/.waiting-room/status?room=bench";
pub(super) const JOIN: &str = "/.waiting-room/join?room=bench";
/// Whoever is nearer to the front than this has polls held open, and is left out.
const NEAR: usize = 200;
/// So many of those who joined last poll, at most.
const POLLERS: usize = 48_000;
/// Connections over which the visitors join.
const JOINERS: usize = 16;

/// A line of visitors.
pub(super) struct Line {
    /// The script by which wrk polls for them.
    pub(super) polls: PathBuf,
    /// The answer to a poll.
    pub(super) answer: String,
    /// The `Cookie` headers of those who poll.
    pub(super) cookies: Rc<[String]>,
}

/// Lets visitors join, writes the script of their polls, and leaves the page in `directory` as `file`.
pub(super) async fn fill(address: SocketAddr, visitors: usize, directory: &Path) -> Outcome<Line> {
    let pool = ConnectionPool::new(address, JOINERS);
    let mut joined = Vec::new();
    let tasks: Vec<_> = (0..JOINERS)
        .map(|_| tokio::task::spawn_local(join(Rc::clone(&pool), address, visitors.div_ceil(JOINERS))))
        .collect();
    for task in tasks {
        joined.extend(task.await.context(|| "join")??);
    }
    joined.sort_by_key(|(place, _)| *place);
    let cookies: Vec<String> = joined.into_iter().skip(NEAR).map(|(_, cookie)| cookie).collect();
    let last = cookies.last().ok_or_else(|| Failure::new(format!("give more than {NEAR} visitors")))?;
    let answer = ask(&pool, address, Method::POST, STATUS, Some(last)).await?;
    let page = ask(&pool, address, Method::GET, PAGE, None).await?;
    std::fs::write(directory.join("file"), &page.body).context(|| "file")?;
    let polls = directory.join("polls.lua");
    std::fs::write(&polls, script(&cookies)).context(|| "polls.lua")?;
    let answer = String::from_utf8_lossy(&answer.body).into_owned();
    Ok(Line { polls, answer, cookies: cookies.into() })
}

async fn join(pool: Rc<ConnectionPool>, address: SocketAddr, visitors: usize) -> Outcome<Vec<(Place, String)>> {
    let mut joined = Vec::new();
    for n in 0..visitors {
        let received = ask(&pool, address, Method::POST, JOIN, None).await?;
        let mut cookies = Cookies::default();
        cookies.take(&received.headers, ROOM);
        let place = cookies.ticket().and_then(place).ok_or_else(|| Failure::new("join: no ticket"))?;
        if n + POLLERS / JOINERS >= visitors {
            joined.push((place, both_names(&cookies.header().unwrap_or_default())));
        }
    }
    Ok(joined)
}

/// The same cookies under the names they have without TLS and with it.
pub(super) fn both_names(header: &str) -> String {
    let secure = header.split("; ").map(|pair| format!("__Host-{pair}"));
    format!("{header}; {}", secure.collect::<Vec<_>>().join("; "))
}

async fn ask(
    pool: &Rc<ConnectionPool>,
    address: SocketAddr,
    method: Method,
    path: &'static str,
    cookie: Option<&str>,
) -> Outcome<Received> {
    let body = if method == Method::POST { Bytes::from_static(b"{}") } else { Bytes::new() };
    let accept = if method == Method::POST { "application/json" } else { "text/html" };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(HOST, address.to_string().parse().context(|| "address")?);
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(cookie) = cookie {
        headers.insert(http::header::COOKIE, cookie.parse().context(|| "cookie")?);
    }
    let received = pool.send(&request).await.context(|| path)?;
    if received.status == StatusCode::OK {
        Ok(received)
    } else {
        Err(Failure::new(format!("{path}: {}", received.status)))
    }
}

/// A script that polls for one visitor after the other, as the page does.
fn script(cookies: &[String]) -> String {
    let list: String = cookies.iter().map(|cookie| format!("  \"{cookie}\",\n")).collect();
    format!(
        "local cookies = {{\n{list}}}\nlocal requests, at = {{}}, 0\n\
        function init(args)\n\
          for i, cookie in ipairs(cookies) do\n\
            requests[i] = wrk.format('POST', '{STATUS}', {{\n\
              ['Cookie'] = cookie, ['Accept'] = 'application/json', ['Accept-Language'] = 'it',\n\
              ['Content-Type'] = 'application/json', ['Sec-Fetch-Site'] = 'same-origin',\n\
              ['Sec-Fetch-Mode'] = 'cors', ['Sec-Fetch-Dest'] = 'empty',\n\
              ['User-Agent'] = 'Mozilla/5.0 (X11; Linux x86_64)' }}, '{{\"shown_ahead\":1000000}}')\n\
          end\n\
        end\n\
        function request()\n\
          at = at % #requests + 1\n\
          return requests[at]\n\
        end\n"
    )
}
