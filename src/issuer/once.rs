//! `Idempotency-Key`: whoever does not know whether a request was done sends it again, and nothing is made twice.
//!
//! Beside what a request makes lies a ticket, committed together with it and kept for a day. A repeat finds it and is told what was made.
//! It is not given the secret: that stood in the first answer alone, and is nowhere to be taken from.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use serde::Deserialize;
use serde::Serialize;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::actor::Actor;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::input::Fields;
use crate::issuer::problem::Code;
use crate::issuer::problem::Hint;
use crate::issuer::problem::Problem;
use crate::model::account::TicketRecord;
use crate::model::hex::write_hex;
use crate::model::key::SecretHash;
use crate::model::time::Timestamp;
use crate::secrets::sha256;
use crate::store::Precondition;
use crate::store::StoreError;
use crate::store::Write;

/// The header that names a request.
pub(in crate::issuer) const HEADER: &str = "idempotency-key";
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
const PURPOSE: &str = "once";
const CHARACTERS_MIN: usize = 16;
const CHARACTERS_MAX: usize = 255;

/// How often a request is to be done: with the header once, without it whenever it comes.
#[derive(Debug, Default)]
pub(in crate::issuer) struct Once(Option<Named>);

#[derive(Debug)]
struct Named {
    /// Of the ticket: made of who asks, what for, and the header.
    id: Arc<str>,
    /// The header and the body, for comparison.
    request: [u8; 64],
    what: &'static str,
}

/// What a ticket says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    request: SecretHash,
    made: String,
}

impl Once {
    /// `what` is the collection that it makes something in.
    ///
    /// # Errors
    /// 400 for a header that cannot be one.
    pub(in crate::issuer) fn read(actor: &Actor, headers: &HeaderMap, what: &'static str, fields: &Fields) -> Result<Self, Problem> {
        let mut shown = headers.get_all(HEADER).iter();
        let Some(value) = shown.next() else { return Ok(Self(None)) };
        // A string of structured fields has quotes; most clients send none.
        let text = value.as_bytes();
        let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
        let is_one = (CHARACTERS_MIN..=CHARACTERS_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        if !is_one || shown.next().is_some() {
            return Err(Problem::field(HEADER, "must come once and have 16 to 255 visible characters, such as a UUID"));
        }
        let mut request = [0; 64];
        let (key, body) = request.split_at_mut(32);
        key.copy_from_slice(&sha256(text));
        body.copy_from_slice(fields.sha256());
        Ok(Self(Some(Named {
            id: Arc::from(write_hex(&sha256(format!("{what}\n{}\n{}", name_of(actor), write_hex(&sha256(text))).as_bytes()))),
            request,
            what,
        })))
    }

    /// Goes on where the request was not done yet.
    ///
    /// # Errors
    /// 409 where it was, with what it made; 400 where the header was another request's.
    pub(in crate::issuer) async fn check(&self, state: &IssuerState) -> Result<(), Problem> {
        let Some(Named { id, request, what }) = &self.0 else { return Ok(()) };
        let Some((ticket, _version)) = shelf::find::<TicketRecord>(state, id).await? else { return Ok(()) };
        let corrupt = |_error| StoreError::Corrupt { key: format!("ticket/{id}"), why: "it does not say what was done".to_owned() };
        let Done { request: done, made } = serde_json::from_value(ticket.data).map_err(corrupt)?;
        run(&Repeat::CHECKS, &Repeat { is_same: state.peppers.matches(request, &done), what, made: &made })
    }

    /// What the commit that makes `made` asks for and does beside it. Empty: the request itself names what it makes.
    pub(in crate::issuer) fn commit(&self, state: &IssuerState, made: &str, now: Timestamp) -> Option<(Precondition, Write)> {
        let Named { id, request, .. } = self.0.as_ref()?;
        let expires = now.plus(KEPT);
        let done = Done { request: state.peppers.hash(request), made: made.to_owned() };
        let data = serde_json::to_value(done).unwrap_or_default();
        let ticket = TicketRecord { id: Arc::clone(id), purpose: Arc::from(PURPOSE), browser: Arc::from(""), data, created: now, expires };
        Some((shelf::absent(&ticket), shelf::put(&ticket, Some(expires))))
    }
}

/// A request whose header was there before.
pub(in crate::issuer) struct Repeat<'a> {
    is_same: bool,
    what: &'a str,
    made: &'a str,
}

impl Repeat<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 2] = [
        Check {
            name: "each request has an idempotency key of its own",
            run: |repeat| {
                let issue = "was sent with another request already; each one has its own";
                if repeat.is_same { Ok(()) } else { Err(Problem::field(HEADER, issue)) }
            },
        },
        Check { name: "what was done is not done again", run: |repeat| Err(repeat.was_done()) },
    ];

    fn was_done(&self) -> Problem {
        let Self { what, made, .. } = self;
        if made.is_empty() {
            return Problem::new(Code::Conflict, "this request was done already, and made what it names");
        }
        let done = "this request was done already: `location` names what it made; a secret stood in the first answer alone, so rotate it";
        // Relative to the request, whatever path it came by.
        Problem { hint: Hint::Made(format!("{what}/{made}")), ..Problem::new(Code::Conflict, done) }
    }
}

/// By credential: a key of a user's with fewer rights is another one.
fn name_of(actor: &Actor) -> String {
    match actor {
        Actor::Operator => "operator".to_owned(),
        Actor::Person(person) => format!("person {}", person.user.subject.as_str()),
        Actor::Caller(caller) => match (&caller.key, &caller.client) {
            (Some(key), _) => format!("key {key}"),
            (None, client) => format!("token {:?} {} {}", client, caller.source.as_str(), caller.subject.as_str()),
        },
    }
}
