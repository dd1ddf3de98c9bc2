//! How an edge that keeps personal pages is found out: the same fresh address is asked for twice, as two visitors, and
//! every answer carries a number that is never given twice. The same number twice means that the second visitor got the
//! first one's answer.

/// What begins the last segment of a canary's path. Whoever asks gets a fresh number and nothing else.
pub const MARK: &str = "anticamera-canary-";

/// What personal pages look like to an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A page.
    Page,
    /// The same with an ending that rules by name take for a style sheet.
    NamedLikeAFile,
    /// An error.
    NotFound,
    /// A redirection.
    Moved,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Page, Kind::NamedLikeAFile, Kind::NotFound, Kind::Moved];

    /// What ends the path.
    pub fn ending(self) -> &'static str {
        match self {
            Kind::Page => "",
            Kind::NamedLikeAFile => ".css",
            Kind::NotFound => "-404",
            Kind::Moved => "-301",
        }
    }

    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Kind::Page | Kind::NamedLikeAFile => 200,
            Kind::NotFound => 404,
            Kind::Moved => 301,
        }
    }

    /// How it is called in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Page => "a personal page",
            Kind::NamedLikeAFile => "a personal page whose name ends in .css",
            Kind::NotFound => "a personal 404",
            Kind::Moved => "a personal 301",
        }
    }
}

/// Which canary a path asks for, if it does.
pub fn asked_for(path: &str) -> Option<Kind> {
    let segment = path.rsplit('/').next()?.strip_prefix(MARK)?;
    let (random, ending) = segment.split_at_checked(32)?;
    if !random.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Kind::ALL.into_iter().find(|kind| kind.ending() == ending)
}

/// The path of a canary in a folder.
pub fn path(folder: &str, random: &str, kind: Kind) -> String {
    format!("{}/{MARK}{random}{}", folder.trim_end_matches('/'), kind.ending())
}

/// What asking for one address twice showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Two answers of our own.
    Fresh,
    /// One answer, twice: the edge keeps it.
    Kept,
    /// Not two answers of ours: the edge was out of reach, asked whether a person is there, or answered by itself.
    Unknown,
}

/// Compares the numbers in two answers, as far as they were answers of ours.
pub fn compare(first: Option<&str>, second: Option<&str>) -> Shown {
    match (first, second) {
        (Some(first), Some(second)) if first == second => Shown::Kept,
        (Some(_), Some(_)) => Shown::Fresh,
        _ => Shown::Unknown,
    }
}

/// What is believed of the edge after some rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    kept_in_a_row: u32,
}

/// So many rounds running make a proof.
const PROOF: u32 = 2;

impl Edge {
    /// Takes a round into account. What is unknown proves nothing, neither way.
    pub fn after(self, round: Shown) -> Edge {
        match round {
            Shown::Kept => Edge { kept_in_a_row: (self.kept_in_a_row + 1).min(PROOF) },
            Shown::Fresh => Edge::default(),
            Shown::Unknown => self,
        }
    }

    /// Whether it is proven that the edge keeps personal pages.
    pub fn keeps_personal_pages(self) -> bool {
        self.kept_in_a_row >= PROOF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn canaries_are_recognised_by_their_path() {
        for kind in Kind::ALL {
            assert_eq!(asked_for(&path("/bonus-600/", RANDOM, kind)), Some(kind));
            assert_eq!(asked_for(&path("/", RANDOM, kind)), Some(kind));
        }
        for other in
            ["/", "/anticamera-canary-", "/anticamera-canary-0123", "/a/anticamera-canary", "/anticamera-canary-é"]
        {
            assert_eq!(asked_for(other), None, "{other}");
        }
        assert_eq!(asked_for(&format!("/{MARK}{RANDOM}.js")), None);
    }

    #[test]
    fn one_round_proves_nothing_and_the_unknown_neither() {
        let edge = Edge::default().after(Shown::Kept);
        assert!(!edge.keeps_personal_pages());
        assert!(edge.after(Shown::Unknown).after(Shown::Kept).keeps_personal_pages());
        assert!(!edge.after(Shown::Fresh).after(Shown::Kept).keeps_personal_pages());
        assert!(edge.after(Shown::Kept).after(Shown::Unknown).keeps_personal_pages());
        assert!(!Edge::default().after(Shown::Unknown).after(Shown::Unknown).keeps_personal_pages());
    }

    #[test]
    fn numbers_are_compared() {
        assert_eq!(compare(Some("1"), Some("2")), Shown::Fresh);
        assert_eq!(compare(Some("1"), Some("1")), Shown::Kept);
        assert_eq!(compare(None, Some("1")), Shown::Unknown);
        assert_eq!(compare(None, None), Shown::Unknown);
    }
}
