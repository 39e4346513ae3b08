"""How well the feedback rules agree with 300 feedbacks that were read and labelled by hand.

``mae_labels.jsonl`` names each feedback by file, line and message with the start of its sha256,
and never holds its text. ``label`` is ``error`` (the call failed), ``nothing_found`` (a sound call
without a result) or ``ok``; ``rule`` says why, decided in this order:

- ``unknown_tool``, ``unknown_parameter``, ``missing_parameter``: the call contradicts its manual.
- ``no_call``: the reply held nothing that could be run.
- ``service``: the tool, its server, the network or a right of access failed, not the call.
- ``nothing_matched``: a search or a query by properties came back empty, also where the text calls
  this an error; a single thing named by its id and not there is a ``refused_value``.
- ``refused_value``: a value is refused, or does not fit the present state; a command fails.
- ``declined``: a sound call is answered with no (booked out, a test that did not pass).
- ``result``: anything else.

Two thirds (``development``) were seen while the rules were written. The other third was labelled
after the rules were done; the rules had then precision 1.000 and recall 0.955 on it (42 of 44
errors found) and were not changed for it.
"""

import gzip
import hashlib
import json
import os
import pathlib

import pytest

from tl_jax.data.mae.feedback import classify_feedback

LABELS = pathlib.Path(__file__).with_name("mae_labels.jsonl")


def part(row):
    """``held_back`` for a third, by the text's hash alone."""
    return "development" if int(row["sha256"][:8], 16) % 3 else "held_back"


def joined(content):
    """Text of a message content that may be a list of pieces."""
    if isinstance(content, list):
        return "".join(p.get("content") or p.get("text") or "" for p in content)
    return content or ""


def calls_by_id(messages):
    return {
        call.get("id"): call.get("name") or call["function"]["name"]
        for message in messages
        for call in message.get("tool_calls") or ()
    }


def read_rotllama(row, index):
    turns = row["conversations"]
    return turns[index]["value"], turns[index - 1]["value"].rpartition("Action:")[2].split("\n")[0]


def read_agentdojo(row, index):
    message = row["messages"][index]
    text = joined(message["content"]) or message.get("error") or ""
    return text, (message.get("tool_call") or {}).get("function", "")


def read_tau_bench(row, index):
    return row["traj"][index]["content"], row["traj"][index].get("name", "")


def read_tau2_bench(row, index):
    messages = row["simulation"]["messages"]
    return joined(messages[index]["content"]), calls_by_id(messages).get(messages[index]["id"], "")


def read_livemcpbench(row, index):
    message = row["messages"][index]
    return joined(message["content"]), calls_by_id(row["messages"]).get(message["tool_call_id"], "")


def read_toolbench(row, index):
    message = row["train_messages"][-1][index]
    return message["content"], message["name"]


def read_star(row, index):
    queries = [e for e in row["Events"][:index] if e.get("Action") == "query"]
    return json.dumps(row["Events"][index]["Item"], ensure_ascii=False), queries[-1]["APIName"]


def read_intercode(row, index):
    found = row["turn_history"]["observations"][index]
    return found if isinstance(found, str) else json.dumps(found), row["environment"]


READERS = {
    "rotllama_gpt4": read_rotllama,
    "agentdojo": read_agentdojo,
    "tau_bench": read_tau_bench,
    "tau2_bench": read_tau2_bench,
    "livemcpbench": read_livemcpbench,
    "toolbench_examples": read_toolbench,
    "star": read_star,
    "intercode": read_intercode,
}


@pytest.fixture(scope="module")
def labels():
    return [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def labelled(labels):
    """The labels with the feedback's text and the name of the called tool."""
    folder = os.environ.get("TL_JAX_DATA")
    if not folder:
        pytest.skip("TL_JAX_DATA is not set")
    wanted = {}
    for row in labels:
        wanted.setdefault(row["file"], {}).setdefault(row["line"], []).append(row)
    found = []
    for file, lines in wanted.items():
        with gzip.open(pathlib.Path(folder) / file, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream):
                for row in lines.get(number, ()):
                    text, tool = READERS[file.split("/")[0]](json.loads(line), row["message"])
                    assert hashlib.sha256(text.encode()).hexdigest().startswith(row["sha256"])
                    found.append({**row, "text": text, "tool": tool.strip()})
    assert len(found) == len(labels)
    return found


def scores(rows, mode):
    """Precision and recall of finding errors, and the share of right three-way verdicts."""
    right = wrong = missed = same = 0
    for row in rows:
        status = classify_feedback(row["text"], mode=mode, tool=row["tool"])
        error = row["label"] == "error"
        right += status.is_error and error
        wrong += status.is_error and not error
        missed += error and not status.is_error
        verdict = "ok" if status.category == "all_right" else status.category
        same += ("error" if status.is_error else verdict) == row["label"]
    return right / (right + wrong), right / (right + missed), same / len(rows)


def test_labels_are_many_stratified_and_without_texts(labels):
    assert len(labels) == 300 == len({row["sha256"] for row in labels})
    assert len({row["file"] for row in labels}) == 8
    for name, least in (("error", 100), ("nothing_found", 25), ("ok", 100)):
        assert sum(row["label"] == name for row in labels) >= least
    assert {part(row) for row in labels} == {"development", "held_back"}
    assert 0.6 < sum(part(row) == "development" for row in labels) / 300 < 0.7
    assert all(max(len(str(value)) for value in row.values()) < 50 for row in labels)


@pytest.mark.parametrize(
    ("mode", "which", "least"),
    [
        ("structured", "development", (0.97, 0.97, 0.95)),
        ("structured", "held_back", (0.95, 0.95, 0.92)),
        ("reference", "development", (0.70, 0.80, 0.70)),
        ("reference", "held_back", (0.70, 0.75, 0.65)),
    ],
)
def test_agreement_with_the_labels(labelled, mode, which, least, record_property):
    rows = [row for row in labelled if part(row) == which]
    found = scores(rows, mode)
    named = dict(zip(("precision", "recall", "three_way"), found, strict=True))
    print(
        f"\n{mode:10} {which:11} {len(rows)} feedbacks", *(f"{k} {v:.3f}" for k, v in named.items())
    )
    for name, value in named.items():
        record_property(f"{mode}/{which}/{name}", round(value, 4))
    assert all(value >= bound for value, bound in zip(found, least, strict=True)), named


def test_structured_rules_beat_the_published_ones_on_texts_not_tuned_for(labelled):
    rows = [row for row in labelled if part(row) == "held_back"]
    structured, reference = scores(rows, "structured"), scores(rows, "reference")
    assert all(a > b for a, b in zip(structured, reference, strict=True))
