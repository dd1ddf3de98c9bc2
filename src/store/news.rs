//! What a node of a shared line hears of the others.

use super::{Fact, Line};
use crate::domain::line::Asks;
use crate::domain::mirror::{NodeId, Said};
use crate::domain::names::ClassId;
use crate::domain::opening::Opening;

/// Whether this node decides who is called and let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It does.
    Leads,
    /// Another does, or none just now.
    Follows,
}

/// What a node may use of a room's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The node that leads may use so much; others may be going on alone with the rest.
    WithTheStore {
        /// Thousandths of the rate.
        permille: u32,
    },
    /// The store has been silent for a while: each node goes on alone.
    Alone {
        /// Thousandths of the rate that are this node's.
        permille: u32,
        /// How many nodes do so, this one included.
        nodes: u32,
    },
}

/// For whom a number is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drawn {
    /// A visitor who waits, and asks like this.
    ToWait(Asks),
    /// A newcomer who goes straight to the gate.
    ToEnter,
}

impl Drawn {
    pub(super) fn letter(self) -> &'static str {
        match self {
            Drawn::ToWait(Asks::Scripted) => "w",
            Drawn::ToWait(Asks::ByHand) => "p",
            Drawn::ToEnter => "s",
        }
    }

    pub(super) fn of_letter(letter: &str) -> Option<Drawn> {
        [Drawn::ToWait(Asks::Scripted), Drawn::ToWait(Asks::ByHand), Drawn::ToEnter]
            .into_iter()
            .find(|drawn| drawn.letter() == letter)
    }
}

/// Something that was said of the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item {
    /// Numbers were drawn.
    Drawn {
        /// The lane.
        class: ClassId,
        /// The first.
        first: u64,
        /// The last.
        last: u64,
        /// What for.
        drawn: Drawn,
    },
    /// Something that lasts.
    Fact(Fact),
    /// Something that matters only now.
    Said(Said),
}

/// What a node said at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Who.
    pub from: NodeId,
    /// Whether it was this node.
    pub own: Own,
    /// What, in order.
    pub items: Vec<Item>,
    /// An opening that was changed, after all that.
    pub opening: Option<Box<Opening>>,
}

/// Whose words an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Another node's.
    Others,
    /// Ours, said while we followed: its place among the words of others matters.
    AsFollower,
    /// Ours, said while we led: they were true when they were said.
    AsLeader,
}

/// What happens in the store.
#[derive(Clone, Debug)]
pub enum News {
    /// Somebody said something.
    Entry(Entry),
    /// What this node knows of the line is out of date; this is the line now.
    Anew(Box<Line>),
    /// The store may have lost what it knew: this node tells it again.
    Doubtful,
}
