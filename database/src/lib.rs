//! MySQL and MariaDB as we need them: the stream of the backup tools, the tools themselves and what
//! they write about a backup, the state of a server, and single tables out of a prepared backup.
//!
//! Nothing here decides when a backup is taken or where it goes. Passwords are read from option
//! files only, are never put on a command line, and are never printed. `docs/databases.md` has the
//! formats and their sources.

pub mod applier;
pub mod binlog;
pub mod binlog_server;
pub mod checks;
pub mod filename;
pub mod info;
pub mod options;
pub mod replica;
pub mod scratch;
pub mod server;
pub mod settings;
pub mod tablespace;
pub mod tls;
pub mod tool;
pub mod version;
pub mod xbstream;

/// Transaction ids and sets of them; a crate of their own, since the depot knows them too.
pub use ::gtid;
