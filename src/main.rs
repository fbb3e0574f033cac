//! Arguments in, exit code out. Everything else is in the library.

use std::io::Write as _;
use std::process::ExitCode;

use tollgate::cli::Arguments;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::read();
    let mut complaints = std::io::stderr();
    match arguments.run(&mut std::io::stdout(), &mut complaints) {
        Ok(exit) => ExitCode::from(exit.code()),
        // Whoever read our output had enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(complaints, "tollgate: {error}");
            ExitCode::FAILURE
        }
    }
}
