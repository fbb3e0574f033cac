//! What needs a restart: listeners, folders, peppers, how the process runs.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::config::boot::AccessLog;
use crate::config::boot::Boot;
use crate::config::boot::Listen;
use crate::config::boot::Log;
use crate::config::boot::LogFormat;
use crate::config::boot::LogLevel;
use crate::config::boot::OpsListen;
use crate::config::boot::PepperSecret;
use crate::config::boot::Peppers;
use crate::config::boot::Record;
use crate::config::boot::Secret;
use crate::config::boot::Tls;
use crate::config::compile::names;
use crate::config::compile::redis;
use crate::config::compile::traces;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::file::ConfigFile;
use crate::config::file::listen;
use crate::config::file::listen::DoorFile;
use crate::config::file::listen::DoorParts;
use crate::config::file::listen::PepperFile;
use crate::config::file::listen::RecordFile;
use crate::config::file::listen::TlsFile;
use crate::config::file::scalars::Period;
use crate::config::file::scalars::Whole;
use crate::config::outside::Readers;
use crate::model::hex::read_hex_secret;

/// The kernel's bound on the path of a unix socket, without its closing zero byte.
const LONGEST_SOCKET_PATH_BYTES: usize = 107;
const LEAST_PEPPER_BYTES: usize = 32;
const LEAST_TOKEN_BYTES: usize = 16;

pub(super) fn boot(desk: &mut Desk<'_>, root: &Spot, file: &ConfigFile) -> Option<Boot> {
    let store = store_folder(file);
    let redis = redis::redis(desk, root, file);
    let store_path = desk.path(&store);
    let ledger_path = file.ledger.path.as_ref().map_or_else(|| store_path.join("ledger"), |path| desk.path(path));
    let listen = root.key("listen");
    let check = door(desk, &listen.key("check"), file.listen.check.as_ref(), Role::Check, "127.0.0.1:9191");
    let control_default = format!("unix:{}", store.join("control.sock").display());
    let control = door(desk, &listen.key("control"), file.listen.control.as_ref(), Role::Control, &control_default);
    let issuer = match &file.listen.issuer {
        Some(written) => Some(door(desk, &listen.key("issuer"), Some(written), Role::Issuer, "")?),
        None => None,
    };
    let ops = ops(desk, &listen.key("ops"), file.listen.ops.as_ref());
    let doors = [
        ("check", check.as_ref().and_then(place)),
        ("control", control.as_ref().and_then(place)),
        ("issuer", issuer.as_ref().and_then(place)),
        ("ops", ops.as_ref().and_then(|ops| place_of(ops.addr))),
    ];
    refuse_shared(desk, &listen, doors);
    let peppers = peppers(desk, &root.key("peppers"), file.peppers.as_deref());
    if file.store.redis.is_some() && file.peppers.is_none() {
        desk.missing(&root.key("store").key("redis"), "`peppers` must be given: a key that one sidecar issues must open at the others");
    }
    let life = root.key("lifecycle");
    let seconds = Duration::from_secs;
    let drain_delay = period(desk, &life.key("drain_delay"), file.lifecycle.drain_delay, seconds(5), seconds(0)..=seconds(600));
    let grace = period(desk, &life.key("grace"), file.lifecycle.grace, seconds(20), seconds(1)..=seconds(600));
    let max_connection_age =
        period(desk, &life.key("max_connection_age"), file.lifecycle.max_connection_age, seconds(1_800), seconds(10)..=seconds(86_400));
    let flush = root.key("ledger").key("flush_interval");
    // Sidecars of one store shall see each other's counts soon.
    let flush_default = if file.store.redis.is_some() { seconds(1) } else { seconds(10) };
    let ledger_flush_interval = period(desk, &flush, file.ledger.flush_interval, flush_default, seconds(1)..=seconds(600));
    if let (Some(listen::AccessLogFile::Accepted), Some(Listen::Tcp { addr, tls })) = (file.access_log, &check) {
        let mutual = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if !addr.ip().is_loopback() && !mutual {
            let wrong = "whoever reaches `listen.check` may have answers counted for any user; use loopback, a unix socket, or `tls` with `client_ca`";
            desk.warn(&root.key("access_log"), wrong);
        }
    }
    let record = file.record.as_ref().map(|written| record(desk, &root.key("record"), written));
    let traces = file.traces.as_ref().and_then(|written| traces::traces(desk, &root.key("traces"), written));
    Some(Boot {
        record,
        traces,
        check: check?,
        control: Some(control?),
        issuer,
        ops: ops?,
        store_path,
        redis: redis?,
        ledger_path,
        ledger_flush_interval,
        access_log: match file.access_log {
            Some(listen::AccessLogFile::Accepted) => AccessLog::Accepted,
            Some(listen::AccessLogFile::Refused) | None => AccessLog::Refused,
        },
        peppers: peppers?,
        drain_delay,
        grace,
        max_connection_age,
        workers: file.lifecycle.workers.map(|workers| workers.0),
        log: Log {
            level: match file.logging.level {
                Some(listen::LogLevel::Error) => LogLevel::Error,
                Some(listen::LogLevel::Warn) => LogLevel::Warn,
                Some(listen::LogLevel::Info) | None => LogLevel::Info,
                Some(listen::LogLevel::Debug) => LogLevel::Debug,
                Some(listen::LogLevel::Trace) => LogLevel::Trace,
            },
            format: match file.logging.format {
                Some(listen::LogFormat::Json) | None => LogFormat::Json,
                Some(listen::LogFormat::Text) => LogFormat::Text,
            },
        },
    })
}

