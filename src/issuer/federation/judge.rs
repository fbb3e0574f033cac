//! Whether what came back belongs to what was sent out: named checks, each a plain function, so that a test can leave one out.

use crate::issuer::checks::Check;
use crate::issuer::federation::ask;
use crate::jose::id_token::TENANT;
use crate::model::account::TicketRecord;
use crate::model::issuance::Provider;
use crate::model::time::Timestamp;

/// What came back, beside what was sent out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returned<'a> {
    pub(super) provider: &'a Provider,
    pub(super) ticket: &'a TicketRecord,
    /// The mark of the browser that brought it.
    pub(super) browser: Option<&'a str>,
    /// The `iss` that came with it.
    pub(super) issuer: Option<&'a str>,
    pub(super) promises_issuer: bool,
    pub(super) now: Timestamp,
}

/// Why it does not. For the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mismatch {
    #[error("the state is of another step, or of another provider's sign-in")]
    Purpose,
    #[error("the sign-in was begun in another browser")]
    Browser,
    #[error("the sign-in took too long")]
    Late,
    #[error("the answer is another issuer's, or does not say whose it is where that was promised (RFC 9207)")]
    Issuer,
}

pub(super) fn checks<'a>() -> [Check<Returned<'a>, Mismatch>; 4] {
    [
        Check { name: "purpose", run: judge_purpose },
        Check { name: "browser", run: judge_browser },
        Check { name: "time", run: judge_time },
        Check { name: "issuer", run: judge_issuer },
    ]
}

fn judge_purpose(returned: &Returned<'_>) -> Result<(), Mismatch> {
    let purpose = &returned.ticket.purpose;
    let of = purpose.strip_prefix(ask::SIGN_IN).or_else(|| purpose.strip_prefix(ask::LINK));
    if of == Some(&*returned.provider.name) { Ok(()) } else { Err(Mismatch::Purpose) }
}

fn judge_browser(returned: &Returned<'_>) -> Result<(), Mismatch> {
    if returned.browser == Some(&*returned.ticket.browser) { Ok(()) } else { Err(Mismatch::Browser) }
}

fn judge_time(returned: &Returned<'_>) -> Result<(), Mismatch> {
    if returned.now < returned.ticket.expires { Ok(()) } else { Err(Mismatch::Late) }
}

/// RFC 9207 section 2.4. Of a multi-tenant issuer the tenant is judged later, with the token that names it.
fn judge_issuer(returned: &Returned<'_>) -> Result<(), Mismatch> {
    let expected = &*returned.provider.issuer;
    let is_expected = match (returned.issuer, expected.split_once(TENANT)) {
        (None, _) => !returned.promises_issuer,
        (Some(issuer), None) => issuer == expected,
        (Some(issuer), Some((before, after))) => {
            let tenant = issuer.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            tenant.is_some_and(|tenant| !tenant.is_empty() && !tenant.contains('/'))
        }
    };
    if is_expected { Ok(()) } else { Err(Mismatch::Issuer) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::issuer::checks::assert_each_is_needed;
    use crate::issuer::checks::run;
    use crate::issuer::tickets::LIFETIME;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    fn provider(issuer: &str) -> Provider {
        Provider {
            name: "google".into(),
            label: "Google".into(),
            issuer: issuer.into(),
            tenants: Vec::new(),
            client_id: "us".into(),
            client_secret: None,
            scopes: Vec::new(),
            trusts_email: false,
        }
    }

    fn ticket(purpose: &str) -> TicketRecord {
        TicketRecord {
            id: "t".into(),
            purpose: Arc::from(purpose),
            browser: "b".into(),
            data: serde_json::Value::Null,
            created: NOW,
            expires: NOW.plus(LIFETIME),
        }
    }

    // oauth: S1 S7
    #[test]
    fn each_check_stands_alone_against_its_attack() {
        let (exact, template) = (provider("https://id.example"), provider("https://login.example/{tenantid}/v2.0"));
        let (own, link, other) = (ticket("federation:google"), ticket("link:google"), ticket("federation:other"));
        let (consent, finish) = (ticket("consent"), ticket("finish-sign-up"));
        let good = Returned { provider: &exact, ticket: &own, browser: Some("b"), issuer: None, promises_issuer: false, now: NOW };
        let late = NOW.plus(LIFETIME);
        let multi = Returned { provider: &template, ..good };
        for accepted in [
            good,
            Returned { ticket: &link, ..good },
            Returned { issuer: Some("https://id.example"), promises_issuer: true, ..good },
            Returned { issuer: Some("https://id.example"), ..good },
            Returned { now: late.minus(Duration::from_nanos(1)), ..good },
            Returned { issuer: Some("https://login.example/a-1/v2.0"), promises_issuer: true, ..multi },
        ] {
            assert_eq!(run(&checks(), &accepted), Ok(()), "{accepted:?}");
        }
        assert_each_is_needed(
            checks,
            &[
                ("purpose", Returned { ticket: &other, ..good }),
                ("purpose", Returned { ticket: &consent, ..good }),
                ("purpose", Returned { ticket: &finish, ..good }),
                ("browser", Returned { browser: None, ..good }),
                ("browser", Returned { browser: Some("c"), ..good }),
                ("time", Returned { now: late, ..good }),
                ("issuer", Returned { promises_issuer: true, ..good }),
                ("issuer", Returned { issuer: Some("https://id.example/"), ..good }),
                ("issuer", Returned { issuer: Some("https://evil.example"), ..good }),
                ("issuer", Returned { issuer: Some(""), ..good }),
                ("issuer", Returned { issuer: Some("https://login.example//v2.0"), ..multi }),
                ("issuer", Returned { issuer: Some("https://login.example/a/b/v2.0"), ..multi }),
                ("issuer", Returned { issuer: Some("https://evil.example/a/v2.0"), ..multi }),
            ],
        );
    }
}
