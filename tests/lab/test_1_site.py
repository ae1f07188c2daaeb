"""The site as a visitor and an editor see it, from outside."""

import json
import time

import lab

PAGE = """<?php
session_start();
$_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1;
header('Content-Type: text/plain');
echo gethostname(), ' ', $_SESSION['n'], "\\n";
"""


def visit(*arguments, stdin=None):
    words = " ".join(f"'{argument}'" for argument in arguments)
    return json.loads(lab.run("client", f"python3 /opt/lab/visitor.py {words}", stdin=stdin))


def log_in(tools, jar):
    lab.run("client", f"rm -f {jar}")
    found = visit("login", jar, stdin=tools["vault_wordpress_admin_password"])
    assert found["is_in"], found


def from_node(node, path, jar="/dev/null"):
    """A page by way of one web node only: as the edge would ask it."""
    return lab.run("lb1", f"curl --silent --max-time 20 --header 'Host: {lab.SITE}' --header 'X-Forwarded-Proto: https' "
                   f"http://{lab.INNER[node]}{path}")


def test_the_site_answers_over_tls_at_the_shared_address():
    page = visit("get", "/")
    assert page["status"] == 200 and "<title>Lab" in page["body"]
    plain = lab.run("client", f"curl --silent --head http://{lab.SITE}/")
    assert " 301 " in plain and f"https://{lab.SITE}/" in plain.lower()


def test_old_tls_is_refused():
    assert not lab.succeeds("client", f"curl --silent --tls-max 1.1 --cacert /opt/lab/ca.pem https://{lab.SITE}/ -o /dev/null")


def test_a_post_is_read_back_from_both_nodes_and_an_upload_appears_on_both(tools):
    log_in(tools, "/tmp/editor")
    title = f"written at {time.time_ns()}"
    made = visit("post", "/tmp/editor", title)
    assert made["status"] == 201, made
    for node in lab.WEBS:
        assert title in from_node(node, f"/?p={made['id']}") or title in from_node(node, "/"), node
    name = f"pixel-{time.time_ns()}.png"
    picture = visit("upload", "/tmp/editor", name)
    assert picture["status"] == 201, picture
    for node in lab.WEBS:
        seconds = lab.wait_until(f"{name} on {node}", lambda node=node: lab.succeeds(
            node, f"test -n \"$(find /var/lib/wordpress/wp-content/uploads -name '{name}')\""), 20)
        assert seconds < 15


def test_php_in_uploads_is_not_run():
    lab.run("web1", "echo '<?php echo 6*7;' >/var/lib/wordpress/wp-content/uploads/x.php")
    try:
        assert from_node("web1", "/wp-content/uploads/x.php").find("42") < 0
    finally:
        lab.run("web1", "rm /var/lib/wordpress/wp-content/uploads/x.php")


def test_a_file_that_is_deleted_goes_and_does_not_come_back():
    folder = "/var/lib/wordpress/wp-content/uploads"
    lab.run("web1", f"install -o www-data -g www-data /dev/null {folder}/short-lived")
    lab.wait_until("the file on web2", lambda: lab.succeeds("web2", f"test -e {folder}/short-lived"), 20)
    lab.run("web2", f"rm {folder}/short-lived")
    lab.wait_until("the file gone", lambda: not lab.succeeds("web1", f"test -e {folder}/short-lived"), 20)
    time.sleep(5)
    assert not lab.succeeds("web1", f"test -e {folder}/short-lived")
    assert not lab.succeeds("web2", f"test -e {folder}/short-lived")


def test_a_node_that_comes_back_empty_deletes_nothing_and_is_filled():
    folder = "/var/lib/wordpress/wp-content/uploads"
    lab.run("web1", f"install -o www-data -g www-data /dev/null {folder}/keep-me")
    lab.wait_until("the file on web2", lambda: lab.succeeds("web2", f"test -e {folder}/keep-me"), 20)
    lab.run("web2", f"systemctl stop lsyncd && rm -rf {folder}/* && systemctl start lsyncd")
    lab.wait_until("web2 filled again", lambda: lab.succeeds("web2", f"test -e {folder}/keep-me"), 30)
    time.sleep(4)
    assert lab.succeeds("web1", f"test -e {folder}/keep-me")
    lab.run("web1", f"rm {folder}/keep-me")


def test_logins_and_sessions_outlive_either_web_node(tools, table):
    plugin = "/var/lib/wordpress/wp-content/plugins/lab-session"
    lab.run("web1", f"install -d -o www-data -g www-data {plugin} && cat >{plugin}/count.php", stdin=PAGE)
    lab.wait_until("the page on web2", lambda: lab.succeeds("web2", f"test -s {plugin}/count.php"), 30)
    log_in(tools, "/tmp/stayer")
    path, count = "/wp-content/plugins/lab-session/count.php", 0
    for lost in lab.WEBS:
        count += 1
        assert visit("get", path, "/tmp/stayer")["body"].split()[1:] == [str(count)]
        with lab.Prober("client", "site", 12) as prober:
            lab.docker("stop", "--time", "1", lost)
        found = prober.result()
        table.add(f"{lost} stopped", found["gap"], found["asked"], found["failed"], "-")
        try:
            page = visit("get", "/wp-admin/", "/tmp/stayer")
            assert "wp-admin-bar" in page["body"], f"logged out without {lost}"
            count += 1
            page = visit("get", path, "/tmp/stayer")
            other = [node for node in lab.WEBS if node != lost][0]
            assert page["body"].split() == [other, str(count)], f"the session was lost with {lost}"
        finally:
            lab.docker("start", lost)
        lab.wait_for_edge(90)
        # The store of the node that came back is empty. A login is a signed cookie and holds; what PHP itself had in a
        # session whose first copy was there begins anew (docs/cluster.md).
        assert "wp-admin-bar" in visit("get", "/wp-admin/", "/tmp/stayer")["body"], f"logged out when {lost} came back"
        visit("get", path, "/tmp/stayer")
        count = int(visit("get", path, "/tmp/stayer")["body"].split()[1])
        assert count > 1
