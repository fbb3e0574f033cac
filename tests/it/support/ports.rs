//! Port numbers for servers that cannot tell which one they were given.

use std::net::TcpListener;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

/// Below the range from which the kernel takes the ports of outgoing connections, so that no client of a test can sit on one.
const FIRST: u16 = 16_000;
const COUNT: u16 = 14_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A loopback port on which nobody listens, never handed out twice by this process.
pub fn free_port() -> u16 {
    let start = u16::try_from(std::process::id() % 140).expect("below 140") * 100;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start + step % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT)
}
