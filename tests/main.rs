//! All tests that see the program from outside, and the long tests of its rules, as one program: it is linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

mod admission;
mod caches;
mod classes;
mod cluster;
mod crash;
mod deploy;
mod first_of_april;
mod hours;
mod http2;
mod journeys;
mod leaks;
mod line_properties;
mod line_simulation;
mod metrics;
mod openings;
mod own_paths;
mod page;
mod path_tricks;
mod portal_day;
mod portal_health;
mod portal_trouble;
mod program;
mod proxy;
mod recovery;
mod reloads;
mod restart;
mod staff;
mod tls;
mod tokens;
mod tomcat;
