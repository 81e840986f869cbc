"""Secrets are in no file, argument or output, and a search listens only on the loopback address."""

import os
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest
from pyarrow import fs

from huetune.data_tools.storage.bucket_cache import local_path
from tests.faults.chaos import HUETUNE
from tests.faults.postgres import PASSWORD
from tests.faults.program import NAME, epochs, search
from tests.store import ENVIRONMENT

TOKEN = "7e57ab1e" * 8
"""A token in Ray's format."""
SENTINELS = {"database": PASSWORD, "bucket": ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], "Ray": TOKEN}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Set new folders for home, state, cache and temporary files, with short paths for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="hue", dir="/tmp") as folder:
        for name in ("HOME", "XDG_STATE_HOME", "HUETUNE_CACHE", "TMPDIR"):
            (Path(folder) / name[:4]).mkdir()
            monkeypatch.setenv(name, str(Path(folder) / name[:4]))
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


def leaks(*folders):
    """Return the files below folders that contain a secret, and which one."""
    found = set()
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        content = path.read_bytes()
        found |= {(path, whose) for whose, secret in SENTINELS.items() if secret.encode() in content}
    return found


def download(store, place, folder):
    """Download a part of the bucket."""
    endpoint = f"127.0.0.1:{store.port}"
    bucket = fs.S3FileSystem(access_key="hue", secret_key="any", endpoint_override=endpoint, scheme="http")
    fs.copy_files(f"hue/{place}", str(folder), source_filesystem=bucket)


def listening_addresses(process):
    """Return the name of each process of a search that listens, and its address."""
    found = set()
    for one in (process, *process.children(recursive=True)):
        addresses = [at.laddr.ip for at in one.net_connections("inet") if at.status == psutil.CONN_LISTEN]
        found |= {(one.name(), ip.removeprefix("::ffff:")) for ip in addresses}
    return found


@pytest.mark.long
def test_search_leaks_no_secret_and_opens_no_public_port(store, postgres, start, place, tmp_path, monkeypatch):
    """The search runs, is killed, fails to resume and completes, with a password, a key and a token."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    storage = store.uri(f"hue/{place.name}")
    program = start(local_path(storage), *search(1, 3), "--study", postgres.url, "--storage", storage)
    program.wait_for(epochs(1))
    inside = listening_addresses(program.process)
    assert {"gcs_server", "raylet", "huetune"} <= {name for name, _ in inside}
    assert {ip for _, ip in inside} == {"127.0.0.1"}, inside
    words = [" ".join(one.cmdline()) for one in program.process.children(recursive=True)]
    assert not [word for word in words if any(secret in word for secret in SENTINELS.values())]
    program.process.kill()
    outputs = [program.end()[1]]
    kept = list((place / "TMPD").glob("hue-*"))
    assert list((place / "TMPD").glob("hue-*/ray/session_*/logs/raylet.out")), kept
    assert not [folder for folder in kept if folder.stat().st_mode & 0o077]
    assert not [path for path in (place / "TMPD").iterdir() if path not in kept], "no later search would remove it"

    wrong = subprocess.run(
        [HUETUNE, "resume", NAME, "--storage", storage],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PGPASSWORD": "wrong"},
    )
    assert wrong.returncode == 4 and "password authentication failed" in wrong.stderr, wrong.stderr
    resumed = start(local_path(storage), "resume", NAME, "--storage", storage)
    code, text = resumed.end(400)
    assert code == 0 and " resumed " in text, text
    exported = subprocess.run(
        [HUETUNE, "best", NAME, "--storage", storage, "--export", place / "best"],
        text=True,
        encoding="utf-8",
        capture_output=True,
    )
    assert exported.returncode == 0, exported.stderr
    outputs += [wrong.stdout, wrong.stderr, text, exported.stdout, exported.stderr]

    download(store, place.name, tmp_path / "bucket")
    (tmp_path / "outputs").write_text("\n".join(outputs), encoding="utf-8")
    private = postgres.folder / "password"
    assert leaks(place, tmp_path, postgres.folder) == {(private, "database")}
    assert (tmp_path / "bucket" / NAME / "manifest.json").is_file()
    mirrors = next((place / "XDG_").glob("huetune/mirrors/*"))
    assert mirrors.stat().st_mode & 0o077 == 0
