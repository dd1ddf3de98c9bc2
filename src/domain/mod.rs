//! The rules of the waiting room. Pure: no I/O, no clock, no randomness; `now` is always an argument.

pub mod forwarding;
pub mod leak_guard;
pub mod names;
pub mod paths;
pub mod rate;
pub mod time;
