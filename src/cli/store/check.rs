//! `tollgate store check`.

use std::io;
use std::io::Write;

use crate::cli::Exit;
use crate::cli::store::Whose;
use crate::cli::store::named;

/// Look at the store: is it there, is it set up well, can all of it be read?
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    whose: Whose,
    /// For machines: one JSON object.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) async fn run(self, _out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Exit> {
        let Some(_named) = named(&self.whose.config, complaints)? else { return Ok(Exit::Failed) };
        tokio::task::yield_now().await;
        Ok(if self.json { Exit::Good } else { Exit::Failed })
    }
}
