"""What is done about which mistake: the policy of ``label_turns``, and rules of a user's own.

Rules and actions are short texts, so that a configuration file or a command line can hold them::

    extra_rules=("service: upstream busy", "content_filling: /code [45]\\d{2}/")
    category_actions=("service=keep", "format_error=drop", "content_filling=down-weight")
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping

from tl_jax.config import MaeConfig
from tl_jax.data.mae.feedback import MODES, FeedbackStatus, classify_feedback, error_category
from tl_jax.errors import ConfigError

ERRORS = (
    "format_error",
    "tool_hallucination",
    "wrong_tool",
    "parameter_hallucination",
    "parameter_redundancy",
    "parameter_missing",
    "content_filling",
    "service",
    "unknown",
)
"""Categories of a call that failed: those of the paper, a failing service, and any other error."""
SOUND = ("nothing_found", "all_right")
"""Categories of a call that did not fail."""
RULES = ("off", "reference", "structured", "static", "structured+static")
ACTIONS = ("keep", "mask", "drop", "down-weight")

EXTRA_RULE_LENGTH = 200
"""Most characters of a user's phrase or regular expression."""
EXTRA_RULE_PATHS = 4096
"""Most ways in which a user's regular expression may match at one place."""
EXTRA_RULE_TEXT = 2000
"""Characters of a feedback, from its start, in which a user's rules are searched."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """A pattern of a user's own: feedback that holds it has this category."""

    category: str
    pattern: re.Pattern[str]
    name: str


@dataclasses.dataclass(frozen=True)
class MaePolicy:
    """Which calls are judged wrong, and what happens to them.

    Attributes:
      rules: One of ``RULES``; see ``label_turns``.
      extra: Rules of the user's own; they go before the built-in ones, the first that matches
        decides.
      actions: Action by category, where it is not ``mask``.
      down_weight: Weight of a call whose action is ``down-weight``.
    """

    rules: str
    extra: tuple[Rule, ...] = ()
    actions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    down_weight: float = 0.5

    @property
    def reads_feedback(self) -> str:
        """How feedback is judged: ``reference``, ``structured`` or ``""`` (it is not)."""
        mode = self.rules.removesuffix("+static")
        return mode if mode in MODES else ""

    @property
    def checks_calls(self) -> bool:
        """Whether calls are held against the manuals of the tools."""
        return self.rules.endswith("static")

    def feedback(self, text: str, status: str, tool: str) -> FeedbackStatus:
        """Judge one feedback.

        Args:
          text: Its content.
          status: What the source says of it; see ``Message.status``. In the structured mode it
            goes before the built-in rules, but an error that is an empty search is no mistake.
          tool: Name of the called tool.
        """
        if rule := next((r for r in self.extra if r.pattern.search(text[:EXTRA_RULE_TEXT])), None):
            return FeedbackStatus(rule.category in ERRORS, f"own rule {rule.name}", rule.category)
        if self.reads_feedback == "structured" and status == "ok":
            return FeedbackStatus(False, "status given by the source", "all_right")
        if self.reads_feedback == "structured" and status == "error":
            category = error_category(text, tool)
            if category in SOUND:
                return FeedbackStatus(False, "error of an empty search", category)
            return FeedbackStatus(True, "status given by the source", category)
        return classify_feedback(text, mode=self.reads_feedback, tool=tool)

    def action(self, category: str) -> str:
        """Return what is done about a mistake of this category."""
        return self.actions.get(category, "mask")

    def weight(self, action: str) -> float:
        """Return the weight of a call under an action."""
        return {"keep": 1.0, "down-weight": self.down_weight}.get(action, 0.0)


@functools.cache
def policy_of(config: MaeConfig) -> MaePolicy:
    """Return the policy that a configuration asks for.

    Raises:
      ConfigError: A rule or an action that cannot be used; the message says which and how to
        write it.
    """
    if config.extra_rules and not MaePolicy(config.rules).reads_feedback:
        raise ConfigError(
            f"config.mae.extra_rules judge feedback, which config.mae.rules={config.rules} does "
            "not read; choose reference, structured or structured+static"
        )
    rules = []
    for index, text in enumerate(config.extra_rules):
        try:
            rules.append(parse_rule(text))
        except ValueError as error:
            raise ConfigError(f"config.mae.extra_rules[{index}] {text[:80]!r}: {error}") from error
    actions = {}
    for index, text in enumerate(config.category_actions):
        category, equals, action = (part.strip() for part in text.partition("="))
        if not equals or category not in ERRORS or action not in ACTIONS:
            raise ConfigError(
                f"config.mae.category_actions[{index}] {text[:80]!r}: write CATEGORY=ACTION with a "
                f"category of {', '.join(ERRORS)} and an action of {', '.join(ACTIONS)}"
            )
        actions[category] = action
    return MaePolicy(config.rules, tuple(rules), actions, config.down_weight)


