"""A search that another process runs is seen as it is: running, left, ended, trained again; here or in a bucket."""

import io
import json
import os
import re
import subprocess
import sys
import time

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from rich.console import Console

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.storage.atomic import atomic_write
from huetune.data_tools.storage.bucket_cache import local_path, push
from huetune.data_tools.storage.run_lock import lock_run
from huetune.results.live.watch import View, changes, picture, watch
from huetune.results.records.epoch_metrics import EpochMetrics
from huetune.results.records.outcomes import Failure, FailureKind, Stop, StopReason
from huetune.results.records.run import MANIFEST, STUDY, Run, find_run, open_storage, sqlite_url
from huetune.results.records.study_record import End, RequestedBudget, Session
from huetune.results.records.trial_record import STATES, TrialRecord
from huetune.search.tuning.study_writer import StudyWriter
from tests.terminal import Terminal

EPOCHS = 3
ASKED = {"trials": 4, "epochs": EPOCHS, "further": []}


class Search:
    """Writes a run as a search does, without the training."""

    def __init__(self, folder):
        folder.mkdir(parents=True)
        self.run = Run(folder.resolve())
        manifest = {"search": {"name": folder.name, "objectives": ["chroma_mse"]}, "study": None}
        (folder / MANIFEST).write_text(json.dumps({**manifest, "photos": {"test": 1}}), encoding="utf-8")
        self.study = self.new(folder.name)
        for name, value in {
            "objective": "chroma_mse",
            "parameters": ["mse_weight"],
            "epochs": EPOCHS,
            "asked": ASKED,
            "zero_line": {"chroma_mse": 0.08},
        }.items():
            self.study.set_user_attr(name, value)
        self.record = StudyWriter(self.study, self.run)

    def new(self, name):
        storage = open_storage(sqlite_url(self.run.folder / STUDY))
        return optuna.create_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler())

    def searches(self, slots=2):
        self.record.update_study(session=Session(slots, time.time(), 60.0))

    def begin(self, weight, record=None, **attributes):
        given = {"seed": 1, "config": {"mse_weight": weight}, "target": EPOCHS, **attributes}
        point = {} if "name" in attributes else {"mse_weight": weight}
        trial = TrialRecord(0, "running", point, **given)
        return (record or self.record).start_trial(trial, {"mse_weight": FloatDistribution(1.0, 8.0)})

    def epoch(self, trial, epoch, score):
        figures = {"epoch": epoch, "seconds": 30.0, "chroma_mse": score, "checkpoint": "none"}
        self.record.write_epoch(trial, EpochMetrics.of(figures), score)

    def train(self, weight, scores, state=TrialState.COMPLETE, record=None, **attributes):
        trial = self.begin(weight, record, **attributes)
        for epoch, score in enumerate(scores, 1):
            self.epoch(trial, epoch, score)
        (record or self.record).end_trial(trial, state, [min(scores)] if state == TrialState.COMPLETE else None)

    def end(self):
        stop = Stop(StopReason.TRIAL_BUDGET, 4)
        self.record.update_study(end=End(stop, 4, EPOCHS))


@pytest.fixture
def search(tmp_path):
    """Two trials have ended, two run."""
    search = Search(tmp_path / "roses")
    search.train(2.5, [0.07, 0.05, 0.04])
    search.train(1.0, [0.09], TrialState.PRUNED)
    search.epoch(search.begin(4.0), 1, 0.06)
    search.begin(8.0)
    return search


def _console(width=100):
    return Console(file=io.StringIO(), width=width)


def _said(console):
    return " ".join(console.file.getvalue().split())


def _picture(search):
    console = _console()
    finished = picture(lambda: find_run(str(search.run.folder)), console)
    return finished, _said(console)


def test_what_runs_is_shown(search):
    search.searches()
    with lock_run(search.run.folder):
        finished, said = _picture(search)
    assert not finished
    assert "2 of 4 trials ended: 1 complete, 1 pruned; 2 running in 2 slots" in said
    assert "best so far (one color for everything: 0.08) trial 0 3/3" in said
    # One waits for nothing, two run: the one takes 60 s more, as the complete trial did from there, the other 60 s, as
    # the ended ones did in the mean.
    assert "0:01:0" in said and "about 60 s left" in said
    assert "running trial 2 1/3" in said and "trial 3 0/3 ··· - mse_weight 8" in said
    assert f"locked by process {os.getpid()} (user" in said


def test_a_trial_that_another_worker_took_over_between_two_looks_runs(search):
    known = {trial.number: (STATES[trial.state], trial) for trial in search.study.trials}
    trial = search.begin(2.0)
    assert [event for _, event in changes(known, search.study.trials, True)] == ["started"]
    search.record.update_trial(trial, deaths=(Failure(FailureKind.WORKER_DIED, "killed"),))
    search.record.mark_running(search.record.mark_interrupted(trial))
    assert [event for _, event in changes(known, search.study.trials, True)] == ["died", "goes on"]


