//! Names and their numbers: an append-only file, written before the slot that uses a number.
//!
//! ```text
//! header  magic (8) | version (4) | CRC-32 of the rest (4) | writer id (16)
//! record  length of the name (2) | kind (1) | zero (1) | number (4) | CRC-32 of the rest (4) | name
//! ```
//!
//! A record is one write, so only the last one can be torn, and a torn record's number is in no slot.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::usage::disk;
use crate::usage::error::LedgerError;
use crate::usage::segment::FORMAT;

/// The longest name that can be counted, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 1024;

const FILE_NAME: &str = "dictionary";
const MAGIC: [u8; 8] = *b"TGLNames";
const HEADER_BYTES: usize = 32;
const RECORD_BYTES: usize = 12;
/// Every name that was ever counted since the last compaction has to fit.
const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Below this a dictionary is not worth rewriting.
const COMPACTION_BYTES_MIN: u64 = 1024 * 1024;

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum NameKind {
    User,
    Key,
    Route,
    /// No name: a segment that exists, by its index.
    Segment,
}

impl NameKind {
    const ALL: [Self; 4] = [Self::User, Self::Key, Self::Route, Self::Segment];

    const fn code(self) -> u8 {
        match self {
            Self::User => 1,
            Self::Key => 2,
            Self::Route => 3,
            Self::Segment => 4,
        }
    }
}

/// The numbers by name, and the file that they are written to.
#[derive(Debug)]
pub(super) struct Dictionary {
    path: PathBuf,
    file: File,
    writer: [u64; 2],
    /// Where the next record goes. Bytes behind it are a torn write, and are overwritten.
    length: u64,
    next: u32,
    users: HashMap<Arc<str>, u32>,
    keys: HashMap<Arc<str>, u32>,
    routes: HashMap<Arc<str>, u32>,
    segments: u32,
    changed: bool,
}

/// What the file held.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) dictionary: Dictionary,
    pub(super) names: Vec<(u32, NameKind, Arc<str>)>,
    /// Stretches in the middle that could not be read.
    pub(super) damaged: u32,
}

impl Dictionary {
    pub(super) fn path(folder: &Path) -> PathBuf {
        folder.join(FILE_NAME)
    }

