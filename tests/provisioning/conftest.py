"""Playbooks on inventories that have no machines: nothing here connects to anything."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PROVISIONING = REPOSITORY / "provisioning"
PLAYBOOK = pathlib.Path(sys.executable).parent / "ansible-playbook"
PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"


def secrets():
    names = yaml.safe_load((PROVISIONING / "inventories/example/vault.example.yml").read_text())
    filled = {name: f"{name}-0123456789abcdef0123456789abcdef" for name in names}
    filled |= {name: PEM for name in names if name.endswith(("_ca", "_certificate"))}
    filled |= {name: KEY for name in names if name.endswith("_key")}
    filled["vault_backup_recipient"] = "age1" + "q" * 58
    return filled


@pytest.fixture
def site(tmp_path):
    """The example site with all secrets; a test changes what it wants, then plays."""
    return Site(tmp_path)


class Site:
    def __init__(self, folder):
        self.folder = folder
        self.hosts = yaml.safe_load((PROVISIONING / "inventories/example/hosts.yml").read_text())
        self.vars = yaml.safe_load((PROVISIONING / "inventories/example/group_vars/all/main.yml").read_text())
        self.vars["search_repository_key"] = PEM
        self.secrets = secrets()
        self.extra = {}

    def group(self, name):
        return self.hosts["all"]["children"].setdefault(name, {"hosts": {}})["hosts"]

    def play(self, playbook, *arguments):
        inventory = self.folder / "inventory"
        (inventory / "group_vars/all").mkdir(parents=True, exist_ok=True)
        (inventory / "hosts.yml").write_text(yaml.safe_dump(self.hosts))
        (inventory / "group_vars/all/main.yml").write_text(yaml.safe_dump(self.vars))
        (inventory / "group_vars/all/vault.yml").write_text(yaml.safe_dump(self.secrets))
        # A site's own variables stand above those that belong to the playbooks.
        extra = {"ansible_python_interpreter": sys.executable} | self.extra
        environment = dict(os.environ, ANSIBLE_CONFIG=str(PROVISIONING / "ansible.cfg"), ANSIBLE_NOCOLOR="1",
                           ANSIBLE_LOCAL_TEMP=str(self.folder / "tmp"), ANSIBLE_REMOTE_TEMP=str(self.folder / "tmp"))
        done = subprocess.run(
            [str(PLAYBOOK), "--inventory", str(inventory), "--extra-vars", json.dumps(extra), str(playbook), *arguments],
            capture_output=True, text=True, env=environment, timeout=300, check=False)
        return done.returncode, done.stdout + done.stderr

    def render(self, hosts, role, *templates):
        """Renders templates of a role for hosts; gives back a function from host and file to the text."""
        target = self.folder / "rendered"
        self.vars |= yaml.safe_load((PROVISIONING / "group_vars/all/main.yml").read_text()) | self.vars
        for name in ["firewall", "services"]:
            self.vars = yaml.safe_load((PROVISIONING / f"group_vars/all/{name}.yml").read_text()) | self.vars
        self.extra |= {"render_hosts": hosts, "render_role": role, "render_to": str(target),
                       "render_templates": list(templates)}
        code, output = self.play(REPOSITORY / "tests/provisioning/render.yml")
        assert code == 0, output
        return lambda host, name: (target / host / name).read_text()
