//! The settings that a backup brings along (`backup-my.cnf`): how its InnoDB files are laid out.
//!
//! The tool and the server read that file, and they run as root: an option file may load a plugin, name
//! statements to run at the start, or have a log written to any path. The file comes out of the backup, so it
//! is not believed: it is read here, and written anew with the settings that are known. Of those only words,
//! numbers and names of files in the backup itself are taken. Everything else is dropped and told by name.
//!
//! The list is what the tools write: MariaDB's `write_backup_config_file` (seen with 10.11) and Percona's
//! (2.4 and 8.0, from its source).

use std::fmt::Write as _;

use crate::options::syntax::{Line, parse};

/// The file in a backup.
pub const SETTINGS_FILE: &str = "backup-my.cnf";
/// The longest such file that is read, in bytes; the tools write less than 2 KiB.
pub const SETTINGS_LENGTH_MAX: u64 = 64 << 10;

/// Settings whose value is a number or a word.
const WORDS: &[&str] = &[
    "innodb-checksum-algorithm",
    "innodb-compression-level",
    "innodb-log-checksums",
    "innodb-log-file-size",
    "innodb-log-files-in-group",
    "innodb-page-size",
    "innodb-redo-log-encrypt",
    "innodb-undo-log-encrypt",
    "innodb-undo-tablespaces",
    "server-id",
];
/// Those that only Percona's tool knows: a server passes over them with a warning.
const WORDS_OF_TOOL: &[&str] = &[
    "innodb-fast-checksum",
    "innodb-log-block-size",
    "innodb-log-checksum-algorithm",
    "master-key-id",
    "redo-log-version",
    "server-uuid",
];
/// Settings that name files of the backup.
const FILES: &[&str] =
    &["innodb-buffer-pool-filename", "innodb-data-file-path", "innodb-doublewrite-file"];
/// Where undo logs are: the tools put them at the top of a backup, wherever they were.
const UNDO_DIRECTORY: &str = "innodb-undo-directory";
/// Settings that load a plugin; only one that reads keys from a file is loaded.
const PLUGINS: &[&str] = &["plugin-load", "plugin-load-add"];
const KEY_PLUGINS: &[&str] = &["file_key_management", "file_key_management.so"];
/// Where plugins are: a directory of packages, never one that a backup could be restored to.
const PLUGIN_DIRECTORY: &str = "plugin-dir";
const PLUGIN_DIRECTORIES: &[&str] = &["/usr/lib/", "/usr/lib64/"];
/// Settings of that plugin: it only reads the files that they name.
const KEYS: &[&str] = &[
    "file-key-management-encryption-algorithm",
    "file-key-management-filekey",
    "file-key-management-filename",
];

/// What is left of a file of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// A file with the settings that are believed.
    pub text: String,
    /// The names of the others.
    pub dropped: Vec<String>,
}

impl Settings {
    /// Sifts the text of a `backup-my.cnf`. What has been sifted comes out the same again.
    pub fn sift(text: &str) -> Self {
        let mut settings = Self { text: "[mysqld]\n".to_owned(), dropped: Vec::new() };
        let mut is_server = false;
        for line in text.lines() {
            match parse(line) {
                None => {}
                Some(Line::Group(name)) => is_server = name == "mysqld",
                Some(Line::Include(_)) => settings.drop("!include"),
                Some(Line::IncludeDir(_)) => settings.drop("!includedir"),
                Some(Line::Setting(key, value)) => settings.take(&key, &value, is_server),
            }
        }
        settings
    }

    fn take(&mut self, key: &str, value: &str, is_server: bool) {
        let value = if key == UNDO_DIRECTORY { "./" } else { value };
        if !is_server || !is_believed(key, value) {
            return self.drop(key);
        }
        let loose = if WORDS_OF_TOOL.contains(&key) { "loose_" } else { "" };
        let line = format!("{loose}{}={value}", key.replace('-', "_"));
        writeln!(self.text, "{line}").expect("writing to a string does not fail");
    }

