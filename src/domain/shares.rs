//! Shares: to whom the next admission goes when the lanes of a room divide them.
//!
//! Shares are held at entry. What the rate gives is credited to the classes by weight, an entry is charged to its
//! class, and of those with somebody at their gate the class goes next that has most to its credit for its weight: to
//! whom the longest time is owed. Numbers of different lanes are never compared. Whole numbers, in the unit of the [budget](super::budget), so that nothing drifts.

use std::cmp::Ordering;

use super::names::ClassId;

/// How the admissions of a room are divided between its classes just now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Every class the room knows, with its weight; 0 for those whose hours it is not. Empty: every lane weighs one.
    weights: Vec<(ClassId, u32)>,
    /// Whose credit the lanes use whose class is gone.
    heir: Option<ClassId>,
    borrow: Borrow,
    floors: Vec<ClassId>,
}

/// Whether what one class does not use goes to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Borrow {
    /// It does, and comes back within two seconds when it is needed.
    #[default]
    Yes,
    /// It does not: every class spends its own credit only.
    No,
}

impl Shares {
    /// Shares by weight. A class that is listed with 0, or not in its hours, gets nothing; lanes of classes that are not
    /// listed at all use the credit of `heir` until they are empty.
    pub fn new(weights: Vec<(ClassId, u32)>, heir: ClassId, borrow: Borrow, floors: Vec<ClassId>) -> Shares {
        Shares { weights, heir: Some(heir), borrow, floors }
    }

    /// Whose credit a lane uses.
    pub fn account(&self, class: ClassId) -> ClassId {
        let listed = self.weights.iter().any(|(known, _)| *known == class);
        if listed { class } else { self.heir.unwrap_or(class) }
    }

    fn weight(&self, account: ClassId) -> u128 {
        let listed = self.weights.iter().find(|(known, _)| *known == account);
        listed.map_or(u128::from(self.heir.is_none()), |(_, weight)| u128::from(*weight))
    }

    /// Whether it is this lane's hour.
    pub fn has_share(&self, class: ClassId) -> bool {
        self.weight(self.account(class)) > 0
    }

    /// Classes without a share.
    pub fn closed(&self) -> impl Iterator<Item = ClassId> {
        self.weights.iter().filter(|(_, weight)| *weight == 0).map(|(class, _)| *class)
    }

    /// Whether the class neither lends nor borrows.
    fn keeps_to_itself(&self, account: ClassId) -> bool {
        self.borrow == Borrow::No || self.floors.contains(&account)
    }

    /// What part of the rate a lane can have while those of `active` want some too.
    pub fn part(&self, class: ClassId, active: &[ClassId]) -> f64 {
        let own = self.account(class);
        let mut all = active.to_vec();
        if !all.contains(&class) {
            all.push(class);
        }
        let sum: u128 = self.counted(&all).map(|account| self.weight(account)).sum();
        let heirs = all.iter().filter(|other| self.account(**other) == own).count().max(1);
        if sum == 0 { 0.0 } else { self.weight(own) as f64 / sum as f64 / heirs as f64 }
    }

    /// The accounts among which the rate is divided, each once.
    fn counted<'a>(&'a self, active: &'a [ClassId]) -> impl Iterator<Item = ClassId> + 'a {
        let mut accounts: Vec<ClassId> = active.iter().map(|class| self.account(*class)).collect();
        let kept = self.weights.iter().map(|(class, _)| *class).filter(|class| self.keeps_to_itself(*class));
        accounts.extend(kept);
        accounts.sort_unstable();
        accounts.dedup();
        accounts.into_iter().filter(|account| self.weight(*account) > 0)
    }
}

/// What each class has to its credit.
#[derive(Clone, Debug, Default)]
pub struct Credits {
    accounts: Vec<(ClassId, i128)>,
    /// What those have together that borrow from one another; it keeps them from spending what is a floor of others.
    purse: i128,
}

/// What the rate gave, in the unit of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earned {
    /// Since the last time.
    pub units: u128,
    /// In a second.
    pub second: u128,
    /// An admission.
    pub one: u128,
}

/// How much a lane has to its credit: who has most goes next. Those who keep to themselves go before those who borrow, so
/// that nobody borrows what is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    keeps_to_itself: bool,
    credit: i128,
    weight: i128,
}

impl Ord for Owed {
    fn cmp(&self, other: &Owed) -> Ordering {
        let time = || (self.credit * other.weight).cmp(&(other.credit * self.weight));
        self.keeps_to_itself.cmp(&other.keeps_to_itself).then_with(time)
    }
}

