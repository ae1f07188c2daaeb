//! What the backup tools say on standard error, as far as something hangs on it.
//!
//! The texts are those of `mariadb-backup` 10.11 (seen) and `xtrabackup` 8.0 (from its source). An
//! exit code of zero alone proves nothing: the tools leave out files with a warning and still end
//! well.

/// The last words of a run that worked.
const COMPLETE: &str = "completed OK!";

/// Whether the log of a run says that it worked. Only the last line counts.
pub fn is_complete(log: &str) -> bool {
    log.trim_end().ends_with(COMPLETE)
}

/// The tablespace that a line of the log says was left out because its table was dropped meanwhile,
/// as a path from the data directory, such as `./db/t.ibd`.
///
/// The tool only assumes the drop. **If that file still exists after the run, the backup is not
/// complete**, whatever the exit code: `mariadb-backup` 10.11.19 leaves out every table that was
/// brought in by `IMPORT TABLESPACE` since the last checkpoint, and ends with `completed OK!`.
/// After `SET GLOBAL innodb_log_checkpoint_now=ON` another run has it all.
pub fn skipped_tablespace(line: &str) -> Option<&str> {
    const MARIADB: &str = "ignore the tablespace ";
    const PERCONA: &str = "skipping tablespace ";
    let behind = line.split_once(MARIADB).or_else(|| line.split_once(PERCONA))?.1;
    Some(behind.trim().trim_end_matches('.'))
}

/// What a user can do about a run that failed, told from its log.
pub fn advice(log: &str) -> Option<String> {
    if let Some((_, behind)) = log.split_once("missing required privilege ") {
        let privilege = behind.split(" on ").next().unwrap_or_default();
        return Some(format!(
            "grant {privilege} on *.* to the backup user, or run `backupctl check`"
        ));
    }
    let known = [
        ("Access denied for user", "check user and password in the option file"),
        ("Access denied; you need", "run `backupctl check`: a grant is missing"),
        (
            "Can't connect to",
            "check that the server runs, and socket, host and port in the option file",
        ),
        ("Too many open files", "raise LimitNOFILE of the service above the number of tables"),
        ("No space left on device", "free space where the tool keeps its temporary files (tmpdir)"),
        ("Was only able to copy log from", LOG_TOO_SMALL),
        ("log copying being too slow", LOG_TOO_SMALL),
        ("Unsupported server version", "use the tool of the server's own version"),
        ("cannot process redo log before", "use the tool of the server's own version"),
    ];
    known.iter().find(|(text, _)| log.contains(text)).map(|(_, hint)| (*hint).to_owned())
}

const LOG_TOO_SMALL: &str = "the server overwrote its redo log before it was copied: \
    raise innodb_log_file_size, or lift the throttle";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_says_that_a_run_worked() {
        assert!(is_complete("...\n[00] 2026-11-23 19:07:21 completed OK!\n"));
        assert!(!is_complete("[00] 2026-11-23 19:07:21 completed OK!\nError\n"));
        assert!(!is_complete(""));
    }

    #[test]
    fn a_table_that_was_left_out_is_named() {
        let line = "[00] 2026-11-23 19:10:43 Warning: We assume the  table was dropped during xtrabackup execution and \
            ignore the tablespace ./imp/p#P#p0.ibd";
        assert_eq!(skipped_tablespace(line), Some("./imp/p#P#p0.ibd"));
        let line = "[01] xtrabackup: Warning: skipping tablespace test/t1.ibd.";
        assert_eq!(skipped_tablespace(line), Some("test/t1.ibd"));
        assert_eq!(skipped_tablespace("[00] Streaming ./db/t.ibd"), None);
    }

    #[test]
    fn advice_names_what_is_missing() {
        let log = "Error: missing required privilege LOCK TABLES on *.*\n";
        let expected = "grant LOCK TABLES on *.* to the backup user, or run `backupctl check`";
        assert_eq!(advice(log).as_deref(), Some(expected));
        assert_eq!(advice("all is well"), None);
    }
}
