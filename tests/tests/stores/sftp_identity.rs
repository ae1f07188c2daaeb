//! Who the SSH server is, and who we are: host keys, passwords, keys, agents.

use std::fs;
use std::path::Path;

use depot::store::sftp::SftpConfig;
use depot::store::{Body, Store, StoreConfig, StoreError};
use tests::servers::process::run;
use tests::servers::sshd::{Account, Agent, Login, Sshd};

use crate::sftp::open;

/// What the user is told when the server or the account is refused.
#[track_caller]
fn refused(config: SftpConfig) -> (String, String) {
    match open(config).list("") {
        Err(StoreError::Refused { what, hint }) => (what, hint),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_way_to_log_in_works() {
    let server = Sshd::start().unwrap();
    let agent = Agent::start(Some(&server.key_file())).unwrap();
    for login in [Login::Password, Login::Key, Login::LockedKey, Login::Agent(&agent)] {
        let store = open(server.config(Account::AppendOnly, login));
        assert_eq!(store.list("").unwrap(), [], "{login:?}");
    }
}

#[test]
fn an_unknown_host_key_is_refused_with_its_fingerprint() {
    let server = Sshd::start().unwrap();
    let empty = tempfile::NamedTempFile::new().unwrap();
    for known_hosts in [empty.path(), Path::new("/nowhere/known_hosts")] {
        let (what, hint) = refused(SftpConfig {
            known_hosts: Some(known_hosts.to_owned()),
            ..server.config(Account::Normal, Login::Password)
        });
        assert!(what.contains("unknown: ssh-ed25519 SHA256:"), "{what}");
        let port = server.port();
        assert!(hint.contains(&format!("ssh-keyscan -p {port} 127.0.0.1 >> ")), "{hint}");
    }
}

#[test]
fn the_advised_command_makes_the_host_known() {
    let server = Sshd::start().unwrap();
    let port = server.port().to_string();
    let mut command = std::process::Command::new("ssh-keyscan");
    let keys = run(command.args(["-p", &port, "127.0.0.1"]), "").unwrap();
    let file = crate::contract::file_of(keys.as_bytes());
    let config = SftpConfig {
        known_hosts: Some(file.path().to_owned()),
        ..server.config(Account::Normal, Login::Password)
    };
    open(config.clone()).list("").unwrap();
    let mut command = std::process::Command::new("ssh-keygen");
    run(command.arg("-Hf").arg(file.path()), "").unwrap();
    assert!(fs::read_to_string(file.path()).unwrap().starts_with("|1|"));
    open(config).list("").unwrap();
}

#[test]
fn a_changed_host_key_is_refused_loudly() {
    let mut server = Sshd::start().unwrap();
    let store = open(server.config(Account::Normal, Login::Password));
    store.create("before", Body::Bytes(b"x")).unwrap();
    server.change_host_keys().unwrap();
    let (what, hint) = refused(server.config(Account::Normal, Login::Password));
    assert!(what.contains("HAS CHANGED") && what.contains("known_hosts:1 holds"), "{what}");
    assert_eq!(what.matches("SHA256:").count(), 2, "{what}");
    assert!(hint.contains("ssh-keygen -R '[127.0.0.1]:"), "{hint}");
    assert!(matches!(store.read("before"), Err(StoreError::Refused { .. })));
}

#[test]
fn any_kind_of_key_that_is_known_is_asked_for() {
    let server = Sshd::start().unwrap();
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let known_hosts = Some(server.known_hosts_of(kind).unwrap());
        let config = server.config(Account::Normal, Login::Password);
        open(SftpConfig { known_hosts, ..config }).list("").unwrap();
    }
}

#[test]
fn a_known_key_of_a_kind_that_the_server_has_not_is_a_changed_key() {
    let server = Sshd::start().unwrap();
    // A curve that the server has no key on: it has nothing to show that could be checked.
    let key = "AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAA";
    let known = format!("[127.0.0.1]:{} ecdsa-sha2-nistp521 {key}\n", server.port());
    let file = crate::contract::file_of(known.as_bytes());
    let (what, _) = refused(SftpConfig {
        known_hosts: Some(file.path().to_owned()),
        ..server.config(Account::Normal, Login::Password)
    });
    assert!(what.contains("HAS CHANGED") && what.contains("shows ssh-ed25519"), "{what}");
}

#[test]
fn a_revoked_host_key_is_refused() {
    let server = Sshd::start().unwrap();
    let known = fs::read_to_string(server.known_hosts()).unwrap();
    let file = crate::contract::file_of(format!("{known}@revoked {known}").as_bytes());
    let (what, _) = refused(SftpConfig {
        known_hosts: Some(file.path().to_owned()),
        ..server.config(Account::Normal, Login::Password)
    });
    assert!(what.contains("is revoked in") && what.contains(":2"), "{what}");
}

#[test]
fn wrong_credentials_are_refused_with_a_hint() {
    let server = Sshd::start().unwrap();
    let secret = crate::contract::file_of(b"wrong\n");
    let wrong = Some(secret.path().to_owned());
    let account = Account::Normal;

    let config = server.config(account, Login::Password);
    let (what, hint) = refused(SftpConfig { password_file: wrong.clone(), ..config });
    assert!(what.contains("with the password"), "{what}");
    assert!(hint.contains("password-file") && hint.contains("publickey"), "{hint}");

    let config = server.config(account, Login::LockedKey);
    let (what, hint) = refused(SftpConfig { passphrase_file: wrong, ..config });
    assert!(what.contains("with the key"), "{what}");
    assert!(hint.contains("passphrase-file"), "{hint}");

    let agent = Agent::start(None).unwrap();
    let (what, _) = refused(server.config(account, Login::Agent(&agent)));
    assert!(what.contains("holds no keys"), "{what}");
    let socket = agent.socket();
    drop(agent);
    let config = SftpConfig {
        password_file: None,
        agent: true,
        agent_socket: Some(socket),
        ..server.config(account, Login::Password)
    };
    let (what, _) = refused(config);
    assert!(what.contains("no SSH agent answers"), "{what}");
}

#[test]
fn there_must_be_exactly_one_way_to_log_in() {
    let server = Sshd::start().unwrap();
    let config = server.config(Account::Normal, Login::Password);
    let none = SftpConfig { password_file: None, ..config.clone() };
    let two = SftpConfig { agent: true, ..config };
    for sftp in [none, two] {
        let config = StoreConfig { sftp: Some(sftp), ..StoreConfig::default() };
        let error = Store::open(&config).unwrap_err();
        assert!(error.hint().unwrap().contains("exactly one"), "{error:?}");
    }
}
