//! The file that a store is exported to: one JSON object a line. The first names the format, the last has the number of lines before
//! it and their SHA-256, and in between lie the records, bytes as they are on the shelf, and the counts.
//!
//! The file comes back through strangers' hands. Before anything of it is written anywhere every line is read and proven, and a
//! mistake is named by its line and its member.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use aws_lc_rs::digest;
use serde_json::Value;
use serde_json::json;

use crate::app::moving::item::Item;
use crate::app::moving::item::WrongMember;
use crate::app::moving::item::read_item;
use crate::app::moving::item::write_item;
use crate::jose::json::Json;
use crate::jose::json::Members;
use crate::jose::json::Number;
use crate::jose::json::read_object;
use crate::model::hex::write_hex;
use crate::secrets::random_id;
use crate::store::RecordKey;

/// The format that this version writes, and the newest that it reads.
const FORMAT: u64 = 1;
/// What the first line calls the file.
const KIND: &str = "tollgate backup";
/// No record comes near it.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a file is no backup, or could not become one.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}, line {line}, `{member}`: {why}")]
    Member { path: PathBuf, line: u64, member: String, why: String },
    #[error("{path}, line {line}: {why}")]
    Line { path: PathBuf, line: u64, why: String },
    #[error("{path} has backup format {found}, and this release reads up to {FORMAT}: import it with a newer release")]
    Newer { path: PathBuf, found: u64 },
    #[error("{path} is {what}, and only a backup is replaced: name another file, or `-` for standard output")]
    Kept { path: PathBuf, what: &'static str },
    #[error("{path} was cut off: its last line, which has its checksum, is missing")]
    Cut { path: PathBuf },
    #[error("{path} was changed: its lines do not have the checksum that its last line names")]
    Checksum { path: PathBuf },
}

/// Where a backup goes.
pub enum Destination<'o> {
    /// A file of mode 0600, which gets its name when it is complete. Of what is there, only a backup is replaced.
    File(&'o Path),
    /// A pipe.
    Stream(&'o mut dyn io::Write),
}

impl std::fmt::Debug for Destination<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.name().to_string_lossy())
    }
}

impl Destination<'_> {
    pub(super) fn name(&self) -> PathBuf {
        match self {
            Self::File(path) => path.to_path_buf(),
            Self::Stream(_) => PathBuf::from("standard output"),
        }
    }
}

/// A backup that is being written.
pub(super) struct Draft<'o> {
    path: PathBuf,
    out: BufWriter<Box<dyn io::Write + 'o>>,
    /// The file without its name yet; none: what is written is gone.
    unnamed: Option<Unnamed>,
    hash: digest::Context,
    lines: u64,
}

struct Unnamed {
    path: PathBuf,
    file: fs::File,
}

impl<'o> Draft<'o> {
    /// `peppers`: the ids of those that the records were made with.
    pub(super) fn begin(to: Destination<'o>, made: &str, peppers: &[String]) -> Result<Self, BackupError> {
        let path = to.name();
        let (out, unnamed): (Box<dyn io::Write + 'o>, Option<Unnamed>) = match to {
            Destination::Stream(out) => (Box::new(out), None),
            Destination::File(path) => {
                check_replaceable(path)?;
                let unnamed = Unnamed::make(path)?;
                let failed = |source| BackupError::Io { path: unnamed.path.clone(), source };
                (Box::new(unnamed.file.try_clone().map_err(failed)?), Some(unnamed))
            }
        };
        let mut begun = Self { path, out: BufWriter::new(out), unnamed, hash: digest::Context::new(&digest::SHA256), lines: 0 };
        begun.line(&json!({"is": KIND, "format": FORMAT, "release": env!("CARGO_PKG_VERSION"), "made": made, "peppers": peppers}))?;
        Ok(begun)
    }

    pub(super) fn add(&mut self, item: &Item) -> Result<(), BackupError> {
        self.line(&write_item(item))
    }