fn record(desk: &mut Desk<'_>, spot: &Spot, written: &RecordFile) -> Record {
    let share = written.sample.map_or(1.0, |share| share.0);
    let bytes_max = Whole::or(written.max_bytes, 100_000_000);
    if written.file.as_os_str().is_empty() {
        desk.error(&spot.key("file"), "the path is empty");
    }
    Record { file: desk.path(&written.file), share, bytes_max }
}

/// As it is written, relative or not.
fn store_folder(file: &ConfigFile) -> PathBuf {
    let embedded = file.store.embedded.as_ref().map(|embedded| &embedded.path);
    let folder = embedded.or_else(|| file.store.redis.as_ref()?.path.as_ref());
    folder.cloned().unwrap_or_else(|| PathBuf::from("data"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Check,
    Control,
    Issuer,
    Ops,
}

fn door(desk: &mut Desk<'_>, spot: &Spot, written: Option<&DoorFile>, role: Role, default: &str) -> Option<Listen> {
    let parts = written.map_or_else(|| DoorParts { address: default.to_owned(), ..DoorParts::default() }, |door| door.0.clone());
    if parts.token.is_some() && role != Role::Ops {
        desk.error(&spot.key("token"), "only `ops` takes a token");
    }
    match parts.address.strip_prefix("unix:") {
        Some(path) => unix(desk, spot, &parts, path, role),
        None => tcp(desk, spot, &parts, role),
    }
}

fn unix(desk: &mut Desk<'_>, spot: &Spot, parts: &DoorParts, path: &str, role: Role) -> Option<Listen> {
    if parts.tls.is_some() {
        desk.error(&spot.key("tls"), "a unix socket takes no certificates");
    }
    if role == Role::Ops {
        desk.error_expecting(spot, "Prometheus and health probes come by TCP", "an address such as `127.0.0.1:9464`");
        return None;
    }
    let full = desk.path(Path::new(path));
    let length = full.as_os_str().len();
    if path.is_empty() || path.contains('\0') || length > LONGEST_SOCKET_PATH_BYTES {
        let wrong = format!("a socket cannot have this path ({length} bytes)");
        desk.error_expecting(spot, wrong, format!("`unix:` and a path of 1 to {LONGEST_SOCKET_PATH_BYTES} bytes"));
    }
    let default_mode = if role == Role::Control { 0o600 } else { 0o660 };
    let mode = parts.mode.as_deref().map_or(Some(default_mode), octal);
    match mode {
        None => desk.error_expecting(&spot.key("mode"), "these are no permissions", "an octal number in quotes such as `\"0660\"`"),
        Some(mode) if role == Role::Control && mode & 0o077 != 0 => {
            desk.error_expecting(&spot.key("mode"), "who may use this socket may do everything", "`\"0600\"`");
        }
        Some(mode) if mode & 0o002 != 0 => desk.warn(&spot.key("mode"), "every user of this machine may use the socket"),
        Some(_) => {}
    }
    if parts.group.as_deref().is_some_and(|group| group.is_empty() || group.contains('\0')) {
        desk.error(&spot.key("group"), "the group is empty");
    }
    Some(Listen::Unix { path: full, mode: mode?, group: parts.group.clone() })
}

/// Permissions of a socket: three or four octal digits, none of the special bits.
fn octal(text: &str) -> Option<u32> {
    let well_formed = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    well_formed.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| *mode <= 0o777)
}

fn tcp(desk: &mut Desk<'_>, spot: &Spot, parts: &DoorParts, role: Role) -> Option<Listen> {
    for (key, given) in [("mode", parts.mode.is_some()), ("group", parts.group.is_some())] {
        if given {
            desk.error(&spot.key(key), "only a unix socket has permissions");
        }
    }
    if role == Role::Control {
        desk.error_expecting(spot, "the control API is for this machine's command line", "`unix:` and a path");
        return None;
    }
    let tls = parts.tls.as_ref().map(|tls| certificates(desk, &spot.key("tls"), tls));
    let Ok(addr) = parts.address.parse::<SocketAddr>() else {
        desk.error_expecting(spot, "this is no address", "an IP address and a port such as `127.0.0.1:9191`, or `unix:` and a path");
        return None;
    };
    let mutual = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    if role == Role::Check && !addr.ip().is_loopback() && !mutual {
        desk.warn(spot, "whoever reaches this address may ask for verdicts; use loopback, a unix socket, or `tls` with `client_ca`");
    }
    Some(Listen::Tcp { addr, tls })
}

fn ops(desk: &mut Desk<'_>, spot: &Spot, written: Option<&DoorFile>) -> Option<OpsListen> {
    let listen = door(desk, spot, written, Role::Ops, "127.0.0.1:9464");
    let token = written.and_then(|door| door.0.token.as_ref()).map(|place| {
        let spot = spot.key("token");
        let secret = desk.secret(&spot, place)?;
        if secret.len() < LEAST_TOKEN_BYTES || !secret.iter().all(u8::is_ascii_graphic) {
            let wrong = format!("the token has {} bytes or cannot stand in a header", secret.len());
            desk.error_expecting(&spot, wrong, format!("at least {LEAST_TOKEN_BYTES} visible ASCII characters"));
        }
        Some(Secret::new(secret))
    });
    match listen? {
        Listen::Tcp { addr, tls } => {
            let mutual = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
            if !addr.ip().is_loopback() && token.is_none() && !mutual {
                desk.warn(spot, "only health answers beyond loopback; metrics need a `token`, or `tls` with `client_ca`");
            }
            let token = match token {
                Some(token) => Some(token?),
                None => None,
            };
            Some(OpsListen { addr, tls, token })
        }
        Listen::Unix { .. } => None,
    }
}

fn certificates(desk: &mut Desk<'_>, spot: &Spot, written: &TlsFile) -> Tls {
    let authorities = written.client_ca.as_ref().map(|path| ("client_ca", path));
    for (key, path) in std::iter::once(("cert", &written.cert)).chain(authorities) {
        certificate(desk, &spot.key(key), path);
    }
    private_key(desk, &spot.key("key"), &written.key);
    Tls { cert: desk.path(&written.cert), key: desk.path(&written.key), client_ca: written.client_ca.as_ref().map(|path| desk.path(path)) }
}

/// Complains unless the file holds certificates.
pub(super) fn certificate(desk: &mut Desk<'_>, spot: &Spot, path: &Path) {
    if let Some(contents) = desk.read(spot, path).filter(|contents| !contents.is_stand_in) {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&contents.bytes).collect();
        if certificates.is_empty() || certificates.iter().any(Result::is_err) {
            desk.error_expecting(spot, "the file holds no readable certificate", "PEM, `-----BEGIN CERTIFICATE-----`");
        }
    }
}

