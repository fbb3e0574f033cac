//! What the acceptance tests stand on: processes that end with their owner, and clients that can send what a decent client never would.

pub mod envoy;
pub mod folder;
pub mod frames;
pub mod grpc;
pub mod http1;
pub mod http2;
pub mod jwt;
pub mod load;
pub mod node;
pub mod ports;
pub mod process;
pub mod scenario;
pub mod tollgate;
pub mod upstream;
