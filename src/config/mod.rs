//! What people write, turned into what runs. The only place that knows the file's shape.
//!
//! # Who sees which
//!
//! | type | is | seen by | changes |
//! |---|---|---|---|
//! | `file::ConfigFile` | what people write | `config` alone | – |
//! | [`Boot`] | doors, folders, peppers, threads | `app` alone | with a restart |
//! | [`Rules`] | routes, limits, trusted issuers, keys as code | every room, by reference, once per request | with a reload |
//! | [`Complaint`] | a mistake or a warning, with its place | `cli`, `tasks::reload`, the log | – |
//!
//! - All mistakes are reported at once; a malformed value is never replaced by a default.
//! - Secrets are read from files or the environment, never stand in the file, and never occur in a complaint.
//! - Compiling is pure: everything outside the file is read before (`outside`).
//!
//! May use `model` and `jose` (to vet verification keys). Must not mention: `check`, `store`, `grpc`, `issuer`.

pub mod boot;
pub mod bootstrap;
mod compile;
pub mod complaint;
mod desk;
pub mod file;
pub mod outside;
mod read;
pub mod reference;
pub mod schema;
pub mod watch;
mod yaml;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::config::boot::Boot;
pub use crate::config::complaint::Complaint;
use crate::config::file::ConfigFile;
use crate::config::outside::Contents;
use crate::config::outside::Outside;
pub use crate::config::watch::Watched;
use crate::model::rules::Rules;

/// A config that is good.
#[derive(Debug)]
pub struct Loaded {
    pub boot: Boot,
    pub rules: Rules,
    pub warnings: Vec<Complaint>,
    /// Every file that was read, the config itself first.
    pub files: Vec<PathBuf>,
}

/// Reads a config and everything that it names.
///
/// # Errors
/// Every mistake there is, in the order of the file.
pub fn load(path: &Path) -> Result<Loaded, Vec<Complaint>> {
    load_watched(path).0
}

/// The same away from where it runs: files and secrets that are not here are passed over. What comes of it serves no requests.
///
/// # Errors
/// Every other mistake there is, in the order of the file.
pub fn load_without_files(path: &Path) -> Result<Loaded, Vec<Complaint>> {
    load_with(path, Outside::without_files).0
}

/// As [`load`], together with what to watch: whether the config was good or not, a change of these files may change that.
pub fn load_watched(path: &Path) -> (Result<Loaded, Vec<Complaint>>, Watched) {
    load_with(path, Outside::gather)
}

fn load_with(path: &Path, gather: impl FnOnce(&ConfigFile, &Path) -> Outside) -> (Result<Loaded, Vec<Complaint>>, Watched) {
    let name: Arc<str> = Arc::from(path.to_string_lossy());
    let read = outside::read_file(path).map(Arc::new);
    let mut outside = Outside::default();
    let loaded = match &read {
        Ok(contents) => as_text(&name, contents).and_then(|text| {
            let base = path.parent().unwrap_or(Path::new(""));
            compile_parts(&name, text, base, |file| {
                outside = gather(file, base);
                outside.clone()
            })
        }),
        Err(trouble) => Err(vec![Complaint::about_file(&name, trouble.to_string())]),
    };
    let named = outside.files().map(|(path, contents)| (path.as_path(), contents));
    let watched = Watched::of(std::iter::once((path, &read)).chain(named));
    let files = watched.files.clone();
    (loaded.map(|(boot, rules, warnings)| Loaded { boot, rules, warnings, files }), watched)
}

/// Compiles a text for tests, fuzzing and dry runs: relative paths are those of `outside`.
///
/// # Errors
/// Every mistake there is, in the order of the file.
pub fn compile_text(text: &str, outside: &Outside) -> Result<(Boot, Rules, Vec<Complaint>), Vec<Complaint>> {
    compile_parts(&Arc::from("tollgate.yaml"), text, Path::new(""), |_| outside.clone())
}

fn as_text<'c>(name: &Arc<str>, contents: &'c Contents) -> Result<&'c str, Vec<Complaint>> {
    std::str::from_utf8(&contents.bytes)
        .map_err(|error| vec![Complaint::about_file(name, format!("the file is not UTF-8 text (byte {})", error.valid_up_to()))])
}

fn compile_parts(
    name: &Arc<str>,
    text: &str,
    base: &Path,
    gather: impl FnOnce(&ConfigFile) -> Outside,
) -> Result<(Boot, Rules, Vec<Complaint>), Vec<Complaint>> {
    let mut complaints = Vec::new();
    let Some(mut tree) = yaml::parse(name, text, &mut complaints) else { return Err(complaints) };
    let Some(file) = read::read::<ConfigFile>(name, &mut tree, &mut complaints) else { return Err(in_order(complaints)) };
    let outside = gather(&file);
    let compiled = compile::compile(name, text, base, &tree, &file, &outside);
    complaints.extend(compiled.errors);
    match compiled.made {
        Some((boot, rules)) if complaints.is_empty() => Ok((boot, rules, in_order(compiled.warnings))),
        Some(_) | None => Err(in_order(complaints)),
    }
}

fn in_order(mut complaints: Vec<Complaint>) -> Vec<Complaint> {
    complaints.sort_by(|left, right| (&left.file, left.line, left.column).cmp(&(&right.file, right.line, right.column)));
    complaints.dedup();
    complaints
}
