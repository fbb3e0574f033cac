use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::check::find_route::find_route;
use crate::check::samples::place;
use crate::check::samples::request;
use crate::check::samples::request_of_bytes;
use crate::check::samples::rules;
use crate::model::caller::Namespace;
use crate::model::caller::SourceName;
use crate::model::handle::HandleKind;
use crate::model::key_text::KeyForm;
use crate::model::key_text::read_key;
use crate::model::request::Method;
use crate::model::route::Cors;
use crate::model::route::samples::route;
use crate::model::rules::ImportedKeys;
use crate::model::rules::Mesh;
use crate::model::rules::Source;

/// Brand `tg`; the checksum was worked out apart from this crate.
const KEY: &str = "tg_live_sk_0123456789ABabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ3fll0K";
const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
const UUID: &str = "6f1c9a52-4a0c-4a51-9d3a-0f4c6f6f3a11";

fn table() -> Rules {
    let with = |name: &str, change: &dyn Fn(&mut crate::model::route::Route)| {
        let mut route = route(name, &[], &format!("/{name}"));
        change(&mut route);
        route
    };
    rules(vec![
        with("required", &|_| {}),
        with("optional", &|route| route.auth = Auth::Optional),
        with("public", &|route| route.auth = Auth::Public),
        with("kept", &|route| route.credential_upstream = CredentialUpstream::Kept),
        with("query", &|route| route.query_token = QueryToken::Allowed { parameter: "access_token".into() }),
        with("cors", &|route| route.cors = Cors::Preflight),
    ])
}

fn take<'m>(request: &'m Request<'m>, rules: &Rules) -> Result<Shown<'m>, Denial> {
    let found = find_route(request, rules).unwrap();
    take_credential(request, &found, rules)
}

fn check(target: &str, headers: &[(&str, &str)], rules: &Rules, expected: Result<&str, Reason>) {
    let request = request(Method::Get, target, headers);
    let answer = take(&request, rules).map(|shown| format!("{:?}", shown.credential)).map_err(|denial| denial.reason);
    assert_eq!(answer, expected.map(str::to_owned), "{target} {headers:?}");
}

fn check_bytes(value: &[u8], expected: Result<&str, Reason>) {
    for header in ["x-api-key", "authorization"] {
        let value = if header == "authorization" { [b"Bearer ", value].concat() } else { value.to_vec() };
        let request = request_of_bytes(Method::Get, "/required", vec![(header.as_bytes(), &value)]);
        let answer = take(&request, &table()).map(|shown| format!("{:?}", shown.credential)).map_err(|denial| denial.reason);
        assert_eq!(answer, expected.map(str::to_owned), "{header} {:?}", String::from_utf8_lossy(&value));
    }
}

fn own_key() -> String {
    KEY.to_owned()
}

const MALFORMED: Result<&str, Reason> = Err(Reason::MalformedCredential);

#[test]
fn what_was_shown_is_told_by_its_form() {
    let rules = table();
    let key = own_key();
    let bearer = format!("Bearer {key}");
    let agent = format!("Agent {UUID}");
    for (headers, expected) in [
        (vec![("authorization", bearer.as_str())], "Own(0123456789AB)"),
        (vec![("x-api-key", key.as_str())], "Own(0123456789AB)"),
        (vec![("x-api-key", JWT)], "Token"),
        (vec![("x-api-key", UUID)], "Opaque"),
        (vec![("x-authorization", agent.as_str())], "Opaque"),
        (vec![("authorization", "Bearer a.b")], "Opaque"),
        (vec![("authorization", "Bearer a.b.c")], "Token"),
        (vec![("authorization", "Bearer a.b.c.d")], "Opaque"),
        (vec![("authorization", "Bearer a.b.c.d.e")], "Opaque"),
        (vec![("authorization", "Bearer .b.c")], "Opaque"),
        (vec![("authorization", "Bearer a.b.")], "Opaque"),
        (vec![("authorization", "Bearer a.b.c=")], "Opaque"),
        (vec![("authorization", "Bearer a+.b.c")], "Opaque"),
    ] {
        check("/required", &headers, &rules, Ok(expected));
        check("/optional", &headers, &rules, Ok(expected));
    }
    let mut importing = table();
    importing.imported_keys = ImportedKeys::Accepted;
    check("/required", &[("x-api-key", UUID)], &importing, Ok("Foreign"));
    check("/required", &[("x-api-key", JWT)], &importing, Ok("Token"));
    check("/required", &[("x-api-key", &key)], &importing, Ok("Own(0123456789AB)"));
}

