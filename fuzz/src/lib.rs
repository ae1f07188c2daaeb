//! Every parser of what others wrote, fed with arbitrary bytes.
//!
//! A [`Target`] takes an input and panics if a promise does not hold: nothing panics by itself, what
//! is read and written again is the same, and no input makes a parser take more memory than it is
//! allowed to. The program `fuzz` has libFuzzer look for such inputs; the tests feed the targets with
//! the corpus, which holds seeds and every input that was ever found.

pub mod agent;
pub mod backup_tool;
pub mod catalog;
pub mod logs;
pub mod memory;
pub mod objects;
pub mod snapshot;
pub mod words;
pub mod xbstream;

/// Something that takes arbitrary bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its corpus, and of the target for `scripts/fuzz`.
    pub name: &'static str,
    /// Takes one input; panics if something does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "backupd_config", run: agent::config },
    Target { name: "block", run: objects::block },
    Target { name: "cache", run: objects::cache },
    Target { name: "depot_description", run: objects::description },
    Target { name: "depot_survey", run: catalog::survey },
    Target { name: "filename", run: words::filename },
    Target { name: "job_state", run: agent::state },
    Target { name: "manifest_lines", run: snapshot::lines },
    Target { name: "needs", run: catalog::needs },
    Target { name: "object_name", run: words::object_name },
    Target { name: "option_file", run: backup_tool::option_file },
    Target { name: "patterns", run: agent::patterns },
    Target { name: "schedule", run: words::schedule },
    Target { name: "snapshot", run: snapshot::sealed },
    Target { name: "tool_metadata", run: backup_tool::metadata },
    Target { name: "spool", run: logs::spool },
    Target { name: "syslog_stream", run: logs::stream },
    Target { name: "units", run: words::units },
    Target { name: "xbstream", run: xbstream::stream },
];

/// The target of a name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}
