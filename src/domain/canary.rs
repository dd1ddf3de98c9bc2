//! How an edge that keeps personal pages is found out: the same fresh address is asked for twice, as two visitors, and
//! every answer carries a number that is never given twice. The same number twice means that the second visitor got the
//! first one's answer.

use std::collections::BTreeMap;

/// What begins the last segment of a canary's path. Whoever asks gets a fresh number and nothing else.
pub const MARK: &str = "anticamera-canary-";

/// What personal pages look like to an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// What is asked for: a kind of page in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The folder, without a slash at its end.
    pub folder: String,
    /// What looks like a page there.
    pub kind: Kind,
}

/// What is believed of the edge after some rounds, for each place: what is unknown of one says nothing of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    places: BTreeMap<Place, Belief>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Belief {
    kept_in_a_row: u32,
    unknown_since: u32,
}

/// So many rounds running make a proof.
const PROOF: u32 = 2;

/// After so many rounds in which nothing of ours came from a place, while others answered, what was proven of it is
/// history: the edge no longer serves such pages at all.
const OUTDATED: u32 = 10;

impl Edge {
    /// Takes a round into account: what each place showed. Places that were not asked are forgotten.
    pub fn after<'a>(&self, round: impl Iterator<Item = (&'a Place, Shown)> + Clone) -> Edge {
        let is_reached = round.clone().any(|(_, shown)| shown != Shown::Unknown);
        let places = round.map(|(place, shown)| {
            let before = self.places.get(place).copied().unwrap_or_default();
            (place.clone(), before.after(shown, is_reached))
        });
        Edge { places: places.collect() }
    }

    /// Whether it is proven that the edge keeps personal pages.
    pub fn keeps_personal_pages(&self) -> bool {
        self.places.values().any(|belief| belief.kept_in_a_row >= PROOF)
    }

    /// Whether one more round may be the proof.
    pub fn is_suspected(&self) -> bool {
        self.places.values().any(|belief| (1..PROOF).contains(&belief.kept_in_a_row) && belief.unknown_since == 0)
    }
}

impl Belief {
    /// What is unknown proves nothing, neither way.
    fn after(self, shown: Shown, is_reached: bool) -> Belief {
        let unknown_since = self.unknown_since + u32::from(is_reached);
        match shown {
            Shown::Kept => Belief { kept_in_a_row: (self.kept_in_a_row + 1).min(PROOF), unknown_since: 0 },
            Shown::Fresh => Belief::default(),
            Shown::Unknown if unknown_since >= OUTDATED => Belief { kept_in_a_row: 0, unknown_since },
            Shown::Unknown => Belief { unknown_since, ..self },
        }
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

    fn place(kind: Kind) -> Place {
        Place { folder: "/bonus-600".to_owned(), kind }
    }

    /// What is believed after some rounds; in each the page showed this, and everything else that.
    fn after(rounds: &[(Shown, Shown)]) -> Edge {
        rounds.iter().fold(Edge::default(), |edge, (page, others)| {
            let places = Kind::ALL.map(place);
            let shown = |place: &Place| if place.kind == Kind::Page { *page } else { *others };
            edge.after(places.iter().map(|place| (place, shown(place))))
        })
    }

    #[test]
    fn one_round_proves_nothing_and_the_unknown_neither() {
        let (kept, fresh, unknown) = (Shown::Kept, Shown::Fresh, Shown::Unknown);
        let is_proven = |rounds: &[Shown]| {
            let rounds: Vec<_> = rounds.iter().map(|page| (*page, fresh)).collect();
            after(&rounds).keeps_personal_pages()
        };
        assert!(!is_proven(&[kept]));
        assert!(after(&[(kept, fresh)]).is_suspected());
        assert!(is_proven(&[kept, kept]));
        assert!(is_proven(&[kept, unknown, kept]));
        assert!(!is_proven(&[kept, fresh, kept]));
        assert!(is_proven(&[kept, kept, unknown]));
        assert!(!is_proven(&[kept, kept, fresh]));
        assert!(!is_proven(&[unknown, unknown]));
    }

    #[test]
    fn two_pages_kept_once_each_are_no_proof() {
        assert!(!after(&[(Shown::Kept, Shown::Fresh), (Shown::Fresh, Shown::Kept)]).keeps_personal_pages());
    }

    #[test]
    fn an_edge_is_mended_although_some_kind_of_page_stays_unknown() {
        let (kept, fresh, unknown) = (Shown::Kept, Shown::Fresh, Shown::Unknown);
        assert!(after(&[(kept, unknown), (kept, unknown)]).keeps_personal_pages());
        assert!(!after(&[(kept, unknown), (kept, unknown), (fresh, unknown)]).keeps_personal_pages());
    }

    #[test]
    fn what_the_edge_no_longer_serves_is_no_proof_for_ever() {
        let served =
            |rounds| [vec![(Shown::Kept, Shown::Fresh); 2], vec![(Shown::Unknown, Shown::Fresh); rounds]].concat();
        assert!(after(&served(OUTDATED as usize - 1)).keeps_personal_pages());
        assert!(!after(&served(OUTDATED as usize)).keeps_personal_pages());
        let out_of_reach = [vec![(Shown::Kept, Shown::Fresh); 2], vec![(Shown::Unknown, Shown::Unknown); 50]].concat();
        assert!(after(&out_of_reach).keeps_personal_pages(), "an edge out of reach says nothing");
    }

    #[test]
    fn numbers_are_compared() {
        assert_eq!(compare(Some("1"), Some("2")), Shown::Fresh);
        assert_eq!(compare(Some("1"), Some("1")), Shown::Kept);
        assert_eq!(compare(None, Some("1")), Shown::Unknown);
        assert_eq!(compare(None, None), Shown::Unknown);
    }
}
