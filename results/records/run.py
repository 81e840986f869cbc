"""A run: the folder that one search writes, and the study in it."""

import contextlib
import functools
import json
import os
import re
import shlex
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from huetune.data_tools.common.errors import StorageError, UserError, first_line
from huetune.data_tools.common.optional_imports import import_extra
from huetune.data_tools.common.terminal import is_utf8, program_name
from huetune.data_tools.storage.atomic import atomic_write, recover
from huetune.data_tools.storage.bucket_cache import bucket_path, local_path, location_of, pull
from huetune.data_tools.storage.checksums import SUMS_FILE
from huetune.data_tools.storage.object_store import SCHEME
from huetune.data_tools.storage.run_lock import local_lock_holder
from huetune.results.records.run_names import STORAGE

if TYPE_CHECKING:  # to say that there is no such run nobody should wait for Optuna
    import optuna
    from sqlalchemy.engine import URL

    from huetune.results.records.study_file import Studies

STUDY = "study.db"
MANIFEST = "manifest.json"
TRIALS = "trials"
"""Folder of a search's checkpoints in its run."""
EVALUATION, EVALUATIONS = "evaluation", "evaluations"
"""Folder of the pictures of a run's final check, and of evaluations on other photos, a folder each."""
CONTACT_SHEET = "contact-sheet.png"
"""Picture of an evaluation's photos."""
REPLICATES = "replicates"
"""Folder of the replicates' checkpoints in a run."""
OBJECTIVE_COMMANDS = ("best", "evaluate", "colorize", "structure")
"""Verbs that want to know, after a search by several objectives, which of them decides."""
RAY_COMMANDS = ("extend", "confirm", "compare")
"""Verbs that start Ray, or go to the cluster that they are told."""
TRIAL_NUMBER = re.compile(r"\d{1,9}")
"""Pattern of a trial's number on the command line."""
PULLED_TAG_FILE = "study-tag"
"""In the mirror of a run in a bucket: which of the copies there its study goes back to."""


