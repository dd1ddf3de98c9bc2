//! The rules of the waiting room. Pure: no I/O, no clock, no randomness; `now` is always an argument.

pub mod admission;
pub mod budget;
pub mod calling;
pub mod client;
pub mod cookie;
pub mod forwarding;
pub mod gate;
pub mod kept;
pub mod keyring;
pub mod lane;
pub mod leak_guard;
pub mod limiter;
pub mod line;
pub mod mirror;
pub mod movement;
pub mod names;
pub mod negotiation;
pub mod paths;
pub mod presence;
pub mod rate;
pub mod seat;
pub mod tickets;
pub mod time;
pub mod token;
pub mod wait_estimate;
