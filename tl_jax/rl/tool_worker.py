"""The program that runs the tools of a user's file, one call after another.

``environment`` starts it as a process of its own; it imports nothing of this package. Calls come
in and results go out as lines of JSON over the two streams that it was started with. Before the
file is loaded they are put out of reach: tools read an empty standard input, and what they print
is thrown away.

    python tool_worker.py FILE TIMEOUT_S MEMORY_MIB RESULT_CHARS
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import os
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any


def main(path: str, timeout_s: float, memory_mib: int, result_chars: int) -> None:
    """Say which tools there are, then answer one line with one line until there are no more."""
    calls, results = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    size = memory_mib << 20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        tools = load(path)
        reply: dict[str, Any] = {"tools": sorted(tools)}
    except BaseException as error:
        tools = {}
        reply = {"error": words_of(error)}
    process = os.getpid()
    while True:
        print(json.dumps(reply), file=results, flush=True)
        line = calls.readline()
        if not line:
            return
        allow_seconds(timeout_s)
        call = json.loads(line)
        reply = {"result": run(tools[call["name"]], call["arguments"], result_chars)}
        if os.getpid() != process:  # a fork that the tool has left behind
            os._exit(0)


def load(path: str) -> dict[str, Callable[..., Any]]:
    """Return the public functions that a Python file defines, by name."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location("tools", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tools"] = module
    spec.loader.exec_module(module)
    return {
        name: function
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == "tools"
        and not name.startswith("_")
    }


def allow_seconds(timeout_s: float) -> None:
    """Let the process use so much more of the processor before it is ended."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(used.ru_utime + used.ru_stime + timeout_s)
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def run(function: Callable[..., Any], arguments: Mapping[str, Any], result_chars: int) -> str:
    """Return the result as JSON text, or ``{"error": ...}`` if there is none of allowed length."""
    try:
        text = json.dumps(function(**arguments), ensure_ascii=False, allow_nan=False)
        text.encode()  # a lone surrogate has no form in bytes
    except BaseException as error:
        return json.dumps({"error": words_of(error)[:result_chars]}, ensure_ascii=False)
    if len(text) > result_chars:
        return json.dumps({"error": f"the result has more than {result_chars} characters"})
    return text


def words_of(error: BaseException) -> str:
    """Return the kind and the message of an error."""
    try:
        words = f"{type(error).__name__}: {error}"
    except Exception as broken:
        words = f"{type(error).__name__}, whose message raises {type(broken).__name__}"
    return words.encode(errors="replace").decode()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
