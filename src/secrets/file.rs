//! The pepper file of the default set-up: made once beside the store, readable by its owner alone.
//!
//! One line a pepper, the current one first: `<id> <64 hex digits or more>`. To change peppers, put a new line on top.

use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::model::hex::push_hex;
use crate::model::hex::read_hex_secret;
use crate::model::key::is_key_id;
use crate::model::key_text::push_base62;
use crate::secrets::Pepper;
use crate::secrets::Peppers;
use crate::secrets::SecretError;
use crate::secrets::random_bytes;

/// The file's name inside the store's folder.
const FILE_NAME: &str = "pepper";
/// How the name begins of one that is being written; the pepper's id follows.
const DRAFT: &str = ".pepper.";
/// Larger files are not pepper files.
const MAX_FILE_BYTES: u64 = 64 * 1024;
const SECRET_BYTES: usize = 32;
/// Of a new pepper's id, behind its `p`.
const ID_DIGITS: usize = 7;

/// Why there are no peppers.
#[derive(Debug, thiserror::Error)]
pub enum PepperFileError {
    #[error("the pepper file {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the pepper file {path}, line {line}: expected `<id> <64 hex digits or more>`")]
    Malformed { path: PathBuf, line: usize },
    #[error("the pepper file {path} has no pepper in it; restore it from a backup, without it no stored key can be checked")]
    Empty { path: PathBuf },
    #[error("the pepper file {path} can be read by others (mode {mode:o}); run: chmod 600 {path}")]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "{folder} holds a store and no pepper file; restore {folder}/pepper from a backup, or configure the peppers that the store was made with"
    )]
    Missing { folder: PathBuf },
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Peppers {
    /// Where the peppers of a folder lie.
    pub fn file_in(folder: &Path) -> PathBuf {
        folder.join(FILE_NAME)
    }

    /// The peppers of a folder; a new folder gets a new one. Call it before the store is opened for the first time: a store
    /// without its peppers is an error, never a reason to make others.
    ///
    /// # Errors
    /// [`PepperFileError`] says which file and what to do.
    pub fn load_or_create(folder: &Path) -> Result<Self, PepperFileError> {
        let path = Self::file_in(folder);
        // Asked first: another process may be making both right now, the store last.
        let has_store = folder.join(crate::store::EMBEDDED_FILE_NAME).exists();
        match fs::File::open(&path) {
            Ok(file) => load(&path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if has_store {
                    return Err(PepperFileError::Missing { folder: folder.to_owned() });
                }
                create(folder, &path)
            }
            Err(source) => Err(PepperFileError::Io { path, source }),
        }
    }
}

fn load(path: &Path, file: fs::File) -> Result<Peppers, PepperFileError> {
    let failed = |source| PepperFileError::Io { path: path.to_owned(), source };
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(PepperFileError::Exposed { path: path.to_owned(), mode: mode & 0o777 });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    let mut peppers = Vec::new();
    for (position, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        peppers.push(read_line(line).ok_or(PepperFileError::Malformed { path: path.to_owned(), line: position + 1 })?);
    }
    let mut peppers = peppers.into_iter();
    let current = peppers.next().ok_or(PepperFileError::Empty { path: path.to_owned() })?;
    Ok(Peppers::new(current, peppers.collect()))
}

fn read_line(line: &str) -> Option<Pepper> {
    let (id, digits) = line.trim().split_once(' ')?;
    let digits = digits.trim().as_bytes();
    if !is_key_id(id) || digits.len() < 2 * SECRET_BYTES {
        return None;
    }
    Some(Pepper { id: Arc::from(id), secret: read_hex_secret(digits)? })
}

fn create(folder: &Path, path: &Path) -> Result<Peppers, PepperFileError> {
    let failed = |source| PepperFileError::Io { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut line = Zeroizing::new(String::with_capacity(128));
    line.push('p');
    push_base62(&mut line, &mut random_bytes::<8>()?, ID_DIGITS);
    // Of no other process, also where each has a process id 1 of its own.
    let draft = folder.join(format!("{DRAFT}{}", *line));
    line.push(' ');
    push_hex(&mut line, Zeroizing::new(random_bytes::<SECRET_BYTES>()?).as_slice());
    line.push('\n');
    let written =
        write_draft(&draft, line.as_bytes()).and_then(|()| publish(&draft, path)).and_then(|()| fs::File::open(folder)?.sync_all());
    if let Err(source) = written {
        let _leftover = fs::remove_file(&draft);
        // Another process was quicker, and may have taken the draft away: its pepper counts.
        if !matches!(source.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) {
            return Err(failed(source));
        }
    }
    let peppers = load(path, fs::File::open(path).map_err(failed)?)?;
    remove_drafts(folder);
    Ok(peppers)
}

/// Now that there is a pepper, a draft is what a start that was killed left, or too late.
fn remove_drafts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_draft) {
            let _leftover = fs::remove_file(entry.path());
        }
    }
}

