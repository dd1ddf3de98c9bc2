//! Two configuration files key by key, as somebody would say what differs between them. Members of lists that have a name
//! (rooms, classes) are told apart by it, others by their place.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// A key with another value; `None` where a file says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key, such as `room "fair".admission_rate`.
    pub key: String,
    /// What the first file says.
    pub from: Option<String>,
    /// What the second file says.
    pub to: Option<String>,
}

/// What differs between two files, in the order of the keys.
pub fn differences(from: &Table, to: &Table) -> Vec<Difference> {
    let (from, to) = (flat(from), flat(to));
    let mut keys: Vec<&String> = from.keys().chain(to.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differs = keys.into_iter().filter(|key| from.get(*key) != to.get(*key));
    let of = |key: &String| Difference { key: key.clone(), from: from.get(key).cloned(), to: to.get(key).cloned() };
    differs.map(of).collect()
}

fn flat(table: &Table) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    add_table("", table, &mut values);
    values
}

fn add_table(path: &str, table: &Table, values: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        add(&key, value, values);
    }
}

fn add(key: &str, value: &Value, values: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => add_table(key, table, values),
        Value::Array(members) if members.iter().any(Value::is_table) => {
            for (index, member) in members.iter().enumerate() {
                let name = member.get("name").and_then(Value::as_str);
                let place = name.map_or_else(|| format!("{key}[{}]", index + 1), |name| format!("{key} {name:?}"));
                add(&place, member, values);
            }
        }
        other => drop(values.insert(key.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        server.listen = ["127.0.0.1:8080"]
        [[room]]
        name = "fair"
        admission_rate = "10/s"
        [[room.window]]
        from = "08:00"
        [[room]]
        name = "other"
    "#;

    fn of(from: &str, to: &str) -> Vec<(String, Option<String>, Option<String>)> {
        let differences = differences(&FILE.parse().unwrap(), &FILE.replace(from, to).parse().unwrap());
        differences.into_iter().map(|one| (one.key, one.from, one.to)).collect()
    }

    #[test]
    fn keys_are_named_by_room_and_place() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(of("10/s", "20/s"), [("room \"fair\".admission_rate".into(), text("\"10/s\""), text("\"20/s\""))]);
        assert_eq!(
            of("08:00", "09:00"),
            [("room \"fair\".window[1].from".into(), text("\"08:00\""), text("\"09:00\""))]
        );
        assert_eq!(
            of("name = \"other\"", "name = \"third\""),
            [
                ("room \"other\".name".into(), text("\"other\""), None),
                ("room \"third\".name".into(), None, text("\"third\""))
            ]
        );
        assert_eq!(of("8080", "8080"), []);
        assert_eq!(of("[\"127.0.0.1:8080\"]", "[]")[0].2, text("[]"));
    }
}
