"""Runs a PostgreSQL server for tests."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

PASSWORD = "sentinel-8d1f0c"
NOBODY = 65534


class Postgres:
    """A server in a folder, run by an ordinary user, because PostgreSQL refuses to run as root.

    Args:
        folder: an empty folder for data, log, socket and password.
    """

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self._data, self._socket = folder, folder / "data", folder
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        if os.getuid() == 0:
            folder.chmod(0o755)
            for path in (folder, folder / "password"):
                os.chown(path, NOBODY, NOBODY)
        self._call("initdb", "-A", "scram-sha-256", "-U", "hue", f"--pwfile={folder / 'password'}")
        self.start()

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._socket}"
        self._call("pg_ctl", "-w", "-o", options, "-l", str(self._socket / "log"), "start")

    def stop(self) -> None:
        """Stop the server at once, as if its machine lost power."""
        self._call("pg_ctl", "-m", "immediate", "stop")

    @property
    def url(self) -> str:
        return f"postgresql://hue@127.0.0.1:{self.port}/postgres"

    def _call(self, program: str, *words: str) -> None:
        found = shutil.which(program) or next(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
        before = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
        command = [*before, str(found), "-D", str(self._data), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
