"""Which trainings stayed at the mean-color baseline: they did not work, which says nothing of their settings."""

from collections.abc import Mapping, Sequence
from typing import Any

AT_BASELINE = "at baseline"
"""The note of a trial that is still at the mean-color baseline after its grace; the same word in every format."""
MAX_BASELINE_SKILL = 0.01
"""Best skill up to which a training is at the baseline, whose own skill is 0. Trainings that do not work end
there: on 630 flowers and on 444 roses at 0.00 to 0.01, while all others had 0.02 or more from their first epoch on. Of
the 256 trainings of tests/benchmarks/table.csv, 127 end at 0.01 or less, 14 at up to 0.05, and 115 above that."""

STAYED = f"stayed at the mean-color baseline (best skill {MAX_BASELINE_SKILL:g} or less)"


def grace(epochs: int) -> int:
    """Return after how many epochs a trial may be pruned, and is compared with the baseline.

    The scheduler `none` prunes no trial, but how soon a training gets past the baseline does not depend on the
    scheduler: there a trial is compared with the baseline after as many epochs.

    Args:
        epochs: of a complete trial, 1 or more.
    """
    # In its first epoch a model mostly shrinks its kernels. Among the good structures of the recorded table the order
    # after one epoch has a rank correlation of 0.49 with the truth, and of 0.91 after two.
    return max(1, epochs // 4)


def note(state: str, trained: Sequence[Mapping[str, Any]], target: int | None) -> str | None:
    """Return AT_BASELINE for a trial whose best skill is still at the baseline after its grace, None for any other.

    The skill decides, whatever the objective is: colors can be as strong as the photos' (chroma_ratio_error) and wrong.
    A failed trial has its error instead. The grace of a pruned one was over, or it would not have been pruned.

    Args:
        state: complete, pruned, failed, running, waiting or interrupted.
        trained: the metrics of each epoch that it finished.
        target: epochs that it was to train, 1 or more; None where an older huetune did not record them: then it is
            judged only once it has ended.
    """
    skills = [metrics["skill"] for metrics in trained if "skill" in metrics]
    over = state in ("complete", "pruned") or (target is not None and len(trained) >= grace(target))
    if state == "failed" or not skills or not over or any(skill > MAX_BASELINE_SKILL for skill in skills):
        return None
    return AT_BASELINE


def baseline_line(table: Sequence[Mapping[str, Any]]) -> str | None:
    """Return in a line how many trials are at the baseline, and that this does not judge their settings; None if none.

    Args:
        table: rows of all trials, as `results.tables.trial_table.rows` returns them.
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
