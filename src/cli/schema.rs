//! `tollgate schema`: the JSON Schema of the config file, for editors.

use std::io::Write;

use crate::cli::Exit;
use crate::config::schema::config_schema;

/// Print the JSON Schema (draft 7) of the config file.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Schema {}

impl Schema {
    /// # Errors
    /// When `out` cannot be written to.
    pub fn run(self, out: &mut dyn Write) -> std::io::Result<Exit> {
        out.write_all(config_schema().as_bytes())?;
        Ok(Exit::Good)
    }
}
