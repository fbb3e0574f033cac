//! The attack battery's keys and headers through Envoy.

use http::HeaderMap;
use http::HeaderValue;

use crate::support::envoy;
use crate::support::http1::Reply;
use crate::support::http2;
use crate::support::scenario::Listener;
use crate::support::scenario::Plan;
use crate::support::scenario::Scenario;

const TARGET: &str = "/api/v1/conversations";

struct Battery {
    scenario: Scenario,
    key: String,
    other: String,
}

impl Battery {
    fn of(plan: Plan) -> Self {
        let scenario = plan.start();
        let scopes = ["conversations:read", "conversations:write", "tollgate:unlimited"];
        let key = scenario.key("alice", "enterprise", &scopes);
        let other = scenario.key("bob", "enterprise", &scopes);
        Self { scenario, key, other }
    }

    fn start(listener: Listener) -> Self {
        Self::of(listener.plan().unguarded())
    }

    /// A GET whose header lines are these bytes.
    fn raw(&self, target: &str, lines: &[&[u8]]) -> Reply {
        let mut bytes = format!("GET {target} HTTP/1.1\r\nhost: api.example.com\r\n").into_bytes();
        for line in lines {
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        self.scenario.client().raw(&bytes)
    }

    fn line(&self, name: &str, value: impl AsRef<[u8]>) -> Reply {
        let mut line = format!("{name}: ").into_bytes();
        line.extend_from_slice(value.as_ref());
        self.raw(TARGET, &[&line])
    }

    fn assert_all_401(&self, values: &[(&str, Vec<u8>)], listener: Listener) {
        for (what, value) in values {
            for name in ["authorization", "x-api-key"] {
                let value = if name == "authorization" { [b"Bearer ", value.as_slice()].concat() } else { value.clone() };
                let reply = self.line(name, value);
                assert_eq!(reply.status, 401, "{listener:?}, {what} in {name}: {}", reply.text());
            }
        }
        assert_eq!(self.scenario.upstream.count(), 0);
    }
}

/// The same status, headers and body but for ids and dates, so that nobody can tell one bad credential from another.
fn public_face(reply: &Reply) -> (u16, Vec<String>, serde_json::Value) {
    let mut names: Vec<String> = reply.headers.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    let mut body = reply.json();
    body["error"]["request_id"] = serde_json::Value::Null;
    (reply.status, names, body)
}

fn replaced(text: &str, at: usize, by: char) -> Vec<u8> {
    let mut characters: Vec<char> = text.chars().collect();
    characters[at] = if characters[at] == by { 'x' } else { by };
    characters.into_iter().collect::<String>().into_bytes()
}

// battery: K4 K5 K11 K12
#[test]
fn what_is_not_a_key_is_401() {
    for listener in Listener::BOTH {
        let battery = Battery::start(listener);
        let key = &battery.key;
        let id_end = "acme_live_sk_".len() + 12;
        let wide: String = key.chars().map(|character| if character == 'a' { 'ａ' } else { character }).collect();
        let values = [
            ("only the prefix and id", key.as_bytes()[..id_end].to_vec()),
            ("only the brand", b"acme_live_sk_".to_vec()),
            ("upper case", key.to_uppercase().into_bytes()),
            ("lower case", key.to_lowercase().into_bytes()),
            ("full-width letters", wide.into_bytes()),
            ("a Cyrillic letter", key.replacen('e', "\u{435}", 1).into_bytes()),
            ("one character", b"x".to_vec()),
            ("4 KB", vec![b'x'; 4096]),
            ("40 KB", vec![b'x'; 40_960]),
            ("40 KB after the brand", [b"acme_live_sk_".to_vec(), vec![b'x'; 40_960]].concat()),
        ];
        battery.assert_all_401(&values, listener);
        // Nothing at all is no credential: 401 as well.
        assert_eq!(battery.line("authorization", "Bearer ").status, 401);
        assert_eq!(battery.line("x-api-key", "").status, 401);
    }
}

// battery: K1 K2 K16
#[test]
fn bad_keys_cannot_be_told_apart() {
    let battery = Battery::start(Listener::Shipped);
    let key = &battery.key;
    let brand = "acme_live_sk_".len();
    let unknown = {
        // Two halves of two real keys, mended by no checksum.
        let (head, _) = key.split_at(brand + 12);
        let (_, tail) = battery.other.split_at(brand + 12);
        format!("{head}{tail}").into_bytes()
    };
    let cases = [
        unknown,
        replaced(key, brand, '0'),
        replaced(key, brand + 13, '0'),
        replaced(key, brand + 30, '0'),
        replaced(key, key.len() - 1, '0'),
        b"nonsense".to_vec(),
    ];
    let faces: Vec<_> =
        cases.iter().map(|value| public_face(&battery.line("authorization", [b"Bearer ", value.as_slice()].concat()))).collect();
    for face in &faces {
        assert_eq!(face, &faces[0]);
    }
    assert_eq!(faces[0].0, 401);
}

// battery: K6 K7 K9 K10
#[test]
fn blanks_commas_and_odd_bytes_are_never_cut_off() {
    for listener in Listener::BOTH {
        let battery = Battery::start(listener);
        let key = battery.key.as_bytes().to_vec();
        let other = battery.other.as_bytes().to_vec();
        let values = [
            ("a space inside", [&key[..20], b" ", &key[20..]].concat()),
            ("a tab inside", [&key[..20], b"\t", &key[20..]].concat()),
            ("a no-break space after", [&key[..], b"\xc2\xa0"].concat()),
            ("quotes", [b"\"", &key[..], b"\""].concat()),
            ("joined with another", [&key[..], b",", &other[..]].concat()),
            ("joined with nonsense", [&key[..], b", x"].concat()),
            ("a byte that is not UTF-8", [&key[..20], b"\xff", &key[21..]].concat()),
            ("Envoy's sign for such a byte", [&key[..20], b"!", &key[21..]].concat()),
        ];
        battery.assert_all_401(&values, listener);
        for control in [b"\0", b"\x01", b"\x7f"] {
            let reply = battery.line("x-api-key", [&key[..20], control, &key[20..]].concat());
            assert!(matches!(reply.status, 400 | 401), "{control:?}: {reply:?}");
        }
        // What surrounds a value is not part of it.
        assert_eq!(battery.line("x-api-key", [b"  ", &key[..], b" \t "].concat()).status, 200);
    }
}

// battery: K7 H13
// oauth: O13
#[test]
fn a_credential_that_comes_twice_is_refused() {
    for listener in Listener::BOTH {
        let battery = Battery::start(listener);
        let bearer = format!("authorization: Bearer {}", battery.key).into_bytes();
        let second = format!("authorization: Bearer {}", battery.other).into_bytes();
        let api_key = format!("x-api-key: {}", battery.key).into_bytes();
        let other_key = format!("x-api-key: {}", battery.other).into_bytes();
        let twice: [&[&[u8]]; 6] = [
            &[&bearer, &second],
            &[&bearer, &bearer],
            &[&api_key, &api_key],
            &[&bearer, b"authorization: Basic YTpi"],
            &[b"authorization: Basic YTpi", &bearer],
            &[b"authorization: Agent x", &bearer],
        ];
        for lines in twice {
            let reply = battery.raw(TARGET, lines);
            assert_eq!(reply.status, 401, "{listener:?} {}", String::from_utf8_lossy(&lines.join(&b"\n"[..])));
        }
        // Two places with two credentials contradict each other.
        let reply = battery.raw(TARGET, &[&bearer, &other_key]);
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (400, Some("INVALID_REQUEST")), "{listener:?}");
        assert_eq!(battery.scenario.upstream.count(), 0);
    }
}

