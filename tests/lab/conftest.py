"""The lab is up and converged before the first test: scripts/lab-test does that. A table of what was measured is kept."""

import json

import pytest

import lab


@pytest.fixture(scope="session", autouse=True)
def tools():
    """What the tests run on the hosts, put there anew each time."""
    vault = lab.subprocess.run(
        [lab.CACHE / "venv/bin/ansible-vault", "view", "--vault-password-file", lab.CACHE / "vault-password",
         lab.CACHE / "vault.yml"], capture_output=True, text=True, check=True).stdout
    secrets = dict(line.split(": ", 1) for line in vault.splitlines() if line.startswith("vault_") and ": " in line)
    for host in ["client", "web1"]:
        lab.run(host, "mkdir -p /opt/lab")
        for source in [lab.REPOSITORY / "tests/lab/prober.py", lab.REPOSITORY / "tests/lab/visitor.py",
                       lab.CACHE / "tls/ca.pem"]:
            lab.docker("cp", str(source), f"{host}:/opt/lab/{source.name}")
    lab.run("client", f"grep -q {lab.SITE} /etc/hosts || echo {lab.EDGE_SHARED} {lab.SITE} >>/etc/hosts")
    account = {"user": "wordpress", "password": secrets["vault_database_wordpress_password"]}
    lab.run("web1", "umask 077; cat >/opt/lab/database.json", stdin=json.dumps(account))
    lab.wait_for_cluster()
    lab.wait_for_edge()
    lab.sql("db1", "CREATE TABLE IF NOT EXISTS wordpress.lab_rows (n BIGINT AUTO_INCREMENT PRIMARY KEY, id INT, run BIGINT, KEY (run))")
    return secrets


class Table:
    """What was broken, and what it cost."""

    def __init__(self):
        self.rows = []

    def add(self, what, seconds, asked, failed, lost, note=""):
        self.rows.append(f"| {what} | {seconds} | {asked} | {failed} | {lost} | {note} |")

    def text(self):
        head = ("| what was done | seconds without service | asked | failed | rows lost | |\n|---|---|---|---|---|---|\n")
        return head + "\n".join(self.rows) + "\n"


@pytest.fixture(scope="session")
def table():
    """Rows for docs/failures.md; written to the cache at the end."""
    found = Table()
    yield found
    (lab.CACHE / "failures.md").write_text(found.text(), encoding="utf-8")
    print("\n" + found.text())
