//! The SFTP store against a real OpenSSH server: the contract, the append-only account, and cuts in the middle.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use chassis::units::{ByteSize, Span};
use depot::store::sftp::SftpConfig;
use depot::store::{Body, Store, StoreConfig, StoreError};
use tests::servers::process::{run, wait_until};
use tests::servers::sshd::{Account, Login, Sshd};

use crate::contract::{self, FOLDERS, noise};

pub fn open(config: SftpConfig) -> Store {
    Store::open(&StoreConfig { sftp: Some(config), ..StoreConfig::default() }).unwrap()
}

#[test]
fn sftp_keeps_the_contract_by_password() {
    let server = Sshd::start().unwrap();
    contract::check_all_of_keeper(&open(server.config(Account::Normal, Login::Password)));
}

#[test]
fn sftp_keeps_the_contract_by_key_with_one_connection() {
    let server = Sshd::start().unwrap();
    let config = SftpConfig { connections: 1, ..server.config(Account::Normal, Login::Key) };
    contract::check_all_of_keeper(&open(config));
}

#[test]
fn the_append_only_account_keeps_the_contract_and_refuses_the_rest() {
    let server = Sshd::start().unwrap();
    for folder in FOLDERS {
        server.make_folder(Account::AppendOnly, folder).unwrap();
    }
    let store = open(server.config(Account::AppendOnly, Login::Key));
    contract::check_all(&store);

    let denied = |outcome: Result<(), StoreError>| {
        assert!(matches!(outcome, Err(StoreError::Denied { .. })), "{outcome:?}");
    };
    denied(store.delete("basic/some"));
    denied(store.make_folder("other"));
    store.make_folder("basic").unwrap();
    assert_eq!(store.read("basic/some").unwrap(), b"some bytes");
    assert!(try_to_change(&server, "basic/some").iter().all(|done| !done));
    let path = server.folder(Account::AppendOnly).join("basic/some");
    assert_eq!(fs::read(&path).unwrap(), b"some bytes");
    assert!(fs::metadata(path).unwrap().permissions().readonly());
}

/// What an intruder on the agent's host would try, with the stock client.
fn try_to_change(server: &Sshd, name: &str) -> Vec<bool> {
    let file = contract::file_of(b"changed");
    let source = file.path().display();
    let attempts = [
        format!("put {source} depot/{name}"),
        format!("reput {source} depot/{name}"),
        format!("rename depot/{name} depot/other"),
        format!("rename -l depot/{name} depot/other"),
        format!("rm depot/{name}"),
        format!("chmod 0666 depot/{name}"),
        format!("ln depot/{name} depot/basic/link"),
        "ln -s /etc depot/basic/link".to_owned(),
    ];
    attempts.iter().map(|attempt| sftp_does(server, attempt)).collect()
}

fn sftp_does(server: &Sshd, line: &str) -> bool {
    let mut command = Command::new("sftp");
    command.args(["-b", "-", "-o", "BatchMode=yes", "-P", &server.port().to_string()]);
    command.arg("-i").arg(server.key_file());
    command.arg("-o").arg(format!("UserKnownHostsFile={}", server.known_hosts().display()));
    command.arg(format!("{}@127.0.0.1", Account::AppendOnly.user()));
    run(&mut command, &format!("{line}\n")).is_ok()
}

#[test]
fn the_stock_client_can_do_what_is_allowed() {
    // Else the refusals above would prove nothing.
    let server = Sshd::start().unwrap();
    let file = contract::file_of(b"x");
    assert!(sftp_does(&server, &format!("put {} depot/new", file.path().display())));
    assert!(sftp_does(&server, "ls depot"));
}

/// A store whose upload of `BODY_BYTES` takes about four seconds.
fn slow_store(server: &Sshd) -> Store {
    let sftp = server.config(Account::AppendOnly, Login::Key);
    let upload_limit = Some(ByteSize(4 << 20));
    Store::open(&StoreConfig { sftp: Some(sftp), upload_limit, ..StoreConfig::default() }).unwrap()
}

const BODY_BYTES: usize = 16 << 20;

