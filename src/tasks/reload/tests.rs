use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_000);
const LATER: Timestamp = Timestamp::from_unix_seconds(2_000);

fn text(route: &str) -> String {
    format!("routes:\n  - path: /{route}\n    name: {route}\n")
}

struct Bench {
    folder: TempDir,
    reload: Reload,
    rules: Arc<ArcSwap<Rules>>,
    status: Arc<ReloadStatus>,
}

impl Bench {
    /// A config in force; `prepare` puts the files there and names the config.
    fn new(prepare: impl FnOnce(&Path) -> PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = prepare(folder.path());
        let (loaded, watched) = config::load_watched(&path);
        let mut loaded = loaded.unwrap();
        let status = Arc::new(ReloadStatus::new(Arc::clone(&loaded.rules.revision), NOW));
        let in_force = std::mem::replace(&mut loaded.rules, config::load(&path).unwrap().rules);
        let rules = Arc::new(ArcSwap::from_pointee(in_force));
        let reload = Reload::new(path, loaded.boot, watched, Arc::clone(&rules), Arc::clone(&status));
        Self { folder, reload, rules, status }
    }

    fn plain() -> Self {
        Self::new(|folder| write(folder, "tollgate.yaml", &text("first")))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        write(self.folder.path(), name, text)
    }

    /// The route that is in force.
    fn route(&self) -> String {
        self.rules.load().routes[0].name.to_string()
    }

