//! The load tester: virtual visitors who behave as the waiting page does, a stand-in portal that writes down what
//! reaches it, and a verdict on rate, order and truth. It talks to the wire only and shares no code with the proxy.
//!
//! A run, in the order in which things happen:
//! [`scenario`] is read; [`arrival`] and [`behaviour`] draw when visitors come and how they act; [`crowd`] sends each
//! [`visitor`] out when its [`agenda`] says, over the [`connection_pool`], as [`request`]s whose [`answer`]s move the visitor on, some by [`work`];
//! [`events`] change rates, break the portal or cut the line; [`portal`] records what arrives; [`verdict`] compares
//! that with what was promised; [`report`] and [`html`] say so, with the [`timeline`] of the run.

pub mod agenda;
pub mod answer;
pub mod arrival;
pub mod behaviour;
pub mod bench;
pub mod clock;
pub mod connection_pool;
pub mod cookies;
pub mod crowd;
pub mod events;
mod failure;
pub mod findings;
pub mod free_port;
pub mod html;
pub mod journey;
pub mod measures;
pub mod portal;
pub mod portal_control;
pub mod process;
pub mod progress;
pub mod report;
pub mod request;
pub mod run;
pub mod scenario;
pub mod stage;
pub mod ticket;
pub mod timeline;
pub mod units;
pub mod verdict;
pub mod visitor;
pub mod work;

pub use failure::{Context, Failure, Outcome};
