//! What the credential proves by itself, before anything is looked up: a checksum, a signature, a principal's domain.

pub mod handle;
pub mod key;
pub mod principal;
pub mod token;

use std::sync::Arc;

use crate::check::decide::Denial;
use crate::check::decide::Fault;
use crate::check::reasons::Reason;
use crate::check::take_credential::Credential;
use crate::check::take_credential::Shown;
use crate::jose::Tokens;
use crate::model::claims::VerifiedClaims;
use crate::model::key_text::OwnKey;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;

/// What the look-up may go by.
#[derive(Clone, Debug)]
pub enum Proof<'m> {
    Nobody,
    /// Its checksum holds; its secret is yet to be compared with the record.
    OwnKey(OwnKey<'m>),
    /// Only an imported record can say whether it is one.
    ForeignKey(&'m str),
    /// Signature, issuer, audience and lifetime hold.
    Token(Arc<VerifiedClaims>),
    /// An opaque token of ours: its MAC holds, under the pepper of this id.
    Grant {
        id: &'m str,
        generation: u32,
        pepper: &'m str,
    },
    /// A configured principal of the mesh's trust domain.
    Principal(&'m str),
}

/// Why nothing was proven.
#[derive(Clone, Debug, PartialEq)]
pub enum Unproven {
    Denied(Denial),
    /// The issuer's keys were never fetched: no answer.
    KeysMissing(Fault),
}

/// Proves what can be proven without a look-up.
///
/// # Errors
/// [`Unproven`].
pub fn prove<'m>(shown: &Shown<'m>, rules: &Rules, tokens: &Tokens, peppers: &'m Peppers, now: Timestamp) -> Result<Proof<'m>, Unproven> {
    match &shown.credential {
        Credential::None => Ok(Proof::Nobody),
        Credential::Own(key) => Ok(key::prove_own(*key)),
        Credential::Foreign(text) => key::prove_foreign(text, rules.imported_keys),
        Credential::Token(token) => token::prove(token, rules, tokens, now),
        Credential::Handle { handle, .. } => handle::prove(*handle, peppers),
        // Ours have a form of their own.
        Credential::Opaque(_) => Err(Denial::new(Reason::UnknownKey).because("an opaque credential of another making").into()),
        Credential::Principal(principal) => principal::prove(principal, rules.mesh.as_ref()),
    }
}

impl From<Denial> for Unproven {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use zeroize::Zeroizing;

    use super::Proof;
    use super::Unproven;
    use super::prove;
    use crate::check::reasons::Kind;
    use crate::check::reasons::Reason;
    use crate::check::take_credential::Credential;
    use crate::check::take_credential::Shown;
    use crate::jose::Tokens;
    use crate::jose::battery;
    use crate::jose::battery::NOW;
    use crate::model::caller::Environment;
    use crate::model::caller::Namespace;
    use crate::model::caller::SourceName;
    use crate::model::handle::Handle;
    use crate::model::handle::HandleKind;
    use crate::model::handle::read_handle;
    use crate::model::key_text::OwnKey;
    use crate::model::rules::Exemption;
    use crate::model::rules::ImportedKeys;
    use crate::model::rules::Issuer;
    use crate::model::rules::Mesh;
    use crate::model::rules::PrincipalGrant;
    use crate::model::rules::Rules;
    use crate::model::rules::Source;
    use crate::model::scope::ScopeSet;
    use crate::secrets::Pepper;
    use crate::secrets::Peppers;

    use crate::check::doubles::peppers;

    fn shown(credential: Credential<'_>) -> Shown<'_> {
        Shown::alone(credential)
    }

    /// The reason of a refusal; none where something was proven.
    fn refused(credential: Credential<'_>, rules: &Rules) -> Option<Reason> {
        match prove(&shown(credential), rules, &Tokens::new(8), &peppers(), NOW) {
            Ok(_proof) => None,
            Err(Unproven::Denied(denial)) => {
                assert_eq!(denial.reason.row().kind, Kind::Denial);
                Some(denial.reason)
            }
            Err(Unproven::KeysMissing(fault)) => {
                assert_eq!(fault.reason.row().kind, Kind::Fault);
                Some(fault.reason)
            }
        }
    }

    #[test]
    fn every_refusal_of_a_token_has_its_row() {
        let rules = battery::rules(vec![battery::issuer()]);
        let at = |changes: &[(&str, Option<&str>)]| battery::token(changes);
        let good = at(&[]);
        let stolen = format!("{}.{}", &good[..good.rfind('.').unwrap()], battery::encode([7; 64]));
        for (token, reason) in [
            (good, None),
            ("a.b.c".to_owned(), Some(Reason::MalformedCredential)),
            (at(&[("iss", Some("\"https://evil.example\""))]), Some(Reason::UntrustedIssuer)),
            (stolen, Some(Reason::BadSignature)),
            (at(&[("aud", None)]), Some(Reason::BadClaims)),
            (at(&[("exp", Some("1"))]), Some(Reason::Expired)),
            (at(&[("nbf", Some("1900000000"))]), Some(Reason::NotYetValid)),
        ] {
            assert_eq!(refused(Credential::Token(&token), &rules), reason, "{token}");
        }
        let unfetched = battery::rules(vec![Issuer { ..battery::remote_issuer() }]);
        assert_eq!(refused(Credential::Token(&battery::token(&[])), &unfetched), Some(Reason::KeysUnavailable));
        assert_eq!(refused(Credential::Token(&battery::token(&[])), &battery::rules(Vec::new())), Some(Reason::UntrustedIssuer));
    }

    #[test]
    fn a_principal_is_known_exactly_or_not_at_all() {
        let grant = PrincipalGrant { scopes: Arc::new(ScopeSet::default()), tier: None, organization: None, limits: Exemption::Limited };
        let mesh = Mesh {
            source: Source { name: SourceName::new("mesh"), namespace: Namespace::Named },
            trust_domain: "prod.example".into(),
            principals: BTreeMap::from([
                ("spiffe://prod.example/ns/a/sa/b".into(), grant.clone()),
                ("spiffe://other.example/x".into(), grant),
            ]),
        };
        let rules = Rules { mesh: Some(mesh), ..battery::rules(Vec::new()) };
        let untrusted = Some(Reason::UntrustedPrincipal);
        for (principal, reason) in [
            ("spiffe://prod.example/ns/a/sa/b", None),
            ("spiffe://prod.example/ns/a/sa/b/", untrusted),
            ("spiffe://prod.example/ns/a/sa", untrusted),
            ("spiffe://PROD.example/ns/a/sa/b", untrusted),
            ("SPIFFE://prod.example/ns/a/sa/b", untrusted),
            ("spiffe://prod.example", untrusted),
            ("spiffe://prod.example.evil/ns/a/sa/b", untrusted),
            // Named in the rules, but of another domain.
            ("spiffe://other.example/x", untrusted),
            ("https://prod.example/ns/a/sa/b", untrusted),
            ("", untrusted),
        ] {
            assert_eq!(refused(Credential::Principal(principal), &rules), reason, "{principal}");
        }
        assert_eq!(refused(Credential::Principal("spiffe://prod.example/ns/a/sa/b"), &battery::rules(Vec::new())), untrusted);
    }

    // oauth: H14
    #[test]
    fn an_opaque_token_is_proven_by_its_mac_alone_and_only_whole() {
        let (rules, tokens, peppers) = (battery::rules(Vec::new()), Tokens::new(8), peppers());
        for pepper in ["new", "old"] {
            let text = peppers.handle("tg", HandleKind::Access, "grant", 7, pepper).unwrap();
            let handle = read_handle("tg", &text).unwrap();
            let shown = shown(Credential::Handle { text: &text, handle });
            let Ok(Proof::Grant { id, generation, pepper: by }) = prove(&shown, &rules, &tokens, &peppers, NOW) else { panic!("{pepper}") };
            assert_eq!((id, generation, by), ("grant", 7, pepper));
            let other = "A".repeat(43);
            for forged in [
                Handle { id: "grand", ..handle },
                Handle { generation: 8, ..handle },
                Handle { mac: &other, ..handle },
                // A refresh token's MAC under an access token's name.
                Handle { kind: HandleKind::Refresh, ..handle },
            ] {
                let credential = Credential::Handle { text: &text, handle: forged };
                assert_eq!(refused(credential, &rules), Some(Reason::BadSignature), "{forged:?}");
            }
        }
        let stranger = Peppers::new(Pepper { id: "new".into(), secret: Zeroizing::new(vec![9; 32]) }, Vec::new());
        let text = stranger.handle("tg", HandleKind::Access, "grant", 7, "new").unwrap();
        let handle = read_handle("tg", &text).unwrap();
        assert_eq!(refused(Credential::Handle { text: &text, handle }, &rules), Some(Reason::BadSignature));
    }

    #[test]
    fn keys_are_handed_on_and_the_rest_is_refused() {
        let rules = battery::rules(Vec::new());
        let importing = Rules { imported_keys: ImportedKeys::Accepted, ..battery::rules(Vec::new()) };
        let own = OwnKey { text: "tg_live_sk_x", environment: Environment::Live, id: "x" };
        let (tokens, peppers) = (Tokens::new(8), peppers());
        assert!(matches!(prove(&shown(Credential::None), &rules, &tokens, &peppers, NOW), Ok(Proof::Nobody)));
        assert!(matches!(prove(&shown(Credential::Own(own)), &rules, &tokens, &peppers, NOW), Ok(Proof::OwnKey(key)) if key == own));
        assert!(matches!(prove(&shown(Credential::Foreign("f")), &importing, &tokens, &peppers, NOW), Ok(Proof::ForeignKey("f"))));
        assert_eq!(refused(Credential::Foreign("f"), &rules), Some(Reason::UnknownKey));
        assert_eq!(refused(Credential::Opaque("o"), &importing), Some(Reason::UnknownKey));
    }
}
