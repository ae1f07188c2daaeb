"""What cannot be right is refused before any host is touched, and it is said what to do."""

import re

import pytest
from conftest import PROVISIONING


def refused(site, *words):
    code, output = site.play(PROVISIONING / "site.yml")
    text = re.sub(r"\s+", " ", output)
    assert code != 0, text
    for word in words:
        assert word in text, text[-3000:]
    assert "UNREACHABLE" not in output, "a host was asked"
    assert set(re.findall(r"changed=(\d+)", output)) == {"0"}


def even_votes(site):
    site.group("db")["db4"] = {"host_address": "10.0.2.34"}


def address_outside(site):
    site.vars["edge_shared_address"] = "198.51.100.10"


def inner_address_outside(site):
    site.vars["inner_shared_address"] = "10.0.3.10"


def address_taken(site):
    site.vars["inner_shared_address"] = "10.0.2.11"


def no_secret(site):
    del site.secrets["vault_database_sst_password"]


def empty_secret(site):
    site.secrets["vault_wordpress_salt"] = ""


def two_writers(site):
    site.group("db")["db2"]["galera_writer"] = True


def no_writer(site):
    del site.group("db")["db1"]["galera_writer"]


def unknown_flavour(site):
    site.vars["galera_flavour"] = "mysql"


def no_zone(site):
    site.hosts["all"]["hosts"] = {"lost1": {"host_address": "10.0.2.99"}}


def two_zones(site):
    site.group("web")["db1"] = {}


def empty_part(site):
    site.hosts["all"]["children"]["log"]["hosts"] = {}


@pytest.mark.parametrize("wrong, words", [
    (even_votes, ["6 votes", "Add a database or an arbitrator, or take one away"]),
    (address_outside, ["198.51.100.10 is not in 192.0.2.0/24", "Take a free address"]),
    (inner_address_outside, ["10.0.3.10 is not in 10.0.2.0/24"]),
    (address_taken, ["10.0.2.11 is the own address of a host", "take a free one"]),
    (no_secret, ["vault_database_sst_password", "vault.example.yml"]),
    (empty_secret, ["vault_wordpress_salt", "ansible-vault encrypt"]),
    (two_writers, ["2 hosts have galera_writer: true (db1, db2)", "Leave the mark on one"]),
    (no_writer, ["0 hosts have galera_writer: true"]),
    (unknown_flavour, ["galera_flavour is 'mysql'", "mariadb or percona"]),
    (no_zone, ["lost1 is in none of the zones", "Put it into exactly one of these groups"]),
    (two_zones, ["db1 is in none of the zones", "or in two"]),
    (empty_part, ["The group log of the inventory is empty"]),
], ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_inventory_is_refused(site, wrong, words):
    wrong(site)
    refused(site, *words)


def test_the_example_is_not_refused(site):
    code, output = site.play(PROVISIONING / "site.yml", "--list-hosts")
    assert code == 0, output
    # It passes its own checks, and then looks for hosts that are not there.
    code, output = site.play(PROVISIONING / "site.yml", "-e", "ansible_timeout=1", "--tags", "always", "--limit", "lb1",
                             "-e", "ansible_ssh_common_args='-o ProxyCommand=false'")
    assert "No secret is missing" in output and "UNREACHABLE" in output, output[-2000:]


@pytest.mark.parametrize("playbook", ["galera_recover", "node_replace", "restore_site", "rolling_upgrade", "rotate_keys"])
def test_playbooks_are_sound(site, playbook):
    code, output = site.play(PROVISIONING / f"{playbook}.yml", "--syntax-check", "-e", "node=db2")
    assert code == 0, output
