//! Compares what happened with what was promised. Pure: facts in, findings out.

mod course;
mod excess;
mod expectations;
mod order;
mod places;
mod returns;
mod windows;

pub use course::{Calm, Course};
pub use excess::{Allowance, Excess, worst_excess};
pub use expectations::{Check, Expectations};
pub use order::{Call, Overtaken, overtaken};
pub use places::duplicates;
pub use returns::{Returns, Ticket};
pub use windows::{Window, rate_share, share_between, windows};
