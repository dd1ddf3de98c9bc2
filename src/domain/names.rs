//! Names of rooms and classes, and the numbers that tokens carry instead of them.
//!
//! The numbers are derived from the names, never from positions in the configuration, so that reordering the file
//! changes nobody's token. Two names with one number are a configuration error.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A room's name: `[a-z0-9-]{1,32}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

/// A class's name: `[a-z0-9-]{1,32}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassName(Arc<str>);

/// The number that stands for a room in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(pub u16);

/// The number that stands for a class in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClassId(pub u8);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a name: use 1 to 32 of a-z, 0-9 and -")]
pub struct NotAName;

fn checked(text: &str) -> Result<Arc<str>, NotAName> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=32).contains(&text.len()) && text.bytes().all(plain) { Ok(text.into()) } else { Err(NotAName) }
}

fn digest(kind: &str, name: &str) -> [u8; 32] {
    Sha256::new().chain_update(kind).chain_update([0]).chain_update(name).finalize().into()
}

impl RoomName {
    /// Checks the text.
    ///
    /// # Errors
    /// [`NotAName`] when it is empty, too long, or has other characters.
    pub fn new(text: &str) -> Result<RoomName, NotAName> {
        checked(text).map(RoomName)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The room's number in tokens.
    pub fn id(&self) -> RoomId {
        let [first, second, ..] = digest("room", &self.0);
        RoomId(u16::from_be_bytes([first, second]))
    }
}

impl ClassId {
    /// The number of [`ClassName::citizen`]: nearly every request asks for it.
    pub const CITIZEN: ClassId = ClassId(0x7d);
}

impl ClassName {
    /// Checks the text.
    ///
    /// # Errors
    /// [`NotAName`] when it is empty, too long, or has other characters.
    pub fn new(text: &str) -> Result<ClassName, NotAName> {
        checked(text).map(ClassName)
    }

    /// The class of everybody without a better proof.
    pub fn citizen() -> ClassName {
        ClassName("citizen".into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The class's number in tokens.
    pub fn id(&self) -> ClassId {
        let [first, ..] = digest("class", &self.0);
        ClassId(first)
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{ClassId, ClassName};

    #[test]
    fn the_citizens_number_is_that_of_their_name() {
        assert_eq!(ClassName::citizen().id(), ClassId::CITIZEN);
    }
}