@dataclass(frozen=True)
class Run:
    """The folder of a search.

    Args:
        folder: absolute, so that a worker in another folder finds it too; of a run in a bucket, its mirror.
    """

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def location(self) -> str:
        """What it is called on a command line: the folder, or the bucket's URI."""
        place = location_of(self.folder)
        if place.startswith(SCHEME):
            return place
        near = os.path.relpath(place)
        if os.path.isfile(STORAGE / near / MANIFEST):  # a name in the usual storage comes first
            return place
        return os.path.join(os.curdir, near) if near.startswith("-") else near

    def command(self, verb: str, rest: str = "") -> str:
        """Return a command line that does something with it, to be copied as it is.

        What its verb cannot do without is in it: the run's place, `--by` after a search by several objectives, and the
        `--address` of the cluster that the search was sent to.

        Args:
            verb: of huetune, that takes a run.
            rest: further words, for a shell.
        """
        manifest = self.manifest
        address = manifest.get("cluster", {}).get("address")
        if verb == "resume":
            return self.resume_command(address)
        words = [program_name(), verb, shlex.quote(self.location), *([rest] if rest else [])]
        objectives = manifest.get("search", {}).get("objectives", ())
        if verb in OBJECTIVE_COMMANDS and len(objectives) > 1:
            words.append(f"--by {objectives[0]}")
        if verb in RAY_COMMANDS and address:
            words.append(f"--address {shlex.quote(address)}")
        return " ".join(words)

    def resume_command(self, address: str | None) -> str:
        """Return the command line that goes on with it on a Ray cluster, or on this machine where there is none."""
        words = [program_name(), "resume", shlex.quote(self.location)]
        return " ".join([*words, *(["--address", shlex.quote(address)] if address else [])])

    def path(self, name: str) -> Path:
        """Return a file or folder in it, as it is in the run's bucket if it has one; it need not be there.

        Raises:
            StorageError: the bucket does not give it, or it is not in the run: a study may come from anyone.
        """
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise StorageError(f"run {self.name!r}: names {name!r}, which is not in it; do not trust this run")
        pull(self.folder / name)
        return self.folder / name

    @property
    def manifest(self) -> dict[str, Any]:
        """What was asked for: the command, its settings, versions and seeds.

        Raises:
            StorageError: it is missing or damaged.
        """
        path = self.folder / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(manifest, dict):
                raise ValueError("no object")
            return manifest
        except (OSError, ValueError, RecursionError) as error:
            raise StorageError(f"{str(path)!r}: cannot be read ({error})") from None

    @property
    def database(self) -> "URL":
        """Where the studies are."""
        from sqlalchemy.engine import make_url

        study = self.manifest.get("study")
        return make_url(study) if study else sqlite_url(self.folder / STUDY)

    @property
    def study_name(self) -> str:
        """The name of the study, which it keeps when the folder is renamed."""
        return self.manifest.get("search", {}).get("name", self.name)

    @property
    def replicates_name(self) -> str:
        """The name of the study of replicates, which no run can have."""
        return f"{self.study_name}/{REPLICATES}"

    def study(self) -> "optuna.Study":
        """Open the study to read it; nothing in it can be changed through this.

        Raises:
            StorageError: the study is not there or cannot be opened.
        """
        return self._load(self.study_name)

    def replicates(self) -> "optuna.Study | None":
        """Open the study of replicates to read it; None where nothing was trained again.

        Raises:
            StorageError: the database is not there or cannot be opened.
        """
        try:
            return self._load(self.replicates_name)
        except KeyError:
            return None

    def snapshot(self) -> "Studies":
        """Return the study and that of the replicates as they are now, to read; what is done to them is not written.

        It takes a third of the time that `study` takes, nearly all of which goes into imports.

        Raises:
            StorageError: the study is not there or cannot be opened.
        """
        from huetune.results.records.study_file import read_studies

        if not self.manifest.get("study"):
            # Whatever is odd about a file, Optuna itself says what it is.
            with contextlib.suppress(Exception):
                study, replicates = read_studies(self.folder / STUDY, (self.study_name, self.replicates_name))
                if study:
                    return study, replicates
        return self.study(), self.replicates()

    def _load(self, name: str) -> "optuna.Study":
        import optuna

        url = self.database
        where = repr(url.render_as_string())
        if url.drivername == "sqlite":
            path = Path(url.database or "")
            if not path.is_file():
                raise StorageError(f"{str(path)!r}: the run has no study; was its search ever started?")
            _roll_back(path)
            url = read_only(path)
        try:
            return optuna.load_study(study_name=name, storage=open_storage(url))
        except KeyError:
            if name == self.replicates_name:
                raise
            raise StorageError(f"{where}: has no study {name!r}") from None
        except Exception as error:
            raise StorageError(f"{where}: the study cannot be opened ({first_line(error)})") from None


def _roll_back(path: Path) -> None:
    """Undo what a process that died had half written: who only reads may not."""
    journal = path.with_name(f"{path.name}-journal")
    if journal.exists() and local_lock_holder(path.parent) is None:
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()


def backup_path(path: Path) -> Path:
    """Return where the second generation of a run's study is, as of the last trial that began or ended."""
    return path.with_name(f"{path.stem}-copy{path.suffix}")


def require_utf8_path(path: Path) -> None:
    """Refuse an absolute path of a run or a study that is not UTF-8: no URL of its study can hold it.

    Raises:
        UserError: it is not.
    """
    if not is_utf8(str(path)):
        raise UserError(f"{str(path)!r}: the path of a run and of its study must be UTF-8; rename the folder")


def sqlite_url(path: Path) -> "URL":
    """Return the URL of a SQLite file, whatever characters are in its path.

    Raises:
        UserError: they are not UTF-8.
    """
    from sqlalchemy.engine import URL

    require_utf8_path(path.absolute())
    return URL.create("sqlite", database=str(path.absolute()))


def read_only(path: Path) -> "URL":
    """Return the URL of a SQLite file through which nothing in it can be changed, nor one be made."""
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})


