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

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    /// Of whom.
    pub(super) address: SocketAddr,
    /// Its path.
    pub(super) path: &'static str,
    /// The `Cookie` header.
    pub(super) cookie: String,
}

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

/// Instructions a request, one after the other over one connection; ends the program.
///
/// # Errors
/// When an answer is no page, or nothing was counted.
pub(super) async fn count(child: Child, requests: &Requests, directory: &Path) -> Outcome<f64> {
    let pid = pid_of(&child)?.to_string();
    ask(requests, BEFORE).await?;
    control(&["-i", "on", &pid]).await?;
    ask(requests, COUNTED).await?;
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

async fn ask(requests: &Requests, times: usize) -> Outcome<()> {
    let pool = ConnectionPool::new(requests.address, 1);
    for _ in 0..times {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = http::Uri::from_static(requests.path);
        let headers = request.headers_mut();
        headers.insert(HOST, requests.address.to_string().parse().context(|| "address")?);
        headers.insert(ACCEPT, HeaderValue::from_static("text/html"));
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static("it"));
        headers.insert(USER_AGENT, HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64)"));
        headers.insert(COOKIE, requests.cookie.parse().context(|| "cookie")?);
        let received = pool.send(&request).await.context(|| "a page")?;
        if received.status != StatusCode::OK {
            return Err(Failure::new(format!("{} instead of a page", received.status)));
        }
    }
    Ok(())
}
