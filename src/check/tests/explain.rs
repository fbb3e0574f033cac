//! What `explain` is told.

use std::sync::Arc;

use crate::check::Room;
use crate::check::Seen;
use crate::check::doubles::handle_text;
use crate::check::doubles::key_text;
use crate::check::samples;
use crate::check::tests::APP;
use crate::check::tests::CONSENT;
use crate::check::tests::ENDED;
use crate::check::tests::House;
use crate::check::tests::LIVE_ID;
use crate::check::tests::MACHINE;
use crate::check::tests::OF_KEY;
use crate::check::tests::UNKNOWN_ID;
use crate::check::tests::own_token;
use crate::check::tests::token;
use crate::check::tests::with_key;
use crate::model::caller::Environment;
use crate::model::handle::HandleKind;
use crate::model::request::Method;
use crate::model::route::Auth;
use crate::model::route::Route;
use crate::model::route::RouteIndex;
use crate::model::route::ScopeDemand;
use crate::model::route::ScopeTemplate;
use crate::model::route::TemplatePart;

#[test]
fn each_room_says_what_it_yielded_and_the_last_one_why_it_left() {
    let good = key_text(Environment::Live, LIVE_ID, 'l');
    House::new(Auth::Required).walk(&with_key(&good), |_, trace| {
        let rooms: Vec<Room> = trace.steps.iter().map(|step| step.room).collect();
        let way = [Room::FindRoute, Room::TakeCredential, Room::Guard, Room::Prove, Room::Resolve];
        let rest = [Room::Authorise, Room::PinVersion, Room::Prepare, Room::Throttle, Room::Throttle, Room::Meter];
        assert_eq!(rooms, [way.as_slice(), &rest].concat());
        assert!(trace.steps.iter().all(|step| step.outcome.is_ok()));
        assert!(rooms.is_sorted(), "rooms are named in walking order");
    });
    let unknown = key_text(Environment::Live, UNKNOWN_ID, 'l');
    House::new(Auth::Required).walk(&with_key(&unknown), |_, trace| {
        let last = trace.steps.last().unwrap();
        assert_eq!(last.room, Room::Resolve);
        assert_eq!(last.outcome, Err("unknown_key: no such key".to_owned()));
    });
}

#[test]
fn what_a_token_of_ours_stands_on_is_told() {
    let told = |value: &str, room: Room, expected: &str| {
        let request = samples::request(Method::Get, "/house", &[("authorization", value)]);
        House::new(Auth::Required).walk(&request, |_, trace| {
            let step = trace.steps.iter().find(|step| step.room == room).unwrap();
            assert!(step.outcome.as_ref().is_ok_and(|told| told.contains(expected)), "{:?}", step.outcome);
        });
    };
    let opaque = format!("Bearer {}", handle_text(HandleKind::Access, CONSENT, 7));
    told(&opaque, Room::TakeCredential, "an opaque token of ours, grant consent");
    told(&opaque, Room::Prove, "grant consent decides");
    told(&opaque, Room::Resolve, "user alice, by client app_0123456789abcdefghij, organisation none");
    let signed = format!("Bearer {}", own_token(MACHINE, APP));
    told(&signed, Room::Prove, "subject app_0123456789abcdefghij; grant machine decides");
    told(&signed, Room::Resolve, "user client:app_0123456789abcdefghij, by client");
    let of_key = format!("Bearer {}", handle_text(HandleKind::Access, OF_KEY, 3));
    told(&of_key, Room::Resolve, "user alice, by key AAAAAAAAAAAA");
    let ended = format!("Bearer {}", handle_text(HandleKind::Access, ENDED, 7));
    let request = samples::request(Method::Get, "/house", &[("authorization", &ended)]);
    House::new(Auth::Required).walk(&request, |_, trace| {
        assert_eq!(trace.steps.last().unwrap().outcome, Err("revoked: the grant has ended".to_owned()));
        assert!(!format!("{:?}", trace.steps).contains(ended.rsplit('.').next().unwrap()));
    });
}

#[test]
fn a_tier_of_the_token_that_is_none_is_told() {
    // The subject is the tier, too.
    let cases = [("platinum", "tier free (token says platinum: no such tier), scopes"), ("free", "tier free, scopes")];
    for (tier, expected) in cases {
        let mut house = House::new(Auth::Required);
        house.rules.issuers[0].claims.tier = Some("sub".into());
        let bearer = format!("Bearer {}", token("free", tier, 0));
        house.walk(&samples::request(Method::Get, "/house", &[("authorization", &bearer)]), |_, trace| {
            let step = trace.steps.iter().find(|step| step.room == Room::Resolve).unwrap();
            let outcome = step.outcome.as_ref().unwrap();
            assert!(outcome.contains(expected), "{outcome}");
        });
    }
}

#[test]
fn what_is_wanted_and_what_is_held_stand_side_by_side() {
    let mut house = House::new(Auth::Required);
    let demand = ScopeDemand { all_of: vec![ScopeTemplate(vec![TemplatePart::Text("orders:write".into())])], any_of: Vec::new() };
    house.rules.routes[0] = Arc::new(Route { scopes: demand, ..(*house.rules.routes[0]).clone() });
    house.rules.route_index = RouteIndex::build(&house.rules.routes).unwrap();
    let bearer = format!("Bearer {}", token("free", "fred", 0));
    house.walk(&samples::request(Method::Get, "/house", &[("authorization", &bearer)]), |_, trace| {
        let last = trace.steps.last().unwrap();
        assert_eq!(last.outcome, Err("insufficient_scope: wants [orders:write], has [conversations:read]".to_owned()));
    });
}

#[test]
fn no_step_repeats_a_secret() {
    let good = key_text(Environment::Live, LIVE_ID, 'l');
    let wrong = key_text(Environment::Live, LIVE_ID, 'x');
    let bearer = format!("Bearer {}", token("free", "fred", 0));
    let requests = [with_key(&good), with_key(&wrong), samples::request(Method::Get, "/house", &[("authorization", &bearer)])];
    for request in &requests {
        House::new(Auth::Required).walk(request, |_, trace| {
            let told = format!("{:?}", trace.steps);
            assert!(!told.contains("llllll") && !told.contains("xxxxxx") && !told.contains(&bearer[7..40]), "{told}");
        });
    }
}

#[test]
fn nothing_is_written_down_unasked() {
    assert_eq!(Seen::default().steps, None);
    assert_eq!(Seen::explaining().steps, Some(Vec::new()));
}
