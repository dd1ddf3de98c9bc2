//! `[[class]]`: who is recognised, besides the citizens that everybody is without a better proof.

use super::fault::Wrong;
use super::section::Section;
use super::value;
use crate::domain::names::ClassName;

/// Reads the names of all classes, the citizens last. `None` when anything is wrong with one of them.
pub(super) fn names(sections: &[Section<'_>]) -> Option<Vec<ClassName>> {
    let read: Vec<Option<ClassName>> = sections.iter().map(|section| section.read("name", value::class_name)).collect();
    let mut names = Vec::new();
    let mut good = true;
    for (section, name) in sections.iter().zip(read) {
        let citizen = [ClassName::citizen()];
        let mut others = names.iter().chain(&citizen);
        let clash = name.as_ref().and_then(|name| others.find_map(|other| clash(name, other)));
        good &= name.is_some() && clash.is_none();
        clash.into_iter().for_each(|wrong| section.fault("name", wrong));
        names.extend(name);
    }
    names.push(ClassName::citizen());
    good.then_some(names)
}

/// Why two classes cannot have these names.
fn clash(name: &ClassName, other: &ClassName) -> Option<Wrong> {
    if name == other && *name == ClassName::citizen() {
        let what = "everybody without a better proof is a citizen, without being listed";
        return Some(Wrong::new(what, "remove this class, or give it another name"));
    }
    if name == other {
        return Some(Wrong::new(
            format!("another class is called \"{name}\" too"),
            "give each class a name of its own",
        ));
    }
    let what = format!("\"{name}\" and \"{other}\" have the same number in tokens");
    (name.id() == other.id()).then(|| Wrong::new(what, "change one of the two names"))
}