// battery: K14 K15
// oauth: O9
#[test]
fn a_key_in_the_query_or_a_cookie_opens_nothing_and_is_not_logged() {
    let battery = Battery::start(Listener::Shipped);
    let key = &battery.key;
    let targets = [
        format!("{TARGET}?access_token={key}"),
        format!("{TARGET}?api_key={key}"),
        format!("{TARGET}?access_token={key}&access_token={key}"),
    ];
    for target in &targets {
        assert_eq!(battery.raw(target, &[]).status, 401, "{target}");
    }
    let bearer = format!("authorization: Bearer {key}").into_bytes();
    let both = battery.raw(&targets[0], &[&bearer]);
    assert!(matches!(both.status, 400 | 401), "a token in the query beside one in the header: {both:?}");
    assert_eq!(battery.raw(TARGET, &[format!("cookie: api_key={key}").as_bytes()]).status, 401);
    let said =
        [battery.scenario.tollgate.process.output(), battery.scenario.tollgate.process.errors(), battery.scenario.envoy.process.output()];
    assert!(said.iter().all(|text| !text.contains(key)), "the key is in a log");
    assert_eq!(battery.scenario.upstream.count(), 0);
}

// battery: K24 K25
#[test]
fn what_envoy_does_to_a_header_is_judged_as_it_stands() {
    let battery = Battery::start(Listener::Shipped);
    let key = battery.key.as_bytes();
    // Envoy may delete the carriage return and join the halves: then it is the key, and nothing else can become of it.
    let reply = battery.line("x-api-key", [&key[..20], b"\r", &key[20..]].concat());
    assert!(matches!(reply.status, 200 | 400 | 401), "{reply:?}");
    let reply = battery.line("x-api-key", [&key[..20], b"\rx", &key[20..]].concat());
    assert!(matches!(reply.status, 400 | 401), "{reply:?}");
    let bearer = format!("authorization: Bearer {}", battery.key).into_bytes();
    let reply = battery.raw(TARGET, &[&bearer, b"connection: authorization"]);
    assert_eq!(reply.status, 401, "Envoy drops what `connection` names before it asks: {reply:?}");
}

