"""Replies that look right to a careless reader must not be: no attack scores as a right call."""

import collections
import functools
import itertools
import json
import time

import pytest

from tl_jax.calls import styles
from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.parse import parse_calls
from tl_jax.calls.render import render_call, render_calls
from tl_jax.rewards.rules import RIGHT, Parallel, score

TOOLS = (
    ToolSpec(
        "forecast",
        parameters=(
            Parameter("city", "string", required=True),
            Parameter("days", "integer", required=True),
            Parameter("units", "string", schema={"type": "string", "default": "metric"}),
            Parameter("tags", "array"),
        ),
    ),
    ToolSpec(
        "book",
        parameters=(
            Parameter("hotel", "string", required=True),
            Parameter("price", "number", required=True),
            Parameter("breakfast", "boolean", required=True),
            Parameter("rooms", "array", schema={"type": "array", "items": {"type": "integer"}}),
            Parameter("guest", "object"),
            Parameter("note", "string"),
        ),
    ),
    ToolSpec("now", parameters=(Parameter("zone", "string"),)),
    ToolSpec("finish", parameters=(Parameter("answer", "string", required=True),)),
)
FORECAST = ToolCall("forecast", {"city": "Paris", "days": 3})
BOOK = ToolCall(
    "book",
    {
        "hotel": "Ritz 'Grand' (old), \"Rome\"",
        "price": 80.5,
        "breakfast": True,
        "rooms": [1, 2],
        "guest": {"name": "Ann", "age": 41},
    },
)
NOW = ToolCall("now")
FINISH = ToolCall(
    "finish", {"answer": "The flight to Rome costs 120 euros and is confirmed for the two of you."}
)
GOLDS = {"forecast": FORECAST, "book": BOOK, "now": NOW, "finish": FINISH}
LOOK_ALIKE = str.maketrans("aeoicpxyw", "\u0430\u0435\u043e\u0456\u0441\u0440\u0445\u0443\u051d")


