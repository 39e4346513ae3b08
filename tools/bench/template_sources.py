"""Chat templates of pinned public packages, fetched into a folder of their own.

llama.cpp's templates come with the source of llama-cpp-python, vLLM's with its own, xinference has
one in every model's description, TRL ships those it trains with, and mistral-common writes some.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from typing import Any

PACKAGES = {
    "llama-cpp-python": "0.3.36",
    "vllm": "0.33.0",
    "xinference": "4.1.0",
    "mistral-common": "1.13.1",
    "trl": "1.16.0",
}
SOURCES = ("llama-cpp-python", "vllm")
"""Those whose templates only the source has."""
_WANTED = re.compile(
    r"\.jinja$|/models/ggml-vocab-[^/]*$|^xinference/.*\.json$|^mistral_common/data/"
)
_SPEAKS_OF_TOOLS = re.compile(r"\btools\b|tool_calls|functions")
_MISTRAL = """\
import json, sys
from mistral_common.integrations.chat_templates.chat_templates import generate_chat_template
from mistral_common.tokens.tokenizers.base import TokenizerVersion
found = {}
for version in TokenizerVersion:
    for spm in (True, False):
        settings = frozenset() if version.supports_model_settings else None
        try:
            found[f"{version.value}{'-spm' if spm else ''}"] = generate_chat_template(
                spm, version, False, False, False, None, False, False, settings, None, None
            )
        except ValueError:
            continue
json.dump(found, sys.stdout)
"""


def fetch(folder: pathlib.Path) -> None:
    """Download and unpack what is not there yet.

    Args:
      folder: Where to; about 200 MB.
    """
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "venv", with_pip=True)
        run = [str(python), "-m", "pip", "install", "-q", "unearth", "sentencepiece", "protobuf"]
        run.append(f"transformers=={importlib.metadata.version('transformers')}")
        subprocess.run([*run, f"mistral-common=={PACKAGES['mistral-common']}"], check=True)
    (folder / "packages").mkdir(exist_ok=True)
    for name, version in PACKAGES.items():
        target = folder / "unpacked" / name
        if target.exists():
            continue
        wanted = f"{name}=={version}"
        if name in SOURCES:
            # pip would build the package to read its metadata.
            _client(python, "unearth", "--no-binary", "-d", str(folder / "packages"), wanted)
        else:
            _client(python, "pip", "download", "-q", "--no-deps", "-d", "packages", wanted)
        stem = name.replace("-", "_")
        (archive,) = (folder / "packages").glob(f"{stem}-{version}*")
        _unpack(archive, target)


def _client(python: pathlib.Path, *command: str) -> None:
    if command[0] == "unearth":
        index = subprocess.run(
            [str(python), "-m", "pip", "config", "get", "global.index-url"],
            capture_output=True, text=True, check=False,
        ).stdout.strip()  # fmt: skip
        command = (*command, "-i", index or "https://pypi.org/simple")
    done = subprocess.run(
        [str(python), "-m", *command],
        cwd=python.parents[2], stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"cannot fetch with {command[0]}: see above")


def _unpack(archive: pathlib.Path, target: pathlib.Path) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(target, [n for n in wheel.namelist() if _WANTED.search(n)])
        return
    with tarfile.open(archive) as source:
        members = [m for m in source.getmembers() if m.isfile() and _WANTED.search(m.name)]
        source.extractall(target, members, filter="data")


def templates(folder: pathlib.Path) -> dict[str, list[str]]:
    """Return every distinct template that speaks of tools, with the places it was found at."""
    found: dict[str, list[str]] = {}
    for place, text in _texts(folder):
        if _SPEAKS_OF_TOOLS.search(text):
            found.setdefault(text.strip("\n"), []).append(place)
    return found


def _texts(folder: pathlib.Path) -> Iterator[tuple[str, str]]:
    unpacked = folder / "unpacked"
    for file in sorted(unpacked.rglob("*.jinja")):
        yield f"{file.relative_to(unpacked).parts[0]}/{file.name}", file.read_text("utf-8")
    for file in sorted((unpacked / "xinference").rglob("*.json")):
        for name, text in _described(json.loads(file.read_text("utf-8")), file.stem):
            yield f"xinference/{name}", text
    for version, text in mistral_templates(folder).items():
        yield f"mistral-common/{version}", text


def mistral_templates(folder: pathlib.Path) -> dict[str, str]:
    """Return the templates that mistral-common writes, by version and kind of tokenizer."""
    done = subprocess.run(
        [str(folder / "venv" / "bin" / "python"), "-c", _MISTRAL],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def _described(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        name = str(value.get("model_name") or name)
        if isinstance(value.get("chat_template"), str):
            yield name, value["chat_template"]
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _described(item, name)
