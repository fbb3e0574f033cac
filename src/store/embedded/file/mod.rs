//! The file: who may have it, whether it is whole, what its tables are, and how a record lies in it.

use std::fmt;
use std::fs;
use std::io;
use std::io::Read;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;

use redb::Database;
use redb::ReadableDatabase;
use redb::StorageBackend;
use redb::TableDefinition;
use redb::backends::FileBackend;

use crate::model::time::Timestamp;
use crate::store::EMBEDDED_FILE_NAME;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::Stored;
use crate::store::embedded::OpenError;

mod backend;
mod overlay;

/// The format of the file's tables. Records have a format of their own.
pub(super) const FORMAT: u64 = 1;
/// [family byte, id] -> head and bytes of the record.
pub(super) const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// (expiry, key of [`RECORDS`]), so that what has expired is found without a search.
pub(super) const EXPIRIES: TableDefinition<'_, (u64, &[u8]), ()> = TableDefinition::new("expiries");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The row of [`META`] with the file's format.
pub(super) const META_FORMAT: &str = "format";
/// The row of [`META`] with the number of the last commit; a record's version is the number of the commit that wrote it, so no
/// version ever comes back.
pub(super) const META_SEQUENCE: &str = "sequence";

const LOCK_FILE_NAME: &str = "store.lock";
/// Pages that redb keeps; what checks ask for is held apart, decoded.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// checksum 4, version 8, expiry 8
const HEAD_BYTES: usize = 20;

/// How a backend is made for an opened file; tests put faults in between.
pub(super) type MakeBackend = Box<dyn Fn(FileBackend) -> Box<dyn StorageBackend> + Send + Sync>;

/// The claimed folder: while this lives, no other process opens its store.
pub(super) struct Source {
    path: PathBuf,
    make_backend: MakeBackend,
    _lock: fs::File,
}

impl fmt::Debug for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Source({})", self.path.display())
    }
}

impl Source {
    pub(super) fn claim(folder: &Path) -> Result<Self, OpenError> {
        Self::claim_with(folder, Box::new(|file| Box::new(file)))
    }

    pub(super) fn claim_with(folder: &Path, make_backend: MakeBackend) -> Result<Self, OpenError> {
        let path = folder.join(EMBEDDED_FILE_NAME);
        let failed = |error: io::Error| OpenError::Unreadable { path: path.clone(), why: error.to_string() };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let lock_path = folder.join(LOCK_FILE_NAME);
        let mut lock =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(lock_path).map_err(failed)?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut owner = String::new();
            let _unknown = (&lock).take(32).read_to_string(&mut owner);
            let owner = owner.trim().parse::<u32>().map_or_else(|_error| "another process".to_owned(), |id| format!("process {id}"));
            return Err(OpenError::InUse { folder: folder.to_owned(), owner });
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { path, make_backend, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The database, proven whole, made first where there is no file.
    pub(super) fn database(&self) -> Result<Database, OpenError> {
        if !self.path.try_exists().map_err(|error| self.unreadable(&error))? {
            self.create()?;
        }
        self.verify()?;
        let database = self.open(|backend| backend)?;
        self.check_format(&database)?;
        Ok(database)
    }

    /// A new file gets its name only when it is complete, so a file that has the name and is empty was emptied.
    fn create(&self) -> Result<(), OpenError> {
        let draft = self.path.with_extension("draft");
        let _leftover = fs::remove_file(&draft);
        let made = || -> Result<(), redb::Error> {
            let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft)?;
            let database = Database::builder().create_with_backend(backend::Boxed((self.make_backend)(FileBackend::new(file)?)))?;
            let transaction = database.begin_write()?;
            {
                transaction.open_table(RECORDS)?;
                transaction.open_table(EXPIRIES)?;
                let mut meta = transaction.open_table(META)?;
                meta.insert(META_FORMAT, FORMAT)?;
                meta.insert(META_SEQUENCE, 0)?;
            }
            transaction.commit()?;
            drop(database);
            fs::rename(&draft, &self.path)?;
            if let Some(folder) = self.path.parent() {
                fs::File::open(folder)?.sync_all()?;
            }
            Ok(())
        };
        made().map_err(|error| {
            let _leftover = fs::remove_file(&draft);
            self.unreadable(&error)
        })
    }

    /// Walks every page and its checksums. Works on a copy of what it would repair: a repair could go back to an older commit,
    /// and whether that is right is not ours to say.
    fn verify(&self) -> Result<(), OpenError> {
        let length = fs::metadata(&self.path).map_err(|error| self.unreadable(&error))?.len();
        if length == 0 {
            return Err(self.damaged("it is empty"));
        }
        let mut database = self.open(|backend| Box::new(overlay::Overlay::new(backend)))?;
        match catch_unwind(AssertUnwindSafe(|| database.check_integrity())) {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(self.damaged("its pages do not agree with each other")),
            Ok(Err(error)) => Err(self.damaged(&error)),
            Err(_panic) => Err(self.damaged("its pages make no sense")),
        }
    }

    fn open(&self, over: impl Fn(Box<dyn StorageBackend>) -> Box<dyn StorageBackend>) -> Result<Database, OpenError> {
        let file = fs::OpenOptions::new().read(true).write(true).open(&self.path).map_err(|error| self.unreadable(&error))?;
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let backend = over((self.make_backend)(FileBackend::new(file)?));
            Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend::Boxed(backend))
        }));
        match opened {
            Ok(Ok(database)) => Ok(database),
            Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => {
                Err(OpenError::InUse { folder: self.path.parent().unwrap_or(&self.path).to_owned(), owner: "another process".to_owned() })
            }
            Ok(Err(redb::DatabaseError::UpgradeRequired(found))) => {
                Err(OpenError::Newer { path: self.path.clone(), found: u64::from(found), known: FORMAT })
            }
            Ok(Err(redb::DatabaseError::Storage(redb::StorageError::Io(error))))
                if error.kind() != io::ErrorKind::InvalidData && error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                Err(self.unreadable(&error))
            }
            Ok(Err(error)) => Err(self.damaged(&error)),
            Err(_panic) => Err(self.damaged("its pages make no sense")),
        }
    }

    fn check_format(&self, database: &Database) -> Result<(), OpenError> {
        let format = || -> Result<Option<u64>, redb::Error> {
            let meta = database.begin_read()?.open_table(META)?;
            let format = meta.get(META_FORMAT)?;
            Ok(format.map(|value| value.value()))
        };
        match format() {
            Ok(Some(FORMAT)) => Ok(()),
            Ok(Some(found)) if found > FORMAT => Err(OpenError::Newer { path: self.path.clone(), found, known: FORMAT }),
            Ok(Some(_) | None) => Err(self.damaged("it has no known format")),
            Err(error) => Err(self.damaged(&error)),
        }
    }

    pub(super) fn damaged(&self, why: &(impl fmt::Display + ?Sized)) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), why: why.to_string() }
    }

    fn unreadable(&self, why: &(impl fmt::Display + ?Sized)) -> OpenError {
        OpenError::Unreadable { path: self.path.clone(), why: why.to_string() }
    }
}

