"""Feedback rules and the choice of trained turns."""

import dataclasses
import json
import time

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.data.importers import read
from tl_jax.data.mae import LabelCounts, classify_feedback, label_turns, sample_id
from tl_jax.data.schema import Message
from tl_jax.data.templates import render_sample, render_tools


def call(name, **arguments):
    """An assistant turn with one call."""
    return Message("assistant", "", (ToolCall(name, arguments),))


# Text, is it an error, category.
STRUCTURED = [
    ("name 'find' is not defined", True, "tool_hallucination"),
    ("Unknown tool find_advice", True, "tool_hallucination"),
    ("f() got an unexpected keyword argument 'q'", True, "parameter_hallucination"),
    ("f() missing 1 required positional argument: 'x'", True, "parameter_missing"),
    ('{"error": "name and type can not both be None."}', True, "parameter_missing"),
    ('{"code": 422, "error": "Not a valid argument for \'size\'"}', True, "content_filling"),
    ("400 Client Error: Bad Request for url: x", True, "content_filling"),
    ("500 Internal Server", True, "service"),
    ('{"message": "Unauthorized"}', True, "service"),
    ('{"detail": "Slow down", "status": 429}', True, "service"),
    ("HTTPSConnectionPool(host='x'): Max retries exceeded with url: /", True, "service"),
    ("requests.exceptions.ConnectionError: x", True, "service"),
    ("{'errors': [{'detail': 'Invalid CIDR format.', 'status': 400}]}", True, "content_filling"),
    ('{"success": false, "message": "Reserved range"}', True, "unknown"),
    ('{"errors": [{"code": "X", "detail": "Invalid date', True, "content_filling"),
    ("'related_searches'", True, "service"),
    ("terror attack", False, "all_right"),
    ('{"slip": "A reign of terror ended"}', False, "all_right"),
    ('{"errors": []}', False, "all_right"),
    ('{"error": null}', False, "all_right"),
    ('{"error": "", "errors": {}, "data": [1]}', False, "all_right"),
    ('{"status": {"error_code": 0, "error_message": null}, "data": {"a": 1}}', False, "all_right"),
    ("{'status': 'ok', 'errors': []}", False, "all_right"),
    ('{"title": "How I fixed a TypeError: a story", "id": 404}', False, "all_right"),
    ('{"get": "seasons", "errors": [], "response": [2012, 20', False, "all_right"),
    ("mirror", False, "all_right"),
    ("", False, "all_right"),
    ("No errors found", False, "nothing_found"),
    ('{"error": "No activity found with the specified parameters"}', False, "nothing_found"),
    ('{"error": {"code": 404, "message": "No matching location found."}}', False, "nothing_found"),
    ("[]", False, "nothing_found"),
]


@pytest.mark.parametrize(("text", "is_error", "category"), STRUCTURED)
def test_structured_rules_tell_errors_from_results(text, is_error, category):
    status = classify_feedback(text, mode="structured")
    assert (status.is_error, status.category) == (is_error, category)
    assert status.reason


def test_reference_rule_fires_on_the_letters_of_error():
    assert classify_feedback("terror attack", mode="reference").is_error
    assert classify_feedback("No err or", mode="reference").is_error
    assert not classify_feedback("Invalid parameter", mode="reference").is_error


def test_reference_reason_names_the_narrowest_phrase():
    status = classify_feedback("400 Client Error: x", mode="reference")
    assert status.reason == "400 Client Error"


def test_unknown_modes_are_refused(trajectory):
    with pytest.raises(ValueError, match="reference, structured"):
        classify_feedback("x", mode="fuzzy")
    with pytest.raises(ValueError, match="off, reference, structured"):
        label_turns(trajectory, "fuzzy")


