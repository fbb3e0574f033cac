//! Our own access tokens: what they say, and that our own gate believes them, before, during and after a turn of the ring.

use std::sync::Arc;
use std::time::Duration;

use crate::jose::TokenError;
use crate::jose::Tokens;
use crate::jose::battery::AUDIENCE;
use crate::jose::battery::ISSUER;
use crate::jose::battery::NOW;
use crate::jose::battery::issuer;
use crate::jose::battery::rules;
use crate::jose::compact::Compact;
use crate::jose::signer::AccessClaims;
use crate::jose::signer::Signer;
use crate::model::claims::VerifiedClaims;
use crate::model::rules::Algorithm;
use crate::model::rules::Issuer;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Managed;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

const BOTH: [Algorithm; 2] = [Algorithm::Rs256, Algorithm::EdDsa];

/// As the config makes it of the `issuer` section.
fn own_issuer() -> Issuer {
    Issuer { algorithms: BOTH.to_vec(), keys: IssuerKeys::Own, token_type: Some("at+jwt".into()), managed: Managed::ByGrant, ..issuer() }
}

fn scopes(text: &str) -> ScopeSet {
    ScopeSet::new(text.split(' ').filter_map(|scope| Scope::parse(scope).ok()))
}

/// A token of alice's for `app_1`, good for ten minutes.
async fn sign(signer: &Signer, algorithm: Algorithm, now: Timestamp) -> String {
    let (aud, scope) = ([Arc::from(AUDIENCE)], scopes("orders:read files:read"));
    let claims = AccessClaims {
        iss: ISSUER,
        aud: &aud,
        sub: "alice",
        client_id: "app_1",
        grant: "g1",
        scope: &scope,
        jti: "t1",
        iat: now,
        exp: now.plus(Duration::from_secs(600)),
        act: None,
    };
    signer.sign(&claims, algorithm).await.unwrap()
}

fn verify(tokens: &Tokens, token: &str, now: Timestamp) -> Result<Arc<VerifiedClaims>, TokenError> {
    tokens.verify(token, &rules(vec![own_issuer()]), now)
}

// oauth: N1 N2 N3 N4 N8
#[tokio::test]
async fn a_token_says_what_rfc_9068_asks_for_and_nothing_about_the_person() {
    let (signer, tokens) = (Signer::for_tests(NOW), Arc::new(Tokens::new(10)));
    signer.tell(&tokens);
    for algorithm in BOTH {
        let token = sign(&signer, algorithm, NOW).await;
        let compact = Compact::read(&token).unwrap();
        assert_eq!((compact.header.algorithm, compact.header.token_type.as_deref()), (Some(algorithm), Some("at+jwt")));
        assert_eq!(
            String::from_utf8(compact.payload).unwrap(),
            r#"{"iss":"https://id.example.com","aud":"https://api.example.com","sub":"alice","client_id":"app_1","gid":"g1","scope":"files:read orders:read","jti":"t1","iat":1800000000,"exp":1800000600}"#
        );
        let claims = verify(&tokens, &token, NOW).unwrap();
        assert_eq!(
            (claims.grant.as_deref(), claims.token_id.as_deref(), claims.client.as_deref()),
            (Some("g1"), Some("t1"), Some("app_1"))
        );
    }
}
