//! What those who wait get: the page, their standing as JSON, the public board.
//!
//! Everything here renders facts that somebody else gathered; it asks no clock, keeps no line and decides nothing.

pub mod api;
pub mod assets;
pub mod board;
pub mod catalogue;
pub mod encoding;
pub mod language;
pub mod page;
pub mod plural;
pub mod preview;
pub mod proof_pages;
pub mod queue;
pub mod timetable;
pub mod words;
