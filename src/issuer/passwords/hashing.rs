//! argon2id itself.

use std::sync::Arc;

use argon2::Algorithm;
use argon2::Argon2;
use argon2::Params;
use argon2::PasswordHasher;
use argon2::PasswordVerifier;
use argon2::Version;
use argon2::password_hash;
use argon2::password_hash::phc::Output;
use argon2::password_hash::phc::ParamsString;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::phc::Salt;

use crate::issuer::passwords::Compared;
use crate::model::issuance;

/// Any salt does.
const NOBODYS_SALT: &[u8; 16] = b"nobody's salt 16";

/// The PHC text, with a salt of its own.
pub(super) fn hash(settings: issuance::Passwords, password: &[u8]) -> Result<Arc<str>, password_hash::Error> {
    let hashed: PasswordHash = argon2(settings)?.hash_password(password)?;
    Ok(Arc::from(hashed.to_string()))
}

pub(super) fn compare(settings: issuance::Passwords, password: &[u8], stored: Option<&str>) -> Compared {
    let known = stored.and_then(read);
    let is_same = |with: &PasswordHash| Argon2::default().verify_password(password, with).is_ok();
    let Some(known) = known else {
        // As much work as for somebody.
        std::hint::black_box(nobodys(settings).as_ref().is_ok_and(is_same));
        return Compared::Wrong;
    };
    if !is_same(&known) {
        return Compared::Wrong;
    }
    if is_current(settings, &known) {
        return Compared::Right;
    }
    match hash(settings, password) {
        Ok(stronger) => Compared::RightAndOutdated(stronger),
        Err(_no_randomness) => Compared::Right,
    }
}

fn read(stored: &str) -> Option<PasswordHash> {
    let read = PasswordHash::new(stored);
    if read.is_err() {
        tracing::error!("a stored password hash cannot be read; the account needs a new password");
    }
    read.ok()
}

/// What nobody's password is compared with; it is no password's.
fn nobodys(settings: issuance::Passwords) -> Result<PasswordHash, password_hash::Error> {
    Ok(PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(argon2(settings)?.params())?,
        salt: Some(Salt::new(NOBODYS_SALT)?),
        hash: Some(Output::new(&[0; Params::DEFAULT_OUTPUT_LEN])?),
    })
}

fn argon2(settings: issuance::Passwords) -> Result<Argon2<'static>, password_hash::Error> {
    let params = Params::new(settings.memory_kib, settings.iterations, 1, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Whether a hash was made as the config asks now. Another strength counts as outdated, also a greater one.
fn is_current(settings: issuance::Passwords, known: &PasswordHash) -> bool {
    let is_same = |params: Params| params.m_cost() == settings.memory_kib && params.t_cost() == settings.iterations;
    known.algorithm == Algorithm::Argon2id.ident() && Params::try_from(known).is_ok_and(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    // oauth: R7
    #[test]
    fn nobodys_password_is_really_hashed_and_at_the_strength_of_the_config() {
        let settings =
            issuance::Passwords { memory_kib: 64, iterations: 3, workers: 1, waiting: 0, per_address: 1, per_account_and_address: 1 };
        let nobodys = nobodys(settings).unwrap();
        assert!(is_current(settings, &nobodys));
        // Any other error would come before the work.
        assert_eq!(Argon2::default().verify_password(b"any", &nobodys), Err(password_hash::Error::PasswordInvalid));
        assert_eq!(compare(settings, b"any", None), Compared::Wrong);
    }
}
