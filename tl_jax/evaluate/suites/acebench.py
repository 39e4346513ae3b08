"""ACEBench, English: the 973 items that are judged offline by rules, of 1,023.

The normal items (823) ask for calls, the special ones (150) for fixed words about what is missing,
wrong or impossible. The agent items (50) need a model as the user and services that run; they are
15.45 % of the overall score and are not scored here.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.data.trajectory import Message
from tl_jax.errors import DataError, RowError
from tl_jax.evaluate.intervals import Share
from tl_jax.evaluate.suites.acebench_checker import fault_of_calls, tool_of_answer
from tl_jax.evaluate.suites.bfcl import read_list, share_of, tools_of
from tl_jax.evaluate.suites.json_lines import json_objects
from tl_jax.evaluate.suites.suite import (
    Answers,
    Item,
    Read,
    Reader,
    Suite,
    Verdict,
    Writer,
    judge_calls,
)
from tl_jax.rewards.taxonomy import ALL_RIGHT, FORMAT_ERROR

MULTI_TURN = ("normal_multi_turn_user_adjust", "normal_multi_turn_user_switch")
NORMAL = (
    "normal_single_turn_single_function",
    "normal_single_turn_parallel_function",
    *MULTI_TURN,
    "normal_similar_api",
    "normal_preference",
    *(
        f"normal_atom_{kind}"
        for kind in ("bool", "enum", "number", "list", "object_deep", "object_short")
    ),
)
INCOMPLETE, WRONG_VALUE, IRRELEVANT = (
    "special_incomplete",
    "special_error_param",
    "special_irrelevant",
)
SPECIAL = (INCOMPLETE, WRONG_VALUE, IRRELEVANT)
CATEGORIES = (*NORMAL, *SPECIAL)
WEIGHTS = {"normal": 0.578, "special": 0.2676}
"""Of the overall score, whose rest are the agent items."""

PHRASES = {
    INCOMPLETE: "Missing necessary parameters",
    WRONG_VALUE: "There is incorrect value",
    IRRELEVANT: "the limitations of the function",
}
"""What a reply to a special item must hold, beside the names or values it is about."""
INSTRUCTIONS = (
    "If the request leaves out parameters that a tool requires, call nothing and reply: Missing "
    "necessary parameters (NAMES) for the api (TOOL). If the request gives a parameter a value "
    "that its description does not allow, call nothing and reply: There is incorrect value "
    "(VALUE) for the parameters (NAME) in the conversation history. If no tool can do what is "
    "asked, reply: Due to the limitations of the function, I cannot solve this problem."
)

_FILE = re.compile(r"data_(\w+)\.jsonl?(?:\.gz)?")
_ID = re.compile(r"(.+?)_\d+(?:_\d+)?")
_FOLDERS = ("", "data_en", "data_all/data_en")
_SPEAKER = re.compile(r"^(user|system):[ \t]*", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Gold:
    """What is right for one item.

    Attributes:
      truth: As the answer file has it: of a normal item the accepted answers, arguments by tool.
      functions: The offered functions as ACEBench declares them.
      calls: The accepted answers as calls.
    """

    truth: Any
    functions: tuple[Mapping[str, Any], ...]
    calls: Answers = ()


def read_items(path: str) -> list[Item]:
    """Read the items that are scored.

    Args:
      path: The repository of ACEBench, its folder ``data_all/data_en``, or one file such as
        ``data_normal_atom_bool.json``; the answers lie in ``possible_answer`` beside the file.

    Raises:
      DataError: No such file, or no such item in it.
      RowError: A row that is no item, or has no answer; the message names file and line.
    """
    items = [_item(place, category, row) for place, category, row in _rows(path)]
    if not items:
        raise DataError(
            f"{path}: no ACEBench items that are scored offline; take the folder "
            "data_all/data_en of ACEBench, or a file data_normal_... or data_special_... of it "
            "with possible_answer beside it"
        )
    return items


def judge(item: Item, reply: str, read: Reader) -> Verdict:
    """Judge a reply by ACEBench's rules; of calls also TS, PI and CF, which compare all values."""
    category = item.tags["category"]
    if category in SPECIAL:
        fault = _fault_of_words(category, item.gold.truth, reply)
        return Verdict({category: not fault}, fault or ALL_RIGHT)
    gold: Gold = item.gold
    reading = read_list if category in MULTI_TURN else _read_reply
    read = functools.partial(reading, read=read)
    levels = judge_calls(dataclasses.replace(item, gold=gold.calls), reply, read)
    calls = read(reply).calls
    if not calls:
        return Verdict({category: False, **levels.scores}, FORMAT_ERROR, levels.detail)
    faults = [fault_of_calls(calls, answer, gold.functions) for answer in gold.truth]
    right = not all(faults)
    return Verdict(
        {category: right, **levels.scores},
        levels.category,
        levels.detail if right else f"{faults[0]}; {levels.detail}".strip("; "),
    )


def write_gold(item: Item, write: Writer) -> str:
    """Return a reply that is right; the rules refuse it for 2 of the 823 normal items."""
    category, truth = item.tags["category"], item.gold.truth
    if category == INCOMPLETE:
        ((name, parameters),) = truth.items()
        return f"Missing necessary parameters ({', '.join(parameters)}) for the api ({name})"
    if category == WRONG_VALUE:
        values = ", ".join(value for values in truth.values() for value in values)
        return (
            f"There is incorrect value ({values}) for the parameters ({', '.join(truth)}) in the "
            "conversation history."
        )
    if category == IRRELEVANT:
        return "Due to the limitations of the function, I cannot solve this problem."
    return write(item.gold.calls[0])


