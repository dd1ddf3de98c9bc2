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
        use Plural::{Few, Many, One, Other, Two, Zero};
        let (categories, category): (&'static [Plural], fn(u64) -> Plural) = match language {
            "de" | "en" | "sq" => (&[One, Other], one_other),
            "es" | "it" => (&[One, Many, Other], spanish_and_italian),
            "fr" => (&[One, Many, Other], french),
            "ro" => (&[One, Few, Other], romanian),
            "sl" => (&[One, Two, Few, Other], slovene),
            "uk" => (&[One, Few, Many], ukrainian),
            "ar" => (&[Zero, One, Two, Few, Many, Other], arabic),
            "zh" => (&[Other], |_| Other),
            _ => return None,
        };
        Some(PluralRule { categories, category })
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

fn one_other(n: u64) -> Plural {
    if n == 1 { Plural::One } else { Plural::Other }
}

/// Millions take a preposition: "1.000.000 di persone".
fn spanish_and_italian(n: u64) -> Plural {
    match n {
        1 => Plural::One,
        n if is_millions(n) => Plural::Many,
        _ => Plural::Other,
    }
}

fn french(n: u64) -> Plural {
    match n {
        0 | 1 => Plural::One,
        n if is_millions(n) => Plural::Many,
        _ => Plural::Other,
    }
}

fn is_millions(n: u64) -> bool {
    n != 0 && n.is_multiple_of(1_000_000)
}

fn romanian(n: u64) -> Plural {
    match (n, n % 100) {
        (1, _) => Plural::One,
        (0, _) | (_, 1..=19) => Plural::Few,
        _ => Plural::Other,
    }
}

fn slovene(n: u64) -> Plural {
    match n % 100 {
        1 => Plural::One,
        2 => Plural::Two,
        3 | 4 => Plural::Few,
        _ => Plural::Other,
    }
}

fn ukrainian(n: u64) -> Plural {
    match (n % 10, n % 100) {
        (_, 11..=14) => Plural::Many,
        (1, _) => Plural::One,
        (2..=4, _) => Plural::Few,
        _ => Plural::Many,
    }
}

fn arabic(n: u64) -> Plural {
    match (n, n % 100) {
        (0, _) => Plural::Zero,
        (1, _) => Plural::One,
        (2, _) => Plural::Two,
        (_, 3..=10) => Plural::Few,
        (_, 11..=99) => Plural::Many,
        _ => Plural::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A language, its categories, and numbers of each.
    type Samples = (&'static str, &'static [(&'static str, &'static [u64])]);

    /// Integer samples of Unicode CLDR 46, `supplemental/plurals.xml`.
    #[test]
    fn every_language_agrees_with_cldr() {
        let samples: [Samples; 11] = [
            ("de", &[("one", &[1]), ("other", &[0, 2, 16, 100, 1_000, 1_000_000])]),
            ("en", &[("one", &[1]), ("other", &[0, 2, 16, 100, 1_000, 1_000_000])]),
            ("sq", &[("one", &[1]), ("other", &[0, 2, 16, 100, 1_000, 1_000_000])]),
            ("zh", &[("other", &[0, 1, 15, 100, 1_000, 1_000_000])]),
            ("es", &[("one", &[1]), ("many", &[1_000_000, 2_000_000]), ("other", &[0, 2, 16, 1_000, 1_000_001])]),
            ("it", &[("one", &[1]), ("many", &[1_000_000, 2_000_000]), ("other", &[0, 2, 16, 1_000, 1_000_001])]),
            ("fr", &[("one", &[0, 1]), ("many", &[1_000_000, 2_000_000]), ("other", &[2, 17, 100, 1_000])]),
            ("ro", &[("one", &[1]), ("few", &[0, 2, 16, 101, 1_001]), ("other", &[20, 35, 100, 1_000, 1_000_000])]),
            (
                "sl",
                &[
                    ("one", &[1, 101, 201, 1_001]),
                    ("two", &[2, 102, 202, 1_002]),
                    ("few", &[3, 4, 103, 204, 1_003]),
                    ("other", &[0, 5, 19, 100, 1_000, 1_000_000]),
                ],
            ),
            (
                "uk",
                &[
                    ("one", &[1, 21, 31, 101, 1_001]),
                    ("few", &[2, 4, 22, 34, 102, 1_002]),
                    ("many", &[0, 5, 11, 12, 14, 19, 100, 111, 1_000, 1_000_000]),
                ],
            ),
            (
                "ar",
                &[
                    ("zero", &[0]),
                    ("one", &[1]),
                    ("two", &[2]),
                    ("few", &[3, 10, 103, 110, 1_003]),
                    ("many", &[11, 26, 99, 111, 1_011]),
                    ("other", &[100, 102, 200, 302, 1_000, 1_000_000]),
                ],
            ),
        ];
        for (language, categories) in samples {
            let rule = PluralRule::of(language).expect("a known language");
            let has: Vec<&str> = rule.categories().iter().map(|category| category.name()).collect();
            assert_eq!(has, categories.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{language}");
            for (name, numbers) in categories {
                for n in *numbers {
                    assert_eq!(rule.category(*n).name(), *name, "{language} {n}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_language_has_no_rule() {
        assert!(PluralRule::of("tlh").is_none());
    }
}
