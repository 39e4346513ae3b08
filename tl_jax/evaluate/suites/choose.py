"""Which suites are scored: those of the package, and those of a user's file; and their items."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Sequence

from tl_jax.calls.call import ToolCall
from tl_jax.config import RunConfig
from tl_jax.config.user_file import digest, load_file
from tl_jax.errors import ConfigError, DataError, TlJaxError
from tl_jax.evaluate.suites import SUITES, own_data
from tl_jax.evaluate.suites.own_data import is_there
from tl_jax.evaluate.suites.suite import Item, Read, Suite

_BROKEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What a reader raises over a file of another kind."""
_SETTING = "config.evaluate.suites"
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A suite and its data.

    Attributes:
      suite: The suite.
      path: Its data; empty where it has none outside itself.
      code: Digest of the user's file that defines it; empty for those of the package.
    """

    suite: Suite
    path: str = ""
    code: str = ""

    @property
    def name(self) -> str:
        """Name of the suite."""
        return self.suite.name

    @property
    def version(self) -> str:
        """What changes whenever the items or the rule do."""
        return " ".join(filter(None, (self.code, self.path and self.suite.version(self.path))))

    def items(self) -> list[Item]:
        """Return the items; see ``read_items``."""
        return read_items(self.suite, self.path)


def chosen_suites(config: RunConfig) -> list[Chosen]:
    """Return the suites of ``evaluate.suites``, or those of the package that are set.

    Raises:
      ConfigError: An unknown name, a suite that lacks its data, a file without a suite, or two
        suites of one name.
    """
    entries = config.evaluate.suites
    if not entries:
        found = [Chosen(suite, suite.source(config)) for suite in SUITES.values()]
        return [c for c in found if c.path and (c.name != own_data.NAME or is_there(c.path))]
    suites = [_chosen(config, entry) for entry in entries]
    names = [file_name(chosen.name) for chosen in suites]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{_SETTING}: two suites are called {twice[0]}; rename one")
    return suites


def _chosen(config: RunConfig, entry: str) -> Chosen:
    name, _, path = entry.partition("=")
    suite, code = find_suite(name, _SETTING)
    path = path or suite.source(config)
    if not path and suite.setting:
        raise ConfigError(f"{_SETTING}: {name} needs config.evaluate.{suite.setting}; set it")
    if not path and not code:
        raise ConfigError(f"{_SETTING}: {name} needs a file of its items; write {name}=FILE")
    return Chosen(suite, path, code)


def find_suite(name: str, setting: str) -> tuple[Suite, str]:
    """Return the suite of a name or of a Python file, and the digest of that file.

    Args:
      name: Name of a suite of the package, or the path of a ``.py`` file.
      setting: Who names it, for messages.

    Raises:
      ConfigError: There is none.
    """
    if name.endswith(".py"):
        return read_suite(name, setting), digest(name)
    if name not in SUITES:
        near = difflib.get_close_matches(name, SUITES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"{setting}: unknown suite {name!r}; {hint}give the path of a .py file or one of "
            f"{', '.join(SUITES)}"
        )
    return SUITES[name], ""


def read_suite(path: str, setting: str = _SETTING) -> Suite:
    """Return the suite of a Python file: its ``SUITE``, or what its function ``suite`` returns.

    Raises:
      ConfigError: No such file, it cannot be loaded, or has no suite.
    """
    module = load_file(path, setting)
    found = getattr(module, "SUITE", None)
    if found is None and callable(make := getattr(module, "suite", None)):
        found = make()
    if not isinstance(found, Suite):
        raise ConfigError(
            f"{setting}: {path} must define SUITE, or a function suite(), as a "
            f"tl_jax.evaluate.suites.Suite, got {found!r}"
        )
    if not _NAME.fullmatch(found.name) or found.name in SUITES:
        raise ConfigError(
            f"{setting}: the suite of {path} is called {found.name!r}; take a name of its own, of "
            "letters, digits, '.', '_', '-' and '/'"
        )
    return found


def read_items(suite: Suite, path: str) -> list[Item]:
    """Return the items of a data file.

    Raises:
      DataError: There is no such file, it is none of this suite (the message says of which one it
        is, or which there are), it holds no items, or two of one id.
    """
    if os.sep in path and not os.path.exists(path):
        raise DataError(f"{suite.name}: no file {path}")
    try:
        items = list(suite.read(path))
    except Exception as error:  # a file of another kind may break a reader in any way
        raise DataError(_refusal(suite, path, error)) from error
    if not items:
        raise DataError(f"the evaluation suite {suite.name} has no items{path and f' in {path}'}")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"{suite.name}: two items of {path} have the id {item.id!r}")
        seen.add(item.id)
        if suite.name in SUITES:
            _check_item(suite, item, path)
    return items


def _check_item(suite: Suite, item: Item, path: str) -> None:
    """Refuse an item whose gold or tools its suite cannot judge by, before anybody is asked it.

    Raises:
      DataError: The message names the item.
    """
    written: list[tuple[ToolCall, ...]] = []

    def write(calls: Sequence[ToolCall]) -> str:
        written.append(tuple(calls))
        return ""

    try:
        for message in item.messages:
            if not isinstance(message.content, str):
                raise TypeError(f"a turn of {message.role!r} is no text: {message.content!r:.60}")
        text = suite.oracle(item, write)
        suite.judge(item, text, lambda _: Read(written[-1] if written else ()))
    except Exception as error:  # a damaged row may break a rule in any way
        raise DataError(
            f"{suite.name}: item {item.id!r} of {path} cannot be judged "
            f"({type(error).__name__}: {error}); mend its gold answer or its tools, or leave it out"
        ) from error


def _refusal(suite: Suite, path: str, error: Exception) -> str:
    # What the package raises says the place and the mend; anything else is no message for people.
    told = str(error) if isinstance(error, TlJaxError) else f"{type(error).__name__}: {error}"
    if suite.name not in SUITES:
        return f"{suite.name}: {path} cannot be read ({told})"
    if not os.path.isfile(path):
        absent = path and not isinstance(error, TlJaxError)
        return f"{suite.name}: no file {path}" if absent else f"{suite.name}: {told}"
    for other in SUITES.values():
        if other.name != suite.name and other.setting == "" and reads(other, path):
            return f"{path} is no file of the suite {suite.name}, but one of {other.name}: {told}"
    names = ", ".join(SUITES)
    return f"{path} is no file of the suite {suite.name}: {told}. The suites are {names}"


def reads(suite: Suite, path: str) -> bool:
    """Whether a file or folder is one of a suite, by its first item."""
    try:
        return any(True for _ in suite.read(path))
    except (TlJaxError, OSError, *_BROKEN):
        return False


def file_name(suite: str) -> str:
    """Return the name of a suite's files without an ending."""
    return suite.replace("/", "-")
