//! Authentication mode × credential × store × limits × ledger: what each combination must end in, said by a few lines of plain
//! rules, and nothing else ever ends in an allow.

use crate::check::decide::Exit;
use crate::check::doubles::Buckets;
use crate::check::doubles::corrupt;
use crate::check::doubles::down;
use crate::check::doubles::handle_text;
use crate::check::doubles::key_text;
use crate::check::reasons::Kind;
use crate::check::reasons::Reason;
use crate::check::samples;
use crate::check::tests::APP;
use crate::check::tests::CONSENT;
use crate::check::tests::ENDED;
use crate::check::tests::FILE_ID;
use crate::check::tests::House;
use crate::check::tests::IMPORTED;
use crate::check::tests::LIVE_ID;
use crate::check::tests::MACHINE;
use crate::check::tests::OF_KEY;
use crate::check::tests::REVOKED_ID;
use crate::check::tests::UNKNOWN_ID;
use crate::check::tests::WORKER;
use crate::check::tests::own_token;
use crate::check::tests::policy;
use crate::check::tests::token;
use crate::model::caller::Environment;
use crate::model::handle::HandleKind;
use crate::model::quota::Per;
use crate::model::request::Method;
use crate::model::request::Request;
use crate::model::route::Auth;
use crate::model::rules::LimitsFailure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Nothing,
    GoodKey,
    WrongSecret,
    UnknownKey,
    DamagedKey,
    RevokedKey,
    FileKey,
    ImportedKey,
    UnknownForeignKey,
    UnmanagedToken,
    ManagedToken,
    StrangersManagedToken,
    ExpiredToken,
    ForgedToken,
    OpaqueToken,
    OpaqueTokenOfEndedGrant,
    OpaqueTokenOfNoGrant,
    ForgedOpaqueToken,
    RefreshToken,
    ClientsToken,
    KeysToken,
    KeysTokenWithKey,
    KeysTokenWithAnotherKey,
    Principal,
    StrangePrincipal,
    TwoCredentials,
}

impl Shows {
    const ALL: [Self; 26] = [
        Self::Nothing,
        Self::GoodKey,
        Self::WrongSecret,
        Self::UnknownKey,
        Self::DamagedKey,
        Self::RevokedKey,
        Self::FileKey,
        Self::ImportedKey,
        Self::UnknownForeignKey,
        Self::UnmanagedToken,
        Self::ManagedToken,
        Self::StrangersManagedToken,
        Self::ExpiredToken,
        Self::ForgedToken,
        Self::OpaqueToken,
        Self::OpaqueTokenOfEndedGrant,
        Self::OpaqueTokenOfNoGrant,
        Self::ForgedOpaqueToken,
        Self::RefreshToken,
        Self::ClientsToken,
        Self::KeysToken,
        Self::KeysTokenWithKey,
        Self::KeysTokenWithAnotherKey,
        Self::Principal,
        Self::StrangePrincipal,
        Self::TwoCredentials,
    ];