// battery: H3 H9 H10
#[test]
fn malformed_and_outsized_heads_are_refused_before_anything_else() {
    let battery = Battery::start(Listener::Shipped);
    let bearer = format!("authorization: Bearer {}", battery.key).into_bytes();
    assert_eq!(battery.raw(TARGET, &[&bearer, b"user : mallory"]).status, 400);
    assert_eq!(battery.raw(TARGET, &[&bearer, b"us er: mallory"]).status, 400);
    let many = |count: usize| {
        let lines: Vec<Vec<u8>> = (0..count).map(|number| format!("x-{number}: 1").into_bytes()).collect();
        let mut lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        lines.push(&bearer);
        battery.raw(TARGET, &lines).status
    };
    assert_eq!((many(60), many(120), many(1000)), (200, 431, 431));
    let long = [b"x-long: ".to_vec(), vec![b'a'; 55_000]].concat();
    let reply = battery.raw(TARGET, &[&bearer, &long]);
    assert!(matches!(reply.status, 200 | 400..=499), "{reply:?}");
    assert_eq!(battery.raw(TARGET, &[&bearer]).status, 200, "and the next request is served");
}

/// What the requests of this border's two sides came to: those served are a beginning of the list, and all others are this status.
fn first_refused(replies: &[Reply], status: u16) -> usize {
    let served = replies.iter().take_while(|reply| reply.status == 200).count();
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert!((1..replies.len()).contains(&served) && statuses[served..].iter().all(|refused| *refused == status), "{statuses:?}");
    served
}

