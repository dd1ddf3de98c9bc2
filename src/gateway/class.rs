//! Which class a visitor belongs to.

use super::call::Call;
use super::snapshot::RoomInForce;
use crate::domain::names::{ClassId, ClassName};

/// The class of a visitor who joins, or goes straight through.
pub(super) fn class_of(_call: &Call, _room: &RoomInForce) -> ClassId {
    ClassName::citizen().id()
}