    fn drop(&mut self, key: &str) {
        // A name can be as long as the file, and hold what a terminal obeys.
        const SHOWN_MAX: usize = 60;
        let shown = key.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
        if !self.dropped.contains(&shown) {
            self.dropped.push(shown);
        }
    }
}

fn is_believed(key: &str, value: &str) -> bool {
    let of = |letters: &str| {
        value.bytes().all(|b| b.is_ascii_alphanumeric() || letters.as_bytes().contains(&b))
    };
    let is_in_package = || PLUGIN_DIRECTORIES.iter().any(|dir| value.starts_with(dir));
    match key {
        UNDO_DIRECTORY => true,
        PLUGIN_DIRECTORY => of("/_-.") && !value.contains("..") && is_in_package(),
        key if WORDS.contains(&key) || WORDS_OF_TOOL.contains(&key) => of("_-."),
        key if FILES.contains(&key) => of("_-.:;@") && !value.contains(".."),
        key if PLUGINS.contains(&key) => value.split('=').all(|part| KEY_PLUGINS.contains(&part)),
        key if KEYS.contains(&key) => of("_-.:/@+"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tool_writes_is_taken_whole() {
        // Of mariadb-backup 10.11.
        let text = "# This options file was generated by innobackupex.\n\n# The server\n[mysqld]\n\
            innodb_checksum_algorithm=crc32\n\
            innodb_data_file_path=ibdata1:12M;ibdata2:50M:autoextend\n\
            innodb_log_file_size=100663296\ninnodb_page_size=16384\ninnodb_undo_directory=./\n\
            innodb_undo_tablespaces=0\ninnodb_compression_level=6\n\n\n";
        let settings = Settings::sift(text);
        let expected: Vec<&str> =
            text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(settings.text.lines().collect::<Vec<_>>(), expected);
        assert_eq!(settings.dropped, [] as [&str; 0]);
        assert_eq!(Settings::sift(&settings.text), settings);
    }

    #[test]
    fn what_only_the_tool_knows_does_not_stop_a_server() {
        let settings = Settings::sift("[mysqld]\nserver_uuid=3f-a\nmaster_key_id=0\n");
        assert_eq!(settings.text, "[mysqld]\nloose_server_uuid=3f-a\nloose_master_key_id=0\n");
        assert_eq!(Settings::sift(&settings.text), settings);
    }

    #[test]
    fn nothing_else_is_believed() {
        let check = |line: &str| {
            let settings = Settings::sift(&format!("[mysqld]\n{line}\n"));
            assert_eq!(settings.text, "[mysqld]\n", "{line}");
            assert_eq!(settings.dropped.len(), 1, "{line}");
        };
        for line in [
            "init_file=/tmp/x",
            "init-file = /tmp/x",
            "loose_init_file=/tmp/x",
            "general_log_file=/etc/cron.d/x",
            "plugin_load_add=evil.so",
            "plugin_load=file_key_management=../evil.so",
            "plugin_load=file_key_management.so;evil.so",
            "plugin_dir=/srv/restored",
            "plugin_dir=/usr/lib/../../srv/restored",
            "innodb_data_file_path=/etc/passwd:12M",
            "innodb_data_file_path=..:12M",
            "innodb_page_size=16384\rinit_file=/tmp/x",
            "innodb_page_size=\"16384\\ninit_file=/tmp/x\"",
            "innodb_buffer_pool_filename=../x",
            "server_id=1 2",
            "!include /etc/x.cnf",
            "!includedir /etc",
            "[mariadbd]\ninnodb_page_size=16384",
        ] {
            check(line);
        }
        let undo = Settings::sift("[mysqld]\ninnodb_undo_directory=/etc\n");
        assert_eq!(undo.text, "[mysqld]\ninnodb_undo_directory=./\n");
    }

    #[test]
    fn keys_in_a_file_can_still_be_read() {
        let text = "[mysqld]\nplugin_load_add=file_key_management.so\nplugin_dir=/usr/lib/mysql/plugin/\n\
            file_key_management_filename=/etc/mysql/keys.enc\n";
        let settings = Settings::sift(text);
        assert_eq!((settings.text.as_str(), settings.dropped.len()), (text, 0));
    }
}
