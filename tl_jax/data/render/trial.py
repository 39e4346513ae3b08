"""Try a chat template on dialogues of known words before it is trusted with data.

Stock templates drop tools, calls or results without a word. A template passes if every known word
is in its text, its calls can be read back, and a token ends each reply, also of one that answers a
result. What the trial finds out besides - the call style, the tokens that end a reply, what
dialogues the template has no place for - is all that training, sampling and scoring need to know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from tl_jax.calls.call import ToolSpec
from tl_jax.calls.parse import STYLES, parse_turn, reply_call_text
from tl_jax.data.render.call_spans import find_calls
from tl_jax.data.render.chat_template import render_chat
from tl_jax.data.render.chat_turns import (
    CALL_ID,
    CALL_ID_IN_TURN,
    IN_CONTENT,
    OPENED,
    THOUGHT_KEYS,
)
from tl_jax.data.render.control_tokens import ControlTokens
from tl_jax.data.render.dialogue import THOUGHT_TAGS, ChatTemplate, Dialogue
from tl_jax.data.render.trial_dialogues import (
    AGAIN,
    ANSWER,
    ANSWERED,
    ASKING,
    CALL,
    CALLING,
    LISTED,
    OTHER_CALL,
    OTHER_RESULT,
    PARALLEL,
    QUERY,
    QUOTING_CALL,
    RESULT,
    SYSTEM,
    THOUGHT,
    TOOL,
    TOOLS,
    TYPED_CALL,
)
from tl_jax.data.trajectory import Message

_END = 24
"""Characters at the end of a call by which it is known."""


class TrialError(ValueError):
    """A template fails the trial.

    Attributes:
      steps: How many steps it passed.
    """

    def __init__(self, steps: int, reason: str):
        super().__init__(reason)
        self.steps = steps


def tried(template: ChatTemplate, *, train_thoughts: bool = False) -> ChatTemplate:
    """Return the template with what the trial found out.

    Args:
      template: As it is to be used.
      train_thoughts: Find out how it takes thoughts.

    Raises:
      TrialError: It fails.
    """
    trial = _Trial(template)
    try:
        found = trial.passed()
    except ValueError as error:
        raise TrialError(trial.steps, str(error)) from error
    found = dataclasses.replace(
        _with_plain_ids(found),
        writes_preambles=_writes_preambles(found),
        writes_greetings=_writes_greetings(found),
    )
    if train_thoughts:
        found = _with_thoughts(found)
    return dataclasses.replace(found, lacks=_lacks(found))


class _Trial:
    """The steps that every template must pass; ``steps`` counts them."""

    def __init__(self, template: ChatTemplate):
        self._template = template
        self.steps = 0

    def passed(self) -> ChatTemplate:
        template = self._template
        calling = Dialogue(template, (TOOL,), (*CALLING, ANSWERED))
        start = calling.write(1, prompt=True)
        _expect(start, [QUERY], "drops the user's turn")
        self.steps += 1
        _expect(start, [TOOL.name, *(p.name for p in TOOL.parameters)], "drops the tools")
        _expect(start, [TOOL.description.split()[-1]], "drops the descriptions of the tools")
        self.steps += 1
        answering = Dialogue(template, (TOOL,), (*ASKING, ANSWERED, *ASKING))
        _, answer = answering.write_reply(1)
        _expect(answer, [ANSWER], "drops the reply")
        self.steps += 1
        _, call = calling.write_reply(1)
        values = [CALL.name, *CALL.arguments, "qxvalue", "70417"]
        _expect(call, values, "drops the calls of a reply")
        self.steps += 1
        result = calling.write(3, prompt=True)
        _expect(result, [RESULT], "drops the results of tools")
        self.steps += 1
        found = self._with_ends(answer, answering, call, calling)
        self.steps += 1
        return found

    def _with_ends(
        self, answer: str, answering: Dialogue, call: str, calling: Dialogue
    ) -> ChatTemplate:
        """Return the template with its call style and the ends of its replies."""
        problem = None
        for stop, ending in self._ends_of_words(answer, answering):
            for call_stop, call_ending, body in self._ends_of_calls(call, stop, ending, calling):
                if CALL.name not in body.partition(stop)[0]:
                    problem = problem or ValueError(
                        f"the template writes the calls of a reply after {call_stop!r}, the token "
                        "that ends a reply"
                    )
                    continue
                try:
                    style = _style(body)
                except ValueError as error:
                    problem = error
                    continue
                found = dataclasses.replace(
                    self._template,
                    stops=tuple(dict.fromkeys((stop, call_stop))),
                    endings=(ending, call_ending),
                    call_style=style,
                )
                try:
                    _check_answer(found)
                except ValueError as error:
                    problem = error
                    continue
                return _with_parallel(found, body)
        raise problem or ValueError(
            "the template writes no control token after a reply, so nothing would teach the model "
            "to stop"
        )

    def _ends_of_words(self, answer: str, answering: Dialogue) -> Iterator[tuple[str, str]]:
        """Yield what may end a reply in words: the token, and what to write for it."""
        control, rest = self._template.control, answer.partition(ANSWER)[2]
        if control.pattern.match(rest.lstrip()):
            # What serves the model stops at the end of sequence first of all.
            tokens = dict.fromkeys(control.pattern.findall(rest))
            eos = self._template.tokenizer.eos_text
            yield from ((token, "") for token in sorted(tokens, key=lambda token: token != eos))
            return
        start = answering.write(1, prompt=True)
        if following := _end_by_next(answering.write(3), ANSWER, start, control):
            yield following

    def _ends_of_calls(
        self, call: str, stop: str, ending: str, calling: Dialogue
    ) -> Iterator[tuple[str, str, str]]:
        """Yield what may end a call: the token, what to write for it, and the call before it."""
        control = self._template.control
        if stop in call:
            yield stop, "", call[: call.index(stop)]
        bare = call.rstrip()
        for token in control.texts:
            if bare.endswith(token):
                yield token, "", bare[: -len(token)]
        start = calling.write(1, prompt=True)
        following = _end_by_next(calling.write(3), bare, start, control)
        if following is not None:
            yield *following, bare


def _check_answer(template: ChatTemplate) -> None:
    """Refuse a template that does not write the answer to a result, with its end after it."""
    rendered = render_chat(template, (TOOL,), (*CALLING, ANSWERED))
    reply = rendered.replies[-1]
    _expect(rendered.text[reply.start : reply.stop], [ANSWER], "drops the answer to a result")


def _end_by_next(
    text: str, reply: str, start: str, control: ControlTokens
) -> tuple[str, str] | None:
    """Return the token with which the turn after a reply begins, if it can end the reply.

    It cannot if the assistant's own turns begin with it, too.

    Args:
      text: Dialogue with a turn after the reply.
      reply: The reply as it is written.
      start: A prompt, which ends with the beginning of the assistant's turn.
      control: The control tokens.
    """
    at = text.rfind(reply)
    if at < 0:  # written otherwise once a turn follows, but for its end
        reply = reply[-_END:]
        at = text.rfind(reply)
    rest = text[at + len(reply) :] if at >= 0 else ""
    token = control.pattern.match(rest.lstrip())
    opening = [found[0] for found in control.pattern.finditer(start[start.rfind(QUERY) :])]
    if token is None or token[0] in opening:
        return None
    blank = rest[: len(rest) - len(rest.lstrip())]
    return token[0], blank + token[0]


def _expect(text: str, words: list[str], otherwise: str) -> None:
    if not all(word in text for word in words):
        raise ValueError(f"the template {otherwise}")


def _style(body: str) -> str:
    """Return the first style that reads the calls of a reply."""
    found = next(_styles(body), None)
    if found is None:
        raise ValueError(f"the template writes calls in no form that is known: {body[:200]!r}")
    return found


def _styles(body: str) -> Iterator[str]:
    """Yield the styles that read the calls of a reply, the likeliest first."""
    for read in (lambda text, _: text, reply_call_text):
        for style in STYLES:
            try:
                if parse_turn(read(body, style), style) == (CALL,):
                    find_calls(body, 0, len(body), (CALL,), style)
                    yield style
            except ValueError:
                continue


def _with_parallel(template: ChatTemplate, body: str) -> ChatTemplate:
    """Return the template with the first style of a reply that reads several calls, too."""
    for style in dict.fromkeys(_styles(body)):
        candidate = dataclasses.replace(template, call_style=style)
        try:
            _answers(candidate, PARALLEL, QUERY)
        except ValueError:
            continue
        return candidate
    return template


def _with_plain_ids(template: ChatTemplate) -> ChatTemplate:
    """Number calls within their turn where their ids are written, if all else stays the same.

    So what is written between two replies does not depend on the turns before them.
    """
    if template.form.call_id != CALL_ID:
        return template
    call = Message("assistant", "", (OTHER_CALL,))
    turns = (*CALLING, call, Message("tool", OTHER_RESULT))
    form = dataclasses.replace(template.form, call_id=CALL_ID_IN_TURN)
    candidate = dataclasses.replace(template, form=form)
    first, second = (CALL_ID.format(count=count) for count in (0, 1))
    try:
        whole, plain = (
            Dialogue(one, (TOOL,), turns).write(len(turns), prompt=True)
            for one in (template, candidate)
        )
    except ValueError:
        return template
    renumbered = whole.replace(second, first)
    return candidate if renumbered == plain and whole != plain else template


def _writes_preambles(template: ChatTemplate) -> bool:
    """Return whether a turn with words before its call is read back as its call."""
    turns = (*ASKING, Message("assistant", THOUGHT, (CALL,)))
    try:
        _, reply = Dialogue(template, (TOOL,), turns).write_reply(1)
        body = template.stop_pattern.split(reply, maxsplit=1)[0]
        calls = reply_call_text(body, template.call_style)
        preamble = body[: len(body) - len(calls)]
        return THOUGHT in preamble and parse_turn(calls, template.call_style) == (CALL,)
    except ValueError:
        return False


def _writes_greetings(template: ChatTemplate) -> bool:
    """Return whether an assistant turn may come first, and is not taken for the user's."""

    def write(role: str) -> str:
        turns = (Message(role, ANSWER), *CALLING[:2])
        return Dialogue(template, (TOOL,), turns).write_reply(2)[0]

    try:
        text = write("assistant")
    except ValueError:
        return False
    if not all(word in text for word in (ANSWER, QUERY, TOOL.name)):
        return False
    try:
        return text != write("user")
    except ValueError:
        return True


