//! How a config is read that may be away from where it runs.

use std::path::Path;

use crate::config;
use crate::config::Complaint;
use crate::config::Loaded;

/// For commands that judge a config and serve nothing.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Reading {
    /// Secrets and certificates are elsewhere: pass over the files and variables that are not here, and judge everything else.
    #[arg(long)]
    pub without_files: bool,
}

impl Reading {
    pub(super) fn load(self, path: &Path) -> Result<Loaded, Vec<Complaint>> {
        if self.without_files { config::load_without_files(path) } else { config::load(path) }
    }
}
