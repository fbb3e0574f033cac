//! Against real servers.

use super::*;
use crate::store::shared::testing::linked;

static ECHO: Script = Script::new("echo", "#!lua\nreturn {KEYS[1], ARGV[1]}");

#[tokio::test]
async fn a_script_runs_whether_the_server_knows_it_or_not() {
    let (_server, link) = linked();
    for _round in 0..2 {
        let call = Call { script: &ECHO, keys: vec![b"k".to_vec()], args: vec![b"\x00\xff".to_vec()] };
        let answer = link.run(Lane::Checks, call, Duration::from_secs(5)).await.unwrap();
        let expected = vec![Value::BulkString(b"k".to_vec()), Value::BulkString(b"\x00\xff".to_vec())];
        assert_eq!(answer, Value::Array(expected));
    }
}
