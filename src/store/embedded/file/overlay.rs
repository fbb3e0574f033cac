//! A file that is read and never written: writes stay in memory above it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use redb::StorageBackend;

/// The writes above a file, cut into blocks.
#[derive(Debug)]
pub(super) struct Overlay {
    below: Box<dyn StorageBackend>,
    above: Mutex<Above>,
}

#[derive(Debug)]
struct Above {
    /// None: the file's own.
    length: Option<u64>,
    blocks: BTreeMap<u64, Vec<u8>>,
}

const BLOCK_BYTES: u64 = 4096;

impl Overlay {
    pub(super) fn new(below: Box<dyn StorageBackend>) -> Self {
        Self { below, above: Mutex::new(Above { length: None, blocks: BTreeMap::new() }) }
    }

    fn above(&self) -> MutexGuard<'_, Above> {
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the file has of this block, zeros beyond its end.
    fn block_below(&self, block: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(BLOCK_BYTES).unwrap_or_default()];
        let start = block * BLOCK_BYTES;
        let there = self.below.len()?.saturating_sub(start).min(BLOCK_BYTES);
        if let Some(part) = bytes.get_mut(..usize::try_from(there).unwrap_or_default()).filter(|part| !part.is_empty()) {
            self.below.read(start, part)?;
        }
        Ok(bytes)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64, io::Error> {
        match self.above().length {
            Some(length) => Ok(length),
            None => self.below.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let length = u64::try_from(out.len()).unwrap_or(u64::MAX);
        if offset.saturating_add(length) > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let above = self.above();
        for_each_block(offset, length, |block, within, position, count| {
            let bytes = match above.blocks.get(&block) {
                Some(bytes) => bytes,
                None => &self.block_below(block)?,
            };
            if let (Some(to), Some(from)) = (out.get_mut(position..position + count), bytes.get(within..within + count)) {
                to.copy_from_slice(from);
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        // The verification only looks; a file that had to change its length is judged by what is reported, not by this.
        self.above().length = Some(len);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut above = self.above();
        for_each_block(offset, u64::try_from(data.len()).unwrap_or(u64::MAX), |block, within, position, count| {
            let mut bytes = match above.blocks.remove(&block) {
                Some(bytes) => bytes,
                None => self.block_below(block)?,
            };
            if let (Some(to), Some(from)) = (bytes.get_mut(within..within + count), data.get(position..position + count)) {
                to.copy_from_slice(from);
            }
            above.blocks.insert(block, bytes);
            Ok(())
        })
    }

    fn close(&self) -> Result<(), io::Error> {
        self.below.close()
    }
}

/// Calls `with(block, offset within it, position in the caller's bytes, count)` for every block that a range touches.
fn for_each_block(offset: u64, length: u64, mut with: impl FnMut(u64, usize, usize, usize) -> io::Result<()>) -> io::Result<()> {
    let too_far = || io::Error::from(io::ErrorKind::InvalidInput);
    let mut done = 0;
    while done < length {
        let at = offset.checked_add(done).ok_or_else(too_far)?;
        let within = at % BLOCK_BYTES;
        let count = (BLOCK_BYTES - within).min(length - done);
        let narrow = |number: u64| usize::try_from(number).map_err(|_error| too_far());
        with(at / BLOCK_BYTES, narrow(within)?, narrow(done)?, narrow(count)?)?;
        done += count;
    }
    Ok(())
}
