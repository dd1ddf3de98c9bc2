//! What those who wait cost: the poll (`POST status`) of many visitors in line, and the waiting page. The peer is nginx
//! with the cheapest answers of the same length: a text from its configuration, and a file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use clap::Args;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::task::LocalSet;

use super::nginx;
use super::side::{Side, Turns, by_turns, pid_of};
use super::wrk::Ask;
use crate::clock::Clock;
use crate::connection_pool::{ConnectionPool, Received};
use crate::cookies::Cookies;
use crate::free_port::free_addresses;
use crate::stage::{filled_in, start_proxy};
use crate::ticket::{Place, place};
use crate::{Context, Failure, Outcome};

const ROOM: &str = "bench";
const PAGE: &str = "/bench/page";
const STATUS: &str = "/.waiting-room/status?room=bench";
const JOIN: &str = "/.waiting-room/join?room=bench";
/// Whoever is nearer to the front than this has polls held open, and is left out.
const NEAR: usize = 200;
/// Connections over which the visitors join.
const JOINERS: usize = 16;

const CONFIG: &str = r#"
[server]
listen = ["{listen}"]
threads = 1

[portal]
url = "http://{portal}"

[admin]
listen = "{admin}"
token_file = "{dir}/admin-token"

[tokens]
key_dir = "{dir}/keys"

[store]
path = "{dir}/state"

[log]
access = false

[[room]]
name = "bench"
paths = ["/bench/**"]
start = "/bench/page"
admission_rate = "6/min"
joins_per_client = "unlimited"
entry = "page"
page_status = 200
"#;

/// Arguments of `loadtest bench waiting`.
#[derive(Clone, Debug, Args)]
pub struct WaitingArguments {
    /// Our proxy, as a program.
    #[arg(long, default_value = "target/release/anticamera")]
    proxy: PathBuf,
    /// Visitors in line. Each may poll once a second and ten times at once: too few are told to slow down.
    #[arg(long, default_value_t = 30_000)]
    visitors: usize,
    #[command(flatten)]
    turns: Turns,
}

/// Lets visitors join, and measures their polls and the page.
pub(super) async fn bench(arguments: WaitingArguments) -> Outcome<()> {
    let clock = Clock::new();
    let directory = TempDir::new().context(|| "make a directory")?;
    let [ours_at, admin_at, portal_at, nginx_at] = free_addresses()?;
    let values = [
        ("{listen}", ours_at.to_string()),
        ("{admin}", admin_at.to_string()),
        ("{portal}", portal_at.to_string()),
        ("{dir}", directory.path().display().to_string()),
    ];
    let file = directory.path().join("config.toml");
    std::fs::write(&file, filled_in(CONFIG, &values)).context(|| file.display().to_string())?;
    let ours = start_proxy(&arguments.proxy, &file, directory.path(), ours_at, &clock).await?;
    let line = LocalSet::new().run_until(fill(ours_at, arguments.visitors, directory.path())).await?;
    let peer = nginx::start_answers(nginx_at, &line.answer, directory.path(), &clock).await?;
    let done = compare(&arguments.turns, &line, (ours_at, &ours), (nginx_at, &peer)).await;
    nginx::end(peer).await;
    done
}

async fn compare(turns: &Turns, line: &Line, ours: (SocketAddr, &Child), peer: (SocketAddr, &Child)) -> Outcome<()> {
    let polls = Ask::Script(line.polls.clone());
    let sides = [
        Side::new("anticamera poll", ours.0, polls.clone(), pid_of(ours.1)?),
        Side::new("nginx return", peer.0, polls, pid_of(peer.1)?),
    ];
    by_turns(sides, turns).await?;
    let sides = [
        Side::new("anticamera page", ours.0, Ask::Page { path: PAGE, cookie: None }, pid_of(ours.1)?),
        Side::new("nginx file", peer.0, Ask::Page { path: "/file", cookie: None }, pid_of(peer.1)?),
    ];
    by_turns(sides, turns).await
}

/// A line of visitors.
struct Line {
    /// The script by which wrk polls for them.
    polls: PathBuf,
    /// The answer to a poll.
    answer: String,
}

/// Lets visitors join, writes the script of their polls, and leaves the page in `directory` as `file`.
async fn fill(address: SocketAddr, visitors: usize, directory: &Path) -> Outcome<Line> {
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
    Ok(Line { polls, answer: String::from_utf8_lossy(&answer.body).into_owned() })
}

async fn join(pool: Rc<ConnectionPool>, address: SocketAddr, visitors: usize) -> Outcome<Vec<(Place, String)>> {
    let mut joined = Vec::new();
    for _ in 0..visitors {
        let received = ask(&pool, address, Method::POST, JOIN, None).await?;
        let mut cookies = Cookies::default();
        cookies.take(&received.headers, ROOM);
        let place = cookies.ticket().and_then(place).ok_or_else(|| Failure::new("join: no ticket"))?;
        joined.push((place, cookies.header().unwrap_or_default()));
    }
    Ok(joined)
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
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(HOST, address.to_string().parse().context(|| "address")?);
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(cookie) = cookie {
        headers.insert(http::header::COOKIE, cookie.parse().context(|| "cookie")?);
    }
    let received = pool.send(request).await.context(|| path)?;
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
