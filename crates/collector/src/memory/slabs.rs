//! Slabs in which long texts and bodies lie side by side, whatever their lengths. To ask the system for memory and to give it
//! back for each would cost as much as inflating some of it, and buffers that are kept fit only what is of their size.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

/// Stretches begin and end at multiples of this, so that what is left between them is of use.
const STEP_BYTES: usize = 4 * 1024;

/// How long a stretch for `bytes` is.
pub(super) fn size_for(bytes: usize) -> usize {
    bytes.next_multiple_of(STEP_BYTES)
}

/// A bounded number of slabs, each there while something lies in it, and one besides.
#[derive(Debug)]
pub(super) struct Slabs {
    slab_bytes: usize,
    max_count: usize,
    slabs: Mutex<Vec<Slab>>,
}

/// One stretch of memory, and what of it is free.
#[derive(Debug)]
struct Slab {
    /// Its address.
    start: usize,
    bytes: usize,
    /// By address, and never two that touch.
    free: Vec<BytesMut>,
}

impl Slabs {
    pub(super) fn new(slab_bytes: usize, max_count: usize) -> Self {
        Self {
            slab_bytes,
            max_count,
            slabs: Mutex::default(),
        }
    }

    /// A stretch of [`size_for`] these bytes. The first that is free is taken, so that the last slabs become empty; where
    /// there is none, one by itself.
    pub(super) fn take(&self, bytes: usize) -> BytesMut {
        let size = size_for(bytes);
        let mut slabs = self.lock();
        if let Some(stretch) = slabs.iter_mut().find_map(|slab| slab.take(size)) {
            return stretch;
        }
        if slabs.len() < self.max_count {
            let mut slab = Slab::new(self.slab_bytes);
            if let Some(stretch) = slab.take(size) {
                slabs.push(slab);
                return stretch;
            }
        }
        drop(slabs);
        BytesMut::zeroed(size)
    }

    /// Takes a stretch back.
    pub(super) fn give(&self, stretch: BytesMut) {
        let mut slabs = self.lock();
        let at = stretch.as_ptr() as usize;
        let Some(slab) = slabs.iter_mut().find(|slab| slab.holds(at)) else {
            return;
        };
        slab.give(stretch);
        let surplus = match slabs.iter().filter(|slab| slab.is_empty()).count() {
            0 | 1 => None,
            _ => slabs.iter().rposition(Slab::is_empty),
        };
        let surplus = surplus.map(|at| slabs.remove(at));
        // Given back to the system while nobody waits here.
        drop(slabs);
        drop(surplus);
    }

