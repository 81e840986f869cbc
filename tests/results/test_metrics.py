"""Tests that a metric needs one entry in the registry, and is then ranked, charted, logged and documented."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from huetune.model.cli import epoch_line
from huetune.model.metrics import METRICS, Metric, baseline_scores, better, scores
from huetune.model.presets import PRESETS
from huetune.results.analysis.winner import find_winner
from huetune.results.evaluation import evaluate
from huetune.results.experiment_log.document import write as write_log
from huetune.results.experiment_log.messages import Language
from huetune.results.integrations import mlflow, tensorboard
from huetune.results.report import charts
from huetune.results.report import page as report
from huetune.results.report.summary import Findings
from huetune.results.tables.trial_table import run_rows, with_baseline
from huetune.search.cli.main import cli
from huetune.search.spec.space_parser import parse_space
from huetune.search.tuning.stopping_rule import Budget
from huetune.search.tuning.trial_queue import Job
from huetune.search.tuning.trial_result import SCORE
from tests.results.cli.test_integration_commands import read_back
from tests.results.experiment_log.test_document import hand_kept_log
from tests.results.synthetic_run import make_run
from tests.search.builders import make_searcher

NAME = "blue_error"
EPOCHS = 2


@pytest.fixture
def registered():
    """Registers a new metric: the mean distance in the first channel of chroma."""
    METRICS.register(
        Metric(
            NAME,
            "minimize",
            (0.0, math.inf),
            "mean distance along the blue axis, less is better",
            lambda maps: float(np.abs(maps.drawn[..., 0] - maps.truth[:, None, ..., 0]).mean()),
            {"ko": "파란색 오차 {value}"},
        )
    )
    yield METRICS[NAME]
    del METRICS[NAME]


@pytest.fixture
def run(registered, tmp_path, rng):
    """A run of three trials that are scored on real chroma maps and ranked by the new metric."""
    truth = rng.uniform(-0.5, 0.5, (3, 14, 14, 2)).astype(np.float32)
    mean_chroma = truth.mean(axis=(0, 1, 2))
    made = make_run(tmp_path / "made", 0, objectives=(NAME,))
    space = parse_space({"mse_weight": {"low": 1.0, "high": 8.0}}, PRESETS["model-2"])
    searcher = make_searcher(made.search_study, space, Budget(3), epochs=EPOCHS, sampler=None, objective=NAME)
    points = [{"mse_weight": weight} for weight in (1.0, 2.0, 4.0)]
    searcher.enqueue(Job(space.config(point), point) for point in points)
    for number in range(3):
        name = f"tune-{number}"
        searcher.suggest(name)
        for epoch in range(1, EPOCHS + 1):
            # The first trial is nearest to the truth.
            drawn = truth[:, None] + np.float32(0.01 * (number + 1) / epoch)
            figures = {"train_loss": 0.1, **scores(drawn, truth, mean_chroma)}
            result = {
                "epoch": epoch,
                "boxes": 588,
                "seconds": 1.0,
                "checkpoint": "none",
                **figures,
                SCORE: figures[NAME],
            }
            tell = searcher.on_trial_result if epoch < EPOCHS else searcher.on_trial_complete
            tell(name, {**result, "host": "here", "pid": 1})
    made.search_study.set_user_attr("parameters", ["mse_weight"])
    made.search_study.set_user_attr("zero_line", baseline_scores(truth, mean_chroma))
    return made


def test_registered_metric_is_recorded_and_ranks(run):
    table = run_rows(run)
    assert [row["trial"] for row in table] == [0, 1, 2] and {row["state"] for row in table} == {"complete"}
    assert [row[NAME] for row in table] == [row["score"] for row in table] == pytest.approx([0.005, 0.01, 0.015])
    assert {row["epochs"] for row in table} == {EPOCHS} and better(NAME, table[0][NAME], table[1][NAME])
    (baseline,) = [row for row in with_baseline(table, run.study()) if row["trial"] == "baseline"]
    assert baseline[NAME] > 0.1
    won = find_winner(run)
    assert won and won.objective == NAME and (NAME, "0.005") in won.lines()


def test_registered_metric_is_charted(run):
    drawn = charts.score_history(run_rows(run), 0.2, NAME, ["mse_weight"]).to_dict()
    (title,) = {layer["encoding"]["y"]["title"] for layer in drawn["layer"] if "y" in layer.get("encoding", {})}
    assert title == NAME
    assert "trial 0, complete, blue_error 0.005, mse_weight 1" in json.dumps(drawn)


def test_registered_metric_is_in_tensorboard(run, tmp_path):
    tensorboard.write(run.study(), tmp_path)
    scalars, _ = read_back(tmp_path / "0000")
    assert scalars[NAME] == pytest.approx({1: 0.01, 2: 0.005})
    experiment = read_back(tmp_path)[1]["experiment"]
    assert NAME in [metric.name.tag for metric in experiment.metric_infos]


def test_registered_metric_is_in_mlflow(run, tmp_path):
    log = mlflow.MLflowWriter(f"sqlite:///{tmp_path}/mlflow.db", run)
    assert log.write(run.study()) == 3
    logged = log._client.search_runs([log._experiment])
    assert sorted(one.data.metrics[NAME] for one in logged if NAME in one.data.metrics) == pytest.approx(
        [0.005, 0.01, 0.015]
    )


def test_registered_metric_is_in_the_report(run):
    page = report.render_page(Findings.of(run), None, "no photos")
    assert f"{NAME}: mean distance along the blue axis, less is better." in page
    assert f"Lower {NAME} is better." in page


def test_registered_metric_is_in_both_logs(registered, tmp_path, monkeypatch):
    """Of an epoch, and of test photos."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (entry, *_) = hand_kept_log()
    line = {**entry.best, NAME: 0.125}
    entry = replace(entry, epochs=[line], best=line)
    text = write_log([(entry, None)], tmp_path).read_text(encoding="utf-8")
    assert "validation: chroma_mse 0.0200, skill 0.2000, blue_error 0.1250" in text
    assert Language("en").metrics(line) == "chroma_mse **0.0200**, skill 0.200, blue_error 0.1250"
    assert Language("ko").metrics(line).endswith(", 파란색 오차 0.1250")
    train = dict.fromkeys(("train_mse", "train_norm", "train_kl", "train_l2", "chroma_ratio"), 0.0)
    assert epoch_line({**line, **train}, 1).endswith(", blue_error 0.1250")


def test_registered_metric_is_in_evaluations_and_help(registered):
    assert list(evaluate.metrics())[-4:] == [NAME, "delta_e", "psnr", "ssim"]
    assert NAME in CliRunner().invoke(cli, ["search", "--help"]).output


def test_metric_registered_twice_is_refused(registered):
    with pytest.raises(ValueError, match="'blue_error' is registered already"):
        METRICS.register(registered)
