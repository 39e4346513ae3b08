"""A dialogue as a chat template writes it: the prompt of a turn, and what follows it.

Mostly the text of the turns through a reply begins with the prompt of the reply. Where it does not
(Hermes 3 writes a line feed after a result only if a turn follows, Mistral leaves the system text
out once it is answered), the reply is what follows the words with which the prompt ends.

Templates run in a sandbox like that of ``transformers``. What they may ask for beside the dialogue
is fixed in their text (``template_text``), so that the same dialogue always gives the same text.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolSpec, tool_entry
from tl_jax.calls.parse import reply_call_text
from tl_jax.calls.styles import STYLES
from tl_jax.data.render import template_engine
from tl_jax.data.render.chat_turns import TurnForm, as_turns
from tl_jax.data.render.control_tokens import (
    ControlTokens,
    private_characters,
    unused_character,
)
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.data.trajectory import Message

THOUGHT_TAGS = tuple(dict.fromkeys(style.thoughts for style in STYLES.values()))
"""Tags round thoughts, in all call styles."""
_EMPTY = "|".join(rf"(?:{re.escape(a)})?\s*{re.escape(b)}" for a, b in THOUGHT_TAGS)
_NO_THOUGHT = re.compile(rf"\A\s*(?:{_EMPTY})\s*")
_MOST_AT_END = 120
"""Characters at the end of a prompt in which a thought is opened, or said to be none."""
_REMEMBERED = 64
"""Lists of tools that a template keeps as it sees them."""

LACKS = {
    "system": "a system turn",
    "later_system": "a system turn after the first turn",
    "second_question": "a second question",
    "parallel_calls": "several calls in one turn",
    "several_results": "several results after one turn",
    "quotes": "quotes, backslashes or line feeds in arguments",
    "values": "arguments that are true, null, lists or objects",
    "types": "parameters of several types",
}
"""What a template may have no place for, in words."""


class WrittenTools:
    """Tools as a template sees them, with marks in the control tokens typed in them.

    Attributes:
      used: Private-use characters in them.

    Args:
      control: Tokens that only the template may write.
      tools: The tools.
    """

    def __init__(self, control: ControlTokens, tools: Sequence[ToolSpec]):
        self._control = control
        self._entries = [tool_entry(tool) for tool in tools]
        self._marked: dict[str, list[template_engine.Declared]] = {}
        self.used = private_characters(self._entries)

    def marked(self, mark: str) -> list[template_engine.Declared]:
        """Return them with a mark."""
        if mark not in self._marked:
            entries = self._control.mark(self._entries, mark)
            self._marked[mark] = [template_engine.Declared(entry) for entry in entries]
        return self._marked[mark]


@dataclasses.dataclass(frozen=True, eq=False)
class ChatTemplate:
    """A chat template and what was found out about it (``probe.tried``).

    Attributes:
      name: The value of ``data.template``.
      source: The template, with its settings fixed at its front.
      given: The template as it was found.
      tokenizer: Its control tokens are those of the text.
      control: Tokens that only the template may write.
      fixed: What stands fixed at its front, by name.
      form: How it takes messages.
      call_style: Style in which it writes calls, one of ``calls.parse.STYLES``.
      writes_preambles: It writes the visible text of a turn before its calls, in a form that can be
        told from them. Otherwise, and where that text quotes the mark of a call, the turn is
        written without it, as in the released forms.
      writes_greetings: It writes an assistant turn that opens the dialogue. Otherwise that turn,
        which is never trained, is left out.
      lacks: Why it does not take something, by a key of ``LACKS``.
      stops: Texts of the control tokens that end a reply.
      endings: What is written after a reply in words, and after calls, where the template itself
        ends it with none of ``stops``.
    """

    name: str
    source: str = dataclasses.field(repr=False)
    given: str = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    control: ControlTokens = dataclasses.field(repr=False)
    fixed: Mapping[str, Any]
    form: TurnForm = TurnForm()
    call_style: str = ""
    writes_preambles: bool = True
    writes_greetings: bool = True
    lacks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stops: tuple[str, ...] = ()
    endings: tuple[str, str] = ("", "")

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a reply: those of ``stops``, then the end-of-sequence id."""
        ids = map(self.tokenizer.token_id, self.stops)
        return tuple(dict.fromkeys([*ids, self.tokenizer.eos_id]))

    @property
    def fingerprint(self) -> str:
        """sha256 of the template and of how it takes messages."""
        form = json.dumps(dataclasses.asdict(self.form), sort_keys=True)
        return hashlib.sha256(f"{self.source}\n{form}".encode()).hexdigest()

    @functools.cached_property
    def reply_control(self) -> ControlTokens:
        """Tokens that a reply's own text may not bring in; tags like ``<think>`` it may."""
        special = self.tokenizer.added_tokens
        kept = (t for t in self.control.texts if special[t] or t in self.stops)
        return ControlTokens(frozenset(kept))

    @functools.cached_property
    def stop_pattern(self) -> re.Pattern[str]:
        """Matches the end of a reply."""
        return re.compile("|".join(map(re.escape, self.stops)) or "(?!)")

    def written(self, tools: Sequence[ToolSpec]) -> WrittenTools:
        """Return tools as the template sees them; many dialogues may have the same."""
        if not isinstance(tools, tuple):  # another list may have changed since
            return WrittenTools(self.control, tools)
        _, found = self._written.get(id(tools), (tools, None))
        if found is None:
            found = WrittenTools(self.control, tools)
            self._written[id(tools)] = tools, found
            if len(self._written) > _REMEMBERED:
                self._written.popitem(last=False)
        return found

    @functools.cached_property
    def _written(self) -> collections.OrderedDict[int, tuple[Sequence[ToolSpec], WrittenTools]]:
        return collections.OrderedDict()

    def preamble(self, message: Message) -> str:
        """Return what is written before the calls of a turn: nothing that looks like a call."""
        after_blank = f" {message.content}"
        marked = reply_call_text(after_blank, self.call_style) != after_blank
        return message.content if self.writes_preambles and not marked else ""

    def thoughts(self, message: Message) -> str:
        """Return the thoughts of a turn that are written."""
        return message.thoughts if self.form.thoughts else ""


