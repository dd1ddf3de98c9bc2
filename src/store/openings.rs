//! Changes of what is written down of an opening: by one process alone, or by one of several nodes that share a line.

use crate::domain::opening::Opening;
use crate::domain::time::Unix;

/// What becomes of an opening. Where several nodes share the line, it is done only if nobody has changed meanwhile what
/// the node knows of it.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// It is announced; what the counters stand at is noted with it.
    Announce {
        /// The opening.
        opening: &'a Opening,
        /// What was announced under its number before: nobody may gather for that.
        instead_of: Option<&'a Opening>,
    },
    /// It is as it is given.
    Set {
        /// The opening.
        opening: &'a Opening,
        /// What is known under its number.
        instead_of: Option<&'a Opening>,
    },
    /// It does not take place. Nobody may gather for it.
    Withdraw {
        /// What is to be known of it.
        opening: &'a Opening,
        /// What is known of it.
        instead_of: &'a Opening,
    },
    /// Its hour has come: whoever drew a number by now has gathered. Where several nodes share the line, the one that leads
    /// says so.
    Hold {
        /// The opening.
        opening: &'a Opening,
        /// When, where no server knows the time.
        at: Unix,
    },
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is written down, and this is known now.
    Done(Opening),
    /// Another node was first, or somebody gathers by now: this is known of it.
    Otherwise(Option<Opening>),
}
