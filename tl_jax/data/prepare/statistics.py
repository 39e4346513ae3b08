"""What a prepare report says, counted as the files grow."""

from __future__ import annotations

import collections
import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tl_jax.data.examples.build import DROPPED_TAG, ELIDED_TAG, Example, Skipped
from tl_jax.data.importers import BadRow
from tl_jax.data.importers.rows import numbers_lines
from tl_jax.data.importers.schemas import repair_counts
from tl_jax.data.mae.labels import LabelCounts
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import DataError

SIDES = ("train", "validation")
_MOST_LISTED, _OTHERS = 100, "(others)"
_REASONS_SHOWN = 5


def _counter() -> Any:
    return dataclasses.field(default_factory=Counter)


@dataclasses.dataclass
class SourceStatistics:
    """Counts of one source; sums are over what is written, copies included.

    Attributes:
      rows: Rows read, bad ones included.
      bad: Rows that cannot be used.
      not_drawn: Trajectories left out because the weight of the source is below 1.
      removed: Trajectories removed, by check.
      trajectories: Trajectories used, by side; copies count once.
      examples: Examples written, by side.
      tokens: Their tokens, by side.
      trained_tokens: Those with a weight, by side.
      first: Where each reason of a bad row was first met, in words.
      unread: Keys that nothing read, by path, over all rows that could be read.
      repairs: Repairs made to read them, by kind.
      turn_weights: Assistant turns that the source gives another weight than 1, by weight.
      calls_without_tools: Calls in rows that offer no tools at all, by the tool called.
      without_tools: Those rows.
      with_calls: All rows with calls.
    """

    rows: int = 0
    bad: Counter[str] = _counter()
    not_drawn: int = 0
    removed: Counter[str] = _counter()
    trajectories: Counter[str] = _counter()
    examples: Counter[str] = _counter()
    tokens: Counter[str] = _counter()
    trained_tokens: Counter[str] = _counter()
    first: dict[str, str] = dataclasses.field(default_factory=dict)
    unread: Counter[str] = _counter()
    repairs: Counter[str] = _counter()
    turn_weights: Counter[str] = _counter()
    calls_without_tools: Counter[str] = _counter()
    without_tools: int = 0
    with_calls: int = 0

    def add_read(self, row: Trajectory | BadRow) -> None:
        """Count a row, and what of it was read by nothing or repaired."""
        self.rows += 1
        self.unread.update(row.unread)
        if isinstance(row, BadRow):
            self.add_bad(row)
            return
        self.repairs.update(row.repairs)
        turns = [message for message in row.messages if message.role == "assistant"]
        self.turn_weights.update(f"{turn.weight:g}" for turn in turns if turn.weight != 1)
        called = [call.name for turn in turns for call in turn.calls]
        self.with_calls += bool(called)
        if called and not row.tools:
            self.without_tools += 1
            self.calls_without_tools.update(called)

    def add_bad(self, row: BadRow) -> None:
        """Count a row that cannot be used."""
        self.bad[row.reason] += 1
        unit = "line" if numbers_lines(row.path) else "row"
        self.first.setdefault(row.reason, f"{unit} {row.line + 1} of {row.path}")

    def check(self, name: str, max_bad_fraction: float, max_without_tools: float) -> None:
        """Stop if too many rows are bad, or call tools that they do not offer.

        Raises:
          DataError: More than ``max_bad_fraction`` of the rows, or of those with calls more than
            ``max_without_tools``; the message sums up why.
        """
        self._check_bad(name, max_bad_fraction)
        if self.without_tools > max_without_tools * self.with_calls:
            called = ", ".join(
                f"{tool} ({number})" for tool, number in self.calls_without_tools.most_common(5)
            )
            raise DataError(
                f"{self.without_tools} of {self.with_calls} rows of {name} with calls offer no "
                f"tools, more than data.max_without_tools={max_without_tools} allows; they call "
                f"{called}. Put the tools under 'tools' in every row, or in a file and set "
                "data.tools_path; to train calls without them, set data.max_without_tools=1"
            )

    def _check_bad(self, name: str, max_bad_fraction: float) -> None:
        if self.bad.total() <= max_bad_fraction * self.rows:
            return
        raise DataError(
            f"{self.bad.total()} of {self.rows} rows of {name} cannot be used, more than "
            f"data.max_bad_fraction={max_bad_fraction} allows; repair them or raise it:"
            f"{self.reasons(name)}"
        )

    def reasons(self, name: str) -> str:
        """Return a line for each of the most frequent reasons of bad rows of a source."""
        return "".join(
            f"\n  {number} x {reason} (first at {self.first[reason].removesuffix(f' of {name}')})"
            for reason, number in self.bad.most_common(_REASONS_SHOWN)
        )

    def report(self) -> dict[str, Any]:
        """Return the counts as a JSON-ready dict."""
        both = ("trajectories", "examples", "tokens", "trained_tokens")
        return {
            "rows": self.rows,
            "bad_rows": self.bad.total(),
            **({"not_drawn": self.not_drawn} if self.not_drawn else {}),
            **({"removed": dict(self.removed.most_common())} if self.removed else {}),
            **{name: _by_side(getattr(self, name)) for name in both},
            **({"unread_keys": _most_common(self.unread)} if self.unread else {}),
            **({"repairs": _most_common(self.repairs)} if self.repairs else {}),
            **({"turn_weights": _most_common(self.turn_weights)} if self.turn_weights else {}),
            **(
                {"calls_without_tools": _most_common(self.calls_without_tools)}
                if self.without_tools
                else {}
            ),
        }


