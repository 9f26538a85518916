//! Who is next: those who wait for a request, and the rule by which they take turns. Pure.

use std::collections::{BTreeMap, VecDeque};

use activity_api::ContentType;
use tokio::sync::oneshot;

/// What a request is for. Requests of one use wait in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Subscriptions: a handful each quarter of an hour, without which there is nothing to list.
    Control,
    /// A page of a content type's listing.
    Listing(ContentType),
    /// A blob of a content type.
    Fetching(ContentType),
}

/// Which kinds of use share alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Class {
    Control,
    Listing,
    Fetching,
}

impl Use {
    fn class(self) -> Class {
        match self {
            Self::Control => Class::Control,
            Self::Listing(_) => Class::Listing,
            Self::Fetching(_) => Class::Fetching,
        }
    }
}

/// The lines. Listing and fetching each get every other turn while both wait, and in each of them the content types take
/// turns: neither many pages nor a large backlog of one keeps the others waiting.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeMap<Use, VecDeque<oneshot::Sender<()>>>,
    /// When it was whose turn last, by the number of turns so far.
    last_turn_of_use: BTreeMap<Use, u64>,
    last_turn_of_class: BTreeMap<Class, u64>,
    turns: u64,
}

impl Line {
    /// Joins the line of `of`. What is returned hears when its turn has come.
    pub(super) fn join(&mut self, of: Use) -> oneshot::Receiver<()> {
        let (turn, mine) = oneshot::channel();
        self.waiting.entry(of).or_default().push_back(turn);
        mine
    }

    /// How many wait.
    pub(super) fn len(&mut self) -> usize {
        self.leave_out_those_who_left();
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Tells whose turn it is; whether anybody waited.
    pub(super) fn call_next(&mut self) -> bool {
        self.leave_out_those_who_left();
        while let Some(next) = self.next_use() {
            let Some(turn) = self.waiting.get_mut(&next).and_then(VecDeque::pop_front) else {
                return false;
            };
            // Whoever left in this moment is passed over, and has used up no turn.
            if turn.send(()).is_ok() {
                self.took_its_turn(next);
                return true;
            }
            self.leave_out_those_who_left();
        }
        false
    }

    /// A request for `of` is sent.
    pub(super) fn took_its_turn(&mut self, of: Use) {
        self.turns += 1;
        self.last_turn_of_use.insert(of, self.turns);
        self.last_turn_of_class.insert(of.class(), self.turns);
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.values().all(VecDeque::is_empty)
    }

    /// The use whose turn is longest ago, of the class whose turn is longest ago.
    fn next_use(&self) -> Option<Use> {
        self.waiting.keys().copied().min_by_key(|of| {
            let class = of.class();
            let turn_of_class = match class {
                Class::Control => 0,
                class => self.last_turn_of_class.get(&class).copied().unwrap_or(0),
            };
            let turn_of_use = self.last_turn_of_use.get(of).copied().unwrap_or(0);
            (turn_of_class, turn_of_use, *of)
        })
    }

    fn leave_out_those_who_left(&mut self) {
        self.waiting.retain(|_, waiting| {
            waiting.retain(|turn| !turn.is_closed());
            !waiting.is_empty()
        });
    }
}
