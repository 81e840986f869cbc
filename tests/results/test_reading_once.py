"""Commands read a study only once, counted by the connections to its file; charts of large studies stay small."""

from collections.abc import Callable
from pathlib import Path

import pytest

from huetune.results.report import charts
from huetune.results.report.summary import Findings
from huetune.results.report.svg import to_svg
from tests.results.synthetic_run import make_run, write_studies


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A confirmed run whose studies are in a file, with no checkpoint."""
    made = make_run(tmp_path_factory.mktemp("once") / "made", 9, finalists=2)
    write_studies(made)
    return made.folder


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("effects {}", "3 configurations in made"),
        ("trials {}", "wins: chroma_mse"),
        ("best {}", "gone"),
        ("list --storage {}/..", "made "),
    ],
)
def test_command_reads_its_study_once(
    run: Path, words: str, says: str, in_process: Callable, connections: list[str]
) -> None:
    """So all that a command prints is of the same moment."""
    done = in_process(*(word.format(run) for word in words.split()))
    assert says in done.stdout + done.stderr
    assert len(connections) == 1, connections


def test_charts_of_thousands_of_trials_stay_small(tmp_path: Path) -> None:
    """The report has a mark per trial in three charts: 3,000 trials take 2 MB, not 4."""
    found = Findings.of(make_run(tmp_path / "run", 40))
    options = found.baseline, "chroma_mse", found.study.user_attrs["parameters"]
    drawn = to_svg(charts.learning_curves(found.study, found.table, *options))
    lines = drawn.count('aria-label="trial ')
    assert lines == sum(row["epochs"] > 0 for row in found.table)
    assert len(drawn) < 40_000 + 330 * lines
    assert drawn.count("<clipPath") <= 2 and drawn.count("mark-line") < 12
