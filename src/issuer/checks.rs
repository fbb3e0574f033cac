//! Guards as lists of named checks, so that a test can leave one out and show what then gets through. Nothing in the product does.

#[cfg(test)]
use std::collections::BTreeSet;

/// One thing that must hold of a subject.
pub(in crate::issuer) struct Check<T, E = Unmet> {
    pub(in crate::issuer) name: &'static str,
    pub(in crate::issuer) run: fn(&T) -> Result<(), E>,
}

/// It does not hold, and there is no more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::issuer) struct Unmet;

pub(in crate::issuer) fn hold(holds: bool) -> Result<(), Unmet> {
    if holds { Ok(()) } else { Err(Unmet) }
}

/// Runs a list in its order; the first that refuses ends it.
pub(in crate::issuer) fn run<T, E>(checks: &[Check<T, E>], subject: &T) -> Result<(), E> {
    for check in checks {
        #[cfg(test)]
        if left_out::is(check.name) {
            continue;
        }
        (check.run)(subject).inspect_err(|_refusal| tracing::debug!(check = check.name, "refused"))?;
    }
    Ok(())
}

/// The names of a list.
#[cfg(test)]
pub(in crate::issuer) fn names<T, E>(checks: &[Check<T, E>]) -> Vec<&'static str> {
    checks.iter().map(|check| check.name).collect()
}

/// Of each case: the list refuses it, and without the check that it names nothing does. And there is a case for every check.
#[cfg(test)]
pub(in crate::issuer) fn assert_each_is_needed<T, E, const N: usize>(checks: impl Fn() -> [Check<T, E>; N], cases: &[(&str, T)]) {
    for (name, hostile) in cases {
        assert!(run(&checks(), hostile).is_err(), "let through, although it is not so that {name}");
        let others: Vec<Check<T, E>> = checks().into_iter().filter(|check| check.name != *name).collect();
        let passes = others.iter().find(|check| (check.run)(hostile).is_err());
        assert_eq!(passes.map(|check| check.name), None, "refuses too what is refused because it is not so that {name}");
    }
    let shown: BTreeSet<&str> = cases.iter().map(|(name, _)| *name).collect();
    assert_eq!(shown, checks().iter().map(|check| check.name).collect());
}

/// The one check that this test's endpoints do without. Outside of tests there is no such thing.
#[cfg(test)]
pub(in crate::issuer) mod left_out {
    use std::cell::Cell;

    thread_local! {
        static NAME: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// From now on until this is dropped.
    pub(in crate::issuer) struct LeftOut;

    pub(in crate::issuer) fn leave_out(name: &'static str) -> LeftOut {
        NAME.set(Some(name));
        LeftOut
    }

    impl Drop for LeftOut {
        fn drop(&mut self) {
            NAME.set(None);
        }
    }

    pub(super) fn is(name: &str) -> bool {
        NAME.get() == Some(name)
    }
}