    /// Header name, value; `principal` stands for the peer's.
    fn parts(self) -> Vec<(&'static str, String)> {
        let live = |id, digit| key_text(Environment::Live, id, digit);
        let agent = format!("Agent {}", handle_text(HandleKind::Access, OF_KEY, 3));
        let bearer = |token: String| vec![("authorization", format!("Bearer {token}"))];
        match self {
            Self::Nothing => vec![],
            Self::GoodKey => vec![("x-api-key", live(LIVE_ID, 'l'))],
            Self::WrongSecret => vec![("x-api-key", live(LIVE_ID, 'x'))],
            Self::UnknownKey => vec![("x-api-key", live(UNKNOWN_ID, 'l'))],
            Self::DamagedKey => vec![("x-api-key", live(LIVE_ID, 'l').replace("AAA", "AAB"))],
            Self::RevokedKey => vec![("x-api-key", live(REVOKED_ID, 'r'))],
            Self::FileKey => vec![("x-api-key", live(FILE_ID, 'f'))],
            Self::ImportedKey => vec![("x-api-key", IMPORTED.to_owned())],
            Self::UnknownForeignKey => vec![("x-api-key", IMPORTED.replace('a', "b"))],
            Self::UnmanagedToken => bearer(token("free", "fred", 0)),
            Self::ManagedToken => bearer(token("kept", "kim", 0)),
            Self::StrangersManagedToken => bearer(token("kept", "stranger", 0)),
            Self::ExpiredToken => bearer(token("free", "fred", 3600)),
            Self::ForgedToken => {
                let good = token("free", "fred", 0);
                let (signed, _) = good.rsplit_once('.').unwrap();
                let (_, signature) = token("free", "eve", 0).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
                bearer(format!("{signed}.{signature}"))
            }
            Self::OpaqueToken => bearer(handle_text(HandleKind::Access, CONSENT, 7)),
            Self::OpaqueTokenOfEndedGrant => bearer(handle_text(HandleKind::Access, ENDED, 7)),
            Self::OpaqueTokenOfNoGrant => bearer(handle_text(HandleKind::Access, "nowhere", 7)),
            Self::ForgedOpaqueToken => bearer(handle_text(HandleKind::Access, CONSENT, 8).replace(".8.", ".7.")),
            Self::RefreshToken => bearer(handle_text(HandleKind::Refresh, CONSENT, 3)),
            Self::ClientsToken => bearer(own_token(MACHINE, APP)),
            Self::KeysToken => vec![("x-authorization", agent)],
            Self::KeysTokenWithKey => vec![("x-authorization", agent), ("x-api-key", live(LIVE_ID, 'l'))],
            Self::KeysTokenWithAnotherKey => vec![("x-authorization", agent), ("x-api-key", live(REVOKED_ID, 'r'))],
            Self::Principal => vec![("principal", WORKER.to_owned())],
            Self::StrangePrincipal => vec![("principal", format!("{WORKER}-2"))],
            Self::TwoCredentials => {
                vec![("x-api-key", live(LIVE_ID, 'l')), ("authorization", format!("Bearer {}", token("free", "fred", 0)))]
            }
        }
    }

    /// Which of the shelf's answers it depends on.
    fn asks_the_shelf(self) -> bool {
        match self {
            Self::GoodKey | Self::WrongSecret | Self::UnknownKey | Self::RevokedKey => true,
            Self::ImportedKey | Self::UnknownForeignKey | Self::ManagedToken | Self::StrangersManagedToken => true,
            Self::OpaqueToken | Self::OpaqueTokenOfEndedGrant | Self::OpaqueTokenOfNoGrant | Self::ClientsToken => true,
            Self::KeysToken | Self::KeysTokenWithKey | Self::KeysTokenWithAnotherKey => true,
            Self::ForgedOpaqueToken | Self::RefreshToken => false,
            Self::Nothing | Self::DamagedKey | Self::FileKey | Self::UnmanagedToken | Self::ExpiredToken => false,
            Self::ForgedToken | Self::Principal | Self::StrangePrincipal | Self::TwoCredentials => false,
        }
    }