// battery: H9
#[test]
fn what_is_beyond_envoys_bounds_with_our_headers_is_refused_before_it_is_counted() {
    let bearer = |battery: &Battery| format!("authorization: Bearer {}", battery.key).into_bytes();
    // From where nobody minds to where Envoy refuses a head by itself, which is 431 as well.
    let ask = |battery: &Battery, target: &str, credential: &[u8]| -> Vec<Reply> {
        let fill = |count: usize| (0..count).map(|number| format!("x-a{number}: b").into_bytes()).collect::<Vec<_>>();
        let heads = (80..105).map(fill);
        heads.map(|fill| battery.raw(target, &fill.iter().map(Vec::as_slice).chain([credential]).collect::<Vec<_>>())).collect()
    };
    let ours = |replies: &[Reply]| replies.iter().filter(|reply| reply.text().contains("HEADERS_TOO_LARGE")).count();
    for listener in Listener::BOTH {
        let battery = Battery::start(listener);
        let keyed = ask(&battery, TARGET, &bearer(&battery));
        let public = ask(&battery, "/public/ping", b"x-b: c");
        let served = [first_refused(&keyed, 431), first_refused(&public, 431)];
        assert!(served[0] < served[1] && ours(&keyed) > 4 && ours(&public) > 0, "a caller's headers take room: {served:?}");
        let count = |number: usize| u64::try_from(number).unwrap();
        assert_eq!((battery.scenario.admitted("alice"), battery.scenario.admitted("anonymous")), (count(served[0]), count(served[1])));

        let long = |spare: usize| [b"x-long: ".to_vec(), vec![b'a'; 60 * 1024 - spare]].concat();
        let lines = bearer(&battery);
        let replies: Vec<Reply> = (0..40).rev().map(|step| battery.raw(TARGET, &[&lines, &long(step * 32)])).collect();
        let long_served = first_refused(&replies, 431);
        assert!(ours(&replies) > 0);
        assert_eq!(battery.scenario.admitted("alice"), count(served[0] + long_served));
        assert_eq!(battery.scenario.upstream.count(), count(served[0] + served[1] + long_served));

        // The border is Envoy's own, from the version on that has one.
        if envoy::asked().is_none_or(|version| envoy::is_since(&version, "1.37")) {
            let raised = "errors: standard\nheader_limits: { max_headers_count: 200, max_request_headers_kb: 96 }\n";
            let battery = Battery::of(listener.plan().tollgate_with("errors: standard\n", raised));
            let keyed = ask(&battery, TARGET, &bearer(&battery));
            let refused = keyed.iter().position(|reply| reply.status != 200);
            assert_eq!((refused, keyed[served[0]].status, ours(&keyed)), (Some(served[0]), 500, 0));
        }
    }
}

// battery: H15
#[test]
fn trailers_carry_no_identity() {
    let battery = Battery::start(Listener::Shipped);
    let authorization = format!("Bearer {}", battery.key);
    let request = http2::request(
        "POST",
        "/api/v1/conversations/7/messages",
        &[("authorization", &authorization), ("content-type", "application/json")],
    );
    let mut trailers = HeaderMap::new();
    trailers.insert("user", HeaderValue::from_static("mallory"));
    trailers.insert("x-org-id", HeaderValue::from_static("mallory"));
    let reply = http2::send(battery.scenario.envoy.port, request, b"{}", Some(trailers));
    assert_eq!(reply.upstream_header("user").as_deref(), Some("alice"), "{}", reply.text());
    assert!(battery.scenario.upstream.last().trailers.is_empty());
    assert!(!reply.text().contains("mallory"), "{}", reply.text());
}

// battery: H18 K19
#[test]
fn guesses_are_limited_by_the_real_address_and_do_not_lock_out_the_known() {
    let battery = Battery::of(Plan::of("quickstart"));
    assert_eq!(battery.line("x-api-key", &battery.key).status, 200);
    let mut statuses = Vec::new();
    for number in 0..200 {
        let key = format!("x-api-key: some-other-systems-key-{number}").into_bytes();
        let forged = format!("x-forwarded-for: 203.0.113.{}", number % 250).into_bytes();
        statuses.push(battery.raw(TARGET, &[&key, &forged]).status);
    }
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    assert_eq!(battery.line("x-api-key", &battery.key).status, 200, "a credential that was proven before passes");
    assert_eq!(battery.raw("/public/ping", &[]).status, 200);
}

// battery: H19
#[test]
fn a_repeated_request_id_is_counted_each_time() {
    let battery = Battery::start(Listener::Shipped);
    let key = format!("x-api-key: {}", battery.key).into_bytes();
    for _ in 0..5 {
        assert_eq!(battery.raw(TARGET, &[&key, b"x-request-id: 3f6d2a54-0000-4000-8000-000000000000"]).status, 200);
    }
    assert_eq!(battery.scenario.admitted("alice"), 5);
    assert_eq!(battery.scenario.upstream.count(), 5);
}
