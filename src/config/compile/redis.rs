//! `store.redis`: where it is, who we are to it, how long it may take.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::boot::RedisBoot;
use crate::config::boot::RedisLogin;
use crate::config::boot::RedisMode;
use crate::config::boot::RedisServer;
use crate::config::boot::RedisTimeouts;
use crate::config::boot::RedisTls;
use crate::config::boot::Secret;
use crate::config::boot::SecretSource;
use crate::config::compile::doors;
use crate::config::compile::names;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::desk::shorten;
use crate::config::file::ConfigFile;
use crate::config::file::redis::RedisFile;
use crate::config::file::redis::RedisModeFile;
use crate::config::file::redis::RedisTimeoutsFile;
use crate::config::file::redis::RedisTlsFile;
use crate::config::file::scalars::SecretPlace;
use crate::config::file::scalars::Whole;

/// As Redis and Sentinel listen unless told otherwise.
const REDIS_PORT: u16 = 6_379;
const SENTINEL_PORT: u16 = 26_379;
/// More first addresses than this help nobody.
const MOST_SERVERS: usize = 32;
const URL_FORMS: &str = "`redis://host:port`, `rediss://host:port` (TLS) or `unix:/path`";

/// The outer none: a mistake; the inner one: the store is embedded.
pub(super) fn redis(desk: &mut Desk<'_>, root: &Spot, file: &ConfigFile) -> Option<Option<RedisBoot>> {
    let Some(written) = &file.store.redis else { return Some(None) };
    let store = root.key("store");
    if file.store.embedded.is_some() {
        desk.error_expecting(&store, "both `embedded` and `redis` are given", "exactly one of them");
    }
    boot(desk, &store.key("redis"), written).map(Some)
}

fn boot(desk: &mut Desk<'_>, spot: &Spot, written: &RedisFile) -> Option<RedisBoot> {
    let mode = mode(desk, spot, written);
    let places = places(desk, spot, written);
    let login = login(desk, spot, ["username", "password"], written.username.as_deref(), written.password.as_ref());
    let keys = ["sentinel_username", "sentinel_password"];
    let sentinel_login = login_of_sentinels(desk, spot, keys, written);
    let encrypted = places.as_ref().is_some_and(|places| places.iter().any(|place| place.encrypted));
    if let (Some(_), Some(_), false) = (&written.tls, &places, encrypted) {
        desk.error_expecting(&spot.key("tls"), "certificates are given, and the URL does not ask for TLS", "a URL with `rediss://`");
    }
    let tls = tls(desk, &spot.key("tls"), written.tls.as_ref());
    let prefix = written.prefix.as_deref().unwrap_or("tollgate");
    if !names::is_dotted_name(prefix) {
        desk.error_expecting(&spot.key("prefix"), "this is no prefix", "1 to 64 of `a-z A-Z 0-9 . _ -`");
    }
    let timeouts = timeouts(desk, &spot.key("timeouts"), &written.timeouts);
    let replicas = Whole::or(written.replicas, u8::from(written.mode.is_some_and(|mode| mode != RedisModeFile::Standalone)));
    let places = places?;
    let database = database(desk, spot, written, &places);
    Some(RedisBoot {
        mode: mode?,
        servers: places.into_iter().map(|place| place.server).collect(),
        database: database?,
        login: login?,
        sentinel_login: sentinel_login?,
        tls: encrypted.then_some(tls),
        prefix: Arc::from(prefix),
        timeouts,
        replicas,
    })
}

fn mode(desk: &mut Desk<'_>, spot: &Spot, written: &RedisFile) -> Option<RedisMode> {
    let mode = written.mode.unwrap_or(RedisModeFile::Standalone);
    if let (RedisModeFile::Standalone | RedisModeFile::Cluster, true) = (mode, written.master_name.is_some()) {
        desk.error(&spot.key("master_name"), "only `mode: sentinel` knows the primary by a name");
    }
    match (mode, &written.master_name) {
        (RedisModeFile::Standalone, _) => Some(RedisMode::Standalone),
        (RedisModeFile::Cluster, _) => Some(RedisMode::Cluster),
        (RedisModeFile::Sentinel, Some(name)) => {
            if !names::is_dotted_name(name) {
                desk.error_expecting(&spot.key("master_name"), "this is no primary's name", "1 to 64 of `a-z A-Z 0-9 . _ -`");
            }
            Some(RedisMode::Sentinel { master_name: Arc::from(name.as_str()) })
        }
        (RedisModeFile::Sentinel, None) => {
            desk.missing(spot, "`master_name` is missing: Sentinels may know several primaries");
            None
        }
    }
}