def test_what_was_left_waits_and_the_remedy_is_said(search):
    search.searches()
    finished, said = _picture(search)
    assert not finished and "2 of 4 trials ended: 1 complete, 1 pruned; 2 waiting" in said
    assert "slots" not in said and " left" not in said.replace("was left", "")
    place = os.path.relpath(search.run.folder)
    assert f"nobody searches; go on with: huetune resume {place}" in said.replace("\n", " ")
    console = _console()
    assert watch(lambda: search.run, console) is False
    assert _said(console) == f"nobody searches; go on with: huetune resume {place}"


def test_what_has_ended_is_told_and_watched_no_longer(search):
    for trial in search.study.trials[2:]:
        search.record.end_trial(optuna.Trial(search.study, trial._trial_id), TrialState.FAIL, None)
    search.end()
    manifest = search.run.manifest
    (search.run.folder / MANIFEST).write_text(
        json.dumps({**manifest, "search": {**manifest["search"], "confirm": [1, 2]}}), encoding="utf-8"
    )
    finished, said = _picture(search)
    assert not finished and "nobody searches; go on with" in said  # the best is still to be confirmed
    (search.run.folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    finished, said = _picture(search)
    assert finished and "4 of 4 trials ended: 1 complete, 1 pruned, 2 failed" in said
    assert "the search ended: trial budget reached (4)" in said
    console = _console()
    assert watch(lambda: search.run, console) and _said(console).startswith(
        "the search ended: trial budget reached (4) trial 0 has the best chroma_mse of 1 complete trial, 0.04, "
        "but was trained once; better than the mean-color baseline (0.08) in one training"
    )
    # An extension is not the end of it.
    search.record.update_study(requested=RequestedBudget(6, EPOCHS))
    assert "nobody searches" in _picture(search)[1]


def test_replicates_are_shown_likewise(search):
    for trial in search.study.trials[2:]:
        search.record.end_trial(optuna.Trial(search.study, trial._trial_id), TrialState.FAIL, None)
    search.end()
    again = search.new(search.run.replicates_name)
    again.set_user_attr("asked", {**ASKED, "trials": 2})
    again.set_user_attr("session", {"slots": 1, "since": time.time(), "spent": 0.0})
    record = StudyWriter(again, search.run)
    search.train(2.5, [0.07, 0.05, 0.041], record=record, name="trial 0", seed=1_000_000)
    search.begin(2.5, record, name="trial 0", seed=1_000_001)
    with lock_run(search.run.folder):
        said = _picture(search)[1]
    assert "1 of 2 replicates ended: 1 complete; 1 running in 1 slot" in said and "about 90 s left" in said.replace(
        "2 min", "90 s"
    )
    assert "running trial 0 again, seed 1000001 0/3" in said
    assert "nobody searches" in _picture(search)[1]


def test_a_study_that_gives_way_to_its_copy_is_the_one_that_is_looked_at(search):
    """As `resume` does with a damaged one, and the mirror of a bucket with each new copy."""
    view = View(lambda: search.run)
    path = search.run.folder / STUDY
    atomic_write(path, path.read_bytes())
    storage = open_storage(sqlite_url(path))
    optuna.load_study(study_name="roses", storage=storage).set_user_attr("asked", {**ASKED, "trials": 9})
    view.look()
    assert view.phase().trials == 9


def test_a_run_that_is_taken_away_ends_the_watching(search):
    with pytest.raises(StorageError, match="no run"):
        picture(lambda: find_run("other", search.run.folder.parent), _console())


MODULES = """
import sys
from huetune.search.cli.main import main
try:
    main()
finally:
    print(sorted({"ray", "tensorflow", "keras"} & set(sys.modules)))
"""


def test_a_pipe_gets_a_line_an_event_and_neither_ray_nor_tensorflow_is_needed(search):
    search.searches()
    words = ["watch", str(search.run.folder), "--interval", "0.1"]
    with lock_run(search.run.folder):
        process = subprocess.Popen(
            [sys.executable, "-c", MODULES, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3)]
        running = optuna.Trial(search.study, search.study.trials[2]._trial_id)
        search.epoch(running, 2, 0.03)
        search.record.update_trial(running, deaths=(Failure(FailureKind.WORKER_DIED, "of hunger"),))
        search.record.mark_interrupted(running)
        lines.append(process.stdout.readline())
        search.record.mark_running(search.study.trials[2])
        lines.append(process.stdout.readline())
        search.record.end_trial(running, TrialState.COMPLETE, [0.03])
        lines.append(process.stdout.readline())
        search.train(3.0, [0.09], TrialState.PRUNED)
        lines += [process.stdout.readline(), process.stdout.readline()]
    lines += process.communicate(timeout=60)[0].splitlines()
    told = [" ".join(line.partition(" s  ")[2].split()) for line in lines]
    assert told[1:-2] == [
        "trial 2 goes on mse_weight 4 (epoch 1; best 0.04, trial 0)",
        "trial 3 goes on mse_weight 8 (epoch 0; best 0.04, trial 0)",
        "trial 2 died mse_weight 4 (epoch 2; died: of hunger)",
        "trial 2 goes on mse_weight 4 (epoch 2; best 0.03, trial 2)",
        "trial 2 complete mse_weight 4 (epoch 2; best 0.03, trial 2)",
        "trial 4 started mse_weight 3",
        "trial 4 pruned mse_weight 3 (epoch 1; best 0.03, trial 2)",
        "trial 3 waiting mse_weight 8 (epoch 0; best 0.03, trial 2)",
    ]
    assert lines[0].startswith("locked by process ") and lines[-2].startswith("nobody searches; go on with: ")
    assert lines[-1] == "[]" and process.returncode == 1


def test_a_terminal_of_any_size_whose_owner_leaves(search, executable):
    search.searches()
    with lock_run(search.run.folder):
        words = ("watch", str(search.run.folder), "--interval", "0.1")
        terminal = Terminal(100, 30, executable, *words)
        terminal.wait_for("2 running in 2 slots", "trial 2 1/3", "ended last trial 1 1/3", "locked by")
        running = optuna.Trial(search.study, search.study.trials[2]._trial_id)
        search.epoch(running, 2, 0.03)
        terminal.wait_for("trial 2 2/3", "best so far (one color for everything: 0.08) trial 2")
        for columns, lines in (60, 15), (200, 50), (72, 18):
            terminal.resize(columns, lines)
            terminal.wait_for("2 of 4 trials ended", "trial 2 2/3", "mse_weight 4", "running trial", "locked by")
            # Nothing is there twice, as it would be if the old picture had been folded.
            assert terminal.text.count("best so far") == terminal.text.count("2 running in 2 slots") == 1
        terminal.type("\x03")
        assert terminal.end() == 130
    assert b"\x1b[?1049l" in terminal.raw and b"\x1b[?25h" in terminal.raw
    last = terminal.raw.rpartition(b"\x1b[?1049l")[2]
    assert b"2 of 4 trials ended" in last and b"interrupted" not in last and b"Traceback" not in terminal.raw


def test_a_terminal_whose_search_comes_to_its_end(search, executable):
    search.searches()
    with lock_run(search.run.folder):
        terminal = Terminal(90, 24, executable, "watch", str(search.run.folder), "--interval", "0.1", NO_COLOR="1")
        terminal.wait_for("2 running in 2 slots")
        for trial in search.study.trials[2:]:
            search.record.end_trial(optuna.Trial(search.study, trial._trial_id), TrialState.COMPLETE, [0.06])
        search.end()
        terminal.wait_for("4 of 4 trials ended")
    assert terminal.end() == 0 and b"\x1b[?1049l" in terminal.raw
    assert b"the search ended: trial budget reached (4)" in terminal.raw.rpartition(b"\x1b[?1049l")[2]
    assert b"\x1b[3" not in terminal.raw.replace(b"\x1b[3m", b"")  # no color; italics are none


def test_forced_color_in_a_file_draws_no_board(search, executable, tmp_path):
    """FORCE_COLOR asks for colors, not for the screen codes of the live board."""
    search.searches()
    words = [executable, "watch", str(search.run.folder), "--interval", "0.1"]
    forced = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    with lock_run(search.run.folder), (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL, env=forced)
        while b"locked by" not in (tmp_path / "out").read_bytes():
            time.sleep(0.05)
        for trial in search.study.trials[2:]:
            search.record.end_trial(optuna.Trial(search.study, trial._trial_id), TrialState.COMPLETE, [0.06])
        search.end()
    assert process.wait(60) == 0
    seen = (tmp_path / "out").read_bytes()
    assert b"the search ended: trial budget reached (4)" in seen
    assert not re.search(rb"\x1b(?!\[[0-9;]*m)", seen), seen


def test_a_dumb_terminal_gets_lines(search, executable):
    terminal = Terminal(90, 24, executable, "watch", str(search.run.folder), TERM="dumb")
    assert terminal.end() == 1
    assert terminal.raw.startswith(b"nobody searches; go on with") and b"\x1b[" not in terminal.raw


def test_from_another_machine_a_run_in_a_bucket(store, executable, tmp_path):
    place = store.uri("hue/watched/roses")
    search = Search(local_path(place))
    push(search.run.folder / MANIFEST)
    with lock_run(search.run.folder):
        search.searches(slots=8)
        search.train(2.5, [0.07, 0.05, 0.04])
        search.begin(4.0)
        words = [executable, "watch", place, "--once"]
        elsewhere = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "elsewhere")}
        done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", env=elsewhere, timeout=100)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert "1 of 4 trials ended: 1 complete; 1 running in 8 slots" in said
    assert f"locked by process {os.getpid()} (user" in said
