//! Reaching a server, judging it, and saying what is wrong when it cannot be reached.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use chassis::failure::{Exit, exit_of, hint_of};
use database::checks::{Check, check_database};
use database::options::OptionFile;
use database::server::ServerState;
use database::tool::{self, BackupTool};
use database::version::{Flavour, Version};
use tests::servers::mariadb::{MariaDb, Options};

use crate::taken::{mariadb_backup, request, run};

const GRANTS: &str =
    "GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR ON *.* TO backup@localhost";

/// A server with an account `backup` of password `p#w "d`.
fn server() -> MariaDb {
    let server =
        MariaDb::start(Options { log_bin: true, tcp: true, ..Options::default() }).unwrap();
    server.sql("CREATE USER backup@localhost IDENTIFIED BY 'p#w \"d'").unwrap();
    server
}

const PASSWORD: &str = "p#w \\\"d";

fn read(option_file: &std::path::Path) -> anyhow::Result<ServerState> {
    ServerState::read(&OptionFile::read(option_file, BackupTool::MariaDb)?)
}

fn failed(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect()
}

#[test]
fn the_state_of_a_server_is_read_over_its_socket_and_over_tcp() {
    let server = server();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)").unwrap();
    server.sql(GRANTS).unwrap();
    let option_file = server.option_file_for("backup", PASSWORD).unwrap();
    let state = read(&option_file).unwrap();
    assert_eq!(state.flavour, Flavour::MariaDb);
    assert!(state.version >= Version::of(10, 3, 0), "{state:?}");
    assert_eq!(state.datadir.canonicalize().unwrap(), server.datadir().canonicalize().unwrap());
    assert_eq!((state.log_bin, state.server_id, state.page_size), (true, 1, 16384));
    assert_eq!(
        state.gtid.as_deref(),
        Some(server.query("SELECT @@gtid_binlog_pos").unwrap().as_str())
    );
    assert!(state.data_bytes > 100_000, "{state:?}");
    assert_eq!(state.galera, None);
    assert_eq!(state.account, "backup@localhost");
    assert_eq!(state.privileges, ["BINLOG MONITOR", "LOCK TABLES", "PROCESS", "RELOAD"]);

    let port = server.address().unwrap().port();
    fs::write(&option_file, format!("[client]\nuser=root\nhost=127.0.0.1\nport={port}\n")).unwrap();
    assert_eq!(read(&option_file).unwrap().account, "root@localhost");
}

#[test]
fn an_account_without_a_password_is_known_by_its_system_user() {
    let server = MariaDb::start(Options::default()).unwrap();
    let whoami = std::process::Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(whoami).unwrap().trim().to_owned();
    server
        .sql(&format!("CREATE OR REPLACE USER `{user}`@localhost IDENTIFIED VIA unix_socket"))
        .unwrap();
    // Named, and not named.
    let option_file = server.option_file_for(&user, "").unwrap();
    assert_eq!(read(&option_file).unwrap().account, format!("{user}@localhost"));
    let socket = server.socket();
    fs::write(&option_file, format!("[client]\nsocket={}\n", socket.display())).unwrap();
    assert_eq!(read(&option_file).unwrap().account, format!("{user}@localhost"));
}

#[test]
fn a_refused_login_and_a_server_that_is_down_are_told_apart() {
    let mut server = server();
    let option_file = server.option_file_for("backup", "wrong").unwrap();
    let error = read(&option_file).unwrap_err();
    assert!(error.to_string().contains("Access denied for user 'backup'"), "{error:#}");
    assert!(hint_of(&error).unwrap().contains("check user and password in"), "{error:#}");
    assert!(!format!("{error:#}{error:?}").contains("wrong"), "{error:?}");

    server.stop().unwrap();
    let error = read(&option_file).unwrap_err();
    assert_eq!(exit_of(&error), Exit::Failed);
    assert!(format!("{error:#}").contains("connect to the server at socket "), "{error:#}");
    assert!(hint_of(&error).unwrap().contains("check that the server runs"), "{error:#}");
}