    /// Makes an empty one.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn create(folder: &Path, writer: [u64; 2]) -> Result<Self, LedgerError> {
        let path = Self::path(folder);
        let fresh = path.with_extension("new");
        let failed = |source| LedgerError::of("create", &path, HEADER_BYTES as u64, source);
        let file = write_whole(&fresh, &header(writer)).map_err(failed)?;
        disk::install(folder, &fresh, &path).map_err(failed)?;
        Ok(Self::empty(path, file, writer))
    }

    fn empty(path: PathBuf, file: File, writer: [u64; 2]) -> Self {
        Self {
            path,
            file,
            writer,
            length: HEADER_BYTES as u64,
            next: 1,
            users: HashMap::new(),
            keys: HashMap::new(),
            routes: HashMap::new(),
            segments: 0,
            changed: false,
        }
    }

    /// Reads one that is there; none when there is none.
    ///
    /// # Errors
    /// [`LedgerError::Version`], [`LedgerError::Damaged`] when not even the header can be read, or what the system said.
    pub(super) fn open(folder: &Path) -> Result<Option<Recovered>, LedgerError> {
        let path = Self::path(folder);
        let failed = |source| LedgerError::of("read", &path, 0, source);
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        if file.metadata().map_err(failed)?.len() > FILE_BYTES_MAX {
            return Err(LedgerError::Damaged { path, why: "it is longer than any dictionary".to_owned() });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let writer = read_header(&path, &bytes)?;
        let mut dictionary = Self::empty(path, file, writer);
        let (records, end, damaged) = read_records(&bytes);
        dictionary.length = end as u64;
        let mut names = Vec::with_capacity(records.len());
        for (number, kind, name) in records {
            dictionary.next = dictionary.next.max(number.saturating_add(1));
            match kind {
                NameKind::Segment => dictionary.segments = dictionary.segments.max(number.saturating_add(1)),
                NameKind::User | NameKind::Key | NameKind::Route => {
                    let name: Arc<str> = Arc::from(name);
                    dictionary.numbers(kind).insert(Arc::clone(&name), number);
                    names.push((number, kind, name));
                }
            }
        }
        Ok(Some(Recovered { dictionary, names, damaged }))
    }

    pub(super) fn writer(&self) -> [u64; 2] {
        self.writer
    }

    /// How many segments the ledger has, as far as was noted.
    pub(super) fn segments(&self) -> u32 {
        self.segments
    }

    pub(super) fn note_segment(&mut self, index: u32) -> Result<(), LedgerError> {
        self.append(index, NameKind::Segment, "")?;
        self.segments = self.segments.max(index.saturating_add(1));
        Ok(())
    }

    pub(super) fn number(&self, kind: NameKind, name: &str) -> Option<u32> {
        match kind {
            NameKind::User => self.users.get(name).copied(),
            NameKind::Key => self.keys.get(name).copied(),
            NameKind::Route => self.routes.get(name).copied(),
            NameKind::Segment => None,
        }
    }

    /// Gives a new name a number; it is in the file when this returns.
    ///
    /// # Errors
    /// [`LedgerError::NoSpace`], [`LedgerError::Full`], [`LedgerError::NameTooLong`]; then nothing has changed.
    pub(super) fn add(&mut self, kind: NameKind, name: &str) -> Result<(u32, Arc<str>), LedgerError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(LedgerError::NameTooLong { bytes: name.len() });
        }
        let number = self.next;
        self.append(number, kind, name)?;
        self.next = number.saturating_add(1);
        let name: Arc<str> = Arc::from(name);
        self.numbers(kind).insert(Arc::clone(&name), number);
        Ok((number, name))
    }

    /// No number at or below `number` will be given to a new name.
    pub(super) fn skip_to(&mut self, number: u32) {
        self.next = self.next.max(number.saturating_add(1));
    }

    /// The file, if it has names that the disk may not have; whoever takes it syncs it.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn unsynced(&mut self) -> io::Result<Option<File>> {
        if !self.changed {
            return Ok(None);
        }
        let file = self.file.try_clone()?;
        self.changed = false;
        Ok(Some(file))
    }

    /// The disk did not take it.
    pub(super) fn keep_unsynced(&mut self) {
        self.changed = true;
    }

    /// Rewrites the file without the names that `used` does not know, if that is worth it or must be. Returns the numbers dropped.
    ///
    /// # Errors
    /// What the system said; then the old file stays.
    pub(super) fn compact(&mut self, folder: &Path, at_any_price: bool, used: &dyn Fn(u32) -> bool) -> Result<Vec<u32>, LedgerError> {
        let size = |name: &str| (RECORD_BYTES + name.len()) as u64;
        let all = || [(NameKind::User, &self.users), (NameKind::Key, &self.keys), (NameKind::Route, &self.routes)];
        let needed: u64 =
            all().iter().flat_map(|(_, names)| names.iter()).filter(|(_, number)| used(**number)).map(|(name, _)| size(name)).sum();
        if !at_any_price && (self.length < COMPACTION_BYTES_MIN || needed > self.length / 2) {
            return Ok(Vec::new());
        }
        let mut bytes = header(self.writer).to_vec();
        for segment in 0..self.segments {
            push_record(&mut bytes, segment, NameKind::Segment, "");
        }
        let mut dropped = Vec::new();
        for (kind, names) in all() {
            for (name, &number) in names {
                if used(number) {
                    push_record(&mut bytes, number, kind, name);
                } else {
                    dropped.push(number);
                }
            }
        }
        let fresh = self.path.with_extension("new");
        let failed = |source| LedgerError::of("compact", &self.path, bytes.len() as u64, source);
        self.file =
            write_whole(&fresh, &bytes).and_then(|file| disk::install(folder, &fresh, &self.path).map(|()| file)).map_err(failed)?;
        self.length = bytes.len() as u64;
        for names in [&mut self.users, &mut self.keys, &mut self.routes] {
            names.retain(|_, number| used(*number));
        }
        Ok(dropped)
    }

    fn append(&mut self, number: u32, kind: NameKind, name: &str) -> Result<(), LedgerError> {
        let mut record = Vec::with_capacity(RECORD_BYTES + name.len());
        push_record(&mut record, number, kind, name);
        if self.length + record.len() as u64 > FILE_BYTES_MAX || number == u32::MAX {
            return Err(LedgerError::Full { limit: format!("{FILE_BYTES_MAX} bytes of names") });
        }
        self.file
            .write_all_at(&record, self.length)
            .map_err(|source| LedgerError::of("append to", &self.path, record.len() as u64, source))?;
        self.length += record.len() as u64;
        self.changed = true;
        Ok(())
    }

    fn numbers(&mut self, kind: NameKind) -> &mut HashMap<Arc<str>, u32> {
        match kind {
            NameKind::User => &mut self.users,
            NameKind::Key => &mut self.keys,
            NameKind::Route | NameKind::Segment => &mut self.routes,
        }
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let made = || {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        Ok(file)
    };
    let result = made();
    if result.is_err() {
        // As with a segment: a leftover would only take space.
        let _ = fs::remove_file(path);
    }
    result
}

