//! argon2id itself.

use std::sync::Arc;

use argon2::Algorithm;
use argon2::Argon2;
use argon2::Params;
use argon2::PasswordHasher;
use argon2::PasswordVerifier;
use argon2::Version;
use argon2::password_hash;
use argon2::password_hash::phc::PasswordHash;

use crate::issuer::passwords::Compared;
use crate::model::issuance;

/// What nobody's password is compared with: any salt does.
const NOBODYS_SALT: &[u8; 16] = b"nobody's salt 16";

/// The PHC text, with a salt of its own.
pub(super) fn hash(settings: issuance::Passwords, password: &[u8]) -> Result<Arc<str>, password_hash::Error> {
    let hashed: PasswordHash = argon2(settings)?.hash_password(password)?;
    Ok(Arc::from(hashed.to_string()))
}

pub(super) fn compare(settings: issuance::Passwords, password: &[u8], stored: Option<&str>) -> Compared {
    let Some(stored) = stored else {
        waste(settings, password);
        return Compared::Wrong;
    };
    let Ok(known) = PasswordHash::new(stored) else {
        tracing::error!("a stored password hash cannot be read; the account needs a new password");
        waste(settings, password);
        return Compared::Wrong;
    };
    if Argon2::default().verify_password(password, &known).is_err() {
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

/// The time of a comparison, for nothing.
fn waste(settings: issuance::Passwords, password: &[u8]) {
    let spent: Result<PasswordHash, _> = argon2(settings).and_then(|argon2| argon2.hash_password_with_salt(password, NOBODYS_SALT));
    std::hint::black_box(spent.is_ok());
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
