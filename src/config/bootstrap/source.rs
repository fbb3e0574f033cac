//! Where what stands in front is read from: a file, a pipe, or standard input.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use crate::config::outside::Trouble;
use crate::config::outside::read_file;
use crate::config::yaml::LARGEST_FILE_BYTES;

/// How it is called in findings.
pub fn name_of(path: &Path) -> String {
    if is_standard_input(path) { "standard input".to_owned() } else { path.display().to_string() }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    if is_standard_input(path) {
        return drain(std::io::stdin().lock());
    }
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_fifo() => drain(File::open(path)?),
        Ok(_) | Err(_) => read_file(path).map(|contents| contents.bytes.to_vec()),
    }
}

fn is_standard_input(path: &Path) -> bool {
    [Path::new("-"), Path::new("/dev/stdin")].contains(&path)
}

/// Everything until the other end is closed, and no more than a file may have.
fn drain(from: impl Read) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    from.take(u64::try_from(LARGEST_FILE_BYTES + 1).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    if bytes.len() > LARGEST_FILE_BYTES { Err(Trouble::TooLarge) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_pipe_is_read_to_its_end_and_not_beyond_the_bound() {
        for (length, expected) in [(5, Ok(5)), (LARGEST_FILE_BYTES + 1024 * 1024, Err(Trouble::TooLarge))] {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let writing = std::thread::spawn(move || writer.write_all(&vec![b'a'; length]));
            let read = read(Path::new(&format!("/dev/fd/{}", reader.as_raw_fd())));
            assert_eq!(read.map(|bytes| bytes.len()), expected);
            // Nobody reads what is beyond the bound.
            drop(reader);
            assert_eq!(writing.join().unwrap().is_ok(), expected.is_ok());
        }
    }

    #[test]
    fn what_is_neither_a_file_nor_a_pipe_is_not_opened() {
        assert_eq!(read(Path::new("/dev/null")), Err(Trouble::NotRegular));
        assert_eq!(read(Path::new("/nowhere")), Err(Trouble::Missing));
        assert_eq!(["-", "/dev/stdin", "./-"].map(|path| name_of(Path::new(path))), ["standard input", "standard input", "./-"]);
    }
}