/// One URL, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    server: RedisServer,
    encrypted: bool,
    database: u16,
}

/// Every server that is named; none where one of them is a mistake.
fn places(desk: &mut Desk<'_>, spot: &Spot, written: &RedisFile) -> Option<Vec<Place>> {
    let mode = written.mode.unwrap_or(RedisModeFile::Standalone);
    let urls: Vec<(Spot, &str)> = match (&written.url, &written.urls) {
        (Some(url), None) => vec![(spot.key("url"), url.as_str())],
        (None, Some(urls)) => urls.iter().enumerate().map(|(index, url)| (spot.key("urls").index(index), url.as_str())).collect(),
        (Some(_), Some(_)) => {
            desk.error_expecting(spot, "both `url` and `urls` are given", "exactly one of them");
            return None;
        }
        (None, None) => {
            desk.missing(spot, format!("one of `url` and `urls` is missing: {URL_FORMS}"));
            return None;
        }
    };
    if urls.is_empty() || urls.len() > MOST_SERVERS {
        desk.error_expecting(&spot.key("urls"), format!("{} URLs are given", urls.len()), format!("1 to {MOST_SERVERS}"));
        return None;
    }
    if let (RedisModeFile::Standalone, true) = (mode, urls.len() > 1) {
        let wrong = "one server cannot have several addresses";
        desk.error_expecting(&spot.key("urls"), wrong, "one URL, or `mode: sentinel` or `mode: cluster`");
    }
    let port = if mode == RedisModeFile::Sentinel { SENTINEL_PORT } else { REDIS_PORT };
    let mut places: Vec<Place> = Vec::with_capacity(urls.len());
    for (spot, url) in &urls {
        let place = match place(url, port) {
            Ok(place) => place,
            Err(wrong) => {
                desk.error_expecting(spot, wrong.text(), wrong.expected());
                continue;
            }
        };
        match (&place.server, mode) {
            (RedisServer::Unix(_), RedisModeFile::Sentinel | RedisModeFile::Cluster) => {
                desk.error_expecting(spot, "only a single server has a socket", "`redis://host:port` or `rediss://host:port`");
            }
            (RedisServer::Unix(_), RedisModeFile::Standalone) | (RedisServer::Tcp { .. }, _) => {}
        }
        if places.iter().any(|other| other.server == place.server) {
            desk.error(spot, "this server is named twice");
        }
        if places.first().is_some_and(|first| (first.encrypted, first.database) != (place.encrypted, place.database)) {
            desk.error(spot, "this URL and the first one differ in more than the server: all must have the same scheme and database");
        }
        places.push(place);
    }
    (places.len() == urls.len()).then_some(places)
}

fn database(desk: &mut Desk<'_>, spot: &Spot, written: &RedisFile, places: &[Place]) -> Option<u16> {
    let database = places.first()?.database;
    if database != 0 && written.mode == Some(RedisModeFile::Cluster) {
        let spot = if written.url.is_some() { spot.key("url") } else { spot.key("urls") };
        desk.error_expecting(&spot, "a cluster has one database", "a URL without a path");
    }
    Some(database)
}

/// What can be wrong with a URL. None of it repeats what may be a password.
#[derive(Clone, Debug, PartialEq, Eq)]
enum BadUrl {
    Form,
    Scheme(String),
    Password,
    User,
    Several,
    Host,
    Port,
    Database,
    Parameters,
    Socket,
}

impl BadUrl {
    fn text(&self) -> String {
        match self {
            Self::Form => "this is no URL".to_owned(),
            Self::Scheme(scheme) => format!("`{}` is no way to Redis", shorten(scheme)),
            Self::Password => "a password stands in the URL, where logs and process lists would show it".to_owned(),
            Self::User => "a user stands in the URL".to_owned(),
            Self::Several => "several servers stand in one URL".to_owned(),
            Self::Host => "the host is missing or is no host".to_owned(),
            Self::Port => "the port is none".to_owned(),
            Self::Database => "the path is no database".to_owned(),
            Self::Parameters => "the URL has parameters".to_owned(),
            Self::Socket => "the socket's path is missing or not absolute".to_owned(),
        }
    }

