//! Notes: small texts that nodes leave for each other, and for themselves after a restart. The store does not know what
//! they say. It keeps them in one order, so many and so long, and gives them to whoever asks.

use crate::domain::time::Unix;

/// Up to where the notes were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotesMark {
    pub(super) at: u64,
    pub(super) number: u64,
}

/// A note as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When it came here.
    pub at: Unix,
    /// What it says.
    pub text: Vec<u8>,
}

/// Some of the notes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// In the order in which they came.
    pub notes: Vec<Note>,
    /// Up to where this is.
    pub mark: NotesMark,
}

/// Notes given at once at most.
pub(super) const AT_ONCE: usize = 1000;
