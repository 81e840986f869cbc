"""Tests that the board fits terminals of any size and always shows what matters most."""

import io

import pytest
from rich.console import Console

from huetune.results.live.board import BLOCKS, Board, TrainingProgress, draw, format_estimate

SETTINGS = "mse_weight 2.5, activation silu, skip yes, merge_units 96, positions 7, optimizer muon"


def training(number, state="running", scores=(0.09, 0.07, 0.08), problem="", settings=SETTINGS, target=8):
    by_epoch = dict(enumerate(scores, 1))
    seconds = dict.fromkeys(by_epoch, 2.0)
    return TrainingProgress(number, f"trial {number}", settings, state, target, by_epoch, seconds, problem)


def board(count=3, **changes):
    return Board(
        **{
            "title": "roses",
            "objective": "chroma_mse",
            "requested": 30,
            "states": {"complete": 4, "pruned": 2, "failed": 1, "running": count, "interrupted": 0},
            "running": tuple(training(8 + number) for number in range(count)),
            "ended": (
                training(7, "failed", (0.1,), "diverged in epoch 1: train_loss is nan"),
                training(6, "pruned", (0.1, 0.095)),
                training(5, "complete", [0.1 - 0.005 * epoch for epoch in range(8)]),
            ),
            "best": training(5, "complete", [0.1 - 0.005 * epoch for epoch in range(8)]),
            "baseline": 0.0823,
            "slots": 4,
            "elapsed_seconds": 751.0,
            "seconds_left": 1860.0,
            "status_lines": ("locked by process 4711 (user ada) on host rosebud since 2026-11-24 16:00:00",),
            **changes,
        }
    )


def text(lines):
    return "\n".join(line.plain for line in lines)


def words(lines):
    return " ".join(text(lines).split())


@pytest.mark.parametrize("height", [15, 24, 40, None])
@pytest.mark.parametrize("width", [60, 80, 110, 200])
def test_draw_in_any_size_shows_counts_best_and_status(width, height):
    lines = draw(board(), width, height)
    assert max(line.cell_len for line in lines) <= width and len(lines) <= (height or 100)
    said = words(lines)
    for part in ("roses", "0:12:31", "about 31 min left", "7 of 30 trials ended", "4 complete, 2 pruned, 1 failed"):
        assert part in said
    for part in ("3 running in 4 slots", "mean-color baseline: 0.0823", "process 4711 (user ada) on host rosebud"):
        assert part in said
    # The best trial with its settings, and at least one running trial with a count of the others.
    assert "trial 5 8/8" in said and "0.065" in said and SETTINGS in said
    there = sum(f"trial {number} 3/8" in said for number in (8, 9, 10))
    assert there == 3 or (there >= 1 and f"{3 - there} more" in said)
    assert said.count(SETTINGS) >= there + 1


def test_draw_in_a_narrow_terminal_folds_lines():
    long = TrainingProgress(1, "model-1 again, seed 1000000", "", "running", 100, {1: 1e-5}, {1: 1.0})
    for width in (10, 40):
        lines = draw(board(title="x" * 100, running=(long,), status_lines=("y" * 90,)), width)
        assert max(line.cell_len for line in lines) == width
        assert "x" * 100 in text(lines).replace("\n", "") and "y" * 90 in text(lines).replace("\n", "")


def test_draw_in_a_high_terminal_shows_ended_trials():
    said = words(draw(board(), 120, 40))
    assert (
        "recently ended trial 7 1/8" in said and "failed" in said and "diverged in epoch 1: train_loss is nan" in said
    )
    assert "recently ended" not in words(draw(board(6), 60, 18))


def test_draw_with_many_running_trials_shows_the_best():
    many = [training(number, scores=(0.09, 0.05 + 0.001 * ((number * 7) % 40))) for number in range(10, 50)]
    lines = draw(board(40, running=tuple(many)), 110, 15)
    shown = [int(line.plain.split()[1]) for line in lines if line.plain.startswith("trial ")][1:]
    best = sorted(many, key=lambda one: one.scores[2])[: len(shown)]
    assert 3 <= len(shown) < 10 and shown == sorted(one.number for one in best)
    assert f"{40 - len(shown)} more" in text(lines)


@pytest.mark.parametrize(
    ("objective", "scores", "bars"),
    [
        ("chroma_mse", (0.08, 0.05, 0.01, 0.03), "█▅▁▃····"),
        ("skill", (0.1, 0.3, 0.8, 0.5), "▁▃█▅····"),
    ],
)
def test_curve_shows_scores_and_marks_the_best_epoch(objective, scores, bars):
    one = training(1, scores=scores)
    lines = draw(board(objective=objective, running=(one,), ended=(), best=None, baseline=None), 80)
    line = next(line for line in lines if line.plain.startswith("trial 1 "))
    assert bars in line.plain
    best = line.plain.index(bars) + 2
    assert [line.plain[span.start : span.end] for span in line.spans if "green" in str(span.style)] == [
        line.plain[best]
    ]
    direction = "lower" if objective == "chroma_mse" else "higher"
    assert f"{objective}, {direction} is better" in lines[0].plain


def test_curves_share_a_scale_that_ignores_outliers():
    good, bad = training(1, scores=(0.08, 0.01)), training(2, scores=(1e9, float("nan"), 0.05))
    lines = text(draw(board(running=(good, bad), ended=(), best=None, baseline=0.045), 80)).splitlines()
    curves = {line[:7]: line.split()[3] for line in lines if line.startswith("trial ")}
    assert curves == {"trial 1": "█▁······", "trial 2": "██▅·····"}


def test_curve_with_more_epochs_than_cells_keeps_the_best():
    scores = [0.09] * 100
    scores[57] = 0.01
    one = training(1, "complete", scores, target=100)
    line = next(
        line.plain for line in draw(board(best=one, running=(), ended=()), 80) if line.plain.startswith("trial")
    )
    curve = line.split()[3]
    assert len(curve) == 8 and curve.count(BLOCKS[0]) == 1 and curve.count(BLOCKS[-1]) == 7


def test_draw_without_ended_trials_shows_no_estimate():
    unknown = dict.fromkeys(("best", "seconds_left", "elapsed_seconds", "slots"))
    lines = draw(board(0, **unknown, running=(), states={}, status_lines=()), 80, 24)
    said = words(lines)
    assert "0 of 30 trials ended" in said and "none yet" in said and "left" not in said and "slots" not in said


def test_draw_of_a_failed_trial_shows_no_score():
    failed = next(line.plain for line in draw(board(), 110) if line.plain.startswith("trial 7"))
    assert failed.split()[4] == "-"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_board_without_unicode_or_color_is_ascii(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, force_terminal=True, width=80, no_color=True)
    console.print(board(title="roses", ended=(training(7, "failed", (0.1,), "died: 花"),)))
    stream.seek(0)
    said = stream.read()
    assert ("█" in said, "花" in said) == (encoding == "utf-8",) * 2
    assert "[3" not in said.replace("[3m", "") and "trial 5" in said
    assert said.count("?") == (encoding == "ascii") and ("+\x1b[1m." in said) == (encoding == "ascii")


def test_format_estimate_rounds_by_size():
    assert [format_estimate(seconds) for seconds in (0, 44, 89, 95, 1860, 9000)] == [
        *("10 s", "40 s", "90 s", "2 min", "31 min", "2.5 h"),
    ]