    /// Looks until nothing changes any more, and says what the last look that did something came to.
    fn settle(&mut self) -> Looked {
        let mut last = Looked::Unchanged;
        for _ in 0..5 {
            match self.reload.poll_once(LATER) {
                Looked::Unchanged => return last,
                looked @ (Looked::Changed | Looked::Reloaded { .. } | Looked::Refused(_)) => last = looked,
            }
        }
        panic!("the files are still, and the looks are not: {last:?}");
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn nothing_happens_while_nothing_changes() {
    let mut bench = Bench::plain();
    let before = bench.rules.load_full();
    // The same content, written anew: no reload.
    bench.write("tollgate.yaml", &text("first"));
    assert_eq!(bench.reload.poll_once(LATER), Looked::Unchanged);
    assert!(Arc::ptr_eq(&before, &bench.rules.load_full()));
    assert_eq!(bench.status.report().successes, 0);
}

// battery: C10
#[test]
fn a_change_is_taken_when_it_was_seen_twice() {
    let mut bench = Bench::plain();
    bench.write("tollgate.yaml", &text("second"));
    assert_eq!(bench.reload.poll_once(LATER), Looked::Changed);
    assert_eq!(bench.route(), "first");
    // Still being written: the half that is there now would be a good config of its own.
    bench.write("tollgate.yaml", &format!("{}  - path: /third\n", text("second")));
    assert_eq!(bench.reload.poll_once(LATER), Looked::Changed);
    assert_eq!(bench.route(), "first");
    assert!(matches!(bench.reload.poll_once(LATER), Looked::Reloaded { .. }));
    assert_eq!(bench.rules.load().routes.len(), 2);
    let report = bench.status.report();
    assert_eq!((report.successes, report.failures, report.last_ok), (1, 0, LATER));
    assert_eq!(report.revision, bench.rules.load().revision);
    assert_eq!(bench.reload.poll_once(LATER), Looked::Unchanged);
}

// battery: C10
#[test]
fn whatever_becomes_of_the_file_whole_rules_stay_in_force() {
    type Spoil = fn(&Bench);
    let cases: [(&str, Spoil); 7] = [
        ("half written", |bench| drop(bench.write("tollgate.yaml", "routes:\n  - path: /sec"))),
        ("cut in a bracket", |bench| drop(bench.write("tollgate.yaml", "routes: [{ path: /second"))),
        ("empty", |bench| drop(bench.write("tollgate.yaml", ""))),
        ("not text", |bench| std::fs::write(bench.folder.path().join("tollgate.yaml"), [0xff, 0xfe, 0x00]).unwrap()),
        ("deleted", |bench| std::fs::remove_file(bench.folder.path().join("tollgate.yaml")).unwrap()),
        ("a folder", |bench| {
            std::fs::remove_file(bench.folder.path().join("tollgate.yaml")).unwrap();
            std::fs::create_dir(bench.folder.path().join("tollgate.yaml")).unwrap();
        }),
        ("a link to nothing", |bench| {
            std::fs::remove_file(bench.folder.path().join("tollgate.yaml")).unwrap();
            std::os::unix::fs::symlink("nowhere", bench.folder.path().join("tollgate.yaml")).unwrap();
        }),
    ];
    for (case, spoil) in cases {
        let mut bench = Bench::plain();
        spoil(&bench);
        // A half-written path is a good path; everything else is refused.
        let looked = bench.settle();
        if case == "half written" {
            assert!(matches!(looked, Looked::Reloaded { .. }), "{case}: {looked:?}");
            continue;
        }
        let Looked::Refused(complaints) = looked else { panic!("{case}: {looked:?}") };
        assert!(!complaints.is_empty(), "{case}");
        assert_eq!(bench.route(), "first", "{case}");
        let report = bench.status.report();
        assert_eq!((report.failures, report.last_ok), (1, NOW), "{case}");
        assert!(report.last_error.unwrap().contains("tollgate.yaml"), "{case}");
        // Said once, not at every look.
        assert_eq!(bench.reload.poll_once(LATER), Looked::Unchanged, "{case}");
        // And back.
        let path = bench.folder.path().join("tollgate.yaml");
        let _ = std::fs::remove_dir(&path).or_else(|_| std::fs::remove_file(&path));
        bench.write("tollgate.yaml", &text("first"));
        assert!(matches!(bench.settle(), Looked::Reloaded { .. }), "{case}");
        assert_eq!(bench.status.report().last_error, None, "{case}");
    }
}

// battery: C10
#[test]
fn a_right_that_is_taken_away_changes_nothing() {
    let mut bench = Bench::plain();
    let path = bench.folder.path().join("tollgate.yaml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Who runs as root may read it all the same, and then nothing has changed.
    let readable = std::fs::File::open(&path).is_ok();
    let looked = bench.settle();
    assert_eq!(matches!(looked, Looked::Refused(_)), !readable, "{looked:?}");
    assert_eq!(bench.route(), "first");
}

// battery: C10
#[test]
fn a_rename_and_the_links_of_a_config_map_are_seen() {
    let mut bench = Bench::plain();
    let new = bench.write("tollgate.yaml.new", &text("renamed"));
    std::fs::rename(new, bench.folder.path().join("tollgate.yaml")).unwrap();
    assert!(matches!(bench.settle(), Looked::Reloaded { .. }));
    assert_eq!(bench.route(), "renamed");

    let mut bench = Bench::new(|folder| {
        write(folder, "..v1/tollgate.yaml", &text("v1"));
        std::os::unix::fs::symlink("..v1", folder.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/tollgate.yaml", folder.join("tollgate.yaml")).unwrap();
        folder.join("tollgate.yaml")
    });
    assert_eq!(bench.route(), "v1");
    bench.write("..v2/tollgate.yaml", &text("v2"));
    std::os::unix::fs::symlink("..v2", bench.folder.path().join("..data.new")).unwrap();
    std::fs::rename(bench.folder.path().join("..data.new"), bench.folder.path().join("..data")).unwrap();
    std::fs::remove_dir_all(bench.folder.path().join("..v1")).unwrap();
    assert!(matches!(bench.settle(), Looked::Reloaded { .. }));
    assert_eq!(bench.route(), "v2");
}

// battery: C10
#[test]
fn a_thousand_reloads_leave_a_whole_config_each_time() {
    let mut bench = Bench::plain();
    let mut revisions = std::collections::BTreeSet::new();
    for round in 0..1_000 {
        bench.write("tollgate.yaml", &text(&format!("r{round}")));
        assert!(matches!(bench.reload.read_now(LATER), Looked::Reloaded { .. }));
        assert_eq!(bench.route(), format!("r{round}"));
        revisions.insert(bench.rules.load().revision.to_string());
    }
    assert_eq!(revisions.len(), 1_000);
    assert_eq!(bench.status.report().successes, 1_000);
}

#[test]
fn files_that_the_config_names_reload_too() {
    let config = "peppers:\n  - { id: p1, secret: { file: pepper } }\nkeys_file: keys.yaml\nroutes:\n  - { path: /a }\n";
    let key = |id: &str| format!("- {{ id: {id}, user: alice, hash: \"hmac-sha256:p1:{}\" }}\n", "ab".repeat(32));
    let mut bench = Bench::new(|folder| {
        write(folder, "pepper", &"p".repeat(32));
        write(folder, "keys.yaml", &key("aaaaaaaaaaaa"));
        write(folder, "tollgate.yaml", config)
    });
    let before = Arc::clone(&bench.rules.load().revision);
    bench.write("keys.yaml", &key("bbbbbbbbbbbb"));
    assert!(matches!(bench.settle(), Looked::Reloaded { .. }));
    assert!(bench.rules.load().file_keys.contains_key("bbbbbbbbbbbb"));
    assert_ne!(before, bench.rules.load().revision);

    bench.write("keys.yaml", "- { id: cccccccccccc }\n");
    assert!(matches!(bench.settle(), Looked::Refused(_)));
    assert!(bench.rules.load().file_keys.contains_key("bbbbbbbbbbbb"));

    bench.write("keys.yaml", &key("dddddddddddd"));
    bench.write("pepper", &"q".repeat(40));
    let Looked::Reloaded { restart_needed, .. } = bench.settle() else { panic!("the keys are good again") };
    assert_eq!(restart_needed, ["peppers"]);
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_taken() {
    let mut bench = Bench::plain();
    let doors = "listen: { check: 127.0.0.1:9292 }\nlifecycle: { grace: 7s }\n";
    bench.write("tollgate.yaml", &format!("{doors}{}", text("second")));
    let Looked::Reloaded { restart_needed, .. } = bench.settle() else { panic!("the file is good") };
    assert_eq!(restart_needed, ["listen.check", "lifecycle.grace"]);
    assert_eq!(bench.status.report().restart_needed, restart_needed);
    assert_eq!(bench.route(), "second");
}

#[tokio::test]
async fn a_hangup_reads_at_once_and_the_end_is_heard() {
    let bench = Bench::plain();
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let clock = Arc::new(crate::clock::ManualClock::starting_at(LATER));
    let path = bench.write("tollgate.yaml", &text("second"));
    assert!(path.exists());
    let task = tokio::spawn(run(bench.reload, clock, move |looked: &Looked| told.send(looked.clone()).unwrap(), shutdown.clone()));
    // With a listener of its own the test cannot be ended by the signal, however early it comes.
    let _listener = tokio::signal::unix::signal(SignalKind::hangup()).unwrap();
    let looked = loop {
        tokio::task::yield_now().await;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
        if let Ok(looked) = hears.try_recv() {
            break looked;
        }
    };
    assert!(matches!(looked, Looked::Reloaded { .. }), "{looked:?}");
    shutdown.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(bench.rules.load().routes[0].name.as_ref(), "second");
}