def _with_thoughts(template: ChatTemplate) -> ChatTemplate:
    """Return the template with the first form in which it keeps thoughts, if there is one."""
    keys = [*THOUGHT_KEYS, OPENED]
    if "</think>" in template.given:
        keys.append(IN_CONTENT)
    for key in keys:
        form = dataclasses.replace(template.form, thoughts=key)
        candidate = dataclasses.replace(template, form=form)
        if _keeps_thoughts(candidate):
            return candidate
    return template


def _keeps_thoughts(template: ChatTemplate) -> bool:
    """Return whether a thought is written before calls and words, apart from either."""
    calling = (*ASKING, Message("assistant", "", (CALL,), thoughts=THOUGHT))
    answering = (*ASKING, Message("assistant", ANSWER, thoughts=THOUGHT))
    try:
        for turns in (calling, answering):
            rendered = render_chat(template, (TOOL,), turns)
            reply = rendered.replies[-1]
            text = rendered.text[reply.start : reply.stop]
            at = text.find(THOUGHT)
            end = reply.calls[0].call[0] - reply.start if reply.calls else text.find(ANSWER)
            closed = any(closing in text[: max(at, 0)] for _, closing in THOUGHT_TAGS)
            if not 0 <= at < end or closed or not text[at + len(THOUGHT) : end].strip():
                return False
    except ValueError:
        return False
    return True


