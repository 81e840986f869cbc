"""The verdict on a model in the log: what the figures bear out, and no more."""

import numpy as np

from model.score import OBJECTIVES
from results.entry import Entry
from results.replicates import LEAST
from results.statistics import Estimate, difference
from results.words import Language, escaped


def verdict(entry: Entry, other: Entry | None, language: Language) -> str:
    """Return whether a model is better than another one, or than one colour for everything.

    Of models that were both trained again from fresh seeds, the interval of the difference decides. Two trainings alone
    have an order, which is said, but do not tell a model from its luck, which is said too. Of a training that was
    stopped nobody knows how it would have ended.

    Args:
        entry: the model.
        other: that it is compared with, or None.
        language: of the sentences.
    """
    if entry.state == "pruned":
        return language.say("stopped", done=len(entry.epochs), target=entry.target)
    if entry.state != "complete":
        return language.say("broken" if entry.state == "failed" else "unfinished")
    sentences = [_against(entry, other, language)] if other else []
    learnt = entry.best["skill"] > 0
    if not other or not learnt:
        figures = {"objective": entry.objective, "score": figure(entry.score), "skill": figure(entry.best["skill"])}
        sentences.append(language.say("above_zero" if learnt else "no_better", **figures))
    return " ".join(sentences)


def _against(entry: Entry, other: Entry, language: Language) -> str:
    gaps = {
        "objective": entry.objective,
        "score": figure(entry.score),
        "other": link(other),
        "old": figure(other.score),
    }
    if min(len(entry.again), len(other.again)) >= LEAST:
        apart, base = difference(entry.again, other.again), float(np.mean(other.again))
        how, sure = "again", apart.sure
        gaps |= {"first": str(len(entry.again)), "second": str(len(other.again))}
    else:
        apart, base = Estimate(entry.score - other.score), other.score
        how, sure = ("once", True) if apart.value else ("equal", False)
    lower = (apart.value < 0) == (OBJECTIVES[entry.objective] == "minimize")
    judged = language.say(("better" if lower else "worse") if sure else "alike", other=link(other))
    gap = _gap(apart, base if entry.objective == "chroma_mse" else 0.0, language)
    return language.say(how, **gaps, gap=gap, verdict=judged, remedy=_remedy(entry, other, language))


def _gap(apart: Estimate, base: float, language: Language) -> str:
    """A difference and its interval: in per cent of a base, or without one as it is."""
    scale, unit = (100 / base, language.say("percent")) if base else (1.0, "")
    value = f"{apart.value * scale:+.3g}"
    if apart.low is None or apart.high is None:
        return f"{value}{unit}"
    low, high = (f"{end * scale:+.3g}" for end in (apart.low, apart.high))
    return language.say("interval", value=value, low=low, high=high, unit=unit)


def _remedy(entry: Entry, other: Entry, language: Language) -> str:
    """How to find out, where there is a command for it."""
    if not entry.known_as or not other.known_as or entry.known_as[0] != other.known_as[0]:
        return ""
    return language.say("remedy", command=f"huetune compare {' '.join(entry.known_as)} {other.known_as[1]}")


def figure(value: float) -> str:
    """Return a figure as the log writes it."""
    return f"{value:.4f}"


def link(entry: Entry) -> str:
    """Return a model's name, which leads to its place in the log."""
    return f"[{escaped(entry.name)}](#{entry.key})"
