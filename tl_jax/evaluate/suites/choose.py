"""Which suites a run is scored on: those of the package, and those of a user's file."""

from __future__ import annotations

import dataclasses
import difflib
import re

from tl_jax.config import EvaluateConfig
from tl_jax.config.user_file import digest, load_file
from tl_jax.errors import ConfigError
from tl_jax.evaluate.suites import SUITES
from tl_jax.evaluate.suites.run_suite import Suite

_SETTING = "config.evaluate.suites"
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


def chosen_suites(limits: EvaluateConfig) -> list[Suite]:
    """Return the suites of ``evaluate.suites``, or those of the package that are set.

    Raises:
      ConfigError: An unknown name, a suite that lacks its setting, a file without a suite, or two
        suites of one name.
    """
    if not limits.suites:
        return [suite for suite in SUITES.values() if getattr(limits, suite.setting)]
    suites = [
        read_suite(entry) if entry.endswith(".py") else _built_in(limits, entry)
        for entry in limits.suites
    ]
    names = [file_name(suite.name) for suite in suites]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{_SETTING}: two suites are called {twice[0]}; rename one")
    return suites


def read_suite(path: str) -> Suite:
    """Return the suite of a Python file: its ``SUITE``, or what its function ``suite`` returns.

    Raises:
      ConfigError: No such file, it cannot be loaded, or has no suite.
    """
    module = load_file(path, _SETTING)
    found = getattr(module, "SUITE", None)
    if found is None and callable(make := getattr(module, "suite", None)):
        found = make()
    if not isinstance(found, Suite):
        raise ConfigError(
            f"{_SETTING}: {path} must define SUITE, or a function suite(), as a "
            f"tl_jax.evaluate.suites.Suite, got {found!r}"
        )
    if not _NAME.fullmatch(found.name) or found.name in SUITES:
        raise ConfigError(
            f"{_SETTING}: the suite of {path} is called {found.name!r}; take a name of its own, of "
            "letters, digits, '.', '_', '-' and '/'"
        )
    return dataclasses.replace(found, setting="", version=digest(path))


def file_name(suite: str) -> str:
    """Return the name of a suite's files without an ending."""
    return suite.replace("/", "-")


def _built_in(limits: EvaluateConfig, name: str) -> Suite:
    if name not in SUITES:
        near = difflib.get_close_matches(name, SUITES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"{_SETTING}: unknown suite {name!r}; {hint}give the path of a .py file or one of "
            f"{', '.join(SUITES)}"
        )
    suite = SUITES[name]
    if not getattr(limits, suite.setting):
        raise ConfigError(f"{_SETTING}: {name} needs config.evaluate.{suite.setting}; set it")
    return suite