// oauth: H14 G8
#[test]
fn of_our_handles_only_an_access_token_is_a_credential_here() {
    let rules = table();
    let mac = "m".repeat(43);
    for kind in HandleKind::ALL {
        let text = format!("tg_{}_grant-1.7.{mac}", kind.as_str());
        let expected = if kind == HandleKind::Access { Ok("Handle(at grant-1 7)") } else { MALFORMED };
        let bearer = format!("Bearer {text}");
        let agent = format!("Agent {text}");
        for header in [("authorization", &*bearer), ("x-api-key", &*text), ("x-authorization", &*agent)] {
            check("/required", &[header], &rules, expected);
            check("/optional", &[header], &rules, expected);
        }
        check(&format!("/query?access_token={text}"), &[], &rules, expected);
        check(&format!("/required?access_token={text}"), &[], &rules, Err(Reason::TokenInQuery));
        // Under the application's own name it is still ours, and must not travel on.
        let beside = format!("/required?api_key={text}");
        check(&beside, &[("x-api-key", "abc")], &rules, Err(Reason::ConflictingCredentials));
    }
    let mut importing = table();
    importing.imported_keys = ImportedKeys::Accepted;
    check("/required", &[("x-api-key", &format!("tg_at_grant-1.7.{mac}"))], &importing, Ok("Handle(at grant-1 7)"));
    for damaged in ["tg_at_grant-1.7", "tg_at_grant-1.07.m", "tg_at_.7.m", "tg_xx_grant-1.7.m", "tg_at_a+b.7.m"] {
        check_bytes(damaged.replace(".m", &format!(".{mac}")).as_bytes(), MALFORMED);
    }
    // Another brand's is none of ours; it has the three parts of a JWT and will not be one.
    check_bytes(format!("xx_at_grant.7.{mac}").as_bytes(), Ok("Token"));
    check_bytes(format!("TG_at_grant.7.{mac}").as_bytes(), Ok("Token"));
}

#[test]
fn none_is_anonymous_only_where_that_is_allowed() {
    let rules = table();
    check("/required", &[], &rules, Err(Reason::MissingCredential));
    check("/optional", &[], &rules, Ok("None"));
    check("/public", &[], &rules, Ok("None"));
    check("/required", &[("cookie", "access_token=x; x-api-key=y")], &rules, Err(Reason::MissingCredential));
    check("/optional", &[("cookie", "authorization=Bearer x")], &rules, Ok("None"));
}

// battery: J55 H13 K6
#[test]
fn a_scheme_is_followed_by_one_space_and_one_token() {
    let rules = table();
    for good in ["Bearer abc", "bearer abc", "BEARER abc", "bEaReR abc", "Bearer abc==", "Bearer a-._~+/z"] {
        check("/required", &[("authorization", good)], &rules, Ok("Opaque"));
    }
    for bad in [
        "",
        " ",
        "Bearer",
        "bearer:",
        "Bearer ",
        "Bearer  abc",
        "Bearer\tabc",
        "Bearer \tabc",
        "Bearer abc ",
        " Bearer abc",
        "Bearer,abc",
        "Bearer:abc",
        "Bearer abc def",
        "Bearer abc,def",
        "Bearer abc, Bearer def",
        "Bearer abc\tdef",
        "Bearer \"abc\"",
        "Bearer 'abc'",
        "Bearer abc;def",
        "Bearer =",
        "Bearer ab=c",
        "Basic YTpi",
        "Agent abc",
        "abc",
        "Bearerabc",
        "Bearer Bearer abc",
        "Digest a=b",
    ] {
        for target in ["/required", "/optional", "/kept", "/query"] {
            check(target, &[("authorization", bad)], &rules, MALFORMED);
        }
    }
    check("/required", &[("authorization", "Bearer a"), ("authorization", "Basic b")], &rules, MALFORMED);
    check("/required", &[("authorization", "Bearer a"), ("authorization", "Bearer a")], &rules, MALFORMED);
    check("/optional", &[("x-api-key", "a"), ("x-api-key", "b")], &rules, MALFORMED);
    check("/required", &[("x-authorization", "Bearer abc")], &rules, MALFORMED);
    check("/public", &[("authorization", "Bearer a"), ("authorization", "Basic b")], &rules, Ok("None"));
}