class Dialogue:
    """A dialogue as the template sees it, with marks in the control tokens typed in it.

    Attributes:
      mark: The mark.

    Args:
      template: Who writes it.
      tools: Tools of the prompt.
      messages: The turns.
    """

    def __init__(
        self, template: ChatTemplate, tools: Sequence[ToolSpec], messages: Sequence[Message]
    ):
        self._template = template
        self._messages = messages
        preambles = [template.preamble(message) if message.calls else "" for message in messages]
        chat = as_turns(messages, template.form, preambles)
        written = template.written(tools)
        self.mark = unused_character([chat], written.used)
        self._tools = written.marked(self.mark) or None
        self._chat = [self._marked(turn) for turn in chat]
        greeted = bool(messages) and messages[0].role == "assistant"
        self._first = int(greeted and not template.writes_greetings)

    def _marked(self, turn: dict[str, Any]) -> dict[str, Any]:
        marked = self._template.control.mark(turn, self.mark)
        if turn["role"] == "assistant":
            own = {key for key in turn if isinstance(turn[key], str)}
            marked |= {key: self._template.reply_control.mark(turn[key], self.mark) for key in own}
        return {**marked, "role": turn["role"]}

    def write(self, count: int, *, prompt: bool = False) -> str:
        """Return the text, with marks, of the first ``count`` turns.

        Raises:
          ValueError: The template refuses them, or leaves out a part of them.
        """
        if count <= self._first:
            raise ValueError("a chat template needs a turn before the first reply")
        for part in _parts(self._messages[self._first : count]):
            if part in self._template.lacks:
                raise ValueError(
                    f"the chat template has no place for {LACKS[part]}: "
                    f"{self._template.lacks[part]}"
                )
        return self._written(self._chat[self._first : count], prompt)

    def _written(self, turns: list[dict[str, Any]], prompt: bool) -> str:
        try:
            return template_engine.write(
                self._template.source,
                turns,
                self._tools,
                prompt=prompt,
                special_tokens=self._template.tokenizer.fast.special_tokens_map,
            )
        except Exception as error:  # a template may do anything, without end recursion included
            words = " ".join(str(error).split())[:300]
            raise ValueError(
                f"the chat template refuses the dialogue ({type(error).__name__}: {words})"
            ) from error

    def write_reply(self, index: int) -> tuple[str, str]:
        """Return the prompt for turn ``index`` and what the template writes after it.

        Raises:
          ValueError: The template refuses the turns, or the reply cannot be found in what it
            writes.
        """
        before = self.write(index, prompt=True)
        through = self.write(index + 1)
        if through.startswith(before):
            return before, self._ended(index, through[len(before) :])
        start, rest = max(self._continued(index, before, through), default=(-1, ""))
        if start >= 0:
            return before, self._ended(index, rest)
        raise ValueError(
            f"the chat template does not write turn {index} after its own generation prompt"
        )

    def _continued(self, index: int, before: str, through: str) -> Iterator[tuple[int, str]]:
        """Yield where the words with which a prompt ends have their end, and what follows them."""
        limit = self._parting(index, through)
        start = self._after(index, before, through, limit)
        if start is not None:
            yield start, through[start:]
        if thought := thought_at_end(before):
            opened, closing = thought
            start = self._after(index, before[:opened].rstrip(), through, limit)
            if start is not None and closing:
                yield start, self._closed(index, before[opened:], closing) + through[start:]
            elif start is not None:
                yield start, _NO_THOUGHT.sub("", through[start:])
        # Some templates leave their own indentation in the text, each time another.
        start = self._after(index, before.rstrip(), through, limit)
        if start is not None:
            yield start, through[start:].lstrip()

    def _closed(self, index: int, opening: str, closing: str) -> str:
        """Return the thought of a turn that its prompt opens, closed."""
        thoughts = self._template.thoughts(self._messages[index])
        thoughts = self._template.reply_control.mark(thoughts, self.mark)
        lines = opening.endswith("\n")
        if not lines:
            return f"{thoughts}{closing}"
        return f"{thoughts}\n{closing}\n\n" if thoughts else f"{closing}\n\n"

    def _ended(self, index: int, rest: str) -> str:
        """Return a reply with the token that ends it, where the template writes none."""
        ending = self._template.endings[bool(self._messages[index].calls)]
        if ending and not self._template.stop_pattern.search(rest):
            return rest.rstrip() + ending
        return rest

    def _parting(self, index: int, through: str) -> int:
        """Return how far the text would be the same with another reply in place of a turn."""
        other = {"role": "assistant", "content": unused_character([through])}
        try:
            text = self._written([*self._chat[self._first : index], other], False)
        except ValueError:
            return len(through)
        return len(os.path.commonprefix([text, through]))

    def _after(self, index: int, prompt: str, through: str, limit: int) -> int | None:
        """Return where the words with which a prompt ends have their end in another text.

        They begin with a control token of the template's own, which nobody else can write.
        """
        content = self._chat[index - 1].get("content") if index else ""
        before = content.strip() if isinstance(content, str) else ""
        begin = None
        for found in self._template.control.pattern.finditer(prompt):
            begin = found.start()
        if begin is None:
            return None
        tail = prompt[begin:]
        at = through.rfind(tail, 0, limit)
        if at < 0:
            return None
        # Some templates go on with the turn of the call once its results are there.
        return limit if before and before in through[at + len(tail) : limit] else at + len(tail)


