//! The fields of all documents, with their types: what the mappings are made of. Names are those of the Elastic
//! Common Schema where it has one.
//!
//! A field that is not here is kept in the document and can be seen, but not searched: what a log holds can never
//! grow the mapping.

use super::datasets::Module;

/// How a field is indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A point in time, to the nanosecond.
    Time,
    /// An address.
    Address,
    /// A name that is searched whole and counted.
    Name,
    /// A long text of which the beginning is searched whole and counted.
    LongName,
    /// Words, without the positions that only scoring needs.
    Words,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// Yes or no.
    Flag,
    /// Kept, not indexed.
    Kept,
}

use Kind::{Address, Flag, Kept, LongName, Name, Number, Time, Whole, Words};

/// One field.
pub type Field = (&'static str, Kind);

/// What any document may have.
pub const BASE: &[Field] = &[
    ("@timestamp", Time),
    ("message", Words),
    // Not a constant: OpenSearch wants the value of one in the template.
    ("data_stream.namespace", Name),
    ("event.created", Time),
    ("event.start", Time),
    ("event.end", Time),
    ("event.duration", Whole),
    ("event.action", Name),
    ("event.code", Name),
    ("event.outcome", Name),
    ("event.provider", Name),
    ("event.original", Kept),
    ("host.name", Name),
    ("log.file.path", Name),
    ("log.offset", Whole),
    ("log.level", Name),
    ("log.origin.file.name", Name),
    ("log.origin.file.line", Whole),
    ("log.origin.function", Name),
    ("log.logger", Name),
    ("log.flags", Name),
    ("log.syslog.appname", Name),
    ("log.syslog.hostname", Name),
    ("log.syslog.priority", Whole),
    ("log.syslog.procid", Name),
    ("log.syslog.severity.code", Whole),
    ("systemd.unit", Name),
    ("error.message", Words),
    ("error.code", Name),
    ("error.type", Name),
    ("error.stack_trace", Words),
    ("process.name", Name),
    ("process.pid", Whole),
    ("process.thread.id", Whole),
    ("process.command_line", LongName),
    ("process.exit_code", Whole),
    ("process.working_directory", Name),
    ("source.address", Name),
    ("source.ip", Address),
    ("source.domain", Name),
    ("source.port", Whole),
    ("server.address", Name),
    ("server.port", Whole),
    ("destination.address", Name),
    ("destination.domain", Name),
    ("destination.port", Whole),
    ("user.name", Name),
    ("user.effective.name", Name),
    ("service.version", Name),
    ("file.path", Name),
    ("tags", Name),
    ("logshipd.refused", Words),
    ("logshipd.cut_bytes", Whole),
];

/// Requests, wherever they are logged.
pub const WEB: &[Field] = &[
    ("http.version", Name),
    ("http.request.id", Name),
    ("http.request.method", Name),
    ("http.request.referrer", LongName),
    ("http.request.bytes", Whole),
    ("http.response.status_code", Whole),
    ("http.response.bytes", Whole),
    ("http.response.body.bytes", Whole),
    ("url.original", LongName),
    ("url.path", LongName),
    ("url.query", LongName),
    ("url.extension", Name),
    ("url.domain", Name),
    ("url.scheme", Name),
    ("user_agent.original", LongName),
    ("user_agent.name", Name),
    ("user_agent.version", Name),
    ("user_agent.device.name", Name),
    ("user_agent.os.name", Name),
    ("user_agent.os.version", Name),
    ("tls.version", Name),
    ("tls.version_protocol", Name),
    ("tls.cipher", Name),
    ("tls.established", Flag),
    ("tls.resumed", Flag),
    ("tls.client.server_name", Name),
    ("trace.id", Name),
];

/// nginx, both logs.
pub const NGINX: &[Field] = &[
    ("nginx.access.remote_ip_list", Name),
    ("nginx.access.request", LongName),
    ("nginx.access.response_time", Number),
    ("nginx.access.cache_status", Name),
    ("nginx.access.connection", Whole),
    ("nginx.access.connection_requests", Whole),
    ("nginx.access.upstream.address", Name),
    ("nginx.access.upstream.status", Whole),
    ("nginx.access.upstream.response_time", Number),
    ("nginx.access.upstream.response_times", Number),
    ("nginx.access.upstream.header_time", Number),
    ("nginx.access.upstream.header_times", Number),
    ("nginx.access.upstream.connect_time", Number),
    ("nginx.access.upstream.connect_times", Number),
    ("nginx.error.kind", Name),
    ("nginx.error.server", Name),
    ("nginx.error.upstream", Name),
    ("nginx.error.request", LongName),
    ("nginx.error.connection_id", Whole),
    ("nginx.error.zone", Name),
    ("nginx.error.excess", Number),
];

/// HAProxy.
pub const HAPROXY: &[Field] = &[
    ("haproxy.mode", Name),
    ("haproxy.frontend_name", Name),
    ("haproxy.backend_name", Name),
    ("haproxy.server_name", Name),
    ("haproxy.proxy_name", Name),
    ("haproxy.bind_name", Name),
    ("haproxy.termination_state", Name),
    ("haproxy.error_message", Name),
    ("haproxy.bytes_read", Whole),
    ("haproxy.server_queue", Whole),
    ("haproxy.backend_queue", Whole),
    ("haproxy.total_waiting_time_ms", Whole),
    ("haproxy.connection_wait_time_ms", Whole),
    ("haproxy.handshake_time_ms", Whole),
    ("haproxy.idle_time_ms", Whole),
    ("haproxy.data_time_ms", Whole),
    ("haproxy.http.request.time_wait_ms", Whole),
    ("haproxy.http.request.time_wait_without_data_ms", Whole),
    ("haproxy.http.request.time_total_ms", Whole),
    ("haproxy.http.request.captured_cookie", Name),
    ("haproxy.http.request.captured_headers", Name),
    ("haproxy.http.request.raw_request_line", LongName),
    ("haproxy.http.response.captured_cookie", Name),
    ("haproxy.http.response.captured_headers", Name),
    ("haproxy.connections.active", Whole),
    ("haproxy.connections.frontend", Whole),
    ("haproxy.connections.backend", Whole),
    ("haproxy.connections.server", Whole),
    ("haproxy.connections.retries", Whole),
    ("haproxy.connections.redispatched", Flag),
    ("haproxy.connections.fc_err", Whole),
    ("haproxy.connections.ssl_fc_err", Name),
    ("haproxy.connections.ssl_c_err", Whole),
    ("haproxy.connections.ssl_c_ca_err", Whole),
    ("haproxy.is_cut", Flag),
    ("haproxy.state.event", Name),
    ("haproxy.state.reason", Name),
    ("haproxy.state.info", Name),
    ("haproxy.state.code", Whole),
    ("haproxy.state.check_duration", Whole),
    ("haproxy.state.active", Whole),
    ("haproxy.state.backup", Whole),
    ("haproxy.state.is_backup", Flag),
    ("haproxy.state.sessions", Whole),
    ("haproxy.state.requeued", Whole),
    ("haproxy.state.queued", Whole),
];

/// MySQL, Percona Server and MariaDB, with Galera.
pub const MYSQL: &[Field] = &[
    ("mysql.thread_id", Whole),
    ("mysql.error.symbol", Name),
    ("mysql.error.sql_state", Name),
    ("mysql.slowlog.query", LongName),
    ("mysql.slowlog.fingerprint", LongName),
    ("mysql.slowlog.digest", Name),
    ("mysql.slowlog.command", Name),
    ("mysql.slowlog.tables", Name),
    ("mysql.slowlog.schema", Name),
    ("mysql.slowlog.current_user", Name),
    ("mysql.slowlog.weight", Whole),
    ("mysql.slowlog.lock_time.sec", Number),
    ("mysql.slowlog.rows_sent", Whole),
    ("mysql.slowlog.rows_examined", Whole),
    ("mysql.slowlog.rows_affected", Whole),
    ("mysql.slowlog.examine_ratio", Number),
    ("mysql.slowlog.bytes_sent", Whole),
    ("mysql.slowlog.bytes_received", Whole),
    ("mysql.slowlog.full_scan", Flag),
    ("mysql.slowlog.full_join", Flag),
    ("mysql.slowlog.tmp_table", Flag),
    ("mysql.slowlog.tmp_table_on_disk", Flag),
    ("mysql.slowlog.filesort", Flag),
    ("mysql.slowlog.filesort_on_disk", Flag),
    ("mysql.slowlog.priority_queue", Flag),
    ("mysql.slowlog.query_cache_hit", Flag),
    ("mysql.slowlog.is_administration", Flag),
    ("mysql.slowlog.killed", Whole),
    ("mysql.slowlog.last_errno", Whole),
    ("mysql.slowlog.tmp_tables", Whole),
    ("mysql.slowlog.tmp_disk_tables", Whole),
    ("mysql.slowlog.tmp_table_sizes", Whole),
    ("mysql.slowlog.merge_passes", Whole),
    ("mysql.slowlog.created_tmp_tables", Whole),
    ("mysql.slowlog.created_tmp_disk_tables", Whole),
    ("mysql.slowlog.read_first", Whole),
    ("mysql.slowlog.read_last", Whole),
    ("mysql.slowlog.read_key", Whole),
    ("mysql.slowlog.read_next", Whole),
    ("mysql.slowlog.read_prev", Whole),
    ("mysql.slowlog.read_rnd", Whole),
    ("mysql.slowlog.read_rnd_next", Whole),
    ("mysql.slowlog.sort_merge_passes", Whole),
    ("mysql.slowlog.sort_range_count", Whole),
    ("mysql.slowlog.sort_rows", Whole),
    ("mysql.slowlog.sort_scan_count", Whole),
    ("mysql.slowlog.log_slow_rate_limit", Whole),
    ("mysql.slowlog.log_slow_rate_type", Name),
    ("mysql.slowlog.stored_routine", Name),
    ("mysql.slowlog.explain", Kept),
    ("mysql.slowlog.innodb.trx_id", Name),
    ("mysql.slowlog.innodb.io_r_ops", Whole),
    ("mysql.slowlog.innodb.io_r_bytes", Whole),
    ("mysql.slowlog.innodb.io_r_wait.sec", Number),
    ("mysql.slowlog.innodb.rec_lock_wait.sec", Number),
    ("mysql.slowlog.innodb.queue_wait.sec", Number),
    ("mysql.slowlog.innodb.pages_distinct", Whole),
    ("mysql.slowlog.engine.pages_accessed", Whole),
    ("mysql.slowlog.engine.pages_read", Whole),
    ("mysql.slowlog.engine.pages_prefetched", Whole),
    ("mysql.slowlog.engine.pages_updated", Whole),
    ("mysql.slowlog.engine.old_rows_read", Whole),
    ("mysql.slowlog.engine.pages_read_time.ms", Number),
    ("mysql.slowlog.engine.time.ms", Number),
    ("galera.state.from", Name),
    ("galera.state.to", Name),
    ("galera.seqno", Whole),
    ("galera.primary", Flag),
    ("galera.members", Name),
    ("galera.members_count", Whole),
    ("galera.index", Whole),
    ("galera.members_joined", Whole),
    ("galera.members_joined_now", Name),
    ("galera.members_left", Name),
    ("galera.members_partitioned", Name),
    ("galera.peer.id", Name),
    ("galera.peer.name", Name),
    ("galera.donor", Name),
    ("galera.joiner", Name),
    ("galera.cluster.uuid", Name),
];

/// PHP, WordPress and the programs of a cluster that log little.
pub const SERVICES: &[Field] = &[
    ("php_fpm.pool", Name),
    ("php_fpm.event", Name),
    ("php_fpm.slow.function", Name),
    ("php_fpm.cpu.pct", Number),
    ("php_fpm.memory.bytes", Whole),
    ("wordpress.plugin", Name),
    ("wordpress.theme", Name),
    ("wordpress.mu_plugin", Name),
    ("keepalived.instance", Name),
    ("keepalived.group", Name),
    ("keepalived.state", Name),
    ("keepalived.script", Name),
    ("proxysql.hostgroup", Whole),
    ("proxysql.event", Name),
    ("lsyncd.event", Name),
    ("lsyncd.source", Name),
    ("lsyncd.target", Name),
    ("lsyncd.files", Whole),
    ("ssh.method", Name),
    ("ssh.signature", Name),
];

/// The fields of a module's own, beyond [`BASE`].
pub fn of(module: Module) -> &'static [&'static [Field]] {
    match module {
        Module::Nginx => &[WEB, NGINX],
        Module::Haproxy => &[WEB, HAPROXY],
        Module::Mysql => &[MYSQL],
        Module::Services => &[WEB, SERVICES],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_field_stands_once_and_is_no_folder_of_another() {
        for module in Module::ALL {
            let lists = of(module).iter().chain([&BASE]);
            let names: Vec<&str> =
                lists.flat_map(|list| list.iter().map(|(name, _)| *name)).collect();
            let distinct: BTreeSet<&str> = names.iter().copied().collect();
            assert_eq!(distinct.len(), names.len(), "{module:?}");
            for name in &names {
                let below = format!("{name}.");
                assert!(!names.iter().any(|other| other.starts_with(&below)), "{name}");
            }
        }
    }
}