MCP = "meta=None content=[TextContent(type='text', text='"


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        "[" * 19_000,
        "{" + "-" * 19_000 + "1}",
        "{'a': " + "(" * 9_000 + "}",
        "no " * 160_000,
        "'" + "a " * 250_000,
        "\n" * 500_000,
        "a: " * 160_000,
        "error " * 80_000,
        "meta=" * 100_000,
        MCP + "', annotations=] structuredContent=" * 14_000 + " isError=False",
        MCP + "[" * 19_000 + "', annotations=None)] isError=False",
        '{"response": "' + "[" * 9_000 + '"}',
        "field " * 80_000 + "required",
        "line 1: " * 60_000,
    ],
)
def test_hostile_feedback_is_judged_quickly(text):
    begin = time.perf_counter()
    for mode in ("structured", "reference"):
        classify_feedback(text, mode=mode)
    assert time.perf_counter() - begin < 0.5


def mcp(text, failed, inner=None):
    """A Model Context Protocol result as Python writes it."""
    if inner is not None:
        content = [{"type": "text", "text": text, "annotations": None}]
        text = json.dumps({"_meta": None, "content": content, "isError": inner}, indent=2)
    piece = f"TextContent(type='text', text={text!r}, annotations=None)"
    return f"meta=None content=[{piece}] isError={failed}"


@pytest.mark.parametrize(
    ("text", "is_error", "category"),
    [
        (mcp("'path' is a required property", True), True, "parameter_missing"),
        (mcp("Error: ENOENT: no such file", False, True), True, "content_filling"),
        (mcp('{"status": "error", "message": "Package not found"}', False, False), True,
         "content_filling"),
        (mcp("it's \"quoted\" and fine", False), False, "all_right"),
        (mcp("Heading 'Errors' added", False, False), False, "all_right"),
        (mcp("[]", False, False), False, "nothing_found"),
        ('{"content": [{"type": "text", "text": "No such page"}], "isError": true}', True,
         "content_filling"),
    ],
)  # fmt: skip
def test_wrapped_results_are_judged_by_their_flag_and_then_by_their_text(text, is_error, category):
    status = classify_feedback(text, mode="structured")
    assert (status.is_error, status.category) == (is_error, category)


def verdicts(trajectory, mode):
    return [label.verdict for label in label_turns(trajectory, mode)]


def test_a_call_with_error_feedback_is_not_trained(trajectory):
    assert verdicts(trajectory, "off") == ["keep", "keep", "keep"]
    assert verdicts(trajectory, "reference") == ["error", "keep", "keep"]
    assert verdicts(trajectory, "structured") == ["error", "keep", "keep"]
    first = label_turns(trajectory, "structured")[0]
    assert (first.turn, first.message, first.category) == (1, 1, "parameter_hallucination")
    assert sample_id(trajectory, first) == "Turn 1: t1"


def test_a_question_answered_by_the_user_is_trained_only_in_structured_mode(trajectory):
    asked = dataclasses.replace(
        trajectory,
        messages=(
            Message("user", "hi"),
            call("ask_to_user", question="what?"),
            Message("user", "love"),
            call("search_advice", query="love"),
            call("search_advice", query="hate"),
            Message("tool", "[]"),
            call("finish", answer="x"),
        ),
    )
    lost = ["no_feedback", "no_feedback", "keep", "keep"]
    assert verdicts(asked, "off") == verdicts(asked, "reference") == lost
    assert verdicts(asked, "structured") == ["keep", "no_feedback", "keep", "keep"]


def test_a_status_of_the_source_overrides_the_structured_rules(trajectory):
    messages = list(trajectory.messages)
    messages[2] = dataclasses.replace(messages[2], status="ok")
    messages[4] = dataclasses.replace(messages[4], status="error")
    marked = dataclasses.replace(trajectory, messages=tuple(messages))
    assert verdicts(marked, "structured") == ["keep", "error", "keep"]
    assert verdicts(marked, "reference") == ["error", "keep", "keep"]


def test_all_feedback_of_a_turn_counts_in_structured_mode(trajectory):
    messages = list(trajectory.messages)
    messages.insert(4, Message("tool", "[1]"))
    messages[5] = Message("tool", "Traceback (most recent call last): x")
    several = dataclasses.replace(trajectory, messages=tuple(messages))
    assert verdicts(several, "structured") == ["error", "error", "keep"]
    assert verdicts(several, "reference") == ["error", "keep", "keep"]


