//! The lanes of a room by name. Tokens and the store know a class by its number only; people and metrics by its name.

use std::sync::{Arc, PoisonError, RwLock};

use crate::config;
use crate::domain::names::{ClassId, ClassName, RoomName};
use crate::telemetry::metrics::{LaneMetrics, Metrics};

/// A lane and whose it is.
#[derive(Clone, Debug)]
pub struct NamedLane {
    /// The class's number.
    pub class: ClassId,
    /// The class's name.
    pub name: ClassName,
    /// Its figures.
    pub metrics: Arc<LaneMetrics>,
}

/// The lanes of the classes in the configuration in force.
#[derive(Debug)]
pub(super) struct NamedLanes {
    room: RoomName,
    all: Arc<Metrics>,
    lanes: RwLock<Arc<[NamedLane]>>,
}

impl NamedLanes {
    pub(super) fn new(room: &config::Room, all: &Arc<Metrics>) -> NamedLanes {
        let lanes = RwLock::new(named(room, all));
        NamedLanes { room: room.name.clone(), all: all.clone(), lanes }
    }

    /// Takes over changed classes.
    pub(super) fn rename(&self, room: &config::Room) {
        *self.lanes.write().unwrap_or_else(PoisonError::into_inner) = named(room, &self.all);
    }

    pub(super) fn all(&self) -> Arc<[NamedLane]> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lane of a class; the citizens' figures for a class that is gone, whose lane uses their credit.
    pub(super) fn of(&self, class: ClassId) -> NamedLane {
        let lanes = self.all();
        let named = lanes.iter().find(|lane| lane.class == class).cloned();
        named.unwrap_or_else(|| {
            let citizen = ClassName::citizen();
            NamedLane { class, metrics: self.all.lane(&self.room, &citizen), name: citizen }
        })
    }
}

fn named(room: &config::Room, all: &Metrics) -> Arc<[NamedLane]> {
    let named =
        |name: &ClassName| NamedLane { class: name.id(), name: name.clone(), metrics: all.lane(&room.name, name) };
    room.classes.iter().map(named).collect()
}
