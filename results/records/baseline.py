"""Detects trainings that stayed at the mean-color baseline, whose scores say nothing about their settings."""

from collections.abc import Mapping, Sequence
from typing import Any

AT_BASELINE = "at baseline"
"""Note of a trial that is still at the mean-color baseline after its grace period; the same text in every format."""
MAX_BASELINE_SKILL = 0.01
"""Largest best skill of a training that counts as being at the baseline, whose own skill is 0. Trainings that do not
work end there: on 630 flowers and on 444 roses at 0.00 to 0.01, while all others had 0.02 or more from their first
epoch on. Of the 256 trainings of tests/benchmarks/table.csv, 127 end at 0.01 or less, 14 at up to 0.05, and 115 above
that."""

STAYED = f"stayed at the mean-color baseline (best skill {MAX_BASELINE_SKILL:g} or less)"


def grace_epochs(epochs: int) -> int:
    """Return the number of epochs after which a trial may be pruned, and is compared with the baseline.

    The scheduler `none` prunes no trial, but compares it with the baseline after the same number of epochs, because how
    soon a training improves on the baseline does not depend on the scheduler.

    Args:
        epochs: number of epochs of a complete trial, 1 or more.
    """
    # In its first epoch a model mostly shrinks its kernels. Among the good structures of tests/benchmarks/table.csv,
    # the order after one epoch has a rank correlation of 0.49 with the true order, and of 0.91 after two epochs.
    return max(1, epochs // 4)


def baseline_note(state: str, trained: Sequence[Mapping[str, Any]], target: int | None) -> str | None:
    """Return AT_BASELINE if the best skill of a trial is still at the baseline after the grace period, otherwise None.

    The skill decides, whatever the objective is, because colors can be as strong as those of the photos (which
    `chroma_ratio_error` measures) and still be wrong. A failed trial has no note, since it has an error.

    Args:
        state: state of the trial: complete, pruned, failed, running or interrupted. The grace period of a
            pruned trial is over, because schedulers prune no trial before.
        trained: metrics of each finished epoch.
        target: number of epochs to train, 1 or more; None where an older version did not record it, in which case the
            trial has a note only after it has ended.
    """
    skills = [metrics["skill"] for metrics in trained if "skill" in metrics]
    grace_is_over = state in ("complete", "pruned") or (target is not None and len(trained) >= grace_epochs(target))
    if state == "failed" or not skills or not grace_is_over or any(skill > MAX_BASELINE_SKILL for skill in skills):
        return None
    return AT_BASELINE


def baseline_line(table: Sequence[Mapping[str, Any]]) -> str | None:
    """Return a line that counts the trials at the baseline and explains what this means; None if there are none.

    Args:
        table: the trials with their `state` and `note`, such as the rows of the trial table.
    """
    found = [row for row in table if row["note"] == AT_BASELINE]
    if not found:
        return None
    its, score = ("its", "score does") if len(found) == 1 else ("their", "scores do")
    early = sum(row["state"] != "complete" for row in found)
    which = f", {'' if len(found) == 1 else f'{early} of them '}not trained to the end," if early else ""
    return (
        f"{len(found)} of {len(table)} trials{which} {STAYED}: {its} training did not work, so {its} {score} not show "
        f"how good {its} settings are"
    )
