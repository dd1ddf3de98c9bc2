//! Instructions a request takes in user space, counted by Valgrind's callgrind: unlike CPU time, they hardly depend on
//! what else the machine does. What runs by the clock meanwhile is counted as well; it is little.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_LANGUAGE, COOKIE, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use tokio::process::{Child, Command};

use super::nginx;
use super::side::pid_of;
use crate::connection_pool::ConnectionPool;
use crate::{Context, Failure, Outcome};

/// Requests before anything is counted.
const BEFORE: usize = 200;
/// Requests that are counted.
const COUNTED: usize = 2000;

/// A program that starts `program` under callgrind, which counts nothing yet.
///
/// # Errors
/// When it cannot be written.
pub(super) fn counting(program: &Path, directory: &Path) -> Outcome<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let program = std::path::absolute(program).context(|| program.display().to_string())?;
    let wrapper = directory.join("counting");
    let script = format!(
        "#!/bin/sh\nexec valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file='{}' '{}' \"$@\"\n",
        counts(directory).display(),
        program.display()
    );
    std::fs::write(&wrapper, script).context(|| wrapper.display().to_string())?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).context(|| "counting")?;
    Ok(wrapper)
}

fn counts(directory: &Path) -> PathBuf {
    directory.join("instructions")
}

/// Instructions a request, one after the other over one connection, those given by turns; ends the program.
///
/// # Errors
/// When an answer is an error, or nothing was counted.
pub(super) async fn count(
    child: Child,
    address: SocketAddr,
    requests: &[Request<Bytes>],
    directory: &Path,
) -> Outcome<f64> {
    let pid = pid_of(&child)?.to_string();
    let mut requests = requests.iter().cycle();
    ask(address, requests.by_ref().take(BEFORE)).await?;
    control(&["-i", "on", &pid]).await?;
    ask(address, requests.take(COUNTED)).await?;
    control(&["-i", "off", &pid]).await?;
    nginx::end(child).await;
    let file = counts(directory);
    let text = std::fs::read_to_string(&file).context(|| file.display().to_string())?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:")?.trim().parse::<f64>().ok());
    let total = total.filter(|total| *total > 0.0).ok_or_else(|| Failure::new("callgrind counted nothing"))?;
    Ok(total / COUNTED as f64)
}

async fn control(arguments: &[&str]) -> Outcome<()> {
    let done = Command::new("callgrind_control").args(arguments).output().await;
    let done = done.context(|| "start callgrind_control (Debian's package is valgrind)")?;
    if done.status.success() { Ok(()) } else { Err(Failure::new(String::from_utf8_lossy(&done.stderr).into_owned())) }
}

async fn ask(address: SocketAddr, requests: impl Iterator<Item = &Request<Bytes>>) -> Outcome<()> {
    let pool = ConnectionPool::new(address, 1);
    for request in requests {
        let received = pool.send(request).await.context(|| "an answer")?;
        if received.status != StatusCode::OK {
            return Err(Failure::new(format!("{} instead of an answer", received.status)));
        }
    }
    Ok(())
}

/// What a browser asks for.
///
/// # Errors
/// When the cookie is none.
pub(super) fn page(address: SocketAddr, path: &'static str, cookie: &str) -> Outcome<Request<Bytes>> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = http::Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(HOST, address.to_string().parse().context(|| "address")?);
    headers.insert(ACCEPT, HeaderValue::from_static("text/html"));
    headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static("it"));
    headers.insert(USER_AGENT, HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64)"));
    headers.insert(COOKIE, cookie.parse().context(|| "cookie")?);
    Ok(request)
}
