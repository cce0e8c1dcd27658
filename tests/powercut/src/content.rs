//! The bytes of a file, in pages that two states can share.

use std::sync::Arc;

/// The unit in which the kernel writes.
pub const PAGE: usize = 4096;
/// The unit that a disk writes as a whole.
pub const SECTOR: usize = 512;

/// The bytes of one page.
pub type Page = Arc<[u8; PAGE]>;

/// The bytes of a file. A page that is absent consists of zeros, and so does the rest of the last page.
#[derive(Debug, Clone, Default)]
pub struct Content {
    pages: Vec<Option<Page>>,
    size: u64,
}

impl Content {
    /// Returns the number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the bytes from `offset`: fewer than `length` at the end of the file.
    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(length as u64));
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let (number, start, stop) = part(at, end);
            match self.page(number) {
                Some(page) => bytes.extend_from_slice(&page[start..stop]),
                None => bytes.resize(bytes.len() + stop - start, 0),
            }
            at += (stop - start) as u64;
        }
        bytes
    }

    /// Replaces the bytes from `offset`; the file grows if necessary.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            let (number, start, stop) = part(at, end);
            let from = (at - offset) as usize;
            if self.pages.len() <= number {
                self.pages.resize(number + 1, None);
            }
            let page = self.pages[number].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[start..stop].copy_from_slice(&bytes[from..from + stop - start]);
            at += (stop - start) as u64;
        }
        self.size = self.size.max(end);
    }

    /// Cuts off what is beyond `size`, or adds zeros up to it.
    pub fn resize(&mut self, size: u64) {
        if size <= self.size {
            self.pages.truncate(size.div_ceil(PAGE as u64) as usize);
            let rest = (size % PAGE as u64) as usize;
            let last = (size / PAGE as u64) as usize;
            if rest > 0
                && let Some(Some(page)) = self.pages.get_mut(last)
            {
                Arc::make_mut(page)[rest..].fill(0);
            }
        }
        self.size = size;
    }

    /// Returns a page; `None` if it consists of zeros.
    pub fn page(&self, number: usize) -> Option<&Page> {
        self.pages.get(number)?.as_ref()
    }

    /// Replaces a page. The size stays as it is.
    pub fn set_page(&mut self, number: usize, page: Option<Page>) {
        if self.pages.len() <= number {
            self.pages.resize(number + 1, None);
        }
        self.pages[number] = page;
    }
}

/// Returns the page that contains `at`, and the part of it from `at` to `end`.
fn part(at: u64, end: u64) -> (usize, usize, usize) {
    let number = at / PAGE as u64;
    let start = (at % PAGE as u64) as usize;
    let stop = (end - number * PAGE as u64).min(PAGE as u64) as usize;
    (number as usize, start, stop)
}

/// Returns the numbers of the pages in which bytes of this range are.
pub fn pages_of(offset: u64, length: u64) -> std::ops::Range<usize> {
    let end = (offset + length).div_ceil(PAGE as u64);
    (offset / PAGE as u64) as usize..end as usize
}
