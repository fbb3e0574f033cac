//! Any bytes are a request or a denial; decoding twice says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::grpc::decode::Message;

fuzz_target!(|bytes: &[u8]| {
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    let first = Message::read(bytes.clone());
    let second = Message::read(bytes);
    assert_eq!(first.is_ok(), second.is_ok());
    if let (Ok(first), Ok(second)) = (first, second) {
        let path = |message: &Message| message.request().map(|request| request.path.as_str().to_owned());
        assert_eq!(path(&first), path(&second));
        if let Ok(request) = first.request() {
            let _ = (request.is_grpc(), request.upgrade(), request.client_address(2));
        }
    }
});
