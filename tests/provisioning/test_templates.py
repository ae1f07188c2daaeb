"""Templates of all roles, rendered for the example site and its variants, without any machine."""

import re
import tomllib

import pytest
import yaml
from conftest import PROVISIONING


def test_one_database_takes_the_writes_and_the_others_wait(site):
    file = site.render("lb", "haproxy", "haproxy.cfg.j2")("lb1", "haproxy.cfg")
    writer = file.split("listen db-writer")[1].split("listen db-readers")[0]
    servers = re.findall(r"server (\S+) .* check port 9200(.*)", writer)
    assert servers == [("db1", ""), ("db2", " backup"), ("db3", " backup")]
    assert "bind 192.0.2.10:443 transparent ssl" in file and "listen sessions" not in file


def test_the_writer_is_the_inventorys(site):
    del site.group("db")["db1"]["galera_writer"]
    site.group("db")["db2"]["galera_writer"] = True
    file = site.render("lb", "haproxy", "haproxy.cfg.j2")("lb2", "haproxy.cfg")
    assert re.findall(r"server (db\d) .* check", file) == ["db2", "db1", "db3"]


def test_redis_has_a_front_that_finds_its_primary(site):
    site.vars["sessions_backend"] = "redis"
    assert "expect string role:master" in site.render("lb", "haproxy", "haproxy.cfg.j2")("lb1", "haproxy.cfg")


def test_shared_addresses_are_on_the_interfaces_that_have_the_own_ones(site):
    text = site.render("lb", "keepalived", "keepalived.conf.j2")
    first, second = text("lb1", "keepalived.conf"), text("lb2", "keepalived.conf")
    assert re.findall(r"interface (\S+)", first) == ["ens3", "ens4"]
    assert re.findall(r"unicast_src_ip (\S+)", first) == ["192.0.2.11", "10.0.2.11"]
    assert re.findall(r"192\.0\.2\.10/24|10\.0\.2\.10/24", first) == ["192.0.2.10/24", "10.0.2.10/24"]
    assert re.findall(r"priority (\d+)", first + second) == ["150", "150", "100", "100"]


@pytest.mark.parametrize("host, zone, has, has_not", [
    ("lb1", "lb", ["ip daddr 192.0.2.10 tcp dport { 80, 443 }", "meta l4proto 112"], ["dport { 9200 }"]),
    ("web1", "web", ["ip saddr @zone_lb tcp dport { 80 }", "@zone_web tcp dport { 8022, 11211, 6379 }"], ["443"]),
    ("db1", "db", ["ip saddr @zone_web tcp dport { 3306 }", "@zone_db udp dport { 4567 }"], ["@zone_log", "443"]),
    ("log1", "log", ["ip saddr @zone_db tcp dport { 2022 }"], ["3306", "443"]),
])
def test_the_firewall_of_each_zone(site, host, zone, has, has_not):
    file = site.render("lb:web:db:log", "nftables", "nftables.conf.j2")(host, "nftables.conf")
    assert file.count("policy drop") == 2 and "flush ruleset" not in file
    chain = file.split("chain input")[1].split("chain forward")[0]
    assert "ip saddr @admins tcp dport 22 accept" in chain
    assert len(re.findall(r"dport [{ ]*22\b", chain)) == 1, "ssh is for administrators"
    for part in has:
        assert part in chain, (zone, part)
    for part in has_not:
        assert part not in chain, (zone, part)


def test_members_write_the_same_gtids(site):
    text = site.render("db", "galera", "mariadb.cnf.j2")
    files = [text(host, "mariadb.cnf") for host in ["db1", "db2", "db3"]]
    assert [re.search(r"^gtid_domain_id = (\d)", file, re.M)[1] for file in files] == ["1", "2", "3"]
    assert {re.search(r"^server_id = (\d+)", file, re.M)[1] for file in files} == {"100"}
    assert all("wsrep_gtid_domain_id = 0\n" in file for file in files)
    assert "gcomm://10.0.2.31,10.0.2.32,10.0.2.33" in files[0] and "socket.ssl_key=" in files[0]


