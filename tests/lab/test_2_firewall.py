"""Who reaches what: every zone to every port, with real connections."""

import json

import lab

# One host of each zone; `stranger` is the visitor's foot on the inner wire, in no zone.
SOURCES = {"outside": "client", "lb": "lb2", "web": "web2", "db": "db2", "log": "log1", "recovery": "scratch"}
TARGETS = {"lb": "lb1", "web": "web1", "db": "db1", "log": "log1"}
# What listens anywhere, and two ports where nothing does.
PORTS = [22, 80, 443, 2022, 3306, 3307, 4444, 4567, 4568, 6032, 6379, 8022, 8404, 9180, 9200, 9300, 10000, 11211]
ALLOWED = {
    ("lb", "lb"): {4567, 10000},
    ("db", "lb"): {4567},
    ("lb", "web"): {80, 6379},
    ("web", "web"): {8022, 11211, 6379, 6032},
    ("web", "db"): {3306},
    ("lb", "db"): {3306, 4567, 9200},
    ("db", "db"): {3306, 4444, 4567, 4568},
    ("lb", "log"): {2022, 9200},
    ("web", "log"): {2022, 9200},
    ("db", "log"): {2022, 9200},
    ("recovery", "log"): {2022},
}
ALLOWED[("db", "db")].discard(3306)

# A connection is open or refused by the host (nothing listens) if the firewall lets it through; silence is its answer.
KNOCK = """
import concurrent.futures, json, socket, sys
def knock(pair):
    address, port = pair
    try:
        socket.create_connection((address, port), timeout=1.5).close()
        return "open"
    except ConnectionRefusedError:
        return "closed"
    except OSError:
        return "silent"
pairs = json.load(sys.stdin)
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(knock, pairs))))
"""


def knock(source, pairs):
    lab.run(source, "cat >/tmp/knock.py", stdin=KNOCK)
    return json.loads(lab.run(source, "python3 /tmp/knock.py", stdin=json.dumps(pairs)))


def test_every_zone_reaches_what_it_may_and_nothing_else():
    wrong, asked = [], 0
    for zone, source in SOURCES.items():
        for target_zone, target in TARGETS.items():
            if source == target:
                continue
            answers = knock(source, [[lab.INNER[target], port] for port in PORTS])
            may = ALLOWED.get((zone, target_zone), set())
            for port, answer in zip(PORTS, answers):
                asked += 1
                if (answer != "silent") != (port in may):
                    wrong.append(f"{zone} -> {target_zone}:{port} is {answer}, allowed: {port in may}")
    assert not wrong, "\n".join(wrong)
    assert asked >= len(PORTS) * 20


def test_what_listens_and_is_allowed_is_open():
    for source, target, port in [("lb2", "web1", 80), ("lb2", "db1", 9200), ("web2", "db1", 3306), ("db2", "db1", 4567),
                                 ("db2", "log1", 2022), ("web2", "log1", 9200), ("web2", "web1", 11211),
                                 ("web2", "web1", 8022), ("db1", "lb1", 4567), ("scratch", "log1", 2022)]:
        assert knock(source, [[lab.INNER[target], port]]) == ["open"], f"{source} -> {target}:{port}"


def test_from_outside_only_the_site_is_reached():
    pairs = [[lab.EDGE_SHARED, port] for port in PORTS]
    found = {port for port, answer in zip(PORTS, knock("client", pairs)) if answer != "silent"}
    assert found == {80, 443}
    # Nor at the edge's own addresses: only the shared one is the site's.
    for address in ["10.203.1.11", "10.203.1.12"]:
        assert set(knock("client", [[address, port] for port in PORTS])) == {"silent"}


def test_the_front_of_the_database_is_for_web_nodes():
    front = [[lab.INNER_SHARED, 3306], [lab.INNER_SHARED, 3307]]
    assert knock("web1", front) == ["open", "open"]
    for source in ["client", "log1", "scratch"]:
        assert knock(source, front) == ["silent", "silent"], source


def test_the_edge_forwards_nothing():
    edge = "10.203.1.11"
    before = lab.run("lb1", "nft list chain inet holdfast forward")
    lab.run("client", f"ip route add 10.203.2.31/32 via {edge}")
    try:
        assert set(knock("client", [["10.203.2.31", port] for port in PORTS])) == {"silent"}
    finally:
        lab.run("client", "ip route delete 10.203.2.31/32")
    after = lab.run("lb1", "nft list chain inet holdfast forward")
    count = [int(text.split("counter packets ")[1].split()[0]) for text in (before, after)]
    assert count[1] >= count[0] + len(PORTS), f"the edge was not asked to forward: {before} {after}"


def test_administrators_reach_ssh_everywhere():
    for host, address in lab.INNER.items():
        done = lab.subprocess.run(
            ["ssh", "-i", lab.CACHE / "ssh_key", "-o", f"UserKnownHostsFile={lab.CACHE}/known_hosts", "-o", "BatchMode=yes",
             "-o", "ConnectTimeout=10", f"root@{address}", "hostname"], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == host, done.stderr


def test_ssh_takes_no_password():
    done = lab.subprocess.run(
        ["ssh", "-o", f"UserKnownHostsFile={lab.CACHE}/known_hosts", "-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes",
         "root@10.203.2.31", "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 255 and "(publickey)" in done.stderr, done.stderr
