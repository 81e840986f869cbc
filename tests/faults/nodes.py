"""Runs a Ray cluster on one machine, with each node in its own network namespace with its own address."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

from tests.allowed_skips import skip_without
from tests.store import ENVIRONMENT

PORT = 6399
CLUSTERS = itertools.count(os.getpid() % 200)
"""Numbers the clusters, which have different names and addresses, because the kernel releases old ones slowly."""


class Nodes:
    """A cluster to which nodes are added one by one; the first is the head.

    Args:
        folder: folder for the token and the nodes' Python.
    """

    def __init__(self, folder: Path):
        self._number = next(CLUSTERS) % 250
        self.bridge = f"hue{self._number}"
        self._python = _python_without_huetune(folder / "python")
        token = folder / "token"
        token.write_text("0123456789abcdef" * 4, encoding="utf-8")
        token.chmod(0o600)
        # Ray records there which cluster is `--address auto`. Its sockets require a short path.
        self._scratch = tempfile.mkdtemp(prefix="hue", dir="/tmp")
        self.environment = {"RAY_TMPDIR": self._scratch}
        self.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        self._nodes: list[subprocess.Popen] = []

    @property
    def newest(self) -> int:
        """The number of the node that was added last."""
        return len(self._nodes) - 1

    @property
    def address(self) -> str:
        """The HOST:PORT of the head."""
        return f"{self.ip(0)}:{PORT}"

    def add(self, cpus: int = 1) -> None:
        """Start a node."""
        number = len(self._nodes)
        self._wire(number)
        words = (
            ["--head", f"--port={PORT}", "--include-dashboard=false"] if not number else [f"--address={self.address}"]
        )
        command = [
            self._python,
            "-m",
            "ray.scripts.scripts",
            "start",
            *words,
            f"--node-ip-address={self.ip(number)}",
            f"--num-cpus={cpus}",
            "--block",
        ]
        # The processes of a node are one group, which is killed as a whole. Its output is dropped.
        self._nodes.append(
            subprocess.Popen(
                ["ip", "netns", "exec", self.name(number), *command],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={
                    **os.environ,
                    **self.environment,
                    **ENVIRONMENT,
                    "RAY_USAGE_STATS_ENABLED": "0",
                    "XDG_STATE_HOME": f"{self._scratch}/state-{number}",
                },
                start_new_session=True,
            )
        )

    def inside(self, number: int, *command: str) -> list[str]:
        """Return the command that runs another one on a node."""
        return ["ip", "netns", "exec", self.name(number), *command]

    @contextlib.contextmanager
    def pretending(self, package: str, version: str) -> Iterator[None]:
        """Make a package look like another version to the nodes' Python."""
        (packages,) = Path(self._python).parents[1].glob("lib/*/site-packages")
        folder = packages / f"{package}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n", encoding="utf-8"
        )
        try:
            yield
        finally:
            shutil.rmtree(folder)

    def wait_for_head(self) -> None:
        """Wait until the head has recorded its address."""
        end = time.monotonic() + 60
        while not Path(self._scratch, "ray", "ray_current_cluster").exists():
            assert time.monotonic() < end, "the head does not start"
            time.sleep(0.1)

    def kill(self, number: int) -> None:
        """Kill a node at once, as when its power fails."""
        pids = subprocess.run(
            ["ip", "netns", "pids", self.name(number)], capture_output=True, text=True, encoding="utf-8"
        ).stdout.split()
        for pid in map(int, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._nodes[number].wait()

    def cut(self, number: int, off: bool = True) -> None:
        """Cut a node off the network, or reconnect it."""
        _ip_command("link", "set", f"{self.bridge}v{number}", "down" if off else "up")

    def ip(self, number: int) -> str:
        """Return the address of a node; number 253 is this machine."""
        return f"10.77.{self._number}.{number + 1}"

    def name(self, number: int) -> str:
        """Return the name of a node's network namespace."""
        return f"{self.bridge}n{number}"

    def _wire(self, number: int) -> None:
        name, cable = self.name(number), f"{self.bridge}v{number}"
        _ip_command("netns", "add", name)
        _ip_command("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip_command("link", "set", cable, "master", self.bridge, "up")
        for words in (f"addr add {self.ip(number)}/24 dev eth0", "link set eth0 up", "link set lo up"):
            _ip_command("-n", name, *words.split())

    def end(self) -> None:
        """Kill all nodes and remove the network."""
        for number in range(len(self._nodes)):
            self.kill(number)
            _ip_command("netns", "del", self.name(number))
        _ip_command("link", "del", self.bridge)
        shutil.rmtree(self._scratch, ignore_errors=True)


@contextlib.contextmanager
def cluster(folder: Path, count: int, token: bool = True) -> Iterator[Nodes]:
    """Run a cluster of nodes with one CPU each; skip the test if this machine allows no network namespaces."""
    nodes = Nodes(folder)
    # By default a bridge changes its address whenever a node joins or leaves, and the other nodes lose it.
    command = ["ip", "link", "add", nodes.bridge, "address", "02:00:00:00:00:01", "type", "bridge"]
    skip_without("bridges")
    subprocess.run(command, check=True, capture_output=True)
    _ip_command("addr", "add", f"{nodes.ip(253)}/24", "dev", nodes.bridge)
    _ip_command("link", "set", nodes.bridge, "up")
    if not token:
        nodes.environment["RAY_AUTH_MODE"] = "disabled"
    try:
        for _ in range(count):
            nodes.add()
            nodes.wait_for_head()
        yield nodes
    finally:
        nodes.end()


def _python_without_huetune(folder: Path) -> str:
    """Make a Python environment with the packages that huetune needs, but without huetune."""
    venv.create(folder)
    (packages,) = folder.glob("lib/*/site-packages")
    (packages / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return str(folder / "bin" / "python")


def _ip_command(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
