"""A run: the folder that a search writes, and the Optuna studies in it."""

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

if TYPE_CHECKING:  # Importing Optuna takes long, and the message that a run does not exist should be quick.
    import optuna
    from sqlalchemy.engine import URL

    from huetune.results.records.study_file import Studies

SQLITE_TIMEOUT_SECONDS = 60
"""Time for which a connection waits while another process writes."""
STUDY = "study.db"
MANIFEST = "manifest.json"
TRIALS = "trials"
"""Folder of the trials' checkpoints in a run."""
EVALUATION, EVALUATIONS = "evaluation", "evaluations"
"""Folder of the final check in a run, and folder of the evaluations on other photos, which has a folder for each."""
CONTACT_SHEET = "contact-sheet.png"
"""File name of the picture of an evaluation."""
REPLICATES = "replicates"
"""Folder of the replicates' checkpoints in a run."""
OBJECTIVE_COMMANDS = ("best", "evaluate", "colorize", "structure")
"""Commands that need `--by` after a search by several objectives."""
RAY_COMMANDS = ("extend", "confirm", "compare")
"""Commands that start Ray or connect to a cluster."""
TRIAL_NUMBER = re.compile(r"\d{1,9}")
"""Pattern of a trial's number on the command line."""
PULLED_TAG_FILE = "study-tag"
"""File in the local mirror of a run in a bucket: the version tag of the study that the mirror was read from."""


@dataclass(frozen=True)
class Run:
    """The run of a search.

    Args:
        folder: absolute path, so that a worker with another current folder finds it, too; for a run in a bucket, the
            path of its local mirror.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def location(self) -> str:
        """The run as an argument of a command: the path of its folder, or its URI in a bucket."""
        place = location_of(self.folder)
        if place.startswith(SCHEME):
            return place
        near = os.path.relpath(place)
        if os.path.isfile(STORAGE / near / MANIFEST):  # A run of this name in the default storage would be found first.
            return place
        return os.path.join(os.curdir, near) if near.startswith("-") else near

    def command(self, verb: str, rest: str = "") -> str:
        """Return a command line for this run that can be pasted into a shell.

        It contains the options that the command requires: `--by` after a search by several objectives, and `--address`
        if the search ran on a cluster.

        Args:
            verb: name of a command of huetune that takes a run.
            rest: further arguments, quoted for a shell.
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
        """Return the command line that resumes the run, on a Ray cluster or, with the address None, on this machine."""
        words = [program_name(), "resume", shlex.quote(self.location)]
        return " ".join([*words, *(["--address", shlex.quote(address)] if address else [])])

    def path(self, name: str) -> Path:
        """Return the path of a file or folder in the run, updated from the run's bucket if it has one.

        Args:
            name: path relative to the run; the file need not exist.

        Raises:
            StorageError: the bucket cannot be read, or the path leads out of the run. Such a path can be in the study
                of a run that comes from a stranger.
        """
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise StorageError(f"run {self.name!r}: names {name!r}, which is outside of the run; do not trust this run")
        pull(self.folder / name)
        return self.folder / name

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest: the command of the search, its settings, versions and seeds.

        Raises:
            StorageError: the manifest is missing or damaged.
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
        """URL of the database that contains the studies."""
        from sqlalchemy.engine import make_url

        study = self.manifest.get("study")
        return make_url(study) if study else sqlite_url(self.folder / STUDY)

    @property
    def study_name(self) -> str:
        """Name of the study, which does not change when the folder is renamed."""
        return self.manifest.get("search", {}).get("name", self.name)

    @property
    def replicates_name(self) -> str:
        """Name of the study of replicates; it contains a slash, so no run can have this name."""
        return f"{self.study_name}/{REPLICATES}"

    def study(self) -> "optuna.Study":
        """Open the study for reading; it cannot be changed through the returned object.

        Raises:
            StorageError: the study is missing or cannot be opened.
        """
        return self._load(self.study_name)

    def replicates(self) -> "optuna.Study | None":
        """Open the study of replicates for reading; None if there are no replicates.

        Raises:
            StorageError: the database is missing or cannot be opened.
        """
        try:
            return self._load(self.replicates_name)
        except KeyError:
            return None

    def snapshot(self) -> "Studies":
        """Read the study and the study of replicates into memory; changes to them are not written.

        This takes a third of the time of `study`, which spends nearly all of its time on imports.

        Raises:
            StorageError: the study is missing or cannot be opened.
        """
        from huetune.results.records.study_file import read_studies

        if not self.manifest.get("study"):
            # If the file cannot be read directly, Optuna reads it, or raises the error that is reported.
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
                raise StorageError(f"{str(path)!r}: the run has no study; its search was never started")
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
    """Roll back the unfinished transaction of a process that died, which a read-only connection cannot do."""
    journal = path.with_name(f"{path.name}-journal")
    if journal.exists() and local_lock_holder(path.parent) is None:
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()


def backup_path(path: Path) -> Path:
    """Return the path of the copy of a run's study, which is written whenever a trial begins or ends."""
    return path.with_name(f"{path.stem}-copy{path.suffix}")


def require_utf8_path(path: Path) -> None:
    """Require that the absolute path of a run or study is UTF-8, because the URL of the study contains it.

    Raises:
        UserError: the path is not UTF-8.
    """
    if not is_utf8(str(path)):
        raise UserError(f"{str(path)!r}: the path of a run and of its study must be UTF-8; rename the folder")


