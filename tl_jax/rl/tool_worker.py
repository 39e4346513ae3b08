"""The program that runs the tools of a user's file, one call after another.

``environment`` starts it as a process of its own; it imports nothing of this package. Calls come
in and results go out as lines of JSON over the two streams that it was started with. Before the
file is loaded they are put out of reach: tools read an empty standard input, and what they print
is thrown away.

It is two processes: one runs the tools, the other keeps watch and runs nothing of the user's. When
the stream of calls is closed, because the dialogue is over or whoever started it is gone, the
keeper ends all that the tools have started, whatever session it has put itself into.

    python tool_worker.py FILE TIMEOUT_S MEMORY_MIB RESULT_CHARS NETWORK
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import inspect
import json
import math
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_LINUX = sys.platform == "linux"
_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36  # of prctl
_NEW_USERS, _NEW_NETWORK = 0x10000000, 0x40000000  # of unshare
_SET_FLAGS, _UP = 0x8914, 1  # of a network interface
_ENDING_S = 0.005


def main(path: str, timeout_s: float, memory_mib: int, result_chars: int, network: bool) -> None:
    """Part into the keeper and the process that runs the tools."""
    _kernel("prctl", _SET_SUBREAPER, 1)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    keeper = os.getpid()
    if worker := os.fork():
        keep(worker, ended)
        return
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(ended)
    os.close(wake)
    _kernel("prctl", _SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() == keeper:  # else it was gone before it could be told
        work(path, timeout_s, memory_mib, result_chars, network)


def keep(worker: int, ended: int) -> None:
    """Wait for the end of the stream of calls or of the worker, then end all descendants.

    Args:
      worker: The process that runs the tools.
      ended: Can be read from when a child has ended.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nothing, stream)  # else the results would seem to go on without the worker
    poll = select.poll()
    poll.register(0, 0)  # tells the end only; the calls are for the worker
    poll.register(ended, select.POLLIN)
    over = False
    while not over:
        found = {stream for stream, _ in poll.poll()}
        over = 0 in found
        if ended in found:
            os.read(ended, 1 << 12)
            over = _gone(worker) or over
    try:
        while True:
            for process in descendants() or {worker}:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signal.SIGKILL)
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(_ENDING_S)
    except ChildProcessError:
        pass
    if not _LINUX:
        os.killpg(os.getpgrp(), signal.SIGKILL)


def descendants() -> set[int]:
    """Return the processes below this one; orphans among them are its children (``prctl``)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name before the last bracket may hold anything.
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
    found, new = set(), {os.getpid()}
    while new:
        new = {process for process, parent in parents.items() if parent in new} - found
        found |= new
    return found


def _gone(worker: int) -> bool:
    """Take note of the children that have ended; return whether the worker is among them."""
    try:
        while ended := os.waitpid(-1, os.WNOHANG)[0]:
            if ended == worker:
                return True
    except ChildProcessError:
        return True
    return False


def leave_network() -> str:
    """Go where there is no network but the process itself; return why not, or nothing."""
    if not _LINUX:
        return f"{sys.platform} has no way"
    user, group = os.getuid(), os.getgid()
    if _kernel("unshare", _NEW_NETWORK):
        if reason := _kernel("unshare", _NEW_USERS | _NEW_NETWORK):
            return reason
        with contextlib.suppress(OSError):  # the same numbers as before
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))
    return ""


def _kernel(name: str, *args: int) -> str:
    """Ask the kernel for something; return why not, or nothing."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None) if _LINUX else None
    if function is None:
        return f"{sys.platform} has no {name}"
    numbers = [ctypes.c_ulong(number) for number in (*args, *[0] * (5 - len(args)))]
    return os.strerror(ctypes.get_errno()) if function(*numbers) else ""


def work(path: str, timeout_s: float, memory_mib: int, result_chars: int, network: bool) -> None:
    """Say which tools there are, then answer one line with one line until there are no more."""
    calls, results = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    size = memory_mib << 20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    open_network = "" if network else leave_network()
    try:
        tools = load(path)
        reply: dict[str, Any] = {"tools": sorted(tools), "network": open_network}
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
    _, file, seconds, mebibytes, chars, opened = sys.argv
    main(file, float(seconds), int(mebibytes), int(chars), opened == "True")
