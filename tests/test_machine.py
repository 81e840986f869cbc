"""The tests give the same result on each machine."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "some-key",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "FORCE_COLOR": "1",
    "HUETUNE_NOTIFY": "nonsense://x",
    "KERAS_BACKEND": "nonsense",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
    "NO_COLOR": "1",
    "PGHOST": "127.0.0.1",
    "RAY_ADDRESS": "127.0.0.1:1",
    "XDG_CACHE_HOME": "/proc",
}


def test_user_settings_and_ray_clusters_change_no_test(tmp_path):
    """An earlier `ray start` leaves a file with an address that `--address auto` would use."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1\n", encoding="utf-8")
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text('{"backend": "nonsense"}', encoding="utf-8")
    machine = {**SETTINGS, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "KERAS_HOME": str(tmp_path / ".keras")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("_TESTED_ON", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-k", "auto or token", "search/cli/test_bad_input.py"]
    done = subprocess.run(
        [*command, "search/ray_runtime/test_address.py", "search/ray_runtime/test_local_ray.py"],
        cwd=HERE,
        env={**environment, **machine},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout and not list(tmp_path.glob("hue*"))


def test_temporary_folder_is_short_enough_for_ray_sockets():
    assert tempfile.gettempdir() == os.environ["TMPDIR"] and len(os.environ["TMPDIR"]) <= 26
    assert Path.home().parent == Path(tempfile.gettempdir()).parent