    pub(super) fn finish(mut self) -> Result<(), BackupError> {
        let checksum = write_hex(self.hash.clone().finish().as_ref());
        let lines = self.lines;
        self.line(&json!({"is": "end", "lines": lines, "sha256": checksum}))?;
        let written = self.out.flush().and_then(|()| self.unnamed.as_ref().map_or(Ok(()), |unnamed| unnamed.name(&self.path)));
        written.map_err(|source| self.failed(source))
    }

    fn line(&mut self, value: &Value) -> Result<(), BackupError> {
        let text = format!("{value}\n");
        self.hash.update(text.as_bytes());
        self.lines += 1;
        self.out.write_all(text.as_bytes()).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> BackupError {
        BackupError::Io { path: self.path.clone(), source }
    }
}

/// Anything else under this name is somebody's, and would be gone.
fn check_replaceable(path: &Path) -> Result<(), BackupError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(facts) => facts.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(BackupError::Io { path: path.to_owned(), source }),
    };
    let what = if kind.is_file() {
        match Backup::open(path) {
            Ok(_) | Err(BackupError::Newer { .. }) => return Ok(()),
            Err(error @ BackupError::Io { .. }) => return Err(error),
            Err(_) => "no backup",
        }
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else {
        "a device, a pipe or a socket"
    };
    Err(BackupError::Kept { path: path.to_owned(), what })
}

impl Unnamed {
    fn make(path: &Path) -> Result<Self, BackupError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let failed = |path: &Path, source| BackupError::Io { path: path.to_owned(), source };
        // Of no other process, also where each has a process id 1 of its own.
        let chance = random_id().map_err(|error| failed(path, io::Error::other(error)))?;
        let draft = path.with_file_name(format!(".{name}.{chance}"));
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(|source| failed(&draft, source))?;
        Ok(Self { path: draft, file })
    }

    fn name(&self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        // There is none where it got its name.
        let _leftover = fs::remove_file(&self.path);
    }
}

/// A backup that is being read, from its first item to its end.
#[derive(Debug)]
pub(in crate::app) struct Backup {
    path: PathBuf,
    file: BufReader<fs::File>,
    hash: Hash,
    line: u64,
    has_ended: bool,
    /// The records so far: none may come twice.
    seen: HashSet<RecordKey>,
}

struct Hash(digest::Context);

impl std::fmt::Debug for Hash {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Hash")
    }
}

