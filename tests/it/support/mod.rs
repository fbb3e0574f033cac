//! What the acceptance tests stand on: processes that end with their owner, and clients that can send what a decent client never would.

pub mod browser;
pub mod certificates;
pub mod chance;
pub mod check_load;
pub mod collector;
pub mod envoy;
pub mod fleet;
pub mod folder;
pub mod frames;
pub mod grpc;
pub mod http1;
pub mod http2;
pub mod issuing;
pub mod jwt;
pub mod load;
pub mod node;
pub mod node_tool;
pub mod ports;
pub mod process;
pub mod prometheus;
#[expect(dead_code, reason = "the library's own tests stand on it too, and use other parts")]
pub mod redis;
pub mod scenario;
pub mod seed;
pub mod tollgate;
pub mod upstream;
#[expect(dead_code, reason = "the library's own tests stand on it too, and use other parts")]
pub mod usage_checker;
