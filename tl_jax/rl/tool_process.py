"""Tools that really run: the public functions of a user's Python file, in processes of their own.

A process is for the mistakes that a sampled call can lead a tool into: an endless loop, too much
memory, an end of the process, an exception. Each becomes a text that the model reads. What a tool
has started ends with its dialogue and with this process. Tools see a few variables of the
environment only, and on Linux no network, unless the settings say so. It is no wall against malice:
the file is the user's own code and runs with the user's rights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from tl_jax.calls.call import ToolCall
from tl_jax.config import EnvironmentConfig
from tl_jax.errors import ConfigError

logger = logging.getLogger(__name__)

_WORKER = str(Path(__file__).with_name("tool_worker.py"))
_LOAD_S = 60.0
"""Seconds that a file may take to load."""
_FRAME = 4096
"""Bytes of a line beside the result, more than enough."""
_ESCAPED = 12
"""Most bytes of a character in JSON: two escapes."""
_END_S = 5.0
"""Seconds that ending what tools have started may take."""
_VARIABLES = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
)
"""What of the environment tools see: where things are, and no keys to them."""
_KINDS: dict[str, type] = {"result": str, "tools": list}


@dataclasses.dataclass(frozen=True)
class Environment:
    """The tools of a file.

    Attributes:
      config: The file and its limits.
      names: Names of its public functions, which are those of its tools.
    """

    config: EnvironmentConfig
    names: frozenset[str]

    def session(self) -> Session:
        """Return a place for the calls of one dialogue."""
        return Session(self.config)


def open_environment(config: EnvironmentConfig) -> Environment:
    """Load a file once, to see which tools it has.

    Raises:
      ConfigError: It cannot be loaded, or has no public function.
    """
    session = Session(config)
    try:
        names = session.start()
    except _Lost as lost:
        raise ConfigError(f"config.environment.path: {config.path}: {lost}") from lost
    finally:
        session.close()
    if not names:
        raise ConfigError(
            f"config.environment.path: {config.path} defines no public function; each is a tool"
        )
    return Environment(config, names)


class _Lost(Exception):
    """The process has to be ended; the message is why."""


class Session:
    """A process that runs the tools of one dialogue, so that what they remember is its own.

    The process is started for the first call. One that had to be ended is replaced for the next
    call; what its tools remembered is gone.

    Args:
      config: The file and its limits.
    """

    def __init__(self, config: EnvironmentConfig):
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, call: ToolCall) -> str:
        """Run a tool of the file, whatever may come of it.

        Returns:
          The result as JSON text, or ``{"error": ...}`` with what went wrong.
        """
        limit = self._config.timeout_s
        try:
            self.start()
            request = {"name": call.name, "arguments": dict(call.arguments)}
            late = f"the tool took more than {limit:g} s"
            deadline = time.monotonic() + limit
            self._send(json.dumps(request).encode() + b"\n", deadline, late)
            return self._receive(deadline - time.monotonic(), "result", late)["result"]
        except _Lost as lost:
            self.close()
            return error_text(str(lost))

    def start(self) -> frozenset[str]:
        """Start the process if there is none, and return the names of its tools if it is new."""
        if self._process is not None:
            return frozenset()
        config = self._config
        limits = (config.timeout_s, config.memory_mib, config.result_chars, config.network)
        names = (*_VARIABLES, *config.variables)
        # -P: the folder of the program is not where tools look for modules.
        command = [sys.executable, "-P", _WORKER, config.path, *map(str, limits)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={name: os.environ[name] for name in names if name in os.environ},
            )
            os.set_blocking(self._pipes()[0].fileno(), False)
        except OSError:  # no process or no memory is left
            raise _Lost("the process of the tools could not be started") from None
        reply = self._receive(_LOAD_S, "tools", f"it took more than {_LOAD_S:g} s to load")
        if reply.get("network"):
            _warn_of_network(str(reply["network"]))
        return frozenset(reply["tools"])

    def close(self) -> None:
        """End the process and all that it started."""
        process = self._process
        if process is None:
            return
        for stream in self._pipes():  # when the calls end, the keeper ends all
            with contextlib.suppress(OSError):
                stream.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._process = None

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Return what the process reads and what it writes."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        return process.stdin, process.stdout

    def _send(self, line: bytes, deadline: float, late: str) -> None:
        """Write a line by a time of the monotonic clock, though nobody may read."""
        stream = self._pipes()[0].fileno()
        poll = select.poll()
        poll.register(stream, select.POLLOUT)
        left = memoryview(line)
        while left:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise _Lost(late)
            try:
                left = left[os.write(stream, left) :]
            except BlockingIOError:
                continue
            except OSError:
                raise _Lost("the process of the tools had ended") from None

    def _receive(self, timeout_s: float, key: str, late: str) -> dict[str, Any]:
        """Return the next line, which has ``key``."""
        stream = self._pipes()[1].fileno()
        most = _FRAME + _ESCAPED * self._config.result_chars
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise _Lost(late)
            block = os.read(stream, 1 << 16)
            if not block:
                raise _Lost("the tool ended its process")
            line += block
            if len(line) > most:
                raise _Lost("the tool wrote to the stream of its results")
        try:
            reply = json.loads(line)
            if "error" in reply:
                raise _Lost(f"it cannot be loaded ({reply['error']})")
            if not isinstance(reply[key], _KINDS[key]):
                raise ValueError(key)
            return reply
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _Lost("the tool wrote to the stream of its results") from None


@functools.cache
def _warn_of_network(reason: str) -> None:
    logger.warning(
        "the tools of config.environment.path can use the network: the system does not allow to "
        "take it away (%s)",
        reason,
    )


def error_text(why: str) -> str:
    """Return what a tool answers when it has no result."""
    return json.dumps({"error": why}, ensure_ascii=False)
