//! Which buckets a request must pass, and every answer of a limiter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::check::authorise::authorise;
use crate::check::decide::Denial;
use crate::check::decide::Particulars;
use crate::check::doubles::caller;
use crate::check::doubles::corrupt;
use crate::check::doubles::down;
use crate::check::doubles::scopes;
use crate::check::find_route::find_route;
use crate::check::reasons::Reason;
use crate::check::samples;
use crate::check::throttle::Admission;
use crate::check::throttle::Answered;
use crate::check::throttle::JudgedBy;
use crate::check::throttle::PolicyLevel;
use crate::check::throttle::Questions;
use crate::check::throttle::enter;
use crate::check::throttle::questions;
use crate::check::throttle::throttle;
use crate::model::caller::Caller;
use crate::model::key::KeyId;
use crate::model::quota::Level;
use crate::model::quota::Limit;
use crate::model::quota::Per;
use crate::model::quota::Policy;
use crate::model::request::Method;
use crate::model::route::Auth;
use crate::model::route::Route;
use crate::model::route::samples::route;
use crate::model::rules::LimitsFailure;
use crate::model::rules::Rules;
use crate::model::rules::Tier;
use crate::model::rules::TierState;
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;

const CLIENT: &str = "192.0.2.7";

fn policy(name: &str, per: Per) -> Policy {
    Policy { name: name.into(), per, limit: Limit::new(60, Some(10)) }
}

/// Rules with one route and one tier, whose policies these are.
fn rules(of_tier: Vec<Policy>, of_route: Vec<Policy>) -> Rules {
    let mut rules = samples::rules(vec![Route { auth: Auth::Optional, limits: of_route, cost: 3, ..route("r", &[], "/x") }]);
    rules.tiers =
        BTreeMap::from([("free".into(), Tier { name: "free".into(), policies: of_tier, state: TierState::Active, grace: Duration::ZERO })]);
    rules
}