def _lacks(template: ChatTemplate) -> dict[str, str]:
    """Return what the template has no place for, and why, by a key of ``chat_template.LACKS``."""
    system, again = Message("system", SYSTEM), Message("user", AGAIN)
    answered = (*ASKING, ANSWERED)
    results = (Message("tool", RESULT), Message("tool", OTHER_RESULT))
    trials: dict[str, Callable[[], None]] = {
        "system": lambda: _shows(template, (system, *ASKING), [SYSTEM, QUERY]),
        "later_system": lambda: _shows(template, (*answered, system, again), [SYSTEM, AGAIN]),
        "second_question": lambda: _answers(template, (*answered, again, CALLING[1]), AGAIN),
        "parallel_calls": lambda: _answers(template, PARALLEL, QUERY),
        "several_results": lambda: _shows(template, (*PARALLEL, *results), [RESULT, OTHER_RESULT]),
        "quotes": lambda: _answers(
            template, (*ASKING, Message("assistant", "", (QUOTING_CALL,))), QUERY
        ),
        "values": lambda: _answers(
            template, (*ASKING, Message("assistant", "", (TYPED_CALL,))), QUERY
        ),
        "types": lambda: _shows(template, ASKING, ["probe_either_qx"], (LISTED,)),
    }
    found = {}
    for part, trial in trials.items():
        try:
            trial()
        except ValueError as error:
            found[part] = str(error)
    if "parallel_calls" in found:
        found.pop("several_results", None)
    return found


def _shows(
    template: ChatTemplate,
    turns: Sequence[Message],
    words: list[str],
    tools: Sequence[ToolSpec] = (TOOL,),
) -> None:
    text = Dialogue(template, tools, turns).write(len(turns), prompt=True)
    _expect(text, words, "leaves it out")


def _answers(template: ChatTemplate, turns: Sequence[Message], word: str) -> None:
    rendered = render_chat(template, _tools_of(turns), turns)
    _expect(rendered.text, [word], "leaves it out")


def _tools_of(turns: Sequence[Message]) -> tuple[ToolSpec, ...]:
    named = {call.name for turn in turns for call in turn.calls}
    return tuple(tool for tool in TOOLS if tool.name in named)
