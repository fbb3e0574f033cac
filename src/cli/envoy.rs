//! `tollgate envoy`: what stands in front.

use std::io::Write;
use std::path::PathBuf;

use crate::cli::Exit;
use crate::cli::reading::Reading;
use crate::config::bootstrap::init;
use crate::config::bootstrap::init::Front;
use crate::config::bootstrap::init::Upstream;

/// What concerns the Envoy in front.
#[derive(Clone, Debug, clap::Args)]
pub struct Envoy {
    #[command(subcommand)]
    command: EnvoyCommand,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum EnvoyCommand {
    Init(Init),
}

const EXAMPLES: &str = "\
Examples:
  tollgate envoy init > envoy.yaml
  tollgate envoy init --config /etc/tollgate/tollgate.yaml --upstream shop.internal:8080
  tollgate envoy init --port 8000 --admin-port 8001 > envoy.yaml    where 10000 or 9901 is taken
  tollgate check-config --envoy envoy.yaml       after a change of either";

/// Print a complete bootstrap that fits a config: its headers, its address, its issuer.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct Init {
    /// The config file.
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.yaml", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// Your service.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    upstream: Upstream,
    /// Where clients come in, on 127.0.0.1. Default: the port of an `issuer.url` there, or 10000.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Envoy's own admin interface, on 127.0.0.1.
    #[arg(long, value_name = "PORT", default_value_t = init::ADMIN_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    admin_port: u16,
}

impl Envoy {
    /// The bootstrap goes to `out`, mistakes in the config to `complaints`.
    ///
    /// # Errors
    /// When one of the writers cannot be written to.
    pub fn run(self, out: &mut dyn Write, complaints: &mut dyn Write) -> std::io::Result<Exit> {
        let EnvoyCommand::Init(Init { config, reading, upstream, port, admin_port }) = self.command;
        match reading.load(&config) {
            Ok(loaded) => {
                let port = port.unwrap_or_else(|| init::port(&loaded.rules));
                let front = Front { upstream, port, admin_port };
                if let Some(clash) = front.clash(&loaded.boot) {
                    writeln!(complaints, "tollgate envoy init: {clash}")?;
                    return Ok(Exit::Usage);
                }
                let text = init::write(&config.display().to_string(), &loaded.boot, &loaded.rules, &front);
                out.write_all(text.as_bytes())?;
                Ok(Exit::Good)
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    writeln!(complaints, "{mistake}")?;
                }
                Ok(Exit::Failed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Arguments;
    use crate::cli::Exit;

    #[test]
    fn a_port_is_one_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tollgate.yaml");
        std::fs::write(&path, "routes: [{ path: /a }]\n").unwrap();
        let run = |flags: &[&str]| {
            let line = ["tollgate", "envoy", "init", "--config", path.to_str().unwrap()];
            let arguments = Arguments::try_parse_from(line.iter().chain(flags)).ok()?;
            let (mut out, mut complaints) = (Vec::new(), Vec::new());
            let exit = arguments.run(&mut out, &mut complaints).unwrap();
            Some((exit, String::from_utf8(out).unwrap(), String::from_utf8(complaints).unwrap()))
        };
        for flags in [["--port", "0"], ["--admin-port", "0"], ["--port", "65536"], ["--admin-port", "a"]] {
            assert_eq!(run(&flags), None, "{flags:?}");
        }
        let (exit, out, complaints) = run(&["--port", "9901"]).unwrap();
        let said = "tollgate envoy init: --port 9901 is the port of --admin-port too: choose another\n";
        assert_eq!((exit, &*out, &*complaints), (Exit::Usage, "", said));
        let (exit, out, complaints) = run(&["--port", "8000", "--admin-port", "8001"]).unwrap();
        assert_eq!((exit, &*complaints), (Exit::Good, ""));
        assert!(out.contains("port_value: 8000 ") && out.contains("port_value: 8001 ") && !out.contains("port_value: 10000"), "{out}");
    }
}
