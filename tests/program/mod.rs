//! The released program as its users meet it: a process between real sockets, with a portal that records what reaches
//! it and misbehaves on request. What only this whole can show is shown here; rules have tests of their own.

mod command_line;
mod ctl;
mod headers;
mod limits;
mod log;
mod misbehaviour;
mod reload;
mod service_manager;
mod stop;
mod streaming;

use std::thread;
use std::time::Duration;

use crate::support::portal::FakePortal;
use crate::support::process::{Proxy, Setup};
use crate::support::wire::{PATIENCE, Reply, Visitor, Wire};
use tokio::runtime::Runtime;

/// A portal, and the program in front of it: one room over everything.
struct Stage {
    runtime: Runtime,
    portal: FakePortal,
    proxy: Proxy,
}

impl Stage {
    fn new() -> Stage {
        Stage::with(|_| {})
    }

    /// The same with other settings.
    fn with(change: impl FnOnce(&mut Setup)) -> Stage {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let portal = runtime.block_on(FakePortal::start());
        let mut setup = Setup { paths: "/**", ..Setup::in_front_of(&[portal.address]) };
        change(&mut setup);
        let proxy = setup.start();
        Stage { runtime, portal, proxy }
    }

    /// Somebody who has been let in.
    #[track_caller]
    fn insider(&self) -> Visitor {
        Visitor::inside(self.proxy.address, "/")
    }

    fn connect(&self) -> Wire {
        Wire::connect(self.proxy.address)
    }

    /// Sends one request of a visitor on a connection of its own and does not wait for the answer.
    fn begin(&self, visitor: &Visitor, method: &str, target: &str, more: &str) -> Wire {
        let mut wire = self.connect();
        wire.send(visitor.request(method, target, more));
        wire
    }

    /// Waits until so many requests have reached the portal.
    fn arrived(&self, count: usize) {
        let arrived = async { tokio::time::timeout(PATIENCE, self.portal.arrived(count)).await };
        self.runtime.block_on(arrived).expect("requests at the portal");
    }

    /// What the private listener answers.
    fn operator(&self, method: &str, target: &str) -> Reply {
        operator(&self.proxy, method, target)
    }

    /// The value of a metric.
    fn metric(&self, name: &str) -> f64 {
        metric(&self.proxy, name)
    }
}

fn operator(proxy: &Proxy, method: &str, target: &str) -> Reply {
    let mut wire = Wire::connect(proxy.admin);
    wire.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    wire.reply()
}

fn metric(proxy: &Proxy, name: &str) -> f64 {
    let metrics = operator(proxy, "GET", "/metrics");
    let found = metrics.text().lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no {name} in\n{}", metrics.text()))
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 10 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("never came to be: {what}");
}
