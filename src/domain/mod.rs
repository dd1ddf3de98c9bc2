//! The rules of the waiting room. Pure: no I/O, no clock, no randomness; `now` is always an argument.

pub mod budget;
pub mod calling;
pub mod gate;
pub mod lane;
pub mod line;
pub mod client;
pub mod cookie;
pub mod keyring;
pub mod names;
pub mod negotiation;
pub mod paths;
pub mod presence;
pub mod rate;
pub mod tickets;
pub mod time;
pub mod token;
pub mod wait_estimate;
