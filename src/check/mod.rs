//! The verbs: the request's way, one room a file, in walking order.

pub mod reasons;

pub mod find_route;

pub mod take_credential;

pub mod guard;

pub mod pin_version;

pub mod prepare;

pub mod throttle;

pub mod meter;

pub mod decide;

#[cfg(test)]
mod samples;
