"""The verdict on a model in the experiment log, limited to what its numbers support."""

import shlex
from collections.abc import Callable, Sequence

import numpy as np

from huetune.data_tools.common.terminal import program_name
from huetune.model.metrics import METRICS
from huetune.results.analysis.intervals import Estimate, difference, mean
from huetune.results.analysis.replicates import MIN_INTERVAL_SEEDS, compare_with_baseline
from huetune.results.experiment_log.entry import Entry
from huetune.results.experiment_log.messages import Language, escape_markdown


def verdict(entry: Entry, other: Entry | None, language: Language, tested_skill: float | None = None) -> str:
    """Return in words whether a model is better than another model, or than the mean-color baseline.

    If both models have replicates, the interval of the difference decides. Otherwise the verdict compares the two
    trainings and adds that each was trained only once. There is no verdict on a training that was pruned, that failed,
    or that is not finished.

    Args:
        entry: the model.
        other: the model that it is compared with, or None.
        language: language of the text.
        tested_skill: skill of the model on the test photos; None if it was not tested. It is mentioned if it
            contradicts the rest of the verdict.
    """
    if entry.state == "pruned":
        stopped = language.text("stopped", done=len(entry.epochs), target=entry.target)
        return " ".join([stopped, *_baseline_sentence(entry, language)])
    if entry.state != "complete":
        key = "broken" if entry.state == "failed" else "unfinished"
        return " ".join([language.text(key), *_baseline_sentence(entry, language)])
    sentences = [_comparison(entry, other, language)] if other else []
    replicate_scores: Sequence[float] = ()
    if entry.baseline is None:
        # Without a recorded baseline only the skill can be judged: it is relative to the baseline.
        objective, score, baseline = "skill", entry.best["skill"], 0.0
    else:
        objective, score, baseline = entry.objective, entry.score, entry.baseline
        replicate_scores = entry.replicate_scores
    standing = compare_with_baseline(objective, score, replicate_scores, baseline)
    test_differs = tested_skill is not None and (tested_skill > 0) != (standing.relation == "better")
    if not other or standing.relation != "better" or test_differs:
        shown_score = format_score(score)
        if standing.seeds > 1:
            shown_score = _with_interval(mean(replicate_scores, METRICS[objective].limits), format_score, "", language)
        sentences.append(
            language.text(
                "baseline_replicated" if standing.seeds > 1 else "baseline_once",
                objective=objective,
                score=shown_score,
                baseline=format_score(baseline),
                seeds=standing.seeds,
                verdict=language.text(f"baseline_{standing.relation}"),
            )
        )
    sentences += [sentence for one in (entry, other) if one for sentence in _baseline_sentence(one, language)]
    if test_differs and tested_skill is not None:
        key = "tested_better" if tested_skill > 0 else "tested_worse"
        sentences.append(language.text(key, skill=f"{tested_skill:.3f}"))
    if entry.checkpoint_replicate:
        seed, score = entry.checkpoint_replicate
        values = {"objective": entry.objective, "seed": seed, "score": format_score(score)}
        sentences.append(language.text("winner_replicate", **values))
    elif entry.is_winner:
        sentences.append(language.text("winner"))
    return " ".join(sentences)


def format_score(value: float) -> str:
    """Return a score as the experiment log writes it, with four decimals."""
    return f"{value:.4f}"


def link(entry: Entry) -> str:
    """Return a Markdown link to an entry of the same log, with the name of the model as its text."""
    return f"[{escape_markdown(entry.name)}](#{entry.key})"


def _baseline_sentence(entry: Entry, language: Language) -> list[str]:
    """Return the sentence that a training stayed at the baseline; no sentence if it did not."""
    if entry.baseline_note is None:
        return []
    skill = max(metrics["skill"] for metrics in entry.epochs)
    return [language.text("at_baseline", model=link(entry), skill=f"{skill:.3f}")]


def _comparison(entry: Entry, other: Entry, language: Language) -> str:
    """Return the sentence that compares a model with another one."""
    if min(len(entry.replicate_scores), len(other.replicate_scores)) >= MIN_INTERVAL_SEEDS:
        gap, base = difference(entry.replicate_scores, other.replicate_scores), float(np.mean(other.replicate_scores))
        key, differs = "replicated", gap.significant
    else:
        gap, base = Estimate(entry.score - other.score), other.score
        key, differs = ("once", True) if gap.value else ("equal", False)
    is_better = (gap.value < 0) == METRICS[entry.objective].minimized
    relation = ("better" if is_better else "worse") if differs else "alike"
    return language.text(
        key,
        objective=entry.objective,
        score=format_score(entry.score),
        other=link(other),
        old=format_score(other.score),
        first=len(entry.replicate_scores),
        second=len(other.replicate_scores),
        gap=_format_gap(gap, base if entry.objective == "chroma_mse" else 0.0, language),
        verdict=language.text(relation, other=link(other)),
        remedy=_remedy(entry, other, language),
    )


def _format_gap(gap: Estimate, base: float, language: Language) -> str:
    """Return a signed difference with its interval: in percent of a base, or absolute if the base is 0."""
    scale, unit = (100 / base, language.text("percent")) if base else (1.0, "")
    return _with_interval(gap, lambda value: f"{value * scale:+.3g}", unit, language)


def _with_interval(estimate: Estimate, write: Callable[[float], str], unit: str, language: Language) -> str:
    """Return a value with its interval, or the value alone if it has none."""
    if estimate.low is None or estimate.high is None:
        return f"{write(estimate.value)}{unit}"
    value, low, high = map(write, (estimate.value, estimate.low, estimate.high))
    return language.text("interval", value=value, low=low, high=high, unit=unit)


def _remedy(entry: Entry, other: Entry, language: Language) -> str:
    """Return the command that trains both models from fresh seeds; empty if they are not trials of the same run."""
    first, second = entry.trial_reference, other.trial_reference
    if not first or not second or first[0] != second[0]:
        return ""
    return language.text("remedy", command=f"{program_name()} compare {shlex.join([*first, second[1]])}")