def summary(items: Sequence[Item], verdicts: Sequence[Verdict]) -> dict[str, Share | float]:
    """Return the shares of the categories and the means that ACEBench makes of them.

    Returns:
      By category the share of right items; where an item is one turn of a dialogue, that of
      dialogues all of whose turns are right, and that of the turns as ``CATEGORY/turns``;
      ``normal`` and ``special`` the means of their categories; ``offline`` both by the weights of
      the overall score, without the agent items; ``ts``, ``pi`` and ``cf`` of the normal items.
    """
    found = share_of(verdicts)
    for category in MULTI_TURN:
        if category in found:
            right: dict[str, bool] = {}
            for item, verdict in zip(items, verdicts, strict=True):
                if item.tags["category"] == category:
                    dialogue = item.id.rsplit("_", 1)[0]
                    right[dialogue] = right.get(dialogue, True) and verdict.scores[category]
            found[f"{category}/turns"] = found[category]
            found[category] = Share(sum(right.values()), len(right))
    for name, members in (("normal", NORMAL), ("special", SPECIAL)):
        parts = [found[member] for member in members if member in found]
        if len(parts) == len(members):
            found[name] = sum(_percent(part) for part in parts) / len(parts)
    if all(name in found for name in WEIGHTS):
        total = sum(weight * _percent(found[name]) for name, weight in WEIGHTS.items())
        found["offline"] = total / sum(WEIGHTS.values())
    return found


def version(path: str) -> str:
    """Return a digest of the items and answers that are scored."""
    lines = sorted(json.dumps(row, sort_keys=True) for _, _, row in _rows(path))
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass"))
    return f"sha256 {digest.hexdigest()[:16]}"


def _percent(score: Share | float) -> float:
    return score.percent if isinstance(score, Share) else score


def _fault_of_words(category: str, truth: Any, reply: str) -> str:
    if PHRASES[category] not in reply:
        return "not_detected"
    if category == INCOMPLETE:
        needed = [text for name, parameters in truth.items() for text in (name, *parameters)]
    elif category == WRONG_VALUE:
        needed = [text for values in truth.values() for text in values]
    else:
        needed = []
    return "" if all(text in reply for text in needed) else "not_named"


def _read_reply(reply: str, read: Reader) -> Read:
    """Read a reply as ACEBench does those of one turn: words may stand round the first brackets."""
    found = read(reply)
    if found.calls:
        return found
    depth, start = 0, reply.find("[")
    if start < 0:
        return found
    for at in range(start, len(reply)):
        depth += {"[": 1, "]": -1}.get(reply[at], 0)
        if not depth:
            again = read_list(reply[start : at + 1], read)
            return again if again.calls else found
    return found


def _rows(path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield place, category and row, its answer joined in, of all items that are scored."""
    files = [path]
    if os.path.isdir(path):
        named = [file for folder in _FOLDERS for file in sorted(Path(path, folder).glob("data_*"))]
        files = [
            str(file) for file in named if (m := _FILE.fullmatch(file.name)) and m[1] in CATEGORIES
        ]
    for file in files:
        folder, name = os.path.split(file)
        answers_file = os.path.join(folder, "possible_answer", name)
        answers: dict[str, Any] = {}
        if os.path.isfile(answers_file):
            answers = {
                r["id"]: r["ground_truth"] for _, r in json_objects(answers_file) if "id" in r
            }
        for place, row in json_objects(file):
            match = _FILE.fullmatch(name) or _ID.fullmatch(str(row.get("id", "")))
            category = row.get("category") or (match[1] if match else "")
            if category in CATEGORIES:
                yield place, category, {"ground_truth": answers.get(row.get("id", "")), **row}


def _item(place: str, category: str, row: Mapping[str, Any]) -> Item:
    try:
        tools = tools_of(row["function"])
        truth = row["ground_truth"]
        if truth is None:
            raise ValueError("no answer in possible_answer beside the file")
        calls: Answers = ()
        if category in NORMAL:
            truth = tuple(truth) if isinstance(truth, list) else (truth,)
            calls = tuple(_calls(answer, row["function"]) for answer in truth)
        return Item(
            id=row["id"],
            tools=tools,
            messages=_messages(category, row),
            gold=Gold(truth, tuple(row["function"]), calls),
            tags={"category": category},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RowError(
            f"{place}: no ACEBench item of {category} ({error!r}); expected a question, functions "
            "and an answer"
        ) from error


def _calls(
    answer: Mapping[str, Mapping[str, Any]], functions: Sequence[Mapping[str, Any]]
) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(tool_of_answer(name, functions), dict(arguments))
        for name, arguments in answer.items()
    )


def _messages(category: str, row: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the dialogue; the assistant's turns are called ``system`` there."""
    parts = _SPEAKER.split(row["question"])
    turns = [
        Message("user" if speaker == "user" else "assistant", text.strip())
        for speaker, text in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if parts[0].strip() or not turns or turns[-1].role != "user":
        raise ValueError("the question is no dialogue that ends with 'user: ...'")
    facts = [str(row.get("time") or "").strip(), str(row.get("profile") or "").strip()]
    system = "\n\n".join(filter(None, [*facts, INSTRUCTIONS if category in SPECIAL else ""]))
    return (*((Message("system", system),) if system else ()), *turns)


SUITE = Suite(
    name="acebench",
    read=read_items,
    judge=judge,
    oracle=write_gold,
    summary=summary,
    version=version,
    note=(
        "English, without the 50 agent items (15.45 % of the overall score), which need services "
        "that run. The rules of the categories compare no numbers or booleans and let other things "
        "pass; ts, pi and cf compare all values of the normal items. The rules refuse the gold "
        "answers of 2 normal items. In dialogues the released evaluator first drops all blanks of "
        "a reply, those of its values, too, by which 27 right answers fail there; here they do not."
    ),
)
