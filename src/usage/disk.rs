//! What the ledger asks of its folder: a real disk, real blocks, and to be alone.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::io::Write;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::usage::error::LedgerError;

const LOCK_NAME: &str = "lock";
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

const IN_MEMORY: &str =
    "its counts would be gone with the pod or the machine; mount a disk there (an emptyDir without `medium: Memory`, or a volume)";
const NETWORK: &str =
    "neither its locks nor its mapped memory keep their promises there; mount a disk of this machine, or a block volume, there";

/// File systems that cannot hold a ledger, by the number that the kernel gives them.
const REFUSED: [(u64, &str, &str); 18] = [
    (0x0102_1994, "tmpfs", IN_MEMORY),
    (0x8584_58f6, "ramfs", IN_MEMORY),
    (0x9584_58f6, "hugetlbfs", IN_MEMORY),
    (0x6969, "NFS", NETWORK),
    (0x517b, "SMB", NETWORK),
    (0xfe53_4d42, "SMB2", NETWORK),
    (0xff53_4d42, "CIFS", NETWORK),
    (0x0102_1997, "9P", NETWORK),
    (0x00c3_6400, "CephFS", NETWORK),
    (0x5346_414f, "AFS", NETWORK),
    (0x6b41_4653, "AFS (kAFS)", NETWORK),
    (0x7375_7245, "Coda", NETWORK),
    (0x564c, "NCP", NETWORK),
    (0x0bd0_0bd0, "Lustre", NETWORK),
    (0x0116_1970, "GFS2", NETWORK),
    (0x7461_636f, "OCFS2", NETWORK),
    (0x4750_4653, "GPFS", NETWORK),
    (0x6573_5546, "FUSE", NETWORK),
];

/// Makes the folder if it is missing and refuses file systems that forget or that are not local.
///
/// # Errors
/// [`LedgerError::FileSystem`] by name, or what the system said.
pub(super) fn prepare_folder(folder: &Path) -> Result<(), LedgerError> {
    fs::create_dir_all(folder).map_err(|source| LedgerError::of("make the folder", folder, 0, source))?;
    let facts = rustix::fs::statfs(folder).map_err(|errno| LedgerError::of("examine the file system of", folder, 0, errno.into()))?;
    match refusal(facts.f_type as u64) {
        Some((file_system, advice)) => Err(LedgerError::FileSystem { path: folder.to_path_buf(), file_system, advice }),
        None => Ok(()),
    }
}

/// Why a file system of this number is refused: its name and what to do.
fn refusal(number: u64) -> Option<(&'static str, &'static str)> {
    // Some platforms hand the 32-bit number over sign-extended.
    let number = number & 0xffff_ffff;
    REFUSED.iter().find(|(refused, _, _)| *refused == number).map(|&(_, name, advice)| (name, advice))
}

/// Takes the folder for this process; dropping the file gives it back.
///
/// # Errors
/// [`LedgerError::Locked`] when another process has it.
pub(super) fn lock_folder(folder: &Path) -> Result<File, LedgerError> {
    let path = folder.join(LOCK_NAME);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| LedgerError::of("open the lock", &path, 0, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Locked { path: folder.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(LedgerError::of("lock", &path, 0, source)),
    }
}

/// Makes a file of `bytes` bytes with blocks behind all of them, so that no later store can find the disk full.
pub(super) fn create_filled(path: &Path, bytes: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    loop {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            // Not every file system can set blocks aside; writing them does the same, slower.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut left = bytes;
    while left > 0 {
        let step = left.min(ZEROS.len() as u64);
        file.write_all(ZEROS.get(..usize::try_from(step).unwrap_or(ZEROS.len())).unwrap_or(&ZEROS))?;
        left -= step;
    }
    Ok(file)
}

/// Puts a finished file in its place, so that a crash leaves the old state or the new one.
pub(super) fn install(folder: &Path, from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetful_and_distant_file_systems_are_refused_by_name() {
        for (number, expected) in [
            (0x0102_1994, Some("tmpfs")),
            (0x6969, Some("NFS")),
            (0xff53_4d42, Some("CIFS")),
            (0xffff_ffff_ff53_4d42, Some("CIFS")),
            (0xef53, None),      // ext4
            (0x5846_5342, None), // XFS
            (0x9123_683e, None), // Btrfs
            (0x794c_7630, None), // overlayfs
        ] {
            assert_eq!(refusal(number).map(|(name, _)| name), expected, "{number:#x}");
        }
    }

    #[test]
    fn memory_is_no_disk() {
        let memory = Path::new("/dev/shm");
        let is_memory = rustix::fs::statfs(memory).is_ok_and(|facts| facts.f_type as u64 == 0x0102_1994);
        if is_memory {
            let text = prepare_folder(memory).unwrap_err().to_string();
            assert!(text.contains("tmpfs") && text.contains("mount a disk"), "{text}");
        }
    }
}