    fn expected(&self) -> &'static str {
        match self {
            Self::Form | Self::Scheme(_) | Self::Parameters => URL_FORMS,
            Self::Password => "`password: { file: … }` or `password: { env: … }` beside the URL",
            Self::User => "`username` beside the URL",
            Self::Several => "a list `urls`, each with one server",
            Self::Host => "a name, an IPv4 address, or an IPv6 address in brackets",
            Self::Port => "1 to 65535",
            Self::Database => "a number from 0 to 1000, or nothing",
            Self::Socket => "`unix:` and an absolute path",
        }
    }
}

fn place(url: &str, default_port: u16) -> Result<Place, BadUrl> {
    if let Some(path) = url.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        let sound = path.starts_with('/') && path.len() > 1 && !path.contains(['\0', '?', '#']) && path.len() <= 107;
        let server = RedisServer::Unix(PathBuf::from(path));
        return if sound { Ok(Place { server, encrypted: false, database: 0 }) } else { Err(BadUrl::Socket) };
    }
    let (encrypted, rest) = match (url.strip_prefix("redis://"), url.strip_prefix("rediss://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        // The rest may hold a password.
        (None, None) => return Err(url.split_once("://").map_or(BadUrl::Form, |(scheme, _)| BadUrl::Scheme(scheme.to_owned()))),
    };
    if let Some((user, _)) = rest.rsplit_once('@') {
        return Err(if user.contains(':') { BadUrl::Password } else { BadUrl::User });
    }
    if rest.contains(['?', '#']) {
        return Err(BadUrl::Parameters);
    }
    if rest.contains(',') {
        return Err(BadUrl::Several);
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (address, after) = bracketed.split_once(']').ok_or(BadUrl::Host)?;
            address.parse::<Ipv6Addr>().map_err(|_| BadUrl::Host)?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(BadUrl::Port)?) };
            (address, port)
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !authority.starts_with('[') && (host.is_empty() || host.len() > 253 || !host.bytes().all(is_plain)) {
        return Err(BadUrl::Host);
    }
    let port = match port {
        None => default_port,
        Some(port) => number(port).filter(|port| *port != 0).ok_or(BadUrl::Port)?,
    };
    let database = if path.is_empty() { 0 } else { number(path).filter(|number| *number <= 1_000).ok_or(BadUrl::Database)? };
    Ok(Place { server: RedisServer::Tcp { host: Arc::from(host), port }, encrypted, database })
}

/// Digits only: what `parse` takes beyond them (`+1`) is no number here.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn login_of_sentinels(desk: &mut Desk<'_>, spot: &Spot, keys: [&'static str; 2], written: &RedisFile) -> Option<RedisLogin> {
    let given = [written.sentinel_username.is_some(), written.sentinel_password.is_some()];
    if written.mode != Some(RedisModeFile::Sentinel)
        && let Some((key, _)) = keys.iter().zip(given).find(|(_, given)| *given)
    {
        desk.error(&spot.key(key), "there are Sentinels with `mode: sentinel` only");
    }
    login(desk, spot, keys, written.sentinel_username.as_deref(), written.sentinel_password.as_ref())
}

fn login(
    desk: &mut Desk<'_>,
    spot: &Spot,
    [user_key, password_key]: [&'static str; 2],
    username: Option<&str>,
    place: Option<&SecretPlace>,
) -> Option<RedisLogin> {
    if let Some(name) = username {
        if name.is_empty() || name.len() > 128 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            desk.error_expecting(&spot.key(user_key), "this is no ACL user", "1 to 128 visible ASCII characters");
        }
        if place.is_none() {
            desk.missing(spot, format!("`{user_key}` is given without `{password_key}`"));
        }
    }
    let password = match place {
        None => None,
        Some(place) => Some(password(desk, &spot.key(password_key), place)?),
    };
    Some(RedisLogin { username: username.map(Arc::from), password })
}

fn password(desk: &mut Desk<'_>, spot: &Spot, place: &SecretPlace) -> Option<SecretSource> {
    let now = desk.secret(spot, place)?;
    Some(match &place.file {
        Some(path) => SecretSource::File(desk.path(path)),
        None => SecretSource::Fixed(Secret::new(now)),
    })
}

