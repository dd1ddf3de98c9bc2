//! What operators see of the running program: metrics and logs. Nothing here ever names a visitor.

pub mod log;
pub mod metrics;
mod process;
mod sink;
