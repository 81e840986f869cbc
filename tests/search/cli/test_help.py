"""Help, versions, completion and colors of the command, and what it imports for them."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from huetune.data_tools.common.terminal import _console, say
from huetune.results.live.progress import animated
from huetune.results.records.run_names import complete_run_name
from huetune.search.cli.main import VERSIONED_PACKAGES, cli
from tests.interpreter import PRINT_IMPORTS, RUN_COMMAND, parse_imports


def verbs(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from verbs(inner, (*path, name))
    else:
        yield path, command


@pytest.mark.parametrize(
    ("path", "verb"), list(verbs()), ids=lambda part: " ".join(part) if isinstance(part, tuple) else ""
)
def test_help_of_every_command_has_a_valid_example(path, verb):
    shown = " ".join(CliRunner().invoke(cli, [*path, "--help"], terminal_width=1000).output.split())
    example = re.search(r"Example: (huetune .*?)(?= Options:|$)", shown)
    assert example, f"no example in the help of {' '.join(path)}"
    words = shlex.split(example[1])[1:]
    assert words[: len(path)] == list(path)
    verb.make_context(path[-1], words[len(path) :])


def test_every_run_argument_has_shell_completion():
    lacking = [
        " ".join(path)
        for path, verb in verbs()
        for word in verb.params
        if isinstance(word, click.Argument)
        and word.name.startswith("run")
        and word._custom_shell_complete != complete_run_name
    ]
    assert not lacking


@pytest.mark.parametrize(("word", "near"), [("serch", "search"), ("dashbord", "dashboard"), ("data fech", "fetch")])
def test_unknown_command_suggests_the_nearest(word, near):
    with pytest.raises(click.UsageError) as refused:
        cli.main(shlex.split(word), standalone_mode=False)
    assert f"'{near}'" in refused.value.format_message()


def test_unknown_option_suggests_the_nearest():
    with pytest.raises(click.UsageError) as refused:
        cli.main(["trials", "roses", "--sor", "trial"], standalone_mode=False)
    assert "--sort" in refused.value.format_message()


HEAVY = {"ray", "tensorflow", "keras", "optuna", "pandas", "numpy", "scipy", "PIL", "sqlalchemy", "apprise", "pyarrow"}


@pytest.mark.parametrize(
    ("words", "environment", "shown"),
    [
        (["--help"], {}, "Search for the VAE"),
        (["search", "--help"], {}, "Search for the settings"),
        (["--version"], {}, "tensorflow 2"),
        ([], {"_HUETUNE_COMPLETE": "bash_complete", "COMP_WORDS": "huetune trials --storage S t"}, "plain,tiny"),
        ([], {"_HUETUNE_COMPLETE": "bash_complete", "COMP_WORDS": "huetune confi"}, "plain,confirm"),
    ],
)
def test_help_and_completion_import_nothing_heavy(words, environment, shown, tmp_path):
    (tmp_path / "S" / "tiny").mkdir(parents=True)
    (tmp_path / "S" / "tiny" / "manifest.json").write_text("{}", encoding="utf-8")
    program = tmp_path / "huetune"
    program.write_text(RUN_COMMAND, encoding="utf-8")
    count = len(environment.get("COMP_WORDS", "").split())
    done = subprocess.run(
        [sys.executable, program, *words],
        cwd=tmp_path,
        env={**os.environ, **environment, "COMP_CWORD": str(count - 1)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert shown in done.stdout
    modules, cpu_seconds = parse_imports(done.stderr)
    assert not HEAVY & modules
    assert cpu_seconds < 1


RUN_ALL_LINES = """
import json, sys
from huetune.search.cli.main import main
codes = []
for line in json.loads(sys.argv[1]):
    sys.argv[1:] = line.split()
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
print(json.dumps(codes))
"""
REFUSED = [
    *("report no", "report R --photos no", "report R --out file/x", "best no", "best R --export full"),
    *("log R --top 3 --trials 0", "log R --trials x", "trials no", "trials R --out x", "effects no", "watch no"),
    *("watch R --interval nan", "verify no", "dashboard no", "tensorboard no", "mlflow no --uri http://x", "resume no"),
    *("extend no --trials 3", "confirm no", "compare no 1 2", "rerun no 3", "data check no"),
]
REFUSED_BY_NUMPY = [
    *("evaluate no --photos full", "evaluate R --photos no", "colorize no x --out o", "structure no --out o"),
    *("structure R --out file/x", "train --photos no", "train --out full", "train --resume --out no"),
    *("train --set nope=3", "data garden --out full", "log no", "log R no", "log R --photos no"),
]
"""These need the settings of a model, which import NumPy, or of photos, which import Pillow."""


@pytest.mark.parametrize(("lines", "known"), [(REFUSED, set()), (REFUSED_BY_NUMPY, {"numpy", "PIL"})])
def test_bad_input_is_refused_without_heavy_imports(lines, known, tmp_path):
    """One process runs all lines, so that none of them has imported a heavy module."""
    (tmp_path / "R").mkdir()
    (tmp_path / "R" / "manifest.json").write_text("{}", encoding="utf-8")
    (tmp_path / "full").mkdir()
    for name in ("file", "full/notes.txt"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
    command = [sys.executable, "-P", "-c", RUN_ALL_LINES + PRINT_IMPORTS, json.dumps(lines)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=True)
    codes, (modules, _) = json.loads(done.stdout), parse_imports(done.stderr.splitlines()[-1])
    assert [line for line, code in zip(lines, codes, strict=True) if code not in (2, 3, 4)] == [], done.stderr
    assert (HEAVY | {"altair", "skimage", "tensorboardX", "mlflow"}) & modules <= known


def test_version_option_lists_versions_of_packages():
    lines = CliRunner().invoke(cli, ["--version"]).output.splitlines()
    assert [line.split()[0] for line in lines] == ["huetune", "python", *VERSIONED_PACKAGES]
    assert all(re.fullmatch(r"\S+ \d+\.\d+\S*", line) for line in lines)


def on_terminal(executable: str, *words: str, **environment: str) -> tuple[int, str]:
    """Return the exit code of the command and what it writes to a terminal."""
    ours, theirs = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [executable, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**plain, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            if not (part := os.read(ours, 65536)):
                break
        except OSError:  # the other end is closed
            break
        seen += part
    os.close(ours)
    return process.wait(), seen.decode()


def test_error_is_red_only_on_a_terminal_with_colors(executable, tmp_path):
    words = ["data", "check", str(tmp_path / "nowhere")]
    _, seen = on_terminal(executable, *words)
    assert re.search(r"\x1b\[[0-9;]*31m", seen), "an error is red"
    code, seen = on_terminal(executable, *words, NO_COLOR="1")
    assert code == 3 and "nowhere" in seen and "\x1b[" not in seen
    piped = subprocess.run([executable, *words], capture_output=True, text=True, encoding="utf-8")
    assert "nowhere" in piped.stderr and "\x1b" not in piped.stderr


@pytest.mark.parametrize(
    ("on_tty", "variables", "animates", "colors"),
    [
        (False, {}, False, False),
        (False, {"FORCE_COLOR": "1"}, False, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        (False, {"FORCE_COLOR": "1", "TERM": "dumb"}, False, False),
        (False, {"TTY_COMPATIBLE": "1"}, False, True),
        (True, {}, True, True),
        (True, {"NO_COLOR": "1"}, True, False),
        (True, {"FORCE_COLOR": ""}, True, False),
        (True, {"TERM": "dumb"}, False, False),
        (True, {"TTY_COMPATIBLE": "0"}, False, False),
    ],
)
def test_console_layout_follows_stream_and_colors_variables(on_tty, variables, animates, colors, monkeypatch, tmp_path):
    """The layout of stdout and stderr depends on each stream alone."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as terminal, (tmp_path / "out").open("w", encoding="utf-8") as file:
        for name in ("stdout", "stderr"):
            streams = {"stdout": file, "stderr": file} | {name: terminal if on_tty else file}
            if not on_tty:
                streams |= {other: terminal for other in streams if other != name}
            for part, stream in streams.items():
                monkeypatch.setattr(sys, part, stream)
            console = _console(stderr=name == "stderr")
            assert animated(console) == animates
            assert console.is_terminal or console.width == 240
            say("said", "red", console)
            seen = os.read(ours, 1000) if on_tty else (tmp_path / "out").read_bytes()
            assert b"said" in seen and (b"\x1b[31m" in seen) == colors
    os.close(ours)


def test_parquet_table_on_a_terminal_is_refused(executable):
    code, seen = on_terminal(executable, "trials", "roses", "--format", "parquet")
    assert code == 2 and "add --out FILE or a pipe" in seen
