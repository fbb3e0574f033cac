//! What a config names and does not contain: secrets, key sets, keys as code, certificates. Everything is read once, before
//! compiling, so that compiling stays pure and two mentions of one file never see two contents.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use crate::config::compile::traces;
use crate::config::file::ConfigFile;
use crate::config::file::scalars::SecretPlace;
use crate::config::yaml::LARGEST_FILE_BYTES;
use crate::model::hex::write_hex;

/// Everything that was read. Its `Debug` names places and never contents.
#[derive(Clone, Default)]
pub struct Outside {
    files: BTreeMap<PathBuf, Result<Arc<Contents>, Trouble>>,
    variables: BTreeMap<String, Option<Arc<Zeroizing<Vec<u8>>>>>,
}

/// A file's bytes, and who may read it.
pub struct Contents {
    pub(in crate::config) bytes: Zeroizing<Vec<u8>>,
    pub(in crate::config) readable_by: Readers,
    /// Whether this stands for what is elsewhere: good for a secret, and nothing else can be read in it.
    pub(in crate::config) is_stand_in: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Readers {
    OwnerAndGroup,
    Everybody,
}

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("there is no such file")]
    Missing,
    #[error("it is a directory, not a file")]
    Directory,
    #[error("it is no regular file (a pipe, a socket or a device)")]
    NotRegular,
    #[error("it may not be read by this user")]
    Forbidden,
    #[error("it is larger than 4 MiB")]
    TooLarge,
    #[error("it is empty")]
    Empty,
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

impl Outside {
    /// Reads every file and variable that the config names; relative paths are relative to `base`.
    pub fn gather(file: &ConfigFile, base: &Path) -> Self {
        let mut outside = Self::default();
        for path in named_files(file) {
            let path = base.join(path);
            let read = read_file(&path).map(Arc::new);
            outside.files.entry(path).or_insert(read);
        }
        for name in named_variables(file) {
            outside.variables.entry(name.to_owned()).or_insert_with(|| read_variable(name));
        }
        outside
    }

    /// With something in the place of every file and secret that is not here: for judging a config away from where it runs.
    pub(in crate::config) fn without_files(file: &ConfigFile, base: &Path) -> Self {
        let mut outside = Self::gather(file, base);
        for (path, read) in &mut outside.files {
            if matches!(read, Err(Trouble::Missing)) {
                *read = Ok(Arc::new(Contents {
                    bytes: stand_in(&path.to_string_lossy()),
                    readable_by: Readers::OwnerAndGroup,
                    is_stand_in: true,
                }));
            }
        }
        for name in secret_places(file).into_iter().filter_map(|place| place.env.as_ref()) {
            outside.variables.entry(name.clone()).or_default().get_or_insert_with(|| Arc::new(stand_in(name)));
        }
        outside
    }

    /// For texts without a file system: these files and variables, and no others.
    pub fn of(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>, variables: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let contents = |bytes| Arc::new(Contents { bytes: Zeroizing::new(bytes), readable_by: Readers::OwnerAndGroup, is_stand_in: false });
        Self {
            files: files.into_iter().map(|(path, bytes)| (path, Ok(contents(bytes)))).collect(),
            variables: variables.into_iter().map(|(name, bytes)| (name, Some(Arc::new(Zeroizing::new(bytes))))).collect(),
        }
    }

    pub(in crate::config) fn file(&self, path: &Path) -> Result<Arc<Contents>, Trouble> {
        self.files.get(path).cloned().unwrap_or(Err(Trouble::Missing))
    }

    pub(in crate::config) fn variable(&self, name: &str) -> Option<Arc<Zeroizing<Vec<u8>>>> {
        self.variables.get(name).cloned().flatten()
    }

    /// The files that were asked for, readable or not.
    pub(in crate::config) fn files(&self) -> impl Iterator<Item = (&PathBuf, &Result<Arc<Contents>, Trouble>)> {
        self.files.iter()
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<&PathBuf> = self.files.keys().collect();
        let variables: Vec<&String> = self.variables.keys().collect();
        out.debug_struct("Outside").field("files", &files).field("variables", &variables).finish()
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Contents({} bytes)", self.bytes.len())
    }
}

/// Long enough for every secret, and another for each name.
fn stand_in(name: &str) -> Zeroizing<Vec<u8>> {
    let digest = digest::digest(&digest::SHA256, name.as_bytes());
    Zeroizing::new(write_hex(digest.as_ref()).into_bytes())
}

