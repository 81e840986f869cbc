"""Tests `watch` on searches that are running, stopped, ended or training replicates, in folders and in a bucket."""

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
from huetune.results.live.watch import WatchedRun, show_once, trial_events, watch
from huetune.results.records.epoch_metrics import EpochMetrics
from huetune.results.records.outcomes import Failure, FailureKind, Stop, StopReason
from huetune.results.records.run import MANIFEST, STUDY, Run, find_run, open_storage, sqlite_url
from huetune.results.records.study_record import End, RequestedBudget, Session
from huetune.results.records.trial_record import STATES, TrialRecord
from huetune.search.tuning.study_writer import StudyWriter
from tests.interpreter import RUN_COMMAND, parse_imports
from tests.terminal import Terminal

EPOCHS = 3
ASKED = {"trials": 4, "epochs": EPOCHS, "further": []}


class Search:
    """Writes a run as a search does, without training."""

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
    """A search of which two trials have ended and two are running."""
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


def _shown_once(search):
    console = _console()
    finished = show_once(lambda: find_run(str(search.run.folder)), console)
    return finished, _said(console)


def test_show_once_of_a_running_search_shows_its_state(search):
    search.searches()
    with lock_run(search.run.folder):
        finished, said = _shown_once(search)
    assert not finished
    assert "2 of 4 trials ended: 1 complete, 1 pruned; 2 running in 2 slots" in said
    assert "best trial so far (mean-color baseline: 0.08) trial 0 3/3" in said
    # Two trials run in two slots: one takes 60 s more, like the complete trial from there on, the other 60 s, the mean
    # of the ended ones.
    assert "0:01:0" in said and "about 60 s left" in said
    assert "running trial 2 1/3" in said and "trial 3 0/3 ··· - mse_weight 8" in said
    assert f"locked by process {os.getpid()} (user" in said


def test_trial_events_of_a_retried_trial_are_died_and_resumed(search):
    known = {trial.number: (STATES[trial.state], trial) for trial in search.study.trials}
    trial = search.begin(2.0)
    assert [event for _, event in trial_events(known, search.study.trials, True)] == ["started"]
    search.record.update_trial(trial, deaths=(Failure(FailureKind.WORKER_DIED, "killed"),))
    search.record.mark_running(search.record.mark_interrupted(trial))
    assert [event for _, event in trial_events(known, search.study.trials, True)] == ["died", "resumed"]


def test_watch_of_a_stopped_search_shows_how_to_continue(search):
    search.searches()
    finished, said = _shown_once(search)
    assert not finished and "2 of 4 trials ended: 1 complete, 1 pruned; 2 interrupted" in said
    assert "slots" not in said and " left" not in said.replace("was left", "")
    place = os.path.relpath(search.run.folder)
    assert f"the search is not running; continue it with: huetune resume {place}" in said.replace("\n", " ")
    console = _console()
    assert watch(lambda: search.run, console) is False
    assert _said(console) == f"the search is not running; continue it with: huetune resume {place}"


