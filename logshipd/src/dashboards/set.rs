//! The dashboards themselves: what each panel counts, of which data streams, by what.

use super::panel::Kind::{Area, Columns, Documents, Line, Number, Pie, Table};
use super::panel::Metric::{Average, Count, Distinct, Max, Percentiles, Sum};
use super::panel::{Dashboard, Kind, Metric, Panel, Source, Terms};

const fn by(field: &'static str, size: u32) -> Terms {
    Terms { field, size }
}

/// A panel of half the width, without a query.
const fn panel(
    title: &'static str,
    kind: Kind,
    source: Source,
    metrics: &'static [Metric],
    splits: &'static [Terms],
) -> Panel {
    Panel { title, kind, source, query: "", metrics, splits, width: 24 }
}

impl Panel {
    const fn only(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    const fn wide(self, width: u32) -> Self {
        Self { width, ..self }
    }
}

const TIME: &str = "event.duration";

/// All of them.
pub const DASHBOARDS: &[Dashboard] = &[SITE, HAPROXY, MYSQL, CLUSTER, ERRORS, SHIPPERS];

const SITE: Dashboard = Dashboard {
    id: "logshipd-site",
    title: "Site overview",
    description: "How many requests, how many fail, how long they take, and which ones",
    panels: &[
        panel("Requests", Number, Source::Access, &[Count], &[]).wide(12),
        panel("Failed requests", Number, Source::Access, &[Count], &[])
            .only("http.response.status_code:[500 TO 599]")
            .wide(12),
        panel("Time of answers, ns", Number, Source::Access, &[Percentiles(TIME)], &[]),
        panel(
            "Answers by status",
            Columns,
            Source::Access,
            &[Count],
            &[by("http.response.status_code", 10)],
        ),
        panel("Time of answers", Line, Source::Access, &[Percentiles(TIME)], &[]),
        panel(
            "Slowest paths, by sum",
            Table,
            Source::Access,
            &[Sum(TIME), Count, Percentiles(TIME)],
            &[by("url.path", 20)],
        ),
        panel(
            "Most wanted paths",
            Table,
            Source::Access,
            &[Count, Sum("http.response.body.bytes")],
            &[by("url.path", 20)],
        ),
        panel(
            "By upstream",
            Line,
            Source::Access,
            &[Average("nginx.access.upstream.response_time")],
            &[by("nginx.access.upstream.address", 5)],
        ),
        panel("Bytes sent", Area, Source::Access, &[Sum("http.response.body.bytes")], &[]),
        panel(
            "Clients",
            Table,
            Source::Access,
            &[Count, Distinct("url.path")],
            &[by("source.address", 20)],
        )
        .wide(16),
        panel("Agents", Pie, Source::Access, &[Count], &[by("user_agent.name", 8)]).wide(16),
        panel("Cache", Pie, Source::Access, &[Count], &[by("nginx.access.cache_status", 8)])
            .wide(16),
        panel("Attempts to log in", Columns, Source::Access, &[Count], &[by("source.address", 8)])
            .only("url.path:(\"/wp-login.php\" OR \"/xmlrpc.php\")"),
        panel(
            "Failed",
            Documents(&[
                "http.response.status_code",
                "url.original",
                "source.address",
                "event.duration",
            ]),
            Source::Access,
            &[],
            &[],
        )
        .only("http.response.status_code:[500 TO 599]"),
    ],
};

const HAPROXY: Dashboard = Dashboard {
    id: "logshipd-haproxy",
    title: "HAProxy",
    description: "Backends and servers: status, where the time goes, queues, retries, how connections end",
    panels: &[
        panel(
            "Answers by status",
            Columns,
            Source::Haproxy,
            &[Count],
            &[by("http.response.status_code", 10)],
        ),
        panel("By backend", Area, Source::Haproxy, &[Count], &[by("haproxy.backend_name", 10)]),
        panel(
            "Where the time goes, ms",
            Area,
            Source::Haproxy,
            &[
                Average("haproxy.http.request.time_wait_ms"),
                Average("haproxy.total_waiting_time_ms"),
                Average("haproxy.connection_wait_time_ms"),
                Average("haproxy.http.request.time_wait_without_data_ms"),
            ],
            &[],
        )
        .only("_exists_:http.response.status_code"),
        panel(
            "Queues",
            Line,
            Source::Haproxy,
            &[Max("haproxy.server_queue"), Max("haproxy.backend_queue")],
            &[],
        )
        .only("_exists_:haproxy.server_queue"),
        panel(
            "How connections end",
            Table,
            Source::Haproxy,
            &[Count],
            &[by("haproxy.termination_state", 20), by("haproxy.backend_name", 5)],
        ),
        panel(
            "Retries",
            Table,
            Source::Haproxy,
            &[Sum("haproxy.connections.retries"), Count],
            &[by("haproxy.backend_name", 10), by("haproxy.server_name", 10)],
        )
        .only("_exists_:haproxy.connections.retries"),
        panel(
            "Failed, by server",
            Columns,
            Source::Haproxy,
            &[Count],
            &[by("haproxy.server_name", 10)],
        )
        .only("http.response.status_code:[500 TO 599]"),
        panel("No server", Number, Source::Haproxy, &[Count], &[])
            .only("haproxy.server_name:\"<NOSRV>\""),
        panel(
            "Servers up and down",
            Documents(&[
                "haproxy.backend_name",
                "haproxy.server_name",
                "haproxy.state.event",
                "haproxy.state.reason",
            ]),
            Source::Haproxy,
            &[],
            &[],
        )
        .only("_exists_:haproxy.state.event")
        .wide(48),
    ],
};

const MYSQL: Dashboard = Dashboard {
    id: "logshipd-mysql",
    title: "MySQL slow queries",
    description: "Which queries take the time of the database, by fingerprint",
    panels: &[
        panel("Slow queries", Columns, Source::SlowLog, &[Count], &[by("host.name", 10)]),
        panel(
            "Time in slow queries",
            Area,
            Source::SlowLog,
            &[Sum(TIME)],
            &[by("mysql.slowlog.digest", 8)],
        ),
        panel(
            "By fingerprint",
            Table,
            Source::SlowLog,
            &[
                Sum(TIME),
                Count,
                Percentiles(TIME),
                Average("mysql.slowlog.rows_examined"),
                Average("mysql.slowlog.examine_ratio"),
            ],
            &[by("mysql.slowlog.digest", 20), by("mysql.slowlog.fingerprint", 1)],
        )
        .wide(48),
        panel(
            "Full scans",
            Table,
            Source::SlowLog,
            &[Count, Sum("mysql.slowlog.rows_examined")],
            &[by("mysql.slowlog.fingerprint", 10)],
        )
        .only("mysql.slowlog.full_scan:true"),
        panel(
            "Temporary tables on disk",
            Table,
            Source::SlowLog,
            &[Count, Sum(TIME)],
            &[by("mysql.slowlog.fingerprint", 10)],
        )
        .only("mysql.slowlog.tmp_table_on_disk:true"),
        panel("By user", Pie, Source::SlowLog, &[Sum(TIME)], &[by("user.name", 10)]).wide(16),
        panel("By schema", Pie, Source::SlowLog, &[Sum(TIME)], &[by("mysql.slowlog.schema", 10)])
            .wide(16),
        panel("By host", Pie, Source::SlowLog, &[Sum(TIME)], &[by("host.name", 10)]).wide(16),
        panel(
            "Queries",
            Documents(&[
                "event.duration",
                "user.name",
                "mysql.slowlog.rows_examined",
                "mysql.slowlog.query",
            ]),
            Source::SlowLog,
            &[],
            &[],
        )
        .wide(48),
    ],
};

/// What changes the state of a cluster, of whatever program.
const EVENTS: &str =
    "_exists_:galera.state.to OR _exists_:haproxy.state.event OR _exists_:event.action";

const CLUSTER: Dashboard = Dashboard {
    id: "logshipd-cluster",
    title: "Cluster events",
    description: "One time line of what changed: nodes of the database, servers behind the balancer",
    panels: &[
        panel("Events by host", Columns, Source::All, &[Count], &[by("host.name", 10)])
            .only(EVENTS),
        panel("Events by kind", Columns, Source::All, &[Count], &[by("event.action", 15)])
            .only(EVENTS),
        panel(
            "States of database nodes",
            Table,
            Source::MysqlError,
            &[Count, Max("galera.seqno")],
            &[by("host.name", 10), by("galera.state.to", 10)],
        )
        .only("_exists_:galera.seqno"),
        panel(
            "Servers behind the balancer",
            Table,
            Source::Haproxy,
            &[Count],
            &[by("haproxy.server_name", 10), by("haproxy.state.event", 10)],
        )
        .only("_exists_:haproxy.state.event"),
        panel(
            "Time line",
            Documents(&["host.name", "event.action", "message"]),
            Source::All,
            &[],
            &[],
        )
        .only(EVENTS)
        .wide(48),
    ],
};

const ERRORS: Dashboard = Dashboard {
    id: "logshipd-errors",
    title: "Errors",
    description: "What the servers complain about",
    panels: &[
        panel(
            "nginx, by kind",
            Columns,
            Source::NginxError,
            &[Count],
            &[by("nginx.error.kind", 10)],
        ),
        panel("nginx, by level", Pie, Source::NginxError, &[Count], &[by("log.level", 8)]),
        panel(
            "Database, by host",
            Table,
            Source::MysqlError,
            &[Count],
            &[by("host.name", 10), by("log.level", 5)],
        ),
        panel("Database, by level", Columns, Source::MysqlError, &[Count], &[by("log.level", 5)]),
        panel(
            "nginx",
            Documents(&["log.level", "nginx.error.kind", "source.address", "message"]),
            Source::NginxError,
            &[],
            &[],
        )
        .wide(48),
        panel(
            "Database",
            Documents(&["host.name", "log.level", "event.code", "message"]),
            Source::MysqlError,
            &[],
            &[],
        )
        .only("log.level:(error OR warning)")
        .wide(48),
    ],
};

const SHIPPERS: Dashboard = Dashboard {
    id: "logshipd-shippers",
    title: "Shippers",
    description: "What arrives from where, and what could not be read or was refused",
    panels: &[
        panel("Lines by host", Columns, Source::All, &[Count], &[by("host.name", 20)]),
        panel(
            "Last line by file",
            Table,
            Source::All,
            &[Max("@timestamp"), Count, Max("log.offset")],
            &[by("host.name", 20), by("log.file.path", 10)],
        ),
        panel("Not understood", Table, Source::All, &[Count], &[by("log.file.path", 20)])
            .only("_exists_:error.message"),
        panel(
            "Not understood, lines",
            Documents(&["host.name", "log.file.path", "error.message", "message"]),
            Source::All,
            &[],
            &[],
        )
        .only("_exists_:error.message"),
    ],
};