// battery: K6 K7 K9 K10 K11 K12 K22
#[test]
fn a_value_outside_the_grammar_is_refused() {
    for good in [b"abc".as_slice(), &[b'a'; 4096]] {
        check_bytes(good, Ok("Opaque"));
    }
    let key = own_key();
    let bad: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"a b".to_vec(),
        b" abc".to_vec(),
        b"abc ".to_vec(),
        b"abc\t".to_vec(),
        "abc\u{a0}".into(),
        "a\u{2003}b".into(),
        format!("{key},{key}").into_bytes(),
        format!("wrong,{key}").into_bytes(),
        format!("\"{key}\"").into_bytes(),
        b"abc\0".to_vec(),
        b"ab\x01c".to_vec(),
        b"ab\x7fc".to_vec(),
        b"ab\r\nc".to_vec(),
        b"ab!c".to_vec(),
        b"ab\xffc".to_vec(),
        b"\xc3(".to_vec(),
        key.replace('s', "!").into_bytes(),
        key.replace('A', "А").into_bytes(),
        key.replace('l', "ｌ").into_bytes(),
        "e\u{301}".into(),
        b"{abc}".to_vec(),
        b"abc*".to_vec(),
        b"a:b".to_vec(),
        vec![b'a'; 8193],
        vec![b'a'; 60_000],
    ];
    for value in &bad {
        check_bytes(value, MALFORMED);
    }
}

// battery: K5 K16 K24
#[test]
fn a_damaged_key_of_ours_is_refused_by_its_form() {
    let key = own_key();
    assert!(matches!(read_key("tg", &key), KeyForm::Own(_)));
    let swapped_case = key.replace("abcdef", "ABCDEF");
    let cut = &key[..key.len() - 1];
    let longer = format!("{key}0");
    let joined = format!("{key}{key}");
    let other_environment = key.replace("_live_", "_test_");
    for damaged in [swapped_case.as_str(), cut, &longer, &joined, &other_environment, "tg_", "tg_live_sk_", "tg_live_sk_0123456789AB"] {
        check_bytes(damaged.as_bytes(), MALFORMED);
    }
    for position in 0..key.len() {
        let mut typo = key.clone().into_bytes();
        typo[position] = if typo[position] == b'x' { b'y' } else { b'x' };
        let typo = String::from_utf8(typo).unwrap();
        assert!(!matches!(read_key("tg", &typo), KeyForm::Own(_)), "{position}");
    }
}

#[test]
fn two_credentials_in_two_places_must_be_one() {
    let rules = table();
    let conflict = Err(Reason::ConflictingCredentials);
    check("/required", &[("authorization", "Bearer abc"), ("x-api-key", "abc")], &rules, Ok("Opaque"));
    check("/required", &[("authorization", "Bearer abc"), ("x-api-key", "abd")], &rules, conflict);
    check("/optional", &[("authorization", "Bearer abc"), ("x-authorization", "Agent abd")], &rules, conflict);
    check("/required", &[("authorization", "Bearer abc"), ("x-api-key", "a b")], &rules, MALFORMED);
    check("/required", &[("authorization", "Basic abc"), ("x-api-key", "abc")], &rules, MALFORMED);
    let all = [("authorization", "Bearer a"), ("x-authorization", "Agent b"), ("x-api-key", "c")];
    check("/required", &all, &rules, conflict);
    check("/public", &all, &rules, Ok("None"));
}

#[test]
fn an_agents_token_may_come_with_its_key() {
    let key = own_key();
    let mut rules = table();
    for reversed in [false, true] {
        let headers = [("x-authorization", "Agent tok"), ("x-api-key", key.as_str())];
        let request = request(Method::Get, "/required", &headers);
        let shown = take(&request, &rules).unwrap();
        assert_eq!((shown.credential, shown.paired_key), (Credential::Opaque("tok"), Some(key.as_str())), "{reversed}");
        assert_eq!(shown.headers.len(), 2);
        rules.places.reverse();
    }
    let damaged = format!("{key}0");
    check("/required", &[("x-authorization", "Agent tok"), ("x-api-key", &damaged)], &rules, MALFORMED);
    check("/required", &[("x-authorization", "Agent tok"), ("x-api-key", "")], &rules, MALFORMED);
    // Without the Agent scheme there is no pair.
    rules.places = vec![place("x-authorization", Some("Token")), place("x-api-key", None)];
    check("/required", &[("x-authorization", "Token tok"), ("x-api-key", &key)], &rules, Err(Reason::ConflictingCredentials));
}

