//! A list of any length in little memory. A long one is in a temporary file that is mapped into memory: the kernel writes
//! its pages to the disk when memory is short, and reads them when they are used again.

#![expect(unsafe_code, reason = "a mapped file could be changed by others, which no crate can rule out")]

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use bytemuck::{Pod, cast_slice, cast_slice_mut};
use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, fallocate};

/// A list of so many bytes moves to a file when it grows.
const MOST_IN_MEMORY: usize = 64 << 20;

/// A list that is a slice in every other respect. It stays in memory if no file can be made, or if the disk is full.
#[derive(Debug)]
pub(crate) struct LongList<T: Pod> {
    values: Values<T>,
    most_in_memory: usize,
}

#[derive(Debug)]
enum Values<T: Pod> {
    Memory(Vec<T>),
    File(Mapped<T>),
}

impl<T: Pod> Default for LongList<T> {
    fn default() -> LongList<T> {
        LongList::with_most_in_memory(MOST_IN_MEMORY)
    }
}

impl<T: Pod> LongList<T> {
    /// One that moves to a file at another length, bytes.
    pub(crate) fn with_most_in_memory(bytes: usize) -> LongList<T> {
        LongList { values: Values::Memory(Vec::new()), most_in_memory: bytes }
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.is_full() {
            self.grow();
        }
        match &mut self.values {
            Values::Memory(values) => values.push(value),
            Values::File(values) => values.push(value),
        }
    }

    /// Adds `value` until the list has this length.
    pub(crate) fn extend_to(&mut self, len: usize, value: T) {
        while self.len() < len {
            self.push(value);
        }
    }

    /// Puts the values into this order: the one at `order[i]` comes to `i`. Each place occurs once in `order`.
    pub(crate) fn reorder(&mut self, order: &[u32]) {
        // From one file to another: in place, every value would be read and written at a random place of the disk.
        if let Values::File(values) = &self.values
            && let Ok(ordered) = Mapped::new(order.iter().map(|&place| values[place as usize]), order.len())
        {
            self.values = Values::File(ordered);
            return;
        }
        reorder_in_place(self, order);
    }

    #[cfg(test)]
    fn is_in_file(&self) -> bool {
        matches!(self.values, Values::File(_))
    }

    fn is_full(&self) -> bool {
        match &self.values {
            Values::Memory(values) => {
                values.len() == values.capacity() && size_of_val(values.as_slice()) >= self.most_in_memory
            }
            Values::File(values) => values.len == values.capacity(),
        }
    }

    /// Moves the values to a file of twice the length, or back to memory if there is no room for it.
    fn grow(&mut self) {
        let capacity = 2 * self.len().max(512);
        match Mapped::new(self.iter().copied(), capacity) {
            Ok(values) => self.values = Values::File(values),
            // The vector grows by itself.
            Err(_) => {
                if let Values::File(values) = &self.values {
                    self.values = Values::Memory(values.to_vec());
                }
            }
        }
    }
}

impl<T: Pod> Deref for LongList<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.values {
            Values::Memory(values) => values,
            Values::File(values) => values,
        }
    }
}

impl<T: Pod> DerefMut for LongList<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.values {
            Values::Memory(values) => values,
            Values::File(values) => values,
        }
    }
}

/// Follows each cycle of the order in turn, without a second copy of the values.
fn reorder_in_place<T>(values: &mut [T], order: &[u32]) {
    let mut is_placed = vec![false; values.len()];
    for start in 0..values.len() {
        let mut at = start;
        while !is_placed[at] {
            is_placed[at] = true;
            let from = order[at] as usize;
            if from != start {
                values.swap(at, from);
            }
            at = from;
        }
    }
}

/// Values in a mapped file without a name, of which nothing is left when this process ends in whatever way.
#[derive(Debug)]
struct Mapped<T> {
    map: MmapMut,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Pod> Mapped<T> {
    /// A file with these values, and room for `capacity` of them.
    fn new(values: impl Iterator<Item = T>, capacity: usize) -> io::Result<Mapped<T>> {
        let file = tempfile::tempfile_in(folder())?;
        // The space is taken now: without it, writing to the mapping of a file on a full disk would end the process.
        fallocate(&file, FallocateFlags::empty(), 0, (capacity.max(1) * size_of::<T>()) as u64)?;
        let mut mapped = Mapped { map: map(&file)?, len: 0, values: PhantomData };
        values.for_each(|value| mapped.push(value));
        Ok(mapped)
    }

    fn capacity(&self) -> usize {
        self.map.len() / size_of::<T>()
    }

    /// Adds a value, for which there must be room.
    fn push(&mut self, value: T) {
        self.len += 1;
        if let Some(last) = self.last_mut() {
            *last = value;
        }
    }
}

impl<T: Pod> Deref for Mapped<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        cast_slice(&self.map[..self.len * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for Mapped<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        cast_slice_mut(&mut self.map[..self.len * size_of::<T>()])
    }
}

fn map(file: &File) -> io::Result<MmapMut> {
    // SAFETY: the file has no name, and only this process has it open, so that nothing else changes or shortens it.
    unsafe { MmapMut::map_mut(file) }
}

/// Where large temporary files belong: `/tmp` is in memory on many machines.
fn folder() -> PathBuf {
    let large = PathBuf::from("/var/tmp");
    match std::env::var_os("TMPDIR") {
        Some(folder) => folder.into(),
        None if large.is_dir() => large,
        None => std::env::temp_dir(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_in_files_are_those_in_memory(
            values in proptest::collection::vec(any::<[u8; 6]>(), 0..2_000), most in 0usize..8_000, seed in any::<u64>(),
        ) {
            let mut list = LongList::with_most_in_memory(most);
            for &value in &values {
                list.push(value);
            }
            prop_assert_eq!(&list[..], &values[..]);
            prop_assert!(list.is_in_file() || values.len() * 6 < most.max(64) * 2 || values.len() < 5);

            // Each place once, by a key that depends on the seed.
            let mut order: Vec<u32> = (0..values.len() as u32).collect();
            order.sort_by_key(|&place| u64::from(place).wrapping_mul(seed | 1) >> 7);
            list.reorder(&order);
            let ordered: Vec<[u8; 6]> = order.iter().map(|&place| values[place as usize]).collect();
            prop_assert_eq!(&list[..], &ordered[..]);

            let mut in_place = values.clone();
            reorder_in_place(&mut in_place, &order);
            prop_assert_eq!(&in_place, &ordered);

            list.extend_to(values.len() + 700, [7; 6]);
            prop_assert_eq!(list.len(), values.len() + 700);
            prop_assert!(list[values.len()..].iter().all(|value| *value == [7; 6]));
            prop_assert_eq!(&list[..values.len()], &ordered[..]);
        }
    }
}
