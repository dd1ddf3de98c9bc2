//! No number twice.

use std::collections::HashSet;

use crate::ticket::Place;

/// How many places were given to somebody although somebody else had them.
pub fn duplicates(places: impl Iterator<Item = Place>) -> usize {
    let mut given = HashSet::new();
    places.filter(|place| !given.insert(*place)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_number_in_another_lane_is_another_place() {
        let place = |class, number| Place { class, number };
        assert_eq!(duplicates([place(0, 1), place(0, 2), place(1, 1)].into_iter()), 0);
        assert_eq!(duplicates([place(0, 1), place(0, 2), place(0, 1), place(0, 1)].into_iter()), 2);
    }
}
