//! Slots: how many requests may be under way at the portal at once. Visitors inside wait for one, in order; newcomers
//! take one only when nobody inside waits.
//!
//! A slot is held from before the request is sent until the portal's answer has been read to its end, whether or not
//! the visitor has received it yet. An upgraded connection (WebSocket) gives its slot back at the 101: it may last for
//! hours and occupies no worker of the portal in the meaning of this limit.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::NoSlot;

/// The slots of the portal; shared by all threads.
#[derive(Debug)]
pub(super) struct Slots {
    /// Free slots. Its queue is fair: a slot that comes back goes to the first who waits, so that an attempt without
    /// waiting fails while anybody waits.
    free: Semaphore,
    limit: Mutex<usize>,
    /// Slots that a lowered limit still has to swallow as they come back.
    debt: AtomicUsize,
    taken: AtomicUsize,
}

/// The right to have one request under way at the portal; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
}

impl Slots {
    pub(super) fn new(limit: usize) -> Arc<Slots> {
        Arc::new(Slots {
            free: Semaphore::new(limit.min(Semaphore::MAX_PERMITS)),
            limit: Mutex::new(limit),
            debt: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        })
    }

    /// Waits for a slot, first come, first served.
    pub(super) async fn wait(self: &Arc<Self>, timeout: Duration) -> Result<Slot, NoSlot> {
        if let Some(slot) = self.take_now() {
            return Ok(slot);
        }
        match tokio::time::timeout(timeout, self.free.acquire()).await {
            Ok(Ok(permit)) => Ok(self.slot(permit)),
            _ => Err(NoSlot),
        }
    }

    /// Takes a slot if one is free and nobody waits.
    pub(super) fn take_now(self: &Arc<Self>) -> Option<Slot> {
        self.free.try_acquire().ok().map(|permit| self.slot(permit))
    }

    fn slot(self: &Arc<Self>, permit: tokio::sync::SemaphorePermit<'_>) -> Slot {
        permit.forget();
        self.taken.fetch_add(1, Ordering::Relaxed);
        Slot { slots: Arc::clone(self) }
    }

    /// Slots taken at this moment.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Changes the limit. Requests under way keep their slots; a lower limit holds as they end.
    pub(super) fn set_limit(&self, limit: usize) {
        let mut current = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if limit < *current {
            let fewer = *current - limit;
            let swallowed = self.free.forget_permits(fewer);
            self.debt.fetch_add(fewer - swallowed, Ordering::AcqRel);
        } else {
            let more = limit - *current;
            let settled = self.settle(more);
            self.free.add_permits(more - settled);
        }
        *current = limit;
    }

    /// Pays up to `amount` of the debt and says how much was paid.
    fn settle(&self, amount: usize) -> usize {
        let mut paid = 0;
        let _ = self.debt.fetch_update(Ordering::AcqRel, Ordering::Acquire, |debt| {
            paid = debt.min(amount);
            (paid > 0).then(|| debt - paid)
        });
        paid
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken.fetch_sub(1, Ordering::Relaxed);
        if self.slots.settle(1) == 0 {
            self.slots.free.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn newcomers_get_nothing_while_somebody_inside_waits() {
        let slots = Slots::new(1);
        let first = slots.take_now().unwrap();
        let waiting = Arc::clone(&slots);
        let inside = tokio::spawn(async move { waiting.wait(Duration::from_secs(10)).await });
        tokio::task::yield_now().await;
        drop(first);
        assert!(slots.take_now().is_none(), "the slot belongs to the one who waits");
        let slot = inside.await.unwrap().unwrap();
        assert_eq!(slots.taken(), 1);
        drop(slot);
        assert!(slots.take_now().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_bounded() {
        let slots = Slots::new(1);
        let _held = slots.take_now();
        assert_eq!(slots.wait(Duration::from_secs(1)).await.unwrap_err(), NoSlot);
    }

    #[tokio::test]
    async fn the_limit_changes_under_way() {
        let slots = Slots::new(3);
        let mut held: Vec<Slot> = (0..3).filter_map(|_| slots.take_now()).collect();
        slots.set_limit(1);
        held.pop();
        held.pop();
        assert!(slots.take_now().is_none(), "one is still under way and the limit is one");
        slots.set_limit(2);
        assert!(slots.take_now().is_some());
        drop(held);
        let all: Vec<Slot> = (0..5).filter_map(|_| slots.take_now()).collect();
        assert_eq!(all.len(), 2);
    }

    #[tokio::test]
    async fn raising_a_lowered_limit_forgives_first() {
        let slots = Slots::new(4);
        let held: Vec<Slot> = (0..4).filter_map(|_| slots.take_now()).collect();
        slots.set_limit(1);
        slots.set_limit(4);
        assert!(slots.take_now().is_none());
        drop(held);
        assert_eq!((0..9).filter_map(|_| slots.take_now()).collect::<Vec<_>>().len(), 4);
    }
}