@pytest.mark.parametrize("mode", ["off", "reference", "structured"])
def test_a_turn_without_a_sound_call_is_never_trained(trajectory, mode):
    messages = (*trajectory.messages[:-1], Message("assistant", "Action: x", status="error"))
    broken = dataclasses.replace(trajectory, messages=messages)
    assert verdicts(broken, mode)[-1] == "unparsable"


@pytest.mark.parametrize("mode", ["off", "reference", "structured", "static"])
def test_only_the_last_turn_is_trained_where_it_is_the_target(trajectory, mode):
    target = dataclasses.replace(trajectory, tags={"target": "last"})
    *before, last = label_turns(target, mode)
    assert {label.verdict for label in before} == {"context"}
    assert not any(label.kept or label.calls for label in before)
    assert last == label_turns(trajectory, mode)[-1] and last.kept


def test_counts_add_up(trajectory):
    counts = LabelCounts()
    for _ in range(2):
        counts.add(label_turns(trajectory, "structured"))
    report = counts.report()
    assert (report["turns"], report["kept"], report["trajectories_with_error"]) == (6, 4, 2)
    assert report["verdicts"] == {"keep": 4, "error": 2}
    assert report["reasons"] == {"error: exception text": 2}
    assert report["categories"] == {"parameter_hallucination": 2}


@pytest.fixture(scope="module")
def golden_mae(golden, tmp_path_factory):
    cases = golden("mae_cases.json")
    path = tmp_path_factory.mktemp("golden") / "raw.json"
    path.write_text(json.dumps(cases["input_trajectories"]))
    return cases["expected"], list(read(path))


def test_golden_feedback_decisions(golden_mae):
    expected, _ = golden_mae
    assert len(expected["feedback_is_error"]) == 19
    for case in expected["feedback_is_error"]:
        status = classify_feedback(case["text"], mode="reference")
        assert status.is_error == case["dropped"], case


@pytest.mark.parametrize(("mode", "key"), [("reference", "mae"), ("off", "plain")])
def test_golden_kept_samples(golden_mae, mode, key):
    expected, trajectories = golden_mae
    kept = [
        {"id": sample_id(trajectory, label), "n_messages": label.message + 2}
        for trajectory in trajectories
        for label in label_turns(trajectory, mode)
        if label.kept
    ]  # the tool list is a message of its own in the raw format
    assert kept == expected[key]


def test_golden_rendering_of_tools_and_calls(golden_mae):
    expected, trajectories = golden_mae
    rendered = []
    for trajectory in trajectories:
        for label in label_turns(trajectory, "reference"):
            if label.kept:
                messages = trajectory.messages[: label.message + 1]
                found = render_sample(trajectory.tools, messages, "script")
                reply = found.text[found.replies[-1].start : found.replies[-1].stop]
                content = {"role": "assistant", "content": reply[1:]}
                rendered.append({"id": sample_id(trajectory, label), "last": content})
    assert rendered == expected["all_rendered_calls"]
    first = expected["rendered_first"]["conversations"]
    assert render_tools(trajectories[0].tools, "script") == first[0]["content"]
    roles = {"system": "System", "user": "User", "assistant": "Assistant", "function": "Output"}
    whole = "\n".join(f"{roles[turn['role']]}: {turn['content']}" for turn in first)
    messages = trajectories[0].messages[: len(first) - 1]
    assert render_sample(trajectories[0].tools, messages, "script", "</s>").text == whole + "</s>"


def test_real_feedback_counts_are_of_the_published_order(rotllama):
    counts = {mode: LabelCounts() for mode in ("reference", "structured")}
    for trajectory in read(rotllama):
        for mode, found in counts.items():
            found.add(label_turns(trajectory, mode))
    reference = counts["reference"].report()
    structured = counts["structured"].report()
    assert reference["turns"] == structured["turns"] == 9875
    assert reference["verdicts"]["unparsable"] == structured["verdicts"]["unparsable"] == 58
    # "over 17 %" in the paper, 15 % of all turns on the larger public selection
    assert 0.12 < reference["verdicts"]["error"] / 9875 < 0.20
    assert 0.10 < structured["verdicts"]["error"] / 9875 < 0.18
    assert structured["verdicts"]["no_feedback"] < reference["verdicts"]["no_feedback"]
