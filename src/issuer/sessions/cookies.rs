//! The two cookies of the issuer's pages, and what they say.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header;

use crate::issuer::IssuerState;
use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::problem::Problem;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::issuance::Issuance;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Who is signed in.
    Session,
    /// The browser itself, before anybody signs in.
    Browser,
}

impl Kind {
    const fn plain_name(self) -> &'static str {
        match self {
            Self::Session => "tollgate_session",
            Self::Browser => "tollgate_browser",
        }
    }

    const fn handle(self) -> HandleKind {
        match self {
            Self::Session => HandleKind::Session,
            Self::Browser => HandleKind::Browser,
        }
    }
}

/// What a browser showed.
pub(super) struct Shown {
    wanted: HandleKind,
    kind: HandleKind,
    generation: u32,
    /// Whether no other cookie of the same name came with it.
    is_alone: bool,
    /// Whether its digest is one of ours.
    is_proven: bool,
}

pub(super) const CHECKS: [Check<Shown>; 4] = [
    // One of two was planted.
    Check { name: "one cookie of its name", run: |shown| hold(shown.is_alone) },
    Check { name: "a handle of this cookie's kind", run: |shown| hold(shown.kind == shown.wanted) },
    Check { name: "a handle of the only generation", run: |shown| hold(shown.generation == 0) },
    Check { name: "a cookie of our own making", run: |shown| hold(shown.is_proven) },
];

/// The id in this browser's cookie, where we made it. A cookie that comes twice is nobody's.
pub(super) fn id(state: &IssuerState, issuance: &Issuance, headers: &HeaderMap, kind: Kind) -> Option<String> {
    let name = name(issuance, kind);
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut found = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name);
    let (value, is_alone) = (found.next()?.1, found.next().is_none());
    let handle = read_handle(&state.rules.load().key_brand, value)?;
    let is_proven = state.peppers.prove_handle(&handle).is_some();
    let shown = Shown { wanted: kind.handle(), kind: handle.kind, generation: handle.generation, is_alone, is_proven };
    run(&CHECKS, &shown).ok()?;
    Some(handle.id.to_owned())
}

/// The `set-cookie` that gives this id to the browser, for as long as this; none: until the browser is closed.
pub(super) fn give(state: &IssuerState, issuance: &Issuance, kind: Kind, id: &str, life: Option<Duration>) -> Result<String, Problem> {
    let brand = state.rules.load().key_brand.clone();
    let value = state.peppers.handle(&brand, kind.handle(), id, 0, state.peppers.current_id())?;
    let life = life.map_or_else(String::new, |life| format!("; Max-Age={}", life.as_secs()));
    Ok(format!("{}={}{}{life}", name(issuance, kind), *value, attributes(issuance)))
}

/// The `set-cookie` that takes it away.
pub(super) fn take(issuance: &Issuance, kind: Kind) -> String {
    format!("{}={}; Max-Age=0", name(issuance, kind), attributes(issuance))
}

/// With `__Host-` no neighbour under the same domain can plant it. Browsers want `Secure` for that, which plain loopback cannot have.
fn name(issuance: &Issuance, kind: Kind) -> String {
    let prefix = if is_secure(issuance) { "__Host-" } else { "" };
    format!("{prefix}{}", kind.plain_name())
}

fn attributes(issuance: &Issuance) -> &'static str {
    if is_secure(issuance) { "; Path=/; HttpOnly; SameSite=Lax; Secure" } else { "; Path=/; HttpOnly; SameSite=Lax" }
}

fn is_secure(issuance: &Issuance) -> bool {
    // The config allows http on loopback only.
    !issuance.url.starts_with("http://")
}
