//! Anticamera: a virtual waiting room in front of an existing portal.
//!
//! The modules stand in the order in which a request meets them; `domain` holds the rules, everything else is shell.

pub mod body;
pub mod clock;
pub mod config;
pub mod domain;
pub mod entropy;
pub mod proxy;
pub mod store;
