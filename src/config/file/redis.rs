//! The store that sidecars share.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::file::scalars::Period;
use crate::config::file::scalars::SecretPlace;
use crate::config::file::scalars::Whole;

/// Redis 7 or newer, or Valkey: users, keys, limits and counts of all sidecars that name it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisFile {
    /// `redis://host:port`, `rediss://host:port` (TLS) or `unix:/path`; `/2` behind it is a database. No password: see
    /// `password`. Default: none, `urls` are given.
    pub url: Option<String>,
    /// Several instead of one: Sentinels, or first nodes of a cluster. Default: none, `url` is given.
    pub urls: Option<Vec<String>>,
    /// How the servers are arranged. Default: `standalone`.
    pub mode: Option<RedisModeFile>,
    /// What the Sentinels call the primary, such as `mymaster`. Default: none; `sentinel` needs it.
    pub master_name: Option<String>,
    /// An ACL user. Default: Redis's `default` user.
    pub username: Option<String>,
    /// Where the password is; a file is read again at each connection. Default: none is sent.
    pub password: Option<SecretPlace>,
    /// An ACL user of the Sentinels themselves. Default: none.
    pub sentinel_username: Option<String>,
    /// The password of the Sentinels themselves. Default: none.
    pub sentinel_password: Option<SecretPlace>,
    /// Certificates, for `rediss://`. Default: the system's authorities, and none of our own.
    pub tls: Option<RedisTlsFile>,
    /// What every key in Redis begins with: 1 to 64 of `a-z A-Z 0-9 . _ -`. Default: `tollgate`.
    pub prefix: Option<String>,
    /// The local folder: counts on their way, changes to be repeated after a failover, the control socket. Default: `./data`.
    pub path: Option<PathBuf>,
    /// How long Redis may take.
    #[serde(default)]
    pub timeouts: RedisTimeoutsFile,
    /// How many replicas must confirm a change before it is acknowledged without reserve. Default: 1; 0 for `standalone`.
    pub replicas: Option<Whole<u8, 0, 5>>,
}

/// How the servers are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisModeFile {
    /// One server.
    Standalone,
    /// The URLs are Sentinels; they know the primary.
    Sentinel,
    /// The URLs are nodes of a Redis Cluster.
    Cluster,
}

/// Certificates for the way to Redis, PEM. They are read again at each connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisTlsFile {
    /// Authorities of the server's certificate. Default: the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate chain, for servers that ask for one. Default: none.
    pub cert: Option<PathBuf>,
    /// The private key of `cert`. Default: none.
    pub key: Option<PathBuf>,
}

/// How long Redis may take.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisTimeoutsFile {
    /// TCP, TLS and the greeting together, `50ms` to `10s`. Default: `1s`.
    pub connect: Option<Period>,
    /// Everything that one check asks about its caller, together, and then as long again for its limits, `5ms` to `1s`. Default: `50ms`.
    pub check: Option<Period>,
    /// One call that no check waits for, `50ms` to `10s`. Default: `250ms`.
    pub background: Option<Period>,
}
