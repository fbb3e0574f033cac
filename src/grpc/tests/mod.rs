//! The door from outside: real gRPC over real sockets, and the bytes on the wire.

mod answers;
mod calls;
mod limits;
mod messages;
mod traces;
