"""The suite in its place: backups of the cluster go to log1 and come back on a host that has nothing else."""

import json
import time

import lab

DEPOT_SFTP = ("sftp -q -b - -P 2022 -i /etc/holdfast/depot-key -o UserKnownHostsFile=/etc/holdfast/known_hosts "
              "depot-db3@10.203.2.41")


def backup():
    return lab.run("db3", "backupctl now db && backupctl list --json", timeout=300)


def test_a_backup_is_taken_where_no_writes_go_and_lands_on_log1():
    assert lab.writer() != "db3", "the writer has moved: the backup would be taken from it"
    before = int(lab.run("log1", "ls /srv/depot/snapshot | wc -l"))
    backup()
    assert int(lab.run("log1", "ls /srv/depot/snapshot | wc -l")) > before
    assert "OK: Primary, Synced, 5 nodes" in lab.run("db3", "backupctl check")
    assert lab.run("log1", "backupctl verify", timeout=300)


def test_a_restore_on_a_scratch_host_has_every_row_of_the_moment():
    rows = lab.sql("db3", "SELECT COUNT(*), COALESCE(MAX(n), 0) FROM wordpress.lab_rows; SELECT COUNT(*) FROM wordpress.wp_posts")
    backup()
    scratch = "scratch"
    lab.docker("cp", str(lab.CACHE / "holdfast.deb"), f"{scratch}:/var/cache/holdfast.deb")
    lab.docker("cp", str(lab.CACHE / "identity.txt"), f"{scratch}:/run/identity.txt")
    lab.run(scratch, "dpkg -i /var/cache/holdfast.deb && test -e /etc/holdfast/depot-key || "
            "ssh-keygen -q -t ed25519 -N '' -f /etc/holdfast/depot-key")
    key = lab.run(scratch, "cat /etc/holdfast/depot-key.pub")
    lab.run("log1", "cat >/etc/ssh/depot/depot-scratch.pub", stdin=f"restrict {key}\n")
    lab.run(scratch, "cat >/etc/holdfast/known_hosts", stdin=lab.run("db3", "cat /etc/holdfast/known_hosts") + "\n")
    lab.run(scratch, "cat >/etc/holdfast/backupd.toml", stdin="""host = "scratch"
[depots.vault.sftp]
host = "10.203.2.41"
port = 2022
user = "depot-scratch"
path = "/"
key-file = "/etc/holdfast/depot-key"
known-hosts = "/etc/holdfast/known_hosts"
""")
    lab.run(scratch, "systemctl stop scratch-db 2>/dev/null; rm -rf /srv/restored && restore --identity /run/identity.txt "
            "--job db --latest --prepare --target /srv/restored", timeout=600)
    lab.run(scratch, "chown -R mysql: /srv/restored && systemd-run --collect --unit scratch-db mariadbd --no-defaults --user=mysql "
            "--datadir=/srv/restored --socket=/srv/restored/sock --skip-networking")
    question = "mariadb --socket=/srv/restored/sock --skip-column-names --batch"
    lab.wait_until("the restored server up", lambda: lab.succeeds(scratch, f"{question} -e 'SELECT 1'"), 60)
    found = lab.run(scratch, question, stdin="SELECT COUNT(*), COALESCE(MAX(n), 0) FROM wordpress.lab_rows; "
                    "SELECT COUNT(*) FROM wordpress.wp_posts")
    lab.run(scratch, "systemctl stop scratch-db")
    assert found == rows


def test_the_web_root_is_backed_up_and_comes_back_the_same():
    lab.run("web1", "backupctl now site", timeout=120)
    lab.run("scratch", "rm -rf /srv/site && restore --identity /run/identity.txt --job site --host web1 --latest --target /srv/site",
            timeout=120)
    names = "cd %s && find . -type f -exec sha256sum {} + | sort"
    assert lab.run("scratch", names % "/srv/site") == lab.run("web1", names % "/var/lib/wordpress/wp-content")


def test_an_account_of_the_depot_can_add_and_cannot_delete_or_change():
    victim = lab.run("log1", "find /srv/depot/snapshot -type f | head -1").removeprefix("/srv/depot")
    before = lab.run("log1", f"sha256sum /srv/depot{victim}; stat -c '%a %Y %s' /srv/depot{victim}")

    def sftp(line):
        return lab.run("db3", f"echo attack >/tmp/attack; printf '{line}\\n' | {DEPOT_SFTP} && echo went-well || true", check=False)

    assert "went-well" in sftp("ls -l snapshot")
    new = f"lease/attack-{time.time_ns()}"
    assert "went-well" in sftp(f"put /tmp/attack {new}")
    for line in [f"rm {victim}", f"put /tmp/attack {victim}", f"reput /tmp/attack {victim}", f"rename {victim} {victim}.gone",
                 f"rename {new} {victim}", f"chmod 777 {victim}", f"put /tmp/attack {new}", f"rm {new}", "mkdir more",
                 "rmdir snapshot", f"ln -s {victim} {new}.link", f"ln {victim} {new}.hard"]:
        assert "went-well" not in sftp(line), line
    assert lab.run("log1", f"sha256sum /srv/depot{victim}; stat -c '%a %Y %s' /srv/depot{victim}") == before
    assert lab.run("log1", f"cat /srv/depot/{new}") == "attack"
    lab.run("log1", f"rm /srv/depot/{new}")


def test_an_account_of_the_depot_gets_no_shell_and_no_tunnel():
    ssh = DEPOT_SFTP.replace("sftp -q -b - -P", "ssh -q -o BatchMode=yes -p")
    assert "uid=" not in lab.run("db3", f"timeout 10 {ssh} id </dev/null || true", check=False)
    # sftp is all that the account is given; a forwarded port would be dropped.
    assert not lab.succeeds("db3", f"timeout 10 {ssh} -W 10.203.2.41:9200 </dev/null | grep .")


def test_the_log_is_archived_within_seconds():
    lab.sql("db1", "INSERT INTO wordpress.lab_rows (id, run) VALUES (1, 1)")
    state = json.loads(lab.run("db2", "backupctl check >/dev/null; backupctl status --json"))
    assert "db-log" in json.dumps(state)
    assert "OK: in depot vault after" in lab.run("db2", "backupctl check")


def test_the_search_store_is_well():
    health = json.loads(lab.run("db1", "curl --silent --max-time 10 http://10.203.2.41:9200/_cluster/health"))
    assert health["status"] in ("green", "yellow")