def parse_rule(text: str) -> Rule:
    """Read ``"CATEGORY: phrase"`` or ``"CATEGORY: /regular expression/"``.

    A phrase is found wherever its words stand in this order, whatever the blanks and the case,
    and with word boundaries: ``error`` is not found in ``terror``. A regular expression is
    searched without regard to case; its repeats are bounded (``.{0,60}``, not ``.*``), so that
    no feedback can make it slow.

    Raises:
      ValueError: The message says what is wrong.
    """
    category, colon, pattern = (part.strip() for part in text.partition(":"))
    if not colon or category not in ERRORS + SOUND:
        raise ValueError(
            "write 'CATEGORY: phrase' or 'CATEGORY: /regular expression/' with a category of "
            f"{', '.join(ERRORS + SOUND)}"
        )
    if not pattern or len(pattern) > EXTRA_RULE_LENGTH:
        raise ValueError(f"a pattern has 1 to {EXTRA_RULE_LENGTH} characters, not {len(pattern)}")
    if len(pattern) > 2 and pattern[0] == pattern[-1] == "/":
        return Rule(category, _compiled(pattern[1:-1]), pattern)
    words = r"\s{1,9}".join(re.escape(word) for word in pattern.split())
    left = r"\b" if pattern[0].isalnum() else ""
    right = r"\b" if pattern[-1].isalnum() else ""
    return Rule(category, re.compile(left + words + right, re.IGNORECASE), repr(pattern))


_ESCAPE_OR_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_PIECE = re.compile(
    r"(?P<open>\((?:\?(?:P?<\w+>|[:=!]|<[=!]|[aims]+[:)]))?)|(?P<close>\))|(?P<or>\|)"
    r"|\{(?P<low>\d*)(?P<comma>,?)(?P<high>\d*)\}\??|(?P<maybe>\?\??)|(?P<endless>[*+])|.",
    re.DOTALL,
)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    paths = _paths(_ESCAPE_OR_CLASS.sub("x", pattern))
    if paths > EXTRA_RULE_PATHS:
        raise ValueError(
            f"can match in {paths} ways at one place, more than {EXTRA_RULE_PATHS}; use shorter "
            "repeats or several rules"
        )
    return compiled


def _paths(plain: str) -> int:
    """Count the ways in which a pattern of letters, groups and repeats can match at one place.

    It bounds the steps of a search, which try each way at most once per place.
    """
    groups: list[list[int]] = []  # per open group: ways of the branches done, and of this one
    done, here, last = 0, 1, 1
    after_group = False
    for piece in _PIECE.finditer(plain):
        text, kind = piece[0], piece.lastgroup
        closed = kind == "close"
        if kind == "endless":
            raise ValueError("bound every repeat: write .{0,60}, not .* or .+")
        if kind == "open":
            if text == "(" and plain.startswith("(?", piece.start()):
                raise ValueError("groups are (...), (?:...), (?P<name>...), (?=...), (?i:...)")
            if text.endswith(")"):  # flags for the whole pattern
                continue
            groups.append([done, here])
            done, here, last = 0, 1, 1
        elif closed:
            last = done + here
            done, here = groups.pop()
            here *= last
        elif kind == "or":
            done, here, last = done + here, 1, 1
        elif kind == "maybe":
            here = here // last * (last + 1)
            last += 1
        elif piece["low"] or piece["comma"]:
            if after_group:
                raise ValueError("a group cannot be repeated with {}; write it out")
            if piece["comma"] and not piece["high"]:
                raise ValueError("bound every repeat: write .{0,60}, not .{2,}")
            here *= int(piece["high"] or 0) - int(piece["low"] or 0) + 1 if piece["comma"] else 1
        else:
            last = 1
        after_group = closed
        if here > 1 << 40:
            break
    return done + here
