//! Sign-in elsewhere over the router, against a provider without manners.
