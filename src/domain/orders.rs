//! What operators say of a room to all nodes that share its line, and what that makes of the room.

use serde::{Deserialize, Serialize};

/// What a room does; `room.state` in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomState {
    /// Works.
    Open,
    /// Nobody is called, goes straight through or enters.
    Hold,
    /// Everybody passes; decisions are only counted.
    Observe,
    /// Maintenance page for everybody; passes and places are kept.
    Closed,
}

/// What an operator says of a room to all nodes that share its line, until somebody says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Nobody new enters, and the clocks of those inside stand still.
    Freeze,
    /// As it is without that.
    Thaw,
    /// Nobody is called, goes straight through or enters.
    Hold,
    /// As it is without that.
    GoOn,
}

/// The orders in force in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// The last of [`Order::Freeze`] and [`Order::Thaw`] was to freeze.
    pub frozen: bool,
    /// The last of [`Order::Hold`] and [`Order::GoOn`] was to hold.
    pub held: bool,
}

impl Orders {
    /// The orders that lead to these.
    pub fn each(self) -> [Order; 2] {
        let freeze = if self.frozen { Order::Freeze } else { Order::Thaw };
        [freeze, if self.held { Order::Hold } else { Order::GoOn }]
    }

    /// Those in force.
    pub fn in_force(self) -> impl Iterator<Item = Order> {
        self.each().into_iter().filter(|order| matches!(order, Order::Freeze | Order::Hold))
    }

    /// Those in force once this one was given, too.
    pub fn after(self, order: Order) -> Orders {
        match order {
            Order::Freeze => Orders { frozen: true, ..self },
            Order::Thaw => Orders { frozen: false, ..self },
            Order::Hold => Orders { held: true, ..self },
            Order::GoOn => Orders { held: false, ..self },
        }
    }

    /// What they make of a room whose file says this. They hold a room that is open, and open none that the file does not.
    pub fn state_of(self, of_file: RoomState) -> RoomState {
        if of_file == RoomState::Open && self.held { RoomState::Hold } else { of_file }
    }
}

/// What becomes of a room by an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its state from then on.
    pub state: RoomState,
    /// Whether it is frozen from then on.
    pub frozen: bool,
    /// Whether anything was said that had not been said before.
    pub says: Says,
}

/// Whether an order changes what is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// It does, even if the room looks the same because its file says so, too.
    SomethingNew,
    /// It was said before.
    Nothing,
}

/// Only the file can do what was ordered: it says this of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSays(pub RoomState);

/// What an order makes of a room whose file says `of_file` and of which `before` was said.
///
/// # Errors
/// [`FileSays`] when the room is to go on that no order holds and the file does not open.
pub fn outcome(order: Order, before: Orders, of_file: RoomState) -> Result<Outcome, FileSays> {
    if order == Order::GoOn && !before.held && of_file != RoomState::Open {
        return Err(FileSays(of_file));
    }
    let after = before.after(order);
    let says = if after == before { Says::Nothing } else { Says::SomethingNew };
    Ok(Outcome { state: after.state_of(of_file), frozen: after.frozen, says })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOTHING: Orders = Orders { frozen: false, held: false };
    const HELD: Orders = Orders { frozen: false, held: true };
    const FROZEN: Orders = Orders { frozen: true, held: false };

    fn given(order: Order, before: Orders, of_file: RoomState) -> (RoomState, bool, Says) {
        let outcome = outcome(order, before, of_file).unwrap();
        (outcome.state, outcome.frozen, outcome.says)
    }

    #[test]
    fn a_hold_and_its_end() {
        assert_eq!(given(Order::Hold, NOTHING, RoomState::Open), (RoomState::Hold, false, Says::SomethingNew));
        assert_eq!(given(Order::Hold, HELD, RoomState::Open), (RoomState::Hold, false, Says::Nothing));
        assert_eq!(given(Order::GoOn, HELD, RoomState::Open), (RoomState::Open, false, Says::SomethingNew));
        assert_eq!(given(Order::GoOn, NOTHING, RoomState::Open), (RoomState::Open, false, Says::Nothing));
        assert_eq!(given(Order::Freeze, HELD, RoomState::Open), (RoomState::Hold, true, Says::SomethingNew));
        assert_eq!(given(Order::Thaw, FROZEN, RoomState::Open), (RoomState::Open, false, Says::SomethingNew));
    }

    #[test]
    fn a_hold_that_the_file_says_too_is_something_new() {
        assert_eq!(given(Order::Hold, NOTHING, RoomState::Hold), (RoomState::Hold, false, Says::SomethingNew));
        assert_eq!(given(Order::GoOn, HELD, RoomState::Hold), (RoomState::Hold, false, Says::SomethingNew));
    }

    #[test]
    fn what_the_file_holds_or_closes_no_order_opens() {
        for of_file in [RoomState::Hold, RoomState::Observe, RoomState::Closed] {
            assert_eq!(outcome(Order::GoOn, NOTHING, of_file), Err(FileSays(of_file)));
            assert_eq!(outcome(Order::GoOn, HELD, of_file).map(|outcome| outcome.state), Ok(of_file));
        }
    }

    proptest! {
        #[test]
        fn an_order_given_twice_says_nothing_the_second_time(
            order in prop::sample::select(vec![Order::Freeze, Order::Thaw, Order::Hold, Order::GoOn]),
            frozen: bool, held: bool,
        ) {
            let once = Orders { frozen, held }.after(order);
            prop_assert_eq!(once.after(order), once);
            prop_assert_eq!(given(order, once, RoomState::Open).2, Says::Nothing);
        }
    }
}