def thought_at_end(prompt: str) -> tuple[int, str] | None:
    """Return where a prompt ends with a thought, and the tag that is still to close it.

    The tag is empty where the prompt itself closes the thought, to say that there is none.
    """
    start = max(0, len(prompt) - _MOST_AT_END)
    for opening, closing in THOUGHT_TAGS:
        at = prompt.rfind(opening, start)
        if at >= 0 and not prompt[at + len(opening) :].strip():
            return at, closing
        if prompt.rstrip().endswith(closing):
            end = len(prompt.rstrip()) - len(closing)
            empty = at >= 0 and not prompt[at + len(opening) : end].strip()
            return (at if empty else end), ""
    return None


def _parts(messages: Sequence[Message]) -> set[str]:
    """Return what of ``LACKS`` a dialogue has."""
    roles = [message.role for message in messages]
    found = set()
    if roles and roles[0] == "system":
        found.add("system")
    if "system" in roles[1:]:
        found.add("later_system")
    if any(len(message.calls) > 1 for message in messages):
        found.add("parallel_calls")
    if any(pair == ("tool", "tool") for pair in zip(roles, roles[1:], strict=False)):
        found.add("several_results")
    first = roles.index("user") if "user" in roles else len(roles)
    if "user" in roles[first + 1 :]:
        found.add("second_question")
    return found
