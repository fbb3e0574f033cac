use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use proptest::prelude::*;
use prost::Message as _;

use crate::check::decide::Particulars;
use crate::check::reasons::Reason;
use crate::grpc::decode::Message;
use crate::grpc::testing::http_of;
use crate::grpc::testing::message;
use crate::grpc::testing::raw_message;
use crate::grpc::testing::wrap;
use crate::grpc::wire;
use crate::model::request::Single;

fn refusal_of(bytes: impl Into<Bytes>) -> Option<Reason> {
    match Message::read(bytes.into()) {
        Ok(message) => message.request().err().map(|denial| denial.reason),
        Err(denial) => Some(denial.reason),
    }
}

fn encoded(message: &CheckRequest) -> Bytes {
    message.encode_to_vec().into()
}

#[test]
fn both_forms_of_headers_read_the_same() {
    let headers = [("x-api-key", "k"), ("content-type", "application/grpc+proto")];
    for message in [message("/a?b=c", &headers), raw_message("/a?b=c", &headers)] {
        let message = Message::read(encoded(&message)).unwrap();
        assert!(message.is_grpc());
        let request = message.request().unwrap();
        assert_eq!(request.headers.single("x-api-key"), Single::Once(b"k"));
        assert_eq!(request.path.as_str(), "/a");
        assert_eq!(request.query, Some("b=c"));
        assert_eq!(request.peer_address, Some("192.0.2.7".parse().unwrap()));
        assert_eq!((request.principal, request.chosen_route), (None, None));
    }
    // No headers at all: fine, and no credential.
    let bare = Message::read(encoded(&message("/a", &[]))).unwrap();
    assert_eq!(bare.request().unwrap().headers.iter().count(), 0);
}

#[test]
fn principal_and_route_come_from_envoy_alone() {
    let mut message = message("/a", &[]);
    let attributes = message.attributes.as_mut().unwrap();
    attributes.source.as_mut().unwrap().principal = String::from("spiffe://example/ns/a");
    attributes.context_extensions.insert(String::from("route"), String::from("admin"));
    let message = Message::read(encoded(&message)).unwrap();
    let request = message.request().unwrap();
    assert_eq!(request.principal, Some("spiffe://example/ns/a"));
    assert_eq!(request.chosen_route, Some("admin"));
}

// battery: G2
#[test]
fn a_message_without_a_request_is_a_denial() {
    let empty = CheckRequest::default();
    let no_request = CheckRequest { attributes: Some(Default::default()) };
    let mut no_http = message("/a", &[]);
    no_http.attributes.as_mut().unwrap().request.as_mut().unwrap().http = None;
    for message in [empty, no_request, no_http] {
        assert_eq!(refusal_of(encoded(&message)), Some(Reason::MalformedMessage), "{message:?}");
    }
    assert_eq!(refusal_of(encoded(&wrap(Default::default()))), Some(Reason::BadMethod));
    // A field that nobody knows is skipped, as in every protobuf.
    let mut unknown = message("/a", &[]).encode_to_vec();
    unknown.extend_from_slice(&[0xfa, 0x3f, 0x01, 0x00]);
    assert_eq!(refusal_of(unknown), None);
}

// battery: H12 H9
#[test]
fn headers_with_two_meanings_or_without_bound_are_denials() {
    let mut both = raw_message("/a", &[("a", "1")]);
    http_of(&mut both).headers.insert(String::from("a"), String::from("1"));
    let mut differing = raw_message("/a", &[("x-api-key", "mine")]);
    http_of(&mut differing).header_map.as_mut().unwrap().headers[0].value = String::from("other");
    let mut same = raw_message("/a", &[("x-api-key", "mine")]);
    http_of(&mut same).header_map.as_mut().unwrap().headers[0].value = String::from("mine");
    let many: Vec<(&str, &str)> = (0..1025).map(|_| ("a", "b")).collect();
    let bounded: Vec<(&str, &str)> = (0..1024).map(|_| ("a", "b")).collect();
    let long = "x".repeat(193 * 1024);
    let table = [
        (both, true),
        (differing, true),
        (same, false),
        (raw_message("/a", &many), true),
        (raw_message("/a", &bounded), false),
        (message("/a", &[("a", &long)]), true),
        (message("/a", &[("X-Api-Key", "k")]), true),
        (message("/a", &[("", "k")]), true),
        (message("/a", &[("a b", "k")]), true),
    ];
    for (message, is_refused) in table {
        assert_eq!(refusal_of(encoded(&message)).is_some(), is_refused);
    }
}

#[test]
fn a_refused_part_is_named() {
    let message = message("/a/../b", &[]);
    let message = Message::read(encoded(&message)).unwrap();
    let denial = message.request().unwrap_err();
    assert_eq!(denial.reason, Reason::BadPath);
    assert!(matches!(denial.particulars, Particulars::Field { field: "path", .. }), "{denial:?}");
}

