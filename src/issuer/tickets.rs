//! Tickets: what one step of somebody's leaves for the next. Each is known by a handle, and good for one purpose in one browser.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::checks::Check;
use crate::issuer::checks::Unmet;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::problem::Problem;
use crate::model::account::TicketRecord;
use crate::model::handle::Handle;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::secrets::random_id;
use crate::store::Precondition;
use crate::store::Write;
use crate::store::codec::Shelved;

/// How long the next step may take.
pub(in crate::issuer) const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Puts a ticket on the shelf; its handle.
///
/// # Errors
/// A store that does not answer, a machine without random bytes.
pub(in crate::issuer) async fn write(
    state: &IssuerState,
    purpose: &str,
    browser: &Arc<str>,
    data: &impl Serialize,
    now: Timestamp,
) -> Result<(TicketRecord, Zeroizing<String>), Problem> {
    let ticket = TicketRecord {
        id: Arc::from(random_id()?),
        purpose: Arc::from(purpose),
        browser: Arc::clone(browser),
        // Texts and lists: nothing in it can fail to be written.
        data: serde_json::to_value(data).unwrap_or_default(),
        created: now,
        expires: now.plus(LIFETIME),
    };
    let brand = Arc::clone(&state.rules.load().key_brand);
    let handle = state.peppers.handle(&brand, HandleKind::Ticket, &ticket.id, 0, state.peppers.current_id())?;
    let put = shelf::put(&ticket, Some(ticket.expires));
    if !state.records.commit(vec![shelf::absent(&ticket)], vec![put], now).await?.is_done() {
        return Err(Problem::changed_meanwhile());
    }
    Ok((ticket, handle))
}

/// The id of the ticket that a handle of ours names. A junk text costs no look at the shelf.
pub(in crate::issuer) fn id_of<'t>(state: &IssuerState, text: &'t str) -> Option<&'t str> {
    let handle = read_handle(&state.rules.load().key_brand, text)?;
    run(&handle_checks(), &Shown { handle, peppers: &state.peppers }).ok().map(|()| handle.id)
}

/// Takes a ticket off the shelf: of any number who read it, one does.
///
/// # Errors
/// A store that does not answer.
pub(in crate::issuer) async fn take(state: &IssuerState, ticket: &TicketRecord, version: u64, now: Timestamp) -> Result<bool, Problem> {
    let (preconditions, writes) = taking(ticket, version);
    Ok(state.records.commit(preconditions, writes, now).await?.is_done())
}

fn taking(ticket: &TicketRecord, version: u64) -> (Vec<Precondition>, Vec<Write>) {
    (vec![shelf::at(ticket, version)], vec![Write::Remove(TicketRecord::place(&ticket.id))])
}

struct Shown<'a> {
    handle: Handle<'a>,
    peppers: &'a Peppers,
}

fn handle_checks<'a>() -> [Check<Shown<'a>>; 3] {
    [
        Check { name: "it names a ticket", run: |shown| hold(shown.handle.kind == HandleKind::Ticket) },
        Check { name: "a ticket has no second generation", run: |shown| hold(shown.handle.generation == 0) },
        Check { name: "we made it", run: |shown| hold(shown.peppers.prove_handle(&shown.handle).is_some()) },
    ]
}

/// A ticket, and the step that it is brought to.
#[derive(Clone, Copy, Debug)]
pub(in crate::issuer) struct Brought<'a> {
    pub(in crate::issuer) ticket: &'a TicketRecord,
    pub(in crate::issuer) purpose: &'a str,
    /// What is known of who brings it, as the ticket bears it.
    pub(in crate::issuer) browser: Option<&'a str>,
    pub(in crate::issuer) now: Timestamp,
}

/// Whether a ticket opens this step.
///
/// # Errors
/// [`Unmet`].
pub(in crate::issuer) fn judge(brought: &Brought<'_>) -> Result<(), Unmet> {
    run(&checks(), brought)
}

fn checks<'a>() -> [Check<Brought<'a>>; 3] {
    [
        Check { name: "it is for this", run: |brought| hold(*brought.ticket.purpose == *brought.purpose) },
        Check { name: "it was given to this browser", run: |brought| hold(brought.browser == Some(&*brought.ticket.browser)) },
        Check { name: "it still waits", run: |brought| hold(brought.now < brought.ticket.expires) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock as _;
    use crate::issuer::checks::assert_each_is_needed;
    use crate::issuer::tests::Issuer;
    use crate::issuer::tests::START;

    // oauth: R4
    #[tokio::test]
    async fn every_check_of_a_tickets_handle_refuses_what_no_other_does() {
        let issuer = Issuer::issuing(|_| {});
        let peppers = &issuer.state.peppers;
        let (ticket, good) = write(&issuer.state, "consent", &Arc::from("b"), &(), issuer.clock.now()).await.unwrap();
        assert_eq!(id_of(&issuer.state, &good), Some(&*ticket.id));
        let made = |kind, generation| peppers.handle("reva", kind, &ticket.id, generation, peppers.current_id()).unwrap();
        let (browser, second) = (made(HandleKind::Browser, 0), made(HandleKind::Ticket, 1));
        let forged = format!("{}.{}", good.rsplit_once('.').unwrap().0, "A".repeat(43));
        for refused in [browser.as_str(), &second, &forged, "", "reva_ti_"] {
            assert_eq!(id_of(&issuer.state, refused), None, "{refused}");
        }
        let shown = |text| Shown { handle: read_handle("reva", text).unwrap(), peppers };
        assert_each_is_needed(
            handle_checks,
            &[
                ("it names a ticket", shown(&*browser)),
                ("a ticket has no second generation", shown(&second)),
                ("we made it", shown(&forged)),
            ],
        );
    }

    // oauth: R4 S1
    #[tokio::test]
    async fn a_ticket_is_taken_once_and_its_version_is_why() {
        let issuer = Issuer::issuing(|_| {});
        let (state, now) = (&issuer.state, issuer.clock.now());
        let (ticket, _) = write(state, "link:fake", &Arc::from("b"), &(), now).await.unwrap();
        let (ticket, version) = shelf::find::<TicketRecord>(state, &ticket.id).await.unwrap().unwrap();
        assert!(take(state, &ticket, version, now).await.unwrap());
        assert!(!take(state, &ticket, version, now).await.unwrap());
        let (_, writes) = taking(&ticket, version);
        assert!(state.records.commit(Vec::new(), writes, now).await.unwrap().is_done(), "without it a second one takes it too");
    }

    // oauth: R4
    #[test]
    fn every_check_of_a_ticket_refuses_what_no_other_does() {
        let ticket = TicketRecord {
            id: "t".into(),
            purpose: "consent".into(),
            browser: "b".into(),
            data: serde_json::Value::Null,
            created: START,
            expires: START.plus(LIFETIME),
        };
        let good = Brought { ticket: &ticket, purpose: "consent", browser: Some("b"), now: START };
        assert_eq!(judge(&good), Ok(()));
        assert_each_is_needed(
            checks,
            &[
                ("it is for this", Brought { purpose: "finish-sign-up", ..good }),
                ("it was given to this browser", Brought { browser: Some("c"), ..good }),
                ("it was given to this browser", Brought { browser: None, ..good }),
                ("it still waits", Brought { now: START.plus(LIFETIME), ..good }),
            ],
        );
    }
}
