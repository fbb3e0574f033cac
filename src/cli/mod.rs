//! The command line: one file a subcommand. Each writes to the writer that it is given and says how it ended.

pub mod check_config;

pub mod client;

pub mod keys;

pub mod schema;

pub mod usage;

mod table;

/// How a command ended, as its exit code says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Good,
    Failed,
    /// The arguments make no sense.
    Usage,
}

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Failed => 1,
            Self::Usage => 2,
        }
    }
}

#[cfg(test)]
mod tests;