    /// Who it is when everything answers, or why not. As the issue has it: what is wrong with a credential is never anonymous.
    fn means(self) -> Result<Option<&'static str>, Reason> {
        match self {
            Self::Nothing => Ok(None),
            Self::GoodKey | Self::ImportedKey | Self::OpaqueToken | Self::KeysToken | Self::KeysTokenWithKey => Ok(Some("alice")),
            Self::ClientsToken => Ok(Some("client:app_0123456789abcdefghij")),
            Self::OpaqueTokenOfEndedGrant => Err(Reason::Revoked),
            Self::OpaqueTokenOfNoGrant => Err(Reason::UnknownToken),
            Self::ForgedOpaqueToken => Err(Reason::BadSignature),
            Self::RefreshToken => Err(Reason::MalformedCredential),
            Self::KeysTokenWithAnotherKey => Err(Reason::UnknownKey),
            Self::FileKey => Ok(Some("robot")),
            Self::UnmanagedToken => Ok(Some("free:fred")),
            Self::ManagedToken => Ok(Some("kept:kim")),
            Self::Principal => Ok(Some("mesh:ns/jobs/sa/worker")),
            Self::WrongSecret | Self::UnknownKey | Self::UnknownForeignKey => Err(Reason::UnknownKey),
            Self::DamagedKey => Err(Reason::MalformedCredential),
            Self::RevokedKey => Err(Reason::Revoked),
            Self::StrangersManagedToken => Err(Reason::UnknownUser),
            Self::ExpiredToken => Err(Reason::Expired),
            Self::ForgedToken => Err(Reason::BadSignature),
            Self::StrangePrincipal => Err(Reason::UntrustedPrincipal),
            Self::TwoCredentials => Err(Reason::ConflictingCredentials),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Up,
    Down,
    Corrupt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LimitsAre {
    Open,
    /// The route's bucket cannot hold one request.
    RouteTooSmall,
    /// Everybody's own bucket cannot hold one request.
    OwnTooSmall,
    Gone(LimitsFailure),
    /// Gone, and this sidecar's share stands in where the config wants it; or it is gone too.
    GoneWithShare(LimitsFailure, Part),
}

/// The plain rules.
fn expected(auth: Auth, shows: Shows, store: Part, limits: LimitsAre, ledger: Part) -> Result<&'static str, Reason> {
    let who = if auth == Auth::Public {
        None
    } else if shows.asks_the_shelf() && store != Part::Up {
        return Err(if store == Part::Down { Reason::StoreUnavailable } else { Reason::CorruptRecord });
    } else {
        shows.means()?
    };
    if who.is_none() && auth == Auth::Required {
        return Err(Reason::MissingCredential);
    }
    match limits {
        LimitsAre::Open
        | LimitsAre::Gone(LimitsFailure::Pass)
        | LimitsAre::GoneWithShare(LimitsFailure::Pass, _)
        | LimitsAre::GoneWithShare(LimitsFailure::LocalShare, Part::Up) => {}
        LimitsAre::OwnTooSmall if who.is_none() => {}
        LimitsAre::RouteTooSmall | LimitsAre::OwnTooSmall => return Err(Reason::RateLimited),
        LimitsAre::Gone(LimitsFailure::Deny | LimitsFailure::LocalShare)
        | LimitsAre::GoneWithShare(LimitsFailure::Deny, _)
        | LimitsAre::GoneWithShare(LimitsFailure::LocalShare, Part::Down | Part::Corrupt) => return Err(Reason::LimitsUnavailable),
    }
    match ledger {
        Part::Up => Ok(who.unwrap_or("anonymous")),
        Part::Down | Part::Corrupt => Err(Reason::LedgerUnavailable),
    }
}

// battery: K1 K2 K16 K17 K21 J52 R1
// oauth: O14 H14
#[test]
fn every_combination_ends_as_the_plain_rules_say_and_no_failure_ever_ends_in_an_allow() {
    let limits_are = [
        LimitsAre::Open,
        LimitsAre::RouteTooSmall,
        LimitsAre::OwnTooSmall,
        LimitsAre::Gone(LimitsFailure::Deny),
        LimitsAre::Gone(LimitsFailure::LocalShare),
        LimitsAre::Gone(LimitsFailure::Pass),
        LimitsAre::GoneWithShare(LimitsFailure::Deny, Part::Up),
        LimitsAre::GoneWithShare(LimitsFailure::LocalShare, Part::Up),
        LimitsAre::GoneWithShare(LimitsFailure::LocalShare, Part::Down),
        LimitsAre::GoneWithShare(LimitsFailure::Pass, Part::Down),
    ];
    for shows in Shows::ALL {
        let parts = shows.parts();
        for auth in [Auth::Required, Auth::Optional, Auth::Public] {
            for store in [Part::Up, Part::Down, Part::Corrupt] {
                for limits in limits_are {
                    for ledger in [Part::Up, Part::Down] {
                        walk_one(auth, shows, &parts, store, limits, ledger);
                    }
                }
            }
        }
    }
}

fn walk_one(auth: Auth, shows: Shows, parts: &[(&'static str, String)], store: Part, limits: LimitsAre, ledger: Part) {
    let case = format!("{auth:?} {shows:?} store {store:?} limits {limits:?} ledger {ledger:?}");
    let mut house = House::new(auth);
    house.shelf.failure = match store {
        Part::Up => None,
        Part::Down => Some(down()),
        Part::Corrupt => Some(corrupt()),
    };
    // The house costs two.
    match limits {
        LimitsAre::Open => {}
        LimitsAre::RouteTooSmall => set_route_limit(&mut house, 1),
        LimitsAre::OwnTooSmall => house.rules.tiers.get_mut("free").unwrap().policies = vec![policy("free", Per::Owner, 60, 1)],
        LimitsAre::Gone(failure) => {
            house.buckets.failure = Some(down());
            house.rules.limits_failure = failure;
        }
        LimitsAre::GoneWithShare(failure, share) => {
            house.buckets.failure = Some(down());
            house.rules.limits_failure = failure;
            let mut stand_in = Buckets::default();
            stand_in.failure = (share != Part::Up).then(corrupt);
            house.share = Some(stand_in);
        }
    }
    house.book.full = ledger != Part::Up;

    let headers: Vec<(&str, &str)> =
        parts.iter().filter(|(name, _)| *name != "principal").map(|(name, value)| (*name, value.as_str())).collect();
    let principal = parts.iter().find(|(name, _)| *name == "principal").map(|(_, value)| value.as_str());
    let request = Request { principal, ..samples::request(Method::Get, "/house", &headers) };
    let wanted = expected(auth, shows, store, limits, ledger);

    house.walk(&request, |ended, trace| {
        let allowed: Vec<&String> = trace.lines.iter().filter(|line| line.contains(" allowed ")).collect();
        match (ended, wanted) {
            (Ok(grant), Ok(user)) => {
                assert_eq!(grant.prepared().caller().map_or("anonymous", |caller| caller.user.as_str()), user, "{case}");
                assert_eq!(grant.reason().row().kind, Kind::Allow, "{case}");
                assert_eq!(allowed.len(), 1, "{case}: {:?}", trace.lines);
                assert!(allowed[0].starts_with(&format!("{user} ")) && allowed[0].ends_with(" house allowed 2"), "{case}: {allowed:?}");
                assert_eq!(trace.lines.len(), 1, "{case}");
            }
            (Err(Exit::Denied(denial)), Err(reason)) => {
                assert_eq!(denial.reason, reason, "{case}: {:?}", denial.internal);
                assert_eq!(reason.row().kind, Kind::Denial, "{case}");
                assert!(allowed.is_empty(), "{case}: {:?}", trace.lines);
                // Known callers alone are refused by name, and only what is theirs to mend.
                let known = auth != Auth::Public && matches!(shows.means(), Ok(Some(_)));
                let refused = usize::from(known && reason == Reason::RateLimited && ledger == Part::Up);
                assert_eq!(trace.lines.len(), refused, "{case}: {:?}", trace.lines);
            }
            (Err(Exit::Failed(fault)), Err(reason)) => {
                assert_eq!(fault.reason, reason, "{case}: {}", fault.internal);
                assert_eq!(reason.row().kind, Kind::Fault, "{case}");
                assert!(trace.lines.is_empty(), "{case}: {:?}", trace.lines);
            }
            (ended, wanted) => panic!("{case}: wanted {wanted:?}, got {ended:?}"),
        }
    });
}

fn set_route_limit(house: &mut House, depth: u32) {
    let mut routes: Vec<_> = house.rules.routes.iter().map(|route| (**route).clone()).collect();
    routes[0].limits = vec![policy("house", Per::Route, 600, depth)];
    let changed = samples::rules(routes);
    house.rules.routes = changed.routes;
    house.rules.route_index = changed.route_index;
}
