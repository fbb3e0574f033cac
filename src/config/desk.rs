//! Where complaints are collected while one file is compiled: it knows the file's tree, so a field's name is enough to find its line.

use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::config::complaint::Complaint;
use crate::config::complaint::suggestion;
use crate::config::file::scalars::SecretPlace;
use crate::config::outside::Contents;
use crate::config::outside::Outside;
use crate::config::outside::Readers;
use crate::config::outside::Trouble;
use crate::config::outside::without_line_end;
use crate::config::read::Step;
use crate::config::read::find;
use crate::config::read::is_whole;
use crate::config::yaml::Node;

/// A field, by its way from the file's root.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Spot(Vec<Step>);

impl Spot {
    pub(in crate::config) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    pub(in crate::config) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

pub(in crate::config) struct Desk<'a> {
    file: Arc<str>,
    tree: &'a Node,
    /// The tree of the config itself, where `tree` is that of a file that it names.
    config: &'a Node,
    base: PathBuf,
    outside: &'a Outside,
    pub(in crate::config) errors: Vec<Complaint>,
    pub(in crate::config) warnings: Vec<Complaint>,
}

impl<'a> Desk<'a> {
    pub(in crate::config) fn new(file: Arc<str>, tree: &'a Node, base: PathBuf, outside: &'a Outside) -> Self {
        Self { file, tree, config: tree, base, outside, errors: Vec::new(), warnings: Vec::new() }
    }

    /// A mistake in a value that is there.
    pub(in crate::config) fn error(&mut self, spot: &Spot, wrong: impl Into<String>) {
        let complaint = self.about(spot, wrong);
        self.errors.push(complaint);
    }

    pub(in crate::config) fn error_expecting(&mut self, spot: &Spot, wrong: impl Into<String>, expected: impl Into<String>) {
        let complaint = self.about(spot, wrong).expecting(expected);
        self.errors.push(complaint);
    }

    pub(in crate::config) fn error_hinting(&mut self, spot: &Spot, wrong: impl Into<String>, hint: impl Into<String>) {
        let complaint = self.about(spot, wrong).hinting(hint);
        self.errors.push(complaint);
    }

    /// A mistake that consists in something not being there. Not said where something was taken out: it was reported already.
    pub(in crate::config) fn missing(&mut self, spot: &Spot, wrong: impl Into<String>) {
        if self.is_whole(spot) {
            self.error(spot, wrong);
        }
    }

    /// Whether nothing was taken out at this field for being bad.
    pub(in crate::config) fn is_whole(&self, spot: &Spot) -> bool {
        is_whole(self.tree, &spot.0)
    }