fn named_files(file: &ConfigFile) -> Vec<&Path> {
    let mut paths: Vec<&Path> = Vec::new();
    paths.extend(file.keys_file.as_deref());
    paths.extend(file.traces.as_ref().and_then(|traces| traces.ca.as_deref()));
    for issuer in &file.issuers {
        paths.extend(issuer.keys.jwks_file.as_deref());
        paths.extend(issuer.keys.pem_file.as_deref());
    }
    for door in [&file.listen.check, &file.listen.control, &file.listen.ops, &file.listen.issuer].into_iter().flatten() {
        if let Some(tls) = &door.0.tls {
            paths.extend([tls.cert.as_path(), tls.key.as_path()]);
            paths.extend(tls.client_ca.as_deref());
        }
    }
    if let Some(tls) = file.store.redis.as_ref().and_then(|redis| redis.tls.as_ref()) {
        paths.extend([&tls.ca, &tls.cert, &tls.key].into_iter().filter_map(Option::as_deref));
    }
    paths.extend(secret_places(file).into_iter().filter_map(|place| place.file.as_deref()));
    paths
}

fn named_variables(file: &ConfigFile) -> Vec<&str> {
    let secrets = secret_places(file).into_iter().filter_map(|place| place.env.as_deref());
    let traces = file.traces.iter().flat_map(|_| traces::variables());
    secrets.chain(traces).collect()
}

fn secret_places(file: &ConfigFile) -> Vec<&SecretPlace> {
    let mut places: Vec<&SecretPlace> = Vec::new();
    places.extend(file.issuers.iter().filter_map(|issuer| issuer.keys.hmac_secret.as_ref()));
    places.extend(file.peppers.iter().flatten().map(|pepper| &pepper.secret));
    if let Some(redis) = &file.store.redis {
        places.extend([&redis.password, &redis.sentinel_password].into_iter().flatten());
    }
    if let Some(issuance) = &file.issuer {
        places.extend(issuance.providers.iter().filter_map(|provider| provider.client_secret.as_ref()));
        places.extend(issuance.registration.as_ref().and_then(|registration| registration.initial_access_token.as_ref()));
    }
    let doors = [&file.listen.check, &file.listen.control, &file.listen.ops, &file.listen.issuer];
    places.extend(doors.into_iter().flatten().filter_map(|door| door.0.token.as_ref()));
    places
}

/// A secret's bytes without one line end at its end; an empty one is an error.
pub(in crate::config) fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let contents = read_file(path)?;
    match without_line_end(&contents.bytes) {
        [] => Err(Trouble::Empty),
        secret => Ok(Zeroizing::new(secret.to_vec())),
    }
}

pub(in crate::config) fn without_line_end(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n")).unwrap_or(bytes)
}

/// Reads a regular file of at most 4 MiB. Opening never waits for a pipe's other end.
pub(in crate::config) fn read_file(path: &Path) -> Result<Contents, Trouble> {
    let without_waiting = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    // Opening a device can have effects, so look first; look again at what was opened.
    refuse_unless_regular(&std::fs::metadata(path).map_err(Trouble::from)?)?;
    let file = OpenOptions::new().read(true).custom_flags(without_waiting).open(path).map_err(Trouble::from)?;
    let metadata = file.metadata().map_err(Trouble::from)?;
    refuse_unless_regular(&metadata)?;
    let readable_by = if metadata.mode() & 0o004 == 0 { Readers::OwnerAndGroup } else { Readers::Everybody };
    let bound = u64::try_from(LARGEST_FILE_BYTES).unwrap_or(u64::MAX);
    if metadata.len() > bound {
        return Err(Trouble::TooLarge);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
    file.take(bound + 1).read_to_end(&mut bytes).map_err(Trouble::from)?;
    if bytes.len() > LARGEST_FILE_BYTES {
        return Err(Trouble::TooLarge);
    }
    Ok(Contents { bytes, readable_by, is_stand_in: false })
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        let known = [
            (ErrorKind::NotFound, Self::Missing),
            (ErrorKind::PermissionDenied, Self::Forbidden),
            (ErrorKind::IsADirectory, Self::Directory),
        ];
        let found = known.into_iter().find(|(kind, _)| *kind == error.kind());
        found.map_or_else(|| Self::Unreadable(error.kind().to_string()), |(_, trouble)| trouble)
    }
}

fn refuse_unless_regular(metadata: &std::fs::Metadata) -> Result<(), Trouble> {
    match (metadata.is_dir(), metadata.is_file()) {
        (true, _) => Err(Trouble::Directory),
        (false, true) => Ok(()),
        (false, false) => Err(Trouble::NotRegular),
    }
}

#[expect(clippy::disallowed_methods, reason = "what may come from the environment does so here")]
fn read_variable(name: &str) -> Option<Arc<Zeroizing<Vec<u8>>>> {
    use std::os::unix::ffi::OsStringExt as _;
    if name.is_empty() || name.contains(['=', '\0']) {
        return None;
    }
    std::env::var_os(name).map(|value| Arc::new(Zeroizing::new(value.into_vec())))
}