def test_percona_has_a_configuration_of_its_own(site):
    site.vars |= {"galera_flavour": "percona", "galera_percona_key_content": "key"}
    file = site.render("db", "galera", "percona.cnf.j2")("db2", "percona.cnf")
    assert "pxc_encrypt_cluster_traffic = ON" in file and "wsrep_sst_method = xtrabackup-v2" in file
    assert "gtid_mode = ON" in file and "[mysqld]" in file


def test_proxysql_has_one_writer_and_knows_its_peers(site):
    site.vars |= {"proxysql_enabled": True, "proxysql_repository_key": "key"}
    file = site.render("web", "proxysql", "proxysql.cnf.j2")("web1", "proxysql.cnf")
    assert "max_writers=1" in file and file.count("port=6032") == 2
    assert re.findall(r'address="([\d.]+)".* weight=(\d+)', file) == [
        ("10.0.2.31", "1000"), ("10.0.2.32", "900"), ("10.0.2.33", "800")]
    assert file.count("{") == file.count("}") and file.count("(") == file.count(")")


@pytest.mark.parametrize("flavour, file, key", [
    ("opensearch", "dashboards.yml", "opensearch.hosts"), ("elasticsearch", "dashboards.yml", "elasticsearch.hosts")])
def test_dashboards_ask_the_store_and_answer_this_host_only(site, flavour, file, key):
    site.vars |= {"search_flavour": flavour, "dashboards_repository_key": "key"}
    found = yaml.safe_load(site.render("log", "dashboards", "dashboards.yml.j2")("log1", file))
    assert found["server.host"] == "127.0.0.1" and found[key] == ["http://10.0.2.41:9200"]


def test_the_monitoring_agent_checks_its_server(site):
    site.vars |= {"pmm_client_server": "pmm.example.org:443", "pmm_client_repository_key": "key"}
    found = yaml.safe_load(site.render("db", "pmm_client", "pmm-agent.yaml.j2")("db1", "pmm-agent.yaml"))
    assert found["server"]["insecure-tls"] is False and found["id"] == "db1"


def test_backups_are_taken_from_one_database_and_the_log_from_two(site):
    text = site.render("web:db:!db1:log", "backupd", "backupd.toml.j2")
    found = {host: tomllib.loads(text(host, "backupd.toml")) for host in ["web1", "web2", "db2", "db3", "log1"]}
    assert [sorted(found[host].get("jobs", {})) for host in found] == [
        ["site"], ["site"], ["db-log"], ["db", "db-log"], []]
    assert found["db3"]["depots"]["vault"]["sftp"]["user"] == "depot-db3" and "keeper" in found["log1"]


@pytest.mark.parametrize("backend, has", [
    ("memcached", '10.0.2.21:11211,10.0.2.22:11211"'), ("redis", "tcp://10.0.2.10:6379")])
def test_sessions_are_on_more_than_one_node(site, backend, has):
    site.vars["sessions_backend"] = backend
    assert has in site.render("web", "php", "holdfast.ini.j2")("web1", "holdfast.ini")


def test_only_one_redis_takes_writes(site):
    site.vars["sessions_backend"] = "redis"
    text = site.render("web", "sessions", "redis.conf.j2")
    assert "replicaof" not in text("web1", "redis.conf") and "replicaof 10.0.2.21 6379" in text("web2", "redis.conf")


@pytest.mark.parametrize("role", sorted(path.name for path in (PROVISIONING / "roles").iterdir()))
def test_a_role_is_whole(role):
    folder = PROVISIONING / "roles" / role
    defaults = (folder / "defaults/main.yml").read_text()
    options = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert len(defaults.splitlines()) <= 60
    assert set(yaml.safe_load(defaults)) <= set(options), "every default has a type"
    readme = (folder / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in options)
    assert all(name.startswith(f"{role}_") for name in options)
    if role != "site_plan":
        assert "fail_msg" in (folder / "tasks/preflight.yml").read_text()
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix in {".yml", ".j2"} and "templates" not in file.parts and "meta" not in file.parts:
            assert len(file.read_text().splitlines()) <= 110, file
    for template in (folder / "templates").glob("*.j2") if (folder / "templates").exists() else []:
        assert "ansible_managed" in template.read_text() or template.name == "account.sql.j2" or "key.pub" in template.name
