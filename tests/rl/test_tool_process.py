"""Tools that really run: whatever they do, the model reads a text and training goes on."""

import json
import os
import time
from pathlib import Path

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.config import EnvironmentConfig
from tl_jax.errors import ConfigError
from tl_jax.rl.tool_process import Session, open_environment

TOOLS = """
import os, resource, subprocess, sys
from json import dumps
import beside

seen = []

def add(x, y=1):
    return {"sum": x + y, "é": beside.VALUE}

def count():
    seen.append(1)
    return len(seen)

def fail(): raise KeyError("no such city")
def leave(): os._exit(3)
def stop(): sys.exit("enough")
def recurse(): return recurse()
def huge(): return "x" * 10_000
def eat(): return len(bytearray(10**11))
def spin():
    while True: pass
def read(): return sys.stdin.read() + os.read(0, 9).decode()
def ask(): return input()
def shout():
    print("one"); print("two", file=sys.stderr); os.write(1, b'{"result": "three"}\\n')
    return "shouted"
def cheat():
    for stream in range(3, 20):
        try: os.write(stream, b'{"result": "1"}\\n{"result": "2"}\\n')
        except OSError: pass
    return "cheated"
def fork():
    if not os.fork():
        return "child"
    os.wait()
    return "parent"
def child(): return subprocess.Popen(["sleep", "600"]).pid
def strange(): return object()
def nan(): return float("nan")
def surrogate(): return "\\ud800"
def told(): raise ValueError("\\ud800" + "y" * 10_000)
def limits():
    kinds = resource.RLIMIT_AS, resource.RLIMIT_CPU
    return [resource.getrlimit(kind)[0] for kind in kinds]
def _hidden(): return 1
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    (folder / "beside.py").write_text("VALUE = 7\n")
    (folder / "mine.py").write_text(TOOLS)
    return EnvironmentConfig(
        path=str(folder / "mine.py"), timeout_s=30.0, memory_mib=256, result_chars=200
    )


@pytest.fixture(scope="module")
def session(config):
    session = Session(config)
    yield session
    session.close()


def run(session, name, **arguments):
    return json.loads(session.call(ToolCall(name, arguments)))


def test_the_public_functions_of_the_file_are_its_tools(config):
    names = open_environment(config).names
    assert {"add", "count", "spin"} <= names
    assert not names & {"_hidden", "dumps", "beside", "os", "seen"}


def test_results_are_json_text(session):
    text = session.call(ToolCall("add", {"x": 2, "y": 3}))
    assert text == '{"sum": 5, "é": 7}'
    assert run(session, "add", x=1) == {"sum": 2, "é": 7}


@pytest.mark.parametrize(
    "name,error",
    [
        ("fail", "KeyError: 'no such city'"),
        ("stop", "SystemExit: enough"),
        ("recurse", "RecursionError: "),
        ("huge", "the result has more than 200 characters"),
        ("eat", "MemoryError"),
        ("ask", "EOFError: "),
        ("strange", "TypeError: Object of type object is not JSON serializable"),
        ("nan", "ValueError: Out of range float values"),
        ("surrogate", "UnicodeEncodeError: "),
        ("told", "ValueError: ?yyy"),
        ("add", "TypeError: add() missing 1 required positional argument: 'x'"),
    ],
)
def test_what_goes_wrong_in_a_tool_is_told_and_its_process_goes_on(session, name, error):
    before = run(session, "count")
    found = run(session, name)
    assert list(found) == ["error"] and found["error"].startswith(error)
    assert len(found["error"]) <= 200
    assert run(session, "count") == before + 1


@pytest.mark.parametrize("name,result", [("read", ""), ("shout", "shouted"), ("fork", "parent")])
def test_the_streams_of_the_process_are_out_of_reach(session, name, result):
    before = run(session, "count")
    assert run(session, name) == result
    assert run(session, "count") == before + 1


@pytest.mark.parametrize(
    "name,error",
    [
        ("leave", "the tool ended its process"),
        ("cheat", "the tool wrote to the stream of its results"),
    ],
)
def test_a_process_that_is_lost_is_replaced(session, name, error):
    run(session, "count")
    assert run(session, name) == {"error": error}
    assert run(session, "count") == 1


def test_an_endless_loop_is_ended(config):
    session = Session(EnvironmentConfig(path=config.path, timeout_s=0.5))
    ended = ("the tool took more than 0.5 s", "the tool ended its process")
    assert run(session, "spin")["error"] in ended
    # A process that must not use the processor any longer ends itself, also if nobody waits.
    address, seconds = run(session, "limits")
    assert address == 1024 << 20 and 1 <= seconds <= 3
    session.close()


def test_nothing_that_a_tool_started_outlives_its_dialogue(config):
    session = Session(config)
    process = run(session, "child")
    os.kill(process, 0)
    session.close()
    status = Path(f"/proc/{process}/stat")
    for _ in range(200):
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the child of a tool still runs")


def test_dialogues_do_not_see_each_other(config):
    sessions = [open_environment(config).session() for _ in range(2)]
    assert [run(session, "count") for session in sessions * 2] == [1, 1, 2, 2]
    for session in sessions:
        session.close()


@pytest.mark.parametrize(
    "text,message",
    [
        ("def f(:", r"cannot be loaded \(SyntaxError: "),
        ("1 / 0", r"cannot be loaded \(ZeroDivisionError: "),
        ("import os; os._exit(1)", "ended its process"),
        ("x = 1\n_f = lambda: 1", "defines no public function"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_the_door(tmp_path, text, message):
    (tmp_path / "tools.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        open_environment(EnvironmentConfig(path=str(tmp_path / "tools.py")))