def open_storage(location: "URL") -> "optuna.storages.BaseStorage":
    """Open Optuna's database at a URL.

    SQLite waits while another process writes, as `trials` does beside a running search.

    Raises:
        StorageError: another version of Optuna made its tables.
        Exception: whatever SQLite, SQLAlchemy and Optuna raise, where it cannot be reached or is damaged.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = with_driver(location).render_as_string(hide_password=False)
    if url.startswith("sqlite"):
        return _open(url, connect_args={"timeout": 60})
    return _open_server(url)


@functools.cache
def _open_server(url: str) -> "optuna.storages.RDBStorage":
    # A storage keeps its connections, and a server has a hundred for all: who looks again and again takes no new ones.
    return _open(url, pool_pre_ping=True)


def _open(url: str, **options: Any) -> "optuna.storages.RDBStorage":
    import optuna

    # Optuna sends the URL through str.format: a brace in the path of a folder would end in a KeyError.
    escaped = url.replace("{", "{{").replace("}", "}}")
    storage = optuna.storages.RDBStorage(escaped, engine_kwargs=options, skip_compatibility_check=True)
    # The check that is skipped raises a RuntimeError, which only its words tell from any other.
    found, wanted = storage.get_current_version(), storage.get_head_version()
    if found != wanted:
        known = found in storage.get_all_versions()
        remedy = "upgrade them with: optuna storage upgrade" if known else "install a newer Optuna"
        raise StorageError(f"its tables have revision {found} and Optuna {optuna.__version__} uses {wanted}; {remedy}")
    return storage


def with_driver(location: "URL") -> "URL":
    """Return the URL of a database with the driver that huetune uses; SQLAlchemy would look for an older one.

    Raises:
        UserError: it is PostgreSQL's, and its driver is not installed.
    """
    if location.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        return location
    import_extra("psycopg", "postgres")
    return location.set(drivername="postgresql+psycopg")


def require_run_name(name: str) -> str:
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
    """Return a run by its name in the storage, by the path of its folder, or by its URI.

    Raises:
        StorageError: there is none, or the bucket that it is in cannot be reached.
        UserError: its path is not UTF-8.
    """
    for folder in (local_path(run),) if run.startswith(SCHEME) else (storage / run, Path(run)):
        _pull(folder)
        if os.path.isfile(folder / MANIFEST):  # unlike a Path, it takes a name of any length
            require_utf8_path(folder.resolve())
            return Run(folder.resolve())
    known = ", ".join(run.name for run in list_runs(storage)[-5:])
    hint = f"the newest there are {known}" if known else "there are none yet, start one with `huetune search`"
    raise StorageError(f"no run {run!r} in {location_of(storage)!r}: {hint}")


def find_source(run_or_export: str, storage: Path = STORAGE) -> "Path | Run":
    """Return the folder of the export, or the run, that a name or path means.

    Args:
        run_or_export: an export's folder, or a run.
        storage: where runs are looked for by name.

    Raises:
        StorageError: it is neither.
    """
    from huetune.model.checkpoint_format import SETTINGS_FILE

    folder = local_path(run_or_export)
    recover(folder)
    pull(folder / SETTINGS_FILE)
    # Whatever has these names is a model, also where it is one that cannot be trusted.
    if any(os.path.lexists(folder / name) for name in (SETTINGS_FILE, SUMS_FILE)):
        pull(folder)
        return folder
    try:
        return find_run(run_or_export, storage)
    except StorageError as error:
        raise StorageError(f"{error}; nor is it an export, which would have a {SETTINGS_FILE}") from None


def list_runs(storage: Path = STORAGE) -> list[Run]:
    """Return all runs of a storage, the newest last.

    Raises:
        StorageError: the bucket that it is cannot be reached.
    """
    if bucket := bucket_path(storage):
        bucket.check_reachable()
        for name in bucket.list_names():
            _pull(storage / name)
    manifests = sorted(storage.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    return [Run(path.parent.resolve()) for path in manifests]


def _pull(folder: Path) -> None:
    """Have the mirror of a run show what its bucket has, unless this machine is the one that searches."""
    bucket = bucket_path(folder)
    if not bucket or local_lock_holder(folder):
        return
    bucket.check_reachable()
    pull(folder / MANIFEST)
    study, copy, pulled = folder / STUDY, backup_path(folder / STUDY), folder / PULLED_TAG_FILE
    tag = (bucket / copy.name).version_tag()
    if tag is None or (pulled.is_file() and pulled.read_text(encoding="utf-8") == tag):
        # As this mirror left it: the study here is as new, or newer by what was not copied yet.
        return
    content = (bucket / copy.name).read()
    atomic_write(copy, content)
    study.with_name(f"{STUDY}-journal").unlink(missing_ok=True)
    atomic_write(study, content)
    atomic_write(pulled, tag.encode())
