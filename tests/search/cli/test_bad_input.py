"""Bad arguments end a command within two seconds, with one line and the right exit code, and create nothing."""

import importlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from huetune.search.cli.main import cli

LONG = "x" * 300
NAME = "a run's name has 1 to 100 letters"
NOTHING = "no run 'nothing' in 'runs': there are no runs yet"
RANGE = "is not in the range"
INTEGER = "is not a valid integer"
DURATION = "is not a duration such as 90s, 30m or 1h30m"
EMPTY = "must not be empty"

# The command line, the exit code, and a part of the message. `photos` is an empty folder, `full` is a folder with a
# file, `text` is a file.
BAD_COMMANDS: list[tuple[str, int, str]] = [
    # The command itself
    ("--nonsense", 2, "No such option '--nonsense'"),
    ("serch", 2, "No such command 'serch'. Did you mean 'search'?"),
    (r"'\x1b[31mred'", 2, r"No such command '\x1b[31mred'"),
    ("search extra", 2, "unexpected extra argument (extra)"),
    ("search --trails 3", 2, "Did you mean one of: '--strict', '--trials'?"),
    ("search --quiet=3", 2, "does not take a value"),
    # Photos
    ("search --photos", 2, "requires an argument"),
    ("search --photos ''", 2, EMPTY),
    ("search --photos nowhere", 3, "'nowhere' is not a folder"),
    ("search --photos text", 3, "'text' is not a folder"),
    ("search --photos photos", 3, "no photos in 'photos'"),
    (r"search --photos 'a\x1b[31m\nb'", 3, r"'a\x1b[31m\nb' is not a folder"),
    ("search --photos photos --storage photos/runs", 2, "pictures of runs would be taken for photos"),
    ("search --photos photos --garden 3", 2, "--photos and --garden: choose one"),
    ("search --garden 1", 2, RANGE),
    ("search --garden -5", 2, RANGE),
    ("search --garden 1e3", 2, INTEGER),
    ("search --garden true", 2, INTEGER),
    ("search --garden 99999999999", 2, RANGE),
    ("search --classes rose", 2, "--classes: goes with --photos"),
    ("search --photos photos --classes ,", 2, EMPTY),
    ("search --strict --photos nowhere", 3, "is not a folder"),
    ("search --limit 1", 2, RANGE),
    ("search --limit nan", 2, INTEGER),
    # Names and places
    ("search --name ''", 2, EMPTY),
    ("search --name ../x", 2, NAME),
    ("search --name /tmp/x", 2, NAME),
    ("search --name .hidden", 2, NAME),
    ("search --name 'a b'", 2, NAME),
    ("search --name a/b", 2, NAME),
    (r"search --name 'a\x1b[31m'", 2, NAME),
    (f"search --name {LONG}", 2, NAME),
    ("search --storage ''", 2, EMPTY),
    ("search --storage text", 4, "cannot be created (Not a directory)"),
    ("search --storage 's3://b/x?scheme=ftp'", 2, "the scheme must be http or https"),
    ("search --storage /proc/nothing", 4, "cannot be created (No such file or directory)"),
    ("search --storage . --name full", 4, "exists already; choose another --name"),
    (f"search --storage {LONG}", 4, "cannot be created (File name too long)"),
    # Budgets
    ("search --trials 0", 2, "trials must be 1 or more, received 0"),
    ("search --trials -3", 2, "trials must be 1 or more, received -3"),
    ("search --trials 1.5", 2, INTEGER),
    ("search --trials true", 2, INTEGER),
    ("search --trials 99999999999", 2, "trials must be 1,000,000 or less, received 99999999999"),
    ("search --epochs 0", 2, "epochs must be 1 or more, received 0"),
    ("search --epochs nan", 2, INTEGER),
    ("search --time-budget -30s", 2, DURATION),
    ("search --time-budget 30x", 2, DURATION),
    ("search --time-budget nan", 2, DURATION),
    ("search --time-budget inf", 2, DURATION),
    ("search --time-budget ''", 2, DURATION),
    ("search --time-budget 0s", 2, "time-budget must be above 0, received 0.0"),
    ("search --time-budget 99999999999h", 2, "time-budget must be 3,153,600,000 or less"),
    (f"search --time-budget {'9' * 5000}s", 2, DURATION),
    ("search --stop-when-flat 0", 2, "stop-when-flat must be 1 or more, received 0"),
    ("search --confirm 3", 2, "'3' is neither none nor finalists x seeds such as 3x5"),
    ("search --confirm -1x3", 2, "is neither none nor finalists x seeds"),
    ("search --confirm 0x3", 2, "1 or more finalists with 2 or more seeds each"),
    (f"search --confirm 3x{'9' * 5000}", 2, "is neither none nor finalists x seeds"),
    ("search --confirm 3x1", 2, "1 or more finalists with 2 or more seeds each"),
    ("search --confirm 999999999x2", 2, "1 or more finalists with 2 or more seeds each"),
    ("search --seed -1", 2, "seed must be 0 or more, received -1"),
    ("search --seed 99999999999", 2, "seed must be 2,147,483,647 or less, received 99999999999"),
    # How it searches
    ("search --objective loss", 2, "objective must be one of chroma_mse, skill, chroma_ratio_error"),
    ("search --objective ,", 2, EMPTY),
    ("search --objective skill,skill", 2, "objective must name different metrics"),
    ("search --objective skill,chroma_mse --scheduler asha", 2, "'asha' ranks by one objective"),
    ("search --objective skill,chroma_mse --confirm 3x3", 2, "confirm ranks by one objective"),
    ("search --searcher nonsense", 2, "searcher must be one of tpe, random, grid, cmaes, nsga2, received 'nonsense'"),
    ("search --searcher cmaes", 2, "searcher cmaes needs one objective and at least two settings"),
    ("search --scheduler nonsense", 2, "scheduler must be one of asha, hyperband, median, none, received 'nonsense'"),
    ("search --batching nonsense", 2, "is not one of 'photos', 'patches'"),
    ("search --warm-start model-9", 2, "warm-start must name presets"),
    ("search --warm-start none,model-1", 2, "warm-start must name presets"),
    ("search --space nothing.toml", 2, "'nothing.toml': cannot be read (No such file or directory)"),
    ("search --space photos", 2, "'photos': is not a file"),
    ("search --space pipe", 2, "'pipe': is not a file"),
    ("search --space /dev/zero", 2, "'/dev/zero': is not a file"),
    # Where it searches
    ("search --cpus-per-trial 0", 2, "cpus-per-trial must be above 0"),
    ("search --cpus-per-trial nan", 2, "cpus-per-trial must be above 0, received nan"),
    ("search --cpus-per-trial inf", 2, "cpus-per-trial must be above 0, received inf"),
    ("search --cpus-per-trial true", 2, "is not a valid float"),
    ("search --gpus-per-trial -1", 2, "gpus-per-trial must be 0 or more"),
    ("search --gpus-per-trial nan", 2, "gpus-per-trial must be 0 or more"),
    ("search --trial-timeout 0s", 2, "trial-timeout must be above 0, received 0.0"),
    ("search --trial-timeout 99999999999h", 2, "trial-timeout must be 3,153,600,000 or less"),
    ("search --address ''", 2, EMPTY),
    ("search --address auto", 2, "--address 'auto': `ray start` has started no cluster on this machine"),
    ("search --address nonsense", 2, "--address 'nonsense': is not a HOST:PORT"),
    ("search --address http://x:1", 2, "pass the HOST:PORT of the cluster's head"),
    ("search --address a..b:80", 2, "--address 'a..b:80': cannot be reached"),
    ("search --address localhost:²", 2, "is not a HOST:PORT"),
    ("search --address 127.0.0.1:1", 2, "--address '127.0.0.1:1': cannot be reached"),
    ("search --study ''", 2, EMPTY),
    ("search --study nonsense", 2, "'nonsense': not a database URL"),
    ("search --study nonsense://127.0.0.1/x", 2, "no driver for this kind of database is installed"),
    ("search --study mysql://127.0.0.1/x", 2, "no driver for this kind of database is installed"),
    ("search --study sqlite://", 2, "a database in memory is lost when the search ends"),
    ("search --study sqlite:///nowhere/study.db", 4, "is not a folder"),
    ("search --study postgresql://127.0.0.1:1/x", 4, "cannot be reached"),
    ("search --study 'postgresql://127.0.0.1:1/x?sslpassword=secret'", 2, "the URL contains a password"),
    ("search --study 'mysql+pymysql://127.0.0.1:1/x?passwd=secret'", 2, "the URL contains a password"),
    ("search --mlflow 'https://127.0.0.1:1/?token=secret'", 2, "MLFLOW_TRACKING_PASSWORD"),
    ("search --mlflow 'postgresql://127.0.0.1:1/x?user=me'", 2, "MLFLOW_TRACKING_PASSWORD"),
    ("search --study postgresql://me:secret@127.0.0.1:1/x", 2, "the URL contains a password"),
    # Runs
    ("list extra", 2, "unexpected extra argument"),
    ("list --storage ''", 2, EMPTY),
    *(
        row
        for verb in ("trials", "best", "effects", "verify", "resume", "extend", "confirm")
        for row in (
            (verb, 2, "Missing argument 'RUN'"),
            (f"{verb} ''", 2, EMPTY),
            (f"{verb} nothing", 4, NOTHING),
            (f"{verb} ../nothing", 4, "no run '../nothing'"),
            (f"{verb} text", 4, "no run 'text'"),
            (f"{verb} {LONG}", 4, "no run 'xxx"),
            (rf"{verb} 'a\x1b[31m'", 4, r"no run 'a\x1b[31m'"),
            (f"{verb} nothing --storage text", 4, "no run 'nothing' in 'text'"),
        )
    ),
    ("trials nothing --format xml", 2, "is not one of 'table', 'csv', 'json', 'markdown'"),
    ("trials nothing --sort ''", 2, EMPTY),
    ("trials nothing --columns ,", 2, EMPTY),
    ("trials nothing --where ''", 2, EMPTY),
    ("trials nothing --descending", 4, NOTHING),
    ("best nothing --export full", 4, NOTHING),
    ("best nothing --by ''", 2, EMPTY),
    ("effects nothing --format xml", 2, "is not one of 'table', 'csv', 'json', 'markdown'"),
    ("verify nothing --quick=1", 2, "does not take a value"),
    ("resume nothing --address ''", 2, EMPTY),
    ("resume nothing --quiet=1", 2, "does not take a value"),
    ("extend nothing --trials -1", 2, RANGE),
    ("extend nothing --epochs 0", 2, RANGE),
    ("extend nothing --time-budget -1", 2, DURATION),
    ("extend nothing --address ''", 2, EMPTY),
    ("extend nothing --quiet=1", 2, "does not take a value"),
    ("confirm nothing --top 0", 2, RANGE),
    ("confirm nothing --seeds 1", 2, RANGE),
    ("confirm nothing --address ''", 2, EMPTY),
    ("confirm nothing --quiet=1", 2, "does not take a value"),
    ("compare nothing a", 2, "Missing argument 'SECOND'"),
    ("compare nothing a b", 4, NOTHING),
    ("compare nothing a b --storage text", 4, "no run 'nothing' in 'text'"),
    ("compare nothing a b --seeds -1", 2, RANGE),
    ("compare nothing a b --address ''", 2, EMPTY),
    ("compare nothing a b --quiet=1", 2, "does not take a value"),
    ("rerun nothing 1", 4, NOTHING),
    ("rerun nothing x", 2, INTEGER),
    ("rerun nothing 1.5", 2, INTEGER),
    ("rerun nothing 1 --storage text", 4, "no run 'nothing' in 'text'"),
    # Models
    ("evaluate nothing", 2, "Missing option '--photos'"),
    ("evaluate nothing --photos photos", 4, "it is not an export either"),
    ("evaluate nothing --photos photos --storage text", 4, "it is not an export either"),
    ("evaluate photos --photos photos", 4, "it is not an export either"),
    ("evaluate nothing --photos photos --samples 0", 2, RANGE),
    ("evaluate nothing --photos photos --samples 101", 2, RANGE),
    ("evaluate nothing --photos photos --seed -1", 2, RANGE),
    ("evaluate nothing --photos photos --classes ''", 2, EMPTY),
    ("evaluate nothing --photos photos --by ''", 2, EMPTY),
    ("evaluate nothing --photos photos --out ''", 2, EMPTY),
    ("evaluate nothing --photos photos --strict=1", 2, "does not take a value"),
    ("evaluate nothing --photos photos --allow-leakage=1", 2, "does not take a value"),
    ("colorize nothing", 2, "Missing argument 'PHOTOS...'"),
    ("colorize nothing x.jpg", 2, "Missing option '--out'"),
    ("colorize nothing x.jpg --out y", 4, "it is not an export either"),
    ("colorize nothing x.jpg --out y --storage text", 4, "it is not an export either"),
    ("colorize nothing x.jpg --out y --samples nan", 2, INTEGER),
    ("colorize nothing x.jpg --out y --seed -1", 2, RANGE),
    ("colorize nothing x.jpg --out y --by ''", 2, EMPTY),
    ("presets --format csv", 2, "is not one of 'table', 'json'"),
    ("train --preset model-9", 2, "choose one of model-1"),
    ("train --photos photos", 3, "no photos in 'photos'"),
    ("train --garden 1", 2, RANGE),
    ("train --classes rose", 2, "--classes: goes with --photos"),
    ("train --strict=1", 2, "does not take a value"),
    ("train --epochs 0", 2, RANGE),
    ("train --train-first -1", 2, RANGE),
    ("train --limit -1", 2, RANGE),
    ("train --limit 3 --train-first 3", 2, "choose one of them"),
    ("train --batching x", 2, "is not one of 'photos', 'patches'"),
    ("train --seed x", 2, INTEGER),
    ("train --out full", 4, "is not empty"),
    ("train --out text/x", 4, "cannot be created (Not a directory)"),
    ("train --set ''", 2, EMPTY),
    ("train --set activation", 2, "--set 'activation': must be NAME=VALUE, as in activation=relu"),
    ("train --set =relu", 2, "--set '=relu': must be NAME=VALUE"),
    ("train --set actvation=relu", 2, "unknown setting 'actvation': did you mean 'activation'?"),
    ("train --set x=1", 2, "unknown setting 'x': known settings are mse_weight"),
    ("train --set activation=swish2", 2, "activation must be one of relu"),
    ("train --set activation=", 2, "activation must be one of relu"),
    (r"train --set 'activation=\x1b[31mrelu'", 2, r"received '\x1b[31mrelu'"),
    ("train --set skip=1", 2, "--set 'skip=1': skip must be true or false, received '1'"),
    ("train --set merge_units=96.0", 2, "merge_units must be a whole number, received '96.0'"),
    (f"train --set merge_units={'9' * 5000}", 2, "merge_units must be a whole number"),
    ("train --set merge_units=0", 2, "merge_units must be 1 to 4096, received 0"),
    ("train --set mse_weight=much", 2, "mse_weight must be a number, received 'much'"),
    ("train --set mse_weight=nan", 2, "mse_weight must be above 0, received nan"),
    ("train --set learning_rate=inf", 2, "learning_rate must be above 0, received inf"),
    ("train --set skip=true --set skip=false", 2, "--set skip: received both true and false; choose one of them"),
    ("train --set batching=x", 2, "batching must be one of patches, photos"),
    ("train --set batching=boxes --batching photos", 2, "--batching photos and --set batching=patches: choose one of"),
    ("train --resume", 4, "'trained/model-2': has no training to resume; name its folder with --out, or start one"),
    ("train --resume --set skip=false", 4, "'trained/model-2-skip-false': has no training to resume"),
    ("train --resume --out full", 4, "'full': has no training to resume"),
    ("train --resume --out text/x", 4, "'text/x': has no training to resume"),
    (f"train --resume --out {LONG}", 4, "has no training to resume"),
    ("train --resume --out ''", 2, EMPTY),
    ("train --resume=yes", 2, "does not take a value"),
    # Data
    ("data nonsense", 2, "No such command 'nonsense'"),
    ("data garden", 2, "Missing option '--out'"),
    ("data garden --out ''", 2, EMPTY),
    ("data garden --out g --count 0", 2, RANGE),
    ("data garden --out g --count 99999999999", 2, RANGE),
    ("data garden --out g --seed -1", 2, RANGE),
    ("data garden --out text/x", 4, "cannot be created (Not a directory)"),
    ("data garden --out full", 4, "is not empty"),
    ("data check nowhere", 3, "'nowhere' is not a folder"),
    ("data check ''", 2, EMPTY),
    ("data check photos --classes ''", 2, EMPTY),
    ("data fetch", 2, "Missing argument '{flowers}'. Choose from: flowers"),
    ("data fetch flowers --url nonsense", 2, "--url 'nonsense': not a URL; expected https:"),
    ("data fetch flowers --url file:///etc/passwd", 2, "--url 'file:///etc/passwd': not a URL; expected https:"),
    ("data fetch flowers --url http://127.0.0.1:1/x", 3, "cannot be fetched"),
    ("data fetch flowers --url http://127.0.0.1:1/x --out new", 3, "cannot be fetched"),
    ("data fetch flowers --sha256 nonsense", 2, "--sha256 'nonsense': not a checksum; expected 64 hexadecimal digits"),
    ("data fetch flowers --out text/x", 4, "cannot be created (Not a directory)"),
    # Watching, reports, logs and other people's tools
    ("trials nothing --out text/x --format csv", 4, NOTHING),
    ("trials nothing --out ''", 2, EMPTY),
    ("watch nothing --storage text", 4, "'nothing' in 'text'"),
    ("watch nothing --interval 0", 2, RANGE),
    ("watch nothing --once", 4, NOTHING),
    # Photos of a run that were moved
    ("resume nothing --photos ''", 2, EMPTY),
    ("extend nothing --trials 1 --photos ''", 2, EMPTY),
    ("verify nothing --photos ''", 2, EMPTY),
    ("confirm nothing --photos ''", 2, EMPTY),
    ("rerun nothing 0 --photos ''", 2, EMPTY),
    ("compare nothing model-1 model-2 --photos ''", 2, EMPTY),
    ("report nothing --storage runs", 4, NOTHING),
    ("report nothing --out ''", 2, EMPTY),
    ("report nothing --photos ''", 2, EMPTY),
    ("log nothing --storage runs", 4, NOTHING),
    ("log nothing --top -1", 2, RANGE),
    ("log nothing --trials 0,x", 2, "'x' is not a trial number; pass numbers such as 0,4"),
    ("log nothing --photos ''", 2, EMPTY),
    ("log nothing --classes rose", 2, "--classes: goes with --photos"),
    ("log nothing --lang de", 2, "'de' is not one of 'en', 'ko'"),
    ("log nothing --out ''", 2, EMPTY),
    ("structure nothing --out s --storage runs", 4, NOTHING),
    ("structure nothing --out ''", 2, EMPTY),
    ("structure nothing --out s --by ''", 2, EMPTY),
    ("dashboard nothing --storage runs", 4, NOTHING),
    ("dashboard nothing --port 99999999", 2, RANGE),
    ("tensorboard nothing --storage runs", 4, NOTHING),
    ("tensorboard nothing --out ''", 2, EMPTY),
    ("tensorboard nothing --follow", 4, NOTHING),
    ("mlflow nothing --storage runs", 2, "Missing option '--uri'"),
    ("mlflow nothing --uri http://127.0.0.1:1 --follow", 4, NOTHING),
    ("search --mlflow http://me:secret@127.0.0.1:1", 2, "MLFLOW_TRACKING_PASSWORD"),
    ("search --mlflow nonsense://x", 2, "'nonsense://x' is not supported by MLflow; choose one of http, https"),
    ("search --notify nonsense", 2, "--notify: Apprise does not support the URL (not shown, it may contain a token)"),
    ("resume nothing --notify nonsense", 4, NOTHING),
    ("extend nothing --notify nonsense", 4, NOTHING),
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder of the command."""
    for name in ("photos", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "text").touch()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Tests that run at the same time may start a Ray that records itself in the usual folder, for `--address auto`.
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """Import what the commands need beforehand, because the two seconds of a row do not include it."""
    importlib.import_module("huetune.search.session.runner")


def assert_refused(run_command: Callable, folder: Path, words: str, code: int, message: str) -> None:
    before = sorted(folder.rglob("*"))
    begun = time.process_time()
    ended, out, err = run_command(words)
    assert (ended, out) == (code, "")
    assert err.startswith("huetune: ") and err.count("\n") == 1 and err.strip().isprintable()
    assert message in err
    assert sorted(folder.rglob("*")) == before
    assert time.process_time() - begun < 2


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("words", "code", "message"), BAD_COMMANDS, ids=[words[:60] for words, _, _ in BAD_COMMANDS])
def test_command_with_bad_argument_fails_in_one_line(words, code, message, run_command, folder):
    assert_refused(
        run_command, folder, words.encode().decode("unicode_escape") if "\\" in words else words, code, message
    )


def options_of(command: click.Command, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each command with each of its options."""
    if isinstance(command, click.Group):
        for name, verb in command.commands.items():
            yield from options_of(verb, f"{path} {name}".strip())
    else:
        for parameter in command.params:
            yield path, parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name


def test_bad_arguments_cover_every_command_and_option():
    typed = [set(f"{words} ".replace("=", " ").split(" ")) | {words} for words, _, _ in BAD_COMMANDS]
    missing = [
        f"{verb} {option}"
        for verb, option in options_of(cli)
        if option.startswith("-") and not any(set(verb.split()) <= words and option in words for words in typed)
    ]
    assert missing == []


# A space file, and a part of the message.
BAD_SPACES: list[tuple[str, str]] = [
    ("# a space\n[mse_weight]\nlow = 1\nhihg = 2", "line 4: mse_weight: unknown key 'hihg': did you mean 'high'?"),
    ("[skip]\nchoices = [true, false]\n\n[mse_weight]\nlow = 8\nhigh = 1", "line 5: mse_weight: low must be below"),
    ("mse_weight.low = 1.0\nmse_weight.high = 'x'", "line 1: mse_weight: low, high and step must be numbers"),
    ("[skip]\nchoices = [true, false]\n[droput]\nvalue = 0.1", "line 3: unknown setting 'droput'"),
    (
        "[skip]\nchoices = [true, false]\n[dropout]\nlow = 0\nhigh = 0.5\nwhere = {skpi = true}",
        "line 6: dropout: where names 'skpi', which is not searched: did you mean 'skip'?",
    ),
    (
        "[skip]\nchoices = [true, false]\n[dropout]\nlow = 0\nhigh = 0.5\nwhere = {skip = 'yes'}",
        "line 6: dropout: where requires skip to be 'yes', which is not among its values",
    ),
    ("[dropout]\nlow = 0\nhigh = 0.5\nwhere = true", "line 4: dropout: where must be a table of settings and values"),
    ("[dropout]\nlow = 0\nhigh = 1.5", "line 3: dropout must be 0 up to but not including 1, received 1.5"),
    ("[mse_wieght]\nlow = 1\nhigh = 2", "unknown setting 'mse_wieght': did you mean 'mse_weight'?"),
    ("[mse_weight]\nlow = 1\nhigh = x\n", "not TOML: Invalid value (at line 3, column 8)"),
    ("[mse_weight]\nlow = 8.0\nhigh = 1.0", "mse_weight: low must be below high, received 8.0 and 1.0"),
    ("[mse_weight]\nlow = 0.0\nhigh = 1.0", "mse_weight must be above 0, received 0.0"),
    ("[mse_weight]\nlow = nan\nhigh = 1.0", "mse_weight: low must be below high"),
    ("[mse_weight]\nlow = true\nhigh = 2", "mse_weight: low, high and step must be numbers"),
    ("[mse_weight]\nlow = 1\nhigh = 2\nlog = true\nstep = 0.5", "mse_weight: "),
    ("[mse_weight]\nlow = 1", "mse_weight: give low and high (with log or step), choices, or value; received low"),
    ("[merge_units]\nlow = 1.5\nhigh = 8", "merge_units: must have whole numbers, received"),
    ("[activation]\nchoices = []", "activation: choices must be a list of at least one value, received []"),
    ("[activation]\nchoices = ['relu', 'relu']", "activation: choices must differ"),
    ("[activation]\nchoices = ['relu', 'swish2']", "activation must be one of relu, silu"),
    ("[skip]\nvalue = 'yes'", "skip must be true or false, received 'yes'"),
    ("skip = true", "skip: must be a table such as [skip]"),
    ("[skip]\nvalue = true", "nothing to search"),
    ("", "nothing to search"),
    ("[mse_weight]\nlow = inf\nhigh = inf", "mse_weight: low must be below high"),
    ("[mse_weight]\nlow = 1\nhigh = inf", "mse_weight: low must be below high"),
    ("[mse_weight]\nlow = 2\nhigh = 2", "mse_weight: low must be below high"),
    ("[mse_weight]\nvalue = nan", "mse_weight must be above 0, received nan"),
    ("[mse_weight]\nchoices = [1, nan]", "mse_weight must be above 0, received nan"),
    ("[mse_weight]\nchoices = [1, true]", "mse_weight must be a number, received True"),
    ("[mse_weight]\nchoices = [[1]]", "choices must be strings, numbers, true or false"),
    ("[mse_weight]\nchoices = '12'", "choices must be a list"),
    ("[mse_weight]\nlow = 1\nhigh = 2\nstep = 0", "mse_weight: "),
    ("[mse_weight]\nlow = 1\nhigh = 2\nstep = -1", "mse_weight: "),
    ("[mse_weight]\nlow = 1\nhigh = 2\nstep = 1e-300", "step 1e-300 makes more than 20,000 values"),
    ("[mse_weight]\nlow = 1\nhigh = 2\nlog = 1", "log must be true or false, received 1"),
    (f"[mse_weight]\nlow = 1\nhigh = {10**400}", "line 3: mse_weight: a number of 401 digits is too large"),
    (f"[merge_units]\nvalue = {10**400}", "a number of 401 digits is too large"),
    (f"[merge_units]\nchoices = [1, {10**400}]", "a number of 401 digits is too large"),
    ("[merge_units]\nlow = -5\nhigh = 8", "merge_units must be 1 to 4096, received -5"),
    ("[batching]\nvalue = 'boxes'", "batching: is chosen with --batching"),
    ("[positions]\nvalue = 3", "positions must be 2 or 7"),
    ("[skip]\nchoices = [true, 1]", "skip must be true or false, received 1"),
    ("[skip]\nchoices = [true, false]\nwhere = {skip = true}", "where must name a setting that is always searched"),
    ("[skip]\n[skip]", "not TOML: "),
    ("a = 1 b", "not TOML: Expected newline or end of document after a statement (at line 1, column 7)"),
    ("a = " + "[" * 5000, "not TOML: nested too deep"),
    ("\x00", "not TOML: "),
    ("x" * 1_000_001, "is larger than 1,000,000 bytes, so it is not a space"),
    (
        "[mse_weight]\nlow = 1\nhigh = 2\nstep = 5",
        "line 4: mse_weight: step 5 is longer than the range, so only 1 would be",
    ),
    ("[merge_units]\nlow = 64\nhigh = 100\nstep = 64", "give a step of 36 or less, or value = 64"),
    ("[mse_weight]\nlow = 2\nhigh = 2.0", "received 2 and 2.0; for a fixed value, give value instead"),
    ("[mse_weight]\nlow = 1\nhigh = 2\nlog = true\nstep = 0.5", "line 5: mse_weight: log and step cannot be combined"),
    ("[dropout]\nlow = 0\nhigh = 0.5\nlog = true", "line 2: dropout: log needs low above 0, received 0"),
    ("[mse_weight]\nlow = 1\nhigh = 2\nstep = -1", "line 4: mse_weight: step must be above 0, received -1"),
    ("[mse_weight]\nchoices = [4, 4.0]", "mse_weight: choices must differ, received [4, 4.0]"),
    (
        "[skip]\nchoices = [true, false]\n[dropout]\nlow = 0\nhigh = 0.5\nwhere = {skip = []}",
        "line 6: dropout: where lists no value of skip, so dropout would never be searched",
    ),
    (
        "[mse_weight]\nlow = 1\nhigh = 8\n[dropout]\nlow = 0\nhigh = 0.5\nwhere = {mse_weight = 2.5}",
        "where needs exact values of mse_weight, which is a range without a step; give mse_weight choices or a step",
    ),
    ('"\\u001b[31m" = 1', r"unknown setting '\x1b[31m'"),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("text", "message"), BAD_SPACES, ids=[text[:60] for text, _ in BAD_SPACES])
def test_search_with_bad_space_names_line_and_key(text, message, run_command, folder):
    (folder / "space.toml").write_text(text, encoding="utf-8")
    assert_refused(run_command, folder, "search --space space.toml", 2, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "is not UTF-8, perhaps UTF-16; save it as UTF-8"),
        ("[skip]".encode("utf-16-be"), "is not UTF-8, perhaps UTF-16; save it as UTF-8"),
        (b"[skip]\nchoices = [true]\n# gr\xfcn", "line 3: is not UTF-8; save it as UTF-8"),
    ],
)
def test_search_with_space_in_other_encoding_is_refused(content, message, run_command, folder):
    (folder / "space.toml").write_bytes(content)
    assert_refused(run_command, folder, "search --space space.toml", 2, message)


def test_search_with_too_large_grid_is_refused(run_command, folder):
    ranges = {"mse_weight": (1, 2), "dropout": (0, 0.5), "learning_rate": (0.1, 0.2), "decay": (0, 1), "clip": (0, 1)}
    ranges |= {"merge_units": (1, 4096), "batch_size": (1, 10**12)}
    text = "".join(f"[{name}]\nlow = {low}\nhigh = {high}\n" for name, (low, high) in ranges.items())
    (folder / "space.toml").write_text(text, encoding="utf-8")
    assert_refused(run_command, folder, "search --searcher grid --space space.toml", 2, "this space has 78,125 points")


@pytest.mark.parametrize(
    ("words", "code"), [("serch", 2), ("search --name ../x", 2), ("search --searcher cmaes", 2), ("resume nothing", 4)]
)
def test_command_with_bad_argument_fails_within_two_seconds(words, code, executable, folder):
    """In processor time of a new process, so that the load of the machine does not matter."""
    child = subprocess.Popen([executable, *words.split()], stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) == code
    assert used.ru_utime + used.ru_stime < 2