/// Complains unless the file holds a private key.
pub(super) fn private_key(desk: &mut Desk<'_>, spot: &Spot, path: &Path) {
    if let Some(contents) = desk.read(spot, path).filter(|contents| !contents.is_stand_in) {
        if PrivateKeyDer::from_pem_slice(&contents.bytes).is_err() {
            desk.error_expecting(spot, "the file holds no readable private key", "PEM, `-----BEGIN PRIVATE KEY-----`");
        }
        if contents.readable_by == Readers::Everybody {
            desk.warn(spot, "every user of this machine may read this key; take the right from others (chmod o-r)");
        }
    }
}

/// No two doors can stand in one place.
fn refuse_shared(desk: &mut Desk<'_>, spot: &Spot, doors: [(&str, Option<(&str, String)>); 4]) {
    for (index, (key, place)) in doors.iter().enumerate() {
        let earlier = doors.iter().take(index).find(|(_, earlier)| earlier == place);
        if let (Some((what, _)), Some((other, _))) = (place, earlier) {
            desk.error(&spot.key(key), format!("`{other}` has the same {what}"));
        }
    }
}

/// None: the system finds one.
fn place(listen: &Listen) -> Option<(&'static str, String)> {
    match listen {
        Listen::Tcp { addr, .. } => place_of(*addr),
        Listen::Unix { path, .. } => Some(("path", path.display().to_string())),
    }
}