impl PartialOrd for Owed {
    fn partial_cmp(&self, other: &Owed) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Credits {
    /// Credits what the rate gave to those of `active` and to those who keep to themselves. Nobody saves up, or owes, more
    /// than two seconds' worth of their share, but one admission always.
    pub fn earn(&mut self, shares: &Shares, active: &[ClassId], earned: Earned) {
        let sum: u128 = shares.counted(active).map(|account| shares.weight(account)).sum();
        let mut together = 0;
        for account in shares.counted(active) {
            let weight = shares.weight(account);
            let credit = self.account(account);
            *credit = earned.added_to(*credit, weight, sum);
            if !shares.keeps_to_itself(account) {
                together += weight;
            }
        }
        self.purse = earned.added_to(self.purse, together, sum);
    }

    fn account(&mut self, account: ClassId) -> &mut i128 {
        let index = self.accounts.iter().position(|(known, _)| *known == account).unwrap_or_else(|| {
            self.accounts.push((account, 0));
            self.accounts.len() - 1
        });
        &mut self.accounts[index].1
    }

    /// What is owed to a lane, if it may spend an admission worth `one`.
    pub fn to_spend(&self, shares: &Shares, class: ClassId, one: u128) -> Option<Owed> {
        let account = shares.account(class);
        let (credit, weight) = (self.of(shares, class), shares.weight(account));
        let keeps_to_itself = shares.keeps_to_itself(account);
        let suffices =
            if keeps_to_itself { credit >= signed(one) } else { shares.floors.is_empty() || self.purse >= signed(one) };
        (weight > 0 && suffices).then_some(Owed { keeps_to_itself, credit, weight: signed(weight) })
    }

    /// What a lane has to its credit.
    pub fn of(&self, shares: &Shares, class: ClassId) -> i128 {
        let account = shares.account(class);
        self.accounts.iter().find(|(known, _)| *known == account).map_or(0, |(_, credit)| *credit)
    }

    /// Charges an admission to the lane.
    pub fn spend(&mut self, shares: &Shares, class: ClassId, one: u128) {
        self.change(shares, class, -signed(one));
    }

    /// Gives back an admission that reached nobody.
    pub fn give_back(&mut self, shares: &Shares, class: ClassId, one: u128) {
        self.change(shares, class, signed(one));
    }

    fn change(&mut self, shares: &Shares, class: ClassId, by: i128) {
        let account = shares.account(class);
        *self.account(account) += by;
        if !shares.keeps_to_itself(account) {
            self.purse += by;
        }
    }

    /// Nothing is made up for after a standstill, and nothing carried over into a rate of another unit.
    pub fn forget(&mut self) {
        *self = Credits::default();
    }
}

impl Earned {
    fn added_to(self, credit: i128, weight: u128, sum: u128) -> i128 {
        let part = |units: u128| signed((units * weight).checked_div(sum).unwrap_or(0));
        let two_seconds = part(2 * self.second);
        // Where the budget saves up one admission and a tick's worth, so does each of its parts.
        let one_and_a_tick = signed(self.one) + part(self.second / 10);
        (credit + part(self.units)).clamp(-two_seconds.max(signed(self.one)), two_seconds.max(one_and_a_tick))
    }
}

fn signed(units: u128) -> i128 {
    i128::try_from(units).unwrap_or(i128::MAX / 4)
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use super::*;

    const CITIZEN: ClassId = ClassId(1);
    const OFFICE: ClassId = ClassId(2);
    const GONE: ClassId = ClassId(9);
    const ONE: u128 = 1000;

    fn shares(citizen: u32, office: u32, borrow: Borrow, floors: &[ClassId]) -> Shares {
        Shares::new(vec![(CITIZEN, citizen), (OFFICE, office)], CITIZEN, borrow, floors.to_vec())
    }

    /// Earns one admission at a time and says how many of `rounds` went to each of `at_gate`.
    fn divided(shares: &Shares, at_gate: &[ClassId], active: &[ClassId], rounds: usize) -> Vec<usize> {
        let mut credits = Credits::default();
        let mut entries = vec![0; at_gate.len()];
        for _ in 0..rounds {
            credits.earn(shares, active, Earned { units: ONE, second: 100 * ONE, one: ONE });
            let richest = (0..at_gate.len())
                .filter_map(|index| Some((credits.to_spend(shares, at_gate[index], ONE)?, Reverse(index))))
                .max();
            if let Some((_, Reverse(index))) = richest {
                credits.spend(shares, at_gate[index], ONE);
                entries[index] += 1;
            }
        }
        entries
    }

    #[test]
    fn full_lanes_get_their_shares() {
        let both = [CITIZEN, OFFICE];
        assert_eq!(divided(&shares(90, 10, Borrow::Yes, &[]), &both, &both, 1000), [900, 100]);
        assert_eq!(divided(&shares(25, 75, Borrow::Yes, &[]), &both, &both, 1000), [250, 750]);
        let own = divided(&shares(25, 75, Borrow::No, &[]), &both, &both, 1000);
        assert!(own[0].abs_diff(250) <= 2 && own[1].abs_diff(750) <= 2, "{own:?}");
    }

    #[test]
    fn an_idle_share_is_lent_or_not() {
        assert_eq!(divided(&shares(90, 10, Borrow::Yes, &[]), &[OFFICE], &[OFFICE], 1000), [1000]);
        assert_eq!(divided(&shares(90, 10, Borrow::No, &[]), &[OFFICE], &[OFFICE], 1000), [100]);
    }

    #[test]
    fn a_floor_is_not_lent_while_the_rest_is() {
        let shares = shares(90, 10, Borrow::Yes, &[OFFICE]);
        let alone = divided(&shares, &[CITIZEN], &[CITIZEN], 1000);
        assert!(alone[0].abs_diff(900) <= 1, "{alone:?}");
        let both = divided(&shares, &[CITIZEN, OFFICE], &[CITIZEN, OFFICE], 1000);
        assert!(both[1].abs_diff(100) <= 1, "{both:?}");
    }

    #[test]
    fn without_a_share_nobody_enters() {
        let both = [CITIZEN, OFFICE];
        let shares = shares(0, 100, Borrow::Yes, &[]);
        assert_eq!(divided(&shares, &both, &both, 1000), [0, 1000]);
        assert!(!shares.has_share(CITIZEN));
        assert_eq!(shares.part(CITIZEN, &both), 0.0);
    }

    #[test]
    fn a_class_that_is_gone_uses_the_citizens_credit() {
        let shares = shares(90, 10, Borrow::Yes, &[]);
        let all = [CITIZEN, OFFICE, GONE];
        let entries = divided(&shares, &all, &all, 1000);
        assert_eq!((entries[0] + entries[2], entries[1]), (900, 100));
        assert!((shares.part(GONE, &all) - 0.45).abs() < 1e-9);
    }

    #[test]
    fn without_windows_all_lanes_weigh_the_same() {
        let both = [CITIZEN, OFFICE];
        assert_eq!(divided(&Shares::default(), &both, &both, 1000), [500, 500]);
        assert_eq!(Shares::default().part(CITIZEN, &[]), 1.0);
        assert_eq!(Shares::default().part(CITIZEN, &both), 0.5);
    }

    /// Who enters in `rounds` admissions at a hundred a second when for ten seconds before only `lonely` was at the gate.
    fn after_being_alone(shares: &Shares, lonely: ClassId, rounds: usize) -> Vec<ClassId> {
        let earned = Earned { units: ONE, second: 100 * ONE, one: ONE };
        let (mut credits, both) = (Credits::default(), [CITIZEN, OFFICE]);
        let mut enter = |at_gate: &[ClassId]| {
            credits.earn(shares, &both, earned);
            let next = at_gate.iter().filter_map(|class| Some((credits.to_spend(shares, *class, ONE)?, *class))).max();
            next.inspect(|(_, class)| credits.spend(shares, *class, ONE)).map(|(_, class)| class)
        };
        for _ in 0..1000 {
            enter(&[lonely]);
        }
        (0..rounds).filter_map(|_| enter(&both)).collect()
    }

    fn count(entries: &[ClassId], class: ClassId) -> usize {
        entries.iter().filter(|entered| **entered == class).count()
    }

    #[test]
    fn after_a_loan_the_shares_hold_again_within_five_seconds() {
        for (citizens, offices) in [(50, 50), (90, 10), (99, 1), (10, 90)] {
            for lonely in [CITIZEN, OFFICE] {
                let entries = after_being_alone(&shares(citizens, offices, Borrow::Yes, &[]), lonely, 6500);
                let lender = if lonely == CITIZEN { OFFICE } else { CITIZEN };
                assert_eq!(entries[0], lender, "{citizens}/{offices}: the lender goes first");
                let due = usize::try_from(citizens).unwrap() * 60;
                let got = count(&entries[500..], CITIZEN);
                assert!(got.abs_diff(due) <= (due / 100).max(2), "{citizens}/{offices}: {got} of {due}");
            }
        }
    }

    #[test]
    fn a_small_lane_does_not_starve_while_a_large_one_spends_what_it_saved() {
        let entries = after_being_alone(&shares(90, 10, Borrow::No, &[]), OFFICE, 1200);
        let later = count(&entries[200..], OFFICE);
        assert!(later.abs_diff(100) <= 2, "two seconds later {later} of 100");
        let entries = after_being_alone(&shares(90, 10, Borrow::Yes, &[OFFICE]), OFFICE, 100);
        assert!(count(&entries, OFFICE) >= 9, "a floor holds at once");
    }
}
