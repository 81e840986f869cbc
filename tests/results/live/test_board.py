"""The board fits any terminal, and what must be seen is seen."""

import io

import pytest
from rich.console import Console

from huetune.results.live.board import BLOCKS, Board, Training, draw, span

SETTINGS = "mse_weight 2.5, activation silu, skip yes, merge_units 96, positions 7, optimizer muon"


def training(number, state="running", scores=(0.09, 0.07, 0.08), remark="", settings=SETTINGS, target=8):
    by_epoch = dict(enumerate(scores, 1))
    seconds = dict.fromkeys(by_epoch, 2.0)
    return Training(number, f"trial {number}", settings, state, target, by_epoch, seconds, remark)


def board(count=3, **known):
    return Board(
        **{
            "title": "roses",
            "objective": "chroma_mse",
            "asked": 30,
            "states": {"complete": 4, "pruned": 2, "failed": 1, "running": count, "waiting": 0},
            "running": tuple(training(8 + number) for number in range(count)),
            "ended": (
                training(7, "failed", (0.1,), "diverged in epoch 1: train_loss is nan"),
                training(6, "pruned", (0.1, 0.095)),
                training(5, "complete", [0.1 - 0.005 * epoch for epoch in range(8)]),
            ),
            "best": training(5, "complete", [0.1 - 0.005 * epoch for epoch in range(8)]),
            "zero": 0.0823,
            "slots": 4,
            "seconds": 751.0,
            "left": 1860.0,
            "words": ("locked by process 4711 (user ada) on host rosebud since 2026-11-24 16:00:00",),
            **known,
        }
    )


def text(lines):
    return "\n".join(line.plain for line in lines)


def words(lines):
    return " ".join(text(lines).split())


@pytest.mark.parametrize("height", [15, 24, 40, None])
@pytest.mark.parametrize("width", [60, 80, 110, 200])
def test_it_fits_and_says_what_must_be_said(width, height):
    lines = draw(board(), width, height)
    assert max(line.cell_len for line in lines) <= width and len(lines) <= (height or 100)
    said = words(lines)
    for part in ("roses", "0:12:31", "about 31 min left", "7 of 30 trials ended", "4 complete, 2 pruned, 1 failed"):
        assert part in said
    for part in ("3 running in 4 slots", "one color for everything: 0.0823", "process 4711 of ada on rosebud"):
        assert part in said
    # The best, with its settings; and of those that run at least one, the others counted.
    assert "trial 5 8/8" in said and "0.065" in said and SETTINGS in said
    there = sum(f"trial {number} 3/8" in said for number in (8, 9, 10))
    assert there == 3 or (there >= 1 and f"{3 - there} more" in said)
    assert said.count(SETTINGS) >= there + 1


def test_nothing_is_wider_than_the_narrowest_terminal():
    long = Training(1, "model-1 again, seed 1000000", "", "running", 100, {1: 1e-5}, {1: 1.0})
    for width in (10, 40):
        lines = draw(board(title="x" * 100, running=(long,), words=("y" * 90,)), width)
        assert max(line.cell_len for line in lines) == width
        assert "x" * 100 in text(lines).replace("\n", "") and "y" * 90 in text(lines).replace("\n", "")


def test_with_room_ended_trials_are_shown_and_why_they_failed():
    said = words(draw(board(), 120, 40))
    assert "ended last trial 7 1/8" in said and "failed" in said and "diverged in epoch 1: train_loss is nan" in said
    assert "ended last" not in words(draw(board(6), 60, 18))


def test_of_many_that_run_the_best_are_shown():
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
def test_a_curve_shows_the_way_of_the_score_and_marks_the_best_epoch(objective, scores, bars):
    one = training(1, scores=scores)
    lines = draw(board(objective=objective, running=(one,), ended=(), best=None, zero=None), 80)
    line = next(line for line in lines if line.plain.startswith("trial 1 "))
    assert bars in line.plain
    best = line.plain.index(bars) + 2
    assert [line.plain[span.start : span.end] for span in line.spans if "green" in str(span.style)] == [
        line.plain[best]
    ]
    way = "lower" if objective == "chroma_mse" else "higher"
    assert f"{objective}, {way} is better" in lines[0].plain


def test_curves_are_to_one_scale_and_one_outlier_does_not_flatten_them():
    good, bad = training(1, scores=(0.08, 0.01)), training(2, scores=(1e9, float("nan"), 0.05))
    lines = text(draw(board(running=(good, bad), ended=(), best=None, zero=0.045), 80)).splitlines()
    curves = {line[:7]: line.split()[3] for line in lines if line.startswith("trial ")}
    assert curves == {"trial 1": "█▁······", "trial 2": "██▅·····"}


def test_more_epochs_than_cells_keep_the_best():
    scores = [0.09] * 100
    scores[57] = 0.01
    one = training(1, "complete", scores, target=100)
    line = next(
        line.plain for line in draw(board(best=one, running=(), ended=()), 80) if line.plain.startswith("trial")
    )
    curve = line.split()[3]
    assert len(curve) == 8 and curve.count(BLOCKS[0]) == 1 and curve.count(BLOCKS[-1]) == 7


def test_a_failed_trial_has_no_score_and_nothing_is_told_before_there_is_a_basis():
    lines = draw(board(0, best=None, left=None, seconds=None, slots=None, running=(), states={}, words=()), 80, 24)
    said = words(lines)
    assert "0 of 30 trials ended" in said and "none yet" in said and "left" not in said and "slots" not in said
    failed = next(line.plain for line in draw(board(), 110) if line.plain.startswith("trial 7"))
    assert failed.split()[4] == "-"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_terminals_without_unicode_or_color(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, force_terminal=True, width=80, no_color=True)
    console.print(board(title="roses", ended=(training(7, "failed", (0.1,), "died: 花"),)))
    stream.seek(0)
    said = stream.read()
    assert ("█" in said, "花" in said) == (encoding == "utf-8",) * 2
    assert "[3" not in said.replace("[3m", "") and "trial 5" in said
    assert said.count("?") == (encoding == "ascii") and ("+\x1b[1m." in said) == (encoding == "ascii")


def test_spans_are_about_as_exact_as_estimates_are():
    assert [span(seconds) for seconds in (0, 44, 89, 95, 1860, 9000)] == [
        *("10 s", "40 s", "90 s", "2 min", "31 min", "2.5 h"),
    ]
