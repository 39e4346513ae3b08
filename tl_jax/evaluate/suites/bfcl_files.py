"""The files of BFCL: questions by category, their answers beside them, and which version it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tl_jax.errors import DataError, RowError
from tl_jax.evaluate.suites.json_lines import json_objects

PACKAGE = "2026.3.23"
"""The version of bfcl-eval whose data are known by their digests."""

_NAME = re.compile(r"BFCL_v\d+_(\w+)\.jsonl?(?:\.gz)?")
_ID = re.compile(r"(.+?)_\d+(?:-\d+-\d+)?")
_OLD_NAMES = {
    "simple": "simple_python",
    "java": "simple_java",
    "javascript": "simple_javascript",
}
"""Names of version 3."""
_FOLDERS = ("", "data", "bfcl_eval/data", "question", "unused_datasets/question")


@dataclasses.dataclass(frozen=True)
class BfclRow:
    """One row of a question file.

    Attributes:
      place: File and line, as messages name it.
      category: Such as ``"live_multiple"``, in the words of version 4.
      row: The row, its ``ground_truth`` joined in where there is one.
    """

    place: str
    category: str
    row: Mapping[str, Any]


def read_rows(path: str, categories: Collection[str]) -> list[BfclRow]:
    """Read the rows of some categories.

    Args:
      path: A question file such as ``BFCL_v4_multiple.json``, whose answers lie in the folder
        ``possible_answer`` beside it or beside its folder; the folder ``data`` of bfcl-eval; or
        JSON lines, plain or gzip, with ``category`` and ``ground_truth`` in each row.
      categories: Those that are wanted.

    Raises:
      DataError: There is no such file, or no row of these categories in it.
      RowError: A row that is no object with an id; the message names file and line.
    """
    found: list[BfclRow] = []
    others: Counter[str] = Counter()
    for file in _question_files(path, categories):
        answers: dict[str, Any] | None = None
        for place, row in json_rows(file):
            category = _category(file, place, row)
            if category not in categories:
                others[category] += 1
                continue
            if "ground_truth" not in row:
                answers = _answers(file) if answers is None else answers
                if row["id"] in answers:
                    row = {**row, "ground_truth": answers[row["id"]]}
            found.append(BfclRow(place, category, row))
    if not found:
        held = ", ".join(f"{count} of {name!r}" for name, count in others.items())
        if not held:
            held = "no rows" if Path(path).is_file() else "no file with a name of BFCL's"
        raise DataError(
            f"{path}: no BFCL items of {', '.join(categories)} (it holds {held}); take the folder "
            "data of bfcl-eval, or one of its files BFCL_v4_CATEGORY.json with possible_answer "
            "beside it"
        )
    return found


def data_version(path: str, categories: Collection[str]) -> str:
    """Return what identifies the data: a digest of the rows, and the package that has them.

    Rows are the same data whatever file they stand in; see ``read_rows``.
    """
    members: dict[str, list[str]] = {}
    for entry in read_rows(path, categories):
        kept = {key: entry.row.get(key) for key in ("id", "question", "function", "ground_truth")}
        members.setdefault(entry.category, []).append(json.dumps(kept, sort_keys=True))
    digests = {name: _digest(sorted(lines)) for name, lines in members.items()}
    package = _package(path)
    if not package and all(DIGESTS.get(name) == digest for name, digest in digests.items()):
        package = PACKAGE
    whole = _digest([f"{name} {digests[name]}" for name in sorted(digests)])
    return f"sha256 {whole}, " + (f"bfcl-eval {package}" if package else "of no known package")


def json_rows(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of JSON lines that have an id, each with its place in the file.

    Raises:
      DataError: There is no such file, or it is damaged.
      RowError: A line that is no JSON object with a text as ``id``.
    """
    for place, row in json_objects(path):
        if not isinstance(row.get("id"), str):
            raise RowError(f"{place}: no object with a text as 'id'; it is no item of BFCL")
        yield place, row


def _question_files(path: str, categories: Collection[str]) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    files = [file for folder in _FOLDERS for file in sorted(Path(path, folder).glob("BFCL_v*"))]
    named = [(file, _NAME.fullmatch(file.name)) for file in files]
    # Other files of the folder need not even be rows.
    return [
        str(file)
        for file, match in named
        if match is not None and _OLD_NAMES.get(match[1], match[1]) in categories
    ]


def _category(file: str, place: str, row: Mapping[str, Any]) -> str:
    name = row.get("category")
    if not isinstance(name, str):
        of_file = _NAME.fullmatch(os.path.basename(file))
        of_id = _ID.fullmatch(row["id"])
        match = of_file or of_id
        if match is None:
            raise RowError(f"{place}: nothing says the category; call the file BFCL_v4_CATEGORY")
        name = match[1]
    return _OLD_NAMES.get(name, name)


def _answers(file: str) -> dict[str, Any]:
    folder, name = os.path.split(file)
    for beside in ("possible_answer", "../possible_answer"):
        path = os.path.join(folder, beside, name)
        if os.path.isfile(path):
            return {row["id"]: row.get("ground_truth") for _, row in json_rows(path)}
    return {}


def _package(path: str) -> str:
    """Return the version of the installed package that a path lies in, or an empty text."""
    for folder in Path(path).resolve().parents[:4]:
        for info in folder.glob("bfcl_eval-*.dist-info"):
            return info.name.removeprefix("bfcl_eval-").removesuffix(".dist-info")
    return ""


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]


DIGESTS: Mapping[str, str] = {
    "simple_python": "2cb93a3cd3e437cd",
    "multiple": "cb6a9200da070e56",
    "parallel": "5162ccfb0175caf5",
    "parallel_multiple": "5505bf08ba176829",
    "live_simple": "359ff6f2dc9ec36a",
    "live_multiple": "d4e9ebad73cf2e0b",
    "live_parallel": "37cdc1b9143c75cd",
    "live_parallel_multiple": "a34c2880a6675ebc",
    "irrelevance": "d873c8f2e33c2c6a",
    "live_irrelevance": "1e45975f46a552bb",
    "live_relevance": "270a293e19c264f3",
    "exec_simple": "85c08f9237e95865",
    "exec_multiple": "e178b983be3f240e",
    "exec_parallel": "9d76215f5e5b1e4b",
    "exec_parallel_multiple": "8a51f07d768609be",
    "multi_turn_base": "ab27ad1e3dee52f7",
    "multi_turn_miss_func": "8a3b537694517772",
    "multi_turn_miss_param": "7d696fb573ed158e",
    "multi_turn_long_context": "76e3235149c52f26",
}
"""Digest of every category as ``PACKAGE`` has it."""
