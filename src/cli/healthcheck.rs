//! `tollgate healthcheck`: asks the process on this machine whether it is ready; for containers without a shell.

use std::io::Read as _;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::Exit;
use crate::config;

/// An answer that takes longer is no answer.
const TIME_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Ask whether the process of this config is ready: exit 0 when it is, 1 when it is not.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Healthcheck {
    /// The config file, for the address of `listen.ops`.
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.yaml", value_name = "FILE")]
    pub config: PathBuf,
    /// Ask there instead, and read no config.
    #[arg(long)]
    pub address: Option<SocketAddr>,
}

const EXAMPLES: &str = "\
Examples:
  tollgate healthcheck --config /etc/tollgate.yaml
  tollgate healthcheck --address 127.0.0.1:9464";

impl Healthcheck {
    /// # Errors
    /// When `out` cannot be written to.
    pub fn run(&self, out: &mut dyn Write) -> std::io::Result<Exit> {
        let address = match self.address {
            Some(address) => address,
            None => match config::load(&self.config) {
                Ok(loaded) if loaded.boot.ops.tls.is_some() => {
                    writeln!(out, "listen.ops speaks TLS, which this command does not; ask /readyz with your own client")?;
                    return Ok(Exit::Failed);
                }
                Ok(loaded) => reachable(loaded.boot.ops.addr),
                Err(mistakes) => {
                    for mistake in &mistakes {
                        writeln!(out, "{mistake}")?;
                    }
                    return Ok(Exit::Failed);
                }
            },
        };
        match ask(address) {
            Ok(200) => {
                writeln!(out, "ready")?;
                Ok(Exit::Good)
            }
            Ok(status) => {
                writeln!(out, "not ready: {address} answered {status} to /readyz")?;
                Ok(Exit::Failed)
            }
            Err(error) => {
                writeln!(out, "not ready: {address}: {error}")?;
                Ok(Exit::Failed)
            }
        }
    }
}

/// A listener on all addresses is asked on the loopback one.
fn reachable(address: SocketAddr) -> SocketAddr {
    let host = match address.ip() {
        IpAddr::V4(host) if host.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(host) if host.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        host @ (IpAddr::V4(_) | IpAddr::V6(_)) => host,
    };
    SocketAddr::new(host, address.port())
}

fn ask(address: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, TIME_MAX)?;
    stream.set_read_timeout(Some(TIME_MAX))?;
    stream.set_write_timeout(Some(TIME_MAX))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let status = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| digits.parse().ok());
    status.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer is not HTTP"))
}
