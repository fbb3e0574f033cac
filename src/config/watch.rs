//! Which files a config depends on, and a fingerprint of their contents. Contents, because times and inodes lie: a ConfigMap is
//! swapped by links, editors write in place, and a touch changes nothing.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::config::outside::Contents;
use crate::config::outside::Trouble;
use crate::config::outside::read_file;

/// Files and what they held when they were read; a file that could not be read counts with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The config itself first.
    pub files: Vec<PathBuf>,
    pub(in crate::config) fingerprint: [u8; 32],
}

impl Watched {
    pub(in crate::config) fn of<'a>(contents: impl IntoIterator<Item = (&'a Path, &'a Result<Arc<Contents>, Trouble>)>) -> Self {
        let mut files = Vec::new();
        let mut whole = digest::Context::new(&digest::SHA256);
        for (path, read) in contents {
            files.push(path.to_owned());
            let (kind, of_one) = match read {
                Ok(contents) => (b"+", digest::digest(&digest::SHA256, &contents.bytes)),
                Err(trouble) => (b"-", digest::digest(&digest::SHA256, trouble.to_string().as_bytes())),
            };
            whole.update(kind);
            whole.update(of_one.as_ref());
        }
        let mut fingerprint = [0_u8; 32];
        fingerprint.copy_from_slice(whole.finish().as_ref());
        Self { files, fingerprint }
    }

    /// The same files as they are now.
    #[must_use]
    pub fn again(&self) -> Self {
        let read: Vec<_> = self.files.iter().map(|path| (path, read_file(path).map(Arc::new))).collect();
        Self::of(read.iter().map(|(path, contents)| (path.as_path(), contents)))
    }
}