fn with_questions<R>(rules: &Rules, caller: Option<Caller>, client: Option<&str>, judge: impl FnOnce(&Questions<'_>) -> R) -> R {
    let request = samples::request(Method::Get, "/x", &[]);
    let found = find_route(&request, rules).unwrap();
    let permit = authorise(caller.map(Arc::new), &found).unwrap();
    judge(&questions(&permit, client.map(|client| client.parse().unwrap()), rules))
}

fn written(takes: &[Take<'_>]) -> Vec<String> {
    takes.iter().map(|take| format!("{} {} {}", take.policy.name, take.owner, take.cost)).collect()
}

fn every_kind(prefix: &str) -> Vec<Policy> {
    let kinds = [Per::Owner, Per::User, Per::Organization, Per::Key, Per::Route, Per::Address];
    kinds.into_iter().map(|per| policy(&format!("{prefix}-{per:?}").to_lowercase(), per)).collect()
}

#[test]
fn each_bucket_has_its_owner_and_shared_ones_are_asked_apart() {
    let rules = rules(every_kind("t"), vec![policy("r-user", Per::User), policy("r-route", Per::Route)]);
    with_questions(&rules, Some(caller()), Some(CLIENT), |questions| {
        assert_eq!(written(&questions.shared()), ["t-route route:r 3", "t-address address:192.0.2.7 3", "r-route route:r 3"]);
        let own = ["t-owner org:acme 3", "t-user user:alice 3", "t-organization org:acme 3", "t-key key:k1 3", "r-user user:alice 3"];
        assert_eq!(written(&questions.own()), own);
    });
}

#[test]
fn without_an_organisation_the_owner_is_the_user_and_more_keys_are_not_more_quota() {
    let rules = rules(every_kind("t"), Vec::new());
    for key in ["k1", "k2"] {
        let loner = Caller { organization: None, key: Some(KeyId::new(key)), ..caller() };
        with_questions(&rules, Some(loner), Some(CLIENT), |questions| {
            assert_eq!(written(&questions.own()), ["t-owner user:alice 3", "t-user user:alice 3", &format!("t-key key:{key} 3")]);
        });
    }
}

#[test]
fn a_keys_own_rate_limit_is_one_more_bucket() {
    let rules = rules(vec![policy("free", Per::Owner)], Vec::new());
    let limited = Caller { key_rate_limit: Some(60), ..caller() };
    with_questions(&rules, Some(limited), None, |questions| {
        assert_eq!(written(&questions.own()), ["free org:acme 3", "key_rate_limit key:k1 3"]);
        assert_eq!(questions.own()[1].policy.limit, Limit { per_minute: 60, depth: 60 });
    });
}

#[test]
fn nobody_shares_a_bucket_with_everybody_else_who_is_nobody() {
    let rules = rules(vec![policy("free", Per::Owner)], every_kind("r"));
    with_questions(&rules, None, None, |questions| {
        assert_eq!(written(&questions.shared()), ["r-route route:r 3", "r-address address:unknown 3"]);
        assert_eq!(written(&questions.own()), ["r-owner user:anonymous 3", "r-user user:anonymous 3"]);
    });
}

#[test]
fn the_addresses_of_one_network_share_a_bucket() {
    let table = [
        ("192.0.2.7", "address:192.0.2.7"),
        ("::ffff:192.0.2.7", "address:192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "address:2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "address:2001:db8:1:3::/64"),
    ];
    let rules = rules(Vec::new(), vec![policy("a", Per::Address)]);
    for (client, owner) in table {
        with_questions(&rules, None, Some(client), |questions| assert_eq!(questions.shared()[0].owner, owner));
    }
}

#[test]
fn the_reserved_scope_lifts_every_limit_and_nothing_else_does() {
    let rules = rules(every_kind("t"), every_kind("r"));
    for (held, lifted) in
        [("tollgate:unlimited", true), ("*", false), ("tollgate:*", false), ("tollgate:admin", false), ("unlimited", false)]
    {
        let caller = Caller { scopes: scopes(held), key_rate_limit: Some(1), ..caller() };
        with_questions(&rules, Some(caller), Some(CLIENT), |questions| {
            assert_eq!(questions.shared().is_empty() && questions.own().is_empty(), lifted, "{held}");
        });
    }
}

fn level(remaining: u32, next_token_ms: u64) -> Level {
    Level { remaining, full_at: Timestamp::from_unix_seconds(9), next_token: Duration::from_millis(next_token_ms) }
}

fn taken(admitted: bool, levels: Vec<Level>, retry_after: Option<Duration>) -> Answered {
    Answered::Asked(Ok(Taken { admitted, levels, retry_after }))
}

#[test]
fn an_admission_shows_every_bucket_and_a_refusal_too() {
    let rules = rules(vec![policy("own", Per::Owner)], vec![policy("route", Per::Route)]);
    with_questions(&rules, Some(caller()), Some(CLIENT), |questions| {
        let entered = || enter(questions, taken(true, vec![level(5, 0)], None), &rules).unwrap();
        let names = |admission: &Admission| admission.levels().iter().map(|asked| asked.policy.to_string()).collect::<Vec<_>>();

        let admission = throttle(questions, entered(), taken(true, vec![level(2, 0)], None), &rules).unwrap();
        assert_eq!((names(&admission), admission.retry_after()), (vec!["route".to_owned(), "own".to_owned()], None));
        assert_eq!(&*admission.tightest().unwrap().policy, "own");

        let wait = Some(Duration::from_secs(2));
        let denial = throttle(questions, entered(), taken(false, vec![level(0, 1000)], wait), &rules).unwrap_err();
        assert_eq!(denial.reason, Reason::RateLimited);
        let Particulars::Limits(refused) = denial.particulars else { panic!("a refusal shows the levels") };
        assert_eq!((names(&refused), refused.retry_after()), (vec!["route".to_owned(), "own".to_owned()], wait));

        let denial = enter(questions, taken(false, vec![level(0, 1000)], None), &rules).unwrap_err();
        let Particulars::Limits(refused) = denial.particulars else { panic!("a refusal shows the levels") };
        assert_eq!((names(&refused), refused.retry_after()), (vec!["route".to_owned()], None), "no waiting helps");
    });
}

type Ask = Box<dyn Fn() -> Answered>;

/// How the limits answered, and what their substitute said where one was asked.
fn answers() -> Vec<(&'static str, Ask)> {
    let share = |share: fn() -> Result<Taken, StoreError>| move || Answered::StoodIn { failure: down(), share: share() };
    let (admits, refuses) = (
        || Ok(Taken { admitted: true, levels: vec![level(2, 0)], retry_after: None }),
        || Ok(Taken { admitted: false, levels: vec![level(0, 900)], retry_after: Some(Duration::from_millis(900)) }),
    );
    vec![
        ("admits", Box::new(|| taken(true, vec![level(5, 0)], None))),
        ("refuses", Box::new(|| taken(false, vec![level(0, 900)], Some(Duration::from_millis(900))))),
        ("down", Box::new(|| Answered::Asked(Err(down())))),
        ("corrupt", Box::new(|| Answered::Asked(Err(corrupt())))),
        ("share admits", Box::new(share(admits))),
        ("share refuses", Box::new(share(refuses))),
        ("share fails", Box::new(share(|| Err(corrupt())))),
    ]
}

// battery: R1 R3
#[test]
fn limits_that_cannot_be_asked_let_nobody_through_unless_the_config_says_so() {
    use LimitsFailure::Deny;
    use LimitsFailure::LocalShare;
    use LimitsFailure::Pass;
    let (cable, rot) = ("the cable is out", "bit rot");
    let note = |judged_by: JudgedBy| judged_by.note().unwrap_or_default();
    let table = [
        ("admits", Deny, Ok(JudgedBy::Limits)),
        ("admits", LocalShare, Ok(JudgedBy::Limits)),
        ("admits", Pass, Ok(JudgedBy::Limits)),
        ("refuses", Deny, Err((Reason::RateLimited, ""))),
        ("refuses", LocalShare, Err((Reason::RateLimited, ""))),
        ("refuses", Pass, Err((Reason::RateLimited, ""))),
        ("down", Deny, Err((Reason::LimitsUnavailable, cable))),
        ("down", LocalShare, Err((Reason::LimitsUnavailable, cable))),
        ("down", Pass, Ok(JudgedBy::Nobody)),
        ("corrupt", Deny, Err((Reason::LimitsUnavailable, rot))),
        ("corrupt", LocalShare, Err((Reason::LimitsUnavailable, rot))),
        ("corrupt", Pass, Ok(JudgedBy::Nobody)),
        ("share admits", Deny, Err((Reason::LimitsUnavailable, cable))),
        ("share admits", LocalShare, Ok(JudgedBy::LocalShare)),
        ("share admits", Pass, Ok(JudgedBy::Nobody)),
        ("share refuses", Deny, Err((Reason::LimitsUnavailable, cable))),
        ("share refuses", LocalShare, Err((Reason::RateLimited, note(JudgedBy::LocalShare)))),
        ("share refuses", Pass, Ok(JudgedBy::Nobody)),
        ("share fails", Deny, Err((Reason::LimitsUnavailable, cable))),
        ("share fails", LocalShare, Err((Reason::LimitsUnavailable, rot))),
        ("share fails", Pass, Ok(JudgedBy::Nobody)),
    ];
    let answers = answers();
    assert_eq!(table.len(), answers.len() * 3);
    let ended =
        |result: Result<JudgedBy, Denial>| result.map_err(|denial| (denial.reason, denial.internal.map(String::from).unwrap_or_default()));
    for (name, failure, expected) in table {
        let (_, answer) = answers.iter().find(|(other, _)| *other == name).unwrap();
        let mut rules = rules(vec![policy("own", Per::Owner)], vec![policy("route", Per::Route)]);
        rules.limits_failure = failure;
        with_questions(&rules, Some(caller()), Some(CLIENT), |questions| {
            let as_expected = |result: Result<JudgedBy, Denial>| match (ended(result), expected) {
                (Ok(judged_by), Ok(expected)) => assert_eq!(judged_by, expected, "{name} {failure:?}"),
                (Err((reason, internal)), Err((expected, why))) => {
                    assert_eq!(reason, expected, "{name} {failure:?}");
                    assert!(internal.contains(why) && internal.is_empty() == why.is_empty(), "{name} {failure:?}: {internal}");
                }
                (ended, _) => panic!("{name} {failure:?}: {ended:?}"),
            };
            as_expected(enter(questions, answer(), &rules).map(|entered| entered.judged_by()));
            let entered = enter(questions, taken(true, vec![level(5, 0)], None), &rules).unwrap();
            let admission = throttle(questions, entered, answer(), &rules);
            if let Ok(admission) = &admission {
                let shown = if admission.judged_by() == JudgedBy::Nobody { 1 } else { 2 };
                assert_eq!(admission.levels().len(), shown, "{name} {failure:?}");
            }
            as_expected(admission.map(|admission| admission.judged_by()));
            // What the first question had to do without is told, however the second went.
            if let Ok(entered) = enter(questions, answer(), &rules) {
                let judged_by = entered.judged_by();
                let admission = throttle(questions, entered, taken(true, vec![level(5, 0)], None), &rules).unwrap();
                assert_eq!(admission.judged_by(), judged_by, "{name} {failure:?}");
            }
        });
    }
}

#[test]
fn an_answer_to_another_question_admits_nobody() {
    for failure in [LimitsFailure::Deny, LimitsFailure::Pass] {
        let mut rules = rules(vec![policy("own", Per::Owner)], vec![policy("route", Per::Route)]);
        rules.limits_failure = failure;
        with_questions(&rules, Some(caller()), Some(CLIENT), |questions| {
            for answer in [Answered::NotAsked, taken(true, vec![], None), taken(true, vec![level(1, 0), level(1, 0)], None)] {
                assert_eq!(enter(questions, answer, &rules).unwrap_err().reason, Reason::Internal);
            }
        });
    }
    // Nothing to ask, and nothing asked.
    let rules = rules(Vec::new(), Vec::new());
    with_questions(&rules, Some(caller()), Some(CLIENT), |questions| {
        let entered = enter(questions, Answered::NotAsked, &rules).unwrap();
        assert_eq!(throttle(questions, entered, Answered::NotAsked, &rules).unwrap().tightest(), None);
    });
}

#[test]
fn the_tightest_bucket_admits_the_fewest_and_among_equals_makes_wait_the_longest() {
    let asked = |name: &str, per_minute, level| PolicyLevel { policy: name.into(), limit: Limit { per_minute, depth: 10 }, level };
    let tightest = |levels: Vec<PolicyLevel>| {
        Admission { levels, retry_after: None, judged_by: JudgedBy::Limits }.tightest().map(|asked| asked.policy.to_string())
    };
    assert_eq!(tightest(vec![]), None);
    assert_eq!(tightest(vec![asked("a", 60, level(5, 0)), asked("b", 60, level(3, 0))]).as_deref(), Some("b"));
    assert_eq!(tightest(vec![asked("a", 60, level(0, 10)), asked("b", 60, level(0, 900))]).as_deref(), Some("b"));
    assert_eq!(tightest(vec![asked("a", 600, level(5, 0)), asked("b", 60, level(5, 0))]).as_deref(), Some("b"));
}