#[test]
fn the_tool_fails_with_advice_when_it_cannot_log_in_or_lacks_a_grant() {
    let mut server = server();
    let target = tempfile::tempdir().unwrap();
    let check = |server: &MariaDb, password: &str, expected: &str| {
        let option_file = server.option_file_for("backup", password).unwrap();
        let taken = run(&request(&option_file, target.path()), |_| ());
        assert!(!taken.is_success && !tool::is_complete(&taken.log), "{}", taken.log);
        let advice = tool::advice(&taken.log).unwrap_or_default();
        assert!(advice.contains(expected), "{advice:?} for {}", taken.log);
    };
    check(&server, "wrong", "check user and password");
    check(&server, PASSWORD, "grant RELOAD on *.* to the backup user");
    server.sql("GRANT RELOAD, PROCESS ON *.* TO backup@localhost").unwrap();
    check(&server, PASSWORD, "a grant is missing");
    server.kill();
    check(&server, PASSWORD, "check that the server runs");
}

#[test]
fn the_password_is_not_on_the_command_line() {
    let command =
        tool::backup_command(&mariadb_backup(), &request("/etc/my.cnf".as_ref(), "/t".as_ref()));
    assert!(!format!("{:?}", command.unwrap()).contains("pass"));
}

#[test]
fn checks_name_what_is_missing_and_pass_when_it_is_there() {
    let server = server();
    let option_file = server.option_file_for("backup", PASSWORD).unwrap();
    let checks = check_database(BackupTool::MariaDb, &option_file);
    assert_eq!(failed(&checks), ["grants"], "{checks:#?}");
    let hint = checks.iter().find_map(|check| check.hint.clone()).unwrap();
    assert!(
        hint.starts_with("GRANT ") && hint.ends_with(" ON *.* TO 'backup'@'localhost';"),
        "{hint}"
    );
    // The hint is a statement that works.
    server.sql(&hint).unwrap();
    let checks = check_database(BackupTool::MariaDb, &option_file);
    assert_eq!(failed(&checks), [""; 0], "{checks:#?}");
    let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    let expected = [
        "option file",
        "backup tool",
        "server",
        "data directory",
        "tool fits server",
        "grants",
        "binary log",
    ];
    assert_eq!(names, expected);

    fs::set_permissions(&option_file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(failed(&check_database(BackupTool::MariaDb, &option_file)), ["option file"]);
    let nowhere = option_file.with_file_name("none.cnf");
    assert_eq!(failed(&check_database(BackupTool::MariaDb, &nowhere)), ["option file"]);
}

#[test]
fn checks_say_that_the_binary_log_is_off() {
    let server = MariaDb::start(Options::default()).unwrap();
    let checks = check_database(BackupTool::MariaDb, &server.option_file().unwrap());
    assert_eq!(failed(&checks), ["binary log"], "{checks:#?}");
}

#[test]
fn the_option_file_is_read_as_the_tool_reads_it() {
    let server = server();
    server.sql(GRANTS).unwrap();
    let target = tempfile::tempdir().unwrap();
    let option_file = server.option_file().unwrap();
    let socket = server.socket();
    let right = "user=backup\npassword=\"p#w \\\"d\"\nsocket=SOCK\n";
    // Which groups count, and which count more.
    let texts = [
        (format!("[mariadb-backup]\n{right}[client]\nuser=nobody\n"), true),
        (
            format!("[client]\nuser=nobody\nport=1\n[xtrabackup]\n{right}[mysqld]\nuser=nobody\n"),
            true,
        ),
        (format!("[client]\nuser=nobody\n[client-server]\n{right} # text\n"), true),
        (format!("[mariadb-backup]\nuser=nobody\n[client]\n{right}"), false),
        (
            format!(
                "[mariabackup]\nuser=nobody\n[mariadb-backup]\n{right}[xtrabackup]\nuser=nobody\n"
            ),
            false,
        ),
        ("[client]\nuser=backup\npassword=p#w \"d\nsocket=SOCK\n".to_owned(), false),
        (format!("[mysql]\n{right}"), false),
    ];
    for (text, works) in texts {
        fs::write(&option_file, text.replace("SOCK", socket.to_str().unwrap())).unwrap();
        assert_eq!(
            read(&option_file).is_ok_and(|s| s.account.starts_with("backup@")),
            works,
            "{text}"
        );
        let taken = run(&request(&option_file, target.path()), |_| ());
        assert_eq!(taken.is_success, works, "{text}: {}", taken.log);
    }
}
