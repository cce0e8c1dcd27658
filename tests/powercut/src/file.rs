//! A file in two states: as programs see it, and as the disk has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use crate::Loss;
use crate::content::{Content, PAGE, Page, SECTOR, pages_of};

/// A file.
#[derive(Debug, Clone, Default)]
pub struct File {
    live: Content,
    durable: Content,
    /// The pages that differ between the two.
    dirty: BTreeMap<usize, Dirty>,
    /// The smallest size to which it was cut since the last sync.
    cut_to: Option<u64>,
}

/// The versions of a page since the last sync.
#[derive(Debug, Clone, Default)]
struct Dirty {
    writes: u64,
    /// One of the versions, each with the same probability: the kernel may have written any of them.
    sample: Option<Page>,
}

impl File {
    /// Returns what programs see.
    pub fn live(&self) -> &Content {
        &self.live
    }

    /// Replaces bytes.
    pub fn write(&mut self, offset: u64, bytes: &[u8], random: &mut impl Rng) {
        self.live.write(offset, bytes);
        for number in pages_of(offset, bytes.len() as u64) {
            let dirty = self.dirty.entry(number).or_default();
            dirty.writes += 1;
            if random.random_range(0..dirty.writes) == 0 {
                dirty.sample = self.live.page(number).cloned();
            }
        }
    }

    /// Cuts the file, or extends it by zeros.
    pub fn resize(&mut self, size: u64) {
        if size < self.live.size() {
            self.cut_to = Some(self.cut_to.unwrap_or(size).min(size));
            let last = (size / PAGE as u64) as usize;
            self.dirty.split_off(&(size.div_ceil(PAGE as u64) as usize));
            // A sample of the last page would bring back bytes that were cut off.
            if let Some(dirty) = self.dirty.get_mut(&last) {
                dirty.sample = None;
            }
        }
        self.live.resize(size);
    }

    /// Makes everything durable.
    pub fn sync(&mut self) {
        if self.cut_to.take().is_some() {
            self.durable = self.live.clone();
        }
        for number in std::mem::take(&mut self.dirty).into_keys() {
            self.durable.set_page(number, self.live.page(number).cloned());
        }
        self.durable.resize(self.live.size());
    }

    /// Returns what the disk has after a power cut.
    pub fn after_cut(&self, loss: Loss, random: &mut StdRng) -> Content {
        let mut left = self.durable.clone();
        if loss == Loss::Everything {
            return left;
        }
        let mut undone_from = usize::MAX;
        if let Some(size) = self.cut_to {
            if random.random() {
                undone_from = (size / PAGE as u64) as usize;
            } else {
                left.resize(left.size().min(size));
            }
        }
        let kept = left.size();
        for (&number, dirty) in self.dirty.range(..undone_from) {
            if (number * PAGE) as u64 >= kept {
                break;
            }
            left.set_page(number, self.version(number, dirty, &left, loss, random));
        }
        // A new version of the last page may have bytes beyond the end.
        left.resize(kept);
        if undone_from == usize::MAX && self.live.size() > kept {
            self.grow(&mut left, loss, random);
        }
        left
    }

    /// Returns the version of a page that the disk has.
    fn version(&self, number: usize, dirty: &Dirty, left: &Content, loss: Loss, random: &mut StdRng) -> Option<Page> {
        let old = left.page(number).cloned();
        let new = self.live.page(number).cloned();
        let sample = if dirty.sample.is_some() { dirty.sample.clone() } else { new.clone() };
        match random.random_range(0..if loss == Loss::Pages { 3 } else { 6 }) {
            0 => old,
            1 => new,
            2 => sample,
            3 => Some(torn(old.as_ref(), new.as_ref(), random)),
            4 => Some(torn(new.as_ref(), old.as_ref(), random)),
            _ => Some(torn(sample.as_ref(), old.as_ref(), random)),
        }
    }

    /// Appends as much of what is new at the end as the disk has.
    fn grow(&self, left: &mut Content, loss: Loss, random: &mut StdRng) {
        let (from, to) = (left.size(), self.live.size());
        let size = match random.random_range(0..4) {
            0 => from,
            1 => to,
            // The end of a page, at which most writes of the kernel end.
            2 => (random.random_range(from..=to) / PAGE as u64 * PAGE as u64).max(from),
            _ => random.random_range(from..=to),
        };
        left.resize(size);
        let mut at = from;
        while at < size {
            let end = size.min((at / PAGE as u64 + 1) * PAGE as u64);
            if loss != Loss::Zeros || random.random() {
                left.write(at, &self.live.read(at, (end - at) as usize));
            }
            at = end;
        }
    }
}

impl From<Content> for File {
    /// Returns a file whose content is durable.
    fn from(content: Content) -> Self {
        Self { live: content.clone(), durable: content, ..Self::default() }
    }
}

/// Returns a page whose first sectors are those of one version and the others those of the other.
fn torn(first: Option<&Page>, second: Option<&Page>, random: &mut StdRng) -> Page {
    let at = random.random_range(1..PAGE / SECTOR) * SECTOR;
    let mut page = second.map_or([0; PAGE], |page| **page);
    match first {
        Some(first) => page[..at].copy_from_slice(&first[..at]),
        None => page[..at].fill(0),
    }
    Arc::new(page)
}
