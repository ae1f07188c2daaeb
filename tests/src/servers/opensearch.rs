//! How a real OpenSearch 2.19 is started from the parts that `scripts/fetch-stores` puts together.
//!
//! It has the server's modules for mappings, scripts and deletion by query, and the security plugin, which is off
//! unless asked for. Index state management is not to be had in this way.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::search_store::{
    ADMINISTRATOR, ADMINISTRATOR_HASH, SHIPPER, SHIPPER_HASH, Secured, java, java_options,
};

/// The folder in the cache, and its list in `tests/stores`.
pub const NAME: &str = "opensearch-2.19.4";

/// What only OpenSearch calls so, for the plugin's users, roles and certificates.
const SECURITY: &str = r#"
plugins.security.ssl.transport.pemcert_filepath: certificates/server.pem
plugins.security.ssl.transport.pemkey_filepath: certificates/server.key
plugins.security.ssl.transport.pemtrustedcas_filepath: certificates/authority.pem
plugins.security.ssl.transport.enforce_hostname_verification: false
plugins.security.ssl.http.enabled: true
plugins.security.ssl.http.pemcert_filepath: certificates/server.pem
plugins.security.ssl.http.pemkey_filepath: certificates/server.key
plugins.security.ssl.http.pemtrustedcas_filepath: certificates/authority.pem
plugins.security.nodes_dn: ["CN=server,O=holdfast-test"]
plugins.security.authcz.admin_dn: ["CN=nobody,O=holdfast-test"]
plugins.security.allow_default_init_securityindex: true
plugins.security.restapi.roles_enabled: ["all_access"]
"#;

const AUTHENTICATION: &str = "
config:
  dynamic:
    http: {anonymous_auth_enabled: false}
    authc:
      basic:
        http_enabled: true
        transport_enabled: true
        order: 0
        http_authenticator: {type: basic, challenge: true}
        authentication_backend: {type: intern}
";

/// What a shipper needs and no more.
const ROLES: &str = r#"
shipper_of_logs:
  cluster_permissions: ["cluster_monitor", "indices:data/write/bulk", "indices:data/read/mget"]
  index_permissions:
    - index_patterns: ["logs-*"]
      allowed_actions:
        - "read"
        - "indices:data/write/index"
        - "indices:data/write/bulk*"
        - "indices:admin/create"
        - "indices:admin/auto_create"
        - "indices:admin/data_stream/create"
        - "indices:admin/mapping/put"
        - "indices:admin/mapping/auto_put"
"#;

/// Writes the configuration directory.
pub fn configure(config: &Path, secured: Secured) -> Result<()> {
    let mut text = String::new();
    if secured == Secured::No {
        text.push_str("plugins.security.disabled: true\n");
    } else {
        text.push_str(SECURITY);
        configure_security(&config.join("opensearch-security"))?;
    }
    if secured == Secured::WithClientCertificate {
        text.push_str("plugins.security.ssl.http.clientauth_mode: REQUIRE\n");
    }
    Ok(fs::write(config.join("opensearch.yml"), text)?)
}

/// The plugin reads these once, into an index of its own.
fn configure_security(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let users = format!(
        "{}:\n  hash: '{ADMINISTRATOR_HASH}'\n  backend_roles: [admin]\n\
         {}:\n  hash: '{SHIPPER_HASH}'\n",
        ADMINISTRATOR.name, SHIPPER.name,
    );
    let mapping = format!(
        "all_access:\n  backend_roles: [admin]\nshipper_of_logs:\n  users: [{}]\n",
        SHIPPER.name
    );
    let files = [
        ("internal_users", "internalusers", users.as_str()),
        ("config", "config", AUTHENTICATION),
        ("roles", "roles", ROLES),
        ("roles_mapping", "rolesmapping", &mapping),
        ("action_groups", "actiongroups", ""),
        ("tenants", "tenants", ""),
        ("nodes_dn", "nodesdn", ""),
        ("allowlist", "allowlist", "config:\n  enabled: false\n"),
        ("audit", "audit", "config:\n  enabled: false\n"),
    ];
    for (file, kind, text) in files {
        let head = format!("_meta:\n  type: {kind}\n  config_version: 2\n");
        fs::write(dir.join(file).with_extension("yml"), head + text)?;
    }
    Ok(())
}

/// The command that runs it in the foreground, without its settings.
pub fn command(home: &Path, config: &Path) -> Vec<OsString> {
    let mut command = vec![java().into_os_string()];
    command.extend(java_options());
    let property = |name: &str, value: &Path| {
        let mut text = OsString::from(format!("-D{name}="));
        text.push(value);
        text
    };
    command.push(property("opensearch.path.home", home));
    command.push(property("opensearch.path.conf", config));
    command.push(property("java.io.tmpdir", &home.with_file_name("temporary")));
    let fixed = [
        "-Djava.security.manager=allow",
        "-Dlog4j2.disable.jmx=true",
        "-Dfile.encoding=UTF-8",
        "-Djna.nosys=true",
        "-Dio.netty.noUnsafe=true",
        "-Djava.locale.providers=SPI,CLDR",
        "-Dopensearch.distribution.type=tar",
        "-Dopensearch.bundled_jdk=false",
        "-cp",
    ];
    command.extend(fixed.map(OsString::from));
    command.push(home.join("lib/*").into_os_string());
    command.push("org.opensearch.bootstrap.OpenSearch".into());
    command
}