/// What else begins so is somebody's, such as a copy of the file.
fn is_draft(name: &str) -> bool {
    let digits = name.strip_prefix(DRAFT).and_then(|id| id.strip_prefix('p'));
    digits.is_some_and(|digits| digits.len() == ID_DIGITS && digits.bytes().all(|digit| digit.is_ascii_alphanumeric()))
}

fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives the file its name unless the name is taken.
fn publish(draft: &Path, path: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(rustix::fs::CWD, draft, rustix::fs::CWD, path, rustix::fs::RenameFlags::NOREPLACE) {
        // Some file systems know no such flag.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => publish_by_link(draft, path),
        outcome => outcome.map_err(io::Error::from),
    }
}

fn publish_by_link(draft: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(draft, path)?;
    fs::remove_file(draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_makes_a_file_and_later_ones_read_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        let first = Peppers::load_or_create(&folder).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("pepper"))), (0o700, 0o600));
        let hash = first.hash(b"text");
        let second = Peppers::load_or_create(&folder).unwrap();
        assert!(second.matches(b"text", &hash));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn starts_at_the_same_instant_agree_and_starts_that_were_killed_leave_nothing() {
        for _round in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            for id in ["p0000001", "p0000002"] {
                fs::write(folder.path().join(format!("{DRAFT}{id}")), b"half a li").unwrap();
            }
            let together = std::sync::Barrier::new(4);
            let start = || {
                together.wait();
                Peppers::load_or_create(folder.path()).unwrap().hash(b"text")
            };
            let hashes: Vec<_> = std::thread::scope(|scope| {
                let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect()
            });
            assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the pepper alone");
        }
    }

    #[test]
    fn what_is_no_draft_stays() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".pepper.bak", ".pepper.p000000", ".pepper.p0000001.bak", ".pepper.", "pepper.p0000001"] {
            fs::write(folder.path().join(name), b"somebody's").unwrap();
        }
        Peppers::load_or_create(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
    }

    #[test]
    fn a_name_is_given_once_where_the_file_system_knows_links_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, first, second) = (folder.path().join("pepper"), folder.path().join("first"), folder.path().join("second"));
        for draft in [&first, &second] {
            fs::write(draft, draft.as_os_str().as_encoded_bytes()).unwrap();
        }
        publish_by_link(&first, &path).unwrap();
        assert_eq!(publish_by_link(&second, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), first.as_os_str().as_encoded_bytes(), "another's pepper is not replaced");
        assert!(!first.exists());
    }

    #[test]
    fn a_new_line_on_top_takes_over() {
        let folder = tempfile::tempdir().unwrap();
        let hash = Peppers::load_or_create(folder.path()).unwrap().hash(b"text");
        let path = folder.path().join("pepper");
        let lines = format!("p2 {}\n{}", "ab".repeat(32), fs::read_to_string(&path).unwrap());
        fs::write(&path, lines).unwrap();
        let peppers = Peppers::load_or_create(folder.path()).unwrap();
        assert_eq!(&*peppers.hash(b"text").pepper, "p2");
        assert!(peppers.matches(b"text", &hash));
    }

    #[test]
    fn bad_files_are_refused_and_say_why() {
        let good = format!("p1 {}\n", "0f".repeat(32));
        for (text, mode, expected) in [
            (String::new(), 0o600, "has no pepper"),
            ("p1 00ff\n".to_owned(), 0o600, "line 1"),
            (format!("{good}p2 zz{}\n", "00".repeat(31)), 0o600, "line 2"),
            (format!("p{{}} {}\n", "00".repeat(32)), 0o600, "line 1"),
            (good.clone(), 0o644, "chmod 600"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("pepper");
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Peppers::load_or_create(folder.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("0f0f"), "{error}");
        }
    }

    #[test]
    fn a_store_without_its_pepper_is_no_reason_to_make_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(crate::store::EMBEDDED_FILE_NAME), b"x").unwrap();
        let error = Peppers::load_or_create(folder.path()).unwrap_err();
        assert!(matches!(error, PepperFileError::Missing { .. }), "{error}");
        assert!(!folder.path().join("pepper").exists());
    }
}
