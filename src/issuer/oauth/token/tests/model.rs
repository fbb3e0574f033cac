//! Any sequence of calls, right and wrong ones, against what must hold whatever was called.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::issuer::oauth::inspect;
use crate::store::Family;
use crate::store::codec::Shelved;

/// One call. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Call {
    Consent { app: usize },
    Redeem { code: usize, app: usize, right: bool },
    Refresh { token: usize, app: usize, narrow: bool },
    Revoke { text: usize, app: usize },
    Own { app: usize },
    Later { seconds: u64 },
    User { active: bool },
}

fn calls() -> impl Strategy<Value = Call> {
    let number = 0usize..64;
    prop_oneof![
        2 => number.clone().prop_map(|app| Call::Consent { app }),
        4 => (number.clone(), number.clone(), prop::bool::weighted(0.8)).prop_map(|(code, app, right)| Call::Redeem { code, app, right }),
        6 => (number.clone(), number.clone(), any::<bool>()).prop_map(|(token, app, narrow)| Call::Refresh { token, app, narrow }),
        1 => (number.clone(), number.clone()).prop_map(|(text, app)| Call::Revoke { text, app }),
        1 => number.prop_map(|app| Call::Own { app }),
        2 => (0u64..40).prop_map(|seconds| Call::Later { seconds }),
        1 => prop::bool::weighted(0.7).prop_map(|active| Call::User { active }),
    ]
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    /// With the client that each was made for.
    codes: Vec<(String, usize)>,
    consents: Vec<String>,
    access: Vec<String>,
    refresh: Vec<(String, usize)>,
    /// The last state of each grant: how far it is, its generation.
    states: BTreeMap<String, (u8, u32)>,
    redeemed: BTreeMap<String, usize>,
}

fn pick<T: Clone>(list: &[T], number: usize) -> Option<T> {
    list.get(number % list.len().max(1)).cloned()
}

async fn play(stage: &Stage, apps: &[App], seen: &mut Seen, call: &Call) {
    match call {
        Call::Consent { app } => {
            let app = app % apps.len();
            let grant = stage.pending(&apps[app], "alice", "orders:read orders:write", &[API]).await;
            seen.consents.push(grant.id.to_string());
            seen.codes.push((stage.code_of(&grant), app));
        }
        Call::Redeem { code, app, right } => {
            let Some((code, owner)) = pick(&seen.codes, *code) else { return };
            // Mostly by whom it was made for.
            let app = if app % 4 == 0 { (owner + 1) % apps.len() } else { owner };
            let reply = stage.redeem_with(&apps[app], &code, if *right { VERIFIER } else { WRONG_VERIFIER }).await;
            if reply.status == 200 {
                assert!(app == owner && *right, "a stranger got tokens");
                *seen.redeemed.entry(code).or_default() += 1;
                seen.access.push(reply.text("access_token"));
                seen.refresh.push((reply.text("refresh_token"), app));
            }
        }
        Call::Refresh { token, app, narrow } => {
            let Some((token, owner)) = pick(&seen.refresh, *token) else { return };
            let app = if app % 4 == 0 { (owner + 1) % apps.len() } else { owner };
            let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
            form.extend(narrow.then_some(("scope", "orders:read")));
            let reply = stage.token(&apps[app], &form).await;
            if reply.status == 200 {
                assert_eq!(app, owner, "a stranger got tokens");
                seen.access.push(reply.text("access_token"));
                seen.refresh.push((reply.text("refresh_token"), app));
            }
        }
        Call::Revoke { text, app } => {
            let texts: Vec<String> = seen.access.iter().cloned().chain(seen.refresh.iter().map(|(token, _)| token.clone())).collect();
            let Some(text) = pick(&texts, *text) else { return };
            assert_eq!(stage.post("/oauth/revoke", &apps[app % apps.len()], &[("token", &text)]).await.status, 200);
        }
        Call::Own { app } => {
            let reply = stage.token(&apps[app % apps.len()], &[("grant_type", "client_credentials")]).await;
            seen.access.push(reply.text("access_token"));
        }
        Call::Later { seconds } => stage.later(*seconds),
        Call::User { active } => {
            stage.issuer.ok("PATCH", "/v1/users/alice", json!({"active": active})).await;
        }
    }
}

async fn check(stage: &Stage, seen: &mut Seen) {
    let state = &stage.issuer.state;
    let (now, rules) = (state.clock.now(), state.rules.load_full());
    assert!(seen.redeemed.values().all(|times| *times == 1), "a code was redeemed twice");
    let page = state.records.range(Family::Grant, None, 10_000).await.unwrap();
    for (place, stored) in &page.records {
        let record = GrantRecord::decode(&place.id, &stored.bytes).unwrap();
        let consented = match &record.of {
            GrantOf::Consent { .. } => seen.consents.contains(&place.id),
            GrantOf::Client { .. } => true,
            GrantOf::SignIn { .. } | GrantOf::Key { .. } => false,
        };
        assert!(consented, "a grant without consent");
        let far = match &record.state {
            GrantState::Pending(_) => 0,
            GrantState::Live => 1,
            GrantState::Ended { .. } => 2,
        };
        let (before, generation) = seen.states.insert(place.id.clone(), (far, record.generation)).unwrap_or_default();
        assert!(before <= far && generation <= record.generation && record.generation <= generation + 1, "a grant went back");
    }
    for token in &seen.access {
        let grant = match read_handle("reva", token) {
            Some(handle) => handle.id.to_owned(),
            None => claims(token)["gid"].as_str().unwrap().to_owned(),
        };
        let live = families::load(state, &grant).await.unwrap().is_some_and(|(record, _)| record.is_live(now));
        let opens = stage.opens(token).await;
        assert!(!opens || live, "a token without a live grant");
        let described = inspect::active(state, &rules, token, now).await.unwrap().is_some();
        assert_eq!(described, opens, "introspection and the gate differ about {token}");
    }
    let mut newest: BTreeMap<String, String> = BTreeMap::new();
    for (token, _) in &seen.refresh {
        if inspect::active(state, &rules, token, now).await.unwrap().is_some() {
            let family = read_handle("reva", token).unwrap().id.to_owned();
            let other = newest.insert(family, token.clone());
            assert!(other.is_none_or(|other| other == *token), "two live generations of one family");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    // oauth: U2
    #[test]
    fn whatever_is_called_the_invariants_hold(steps in prop::collection::vec(calls(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stage = Stage::new().await;
            let apps = [
                stage.app(json!({})).await,
                stage.app(json!({"access_tokens": "opaque"})).await,
                stage.app(json!({"kind": "public"})).await,
            ];
            let own = [apps[0].clone(), apps[1].clone()];
            let mut seen = Seen::default();
            for step in &steps {
                let apps = if matches!(step, Call::Own { .. }) { &own[..] } else { &apps[..] };
                play(&stage, apps, &mut seen, step).await;
                check(&stage, &mut seen).await;
            }
        });
    }
}
