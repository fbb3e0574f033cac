//! API versions: what a client may ask for, and what each version's age means.

use std::sync::Arc;

use crate::model::time::Timestamp;

/// The versions of a config, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiVersions {
    /// The request header that names a version, in lower case (`api-version`); also what goes upstream.
    pub header: Arc<str>,
    pub versions: Vec<ApiVersion>,
    /// Index of the version for requests that name none.
    pub default: usize,
}

/// One version of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersion {
    /// The version's name in the header, for example `2024-01-01`.
    pub name: Arc<str>,
    /// The path prefix that means this version, whole segments, for example `/api/v1`. Several versions may share one.
    pub path_prefix: Option<Arc<str>>,
    pub stage: Stage,
    /// Where this version is documented; goes into `Link`.
    pub documentation: Option<Arc<str>>,
    /// The version that follows it, for `Link: …; rel="successor-version"`.
    pub successor: Option<Arc<str>>,
}

/// How old a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Current,
    /// Answered with `Deprecation` (RFC 9745) and, where known, `Sunset` (RFC 8594).
    Deprecated {
        since: Timestamp,
        sunset: Option<Timestamp>,
    },
    /// Answered with 410.
    Retired,
}