// battery: G3
#[test]
fn metadata_nested_without_end_costs_no_stack() {
    // One Struct inside the other, written from the inside out.
    let mut nested = Vec::new();
    for _ in 0..2_000 {
        let mut outer = Vec::with_capacity(nested.len() + 8);
        outer.push(0x0a);
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.append(&mut nested);
        nested = outer;
    }
    let mut attributes = message("/a", &[]).attributes.unwrap().encode_to_vec();
    attributes.push(0x5a);
    prost::encoding::encode_varint(nested.len() as u64, &mut attributes);
    attributes.append(&mut nested);
    let mut message = vec![0x0a];
    prost::encoding::encode_varint(attributes.len() as u64, &mut message);
    message.append(&mut attributes);
    assert!(message.len() > 2_000);
    assert_eq!(refusal_of(message), None);

    // Groups are the one thing that a skipping reader descends into.
    let groups = vec![0x0b_u8; 100_000];
    assert_eq!(refusal_of(groups), Some(Reason::MalformedMessage));
}

prop_compose! {
    fn any_message()(
        method in "[A-Z]{0,8}",
        path in "/[a-z?=/%]{0,20}",
        host in "[a-z.:0-9]{0,20}",
        joined in proptest::collection::hash_map("[a-z-]{1,10}", "\\PC{0,20}", 0..8),
        raw in proptest::collection::vec(("[a-z-]{1,10}", "\\PC{0,10}", proptest::collection::vec(any::<u8>(), 0..10)), 0..8),
        extensions in proptest::collection::hash_map("[a-z]{1,6}", "[a-z]{0,6}", 0..4),
        principal in "[a-z:/]{0,20}",
        body in "\\PC{0,50}",
        size in any::<i64>(),
    ) -> CheckRequest {
        let mut message = message(&path, &[]);
        {
            let http = http_of(&mut message);
            http.method = method;
            http.host = host;
            http.headers = joined;
            http.body = body;
            http.size = size;
            let headers = raw.into_iter().map(|(key, value, raw_value)| {
                envoy_types::pb::envoy::config::core::v3::HeaderValue { key, value, raw_value }
            });
            http.header_map = Some(envoy_types::pb::envoy::config::core::v3::HeaderMap { headers: headers.collect() });
        }
        let attributes = message.attributes.as_mut().unwrap();
        attributes.context_extensions = extensions;
        attributes.source.as_mut().unwrap().principal = principal;
        message
    }
}

proptest! {
    #[test]
    fn the_lean_reader_reads_what_the_full_one_reads(message in any_message()) {
        let lean = wire::CheckRequest::decode(encoded(&message)).unwrap();
        let lean_attributes = lean.attributes.unwrap();
        let attributes = message.attributes.unwrap();
        let lean_http = lean_attributes.request.unwrap().http.unwrap();
        let http = attributes.request.unwrap().http.unwrap();
        let source = attributes.source.unwrap();
        prop_assert_eq!(&lean_http.method[..], http.method.as_bytes());
        prop_assert_eq!(&lean_http.path[..], http.path.as_bytes());
        prop_assert_eq!(&lean_http.host[..], http.host.as_bytes());
        let lean_source = lean_attributes.source.unwrap();
        prop_assert_eq!(&lean_source.principal[..], source.principal.as_bytes());
        prop_assert_eq!(&lean_source.address.unwrap().socket_address.unwrap().address[..], b"192.0.2.7");
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let as_map = |entries: &[wire::MapEntry]| entries.iter().map(|entry| (text(&entry.key), text(&entry.value))).collect::<std::collections::HashMap<_, _>>();
        prop_assert_eq!(as_map(&lean_http.headers), http.headers);
        prop_assert_eq!(as_map(&lean_attributes.context_extensions), attributes.context_extensions);
        let lean_raw = lean_http.header_map.unwrap().headers;
        let raw = http.header_map.unwrap().headers;
        prop_assert_eq!(lean_raw.len(), raw.len());
        for (lean, full) in lean_raw.iter().zip(&raw) {
            prop_assert_eq!((&lean.key[..], &lean.value[..], &lean.raw_value[..]), (full.key.as_bytes(), full.value.as_bytes(), &full.raw_value[..]));
        }
    }

    // battery: G1
    #[test]
    fn no_bytes_bring_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = refusal_of(bytes);
    }

    // battery: G1
    #[test]
    fn no_damage_to_a_message_brings_a_panic(message in any_message(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = message.encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = refusal_of(bytes.clone());
        bytes.truncate(cut.index(bytes.len()));
        let _ = refusal_of(bytes);
    }
}