def sqlite_url(path: Path) -> "URL":
    """Return the URL of a SQLite file, whose path may contain any UTF-8 characters.

    Raises:
        UserError: the path is not UTF-8.
    """
    from sqlalchemy.engine import URL

    require_utf8_path(path.absolute())
    return URL.create("sqlite", database=str(path.absolute()))


def read_only(path: Path) -> "URL":
    """Return the URL of a SQLite file for reading only; opening it does not create the file."""
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})


def open_storage(location: "URL") -> "optuna.storages.BaseStorage":
    """Open the database of an Optuna study.

    A connection to SQLite waits up to 60 s while another process writes, such as a search while `trials` reads.

    Raises:
        StorageError: the tables have the schema of another version of Optuna.
        Exception: any error of SQLite, SQLAlchemy or Optuna if the database cannot be reached or is damaged.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = with_driver(location).render_as_string(hide_password=False)
    if url.startswith("sqlite"):
        return _open(url, connect_args={"timeout": SQLITE_TIMEOUT_SECONDS})
    return _open_server(url)


@functools.cache
def _open_server(url: str) -> "optuna.storages.RDBStorage":
    # A storage keeps its connections, and a server typically allows 100 of them, so repeated reads share one storage.
    return _open(url, pool_pre_ping=True)


def _open(url: str, **options: Any) -> "optuna.storages.RDBStorage":
    import optuna

    # Optuna passes the URL to str.format, so a brace in the path of a folder would cause a KeyError.
    escaped = url.replace("{", "{{").replace("}", "}}")
    storage = optuna.storages.RDBStorage(escaped, engine_kwargs=options, skip_compatibility_check=True)
    # Optuna's own check is skipped, because its RuntimeError can be recognized only by its message.
    found, wanted = storage.get_current_version(), storage.get_head_version()
    if found != wanted:
        known = found in storage.get_all_versions()
        remedy = "upgrade them with: optuna storage upgrade" if known else "install a newer Optuna"
        raise StorageError(f"its tables have revision {found} and Optuna {optuna.__version__} uses {wanted}; {remedy}")
    return storage


def with_driver(location: "URL") -> "URL":
    """Return the URL of a database with the driver that huetune uses; by default SQLAlchemy uses an older one.

    Raises:
        UserError: the database is PostgreSQL, and its driver is not installed.
    """
    if location.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        return location
    import_extra("psycopg", "postgres")
    return location.set(drivername="postgresql+psycopg")


def require_run_name(name: str) -> str:
    """Return a run's name if it can be the name of a folder in any storage.

    Raises:
        UserError: the name is empty, longer than 100 characters, begins with a sign, or has other characters than
            letters, digits, ".", "_" and "-".
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
        StorageError: there is no such run, or its bucket cannot be reached.
        UserError: the path of the run is not UTF-8.
    """
    for folder in (local_path(run),) if run.startswith(SCHEME) else (storage / run, Path(run)):
        _pull(folder)
        if os.path.isfile(folder / MANIFEST):  # Unlike `Path.is_file`, this accepts names of any length.
            require_utf8_path(folder.resolve())
            return Run(folder.resolve())
    known = ", ".join(run.name for run in list_runs(storage)[-5:])
    hint = f"the newest runs there are {known}" if known else "there are no runs yet, start one with `huetune search`"
    raise StorageError(f"no run {run!r} in {location_of(storage)!r}: {hint}")


def find_source(run_or_export: str, storage: Path = STORAGE) -> "Path | Run":
    """Return the folder of an export, or a run, by its name, path or URI.

    Args:
        run_or_export: path of an export, or a run.
        storage: folder in which runs are found by name.

    Raises:
        StorageError: there is neither an export nor a run of this name.
    """
    from huetune.model.checkpoint_format import SETTINGS_FILE

    folder = local_path(run_or_export)
    recover(folder)
    pull(folder / SETTINGS_FILE)
    # A folder with one of these files counts as an export, even a damaged or hostile one, which is refused later.
    if any(os.path.lexists(folder / name) for name in (SETTINGS_FILE, SUMS_FILE)):
        pull(folder)
        return folder
    try:
        return find_run(run_or_export, storage)
    except StorageError as error:
        raise StorageError(f"{error}; it is not an export either, which has a file {SETTINGS_FILE}") from None


def list_runs(storage: Path = STORAGE) -> list[Run]:
    """Return all runs of a storage, the newest last.

    Raises:
        StorageError: the storage is a bucket and cannot be reached.
    """
    if bucket := bucket_path(storage):
        bucket.check_reachable()
        for name in bucket.list_names():
            _pull(storage / name)
    manifests = sorted(storage.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    return [Run(path.parent.resolve()) for path in manifests]


def _pull(folder: Path) -> None:
    """Update the local mirror of a run from its bucket, unless a process on this machine searches."""
    bucket = bucket_path(folder)
    if not bucket or local_lock_holder(folder):
        return
    bucket.check_reachable()
    pull(folder / MANIFEST)
    study, copy, pulled = folder / STUDY, backup_path(folder / STUDY), folder / PULLED_TAG_FILE
    tag = (bucket / copy.name).version_tag()
    if tag is None or (pulled.is_file() and pulled.read_text(encoding="utf-8") == tag):
        # The bucket has the version of this mirror, or an older one if the last changes were not copied yet.
        return
    content = (bucket / copy.name).read()
    atomic_write(copy, content)
    study.with_name(f"{STUDY}-journal").unlink(missing_ok=True)
    atomic_write(study, content)
    atomic_write(pulled, tag.encode())