fn size_on_disk(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[test]
fn a_connection_cut_in_the_middle_leaves_a_torn_object_and_the_next_call_works() {
    let server = Sshd::start().unwrap();
    server.make_folder(Account::AppendOnly, "pack").unwrap();
    let store = slow_store(&server);
    store.create("pack/whole", Body::Bytes(b"x")).unwrap();
    let body = noise(BODY_BYTES, 1);
    let torn = server.folder(Account::AppendOnly).join("pack/torn");
    let outcome = std::thread::scope(|scope| {
        let upload = scope.spawn(|| store.create("pack/torn", Body::Bytes(&body)));
        wait_until("is written", || Ok(size_on_disk(&torn) > 0)).unwrap();
        assert!(server.kill_sessions() > 0);
        upload.join().unwrap()
    });
    assert!(matches!(outcome, Err(StoreError::Unreachable { .. })), "{outcome:?}");
    let size = size_on_disk(&torn);
    assert!(size > 0 && size < BODY_BYTES as u64, "{size}");

    // The caller's way out.
    assert_eq!(store.stat("pack/torn").unwrap().unwrap().size, size);
    contract::assert_exists(store.create("pack/torn", Body::Bytes(b"")));
    store.create("pack/torn.1", Body::Bytes(&body[..1 << 20])).unwrap();
    assert!(store.read("pack/torn.1").unwrap() == body[..1 << 20]);
}

#[test]
fn idle_connections_that_were_cut_are_replaced_unnoticed() {
    let mut server = Sshd::start().unwrap();
    let store = open(server.config(Account::Normal, Login::Key));
    for round in 0..3 {
        store.create(&format!("a{round}"), Body::Bytes(b"x")).unwrap();
        server.stop();
        let outcome = store.read("a0");
        assert!(matches!(outcome, Err(StoreError::Unreachable { .. })), "{outcome:?}");
        server.start_again().unwrap();
    }
    assert_eq!(store.list("").unwrap().len(), 3);
    assert!(server.kill_sessions() > 0);
    wait_until("has lost the connection", || Ok(store.stat("a0").is_ok())).unwrap();
}

#[test]
fn a_server_that_keeps_silent_is_given_up_after_the_timeout() {
    let server = Sshd::start().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let store = open(SftpConfig {
        port: listener.local_addr().unwrap().port(),
        timeout: Span::from_secs(1),
        ..server.config(Account::Normal, Login::Key)
    });
    let started = Instant::now();
    let outcome = store.stat("x");
    assert!(matches!(outcome, Err(StoreError::Unreachable { .. })), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn a_connection_that_falls_silent_is_given_up_and_replaced() {
    let server = Sshd::start().unwrap();
    let config = server.config(Account::Normal, Login::Key);
    let store = open(SftpConfig { timeout: Span::from_secs(1), ..config });
    store.create("a", Body::Bytes(b"x")).unwrap();
    assert!(server.freeze_sessions() > 0);
    let started = Instant::now();
    let outcome = store.create("b", Body::Bytes(&noise(8 << 20, 1)));
    assert!(matches!(outcome, Err(StoreError::Unreachable { .. })), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(store.read("a").unwrap(), b"x");
}

#[test]
fn a_full_disk_of_the_server_is_reported() {
    let server = Sshd::start().unwrap();
    server.make_folder(Account::Normal, "pack").unwrap();
    let pack = server.folder(Account::Normal).join("pack");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=4m,mode=0777", "tmpfs"]).arg(&pack);
    run(&mut mount, "").unwrap();
    let store = open(server.config(Account::Normal, Login::Key));
    let outcome = store.create("pack/too-large", Body::Bytes(&noise(8 << 20, 1)));
    let next = store.create("small", Body::Bytes(b"x"));
    run(Command::new("umount").arg("--lazy").arg(&pack), "").unwrap();
    assert!(matches!(outcome, Err(StoreError::Full { .. })), "{outcome:?}");
    next.unwrap();
}

#[test]
fn free_space_is_told_once_there_is_a_depot() {
    let server = Sshd::start().unwrap();
    let store = open(server.config(Account::AppendOnly, Login::Key));
    assert_eq!(store.free_bytes().unwrap(), None);
    store.create("depot.toml", Body::Bytes(b"x")).unwrap();
    assert!(store.free_bytes().unwrap().unwrap() > 1 << 20);
}
