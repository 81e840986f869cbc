"""The verdict on a model in the log: what the figures bear out, and no more."""

import shlex
from collections.abc import Callable, Sequence

import numpy as np

from huetune.data_tools.common.terminal import program_name
from huetune.model.metrics import METRICS
from huetune.results.analysis.intervals import Estimate, difference, mean
from huetune.results.analysis.replicates import MIN_INTERVAL_SEEDS, compare_with_baseline
from huetune.results.experiment_log.entry import Entry
from huetune.results.experiment_log.messages import Language, escaped


def verdict(entry: Entry, other: Entry | None, language: Language, tested_skill: float | None = None) -> str:
    """Return whether a model is better than another one, or than the mean-color baseline.

    Of models that were both trained again from fresh seeds, the interval of the difference decides. Two trainings alone
    have an order, which is said, but do not tell a model from its luck, which is said too. Of a training that was
    stopped nobody knows how it would have ended.

    Args:
        entry: the model.
        other: that it is compared with, or None.
        language: of the sentences.
        tested_skill: its skill on the test photos; None where there are none. It is said to be better or worse there
            where that is not what the rest of the verdict says.
    """
    if entry.state == "pruned":
        return " ".join(
            [language.say("stopped", done=len(entry.epochs), target=entry.target), *_noted(entry, language)]
        )
    if entry.state != "complete":
        return " ".join([language.say("broken" if entry.state == "failed" else "unfinished"), *_noted(entry, language)])
    sentences = [_against(entry, other, language)] if other else []
    again: Sequence[float] = ()
    if entry.baseline is None:
        # Only its skill tells, which is measured against the baseline.
        objective, score, baseline = "skill", entry.best["skill"], 0.0
    else:
        objective, score, again, baseline = entry.objective, entry.score, entry.again, entry.baseline
    standing = compare_with_baseline(objective, score, again, baseline)
    elsewhere = tested_skill is not None and (tested_skill > 0) != (standing.relation == "better")
    if not other or standing.relation != "better" or elsewhere:
        gaps = {"objective": objective, "score": figure(score), "baseline": figure(baseline), "seeds": standing.seeds}
        gaps["verdict"] = language.say(f"baseline_{standing.relation}")
        if standing.seeds > 1:
            gaps["score"] = _interval(mean(again, METRICS[objective].limits), figure, "", language)
        sentences.append(language.say("baseline_again" if standing.seeds > 1 else "baseline_once", **gaps))
    sentences += [sentence for one in (entry, other) if one for sentence in _noted(one, language)]
    if elsewhere and tested_skill is not None:
        word = "tested_better" if tested_skill > 0 else "tested_worse"
        sentences.append(language.say(word, skill=f"{tested_skill:.3f}"))
    if entry.used:
        gaps = {"objective": entry.objective, "seed": entry.used[0], "score": figure(entry.used[1])}
        sentences.append(language.say("winner_replicate", **gaps))
    elif entry.winner:
        sentences.append(language.say("winner"))
    return " ".join(sentences)


def _noted(entry: Entry, language: Language) -> list[str]:
    """Return a sentence that a model's training stayed at the baseline; none where it did not."""
    if entry.note is None:
        return []
    skill = max(metrics["skill"] for metrics in entry.epochs)
    return [language.say("at_baseline", model=link(entry), skill=f"{skill:.3f}")]


def _against(entry: Entry, other: Entry, language: Language) -> str:
    gaps = {
        "objective": entry.objective,
        "score": figure(entry.score),
        "other": link(other),
        "old": figure(other.score),
    }
    if min(len(entry.again), len(other.again)) >= MIN_INTERVAL_SEEDS:
        apart, base = difference(entry.again, other.again), float(np.mean(other.again))
        how, sure = "again", apart.significant
        gaps |= {"first": str(len(entry.again)), "second": str(len(other.again))}
    else:
        apart, base = Estimate(entry.score - other.score), other.score
        how, sure = ("once", True) if apart.value else ("equal", False)
    lower = (apart.value < 0) == (METRICS[entry.objective].minimized)
    judged = language.say(("better" if lower else "worse") if sure else "alike", other=link(other))
    gap = _gap(apart, base if entry.objective == "chroma_mse" else 0.0, language)
    return language.say(how, **gaps, gap=gap, verdict=judged, remedy=_remedy(entry, other, language))


def _gap(apart: Estimate, base: float, language: Language) -> str:
    """A difference and its interval: in per cent of a base, or without one as it is."""
    scale, unit = (100 / base, language.say("percent")) if base else (1.0, "")
    return _interval(apart, lambda value: f"{value * scale:+.3g}", unit, language)


def _interval(estimate: Estimate, write: Callable[[float], str], unit: str, language: Language) -> str:
    """A value and its interval, or the value alone where there is none."""
    if estimate.low is None or estimate.high is None:
        return f"{write(estimate.value)}{unit}"
    value, low, high = map(write, (estimate.value, estimate.low, estimate.high))
    return language.say("interval", value=value, low=low, high=high, unit=unit)


def _remedy(entry: Entry, other: Entry, language: Language) -> str:
    """How to find out, where there is a command for it."""
    if not entry.known_as or not other.known_as or entry.known_as[0] != other.known_as[0]:
        return ""
    words = shlex.join([*entry.known_as, other.known_as[1]])
    return language.say("remedy", command=f"{program_name()} compare {words}")


def figure(value: float) -> str:
    """Return a figure as the log writes it."""
    return f"{value:.4f}"


def link(entry: Entry) -> str:
    """Return a model's name, which leads to its place in the log."""
    return f"[{escaped(entry.name)}](#{entry.key})"
