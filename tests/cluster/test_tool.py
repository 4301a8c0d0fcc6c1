"""The cluster's tool: what it chooses, what it refuses, and what it says then."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import build, clusters, images, network, tools
from tests.cluster.clusters import Context, Kind, choose
from tests.cluster.node import Node
from tests.cluster.tools import ROOT, ClusterError, digest, locked, require_go, run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tools, "HOME", tmp_path)
    monkeypatch.setattr(clusters, "HOME", tmp_path)
    monkeypatch.setattr("tests.cluster.node.RUN", tmp_path / "run")
    monkeypatch.delenv("E2E_CONTEXT", raising=False)
    return tmp_path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


class TestChoice:
    def test_a_context_that_is_named_comes_first(
        self, programs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program(programs, "kind", "exit 0")
        program(programs, "docker", "exit 0")
        monkeypatch.setenv("E2E_CONTEXT", "mine")
        assert isinstance(choose(), Context)

    def test_kind_is_used_where_docker_runs(self, programs: Path) -> None:
        program(programs, "kind", "exit 0")
        program(programs, "docker", "exit 0")
        assert isinstance(choose(), Kind)

    @pytest.mark.parametrize("present", [{}, {"kind": 0}, {"docker": 0}, {"kind": 0, "docker": 1}])
    def test_else_it_is_a_node_of_our_own(self, programs: Path, present: dict[str, int]) -> None:
        for name, code in present.items():
            program(programs, name, f"exit {code}")
        assert isinstance(choose(), Node)

    def test_kind_makes_its_cluster_once_and_writes_its_kubeconfig(self, programs: Path, home: Path) -> None:
        calls, made = home / "calls", home / "made"
        answers = f'[ "$2" != kubeconfig ] || echo config; [ "$2" != clusters ] || cat {made}'
        program(programs, "kind", f'PATH=/usr/bin:/bin; echo "$*" >>{calls}; {answers}')
        program(programs, "docker", "exit 1")
        made.write_text("")
        assert Kind().up().read_text() == "config\n"
        made.write_text("other\ncelery-kit\n")
        Kind().up()
        verbs = [line.split(" --")[0] for line in calls.read_text().splitlines()]
        assert verbs == ["get clusters", "create cluster", "get kubeconfig", "get clusters", "get kubeconfig"]

    def test_nothing_can_be_loaded_into_a_cluster_of_the_users(self) -> None:
        with pytest.raises(ClusterError, match=r"make push REGISTRY=.*global\.imageRegistry"):
            Context("mine").load(["x"])


class TestRefusals:
    def test_a_missing_go_is_named(self, programs: Path) -> None:
        with pytest.raises(ClusterError, match=r"Go is missing: install Go 1\.25 or newer"):
            require_go()

    def test_an_old_go_is_named_with_its_version(self, programs: Path) -> None:
        program(programs, "go", "echo go1.19.8")
        with pytest.raises(ClusterError, match=r"too old: go1\.19 is on PATH, 1\.25 or newer"):
            require_go()

    def test_a_node_without_root_says_what_else_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(ClusterError, match=r"needs root.*E2E_CONTEXT"):
            Node().up()

    def test_a_failed_program_is_shown_with_its_last_words(self) -> None:
        with pytest.raises(ClusterError, match=r"(?s)`sh -c .*ended with 3:.*no luck"):
            run("sh", "-c", "echo no luck >&2; exit 3")

    def test_a_program_that_is_not_there_is_named(self, programs: Path) -> None:
        with pytest.raises(ClusterError, match="mmdebstrap is not installed"):
            run("mmdebstrap")

    def test_an_unknown_program_to_build_is_answered_with_those_there_are(self) -> None:
        with pytest.raises(ClusterError, match="helm5: no such program; there are helm3, helm4"):
            build.build(["helm5"])

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [(["fly"], "choose from"), (["load"], "name at least one"), (["up", "now"], "takes no names")],
    )
    def test_a_wrong_command_line_ends_with_2(self, arguments: list[str], complaint: str) -> None:
        command = [sys.executable, "-m", "tests.cluster", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert complaint in done.stderr


class TestNetwork:
    @pytest.mark.parametrize("route", ["10.55.0.1", "10.244.3.0/24", "10.96.0.0/16"])
    def test_addresses_in_use_are_refused(self, programs: Path, route: str) -> None:
        program(programs, "ip", f"echo '{json.dumps([{'dst': route, 'dev': 'vpn0'}])}'")
        with pytest.raises(ClusterError, match=f"{route}.* is in use on vpn0"):
            network.check()

    def test_wider_routes_do_not_disturb(self, programs: Path) -> None:
        routes = [{"dst": "default", "dev": "eth0"}, {"dst": "10.0.0.0/8", "dev": "vpn0"}]
        program(programs, "ip", f"echo '{json.dumps(routes)}'")
        for name in ("iptables-save", "ip6tables-save"):
            program(programs, name, "exit 0")
        network.check()

    def test_another_node_is_refused(self, programs: Path) -> None:
        program(programs, "ip", "echo '[]'")
        for name in ("iptables-save", "ip6tables-save"):
            program(programs, name, "echo ':KUBE-SERVICES - [0:0]'")
        with pytest.raises(ClusterError, match="another Kubernetes node"):
            network.check()

    def test_only_chains_of_kubernetes_and_jumps_to_them_are_taken_out(self) -> None:
        saved = """*nat
:PREROUTING ACCEPT [0:0]
:MINE - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-1 - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -j MINE
-A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-1
-A MINE -j RETURN
COMMIT
"""
        assert network.removal("nat", saved).splitlines() == [
            "*nat",
            '-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
            "-F KUBE-SERVICES",
            "-F KUBE-SVC-1",
            "-X KUBE-SERVICES",
            "-X KUBE-SVC-1",
            "COMMIT",
        ]
        assert network.removal("nat", "*nat\n:MINE - [0:0]\nCOMMIT\n") == ""


class TestCaching:
    def test_words_contents_names_and_modes_make_a_digest(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(tools, "ROOT", tmp_path)
        file = tmp_path / "folder" / "a"
        file.parent.mkdir()
        file.write_text("1")
        seen = {digest("w", file.parent), digest("v", file.parent)}
        file.write_text("2")
        seen.add(digest("w", file.parent))
        file.chmod(0o755)
        seen.add(digest("w", file.parent))
        file.rename(file.with_name("b"))
        seen.add(digest("w", file.parent))
        assert len(seen) == 5
        assert digest("w", file.parent) in seen

    def test_one_program_at_a_time_works_and_the_next_says_whom_it_waits_for(self, home: Path) -> None:
        code = (
            "from tests.cluster import tools; import pathlib, sys; tools.HOME = pathlib.Path(sys.argv[1])\n"
        )
        code += "with tools.locked('second'): print('in')"
        with locked("first"):
            second = subprocess.Popen(
                [sys.executable, "-c", code, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True
            )
            assert second.stdout
            assert second.stdout.readline() == f"waiting for pid {os.getpid()}: first\n"
        assert second.communicate()[0] == "in\n"
        assert second.returncode == 0


def test_the_chart_asks_for_the_very_images_that_there_are() -> None:
    charts = "\n".join(file.read_text() for file in (ROOT / "helm").rglob("values.yaml"))
    for image in images.STAND_INS:
        repository, _, tag = image.name.removeprefix("docker.io/").rpartition(":")
        assert f"repository: {repository}\n" in charts
        assert f"tag: {tag}\n" in charts.replace('"', "")