fn place_of(addr: SocketAddr) -> Option<(&'static str, String)> {
    (addr.port() != 0).then(|| ("address", addr.to_string()))
}

fn peppers(desk: &mut Desk<'_>, spot: &Spot, written: Option<&[PepperFile]>) -> Option<Peppers> {
    let Some(written) = written else { return Some(Peppers::Generated) };
    if written.is_empty() {
        desk.missing(spot, "the list is empty; leave `peppers` out to have one made");
    }
    let mut peppers: Vec<PepperSecret> = Vec::with_capacity(written.len());
    let mut complete = true;
    for (index, pepper) in written.iter().enumerate() {
        let spot = spot.index(index);
        if !names::is_plain_name(&pepper.id) {
            desk.error_expecting(&spot.key("id"), "this is no pepper id", "1 to 64 of `a-z A-Z 0-9 _ -`");
        }
        if peppers.iter().any(|other| *other.id == pepper.id) {
            desk.error(&spot.key("id"), "two peppers have the same id");
        }
        let spot = spot.key("secret");
        let Some(secret) = desk.secret(&spot, &pepper.secret) else {
            complete = false;
            continue;
        };
        let Some(secret) = plain_pepper(secret) else {
            desk.error_expecting(&spot, "what follows `hex:` is not hexadecimal", "an even number of digits");
            complete = false;
            continue;
        };
        if secret.len() < LEAST_PEPPER_BYTES {
            desk.error_expecting(&spot, format!("the secret has {} bytes", secret.len()), format!("at least {LEAST_PEPPER_BYTES}"));
        }
        peppers.push(PepperSecret { id: Arc::from(pepper.id.as_str()), secret: Secret::new(secret) });
    }
    complete.then_some(Peppers::Given(peppers))
}

/// The secret itself, or what the digits behind `hex:` mean: a pepper that a node made is bytes and no text.
fn plain_pepper(secret: Zeroizing<Vec<u8>>) -> Option<Zeroizing<Vec<u8>>> {
    let Some(digits) = secret.strip_prefix(b"hex:") else { return Some(secret) };
    read_hex_secret(digits)
}

/// A length of time within bounds.
pub(super) fn period(
    desk: &mut Desk<'_>,
    spot: &Spot,
    written: Option<Period>,
    default: Duration,
    bounds: RangeInclusive<Duration>,
) -> Duration {
    let length = written.map_or(default, |period| period.0);
    if !bounds.contains(&length) {
        let shown = |length: &Duration| match length.subsec_millis() {
            0 => format!("`{}s`", length.as_secs()),
            _ => format!("`{}ms`", length.as_millis()),
        };
        let expected = format!("{} to {}", shown(bounds.start()), shown(bounds.end()));
        desk.error_expecting(spot, "this length of time is out of bounds", expected);
    }
    length
}
