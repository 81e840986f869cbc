"""What a search found, in words and tables: the question, the answer with its interval, what casts doubt on it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna

from huetune.data_tools.common.terminal import local_time
from huetune.data_tools.storage.run_lock import lock_holder
from huetune.results.analysis.replicates import (
    Replicates,
    compare_with_baseline,
    ranks,
    replicates_by_config,
    replicates_of,
)
from huetune.results.analysis.winner import front_ends, headline, winner_of
from huetune.results.evaluation.final_check import REFERENCES, is_current, read_or_none
from huetune.results.records.baseline import AT_BASELINE, baseline_line
from huetune.results.records.run import Run
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord, find_trial
from huetune.results.records.value_text import format_value
from huetune.results.report.chart_style import STATE_OPACITY
from huetune.results.tables.trial_table import Row, rows

TOP = 3
"""Complete trials that stand for the finalists where there was no confirmation."""


@dataclass(frozen=True)
class Findings:
    """All that is read of a run, read once: it may be running.

    Attributes:
        run: of a search.
        manifest: what was asked.
        study: the trials.
        replicates: those trained again from fresh seeds, if any.
        table: a row a trial.
    """

    run: Run
    manifest: Mapping[str, Any]
    study: optuna.Study
    replicates: optuna.Study | None
    table: list[Row]

    @classmethod
    def of(cls, run: Run) -> "Findings":
        """Read a run, also one that runs or was left."""
        study, replicates = run.snapshot()
        return cls(run, run.manifest, study, replicates, rows(study, replicates))

    @cached_property
    def searched(self) -> StudyRecord:
        """What the study records of its search."""
        return StudyRecord.of(self.study)

    @property
    def objectives(self) -> list[str]:
        """What was searched for; the first one is the score."""
        return list(self.searched.objectives)

    @property
    def zero(self) -> float:
        """The score of no color at all."""
        return self.searched.baseline[self.objectives[0]]

    def row(self, number: int) -> Row:
        """The row of a trial."""
        return next(row for row in self.table if row["trial"] == number)

    def trial(self, number: int) -> optuna.trial.FrozenTrial:
        """A trial of the study."""
        trial = find_trial(self.study, number)
        assert trial
        return trial

    def complete(self) -> list[Row]:
        """The trials that took all their epochs, best first."""
        return [row for row in self.table if row["state"] == "complete"]

    def candidates(self) -> list[Row]:
        """The finalists, or what stands for them: the ends of a Pareto front, or the best complete trials."""
        if numbers := self.finalists():
            return [self.row(number) for number in numbers]
        ends = [self.row(trial.number) for trial in front_ends(self.study).values()]
        return list({row["trial"]: row for row in (*ends, *self.complete()[:TOP])}.values())[: max(TOP, len(ends))]

    def finalists(self) -> list[int]:
        """The numbers of the trials that were trained again as candidates, the winner first."""
        numbers = StudyRecord.of(self.replicates).finalists if self.replicates else ()
        rank_of = ranks(self.study, self.replicates)
        return sorted(numbers, key=lambda number: rank_of.get(number, len(numbers) + 1))

    def groups(self) -> dict[int, Replicates]:
        """The replicates of each finalist that has any."""
        again = replicates_by_config(self.replicates)
        groups = {number: replicates_of(self.trial(number), again) for number in self.finalists()}
        return {number: group for number, group in groups.items() if group}

    def question(self) -> str:
        """What the search was to find out."""
        photos = self.manifest.get("photos", {})
        counts = [photos.get(part) for part in ("training", "validation", "test")]
        many = f"{sum(counts)} photos" if None not in counts else "photos"
        return f"Which VAE colorizes these {many} best, and how sure is that?"

    def answer(self) -> str:
        """The winner and its interval; or what is known without one."""
        if ranks(self.study, self.replicates) and (line := headline(self.study, self.replicates)):
            return f"{line[0].upper()}{line[1:]}."
        if ends := front_ends(self.study):
            zero = self.searched.baseline
            rows_by_objective = {name: self.row(trial.number) for name, trial in ends.items()}
            best = (
                f"trial {row['trial']} has the best {name}, {format_value(row[name])} "
                f"({compare_with_baseline(name, row[name], (), zero[name])})"
                for name, row in rows_by_objective.items()
            )
            words, many = ", ".join(best), sum(bool(row["front"]) for row in self.table)
            count = "One trial is" if many == 1 else f"{many} trials are"
            return (
                f"{count} on the Pareto front, and what counts decides between them: {words}; without fresh seeds "
                "nobody knows how much of that is luck."
            )
        if line := headline(self.study, self.replicates):
            return (
                f"{line[0].upper()}{line[1:]}. There is no interval before its finalists are trained again from fresh "
                f"seeds ({self.run.command('confirm')})."
            )
        counts = ", ".join(f"{count} {state}" for state, count in self.states().items())
        return f"Nobody knows yet: no trial is complete ({counts or 'none has begun'})."

    def states(self) -> dict[str, int]:
        """How many trials ended as what."""
        states = [row["state"] for row in self.table]
        return {state: states.count(state) for state in sorted(set(states), key=list(STATE_OPACITY).index)}

    def notes(self) -> list[str]:
        """What the reader must know first: this is not all, or not as it is today."""
        notes = []
        if self.manifest.get("schema", 0) < 2:
            notes.append(
                "This run is of an older huetune, which did not record how to read its photos again, nor the code and "
                "the hardware: what rests on these is missing here."
            )
        total = self.searched.requested.trials
        done = sum(row["state"] not in ("running", "waiting") for row in self.table)
        so_far = f"{done} of {total} trials had ended" if total else f"{done} trials had ended"
        if by := lock_holder(self.run.folder):
            notes.append(f"This run was locked by {by} when the page was written; {so_far}.")
        elif total and not self.searched.ended:
            notes.append(f"This search was left before its end; {so_far}. To go on: {self.run.command('resume')}")
        missing = [number for number in self.finalists() if not self.row(number)["rank"]]
        if missing and not ranks(self.study, self.replicates):
            notes.append("The finalists are not all trained again yet: there is no winner before that.")
        if line := baseline_line(self.table):
            notes.append(f"{line}.")
        return notes

    def facts(self) -> list[tuple[str, str]]:
        """What was done, by name."""
        search, wanted = self.manifest.get("search", {}), self.searched.requested
        counts = ", ".join(f"{count} {state}" for state, count in self.states().items())
        seconds = self.searched.seconds
        won = winner_of(self.study, self.replicates)
        return [
            (name, value)
            for name, value in (
                ("trials", f"{len(self.table)}{f' ({counts})' if counts else ''}"),
                ("epochs of a complete trial", str(wanted.epochs)),
                (
                    "searcher, scheduler",
                    ", ".join(search[part] for part in ("searcher", "scheduler") if part in search),
                ),
                ("started", local_time(str(self.manifest.get("started", "")), "%Y-%m-%d %H:%M %z")),
                ("time of the search", str(datetime.timedelta(seconds=round(seconds))) if seconds else ""),
                ("stop reason", str(self.searched.ended or "")),
                ("winner and its checkpoint", str(won) if won else ""),
            )
            if value
        ]

    def final_check(self) -> tuple[str, list[Row]]:
        """The final check in a sentence, and a row a metric; empty without one."""
        found = read_or_none(self.run)
        if not found:
            return "", []
        table: list[Row] = [
            {
                "metric": name,
                "mean": estimate.value,
                "95 % from": estimate.low,
                "to": estimate.high,
                **{reference: found.references[reference][name] for reference in REFERENCES},
            }
            for name, estimate in found.metrics.items()
        ]
        sentence = next(found.lines())
        note = (
            ""
            if is_current(self.run, (self.study, self.replicates))
            else " Since then the winner was trained again, or is another one."
        )
        return f"{sentence[0].upper()}{sentence[1:]}.{note}", without_empty(table)

    def finalist_rows(self) -> list[Row]:
        """A row a finalist: rank, settings, mean of the fresh seeds with its interval."""
        groups = self.groups()
        table = []
        for number in self.finalists():
            row, group = self.row(number), groups.get(number)
            estimate = group.estimate(self.objectives[0]) if group else None
            table.append(
                {
                    "rank": row["rank"],
                    "trial": number,
                    "preset": row["preset"],
                    "settings": self._settings(row),
                    self.objectives[0]: estimate.value if estimate else None,
                    "95 % from": estimate.low if estimate else None,
                    "to": estimate.high if estimate else None,
                    "each seed": ", ".join(format_value(score) for score in group.scores) if group else None,
                    "diverged": group.failed or None if group else None,
                    AT_BASELINE: sum(bool(TrialRecord.of(one).note) for one in group.trials) or None if group else None,
                    "in the search": row["score"],
                }
            )
        return without_empty(table)

    def columns(self) -> dict[str, bool]:
        """The columns of the trial table that hold anything, and whether they hold numbers."""
        names = [
            name
            for name in (self.table[0] if self.table else ())
            # The first objective is the score.
            if name != self.objectives[0] and any(row[name] is not None for row in self.table)
        ]
        return {
            name: name == "trial"
            or all(isinstance(row[name], (int, float)) for row in self.table if row[name] is not None)
            for name in names
        }

    def _settings(self, row: Row) -> str:
        names = self.searched.parameters
        return ", ".join(f"{name} {format_value(row[name])}" for name in names if row[name] is not None)


def without_empty(table: list[Row]) -> list[Row]:
    """Return a table without the columns that hold nothing."""
    names = [name for name in (table[0] if table else ()) if any(row[name] is not None for row in table)]
    return [{name: row[name] for name in names} for row in table]


def called(row: Row) -> str:
    """Return what a trial is called: by its number, and by its preset if it is one."""
    return f"trial {row['trial']}" + (f" ({row['preset']})" if row["preset"] else "")
