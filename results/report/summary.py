"""Summarizes what a search found, as sentences and tables: the winner with its interval, and caveats."""

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

MAX_CANDIDATES = 3
"""Complete trials that are shown in place of finalists if there are none."""


@dataclass(frozen=True)
class Findings:
    """The records of a run, read once, and what follows from them. The search may be running.

    Attributes:
        run: run of a search.
        manifest: manifest of the run.
        study: study of the search.
        replicates: study of the replicates; None if there are none.
        table: trial table.
    """

    run: Run
    manifest: Mapping[str, Any]
    study: optuna.Study
    replicates: optuna.Study | None
    table: list[Row]

    @classmethod
    def of(cls, run: Run) -> "Findings":
        """Read a run, which may be running or incomplete."""
        study, replicates = run.snapshot()
        return cls(run, run.manifest, study, replicates, rows(study, replicates))

    @cached_property
    def searched(self) -> StudyRecord:
        """Record of the study of the search."""
        return StudyRecord.of(self.study)

    @property
    def objectives(self) -> list[str]:
        """Names of the objectives; the first one is the score."""
        return list(self.searched.objectives)

    @property
    def baseline(self) -> float:
        """Score of the mean-color baseline."""
        return self.searched.baseline[self.objectives[0]]

    def row(self, number: int) -> Row:
        """Return the row of a trial in the trial table."""
        return next(row for row in self.table if row["trial"] == number)

    def trial(self, number: int) -> optuna.trial.FrozenTrial:
        """Return a trial of the study of the search."""
        trial = find_trial(self.study, number)
        assert trial
        return trial

    def complete(self) -> list[Row]:
        """Return the rows of the complete trials, the best first."""
        return [row for row in self.table if row["state"] == "complete"]

    def candidates(self) -> list[Row]:
        """Return the rows of the finalists; without any, those of the ends of the Pareto front or the best trials."""
        if numbers := self.finalists():
            return [self.row(number) for number in numbers]
        ends = [self.row(trial.number) for trial in front_ends(self.study).values()]
        return list({row["trial"]: row for row in (*ends, *self.complete()[:MAX_CANDIDATES])}.values())[
            : max(MAX_CANDIDATES, len(ends))
        ]

    def finalists(self) -> list[int]:
        """Return the numbers of the finalists, the winner first."""
        numbers = StudyRecord.of(self.replicates).finalists if self.replicates else ()
        rank_of = ranks(self.study, self.replicates)
        return sorted(numbers, key=lambda number: rank_of.get(number, len(numbers) + 1))

    def groups(self) -> dict[int, Replicates]:
        """Return the replicates of each finalist that has any, by its number."""
        groups_by_config = replicates_by_config(self.replicates)
        groups = {number: replicates_of(self.trial(number), groups_by_config) for number in self.finalists()}
        return {number: group for number, group in groups.items() if group}

    def question(self) -> str:
        """Return the title of the report: the question that the search answers."""
        photos = self.manifest.get("photos", {})
        counts = [photos.get(part) for part in ("training", "validation", "test")]
        photos_text = f"{sum(counts)} photos" if None not in counts else "photos"
        return f"Which VAE colorizes these {photos_text} best, and how certain is that?"

    def answer(self) -> str:
        """Return the winner with its interval in a sentence; without a winner, what is known so far."""
        if ranks(self.study, self.replicates) and (line := headline(self.study, self.replicates)):
            return f"{line[0].upper()}{line[1:]}."
        if ends := front_ends(self.study):
            baseline = self.searched.baseline
            rows_by_objective = {name: self.row(trial.number) for name, trial in ends.items()}
            best = (
                f"trial {row['trial']} has the best {name}, {format_value(row[name])} "
                f"({compare_with_baseline(name, row[name], (), baseline[name])})"
                for name, row in rows_by_objective.items()
            )
            front = sum(bool(row["front"]) for row in self.table)
            count = "One trial is" if front == 1 else f"{front} trials are"
            return (
                f"{count} on the Pareto front; which one is best depends on the objective: {', '.join(best)}. "
                "Each was trained once, so part of its score may be luck."
            )
        if line := headline(self.study, self.replicates):
            return (
                f"{line[0].upper()}{line[1:]}. For a confidence interval, train the finalists again from fresh seeds: "
                f"{self.run.command('confirm')}"
            )
        counts = ", ".join(f"{count} {state}" for state, count in self.states().items())
        return f"There is no winner yet: no trial is complete ({counts or 'none has started'})."

    def states(self) -> dict[str, int]:
        """Return the number of trials in each state."""
        states = [row["state"] for row in self.table]
        return {state: states.count(state) for state in sorted(set(states), key=list(STATE_OPACITY).index)}

    def notes(self) -> list[str]:
        """Return caveats as sentences: what is missing, incomplete or doubtful."""
        notes = []
        if self.manifest.get("schema", 0) < 2:
            notes.append(
                "This run was made by an older version of huetune, which did not record how to read the photos again, "
                "the code version or the hardware. Therefore the pictures and these facts are missing."
            )
        total = self.searched.requested.trials
        done = sum(row["state"] not in ("running", "interrupted") for row in self.table)
        so_far = f"{done} of {total} trials had ended" if total else f"{done} trials had ended"
        if by := lock_holder(self.run.folder):
            notes.append(f"The search was running when this page was written (run locked by {by}); {so_far}.")
        elif total and not self.searched.ended:
            notes.append(
                f"The search was stopped before its end; {so_far}. Continue it with: {self.run.command('resume')}"
            )
        missing = [number for number in self.finalists() if not self.row(number)["rank"]]
        if missing and not ranks(self.study, self.replicates):
            notes.append(
                "The confirmation is not complete: some finalists lack replicates, so there is no confirmed winner yet."
            )
        if line := baseline_line(self.table):
            notes.append(f"{line}.")
        return notes

    def facts(self) -> list[tuple[str, str]]:
        """Return facts about the search: a name and a text each."""
        search, requested = self.manifest.get("search", {}), self.searched.requested
        counts = ", ".join(f"{count} {state}" for state, count in self.states().items())
        seconds = self.searched.seconds
        won = winner_of(self.study, self.replicates)
        return [
            (name, value)
            for name, value in (
                ("trials", f"{len(self.table)}{f' ({counts})' if counts else ''}"),
                ("epochs of a complete trial", str(requested.epochs)),
                (
                    "searcher, scheduler",
                    ", ".join(search[part] for part in ("searcher", "scheduler") if part in search),
                ),
                ("started", local_time(str(self.manifest.get("started", "")), "%Y-%m-%d %H:%M %z")),
                ("duration of the search", str(datetime.timedelta(seconds=round(seconds))) if seconds else ""),
                ("stop reason", str(self.searched.ended or "")),
                ("winner and its checkpoint", str(won) if won else ""),
            )
            if value
        ]

    def final_check(self) -> tuple[str, list[Row]]:
        """Return the final check as a sentence and a row per metric; both empty if there is none."""
        found = read_or_none(self.run)
        if not found:
            return "", []
        table: list[Row] = [
            {
                "metric": name,
                "mean": estimate.value,
                "95% CI from": estimate.low,
                "to": estimate.high,
                **{reference: found.references[reference][name] for reference in REFERENCES},
            }
            for name, estimate in found.metrics.items()
        ]
        sentence = next(found.lines())
        note = (
            ""
            if is_current(self.run, (self.study, self.replicates))
            else " It is outdated: the winner has changed or was trained again since."
        )
        return f"{sentence[0].upper()}{sentence[1:]}.{note}", without_empty(table)

    def finalist_rows(self) -> list[Row]:
        """Return a row per finalist: rank, settings, mean score over fresh seeds with its 95% interval."""
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
                    "95% CI from": estimate.low if estimate else None,
                    "to": estimate.high if estimate else None,
                    "score of each seed": ", ".join(format_value(score) for score in group.scores) if group else None,
                    "diverged": group.failed or None if group else None,
                    AT_BASELINE: sum(bool(TrialRecord.of(one).note) for one in group.trials) or None if group else None,
                    "score in the search": row["score"],
                }
            )
        return without_empty(table)

    def columns(self) -> dict[str, bool]:
        """Return the columns of the trial table that are not empty, and whether they contain numbers."""
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
    """Return a table without its empty columns."""
    names = [name for name in (table[0] if table else ()) if any(row[name] is not None for row in table)]
    return [{name: row[name] for name in names} for row in table]


def display_name(row: Row) -> str:
    """Return the name of a trial: its number, and its preset if it is one."""
    return f"trial {row['trial']}" + (f" ({row['preset']})" if row["preset"] else "")
