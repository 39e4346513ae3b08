"""Which suites the files of a folder are of: all that can be scored there, by one command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tl_jax.errors import ConfigError
from tl_jax.evaluate.suites import SUITES
from tl_jax.evaluate.suites.choose import Chosen, reads
from tl_jax.evaluate.suites.own_data import NAME as OWN

ALL = "all"
_DEEP = 4
_ENDINGS = (".json", ".jsonl", ".jsonl.gz", ".json.gz")


def found_in(folder: str) -> list[Chosen]:
    """Return every suite of the package with each file or folder below ``folder`` that is its.

    A file belongs to the first suite that reads it; the held-out part of one's own data and sets
    that are drawn without a file are no part of it.

    Args:
      folder: Such as a checkout of RoTBench, or a folder of several sets.

    Raises:
      ConfigError: There is no such folder, or nothing in it is of a suite.
    """
    if not os.path.isdir(folder):
        raise ConfigError(
            f"--suite={ALL} takes what lies in a folder; give --data=FOLDER, got {folder or 'none'}"
        )
    suites = [s for s in SUITES.values() if s.name != OWN and not s.setting]
    found: list[Chosen] = []
    for path in _places(Path(folder)):
        # What a folder as a whole is of, its files are no further sets of.
        taken = {one.suite.name for one in found if Path(one.path) in path.parents}
        for suite in suites:
            if suite.name not in taken and reads(suite, str(path)):
                found.append(Chosen(suite, str(path)))
                if path.is_file():
                    break
    if not found:
        raise ConfigError(
            f"no file in {folder} is of an evaluation suite; there are {', '.join(SUITES)}"
        )
    order = list(SUITES)
    return sorted(found, key=lambda one: (order.index(one.name), one.path))


def check_one_folder(names: Sequence[str], paths: Sequence[str]) -> str:
    """Return the folder that ``--suite=all`` is to look in.

    Raises:
      ConfigError: It is named beside other suites, or there is not one folder.
    """
    if len(names) > 1 or len(paths) != 1:
        raise ConfigError(f"--suite={ALL} stands alone, with one --data=FOLDER")
    return paths[0]


def _places(folder: Path) -> list[Path]:
    """Return the folder, and folders and files of data below it, the outer ones first."""
    found: list[Path] = []
    seen = set()
    for name, folders, files in os.walk(folder, followlinks=True):
        inside, real = Path(name), os.path.realpath(name)
        deep = len(inside.relative_to(folder).parts)
        if real in seen or deep > _DEEP:  # links lead in circles
            folders[:] = []
            continue
        seen.add(real)
        found.append(inside)
        folders[:] = [one for one in folders if not one.startswith(".")]
        if deep < _DEEP:
            data = [one for one in files if one.endswith(_ENDINGS) and not one.startswith(".")]
            found += [inside / one for one in data]
    return sorted(found, key=lambda path: (len(path.parts), path))