#[test]
fn one_header_may_have_several_schemes() {
    let mut rules = table();
    rules.places = vec![place("authorization", Some("Bearer")), place("authorization", Some("Agent")), place("authorization", None)];
    for value in ["Bearer abc", "Agent abc", "abc"] {
        check("/required", &[("authorization", value)], &rules, Ok("Opaque"));
    }
    check("/required", &[("authorization", "Basic abc")], &rules, MALFORMED);
    check("/required", &[("x-api-key", "abc")], &rules, Err(Reason::MissingCredential));
}

// battery: K14 K15
#[test]
fn a_credential_in_the_query_needs_a_route_that_allows_it() {
    let rules = table();
    let refused = Err(Reason::TokenInQuery);
    for known in CREDENTIAL_PARAMETERS {
        check(&format!("/required?{known}=abc"), &[], &rules, refused);
    }
    let (last, others) = CREDENTIAL_PARAMETERS.split_last().unwrap();
    let named = format!("`{}` or `{last}`", others.join("`, `"));
    assert!(include_str!("../../../envoy/reasons.md").contains(&named), "the reference names them: {named}");
    for target in ["/required", "/optional", "/kept"] {
        for query in
            ["access_token=abc", "a=b&api_key=abc", "apikey=abc", "API_KEY=abc", "x-api-key=abc", "access%5Ftoken=abc", "access_token"]
        {
            check(&format!("{target}?{query}"), &[], &rules, refused);
        }
        check(&format!("{target}?api_key=app"), &[("x-api-key", "abc")], &rules, Ok("Opaque"));
        for leaked in ["access_token=opaque", "ACCESS%5ftoken=opaque", "access_token", &format!("api_key={JWT}"), "apikey=tg_live_sk_abc"] {
            let refused = Err(Reason::ConflictingCredentials);
            check(&format!("{target}?api_key=app&{leaked}"), &[("x-api-key", "abc")], &rules, refused);
            check(&format!("{target}?{leaked}&api_key=app"), &[("x-api-key", "abc")], &rules, refused);
        }
    }
    // Where keys of other makings open the gate, their text tells nobody whose they are.
    let mut importing = table();
    importing.imported_keys = ImportedKeys::Accepted;
    let beside = [("x-api-key", UUID)];
    check(&format!("/required?api_key={UUID}"), &beside, &importing, Err(Reason::ConflictingCredentials));
    check("/required?api_key=", &beside, &importing, Ok("Foreign"));
    check("/public?access_token=abc", &[], &rules, Ok("None"));
    check("/required?token_type=a&key=b&q=access_token", &[], &rules, Err(Reason::MissingCredential));
    check("/optional?q=api_key", &[], &rules, Ok("None"));

    check("/query?access_token=abc", &[], &rules, Ok("Opaque"));
    check(&format!("/query?a=b&access_token={JWT}&c"), &[], &rules, Ok("Token"));
    check("/query?api_key=abc", &[], &rules, refused);
    check("/query?ACCESS_TOKEN=abc", &[], &rules, refused);
    check("/query?api_key=x&access_token=abc", &[], &rules, Ok("Opaque"));
    for both in [format!("api_key={JWT}&access_token=abc"), format!("access_token=abc&api_key={JWT}")] {
        check(&format!("/query?{both}"), &[], &rules, Err(Reason::ConflictingCredentials));
    }
    for malformed in [
        "access_token=a&access_token=a",
        "access_token=a&access%5ftoken=b",
        "access%5Ftoken=a",
        "access_token=",
        "access_token",
        "access_token=a%20b",
        "access_token=a+b",
        "access_token=a,b",
        "access_token=a!b",
    ] {
        check(&format!("/query?{malformed}"), &[], &rules, MALFORMED);
    }
    check(&format!("/query?access_token={}", "a".repeat(8193)), &[], &rules, MALFORMED);
    check("/query?access_token=abc", &[("x-api-key", "abd")], &rules, Err(Reason::ConflictingCredentials));
    check("/query?access_token=abc", &[("x-api-key", "abc")], &rules, Err(Reason::ConflictingCredentials));
    check("/query", &[("x-api-key", "abc")], &rules, Ok("Opaque"));
    check("/query", &[], &rules, Err(Reason::MissingCredential));
}

