//! Where the depots are: a directory named on the command line, or tables of the daemon's configuration.
//!
//! Of that file only `[depots]` and `[restore]` are looked at: a restore must not fail because a job of a dead
//! host is configured wrongly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use chassis::failure::{Exit, Failure};
use chassis::retry::Stop;
use depot::depot::Depot;
use depot::store::StoreConfig;
use depot::store::directory::DirectoryConfig;
use serde::Deserialize;

/// Where the configuration is if nothing else is said.
pub const CONFIG_PATH: &str = "/etc/holdfast/backupd.toml";

/// What is read of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Config {
    /// The depots by their names.
    #[serde(default)]
    pub depots: BTreeMap<String, StoreConfig>,
    /// Settings of this program.
    #[serde(default)]
    pub restore: Restore,
}

/// `[restore]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Restore {
    /// The file with the key that opens backups, for hosts that may have one, such as one for drills.
    pub identity_file: Option<PathBuf>,
}

impl Config {
    /// Reads the file; without `is_named` one that is not there is as good as an empty one.
    pub fn load(path: &Path, is_named: bool) -> Result<Self> {
        if !is_named && !path.exists() {
            return Ok(Self::default());
        }
        let mut config: Self = chassis::config::load(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        if let Some(file) = &mut config.restore.identity_file {
            *file = folder.join(&file);
        }
        config.depots.values_mut().for_each(|store| store.make_absolute(folder));
        Ok(config)
    }

    /// The depots to try, in this order: the one named, or all that are configured.
    pub fn depots_to_try(&self, named: Option<&str>) -> Result<Vec<(String, StoreConfig)>> {
        match named {
            Some(path) if path.contains('/') || path.starts_with('.') => {
                let path = PathBuf::from(path);
                let config = StoreConfig {
                    directory: Some(DirectoryConfig { path: path.clone() }),
                    ..StoreConfig::default()
                };
                Ok(vec![(path.display().to_string(), config)])
            }
            Some(name) => match self.depots.get(name) {
                Some(config) => Ok(vec![(name.to_owned(), config.clone())]),
                None => Err(self.unknown(name).into()),
            },
            None if self.depots.is_empty() => {
                Err(Failure::new(Exit::Usage, "no depot is named and none is configured")
                    .hint("name one: `--depot /path/of/depot`, or `--config FILE` with [depots]")
                    .into())
            }
            None => Ok(self.depots.iter().map(|(n, config)| (n.clone(), config.clone())).collect()),
        }
    }

    fn unknown(&self, name: &str) -> Failure {
        let known: Vec<&str> = self.depots.keys().map(String::as_str).collect();
        let hint = match known.as_slice() {
            [] => format!("none is configured; a directory is named with a slash: `./{name}`"),
            known => format!(
                "known are {}; a directory is named with a slash: `./{name}`",
                known.join(", ")
            ),
        };
        Failure::new(Exit::Usage, format!("there is no depot `{name}` in the configuration"))
            .hint(hint)
    }
}

/// Opens the first depot that answers; the ones before it are warned about.
pub fn open_first(depots: Vec<(String, StoreConfig)>, stop: &Stop) -> Result<Depot> {
    let count = depots.len();
    for (number, (name, config)) in depots.into_iter().enumerate() {
        match Depot::open(&name, &config, stop) {
            Err(error) if number + 1 < count => tracing::warn!("trying another depot: {error:#}"),
            result => return result,
        }
    }
    Err(Failure::new(Exit::Usage, "there is no depot to try").into())
}

#[cfg(test)]
mod tests {
    use chassis::failure::hint_of;

    use super::*;

    #[test]
    fn tables_of_the_daemon_are_passed_over_and_mistakes_in_ours_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backupd.toml");
        let text = "host = \"web1\"\n[depots.main.directory]\npath = \"/srv/depot\"\n\
                    [jobs.site]\nwhatever = 1\n[restore]\nidentity-file = \"key.txt\"\n";
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path, true).unwrap();
        assert_eq!(config.restore.identity_file, Some(dir.path().join("key.txt")));
        assert_eq!(config.depots_to_try(None).unwrap().len(), 1);
        let error = config.depots_to_try(Some("mian")).unwrap_err();
        assert!(hint_of(&error).unwrap().contains("known are main"), "{error:#}");
        std::fs::write(&path, "[restore]\nidentity = \"key.txt\"\n").unwrap();
        assert!(hint_of(&Config::load(&path, true).unwrap_err()).is_some());
    }

    #[test]
    fn a_path_needs_no_configuration() {
        let config = Config::load(Path::new("/nowhere/backupd.toml"), false).unwrap();
        let found = config.depots_to_try(Some("./depot")).unwrap();
        assert_eq!(found[0].1.directory.as_ref().unwrap().path, Path::new("./depot"));
        assert!(config.depots_to_try(None).is_err());
        assert!(Config::load(Path::new("/nowhere/backupd.toml"), true).is_err());
    }
}
