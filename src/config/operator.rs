//! `[[admin.token]]`: the tokens of operators besides the one in `admin.token_file`.

use std::path::Path;

use jiff::civil::Date;

use super::fault::Wrong;
use super::resolved::OperatorToken;
use super::section::Section;
use super::value::{self};
use crate::domain::operator::Role;

/// The name under which the token of `admin.token_file` acts.
pub const ADMIN: &str = "admin";

/// Reads all tokens. `None` when anything is wrong with one of them or between them.
pub(super) fn tokens(sections: &[Section<'_>], base: &Path) -> Option<Vec<OperatorToken>> {
    let read: Vec<Option<OperatorToken>> = sections.iter().map(|section| token(section, base)).collect();
    for (index, (section, token)) in sections.iter().zip(&read).enumerate() {
        let Some(token) = token else { continue };
        let mut earlier = read.iter().take(index).flatten();
        if token.name == ADMIN || earlier.any(|other| other.name == token.name) {
            let what = format!("{} is taken", value::shown(&token.name));
            section.fault(
                "name",
                Wrong::new(what, "give each operator a name of their own; \"admin\" is the token_file's"),
            );
            return None;
        }
    }
    read.into_iter().collect()
}

fn token(section: &Section<'_>, base: &Path) -> Option<OperatorToken> {
    let roles = [("view", Role::View), ("operate", Role::Operate), ("administer", Role::Administer)];
    let name = section.read("name", |value| {
        value::parsed(value, "write up to 64 letters, digits, blanks and . , : @ _ - / ( )", |text| {
            if crate::domain::staff::is_name(text) { Ok(text.to_owned()) } else { Err("not a name") }
        })
    });
    let role = section.read("role", value::one_of(&roles));
    let file = section.read("file", value::file_path(base));
    let expires = section.optional("expires", |value| {
        value::parsed(value, "write the last day on which the token is good, such as \"2026-12-31\"", |text| {
            text.parse::<Date>().map_err(|_| "not a day")
        })
    });
    Some(OperatorToken { name: name?, role: role?, file: file?, expires: expires? })
}