    /// Gives back to the system all slabs in which nothing lies.
    pub(super) fn trim(&self) {
        let mut slabs = self.lock();
        let (empty, others) = std::mem::take(&mut *slabs)
            .into_iter()
            .partition::<Vec<_>, _>(Slab::is_empty);
        *slabs = others;
        drop(slabs);
        drop(empty);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slab>> {
        // A stretch that is lost between two lists is freed with its slab, and nobody else has it.
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slab {
    /// Zeros that the system makes when they are first looked at.
    fn new(bytes: usize) -> Self {
        let all = match bytes < heap::HUGE_PAGE_BYTES {
            true => BytesMut::zeroed(bytes),
            false => Self::in_huge_pages(bytes),
        };
        Self {
            start: all.as_ptr() as usize,
            bytes,
            free: vec![all],
        }
    }

    /// Made of huge pages where the system has them: to have small ones made one by one as they are first looked at takes as
    /// long as inflating what will lie in them. What is before and behind them is never looked at, so it takes no memory.
    fn in_huge_pages(bytes: usize) -> BytesMut {
        let mut all = BytesMut::zeroed(bytes + heap::HUGE_PAGE_BYTES);
        drop(all.split_to(all.as_ptr().align_offset(heap::HUGE_PAGE_BYTES)));
        all.truncate(bytes);
        heap::prefer_huge_pages(&mut all);
        all
    }

    fn holds(&self, at: usize) -> bool {
        (self.start..self.start + self.bytes).contains(&at)
    }

    fn is_empty(&self) -> bool {
        matches!(self.free.as_slice(), [all] if all.len() == self.bytes)
    }

    fn take(&mut self, size: usize) -> Option<BytesMut> {
        let at = self.free.iter().position(|free| free.len() >= size)?;
        let free = self.free.get_mut(at)?;
        if free.len() == size {
            return Some(self.free.remove(at));
        }
        Some(free.split_to(size))
    }

    fn give(&mut self, stretch: BytesMut) {
        let is_before = |free: &BytesMut| free.as_ptr() < stretch.as_ptr();
        let mut at = self.free.partition_point(is_before);
        self.free.insert(at, stretch);
        // Neighbors in the list that touch become one: nothing is copied, they are of one allocation.
        if at > 0 && self.touch(at - 1) {
            at -= 1;
            self.join(at);
        }
        if self.touch(at) {
            self.join(at);
        }
    }

    /// Whether the next in the list begins where this one ends.
    fn touch(&self, at: usize) -> bool {
        let (this, next) = (self.free.get(at), self.free.get(at + 1));
        let end = this.map(|free| free.as_ptr_range().end);
        end.is_some() && end == next.map(|free| free.as_ptr())
    }

    fn join(&mut self, at: usize) {
        let next = self.free.remove(at + 1);
        if let Some(this) = self.free.get_mut(at) {
            this.unsplit(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn a_stretch_is_used_again_by_texts_of_other_lengths_and_an_empty_slab_goes() {
        let slabs = Slabs::new(64 * KIB, 2);
        let (first, second) = (slabs.take(30 * KIB), slabs.take(20_001));
        assert_eq!((first.len(), second.len()), (32 * KIB, 20 * KIB));
        let at = first.as_ptr();
        assert_eq!(first.as_ptr_range().end, second.as_ptr());
        slabs.give(first);
        let other = slabs.take(8 * KIB);
        assert_eq!(other.as_ptr(), at);
        let in_second_slab = slabs.take(60 * KIB);
        let alone = slabs.take(60 * KIB);
        assert_eq!(slabs.lock().len(), 2);
        slabs.give(alone);
        slabs.give(in_second_slab);
        assert_eq!(slabs.lock().len(), 2, "one that is empty stays");
        slabs.give(second);
        slabs.give(other);
        assert_eq!(slabs.lock().len(), 1);
        slabs.trim();
        assert!(slabs.lock().is_empty());
        assert_eq!(slabs.take(100 * KIB).len(), 100 * KIB, "longer than a slab");
    }

    proptest! {
        #[test]
        fn no_two_have_the_same_bytes_and_nothing_gets_lost(
            steps in prop::collection::vec((any::<bool>(), 1_usize..40 * KIB, any::<prop::sample::Index>()), 1..200)
        ) {
            let slabs = Slabs::new(96 * KIB, 3);
            let mut taken: Vec<(u8, BytesMut)> = Vec::new();
            for (number, (takes, bytes, which)) in steps.into_iter().enumerate() {
                if takes || taken.is_empty() {
                    let mut stretch = slabs.take(bytes);
                    prop_assert_eq!(stretch.len(), size_for(bytes));
                    stretch.fill(number as u8);
                    taken.push((number as u8, stretch));
                } else {
                    let (number, stretch) = taken.remove(which.index(taken.len()));
                    prop_assert!(stretch.iter().all(|byte| *byte == number));
                    slabs.give(stretch);
                }
                prop_assert!(slabs.lock().len() <= 3);
            }
            for (number, stretch) in taken {
                prop_assert!(stretch.iter().all(|byte| *byte == number));
                slabs.give(stretch);
            }
            slabs.trim();
            prop_assert!(slabs.lock().is_empty(), "all of each is free again");
        }
    }
}
