//! `loadtest portal`: a small portal to stand behind the proxy. It answers fast, writes down what reached it, and
//! fails when told to.
//!
//! Pages: `/` and everything under it (a page of about 1 KB with links), `.../form` (answers a POST), `/size/N`
//! (N bytes), `/slow/MS` (after MS milliseconds). Its own paths: `GET /__portal/clock`, `GET /__portal/record?from=N`,
//! `POST /__portal/forget`, `GET /__portal/login` (the login provider, well or not), `POST /__portal/login` with
//! `{"seconds": S}` (it is ill for so long), `POST /__portal/mode` with `{"mode": "ok" | "refuse" | "error" | "slow", "seconds": S,
//! "status": 503, "delay_ms": 1000}`. While it refuses, only the control listener can be reached.

mod listener;
mod mode;
mod pages;
mod record;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use clap::Args;
use serde::{Deserialize, Serialize};

pub use mode::{Mode, Order};
pub use pages::Portal;
pub use record::{Reached, Record};

use crate::clock::Clock;
use crate::{Context, Outcome};

/// On every answer of the portal, so that it can be told from the proxy's own; its value is the mark of the visitor who
/// asked, so that an answer that was given to somebody else is known.
pub const PORTAL_MARK: &str = "x-load-portal";
/// On every request of a visitor, so that the portal's record can say whose it was.
pub const VISITOR_MARK: &str = "x-load-visitor";

/// Arguments of `loadtest portal`.
#[derive(Clone, Debug, Args)]
pub struct PortalArguments {
    /// Where the proxy finds the portal; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A second listener, for control only, which works while the portal refuses.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Where to write, at the end, what reached the portal, as JSON lines.
    #[arg(long)]
    record: Option<PathBuf>,
}

/// Where a portal listens; its first line of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// For the proxy.
    pub portal: SocketAddr,
    /// For control.
    pub control: SocketAddr,
}

/// Serves the portal until interrupted or told to terminate.
///
/// # Errors
/// When it cannot listen or write the record.
pub async fn portal(arguments: PortalArguments) -> Outcome<()> {
    tokio::task::LocalSet::new().run_until(serve_until_interrupted(arguments)).await
}

async fn serve_until_interrupted(arguments: PortalArguments) -> Outcome<()> {
    let portal = Rc::new(Portal::new(Clock::new()));
    let addresses = open(&portal, arguments.listen, arguments.control).await?;
    let line = serde_json::to_string(&addresses).context(|| "addresses")?;
    println!("{line}");
    interrupted().await?;
    match arguments.record {
        Some(file) => std::fs::write(&file, portal.record().lines(0)).context(|| format!("write {}", file.display())),
        None => Ok(()),
    }
}

/// Starts serving in the current `LocalSet`.
///
/// # Errors
/// When an address cannot be listened on.
pub async fn open(portal: &Rc<Portal>, listen: SocketAddr, control: SocketAddr) -> Outcome<Addresses> {
    let front = listener::Front::open(listen).context(|| format!("listen on {listen}"))?;
    let control = tokio::net::TcpListener::bind(control).await.context(|| format!("listen on {control}"))?;
    let addresses = Addresses { portal: front.address(), control: control.local_addr().context(|| "control address")? };
    tokio::task::spawn_local(listener::serve_front(front, Rc::clone(portal)));
    tokio::task::spawn_local(listener::serve_control(control, Rc::clone(portal)));
    Ok(addresses)
}

async fn interrupted() -> Outcome<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context(|| "signals")?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done.context(|| "signals"),
        _ = terminate.recv() => Ok(()),
    }
}
