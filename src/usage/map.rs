//! A file's bytes as shared atomic words: the only unsafe code of this crate.
//!
//! What could go wrong, and why it does not:
//! - *A dangling or misaligned pointer.* The mapping lives as long as the [`Words`] that lends it, starts at a page, and is
//!   never moved, shrunk or remapped. Its length is checked to be whole words.
//! - *A data race.* Every access goes through an `AtomicU64`; no plain reference to these bytes is ever made, here or elsewhere.
//! - *Another process writing.* Our own are kept out by the ledger's lock. A stranger's write changes numbers that every reader
//!   checks (any bit pattern is a valid `u64`), so it can be a damaged slot and never undefined behaviour.
//! - *A fault on access (SIGBUS).* That takes a file without blocks behind its length, or one that was truncated under the
//!   mapping. Files are filled with real blocks before they are mapped and are never truncated.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use memmap2::MmapOptions;
use memmap2::MmapRaw;

const WORD_BYTES: usize = size_of::<u64>();

// Words are stored as the processor keeps them, because a converted word could not be added to atomically.
#[cfg(target_endian = "big")]
compile_error!("the ledger's file format is little-endian, and its words are used in place");

/// All words of a mapped file.
#[derive(Debug)]
pub(super) struct Words {
    map: MmapRaw,
    count: usize,
}

impl Words {
    /// Maps the first `bytes` bytes of `file`, shared: what is stored here is in the kernel's page cache at once.
    ///
    /// # Errors
    /// When the file is shorter than that, the length is not whole words, or the kernel refuses.
    pub(super) fn map(file: &File, bytes: u64) -> io::Result<Self> {
        let length = usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        if length == 0 || length % WORD_BYTES != 0 || file.metadata()?.len() < bytes {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let map = MmapOptions::new().len(length).map_raw(file)?;
        Ok(Self { map, count: length / WORD_BYTES })
    }

    #[expect(unsafe_code, reason = "a mapped file has no other face")]
    pub(super) fn all(&self) -> &[AtomicU64] {
        let start = self.map.as_mut_ptr().cast::<AtomicU64>();
        // SAFETY: the mapping is readable and writable, page-aligned, `count` words long, and outlives the borrow of `self`.
        // `AtomicU64` has the layout of `u64` and is valid for every bit pattern, and nothing else refers to these bytes.
        unsafe { std::slice::from_raw_parts(start, self.count) }
    }

    /// Waits until the disk has everything that was stored before the call.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.map.flush()
    }
}
