"""A run: the folder that one search writes, and the study in it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from data_tools.errors import StorageError, UserError

STORAGE = Path("runs")
STUDY = "study.db"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Run:
    """The folder of a search.

    Args:
        folder: absolute, so that a worker in another folder finds it too.
    """

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name, which is also the study's."""
        return self.folder.name

    @property
    def manifest(self) -> dict[str, Any]:
        """What was asked for: the command, its settings, versions and seeds.

        Raises:
            StorageError: it is missing or damaged.
        """
        path = self.folder / MANIFEST
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StorageError(f"{str(path)!r}: cannot be read ({error})") from None

    def study(self) -> optuna.Study:
        """Open the study to read it; nothing in it can be changed through this.

        Raises:
            StorageError: the study is not there or cannot be opened.
        """
        url = self.manifest.get("study")
        path = self.folder / STUDY
        if url is None and not path.is_file():
            raise StorageError(f"{str(path)!r}: the run has no study; was its search ever started?")
        try:
            storage = open_storage(url or f"sqlite:///file:{path}?mode=ro&uri=true")
            return optuna.load_study(study_name=self.name, storage=storage)
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise StorageError(f"{url or str(path)!r}: the study cannot be opened ({reason})") from None


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Open Optuna's database at a URL.

    SQLite waits while another process writes, as `trials` does beside a running search.

    Args:
        url: of SQLAlchemy's kind, as in `sqlite:////data/study.db` or `postgresql://host/name`.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    waiting = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    # Optuna sends the URL through str.format: a brace in the path of a folder would end in a KeyError.
    return optuna.storages.RDBStorage(url.replace("{", "{{").replace("}", "}}"), engine_kwargs=waiting)


def check_name(name: str) -> str:
    """Return a run's name if it can be a folder of its own in any storage.

    Raises:
        UserError: it is empty, long, hidden, or has other characters than letters, digits, ".", "_" and "-".
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UserError(
            f"a run's name has 1 to 100 letters, digits, '.', '_' or '-' and begins with a letter or digit, "
            f"received {name[:120]!r}"
        )
    return name


def find_run(run: str, storage: Path = STORAGE) -> Run:
    """Return a run by its name in the storage or by the path of its folder.

    Raises:
        StorageError: there is none.
    """
    for folder in (storage / run, Path(run)):
        if (folder / MANIFEST).is_file():
            return Run(folder.resolve())
    known = ", ".join(run.name for run in list_runs(storage)[-5:])
    hint = f"the newest there are {known}" if known else "there are none yet, start one with `huetune search`"
    raise StorageError(f"no run {run!r} in {str(storage)!r}: {hint}")


def list_runs(storage: Path = STORAGE) -> list[Run]:
    """Return all runs of a storage, the newest last."""
    manifests = sorted(storage.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    return [Run(path.parent.resolve()) for path in manifests]