def other_values(value, *, free_text):
    """Values that are near ``value`` and are not it."""
    yield from ([value], {"value": value}, None, "", [], {})
    if isinstance(value, str):
        yield from (
            f"{value} 5",
            "not " + value,
            value.translate(LOOK_ALIKE),
            value[: len(value) // 2],
        )
        yield from (value.replace("Rome", "Oslo") + "x", value.replace("120", "-120") + ";1")
        yield render_call(FORECAST)
        if free_text:
            words = value.split()
            for at in range(len(words)):
                yield " ".join([*words[:at], "cancelled", *words[at + 1 :]])
                yield " ".join([*words[:at], *words[at + 1 :]])
                yield " ".join([*words[:at], *words[at:][1:2], words[at], *words[at + 2 :]])
        if not free_text:
            yield from (value + " ", " " + value, value.upper(), value.lower(), value + "\u200b")
            yield from (value + "\n", "\ufeff" + value, value[:-1] + "\uff53", f"'{value}'")
    elif isinstance(value, bool):
        yield from (int(value), str(value), str(value).lower(), not value)
    elif isinstance(value, (int, float)):
        yield from (str(value), -value, value + 1, bool(value), value + 1e-9, 10**30)
    elif isinstance(value, list):
        yield from (value[::-1], value + value[:1], value[:-1], str(value), [str(x) for x in value])
        yield from ([float(x) for x in value], dict(enumerate_keys(value)))
    elif isinstance(value, dict):
        first = next(iter(value))
        yield from ({**value, "x": 1}, {**value, first: None}, str(value), json.dumps(value))
        yield from ([value, value], list(value.items()), {k.upper(): v for k, v in value.items()})


def enumerate_keys(values):
    return ((str(at), value) for at, value in enumerate(values))


def other_calls(gold):
    """Calls that are near the gold call."""
    name, given = gold.name, dict(gold.arguments)
    for changed in (
        *(name.upper(), name.title(), name + "_", name[:-1], f"tools.{name}", f"{name}.{name}"),
        *(name.translate(LOOK_ALIKE), "\uff46" + name[1:], "finish" if name != "finish" else "now"),
    ):
        if changed != name:
            yield ToolCall(changed, given)
    for key, value in given.items():
        rest = {k: v for k, v in given.items() if k != key}
        yield ToolCall(name, rest)
        for changed in (key.upper(), key + "_", key.translate(LOOK_ALIKE), "x"):
            yield ToolCall(name, {**rest, changed: value})
            yield ToolCall(name, {**given, changed: value})
        for changed in other_values(value, free_text=name == "finish"):
            if changed != value or changed.__class__ is not value.__class__:
                yield ToolCall(name, {**given, key: changed})
    declared = next(tool for tool in TOOLS if tool.name == name).parameters
    for parameter in declared:
        if parameter.name not in given:
            for value in (None, "", "other", [], 0):
                yield ToolCall(name, {**given, parameter.name: value})
    yield ToolCall(name, {**given, "arguments": given})
    yield ToolCall(name, {"arguments": given, "name": name})
    yield ToolCall(name, {**given, **{f"x{n}": n for n in range(300)}})


def around(text):
    """Texts that hold the right text and something else."""
    cuts = range(0, len(text), max(1, len(text) // 25))
    yield from (text[:cut] for cut in cuts)
    yield from (text[cut:] for cut in cuts[1:])
    for before, after in (
        *(("", " ok"), ("", ";"), ("", "."), ("", ","), ("", ")"), ("", "}"), ("", "]"), ("", "'")),
        *(("", " # right"), ("", "\n# right"), ("", " // right"), ("", "\n\n."), ("", "\0")),
        *(("", " /* right */"), ("", "<|endoftext|>"), ("", " and so on"), ("", "\u200b")),
        *(("I call ", ""), ("Thought: fine\n", ""), ("# a call\n", ""), ("=", ""), ("-", "")),
        *(("print(", ")"), ("(", ")"), ("[", "]"), ("{", "}"), ("'", "'"), ('"', '"')),
        *(("```\n", "\n```"), ("```json\n", "\n```"), ("`", "`"), ("<call>", "</call>")),
        *(("await ", ""), ("return ", ""), ("x = ", ""), ("not ", ""), ("lambda: ", "")),
        *(("\u200b", ""), ("\ufeff", ""), ("\0", ""), ("(" * 60_000, ""), ("", "x" * 100_000)),
        *((" " * 70_000, ""), ("[" * 500, "]" * 500)),
    ):
        yield before + text + after
    yield from (
        f"{text}\n{text}",
        f"{text} {text}",
        text + text,
        f"{text}; {text}",
        f"{text},{text}",
    )
    yield json.dumps(text)
    yield from (text.replace("'", "\u2019"), text.replace('"', "\u201d"), text.replace("'", '"', 1))
    yield from (text.replace("(", "((", 1), text.replace("{", "{{", 1), text.replace("3", "1 + 2"))
    yield from (text.replace("3", "03"), text.replace("3", "3.0"), text.replace("3", "3e0"))
    yield from (text.replace("3", "0x3"), text.replace("3", "\uff13"), text.replace("3", "--3"))
    yield from (
        text.replace("80.5", x) for x in ("80,5", "161/2", "1e999", "NaN", "80.5f", "'80.5'")
    )


def forged(gold, style):
    """Texts that only a lenient parser of the style reads as the gold call."""
    inner = ", ".join(f"{k} = {v!r}" for k, v in gold.arguments.items())
    if style == "python":
        name, values = gold.name, ", ".join(map(repr, gold.arguments.values()))
        yield from (f"{name}({inner}, **{{}})", f"{name}(*[], {inner})", f"{name}[{inner}]")
        yield from (f"{name}({inner}).x", f"{name}({inner})()", f"{name}: {inner}")
        yield f"finish(answer = {render_call(gold)!r})" + ("." if gold is FINISH else "")
        if inner:
            yield from (f"{name}({inner}, {inner})", f"{name}({values})", f"{name}({inner},,)")
            yield from (f"{name}(**{gold.arguments!r})", f"{name}({inner.replace(' = ', ': ')})")
            yield f"{name}({inner.replace(' = ', ' == ')})"
            key = next(iter(gold.arguments))
            yield from (f"{name}({key} = 'x', {inner})", f"{name}({inner}, {key} = 'x')")
        return
    key = "parameters" if style == "llama_json" else "arguments"
    wrong = "arguments" if style == "llama_json" else "parameters"
    opening, closing = render_call(NOW, style).split('{"name"')[0], ""
    closing = render_call(NOW, style).rpartition("}")[2]
    name, given = json.dumps(gold.name), json.dumps(dict(gold.arguments))
    for body in (
        f'{{"name": {name}, "{wrong}": {given}}}',
        f'{{"name": {name}, "{key}": {json.dumps(given)}}}',
        f'{{"name": {name}, "{key}": [{given}]}}',
        f'{{"name": {name}, "name": {name}, "{key}": {given}}}',
        f'{{"name": "x", "name": {name}, "{key}": {given}}}',
        f'{{"name": {name}, "{key}": {{}}, "{key}": {given}}}',
        f'{{"name": {name}, "{key}": {given}, "{key}": {given}}}',
        f'{{"name": {name}, "{key}": {given},}}',
        f'{{"name": {name}, "{key}": {given}, "x": 1}}',
        f'{{"name": [{name}], "{key}": {given}}}',
        f'{{"name": {name}, "{key}": {given}}} # right',
        f'{{"name": {name}, /* right */ "{key}": {given}}}',
        f"{{'name': {name}, '{key}': {given}}}",
        f'{{"name": {name}, "{key}": {given}}}{{"name": {name}, "{key}": {given}}}',
        f'{{"function": {{"name": {name}, "{key}": {given}}}}}',
        f'{{"name": {name}}}',
        f'{{"{key}": {given}}}',
        json.dumps(f'{{"name": {name}, "{key}": {given}}}'),
    ):
        yield opening + body + closing


STYLES = ("python", "hermes", "llama_json", "mistral", "kimi", "qwen_xml", "gemma", "lfm")
"""One of every kind of form."""
TEXTUAL = [name for name in STYLES if styles.STYLES[name].typed_by_tools]


@functools.cache
def attacks(style):
    """``(gold, reply)`` of one style, each once, without those that are the gold text itself."""
    found = {}
    for label, gold in GOLDS.items():
        text = render_call(gold, style)
        replies = [*around(text), *forged(gold, style)]
        replies += (render_call(gold, other) for other in STYLES if other != style)
        for call in other_calls(gold):
            try:
                reply = render_call(call, style)
            except ValueError:
                continue  # a name that cannot be written in this style
            # Without quotes round a text, a list of texts is a text, too.
            if style not in TEXTUAL or parse_calls(reply, style, TOOLS) == (call,):
                replies.append(reply)
        found |= {(label, reply): None for reply in replies if reply.strip() != text}
    return list(found)


def test_there_are_enough_attacks_on_every_gold_call():
    for style in STYLES:
        count = collections.Counter(label for label, _ in attacks(style))
        assert min(count.values()) > 60 and sum(count.values()) > 500


@pytest.mark.parametrize("style", STYLES)
def test_the_gold_text_is_right(style):
    for gold in GOLDS.values():
        text = render_call(gold, style)
        for mode in ("strict", "graded"):
            assert score(f" {text}\n", text, TOOLS, mode=mode, style=style).value == RIGHT


@pytest.mark.parametrize("style", STYLES)
def test_no_attack_is_right_and_none_takes_long(style):
    start = time.process_time()
    for mode in ("strict", "graded"):
        fooled = [
            reply[:200]
            for label, reply in attacks(style)
            if score(reply, GOLDS[label], TOOLS, mode=mode, style=style).value == RIGHT
        ]
        assert not fooled, fooled
    assert time.process_time() - start < 5


@pytest.mark.parametrize("style", STYLES)
def test_no_attack_is_right_where_several_calls_are_due(style):
    gold = Parallel((FORECAST, BOOK))
    right = render_calls((BOOK, FORECAST), style)
    assert score(right, gold, TOOLS, style=style).value == RIGHT
    calls = [[FORECAST], [BOOK], [FORECAST] * 2, [FORECAST, BOOK, FORECAST], [FORECAST, BOOK, NOW]]
    calls += ([FORECAST, call] for call in other_calls(BOOK))
    for mode in ("strict", "graded"):
        for some in calls:
            try:
                reply = render_calls(some, style)
            except ValueError:
                continue
            assert score(reply, gold, TOOLS, mode=mode, style=style).value < RIGHT
        for reply in around(right):
            reward = score(reply, gold, TOOLS, mode=mode, style=style)
            assert reward.value < RIGHT or reply.strip() == right, reply[:200]


WORDLESS = (".", "?!", "\u200b", "[]", "<|im_start|>", "<tool_call", "</tool_call>", "[/INST]")
HIDDEN = (
    "{'name': 'forecast', 'arguments': {'city': 'Paris', 'days': 3}}",
    '{"function": "forecast", "parameters": {"city": "Paris"}}',
    '{"function": {"name": "forecast"}}',
    "{'tool' : 'now'}",
    "forecast[city='Paris', days=3]",
    "forecast\n(city='Paris')",
    "forecast {'city': 'Paris'}",
)


@pytest.mark.parametrize("style", styles.STYLES)
def test_no_call_hides_where_none_is_right(style):
    for words in ("Which city do you mean?", "\u3069\u3053\uff1f", "5 > 3 and 2 < 3", "<b>Yes</b>"):
        assert score(words, None, TOOLS, style=style).value == RIGHT
    for label, gold in GOLDS.items():
        text = render_call(gold, style)
        for reply in (
            text,
            f"Well, {text}",
            f"{text} ok",
            text[:-1],
            f"```\n{text}\n```",
            "",
            " \n",
            *WORDLESS,
            *HIDDEN,
        ):
            for mode in ("strict", "graded"):
                reward = score(reply, None, TOOLS, mode=mode, style=style)
                assert reward.value == -2.0, (label, reply)


ANSWER = "The sky over Oslo is clear, and 12 degrees are expected on Friday."
ASKED = "How is the sky over Oslo, and what is expected on Friday?"
_FILLERS = ("a", "ok", "yes", "no", "done", "the", "I", "sure", "12", "Oslo", "clear", "hello")
CHEAP = [
    *_FILLERS,
    *(word * 40 for word in _FILLERS),
    *(" ".join([word] * 12) for word in _FILLERS),
    *("abcdefghijklmnopqrstuvwxyzäöüß0123456789"),
    *(f"{first} {second}" for first in _FILLERS[:9] for second in _FILLERS),
    *(ANSWER[:size] for size in range(3, 60, 7)),
    *(ASKED, ASKED * 2, ANSWER + " " + ASKED, ANSWER * 2, ANSWER.replace("12", "13")),
    *(ANSWER.replace("clear", "not clear"), ANSWER.replace("Oslo", "Rome"), ANSWER[::-1]),
    *("I will check that for you.", "Sorry, I cannot help with that.", "Let me know!"),
    *("<think>" + ANSWER + "</think>", "<think>" + ANSWER + "</think>ok", " ".join(_FILLERS)),
    *("答え", "да", "<|im_end|>a", "```a```", "# Answer", "The answer is clear."),
]


@pytest.mark.parametrize("style", ["python", "hermes"])
@pytest.mark.parametrize("mode", ["strict", "graded"])
@pytest.mark.parametrize("match", ["normalised", "token_f1", "exact"])
def test_no_cheap_reply_wins_where_the_right_answer_is_in_words(mode, style, match):
    gold = Parallel(words=ANSWER)
    judge = functools.partial(
        score, gold=gold, tools=TOOLS, mode=mode, style=style, free_text_match=match
    )
    assert len(set(CHEAP)) >= 200
    assert [reply for reply in CHEAP if judge(reply).value > 0] == []
    assert judge(ANSWER).value == judge(f"<think>Hm.</think>\n\n{ANSWER} ").value == RIGHT
    assert (judge(ANSWER.upper()).value == RIGHT) == (match != "exact")
    assert judge(render_call(NOW, style=style) if style == "hermes" else "now()").value == -2.0
    several = [gold, Parallel(words="It is clear."), NOW]
    assert score("It is clear.", several, TOOLS, mode=mode, style=style).value == RIGHT
    assert score("a", [gold, None], TOOLS, mode=mode, style=style).value == RIGHT


def route(**others):
    return ToolCall("route", {"a": "0", "b": "0", "c": "0", "d": "0", **others})


ROUTES = (ToolSpec("route", parameters=tuple(Parameter(name, "string") for name in "abcdefg")),)
NEAR, BARE = route(a="1"), {"a": "0", "b": "0"}
# For each the nearest pair is no part of the best matching, and some call is near two gold calls.
MATCHINGS = [
    ("graded", [NEAR, route(c="2", d="2")], [route(), route(a="1", b="1", c="1")], 0.375),
    (
        "strict",
        [ToolCall("route", {**BARE, "a": "1"}), ToolCall("route", {**BARE, "e": "0"})],
        [ToolCall("route", BARE), ToolCall("route", {**BARE, "f": "0"})],
        -0.5,
    ),
    ("strict", [route(), route()], [route(), ToolCall("route", {"g": "0"})], 0.0),
    ("strict", [route(), route()], [route(), NEAR], 0.375),
    ("strict", [route()], [route(), route()], -0.5),
    ("strict", [route(), NEAR, NEAR], [NEAR, route(), NEAR], RIGHT),
    ("graded", [route(), NEAR, route()], [NEAR, route(), NEAR], 0.895833),
]


@pytest.mark.parametrize("mode,calls,golds,value", MATCHINGS)
def test_no_gold_call_counts_twice_and_the_best_matching_counts(mode, calls, golds, value):
    for some, due in itertools.product(
        itertools.permutations(calls), itertools.permutations(golds)
    ):
        reply = render_calls(some)
        assert score(reply, Parallel(due), ROUTES, mode=mode).value == value, (reply, due)
