//! How languages change a word with its number: the plural rules of Unicode CLDR, for whole numbers.
//!
//! A language is added with one function and the categories that it can answer with.

/// A plural category of Unicode CLDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plural {
    /// `zero`
    Zero,
    /// `one`
    One,
    /// `two`
    Two,
    /// `few`
    Few,
    /// `many`
    Many,
    /// `other`
    Other,
}

impl Plural {
    /// Every category.
    pub const ALL: [Plural; 6] = [Plural::Zero, Plural::One, Plural::Two, Plural::Few, Plural::Many, Plural::Other];

    /// The category's name in catalogue files.
    pub fn name(self) -> &'static str {
        match self {
            Plural::Zero => "zero",
            Plural::One => "one",
            Plural::Two => "two",
            Plural::Few => "few",
            Plural::Many => "many",
            Plural::Other => "other",
        }
    }
}

/// How one language forms plurals.
#[derive(Clone, Copy, Debug)]
pub struct PluralRule {
    categories: &'static [Plural],
    category: fn(u64) -> Plural,
}

impl PluralRule {
    /// The rule of the language with this BCP 47 tag, if it is known.
    pub fn of(language: &str) -> Option<PluralRule> {
        match language {
            "en" => Some(PluralRule { categories: &[Plural::One, Plural::Other], category: english }),
            "it" => Some(PluralRule { categories: &[Plural::One, Plural::Many, Plural::Other], category: italian }),
            _ => None,
        }
    }

    /// Every category that the language has.
    pub fn categories(self) -> &'static [Plural] {
        self.categories
    }

    /// The category of the number `n`.
    pub fn category(self, n: u64) -> Plural {
        (self.category)(n)
    }
}

fn english(n: u64) -> Plural {
    if n == 1 { Plural::One } else { Plural::Other }
}

/// Millions take a preposition: "1.000.000 di persone".
fn italian(n: u64) -> Plural {
    match n {
        1 => Plural::One,
        n if n != 0 && n.is_multiple_of(1_000_000) => Plural::Many,
        _ => Plural::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn italian_and_english() {
        let categories = |language| {
            let rule = PluralRule::of(language).expect("a known language");
            [0, 1, 2, 1_000_000, 1_000_001].map(|n| rule.category(n).name())
        };
        assert_eq!(categories("en"), ["other", "one", "other", "other", "other"]);
        assert_eq!(categories("it"), ["other", "one", "other", "many", "other"]);
    }
}
