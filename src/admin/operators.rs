//! Who operators are, by the tokens that they show.

use jiff::tz::TimeZone;

use super::token::{AdminToken, AdminTokenError};
use crate::config::{self, ADMIN_NAME};
use crate::domain::local_time;
use crate::domain::operator::Role;
use crate::domain::time::Unix;

/// Everybody who has a token.
#[derive(Debug)]
pub struct Operators {
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    name: String,
    role: Role,
    token: AdminToken,
    /// The first instant at which it is good no more.
    ends: Option<Unix>,
}

/// Somebody who showed a good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The name in the configuration.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// Why nobody showed a good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotGood {
    /// Nobody has this token.
    Unknown,
    /// It was somebody's, and its time is over.
    Expired(String),
}

impl Operators {
    /// Reads all tokens, and makes those whose files are not there. Blocks on the disk.
    ///
    /// # Errors
    /// [`AdminTokenError`] when a file cannot be read or made, or holds no token.
    pub fn load_or_create(settings: &config::Admin) -> Result<Operators, AdminTokenError> {
        let admin = AdminToken::load_or_create(&settings.token_file)?;
        let admin = Known { name: ADMIN_NAME.to_owned(), role: Role::Administer, token: admin, ends: None };
        let mut known = vec![admin];
        for named in &settings.tokens {
            let end = |day: jiff::civil::Date| {
                let next = day.tomorrow().unwrap_or(day);
                local_time::beginning(&TimeZone::system(), next, local_time::LocalTime::MIDNIGHT)
            };
            known.push(Known {
                name: named.name.clone(),
                role: named.role,
                token: AdminToken::load_or_create(&named.file)?,
                ends: named.expires.map(end),
            });
        }
        Ok(Operators { known })
    }

    /// Whose token the value of an `Authorization` header carries. Every token is compared, so that the time taken says
    /// nothing about which of them was nearly right.
    pub(super) fn who(&self, authorization: &[u8], now: Unix) -> Result<Operator, NotGood> {
        let mut found = None;
        for known in &self.known {
            if known.token.is_in(authorization) && found.is_none() {
                found = Some(known);
            }
        }
        let known = found.ok_or(NotGood::Unknown)?;
        if known.ends.is_some_and(|ends| ends <= now) {
            return Err(NotGood::Expired(known.name.clone()));
        }
        Ok(Operator { name: known.name.clone(), role: known.role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_somebodys_and_one_that_is_over_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let token = |name: &str, role, expires: Option<&str>| config::OperatorToken {
            name: name.to_owned(),
            role,
            file: path(name),
            expires: expires.map(|day| day.parse().unwrap()),
        };
        let settings = config::Admin {
            listen: config::AdminListen::Unix("unused".into()),
            hosts: Vec::new(),
            token_file: path("token"),
            view_needs_token: false,
            state_dir: path("operators"),
            tokens: vec![token("desk", Role::Operate, None), token("guest", Role::View, Some("2026-01-31"))],
        };
        let operators = Operators::load_or_create(&settings).unwrap();
        let shown = |name: &str| format!("Bearer {}", std::fs::read_to_string(path(name)).unwrap().trim());
        let who = |name: &str, at: &str| operators.who(shown(name).as_bytes(), local_time::unix(at.parse().unwrap()));
        let now = "2026-01-15T12:00:00Z";
        assert_eq!(who("token", now), Ok(Operator { name: "admin".into(), role: Role::Administer }));
        assert_eq!(who("desk", now), Ok(Operator { name: "desk".into(), role: Role::Operate }));
        assert_eq!(who("guest", now), Ok(Operator { name: "guest".into(), role: Role::View }));
        assert_eq!(who("guest", "2026-02-02T12:00:00Z"), Err(NotGood::Expired("guest".into())));
        assert_eq!(operators.who(b"Bearer nobody", Unix(0)), Err(NotGood::Unknown));
    }
}