def test_watch_of_an_ended_search_shows_the_result(search):
    for trial in search.study.trials[2:]:
        search.record.end_trial(optuna.Trial(search.study, trial._trial_id), TrialState.FAIL, None)
    search.end()
    manifest = search.run.manifest
    (search.run.folder / MANIFEST).write_text(
        json.dumps({**manifest, "search": {**manifest["search"], "confirm": [1, 2]}}), encoding="utf-8"
    )
    finished, said = _shown_once(search)
    # The finalists have not been confirmed yet.
    assert not finished and "the search is not running; continue it with" in said
    (search.run.folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    finished, said = _shown_once(search)
    assert finished and "4 of 4 trials ended: 1 complete, 1 pruned, 2 failed" in said
    assert "the search ended: trial budget reached (4)" in said
    console = _console()
    assert watch(lambda: search.run, console) and _said(console).startswith(
        "the search ended: trial budget reached (4) trial 0 has the best chroma_mse of 1 complete trial, 0.04, "
        "but was trained once; better than the mean-color baseline (0.08) in one training"
    )
    # After an extension the search has not ended.
    search.record.update_study(requested=RequestedBudget(6, EPOCHS))
    assert "the search is not running" in _shown_once(search)[1]


def test_show_once_of_replicates_shows_their_state(search):
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
        said = _shown_once(search)[1]
    assert "1 of 2 replicates ended: 1 complete; 1 running in 1 slot" in said and "about 90 s left" in said.replace(
        "2 min", "90 s"
    )
    assert "running trial 0 again, seed 1000001 0/3" in said
    assert "the search is not running" in _shown_once(search)[1]


def test_refresh_after_the_study_was_replaced_reads_the_new_one(search):
    """`resume` replaces a damaged study, and the local copy of a bucket is replaced by each newer one."""
    watched = WatchedRun(lambda: search.run)
    path = search.run.folder / STUDY
    atomic_write(path, path.read_bytes())
    storage = open_storage(sqlite_url(path))
    optuna.load_study(study_name="roses", storage=storage).set_user_attr("asked", {**ASKED, "trials": 9})
    watched.refresh()
    assert watched.phase().trials == 9


def test_show_once_without_a_run_is_refused(search):
    with pytest.raises(StorageError, match="no run"):
        show_once(lambda: find_run("other", search.run.folder.parent), _console())


def test_watch_into_a_pipe_prints_lines_without_ray(search):
    search.searches()
    words = ["watch", str(search.run.folder), "--interval", "0.1"]
    with lock_run(search.run.folder):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN_COMMAND, *words],
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
    events = [" ".join(line.partition(" s  ")[2].split()) for line in lines]
    assert events[1:-2] == [
        "trial 2 resumed mse_weight 4 (epoch 1; best so far 0.04, trial 0)",
        "trial 3 resumed mse_weight 8 (epoch 0; best so far 0.04, trial 0)",
        "trial 2 died mse_weight 4 (epoch 2; died: of hunger)",
        "trial 2 resumed mse_weight 4 (epoch 2; best so far 0.03, trial 2)",
        "trial 2 complete mse_weight 4 (epoch 2; best so far 0.03, trial 2)",
        "trial 4 started mse_weight 3",
        "trial 4 pruned mse_weight 3 (epoch 1; best so far 0.03, trial 2)",
        "trial 3 interrupted mse_weight 8 (epoch 0; best so far 0.03, trial 2)",
    ]
    assert lines[0].startswith("locked by process ") and lines[-2].startswith(
        "the search is not running; continue it with: "
    )
    modules, _ = parse_imports(lines[-1])
    assert not {"ray", "tensorflow", "keras"} & modules and process.returncode == 1


def test_watch_in_a_terminal_resizes_and_ends_by_ctrl_c(search, executable):
    search.searches()
    with lock_run(search.run.folder):
        words = ("watch", str(search.run.folder), "--interval", "0.1")
        terminal = Terminal(100, 30, executable, *words)
        terminal.wait_for("2 running in 2 slots", "trial 2 1/3", "recently ended trial 1 1/3", "locked by")
        running = optuna.Trial(search.study, search.study.trials[2]._trial_id)
        search.epoch(running, 2, 0.03)
        terminal.wait_for("trial 2 2/3", "best trial so far (mean-color baseline: 0.08) trial 2")
        for columns, lines in (60, 15), (200, 50), (72, 18):
            terminal.resize(columns, lines)
            terminal.wait_for("2 of 4 trials ended", "trial 2 2/3", "mse_weight 4", "running trial", "locked by")
            # Nothing is there twice, as it would be if lines of the former size had been wrapped.
            assert terminal.text.count("best trial so far") == terminal.text.count("2 running in 2 slots") == 1
        terminal.type("\x03")
        assert terminal.end() == 130
    assert b"\x1b[?1049l" in terminal.raw and b"\x1b[?25h" in terminal.raw
    last = terminal.raw.rpartition(b"\x1b[?1049l")[2]
    assert b"2 of 4 trials ended" in last and b"interrupted" not in last and b"Traceback" not in terminal.raw


def test_watch_in_a_terminal_ends_with_the_search(search, executable):
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


def test_watch_with_forced_color_in_a_file_draws_no_board(search, executable, tmp_path):
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


def test_watch_in_a_dumb_terminal_prints_lines(search, executable):
    terminal = Terminal(90, 24, executable, "watch", str(search.run.folder), TERM="dumb")
    assert terminal.end() == 1
    assert terminal.raw.startswith(b"the search is not running; continue it with") and b"\x1b[" not in terminal.raw


def test_watch_of_a_bucket_from_another_machine_shows_it(store, executable, tmp_path):
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
