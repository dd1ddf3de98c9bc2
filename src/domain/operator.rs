//! What operators may do, by the role of the token that they show.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What the holder of a token may do; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks.
    View,
    /// Changes what is done to visitors for a while: rate, hold, message, freeze, and their undoing.
    Operate,
    /// Everything: what lets somebody in before others, or in again after a leak.
    Administer,
}

/// Why a text is no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a role: write view, operate or administer")]
pub struct NotARole;

impl Role {
    /// The role as configurations and answers have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::View => "view",
            Role::Operate => "operate",
            Role::Administer => "administer",
        }
    }

    /// Whether whoever has this role may do what needs `needed`.
    pub fn may(self, needed: Role) -> bool {
        self >= needed
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = NotARole;

    fn from_str(text: &str) -> Result<Role, NotARole> {
        [Role::View, Role::Operate, Role::Administer].into_iter().find(|role| role.as_str() == text).ok_or(NotARole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_may_do_what_lesser_ones_may() {
        let roles = [Role::View, Role::Operate, Role::Administer];
        for (rank, role) in roles.into_iter().enumerate() {
            assert_eq!(role.as_str().parse(), Ok(role));
            for (needed, other) in roles.into_iter().enumerate() {
                assert_eq!(role.may(other), rank >= needed, "{role} {other}");
            }
        }
        assert_eq!("root".parse::<Role>(), Err(NotARole));
    }
}
