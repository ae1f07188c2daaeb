"""What is right is left alone, and day two's playbooks do what they say."""

import re

import lab


def changes(output):
    return {host: int(count) for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", output, re.MULTILINE)}


def test_a_second_converge_changes_nothing():
    code, output = lab.play("site.yml")
    assert code == 0, output[-4000:]
    found = changes(output)
    assert len(found) >= 8 and set(found.values()) == {0}, [
        line for line in output.splitlines() if line.startswith(("TASK", "changed:", "RUNNING"))]


def test_a_dry_run_with_differences_is_clean():
    code, output = lab.play("site.yml", "--check", "--diff")
    assert code == 0, output[-4000:]
    assert set(changes(output).values()) == {0}


def test_a_web_node_can_be_replaced():
    folder = "/var/lib/wordpress/wp-content/uploads"
    lab.run("web2", f"install -o www-data -g www-data /dev/null {folder}/kept")
    lab.wait_until("the file on web1", lambda: lab.succeeds("web1", f"test -e {folder}/kept"), 20)
    code, output = lab.play("node_replace.yml", "-e", "node=web2")
    assert code != 0 and "Nothing was changed" in output
    code, output = lab.play("node_replace.yml", "-e", "node=web2", "-e", "node_replace_confirmed=true")
    assert code == 0, output[-4000:]
    lab.wait_until("web2 filled again", lambda: lab.succeeds("web2", f"test -e {folder}/kept"), 30)
    assert lab.succeeds("web1", f"test -e {folder}/kept")
