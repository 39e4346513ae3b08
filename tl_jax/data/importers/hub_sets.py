"""Data sets of the Hugging Face Hub: which files they have at one commit, and each as it is needed.

A file is named ``hf://datasets/ORGANISATION/NAME@COMMIT/PATH``. Nothing of a data set is run.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tl_jax.errors import DataError

_SCHEME = "hf://datasets/"
_FILE = re.compile(rf"{_SCHEME}([^/]+/[^/@]+)@([0-9a-f]+)/(.+)")
_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?(?::(\w[\w./-]*))?")
_CARD = "README.md"


def parse_id(text: str) -> tuple[str, str, str] | None:
    """Return name, revision and split of ``organisation/name[@revision][:split]``, or None.

    A split may have the name of a configuration before it: ``config/split``.
    """
    match = _ID.fullmatch(text)
    return (match[1], match[2] or "main", match[3] or "") if match else None


def is_file(name: str) -> bool:
    """Whether a name is that of a file on the Hub."""
    return name.startswith(_SCHEME)


@functools.lru_cache(maxsize=64)
def list_files(name: str, revision: str) -> tuple[str, tuple[str, ...], Mapping[str, Any]]:
    """Return the commit of a revision, the paths of its files and what its card says in YAML.

    Raises:
      DataError: There is no such data set or revision, its terms are not accepted, or the Hub
        cannot be reached.
    """
    import huggingface_hub

    with _hub_errors(name, revision):
        # Of the folder in the cache, the name is the commit.
        folder = huggingface_hub.snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=[_CARD]
        )
        commit = Path(folder).name
        files = huggingface_hub.list_repo_files(name, repo_type="dataset", revision=commit)
    return commit, tuple(files), card(folder)


def file_name(name: str, commit: str, path: str) -> str:
    """Return the name of a file of a data set."""
    return f"{_SCHEME}{name}@{commit}/{path}"


def local_file(name: str) -> str:
    """Return where a file of the Hub lies on this machine; it is fetched if it does not yet.

    Raises:
      DataError: As for ``list_files``.
    """
    import huggingface_hub

    match = _FILE.fullmatch(name)
    if match is None:
        raise DataError(f"{name}: must read {_SCHEME}ORGANISATION/NAME@COMMIT/PATH")
    data_set, commit, path = match.groups()
    with _hub_errors(data_set, commit):
        return huggingface_hub.hf_hub_download(data_set, path, repo_type="dataset", revision=commit)


def card(folder: str) -> Mapping[str, Any]:
    """Return what the card of a data set in a folder says in YAML; nothing if there is none."""
    import yaml

    path = Path(folder) / _CARD
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    match = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        value = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        value = None
    return value if isinstance(value, Mapping) else {}


@contextlib.contextmanager
def _hub_errors(name: str, revision: str) -> Iterator[None]:
    from huggingface_hub import errors

    # OSError, and the root of what the HTTP library raises, whichever the client uses.
    unreachable: Any = errors.HfHubHTTPError.__bases__
    page = f"https://huggingface.co/datasets/{name}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise DataError(
            f"{name}: its authors ask to accept their terms first; do so at {page} and log in "
            "with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DataError(
            f"{name}: no such file or directory here, and no such data set on the Hugging Face "
            "Hub; correct the name, or log in with `hf auth login` if it is private"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DataError(f"{name}: has no revision {revision!r}; see {page}") from error
    except unreachable as error:
        raise DataError(
            f"{name}: no such file or directory here, and the Hugging Face Hub cannot be reached "
            f"({str(error)[:200]}); go online, or fetch it elsewhere with `hf download --repo-type "
            f"dataset {name} --local-dir DIR` and give DIR"
        ) from error