fn header(writer: [u64; 2]) -> [u8; HEADER_BYTES] {
    let [low, high] = writer;
    let mut bytes = [0; HEADER_BYTES];
    let (start, rest) = bytes.split_at_mut(16);
    rest.copy_from_slice(&(u128::from(low) | (u128::from(high) << 64)).to_le_bytes());
    let crc = header_checksum(FORMAT, rest);
    let words = [MAGIC.as_slice(), &FORMAT.to_le_bytes(), &crc.to_le_bytes()].concat();
    start.copy_from_slice(&words);
    bytes
}

fn header_checksum(version: u32, writer: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&MAGIC);
    hasher.update(&version.to_le_bytes());
    hasher.update(writer);
    hasher.finalize()
}

fn read_header(path: &Path, bytes: &[u8]) -> Result<[u64; 2], LedgerError> {
    let damaged = |why: &str| LedgerError::Damaged { path: path.to_path_buf(), why: why.to_owned() };
    let (Some(magic), Some(version), Some(crc), Some(writer)) =
        (bytes.get(..8), number_at(bytes, 8), number_at(bytes, 12), bytes.get(16..HEADER_BYTES))
    else {
        return Err(damaged("it is cut short"));
    };
    if magic != MAGIC {
        return Err(damaged("it does not begin as a ledger's dictionary does"));
    }
    if header_checksum(version, writer) != crc {
        return Err(damaged("its header does not match its checksum"));
    }
    if version != FORMAT {
        return Err(LedgerError::Version { path: path.to_path_buf(), found: version, known: FORMAT });
    }
    let writer = writer.try_into().map(u128::from_le_bytes).map_err(|_| damaged("it is cut short"))?;
    Ok([writer as u64, (writer >> 64) as u64])
}

/// Every record that can be read, where the last one ends, and how many stretches before that could not be read.
fn read_records(bytes: &[u8]) -> (Vec<(u32, NameKind, &str)>, usize, u32) {
    let mut records = Vec::new();
    let mut end = HEADER_BYTES;
    let mut damaged = 0;
    let mut position = HEADER_BYTES;
    let mut astray = false;
    while position < bytes.len() {
        match read_record(bytes, position) {
            Some((record, next)) => {
                // Records after unreadable bytes: those were no torn end.
                damaged += u32::from(std::mem::take(&mut astray));
                records.push(record);
                (position, end) = (next, next);
            }
            None => {
                astray = true;
                position += 1;
            }
        }
    }
    (records, end, damaged)
}

fn read_record(bytes: &[u8], position: usize) -> Option<((u32, NameKind, &str), usize)> {
    let head = bytes.get(position..position.checked_add(RECORD_BYTES)?)?;
    let (&[length_low, length_high, code, zero], rest) = head.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_le_bytes([length_low, length_high]));
    let kind = NameKind::ALL.into_iter().find(|kind| kind.code() == code)?;
    if zero != 0 || length > NAME_BYTES_MAX {
        return None;
    }
    let number = number_at(rest, 0)?;
    let crc = number_at(rest, 4)?;
    let start = position + RECORD_BYTES;
    let name = bytes.get(start..start + length)?;
    if record_checksum(head.get(..8)?, name) != crc {
        return None;
    }
    Some(((number, kind, std::str::from_utf8(name).ok()?), start + length))
}

fn push_record(bytes: &mut Vec<u8>, number: u32, kind: NameKind, name: &str) {
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes();
    let [length_low, length_high] = length;
    let [a, b, c, d] = number.to_le_bytes();
    let head = [length_low, length_high, kind.code(), 0, a, b, c, d];
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&record_checksum(&head, name.as_bytes()).to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
}

fn record_checksum(head: &[u8], name: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(name);
    hasher.finalize()
}

fn number_at(bytes: &[u8], position: usize) -> Option<u32> {
    bytes.get(position..position.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}
