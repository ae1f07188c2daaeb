"""The lab's hosts, as the tests see them: commands run by `docker exec`, probers, playbooks.

Nothing here changes the cluster by itself. Times are in seconds.
"""

import json
import os
import pathlib
import subprocess
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path.home() / ".cache/holdfast/lab"
SOCKET = pathlib.Path("/run/holdfast-lab.sock")
SITE = "www.lab.test"
EDGE_SHARED = "10.203.1.10"
INNER_SHARED = "10.203.2.10"
EDGES, WEBS, DATABASES = ["lb1", "lb2"], ["web1", "web2"], ["db1", "db2", "db3"]
INNER = {
    "lb1": "10.203.2.11", "lb2": "10.203.2.12", "web1": "10.203.2.21", "web2": "10.203.2.22",
    "db1": "10.203.2.31", "db2": "10.203.2.32", "db3": "10.203.2.33", "log1": "10.203.2.41",
}
ENVIRONMENT = dict(os.environ, DOCKER_HOST=f"unix://{SOCKET}") if SOCKET.exists() else dict(os.environ)


def docker(*arguments, check=True, stdin=None, timeout=120):
    """Runs docker and gives back what it printed."""
    done = subprocess.run(
        ["docker", *arguments], env=ENVIRONMENT, input=stdin, capture_output=True, text=True, timeout=timeout
    )
    assert not check or done.returncode == 0, f"docker {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def run(host, command, check=True, stdin=None, timeout=120):
    """Runs a line of shell on a host."""
    option = ["-i"] if stdin is not None else []
    return docker("exec", *option, host, "sh", "-c", command, check=check, stdin=stdin, timeout=timeout)


def succeeds(host, command, timeout=60):
    """Whether a line of shell ends well on a host."""
    done = subprocess.run(
        ["docker", "exec", host, "sh", "-c", command], env=ENVIRONMENT, capture_output=True, timeout=timeout
    )
    return done.returncode == 0


def sql(host, statement):
    """Asks one database by its socket."""
    return run(host, "mariadb --skip-column-names --batch", stdin=statement)


def wait_until(what, condition, timeout):
    """Polls; fails with what was waited for. Gives back how long it took."""
    began = time.monotonic()
    while time.monotonic() - began < timeout:
        if condition():
            return time.monotonic() - began
        time.sleep(0.5)
    raise AssertionError(f"after {timeout} s: not {what}")


def is_synced(host):
    """Whether a database is a synced member of the primary component."""
    answer = run(host, "curl --silent --max-time 3 http://$(hostname -i | cut -d' ' -f1):9200/ || true", check=False)
    return "Primary 4 ON" in answer


def wait_for_cluster(timeout=180):
    """Waits until all three databases are synced and both arbitrators vote."""
    def is_whole():
        size = run("db1", "mariadb -NBe \"SHOW STATUS LIKE 'wsrep_cluster_size'\"", check=False)
        return size.endswith("\t5") and all(is_synced(host) for host in DATABASES)
    return wait_until("three synced databases and five votes", is_whole, timeout)


def wait_for_edge(timeout=60):
    """Waits until the edge finds both web nodes and all databases well."""
    def is_well():
        for edge in EDGES:
            state = run(edge, "echo 'show stat' | socat - /run/haproxy/admin.sock", check=False)
            servers = [line.split(",") for line in state.splitlines() if line.startswith(("web,web", "db-writer,db"))]
            if len(servers) != 5 or any(not fields[17].startswith("UP") for fields in servers):
                return False
        return True
    return wait_until("an edge with all servers up", is_well, timeout)


def holder():
    """The edge that has the shared address."""
    found = [edge for edge in EDGES if f" {EDGE_SHARED}/" in run(edge, "ip -4 address show", check=False)]
    assert len(found) == 1, f"{found} hold {EDGE_SHARED}: it must be one"
    return found[0]


def writer():
    """The database that takes the writes, asked through the front as a web node does."""
    answer = run("web1", "python3 /opt/lab/prober.py whoami")
    return {"10.203.2.3" + str(number): f"db{number}" for number in (1, 2, 3)}.get(answer, answer)


def play(playbook, *arguments, timeout=1500):
    """Runs a playbook as scripts/lab does; gives back return code and output."""
    done = subprocess.run(
        [str(REPOSITORY / "scripts/lab"), "play", playbook, *arguments],
        capture_output=True, text=True, timeout=timeout, cwd=REPOSITORY,
    )
    return done.returncode, done.stdout + done.stderr


class Prober:
    """Something that asks all the time, on a host, while something else is broken."""

    def __init__(self, host, mode, seconds):
        self.command = ["docker", "exec", host, "python3", "/opt/lab/prober.py", mode, str(seconds)]
        self.output = None

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        time.sleep(2)
        return self

    def _read(self):
        self.output, self.errors = self.process.communicate()

    def __exit__(self, kind, value, trace):
        self.reader.join(timeout=200)

    def result(self):
        """What was found: asked, failed, longest_gap, errors, and of a writer the acknowledged rows."""
        assert self.output, f"prober said nothing: {self.errors}"
        return json.loads(self.output)