    /// A name that refers to nothing.
    pub(in crate::config) fn unknown<'n>(&mut self, spot: &Spot, what: &str, written: &str, known: impl IntoIterator<Item = &'n str>) {
        let mut complaint = self.about(spot, format!("there is no {what} `{}`", shorten(written)));
        complaint.hint = suggestion(written, known);
        self.errors.push(complaint);
    }

    /// A name that refers to nothing in a list of the config. Not said where something was taken out of that list: it may have been
    /// what the name refers to.
    pub(in crate::config) fn unknown_in<'n>(
        &mut self,
        list: &Spot,
        spot: &Spot,
        what: &str,
        written: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        if is_whole(self.config, &list.0) {
            self.unknown(spot, what, written, known);
        }
    }

    /// As [`Desk::missing`], about something that the config lacks and `spot` needs.
    pub(in crate::config) fn missing_in(&mut self, list: &Spot, spot: &Spot, wrong: impl Into<String>) {
        if is_whole(self.config, &list.0) {
            self.error(spot, wrong);
        }
    }

    pub(in crate::config) fn warn(&mut self, spot: &Spot, wrong: impl Into<String>) {
        let complaint = self.about(spot, wrong);
        self.warnings.push(complaint);
    }

    fn about(&self, spot: &Spot, wrong: impl Into<String>) -> Complaint {
        let (place, field) = find(self.tree, &spot.0, false);
        Complaint {
            file: Arc::clone(&self.file),
            line: place.line,
            column: place.column,
            field,
            wrong: wrong.into(),
            expected: None,
            hint: None,
        }
    }

    /// The line of a field, to point at it from elsewhere.
    pub(in crate::config) fn line(&self, spot: &Spot) -> u32 {
        find(self.tree, &spot.0, false).0.line
    }

    pub(in crate::config) fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// Reads and compiles a file that this one names; its complaints carry its own name and lines.
    pub(in crate::config) fn other_file<T: DeserializeOwned + std::ops::Deref<Target = [U]>, U, R>(
        &mut self,
        name: &Arc<str>,
        text: &str,
        compile: impl FnOnce(&mut Desk<'_>, &[U]) -> R,
    ) -> Option<R> {
        let mut tree = crate::config::yaml::parse(name, text, &mut self.errors)?;
        let written: T = crate::config::read::read(name, &mut tree, &mut self.errors)?;
        let mut desk = Desk { config: self.config, ..Desk::new(Arc::clone(name), &tree, self.base.clone(), self.outside) };
        let made = compile(&mut desk, &written);
        let (errors, warnings) = (desk.errors, desk.warnings);
        self.errors.extend(errors);
        self.warnings.extend(warnings);
        Some(made)
    }

    /// A file's bytes; a complaint at `spot` where there are none.
    pub(in crate::config) fn read(&mut self, spot: &Spot, path: &Path) -> Option<Arc<Contents>> {
        self.read_or_complain(spot, path, false)
    }

    /// What stands for the name of a secret's file may be the secret itself, and is repeated only where it looks like a path.
    fn read_or_complain(&mut self, spot: &Spot, written: &Path, is_secret: bool) -> Option<Arc<Contents>> {
        let path = self.base.join(written);
        match self.outside.file(&path) {
            Ok(contents) if contents.bytes.is_empty() => {
                self.error(spot, "the file is empty");
                None
            }
            Ok(contents) => Some(contents),
            Err(trouble) => {
                let hint = match trouble {
                    Trouble::Missing => "relative paths are relative to the config file's folder",
                    Trouble::Directory | Trouble::NotRegular => "name a regular file",
                    Trouble::Forbidden => "give this process's user the right to read it",
                    Trouble::TooLarge | Trouble::Empty | Trouble::Unreadable(_) => "check the file",
                };
                let wrong = match !is_secret || reads_as_path(written) {
                    true if trouble == Trouble::Missing => format!("{trouble}: {}", path.to_string_lossy().escape_debug()),
                    true | false => trouble.to_string(),
                };
                self.error_hinting(spot, wrong, hint);
                None
            }
        }
    }

    /// The bytes of a secret. Complaints name the field and the place, never the content.
    pub(in crate::config) fn secret(&mut self, spot: &Spot, place: &SecretPlace) -> Option<Zeroizing<Vec<u8>>> {
        match (&place.file, &place.env) {
            (Some(path), None) => {
                let contents = self.read_or_complain(&spot.key("file"), path, true)?;
                if contents.readable_by == Readers::Everybody {
                    self.warn(&spot.key("file"), "every user of this machine may read this secret; take the right from others (chmod o-r)");
                }
                self.checked(&spot.key("file"), &contents.bytes)
            }
            (None, Some(name)) => {
                let spot = spot.key("env");
                match self.outside.variable(name) {
                    Some(value) => self.checked(&spot, &value),
                    None => {
                        self.error(&spot, "the environment variable is not set");
                        None
                    }
                }
            }
            (Some(_), Some(_)) => {
                self.error_expecting(spot, "both `file` and `env` are given", "exactly one of them");
                None
            }
            (None, None) => {
                self.missing(spot, "one of `file` and `env` is missing");
                None
            }
        }
    }

    /// A variable's text; an empty one is none, as OpenTelemetry has it.
    pub(in crate::config) fn variable(&self, name: &str) -> Option<String> {
        let value = self.outside.variable(name)?;
        Some(String::from_utf8_lossy(&value).trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn checked(&mut self, spot: &Spot, bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let secret = without_line_end(bytes);
        if secret.trim_ascii().is_empty() {
            self.error(spot, "the secret is empty");
            return None;
        }
        Some(Zeroizing::new(secret.to_vec()))
    }
}

/// Whether this is a path, or a name in words: a secret that stands in its file's place has digits or capitals, or is long.
fn reads_as_path(written: &Path) -> bool {
    const WORD_BYTES_MAX: usize = 24;
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_' | b'-');
    let is_word = |part: &OsStr| part.len() <= WORD_BYTES_MAX && part.as_encoded_bytes().iter().all(is_plain);
    written.is_absolute() || written.iter().all(is_word)
}

/// Texts from the file are shown, but not at any length.
pub(in crate::config) fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN {
        text.escape_debug().to_string()
    } else {
        format!("{}…", text.chars().take(SHOWN).collect::<String>().escape_debug())
    }
}
