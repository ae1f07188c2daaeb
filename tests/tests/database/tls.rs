//! TLS to real servers of both flavours: both of our clients, and what each level of checking lets through.

use std::path::{Path, PathBuf};
use std::process::Command;

use database::options::OptionFile;
use database::replica::{Have, Replica};
use database::server::ServerState;
use database::tool::BackupTool;
use tests::servers::mariadb::{MariaDb, Options};
use tests::servers::mysql::MySql;
use tests::servers::process::run;

/// Whether the log comes in with these lines in the option file, and the server's state is told.
fn connects(dir: &Path, tool: BackupTool, port: u16, lines: &str) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("client.cnf");
    let text = format!("[client]\nuser=r\npassword=pw\nhost=127.0.0.1\nport={port}\n{lines}\n");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let options = OptionFile::read(&path, tool).map_err(|error| format!("{error:#}"))?;
    let state = ServerState::read(&options).map_err(|error| format!("{error:#}"));
    let replica = state.clone().and_then(|state| {
        let have = Have::nothing(state.flavour);
        let connected = Replica::connect(&options, 4_000_000_000, &have);
        let first = connected.and_then(|mut replica| replica.wait_for_first(&|| false));
        first.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    });
    state.and(replica)
}

/// A key with a certificate, signed by the authority `ca`, or its own authority.
fn certificate(dir: &Path, name: &str, names: Option<&str>) -> (PathBuf, PathBuf) {
    let (key, file) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.pem")));
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    command.args(["-days", "2", "-subj", &format!("/CN={name}"), "-keyout"]).arg(&key);
    if let Some(names) = names {
        command.arg("-CA").arg(dir.join("ca.pem")).arg("-CAkey").arg(dir.join("ca.key"));
        command.args(["-addext", &format!("subjectAltName={names}")]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    }
    run(command.arg("-out").arg(&file), "").unwrap();
    (key, file)
}

#[test]
fn a_mariadb_that_wants_tls_is_reached_and_told_from_another() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    certificate(dir, "ca", None);
    let (_, other) = certificate(dir, "other", None);
    let ca = dir.join("ca.pem").display().to_string();
    let start = |names: &str| {
        let (key, file) = certificate(dir, "server", Some(names));
        let extra = vec![
            format!("--ssl-cert={}", file.display()),
            format!("--ssl-key={}", key.display()),
            format!("--ssl-ca={ca}"),
        ];
        let server = MariaDb::start(Options { log_bin: true, tcp: true, extra }).unwrap();
        server
            .sql(
                "CREATE USER r@127.0.0.1 IDENTIFIED BY 'pw' REQUIRE SSL;
                 GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO r@127.0.0.1",
            )
            .unwrap();
        server
    };
    let check = |server: &MariaDb, lines: &str, expected: bool| {
        let port = server.address().unwrap().port();
        let found = connects(dir, BackupTool::MariaDb, port, lines);
        assert_eq!(found.is_ok(), expected, "{lines}: {found:?}");
    };
    let server = start("IP:127.0.0.1");
    check(&server, "", false);
    check(&server, "ssl", true);
    check(&server, "ssl\nskip-ssl", false);
    check(&server, &format!("ssl-ca={ca}"), true);
    check(&server, &format!("ssl-ca={ca}\nssl-verify-server-cert"), true);
    check(&server, &format!("ssl-ca={}", other.display()), false);
    check(&server, "ssl-ca=/nonexistent", false);
    // Signed by the right authority, for another host.
    let stranger = start("DNS:elsewhere.example");
    check(&stranger, "ssl", true);
    check(&stranger, &format!("ssl-ca={ca}"), false);
    check(&stranger, &format!("ssl-ca={ca}\nssl-verify-server-cert"), false);
}

#[test]
fn a_mysql_that_wants_tls_is_reached_and_told_from_another() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let (_, other) = certificate(dir, "other", None);
    let server = MySql::start(&[]).unwrap();
    server
        .sql(
            "CREATE USER r@127.0.0.1 IDENTIFIED WITH caching_sha2_password BY 'pw' REQUIRE SSL;
             GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO r@127.0.0.1",
        )
        .unwrap();
    let check = |lines: &str, expected: bool| {
        let found = connects(dir, BackupTool::Percona, server.address().port(), lines);
        assert_eq!(found.is_ok(), expected, "{lines}: {found:?}");
    };
    let ca = server.datadir().join("ca.pem").display().to_string();
    check("", false);
    check("ssl-mode=DISABLED", false);
    check("ssl-mode=REQUIRED", true);
    check(&format!("ssl-mode=VERIFY_CA\nssl-ca={}", other.display()), false);
    // The certificate that a server makes for itself is of no host.
    check(&format!("ssl-mode=VERIFY_CA\nssl-ca={ca}"), false);
    check(&format!("ssl-mode=VERIFY_IDENTITY\nssl-ca={ca}"), false);
    check("ssl-mode=SOMETIMES", false);
}
