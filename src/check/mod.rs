//! The verbs: the request's way, one room a file, in walking order.

pub mod reasons;

pub mod take_credential;

pub mod prove;

pub mod prepare;

pub mod throttle;

pub mod meter;

pub mod decide;
