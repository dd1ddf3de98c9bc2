//! What a node of a shared line hears of the others.

use super::{Fact, Line};
use crate::domain::line::Asks;
use crate::domain::mirror::{NodeId, Said};
use crate::domain::names::ClassId;

/// Whether this node decides who is called and let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It does.
    Leads,
    /// Another does, or none just now.
    Follows,
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
