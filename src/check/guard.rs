//! Failed guesses.
