//! Cursors and lines as journalctl prints them, and journalctl itself on whatever journal a file holds.

use super::*;
use crate::spool::Limits;

#[test]
fn the_cursor_of_an_entry_is_found_wherever_it_stands() {
    fn check(entry: &str, expected: Option<&str>) {
        assert_eq!(cursor_of(entry.as_bytes()).as_deref(), expected, "{entry}");
    }
    check(r#"{"__CURSOR":"s=0a;i=1;b=2","MESSAGE":"x"}"#, Some("s=0a;i=1;b=2"));
    check(r#"{"MESSAGE":"x", "__CURSOR" : "s=0a;i=1"}"#, Some("s=0a;i=1"));
    check(r#"{"MESSAGE":"\"__CURSOR\":\"s=9\"","__CURSOR":"s=1"}"#, Some("s=1"));
    check(r#"{"__CURSOR":"s=0a;i=1"#, None);
    check(r#"{"__CURSOR":"--file=/etc/x"}"#, None);
    check(r#"{"MESSAGE":[1,2]}"#, None);
}

#[test]
fn lines_are_cut_at_the_limit_and_the_next_is_whole() {
    let mut lines = Lines { limit: 5, ..Lines::default() };
    let mut found = Vec::new();
    for piece in ["abc", "defg\nh", "i\n\n12345\n"] {
        lines.feed(piece.as_bytes(), &mut |line, cut| {
            found.push((String::from_utf8_lossy(line).into_owned(), cut));
        });
    }
    let expected = [("abcde".to_owned(), 2), ("hi".to_owned(), 0), ("12345".to_owned(), 0)];
    assert_eq!(found, expected);
}

#[test]
fn a_cursor_is_saved_and_one_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load_cursor(dir.path()).unwrap(), None);
    save_cursor(dir.path(), "s=1;i=2").unwrap();
    assert_eq!(load_cursor(dir.path()).unwrap().as_deref(), Some("s=1;i=2"));
    fs::write(dir.path().join(CURSOR_NAME), "logshipd-cursor 2 s=1\n").unwrap();
    assert!(load_cursor(dir.path()).is_err());
}

#[test]
fn the_spool_knows_a_newer_cursor_than_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (hint, _hints) = crossbeam_channel::bounded(1);
    let limits = Limits { bytes: 1 << 20, segment_bytes: 1 << 16 };
    let (inbox, _) = Inbox::open(dir.path(), limits, 1, hint).unwrap();
    for number in 1..4 {
        let entry = format!(r#"{{"__CURSOR":"i={number}","MESSAGE":"x"}}"#);
        assert_eq!(inbox.put(0, 0, entry.as_bytes()), Put::Taken);
    }
    assert!(inbox.commit_with(|_| save_cursor(dir.path(), "i=2")));
    assert_eq!(last_in_spool(&inbox).unwrap().as_deref(), Some("i=3"));
}

/// A journald of our own, in a mount namespace with a `/run` of its own; its journal is in a folder of ours.
const JOURNALD: &str = "set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/journal /run/log/journal
mount --bind \"$1\" /run/log/journal
/lib/systemd/systemd-journald 2>/dev/null & journald=$!
while [ ! -S /run/systemd/journal/socket ]; do sleep 0.05; done
sh || true
kill $journald; wait $journald";

struct Journald {
    shell: Child,
    dir: tempfile::TempDir,
}

impl Journald {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--mount", "sh", "-c", JOURNALD, "sh"]).arg(dir.path());
        Self { shell: command.stdin(Stdio::piped()).spawn().unwrap(), dir }
    }

    /// Has messages written, through one socket and so in this order; `printf` makes its escapes bytes.
    fn say(&mut self, messages: &[String]) {
        use std::io::Write;
        for message in messages {
            let fields = format!(r"SYSLOG_IDENTIFIER=site\nMESSAGE={message}\n");
            let shell = self.shell.stdin.as_mut().unwrap();
            writeln!(shell, "printf '{fields}' | logger --journald").unwrap();
        }
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        drop(self.shell.wait());
    }
}

struct Follower {
    inbox: Arc<Inbox>,
    hints: crossbeam_channel::Receiver<()>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    fn start(journald: &Journald, state_dir: &Path) -> Self {
        let (hint, hints) = crossbeam_channel::bounded(1);
        let limits = Limits { bytes: 16 << 20, segment_bytes: 1 << 16 };
        let (inbox, _) = Inbox::open(state_dir, limits, 1, hint).unwrap();
        let (inbox, stop) = (Arc::new(inbox), Stop::default());
        let options = Options {
            journalctl: "journalctl".into(),
            source: Some(journald.dir.path().to_owned()),
            from_beginning: true,
            entry_bytes: 64 << 10,
            state_dir: state_dir.to_owned(),
        };
        let thread = Some(follow(options, Arc::clone(&inbox), stop.clone()).unwrap());
        Self { inbox, hints, stop, thread }
    }

    /// Entries of our program until the last message is there; all is acknowledged.
    fn until(&self, last: &str) -> Vec<serde_json::Value> {
        let mut found: Vec<serde_json::Value> = Vec::new();
        let started = Instant::now();
        while found.last().is_none_or(|entry| entry["MESSAGE"] != last) {
            let mut newest = 0;
            let mut take = |record: crate::spool::record::Record<'_>| {
                newest = record.sequence;
                let entry: serde_json::Value = serde_json::from_slice(record.message).unwrap();
                if entry["SYSLOG_IDENTIFIER"] == "site" {
                    found.push(entry);
                }
            };
            if self.inbox.read(1 << 16, &mut take).unwrap() > 0 {
                self.inbox.acknowledge(newest).unwrap();
            } else {
                let _ = self.hints.recv_timeout(Duration::from_millis(100));
            }
            assert!(started.elapsed() < Duration::from_mins(1), "no {last} in {found:?}");
        }
        found
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn every_entry_of_a_real_journal_comes_once_also_over_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let mut journald = Journald::start();
    let named = |name: &str| (1..6).map(|n| format!("{name}-{n}")).collect::<Vec<_>>();
    journald.say(&[r"one\001two".to_owned()]);
    journald.say(&named("before"));
    let follower = Follower::start(&journald, state.path());
    let found = follower.until("before-5");
    let bytes: Vec<u8> = serde_json::from_value(found[0]["MESSAGE"].clone()).unwrap();
    assert_eq!(bytes, b"one\x01two");
    let mut messages: Vec<_> = found[1..].iter().map(|entry| entry["MESSAGE"].clone()).collect();
    drop(follower);
    journald.say(&named("between"));
    let follower = Follower::start(&journald, state.path());
    journald.say(&named("after"));
    messages.extend(follower.until("after-5").iter().map(|entry| entry["MESSAGE"].clone()));
    assert_eq!(messages, [named("before"), named("between"), named("after")].concat());
}
