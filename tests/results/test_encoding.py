"""Tests that files are written as UTF-8 in every locale."""

import os
import shutil
import subprocess
import sys

from huetune import data_tools, model, results, search

VERBS = """
import sys
from huetune.search.cli.main import cli

run, storage, out = sys.argv[1:]
for verb, place in (("report", f"{out}/report.html"), ("log", f"{out}/log"), ("log", f"{out}/ko")):
    words = ["--lang", "ko"] if place.endswith("ko") else []
    cli([verb, run, "--storage", storage, "--out", place, *words], standalone_mode=False)
"""


def test_documents_in_an_ascii_locale_are_utf8(searched, tmp_path):
    """ASCII is the strictest locale, and every machine has it: ISO-8859-1 and GBK fail in the same places."""
    shutil.copytree(searched[0] / "tiny", tmp_path / "tiny")
    locale = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-P", "-X", "warn_default_encoding", "-W", "always::EncodingWarning", "-c", VERBS]
    done = subprocess.run(
        [*command, "tiny", str(tmp_path), str(tmp_path / "out")],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **locale},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    ours = [f"{part.__path__[0]}/" for part in (data_tools, model, results, search)]
    warned = [line for line in done.stderr.splitlines() if "EncodingWarning" in line]
    assert not [line for line in warned if any(place in line for place in ours)]
    assert "·" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "색" in (tmp_path / "out" / "ko" / "log.ko.md").read_text(encoding="utf-8")
    if shutil.which("dot"):
        assert "÷ 2" in next((tmp_path / "out" / "log").glob("*/whole.svg")).read_text(encoding="utf-8")
