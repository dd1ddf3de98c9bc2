//! Runs `wrk` and reads what it prints.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;

use super::cases::Scheme;
use crate::{Context, Failure, Outcome};

/// What one run of `wrk` showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// A page, always with the same head.
    Page {
        /// Its path.
        path: &'static str,
        /// The `Cookie` header.
        cookie: Option<String>,
    },
    /// What a script of wrk's asks for.
    Script(PathBuf),
    /// Polls of visitors in line.
    Polls {
        /// wrk's script for them.
        script: PathBuf,
        /// Their `Cookie` headers.
        cookies: std::rc::Rc<[String]>,
    },
}

/// Sends as many requests as it can over `connections` keep-alive connections.
///
/// # Errors
/// When `wrk` is missing, or any answer was an error.
pub(super) async fn wrk(
    address: SocketAddr,
    scheme: Scheme,
    ask: &Ask,
    connections: usize,
    span: Duration,
) -> Outcome<Load> {
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--latency"]);
    command.args(["--connections", &connections.to_string(), "--duration", &format!("{}s", span.as_secs().max(1))]);
    let path = match ask {
        Ask::Page { path, cookie } => {
            command.args(["--header", "Accept: text/html", "--header", "Accept-Language: it"]);
            command.args(["--header", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)"]);
            if let Some(cookie) = cookie {
                command.args(["--header", &format!("Cookie: {cookie}")]);
            }
            path
        }
        Ask::Script(file) | Ask::Polls { script: file, .. } => {
            command.arg("--script").arg(file);
            "/"
        }
    };
    let protocol = if scheme == Scheme::Plain { "http" } else { "https" };
    command.arg(format!("{protocol}://{address}{path}")).kill_on_drop(true);
    let output = command.output().await.context(|| "start wrk (Debian's package is wrk)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    read(&text).ok_or_else(|| Failure::new(format!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr))))
}

/// Reads wrk's output; `None` when it is not as expected or tells of errors.
fn read(text: &str) -> Option<Load> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return None;
    }
    let line = |start: &str| text.lines().map(str::trim).find_map(|line| line.strip_prefix(start)).map(str::trim);
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())?;
    Some(Load {
        requests,
        per_second: line("Requests/sec:")?.parse().ok()?,
        p50_ms: milliseconds(line("50%")?)?,
        p99_ms: milliseconds(line("99%")?)?,
    })
}

fn milliseconds(text: &str) -> Option<f64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    match unit {
        "us" => Some(number / 1000.0),
        "ms" => Some(number),
        "s" => Some(number * 1000.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 5s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.91ms    1.04ms  20.83ms   90.64%
    Req/Sec    22.18k     1.53k   24.14k    82.00%
  Latency Distribution
     50%  900.00us
     75%    3.04ms
     90%    3.70ms
     99%    6.85ms
  110347 requests in 5.00s, 136.70MB read
Requests/sec:  22055.20
Transfer/sec:     27.32MB
";

    #[test]
    fn reads_what_wrk_prints() {
        let load = Load { requests: 110_347, per_second: 22_055.2, p50_ms: 0.9, p99_ms: 6.85 };
        assert_eq!(read(OUTPUT), Some(load));
    }

    #[test]
    fn errors_are_no_result() {
        assert_eq!(read(&format!("{OUTPUT}  Non-2xx or 3xx responses: 5\n")), None);
        assert_eq!(read(""), None);
    }
}