@dataclasses.dataclass
class Statistics:
    """Counts of a whole data set, and of each source by name."""

    sources: dict[str, SourceStatistics] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(SourceStatistics)
    )
    labels: LabelCounts = dataclasses.field(default_factory=LabelCounts)
    prompts: Counter[str] = _counter()
    key_tokens: Counter[str] = _counter()
    skipped: Counter[str] = _counter()
    repairs: Counter[str] = _counter()
    contamination: Counter[str] = _counter()
    checked_against: Sequence[dict[str, Any]] = ()
    pairs: Counter[str] = _counter()
    shortened: Counter[str] = _counter()
    left_out: Counter[str] = _counter()
    samples_apart: int = 0

    def add_example(self, example: Example, source: str, side: str, copies: int) -> None:
        """Count an example that is written ``copies`` times."""
        counts = self.sources[source]
        counts.examples[side] += copies
        counts.tokens[side] += copies * len(example.ids)
        trained = len(example.weights) - example.weights.count(0)
        counts.trained_tokens[side] += copies * trained
        for keys in example.tags["key_tokens"].split(","):
            self.key_tokens[keys] += copies
        elided, dropped = (int(example.tags.get(tag, 0)) for tag in (ELIDED_TAG, DROPPED_TAG))
        self.shortened["samples"] += copies * bool(elided or dropped)
        self.shortened["feedbacks_elided"] += copies * elided
        self.shortened["messages_dropped"] += copies * dropped

    def add_skipped(self, skipped: Sequence[Skipped]) -> None:
        """Count turns that are kept by their verdict and yet in no example."""
        self.skipped.update(entry.reason for entry in skipped)

    def add_repairs(self, trajectory: Trajectory) -> None:
        """Count what its importer had to repair in the tool list."""
        self.repairs += repair_counts(trajectory.tags)

    def check(self, max_bad_fraction: float, max_without_tools: float) -> None:
        """Stop if a source has too many bad rows or no tools, or nothing is left to train on.

        Raises:
          DataError: With the counts that tell why.
        """
        for name, counts in self.sources.items():
            counts.check(name, max_bad_fraction, max_without_tools)
        if self.bad_rows and self.bad_rows == self._rows():
            reasons = "".join(counts.reasons(name) for name, counts in self.sources.items())
            raise DataError(f"none of the {self.bad_rows} rows can be used:{reasons}")
        if not self._sum("examples")["train"]:
            raise DataError(
                f"nothing to train on: {self._rows()} rows, {self.bad_rows} cannot be used, "
                f"removed {dict(self._sum('removed'))}, "
                f"turns by verdict {dict(self.labels.verdicts)}, "
                f"turns skipped {dict(self.skipped)}{self._contamination_hint()}"
            )

    @property
    def bad_rows(self) -> int:
        """Rows of all sources that cannot be used."""
        return sum(counts.bad.total() for counts in self.sources.values())

    def report(self) -> dict[str, Any]:
        """Return the counts as a JSON-ready dict."""
        tokens, trained = self._sum("tokens"), self._sum("trained_tokens")
        removed = self._sum("removed")
        return {
            "rows": self._rows(),
            "bad_rows": self.bad_rows,
            **({"removed": dict(removed.most_common())} if removed else {}),
            "trajectories": _by_side(self._sum("trajectories")),
            "examples": _by_side(self._sum("examples")),
            "prompts": _by_side(self.prompts),
            "tokens": _by_side(tokens),
            "trained_tokens": _by_side(trained),
            "trained_token_share": {
                side: round(trained[side] / tokens[side], 4) if tokens[side] else 0.0
                for side in SIDES
            },
            **self.labels.report(),
            "repair_pairs": dict(self.pairs.most_common()),
            "key_tokens_per_reply": dict(sorted(self.key_tokens.items())),
            "samples_shortened": self.shortened["samples"],
            "feedbacks_elided": self.shortened["feedbacks_elided"],
            "messages_dropped": self.shortened["messages_dropped"],
            "samples_apart": self.samples_apart,
            "turns_skipped": dict(self.skipped.most_common()),
            "left_out_of_turns": dict(self.left_out.most_common()),
            "unread_keys": _most_common(self._sum("unread")),
            "repairs": _most_common(self._sum("repairs")),
            "turn_weights": _most_common(self._sum("turn_weights")),
            "calls_without_tools": _most_common(self._sum("calls_without_tools")),
            "schema_repairs": dict(self.repairs.most_common()),
            "contamination": dict(self.contamination.most_common()),
            "checked_against": list(self.checked_against),
            "sources": {name: counts.report() for name, counts in self.sources.items()},
        }

    def _contamination_hint(self) -> str:
        if not self.contamination:
            return ""
        return (
            f"; overlaps with evaluation sets {dict(self.contamination.most_common())}: choose "
            "data.contamination_checks (training on the tools of a set may be what you want)"
        )

    def _rows(self) -> int:
        return sum(counts.rows for counts in self.sources.values())

    def _sum(self, name: str) -> Counter[str]:
        return sum((getattr(counts, name) for counts in self.sources.values()), Counter())


def _most_common(counts: Counter[str]) -> dict[str, int]:
    """Return the most frequent counts by falling number, and the sum of the others."""
    # Equal counts in the order of their names: whoever read which rows, the report is the same.
    found = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    rest = sum(number for _, number in found[_MOST_LISTED:])
    return dict(found[:_MOST_LISTED]) | ({_OTHERS: rest} if rest else {})


def _by_side(counts: Counter[str]) -> dict[str, int]:
    return {side: counts[side] for side in SIDES}
