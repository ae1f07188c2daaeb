//! How a real Elasticsearch 8.19 is started: the distribution that its own integration tests run against, which
//! `scripts/fetch-stores` fetches.
//!
//! It has the server, security and little else: no lifecycle management, no `GET /`, no `_data_stream` requests, no
//! ingest processors, and of the field types those of the server alone (so no `constant_keyword` and no
//! `match_only_text`). Data streams, templates, bulk requests and searches are all there.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::search_store::{
    ADMINISTRATOR, ADMINISTRATOR_HASH, SHIPPER, SHIPPER_HASH, Secured, java_options,
};

/// The folder in the cache, and its list in `tests/stores`.
pub const NAME: &str = "elasticsearch-8.19.21";

const SECURITY: &str = "
xpack.security.enabled: true
xpack.security.http.ssl.enabled: true
xpack.security.http.ssl.key: certificates/server.key
xpack.security.http.ssl.certificate: certificates/server.pem
xpack.security.http.ssl.certificate_authorities: certificates/authority.pem
";

/// What a shipper needs and no more.
const ROLES: &str = r#"
shipper_of_logs:
  cluster: ["monitor"]
  indices: [{names: ["logs-*"], privileges: ["auto_configure", "create_doc", "read"]}]
"#;

/// Writes the configuration directory.
pub fn configure(config: &Path, secured: Secured) -> Result<()> {
    let mut text = String::from("xpack.security.autoconfiguration.enabled: false\n");
    if secured == Secured::No {
        text.push_str("xpack.security.enabled: false\n");
    } else {
        text.push_str(SECURITY);
        let users = format!(
            "{}:{ADMINISTRATOR_HASH}\n{}:{SHIPPER_HASH}\n",
            ADMINISTRATOR.name, SHIPPER.name
        );
        let roles = format!("superuser:{}\nshipper_of_logs:{}\n", ADMINISTRATOR.name, SHIPPER.name);
        fs::write(config.join("users"), users)?;
        fs::write(config.join("users_roles"), roles)?;
        fs::write(config.join("roles.yml"), ROLES)?;
    }
    if secured == Secured::WithClientCertificate {
        text.push_str("xpack.security.http.ssl.client_authentication: required\n");
    }
    fs::write(config.join("elasticsearch.yml"), text)?;
    let mut options: Vec<String> =
        java_options().iter().map(|option| option.to_string_lossy().into_owned()).collect();
    // Without a temporary directory of its own it may read all of the system's, and refuses to start there.
    options.push("-Djava.io.tmpdir=${ES_TMPDIR}\n".to_owned());
    Ok(fs::write(config.join("jvm.options"), options.join("\n"))?)
}

/// The command that runs it in the foreground, without its settings: a launcher, which ends with the server.
pub fn command(home: &Path) -> Vec<OsString> {
    vec![home.join("bin/elasticsearch").into_os_string()]
}
