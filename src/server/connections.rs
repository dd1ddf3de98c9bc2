//! How many connections there are, over all threads, and how many may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio::sync::watch;

use crate::config::Limits;
use crate::domain::client::ClientPrefix;

/// Whether there is room for more connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is.
    Enough,
    /// Little: connections without a request are closed early.
    Crowded,
}

/// How many connections there are, over all threads.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    /// How many are a crowd; a reload may change it.
    crowded_from: AtomicUsize,
    speaking_http: AtomicUsize,
    per_client: DashMap<ClientPrefix, usize>,
    room: watch::Sender<Room>,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections {
            open: AtomicUsize::new(0),
            crowded_from: AtomicUsize::new(usize::MAX),
            speaking_http: AtomicUsize::new(0),
            per_client: DashMap::new(),
            room: watch::Sender::new(Room::Enough),
        }
    }
}

/// One connection's place within the limits: lives as long as its socket.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    client: Option<ClientPrefix>,
}

/// One connection that has requests to bring: an upgraded one has not.
#[derive(Debug)]
pub(super) struct Speaking(Arc<Connections>);

/// A client has as many connections as one client may.
#[derive(Debug)]
pub(super) struct TooMany;

impl Connections {
    /// A place for one more, if there is one.
    pub(super) fn take(self: &Arc<Self>, limits: &Limits) -> Option<Place> {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let crowded_from = (limits.max_connections.saturating_mul(limits.idle_watermark.into()) / 100).max(1);
        // Dropping it gives it back.
        let place = Place { connections: self.clone(), client: None };
        self.crowded_from.store(crowded_from, Ordering::Relaxed);
        self.say_whether_there_is_room(open);
        (open <= limits.max_connections).then_some(place)
    }

    /// One more that has requests to bring.
    pub(super) fn speak(self: &Arc<Self>) -> Speaking {
        self.speaking_http.fetch_add(1, Ordering::Relaxed);
        Speaking(self.clone())
    }

    /// How many may still bring requests: a drain waits for them.
    pub(super) fn speaking_http(&self) -> usize {
        self.speaking_http.load(Ordering::Relaxed)
    }

    /// Tells whether there is room.
    pub(super) fn room(&self) -> watch::Receiver<Room> {
        self.room.subscribe()
    }

    /// There is room again a tenth below the mark, so that one connection more or less does not turn it on and off.
    fn say_whether_there_is_room(&self, open: usize) {
        let mark = self.crowded_from.load(Ordering::Relaxed);
        if open > mark {
            self.say(Room::Crowded);
        } else if open < mark - mark / 10 {
            self.say(Room::Enough);
        }
    }

    fn say(&self, room: Room) {
        if *self.room.borrow() != room {
            self.room.send_replace(room);
        }
    }
}

impl Place {
    /// Counts it as this client's.
    ///
    /// # Errors
    /// [`TooMany`] when the client has `most` already; 0 means no limit.
    pub(super) fn count_for(&mut self, client: ClientPrefix, most: usize) -> Result<(), TooMany> {
        if most == 0 {
            return Ok(());
        }
        let mut count = self.connections.per_client.entry(client).or_insert(0);
        if *count >= most {
            return Err(TooMany);
        }
        *count += 1;
        drop(count);
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            let one_less = |_: &ClientPrefix, count: &mut usize| {
                *count = count.saturating_sub(1);
                *count == 0
            };
            self.connections.per_client.remove_if_mut(&client, one_less);
        }
        let left = self.connections.open.fetch_sub(1, Ordering::Relaxed) - 1;
        self.connections.say_whether_there_is_room(left);
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        self.0.speaking_http.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(most: usize, watermark: u8) -> Limits {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[server.limits]\nmax_connections = {most}\n\
             idle_watermark = {watermark}\n[portal]\nurl = \"http://127.0.0.1:1\""
        );
        crate::config::parse(&text, std::path::Path::new("")).unwrap().server.limits
    }

    #[test]
    fn places_come_back() {
        let connections = Arc::new(Connections::default());
        let limits = limits(3, 100);
        let mut places: Vec<_> = (0..3).map(|_| connections.take(&limits).unwrap()).collect();
        assert!(connections.take(&limits).is_none());
        places.pop();
        assert!(connections.take(&limits).is_some());
    }

    #[test]
    fn it_is_crowded_above_the_mark_until_clearly_below() {
        let connections = Arc::new(Connections::default());
        let limits = limits(100, 80);
        let room = connections.room();
        let mut places: Vec<_> = (0..80).map(|_| connections.take(&limits).unwrap()).collect();
        assert_eq!(*room.borrow(), Room::Enough);
        places.push(connections.take(&limits).unwrap());
        assert_eq!(*room.borrow(), Room::Crowded);
        places.truncate(72);
        assert_eq!(*room.borrow(), Room::Crowded);
        places.truncate(71);
        assert_eq!(*room.borrow(), Room::Enough);
    }

    #[test]
    fn a_crowd_ends_when_more_connections_may_be() {
        let connections = Arc::new(Connections::default());
        let (few, many) = (limits(10, 80), limits(1000, 80));
        let room = connections.room();
        let places: Vec<_> = (0..9).map(|_| connections.take(&few).unwrap()).collect();
        assert_eq!(*room.borrow(), Room::Crowded);
        let one_more = connections.take(&many).unwrap();
        assert_eq!(*room.borrow(), Room::Enough);
        drop(places);
        drop(one_more);
        assert_eq!(*room.borrow(), Room::Enough);
    }

    #[test]
    fn one_client_has_its_share_only() {
        let connections = Arc::new(Connections::default());
        let limits = limits(100, 80);
        let client = ClientPrefix::of("192.0.2.1".parse().unwrap());
        let other = ClientPrefix::of("192.0.2.2".parse().unwrap());
        let place = |client, most| {
            let mut place = connections.take(&limits).unwrap();
            place.count_for(client, most).map(|()| place)
        };
        let held = [place(client, 2).unwrap(), place(client, 2).unwrap()];
        assert!(place(client, 2).is_err() && place(other, 2).is_ok() && place(client, 0).is_ok());
        drop(held);
        assert!(connections.per_client.is_empty(), "nobody is remembered who has gone");
        assert!(place(client, 2).is_ok());
    }
}
