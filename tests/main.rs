//! All tests that see the program from outside, and the long tests of its rules, as one program: it is linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

mod admission;
mod caches;
mod classes;
mod closing;
mod cluster;
mod cluster_openings;
mod corpus;
mod crash;
mod deploy;
mod documents;
mod exercise;
mod first_of_april;
mod fronts;
mod hoarding;
mod hours;
mod http2;
mod http2_frames;
mod journeys;
mod leaks;
mod line_properties;
mod line_simulation;
mod metrics;
mod openings;
mod operators;
mod own_paths;
mod page;
mod passes;
mod path_tricks;
mod portal_day;
mod portal_health;
mod portal_trouble;
mod program;
mod proxy;
mod recovery;
mod reloads;
mod restart;
mod soak;
mod staff;
mod store_transfer;
mod tls;
mod tokens;
mod tomcat;