impl Backup {
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        let failed = |source| BackupError::Io { path: path.to_owned(), source };
        // A pipe could not be read twice, and would hang where nobody writes.
        let facts = fs::metadata(path).map_err(failed)?;
        if !facts.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
        }
        let file = BufReader::new(fs::File::open(path).map_err(failed)?);
        let hash = Hash(digest::Context::new(&digest::SHA256));
        let mut opened = Self { path: path.to_owned(), file, hash, line: 0, has_ended: false, seen: HashSet::new() };
        opened.read_head()?;
        Ok(opened)
    }

    /// Begins anew.
    pub(super) fn rewind(&mut self) -> Result<(), BackupError> {
        self.file.rewind().map_err(|source| BackupError::Io { path: self.path.clone(), source })?;
        self.hash = Hash(digest::Context::new(&digest::SHA256));
        self.line = 0;
        self.has_ended = false;
        self.seen.clear();
        self.read_head()
    }

    /// The next item; none at the end, whose checksum then holds.
    pub(super) fn next(&mut self) -> Result<Option<Item>, BackupError> {
        if self.has_ended {
            return Ok(None);
        }
        let so_far = write_hex(self.hash.0.clone().finish().as_ref());
        let Some(line) = self.read_line()? else { return Err(BackupError::Cut { path: self.path.clone() }) };
        let mut members = self.members(&line)?;
        let Some(kind) = members.remove("is").as_ref().and_then(Json::as_text).map(str::to_owned) else {
            return Err(self.wrong_line("it does not say what it is (`is`)"));
        };
        if kind != "end" {
            let item = read_item(&kind, members).map_err(|wrong| self.wrong_member(wrong))?;
            if let Item::Record(record) = &item
                && !self.seen.insert(record.key.clone())
            {
                return Err(self.wrong_line("this record stands in the file twice"));
            }
            return Ok(Some(item));
        }
        let end = take_number(&mut members, "lines").and_then(|lines| Ok((lines, take_text(&mut members, "sha256")?)));
        let (lines, checksum) = end.map_err(|wrong| self.wrong_member(wrong))?;
        if lines != self.line - 1 {
            return Err(self.wrong_line(&format!("it ends a file of {lines} lines, and there are {}", self.line - 1)));
        }
        if checksum != so_far {
            return Err(BackupError::Checksum { path: self.path.clone() });
        }
        if self.read_line()?.is_some() {
            return Err(self.wrong_line("nothing may follow the last line"));
        }
        self.has_ended = true;
        Ok(None)
    }

    /// A mistake in the line that was read last.
    fn wrong_line(&self, why: &str) -> BackupError {
        BackupError::Line { path: self.path.clone(), line: self.line, why: why.to_owned() }
    }

    fn wrong_member(&self, wrong: WrongMember) -> BackupError {
        BackupError::Member { path: self.path.clone(), line: self.line, member: wrong.member.into_owned(), why: wrong.why }
    }

    fn read_head(&mut self) -> Result<(), BackupError> {
        let no_backup = |backup: &Self| backup.wrong_line("this is no backup of Tollgate's");
        let Some(line) = self.read_line()? else { return Err(no_backup(self)) };
        let mut members = read_object(&line).map_err(|_error| no_backup(self))?;
        if members.get("is").and_then(Json::as_text) != Some(KIND) {
            return Err(no_backup(self));
        }
        // The other members are for people.
        match take_number(&mut members, "format").map_err(|wrong| self.wrong_member(wrong))? {
            FORMAT => Ok(()),
            newer if newer > FORMAT => Err(BackupError::Newer { path: self.path.clone(), found: newer }),
            _ => Err(no_backup(self)),
        }
    }

    fn members<'l>(&self, line: &'l [u8]) -> Result<Members<'l>, BackupError> {
        read_object(line).map_err(|error| self.wrong_line(&error.to_string()))
    }

    /// The next line without its end; none where there is none.
    fn read_line(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let mut line = Vec::new();
        let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let read = (&mut self.file).take(most).read_until(b'\n', &mut line);
        read.map_err(|source| BackupError::Io { path: self.path.clone(), source })?;
        if line.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        self.hash.0.update(&line);
        if line.pop() == Some(b'\n') {
            return Ok(Some(line));
        }
        if line.len() + 1 >= LINE_BYTES_MAX {
            return Err(self.wrong_line("it is longer than any line of a backup"));
        }
        Err(BackupError::Cut { path: self.path.clone() })
    }
}

/// A member that must be a text.
pub(super) fn take_text(members: &mut Members<'_>, name: &'static str) -> Result<String, WrongMember> {
    match members.remove(name) {
        Some(Json::Text(text)) => Ok(text.into_owned()),
        Some(_) => Err(WrongMember::new(name, "it is no text")),
        None => Err(WrongMember::new(name, "it is missing")),
    }
}

/// A member that must be a whole number.
pub(super) fn take_number(members: &mut Members<'_>, name: &'static str) -> Result<u64, WrongMember> {
    take_optional_number(members, name)?.ok_or_else(|| WrongMember::new(name, "it is missing"))
}

/// A member that must be a whole number where it is there.
pub(super) fn take_optional_number(members: &mut Members<'_>, name: &'static str) -> Result<Option<u64>, WrongMember> {
    match members.remove(name) {
        Some(Json::Number(Number::Natural(number))) => Ok(Some(number)),
        Some(_) => Err(WrongMember::new(name, "it is no whole number")),
        None => Ok(None),
    }
}

/// What is left over is known to nobody.
pub(super) fn refuse_rest(members: &Members<'_>) -> Result<(), WrongMember> {
    match members.keys().next() {
        Some(name) => {
            let name: String = name.chars().filter(|letter| letter.is_ascii_graphic()).take(40).collect();
            Err(WrongMember { member: Cow::Owned(name), why: "this release knows no such member".to_owned() })
        }
        None => Ok(()),
    }
}
