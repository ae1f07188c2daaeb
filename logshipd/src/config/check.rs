//! What types cannot say about a configuration. The first thing that is wrong is reported, with its key and a hint.

use std::path::Path;

use chassis::failure::{Exit, Failure};

use super::{Config, Source, Store};
use crate::paths::Pattern;

type Checked = Result<(), Refusal>;

/// What is wrong, and with which key.
#[derive(Debug)]
pub(super) struct Refusal {
    pub key: String,
    pub failure: Failure,
}

impl Refusal {
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.failure = self.failure.hint(hint);
        self
    }
}

/// What fits into memory: the whole program is meant to stay below 25 MiB.
const BATCH_BYTES: std::ops::RangeInclusive<u64> = 16 << 10..=64 << 20;
const ENTRY_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=8 << 20;
const REQUESTS: std::ops::RangeInclusive<usize> = 1..=32;

/// Checks all of it.
pub(super) fn check(config: &Config) -> Checked {
    check_absolute("state-dir", &config.state_dir)?;
    check_absolute("control-socket", &config.control_socket)?;
    chassis::metrics::check_loopback(config.metrics_listen, config.metrics_remote).map_err(
        |failure| {
            under("metrics-listen", failure).hint("set `metrics-remote = true` if that is wanted")
        },
    )?;
    chassis::log::check_level(&config.log).map_err(|failure| under("log.level", failure))?;
    if config.host.is_empty() {
        return Err(refuse("host", "it is empty").hint("write the name of this host"));
    }
    check_name("namespace", &config.namespace)?;
    check_store(&config.store)?;
    check_limits(config)?;
    config.sources.iter().try_for_each(check_source)
}

fn refuse(key: &str, problem: impl std::fmt::Display) -> Refusal {
    let failure = Failure::new(Exit::Usage, format!("{key}: {problem}"));
    Refusal { key: key.to_owned(), failure }
}

fn under(key: &str, mut failure: Failure) -> Refusal {
    failure.message = format!("{key}: {}", failure.message);
    Refusal { key: key.to_owned(), failure }
}

fn check_absolute(key: &str, path: &Path) -> Checked {
    if path.is_absolute() {
        return Ok(());
    }
    Err(refuse(key, format_args!("`{}` is not an absolute path", path.display()))
        .hint("begin it with `/`: a daemon has no directory of its own"))
}

/// What the stores take as a part of a data stream's name.
fn check_name(key: &str, name: &str) -> Checked {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
    if !name.is_empty() && name.len() <= 100 && name.chars().all(is_good) {
        return Ok(());
    }
    Err(refuse(key, format_args!("`{name}` cannot be a part of the name of a data stream"))
        .hint("use lower case letters, digits, `.` and `_`"))
}

fn check_store(store: &Store) -> Checked {
    if store.urls.is_empty() {
        return Err(refuse("store.urls", "there is none").hint("name at least one node"));
    }
    for url in &store.urls {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if rest.is_none_or(|rest| rest.is_empty() || rest.contains([' ', '@', '?', '#'])) {
            return Err(refuse("store.urls", format_args!("`{url}` is not the address of a node"))
                .hint(
                    "write it as `https://search1:9200`; users and secrets have keys of their own",
                ));
        }
    }
    if store.user.is_some() != store.password_file.is_some() {
        return Err(refuse("store", "`user` and `password-file` go together").hint("give both"));
    }
    if store.certificate_file.is_some() != store.key_file.is_some() {
        return Err(
            refuse("store", "`certificate-file` and `key-file` go together").hint("give both")
        );
    }
    let ways = [store.user.is_some(), store.api_key_file.is_some(), store.bearer_file.is_some()];
    if ways.into_iter().filter(|is_given| *is_given).count() > 1 {
        return Err(refuse("store", "more than one way to log in")
            .hint("choose `user`, `api-key-file` or `bearer-file`"));
    }
    Ok(())
}

fn check_limits(config: &Config) -> Checked {
    let limits = &config.limits;
    if !BATCH_BYTES.contains(&limits.batch_bytes.0) {
        return Err(refuse("limits.batch-bytes", "it must be from 16 KiB to 64 MiB"));
    }
    if !ENTRY_BYTES.contains(&limits.entry_bytes.0) {
        return Err(refuse("limits.entry-bytes", "it must be from 1 KiB to 8 MiB"));
    }
    if !REQUESTS.contains(&limits.requests) {
        return Err(refuse("limits.requests", "it must be from 1 to 32"));
    }
    if limits.batch_documents == 0 || limits.batch_documents > 65_535 {
        return Err(refuse("limits.batch-documents", "it must be from 1 to 65535"));
    }
    if limits.scan_every.0.is_zero() {
        return Err(refuse("limits.scan-every", "it must be more than nothing"));
    }
    Ok(())
}

fn check_source(source: &Source) -> Checked {
    if source.paths.is_empty() {
        return Err(refuse("source.paths", "there is none").hint("name at least one file"));
    }
    for path in &source.paths {
        Pattern::parse(path).map_err(|error| {
            refuse("source.paths", error).hint("begin it with `/`, and close every bracket")
        })?;
    }
    source.dataset.iter().try_for_each(|name| check_name("source.dataset", name))?;
    source.namespace.iter().try_for_each(|name| check_name("source.namespace", name))
}