#[test]
fn what_was_read_is_removed_and_nothing_else() {
    let rules = table();
    let removed = |target: &str, headers: &[(&str, &str)]| {
        let request = request(Method::Get, target, headers);
        let shown = take(&request, &rules).unwrap();
        let names: Vec<String> = shown.headers.iter().map(ToString::to_string).collect();
        (names.join(","), shown.query_parameter.as_deref().unwrap_or_default().to_owned())
    };
    let both = [("authorization", "Bearer abc"), ("x-api-key", "abc"), ("accept", "x")];
    assert_eq!(removed("/required", &both), ("authorization,x-api-key".into(), String::new()));
    assert_eq!(removed("/kept", &both), (String::new(), String::new()));
    assert_eq!(removed("/public?access_token=a", &both), (String::new(), String::new()));
    assert_eq!(removed("/optional", &[]), (String::new(), String::new()));
    assert_eq!(removed("/query?access_token=a", &[]), (String::new(), "access_token".into()));
    assert_eq!(removed("/required?api_key=a", &[("x-api-key", "abc")]), ("x-api-key".into(), String::new()));
}

#[test]
fn a_principal_counts_where_no_other_credential_came() {
    let mut rules = table();
    let principal = "spiffe://mesh.example/ns/shop";
    let ask = |principal: &str, target: &str, headers: &[(&str, &str)], rules: &Rules| {
        let mut request = request(Method::Get, target, headers);
        request.principal = Some(principal);
        take(&request, rules).map(|shown| format!("{:?}", shown.credential)).map_err(|denial| denial.reason)
    };
    assert_eq!(ask(principal, "/required", &[], &rules), Err(Reason::MissingCredential));
    rules.mesh = Some(Mesh {
        source: Source { name: SourceName::new("mesh"), namespace: Namespace::Named },
        trust_domain: "mesh.example".into(),
        principals: BTreeMap::new(),
    });
    let shown = Ok(format!("Principal({principal})"));
    for target in ["/required", "/optional", "/required?api_key=x"] {
        assert_eq!(ask(principal, target, &[], &rules), shown, "{target}");
    }
    assert_eq!(ask(principal, "/public", &[], &rules), Ok("None".into()));
    assert_eq!(ask(principal, "/required?access_token=abc", &[], &rules), Err(Reason::ConflictingCredentials));
    assert_eq!(ask(principal, "/required", &[("x-api-key", "abc")], &rules), Ok("Opaque".into()));
    assert_eq!(ask(principal, "/required", &[("x-api-key", "a b")], &rules), Err(Reason::MalformedCredential));
    for other in
        ["", "spiffe://mesh.example", "spiffe://mesh.example.evil/ns/shop", "spiffe://other/ns", "CN=mesh.example/", "mesh.example/ns"]
    {
        assert_eq!(ask(other, "/required", &[], &rules), Err(Reason::MissingCredential), "{other}");
        assert_eq!(ask(other, "/optional", &[], &rules), Ok("None".into()), "{other}");
    }
}

#[test]
fn a_preflight_shows_nothing() {
    let rules = table();
    let headers = [("origin", "https://a.example"), ("access-control-request-method", "GET"), ("x-api-key", "abc")];
    let preflight = request(Method::Options, "/cors", &headers);
    assert_eq!(take(&preflight, &rules).unwrap().credential, Credential::None);
}

proptest! {
    #[test]
    fn no_value_breaks_it_or_shows_up(value in proptest::collection::vec(any::<u8>(), 0..60), query in "[a-z_=&%0-9+]{0,60}") {
        let target = format!("/query?{query}");
        let request = request_of_bytes(Method::Get, &target, vec![(b"x-api-key", &value)]);
        let answer = take(&request, &table());
        if let (Ok(shown), Ok(text)) = (&answer, std::str::from_utf8(&value)) {
            let visible = format!("{shown:?}");
            prop_assert!(text.len() < 12 || !visible.contains(text));
        }
        // With a header that came, nobody is anonymous.
        let anonymous = answer.is_ok_and(|shown| shown.credential == Credential::None);
        prop_assert!(!anonymous);
    }
}