/// A record's key in the file.
pub(super) fn place(key: &RecordKey) -> Vec<u8> {
    let mut place = vec![family_byte(key.family)];
    place.extend_from_slice(key.id.as_bytes());
    place
}

/// The key behind a place, where it is one of this version's.
pub(super) fn record_key(place: &[u8]) -> Option<RecordKey> {
    let (family, id) = place.split_first()?;
    let family = Family::ALL.into_iter().find(|candidate| family_byte(*candidate) == *family)?;
    Some(RecordKey { family, id: str::from_utf8(id).ok()?.to_owned() })
}

/// Never to be changed: it lies in files.
pub(super) const fn family_byte(family: Family) -> u8 {
    match family {
        Family::Key => b'k',
        Family::User => b'u',
        Family::Ring => b'r',
        Family::Digest => b'd',
        Family::Grant => b'g',
        Family::Client => b'c',
        Family::Account => b'a',
        Family::Organization => b'o',
        Family::Session => b's',
        Family::Invitation => b'i',
        Family::Identity => b'f',
        Family::Ticket => b't',
        Family::Audit => b'l',
        Family::AuditName => b'n',
    }
}

/// A record as it lies in the file.
pub(super) fn lay(place: &[u8], version: u64, expires: Option<Timestamp>, bytes: &[u8]) -> Vec<u8> {
    let mut laid = Vec::with_capacity(HEAD_BYTES + bytes.len());
    laid.extend_from_slice(&[0; 4]);
    laid.extend_from_slice(&version.to_le_bytes());
    laid.extend_from_slice(&expires.map_or(0, Timestamp::as_nanos).to_le_bytes());
    laid.extend_from_slice(bytes);
    let checksum = checksum(place, laid.get(4..).unwrap_or_default()).to_le_bytes();
    for (to, from) in laid.iter_mut().zip(checksum) {
        *to = from;
    }
    laid
}

/// The record; none when its checksum does not hold.
pub(super) fn take_up(place: &[u8], laid: &[u8]) -> Option<Stored> {
    let (expected, rest) = laid.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*expected) != checksum(place, rest) {
        return None;
    }
    let (version, rest) = rest.split_first_chunk::<8>()?;
    let (expires, bytes) = rest.split_first_chunk::<8>()?;
    let expires = match u64::from_le_bytes(*expires) {
        0 => None,
        nanos => Some(Timestamp::from_nanos(nanos)),
    };
    Some(Stored { version: u64::from_le_bytes(*version), bytes: bytes.to_vec(), expires })
}

fn checksum(place: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(place);
    hasher.update(rest);
    hasher.finalize()
}
