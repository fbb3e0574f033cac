//! Acceptance tests. What is where:
//!
//! | module | what it shows |
//! |---|---|
//! | `bad_config` | every mistake in a config is named with its place; a config with every setting is good |

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "tests read clocks and the environment, the program does not")]

mod bad_config;
