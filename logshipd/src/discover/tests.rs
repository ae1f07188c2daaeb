//! Discovery over trees that look like real hosts.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::document::Document;
use crate::parse::{Context, Privacy};

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn found(files: &[(&str, &str)]) -> Found {
    discover(tree(files).path())
}

fn list(found: &Found) -> Vec<(&str, &str)> {
    found.sources.iter().map(|source| (source.pattern.as_str(), source.dataset)).collect()
}

fn texts(warnings: &[Warning]) -> Vec<String> {
    let text = |warning: &Warning| format!("{}: {}", warning.origin, warning.problem);
    warnings.iter().map(text).collect()
}

fn parsed(source: &Source, line: &str) -> serde_json::Value {
    let privacy = Privacy::default();
    let context = Context { read_at: 0, zone: chrono_tz::Tz::UTC, privacy };
    let mut document = Document::default();
    source.format.as_ref().unwrap().parse(line.as_bytes(), &context, &mut document).unwrap();
    serde_json::from_slice(document.finish()).unwrap()
}

const NGINX: &str = r#"user www-data;
error_log /var/log/nginx/error.log;
events { worker_connections 768; } # ends
http {
    access_log /var/log/nginx/access.log;
    include /etc/nginx/sites-enabled/*;
    log_format later escape=json '{"time":"$time_iso8601","req":"$request",'
        '"status":$status,"rt":$request_time,"shop":"${shop_name}"}';
    log_format broken '$http_a$http_b';
}
stream { log_format s '$x'; access_log /var/log/nginx/stream.log s; }
"#;
const SITE: &str = r#"server {
    access_log /var/log/nginx/$host.access.json later buffer=32k flush=5s if=$loggable;
    error_log /var/log/nginx/site.error.log warn;
    location = /healthz { access_log off; return 200 "a } {"; }
    location /lua { content_by_lua_block { local t = { "access_log /no;" } } }
    access_log syslog:server=unix:/dev/log,nohostname combined;
    access_log /var/log/nginx/b.log broken;
    access_log /var/log/nginx/c.log nowhere;
}
"#;

#[test]
fn nginx_is_read_through_its_includes() {
    let dir = tree(&[("etc/nginx/nginx.conf", NGINX), ("etc/nginx/sites-available/site", SITE)]);
    fs::create_dir(dir.path().join("etc/nginx/sites-enabled")).unwrap();
    // As Debian does it: the link is an absolute one.
    let link = dir.path().join("etc/nginx/sites-enabled/site");
    symlink("/etc/nginx/sites-available/site", link).unwrap();
    let found = discover(dir.path());
    assert_eq!(
        list(&found),
        [
            ("/var/log/nginx/access.log", "nginx.access"),
            ("/var/log/nginx/*.access.json", "nginx.access"),
            ("/var/log/nginx/b.log", "generic"),
            ("/var/log/nginx/error.log", "nginx.error"),
            ("/var/log/nginx/site.error.log", "nginx.error"),
        ]
    );
    assert_eq!(
        texts(&found.warnings),
        [
            "/etc/nginx/nginx.conf:9: log_format broken: nothing is between `$http_a` and \
             `$http_b`, so their values cannot be told apart; its lines are sent as messages",
            "/etc/nginx/nginx.conf:7: log_format later: no field is known for `$shop_name`, it \
             becomes `nginx.access.variable.shop_name`",
            "/etc/nginx/sites-enabled/site:8: `nowhere` is no `log_format` of this nginx",
        ]
    );
    assert_eq!(found.elsewhere.len(), 1);
    let document = parsed(
        &found.sources[1],
        r#"{"time":"2026-11-23T13:01:56+00:00","req":"GET /a HTTP/1.1","status":200,"rt":0.338,"shop":"x"}"#,
    );
    assert_eq!(document["url.path"], "/a");
    assert_eq!(document["http.response.status_code"], 200);
    assert_eq!(document["nginx.access.variable.shop_name"], "x");
}

#[test]
fn the_formats_of_haproxy_reach_the_files_of_syslog() {
    let found = found(&[
        (
            "etc/haproxy/haproxy.cfg",
            "global\n  log /dev/log local0\ndefaults\n  log global\n  option httplog\nfrontend a\n  \
             log-format \"%ci:%cp [%tr] %ft %ST %[var(txn.x)] %{+Q}r\"\n  error-log-format x%ci%cp\n",
        ),
        (
            "etc/rsyslog.d/49-haproxy.conf",
            "$AddUnixListenSocket /var/lib/haproxy/dev/log\n:programname, startswith, \"haproxy\" {\n  \
             /var/log/haproxy.log\n  stop\n}\n",
        ),
        (
            "etc/rsyslog.conf",
            "module(load=\"imuxsock\")\n*.*;auth,authpriv.none\t\t-/var/log/syslog\n\
             auth,authpriv.*\t/var/log/auth.log\n*.emerg :omusrmsg:*\n\
             kern.*\t-/var/log/kern.log\nmail,news.err\t/var/log/mail.err\n\
             action(type=\"omfile\" File=\"/var/log/all.log\")\n",
        ),
    ]);
    let syslog = "system.syslog";
    assert_eq!(
        list(&found),
        [
            ("/var/log/syslog", syslog),
            ("/var/log/auth.log", syslog),
            ("/var/log/all.log", syslog),
            ("/var/log/haproxy.log", syslog),
        ]
    );
    assert_eq!(found.warnings.len(), 2, "{found}");
    let copies = texts(&found.elsewhere);
    for file in ["kern.log", "mail.err"] {
        let copy = format!("`/var/log/{file}` is a copy of lines of `/var/log/syslog`: not read");
        assert!(copies.iter().any(|text| text.ends_with(&copy)), "{copies:?}");
    }
    let document = parsed(
        &found.sources[3],
        "2026-11-23T13:05:21.461595+00:00 lb2 haproxy[90]: 10.0.0.1:37974 \
         [23/Nov/2026:13:05:21.460] www 200 gold \"GET /h HTTP/1.1\"",
    );
    assert_eq!(document["haproxy.variable.var_txn_x"], "gold", "{document}");
    assert_eq!(document["haproxy.frontend_name"], "www");
    assert_eq!(document["url.path"], "/h");
}

#[test]
fn databases_pools_and_services_are_found() {
    let found = found(&[
        ("etc/mysql/my.cnf", "[client]\nlog-error=/no\n!includedir /etc/mysql/mariadb.conf.d/\n"),
        (
            "etc/mysql/mariadb.conf.d/50-server.cnf",
            "[mariadbd]\ndatadir = /data/mysql\nslow-query-log\nslow_query_log_file = slow.log # x\n\
             log_error=\"/var/log/mysql/error.log\"\n",
        ),
        (
            "etc/php/8.2/fpm/php-fpm.conf",
            "[global]\nerror_log = /var/log/php8.2-fpm.log\ninclude=/etc/php/8.2/fpm/pool.d/*.conf\n",
        ),
        (
            "etc/php/8.2/fpm/pool.d/www.conf",
            "[www]\nslowlog = log/$pool.slow\n;access.log = /no\naccess.log = /var/log/$pool.access\n\
             php_admin_value[error_log] = /var/log/php.err\n[b]\naccess.log=/var/log/b\n\
             access.format = \"%p %R\"\n",
        ),
        ("etc/lsyncd/lsyncd.conf.lua", "settings {\n  logfile = \"/var/log/lsyncd.log\",\n}\n"),
        ("etc/proxysql.cnf", "datadir=\"/srv/proxysql\"\n"),
        ("etc/default/garb", "LOG_FILE=\"/var/log/garbd.log\"\n"),
        ("etc/keepalived/keepalived.conf", "global_defs {\n}\n"),
    ]);
    assert_eq!(
        list(&found),
        [
            ("/var/log/mysql/error.log", "mysql.error"),
            ("/data/mysql/slow.log", "mysql.slowlog"),
            ("/var/log/php8.2-fpm.log", "php_fpm.error"),
            ("/var/log/www.slow", "php_fpm.slow"),
            ("/var/log/php.err", "php.error"),
            ("/var/log/www.access", "php_fpm.access"),
            ("/var/log/b", "generic"),
            ("/var/log/lsyncd.log", "lsyncd.log"),
            ("/srv/proxysql/proxysql.log", "proxysql.log"),
            ("/var/log/garbd.log", "mysql.error"),
        ]
    );
    assert_eq!(
        texts(&found.elsewhere),
        ["/etc/keepalived/keepalived.conf: keepalived logs to the journal: no rsyslog"]
    );
    assert_eq!(found.warnings.len(), 1);
}

#[test]
fn hostile_configurations_end() {
    let loops = "include /etc/nginx/*.conf; include /etc/nginx/nginx.conf;";
    let large = "x".repeat(2 << 20);
    let dir = tree(&[
        ("etc/nginx/nginx.conf", loops),
        ("etc/nginx/a.conf", &"http { log_format x '$a".repeat(1000)),
        ("etc/mysql/my.cnf", "!include /etc/mysql/my.cnf\n[mysqld]\n!includedir /etc/mysql\n"),
        ("etc/haproxy/haproxy.cfg", &large),
    ]);
    // A way out of the root leads to nothing.
    symlink("/../../../../etc/passwd", dir.path().join("etc/rsyslog.conf")).unwrap();
    let fifo = dir.path().join("etc/lsyncd.conf");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    let started = std::time::Instant::now();
    let found = discover(dir.path());
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
    let text = texts(&found.warnings).join("\n");
    for part in ["larger than any", "too deep", "not a regular file"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(discover(&dir.path().join("none")).sources.is_empty());
}