fn tls(desk: &mut Desk<'_>, spot: &Spot, written: Option<&RedisTlsFile>) -> RedisTls {
    let Some(written) = written else { return RedisTls::default() };
    for (key, path) in [("ca", &written.ca), ("cert", &written.cert)] {
        if let Some(path) = path {
            doors::certificate(desk, &spot.key(key), path);
        }
    }
    if let Some(path) = &written.key {
        doors::private_key(desk, &spot.key("key"), path);
    }
    let client = match (&written.cert, &written.key) {
        (Some(cert), Some(key)) => Some((desk.path(cert), desk.path(key))),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            desk.missing(spot, "a certificate of our own needs both `cert` and `key`");
            None
        }
    };
    RedisTls { authorities: written.ca.as_ref().map(|path| desk.path(path)), client }
}

fn timeouts(desk: &mut Desk<'_>, spot: &Spot, written: &RedisTimeoutsFile) -> RedisTimeouts {
    let millis = Duration::from_millis;
    let (connect, check, background) = (written.connect, written.check, written.background);
    RedisTimeouts {
        connect: doors::period(desk, &spot.key("connect"), connect, millis(1_000), millis(50)..=millis(10_000)),
        check: doors::period(desk, &spot.key("check"), check, millis(50), millis(5)..=millis(1_000)),
        background: doors::period(desk, &spot.key("background"), background, millis(250), millis(50)..=millis(10_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_server_and_a_database() {
        let tcp =
            |host: &str, port, encrypted, database| Ok(Place { server: RedisServer::Tcp { host: host.into(), port }, encrypted, database });
        let unix = |path: &str| Ok(Place { server: RedisServer::Unix(path.into()), encrypted: false, database: 0 });
        let table = [
            ("redis://localhost", tcp("localhost", 6379, false, 0)),
            ("redis://localhost/", tcp("localhost", 6379, false, 0)),
            ("redis://127.0.0.1:7000/3", tcp("127.0.0.1", 7000, false, 3)),
            ("rediss://redis.example.com:6380", tcp("redis.example.com", 6380, true, 0)),
            ("redis://[::1]", tcp("::1", 6379, false, 0)),
            ("rediss://[2001:db8::1]:7001/1", tcp("2001:db8::1", 7001, true, 1)),
            ("unix:/run/redis.sock", unix("/run/redis.sock")),
            ("unix:///run/redis.sock", unix("/run/redis.sock")),
            ("unix:run/redis.sock", Err(BadUrl::Socket)),
            ("unix:", Err(BadUrl::Socket)),
            ("unix:/", Err(BadUrl::Socket)),
            ("localhost:6379", Err(BadUrl::Form)),
            ("http://localhost", Err(BadUrl::Scheme("http".to_owned()))),
            ("Redis://localhost", Err(BadUrl::Scheme("Redis".to_owned()))),
            ("redis://", Err(BadUrl::Host)),
            ("redis://:6379", Err(BadUrl::Host)),
            ("redis://a b", Err(BadUrl::Host)),
            ("redis://::1", Err(BadUrl::Host)),
            ("redis://1::1", Err(BadUrl::Port)),
            ("redis://[::1", Err(BadUrl::Host)),
            ("redis://[localhost]", Err(BadUrl::Host)),
            ("redis://[::1]6379", Err(BadUrl::Port)),
            ("redis://host:", Err(BadUrl::Port)),
            ("redis://host:0", Err(BadUrl::Port)),
            ("redis://host:+1", Err(BadUrl::Port)),
            ("redis://host:65536", Err(BadUrl::Port)),
            ("redis://host/x", Err(BadUrl::Database)),
            ("redis://host/1001", Err(BadUrl::Database)),
            ("redis://host/1/2", Err(BadUrl::Database)),
            ("redis://a:1,b:2", Err(BadUrl::Several)),
            ("redis://host?db=1", Err(BadUrl::Parameters)),
            ("redis://:hunter2@host", Err(BadUrl::Password)),
            ("redis://me:hunter2@host", Err(BadUrl::Password)),
            ("redis://me:hun@ter2@host", Err(BadUrl::Password)),
            ("redis://me@host", Err(BadUrl::User)),
        ];
        for (url, wanted) in table {
            let found = place(url, REDIS_PORT);
            assert_eq!(found, wanted, "{url}");
            assert!(!found.is_err_and(|wrong| format!("{} {}", wrong.text(), wrong.expected()).contains("hunter2")), "{url}");
        }
    }
}
