//! Anticamera: a virtual waiting room in front of an existing portal.
//!
//! # Life of a request
//! ```text
//! socket -> TLS -> HTTP/1.1 or HTTP/2                  server
//!   -> own path? answer it                             gateway::own, waiting_room
//!   -> find the room                                   domain::paths
//!   -> who is it                                       gateway::visitor
//!   -> decide(facts)                                   domain::admission
//!        Admit  -> forward through the leak guard      proxy, domain::leak_guard, leaks
//!        Wait   -> page, JSON or nothing               waiting_room
//!        Refuse -> say what to do
//! ```
//! The line itself is a state machine (`domain::line`) that `room` keeps under a lock, the `pacer` ticks and the
//! `store` makes durable. `app` wires everything; nothing below it sees everything.

pub mod admin;
pub mod app;
pub mod body;
pub mod certificates;
pub mod classes;
pub mod clock;
pub mod config;
pub mod ctl;
pub mod demo;
pub mod domain;
pub mod entropy;
pub mod folder;
pub mod gateway;
pub mod keys;
pub mod leaks;
pub mod pacer;
pub mod proxy;
pub mod room;
pub mod server;
pub mod service_manager;
pub mod staff;
pub mod store;
pub mod telemetry;
pub mod waiting_room;
