"""A study in a real PostgreSQL, which goes away in the middle and comes back."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from optuna.trial import TrialState

from results.run import find_run
from tests.faults.chaos import HUETUNE
from tests.faults.program import ALONE, NAME, search

PASSWORD = "sentinel-8d1f0c"
NOBODY = 65534


class Postgres:
    """A server of its own, run as an ordinary user: as root it would not."""

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._data, self._socket = folder / "data", folder
        (folder / "password").write_text(PASSWORD)
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
        """As when its machine loses power."""
        self._call("pg_ctl", "-m", "immediate", "stop")

    @property
    def url(self) -> str:
        return f"postgresql://hue@127.0.0.1:{self.port}/postgres"

    def _call(self, program: str, *words: str) -> None:
        found = shutil.which(program) or next(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
        before = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
        command = [*before, str(found), "-D", str(self._data), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


@pytest.fixture(scope="module")
def postgres():
    if not shutil.which("initdb") and not list(Path("/usr/lib").glob("postgresql/*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="huetune-postgres-") as folder:
        server = Postgres(Path(folder))
        yield server
        with contextlib.suppress(subprocess.CalledProcessError):
            server.stop()


def test_a_study_in_postgres_outlives_its_server(postgres, start, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    program = start(tmp_path, *search(3, 20, *ALONE), "--study", postgres.url)

    def trials():
        return find_run(NAME, tmp_path).study().get_trials(deepcopy=False)

    program.wait_for(lambda trials: sum(len(trial.intermediate_values) for trial in trials) >= 2)
    postgres.stop()
    code, said = program.end()
    assert code == 4 and "huetune resume" in said and "Traceback" not in said, said
    done = subprocess.run([HUETUNE, "trials", NAME, "--storage", tmp_path], capture_output=True, text=True)
    assert done.returncode == 4 and "the study cannot be opened" in done.stderr
    postgres.start()

    code, said = start(tmp_path, "resume", NAME).end()
    assert code == 0 and " goes on " in said, said
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE] * 3
    assert [list(trial.intermediate_values) for trial in trials()] == [list(range(1, 21))] * 3
    done = subprocess.run([HUETUNE, "verify", NAME, "--quick", "--storage", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    # A second run of the name, in another storage, would mix with it.
    code, said = start(tmp_path / "other", *search(), "--study", postgres.url).end()
    assert code == 4 and "the study cannot be made" in said, said
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not [path for path in written if PASSWORD.encode() in path.read_bytes()]
