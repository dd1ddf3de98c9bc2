//! Connections to the portal that stand unused: one pool per request thread, so that its lock is never contended.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::connect::Connection;
use super::portal::Address;
use crate::clock::Clock;
use crate::domain::time::Mono;

/// How long a connection may take to finish what is left of a request whose answer is complete already.
const SETTLING: Duration = Duration::from_secs(30);

/// Unused connections, by address of the portal.
#[derive(Debug)]
pub(super) struct Pool {
    shelves: Mutex<Vec<Shelf>>,
    clock: Clock,
}

/// Unused connections to one address, the freshest last.
#[derive(Debug)]
struct Shelf {
    address: u64,
    idle: Vec<(Mono, Connection)>,
}

/// A connection in use. Given back it is used again; dropped it is closed, which is what every failure does.
#[derive(Debug)]
pub(super) struct Lease {
    /// The connection itself.
    pub(super) connection: Connection,
    /// Whether it has served before.
    pub(super) history: History,
    /// Where it leads.
    pub(super) address: Arc<Address>,
    pool: Arc<Pool>,
}

/// Whether a connection has served before: only then may it have died unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum History {
    /// It was opened for this request.
    Fresh,
    /// It stood unused before this request.
    Reused,
}

impl Pool {
    pub(super) fn new(clock: Clock) -> Arc<Pool> {
        Arc::new(Pool { shelves: Mutex::new(Vec::new()), clock })
    }

    /// The freshest unused connection to the address that is still good.
    pub(super) fn take(self: &Arc<Self>, address: &Arc<Address>, keep_alive: Duration) -> Option<Lease> {
        let now = self.clock.mono();
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.iter_mut().find(|shelf| shelf.address == address.id)?;
        while let Some((since, connection)) = shelf.idle.pop() {
            if now.since(since) >= keep_alive {
                shelf.idle.clear();
                return None;
            }
            if connection.sender.is_ready() {
                return Some(self.lease(connection, History::Reused, address));
            }
        }
        None
    }

    /// A new connection, to be given back here after use.
    pub(super) fn lease(self: &Arc<Self>, connection: Connection, history: History, address: &Arc<Address>) -> Lease {
        Lease { connection, history, address: Arc::clone(address), pool: Arc::clone(self) }
    }

    /// Closes what has stood unused for too long or died.
    pub(super) fn sweep(&self, keep_alive: Duration) {
        let now = self.clock.mono();
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        for shelf in shelves.iter_mut() {
            shelf.idle.retain(|(since, connection)| now.since(*since) < keep_alive && connection.sender.is_ready());
        }
        shelves.retain(|shelf| !shelf.idle.is_empty());
    }

    fn put(&self, address: u64, connection: Connection) {
        let now = self.clock.mono();
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        match shelves.iter_mut().find(|shelf| shelf.address == address) {
            Some(shelf) => shelf.idle.push((now, connection)),
            None => shelves.push(Shelf { address, idle: vec![(now, connection)] }),
        }
    }
}

impl Lease {
    /// Gives the connection back after an answer that was read to its end.
    ///
    /// If the request's body is still on its way (the portal answered early), it gets a while to finish, so that the
    /// visitor, who is still sending, can read the answer; then the connection is closed.
    pub(super) fn give_back(self) {
        let Lease { mut connection, address, pool, .. } = self;
        if connection.sender.is_ready() {
            pool.put(address.id, connection);
        } else if !connection.sender.is_closed() {
            tokio::spawn(async move {
                if let Ok(Ok(())) = tokio::time::timeout(SETTLING, connection.sender.ready()).await {
                    pool.put(address.id, connection);
                }
            });
        }
    }
}
