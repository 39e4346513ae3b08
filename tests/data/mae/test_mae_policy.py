"""Rules and actions of a user's own: read strictly, safe to run, first to decide."""

import time

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.config import MaeConfig
from tl_jax.data.mae.labels import label_turns
from tl_jax.data.mae.policy import (
    ERRORS,
    EXTRA_RULE_LENGTH,
    EXTRA_RULE_TEXT,
    MaePolicy,
    parse_rule,
    policy_of,
)
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import ConfigError


def judge(text, *rules, status="", tool="", mode="structured", **settings):
    policy = policy_of(MaeConfig(rules=mode, extra_rules=rules, **settings))
    return policy.feedback(text, status, tool)


def dialogue(feedback, status=""):
    return Trajectory(
        "t",
        (),
        (
            Message("user", "q"),
            Message("assistant", "", (ToolCall("f", {}),)),
            Message("tool", feedback, status=status),
            Message("assistant", "done"),
        ),
    )


@pytest.mark.parametrize("mode", ["structured", "reference", "structured+static"])
def test_a_rule_of_the_users_own_goes_before_the_built_in_ones(mode):
    calm = judge("Error: quiet hours", mode=mode)
    assert calm.is_error
    found = judge("Error: quiet hours", "nothing_found: quiet hours", mode=mode)
    assert (found.is_error, found.category) == (False, "nothing_found")
    assert "quiet hours" in found.reason
    missed = judge("the vault is shut", mode=mode)
    assert not missed.is_error
    found = judge("the vault is shut", "service: vault is shut", mode=mode)
    assert (found.is_error, found.category) == (True, "service")


def test_a_rule_of_the_users_own_goes_before_the_status_of_the_source():
    assert judge("all is well", status="error").is_error
    assert not judge("all is well", "all_right: is well", status="error").is_error


def test_the_first_rule_that_matches_decides():
    rules = ("service: shut", "content_filling: vault")
    assert judge("the vault is shut", *rules).category == "service"
    assert judge("the vault is shut", *reversed(rules)).category == "content_filling"


@pytest.mark.parametrize(
    ("rule", "text", "found"),
    [
        ("unknown: odd  end", "An ODD\n end!", True),
        ("unknown: rror", "terror", False),
        ("unknown: error", "terror", False),
        ("unknown: [x]", "a [X] b", True),
        ("unknown: [x]", "a x b", False),
        (r"unknown: /code [45]\d{2}\b/", "Code 503", True),
        (r"unknown: /code [45]\d{2}\b/", "code 5034", False),
        ("unknown: /(?:not|never) (?=done)/", "never done", True),
        ("unknown: a:b", "see a:b", True),
    ],
)
def test_phrases_and_expressions_match_as_described(rule, text, found):
    assert bool(parse_rule(rule).pattern.search(text)) is found


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("just words", "write 'CATEGORY: phrase'"),
        ("trouble: words", "write 'CATEGORY: phrase'"),
        ("unknown:", "1 to 200 characters"),
        ("unknown: " + "x" * (EXTRA_RULE_LENGTH + 1), "1 to 200 characters"),
        ("unknown: /(/", "not a regular expression"),
        ("unknown: /a.*b/", "bound every repeat"),
        ("unknown: /a+/", "bound every repeat"),
        ("unknown: /a{2,}/", "bound every repeat"),
        ("unknown: /a{,}/", "bound every repeat"),
        ("unknown: /(a|a){1,30}b/", "a group cannot be repeated"),
        ("unknown: /" + "(a|a)" * 20 + "/", "ways at one place"),
        ("unknown: /" + "a?" * 40 + "/", "ways at one place"),
        ("unknown: /.{0,99}a.{0,99}b.{0,99}/", "ways at one place"),
        ("unknown: /(?x)a # b/", "groups are"),
        ("unknown: /(a)(?(1)b|c)/", "groups are"),
    ],
)
def test_rules_that_cannot_be_used_are_refused_at_the_door(rule, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        parse_rule(rule)
    with pytest.raises(ConfigError, match=r"config\.mae\.extra_rules\[1\]"):
        policy_of(MaeConfig(extra_rules=("service: fine", rule)))


def test_the_slowest_rules_that_are_allowed_are_quick_on_hostile_text():
    rules = [
        parse_rule("unknown: /" + pattern + "/")
        for pattern in (
            r".{0,60}a.{0,60}b",
            "a{0,4000}b",
            "(?:a|a)(?:a|a)" * 6 + "b",
            "a?" * 11 + "b",
        )
    ]
    text = "a" * 500_000
    begin = time.process_time()
    policy = MaePolicy("structured", tuple(rules))
    policy.feedback(text, "", "")
    assert time.process_time() - begin < 2
    assert EXTRA_RULE_TEXT <= 2000


@pytest.mark.parametrize("text", ["service", "service=stop", "all_right=drop", "shop=mask", "="])
def test_actions_that_cannot_be_used_are_refused_at_the_door(text):
    with pytest.raises(ConfigError, match=r"category_actions\[0\].*write CATEGORY=ACTION"):
        policy_of(MaeConfig(category_actions=(text,)))


@pytest.mark.parametrize("mode", ["off", "static"])
def test_rules_about_feedback_that_is_not_read_are_refused(mode):
    with pytest.raises(ConfigError, match="does not read"):
        policy_of(MaeConfig(rules=mode, extra_rules=("service: x",)))


def test_every_category_takes_every_action():
    for category in ERRORS:
        for action in ("keep", "mask", "drop", "down-weight"):
            policy = policy_of(MaeConfig(category_actions=(f"{category} = {action}",)))
            assert policy.action(category) == action
            assert policy.weight(action) == {"keep": 1.0, "down-weight": 0.5}.get(action, 0.0)


@pytest.mark.parametrize(
    ("action", "weight", "right"),
    [("keep", 1.0, True), ("mask", 0.0, False), ("drop", 0.0, False), ("down-weight", 0.25, False)],
)
def test_the_action_of_its_category_is_the_fate_of_a_call(action, weight, right):
    policy = policy_of(MaeConfig(category_actions=(f"service={action}",), down_weight=0.25))
    failed, fine = label_turns(dialogue("503 Service Unavailable"), policy)
    assert (failed.verdict, failed.category) == ("error", "service")
    assert (failed.action, failed.weight) == (action, weight)
    assert (failed.kept, failed.right) == (weight > 0, right)
    other = label_turns(dialogue("Error: unknown tool f"), policy)[0]
    assert (other.action, other.weight) == ("mask", 0.0)
    assert fine.right


def test_a_search_without_result_is_no_mistake_even_if_the_source_says_error():
    found = label_turns(dialogue("ValueError: No emails found.", "error"), "structured")[0]
    assert (found.verdict, found.category) == ("keep", "nothing_found")
    for silent in ("[]", "nothing found"):  # here the source knows more than the text
        found = label_turns(dialogue(silent, "error"), "structured")[0]
        assert (found.verdict, found.category) == ("error", "content_filling")
    found = label_turns(dialogue("ValueError: bad date", "error"), "structured")[0]
    assert (found.verdict, found.category) == ("error", "content_filling")


def test_not_found_is_a_wrong_value_unless_the_tool_searches():
    text = "Error: user not found"
    assert judge(text, tool="cancel_user").category == "content_filling"
    assert judge(text, tool="get_user").is_error
    for tool in ("find_user", "userSearch", "db.search-users", "lookup_user"):
        assert judge(text, tool=tool).is_error is (tool == "userSearch")
