use std::sync::mpsc;

use super::*;
use crate::issuer::checks::assert_each_is_needed;

const SETTINGS: issuance::Passwords =
    issuance::Passwords { memory_kib: 8, iterations: 1, workers: 1, waiting: 2, per_address: 30, per_account_and_address: 5 };

// oauth: R11 R12
#[tokio::test]
async fn a_password_is_compared_byte_for_byte_and_its_hash_follows_the_config() {
    let passwords = Passwords::default();
    let long = "\u{1f511}".repeat(256);
    for password in ["correct horse", "nul\0in the middle", "nul\0in the", "Pa\u{df}wort \u{e9}e\u{301}", &long] {
        check_new("password", password).unwrap();
        let stored = passwords.hash(SETTINGS, password.to_owned()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{stored}");
        let compare = |shown: String| passwords.compare(SETTINGS, shown, Some(Arc::clone(&stored)));
        assert_eq!(compare(password.to_owned()).await.unwrap(), Compared::Right);
        assert_eq!(compare(format!("{password}\0")).await.unwrap(), Compared::Wrong);
        assert_eq!(compare(password.chars().skip(1).collect()).await.unwrap(), Compared::Wrong);
        let stronger = issuance::Passwords { iterations: 2, ..SETTINGS };
        let Compared::RightAndOutdated(new) = passwords.compare(stronger, password.to_owned(), Some(Arc::clone(&stored))).await.unwrap()
        else {
            panic!("a weaker hash is outdated");
        };
        assert!(new.starts_with("$argon2id$v=19$m=8,t=2,p=1$"));
        assert_eq!(passwords.compare(stronger, password.to_owned(), Some(new)).await.unwrap(), Compared::Right);
    }
    assert_eq!(passwords.compare(SETTINGS, "x".to_owned(), None).await.unwrap(), Compared::Wrong);
    assert_eq!(passwords.compare(SETTINGS, "x".to_owned(), Some("$argon2id$nonsense".into())).await.unwrap(), Compared::Wrong);
    let long = "x".repeat(1025);
    let rows = [("a shortest password", New("short77")), ("a longest password", New(&long))];
    assert_each_is_needed(|| New::CHECKS, &rows);
    assert!(rows.iter().all(|(_check, new)| check_new("password", new.0).is_err()));
    assert!(check_length("password", &"x".repeat(1024)).is_ok());
}

// oauth: R10
#[tokio::test]
async fn an_overfull_pool_refuses_and_whoever_hung_up_waits_for_nothing() {
    let passwords = Passwords::default();
    let (go, held) = mpsc::channel::<()>();
    let mut blocked = std::pin::pin!(passwords.run(SETTINGS, move || held.recv().is_ok()));
    assert!(futures_util::poll!(&mut blocked).is_pending());
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(passwords.hash(SETTINGS, "correct horse".to_owned()))).collect();
    for future in &mut waiting {
        assert!(futures_util::poll!(future).is_pending());
    }
    let refused = passwords.hash(SETTINGS, "correct horse".to_owned()).await.unwrap_err();
    assert_eq!(refused.code, Code::Unavailable);
    // The step behind that refusal would take it.
    let (answer, surplus) = oneshot::channel();
    lock(&passwords.pool).waiting.push_back(Box::new(Posted { work: || (), answer }));
    drop(waiting.pop());
    let mut late = Box::pin(passwords.hash(issuance::Passwords { waiting: 3, ..SETTINGS }, "correct horse".to_owned()));
    assert!(futures_util::poll!(&mut late).is_pending());
    go.send(()).unwrap();
    assert!(blocked.await.unwrap());
    assert!(surplus.await.is_ok(), "nothing falls without the bound of those that wait");
    assert!(late.await.is_ok());
    for future in waiting {
        assert!(future.await.is_ok());
    }
    assert!(passwords.hash(SETTINGS, "correct horse".to_owned()).await.is_ok(), "the pool starts again");
}

#[tokio::test]
async fn a_job_that_dies_leaves_the_pool_whole() {
    let passwords = Passwords::default();
    assert!(passwords.run(SETTINGS, || panic!("on purpose")).await.map(|(): ()| ()).is_err());
    while lock(&passwords.pool).running > 0 {
        tokio::task::yield_now().await;
    }
    assert!(passwords.hash(SETTINGS, "correct horse".to_owned()).await.is_ok());
}
