"""Tools that really run: whatever they do, the model reads a text and training goes on."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.config import EnvironmentConfig
from tl_jax.errors import ConfigError
from tl_jax.rl import tool_process
from tl_jax.rl.tool_process import Session, open_environment

TOOLS = """
import os, resource, subprocess, sys, time
from json import dumps
import beside

counted = []

def add(x, y=1):
    return {"sum": x + y, "é": beside.VALUE}

def count():
    counted.append(1)
    return len(counted)

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
def cheat(line='{"result": "1"}\\n{"result": "2"}'):
    for stream in range(3, 20):
        try: os.write(stream, line.encode() + b"\\n")
        except OSError: pass
    return "cheated"
def nest(): return cheat("[" * 1300)
def number():
    cheat('{"result": 3}')
    time.sleep(600)
def fork():
    if not os.fork():
        return "child"
    os.wait()
    return "parent"
def child(): return subprocess.Popen(["sleep", "600"]).pid
def grandchild():
    pid = subprocess.Popen(["sleep", "600"], start_new_session=True).pid
    return pid
def orphan():
    code = "import subprocess as s\\nsleep = ['sleep', '99']\\n"
    code += "print(s.Popen(sleep, stdout=s.DEVNULL, start_new_session=True).pid)"
    return int(subprocess.check_output([sys.executable, "-S", "-c", code]))
def deaf():
    import signal, threading
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGSTOP)).start()
def seen(): return sorted(os.environ)
def user(): return [os.getuid(), os.path.exists(__file__)]
def reach(port):
    import socket
    socket.create_connection(("127.0.0.1", port), timeout=2).close()
    return "reached"
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
    assert not names & {"_hidden", "dumps", "beside", "os", "counted"}


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
        ("nest", "the tool wrote to the stream of its results"),
        ("number", "the tool wrote to the stream of its results"),
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


def has_ended(process):
    status = Path(f"/proc/{process}/stat")
    for _ in range(200):
        try:
            if status.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


STARTED = ("child", "grandchild", "orphan")


def test_nothing_that_a_tool_started_outlives_its_dialogue(config):
    session = Session(config)
    started = [run(session, name) for name in STARTED]
    for process in started:
        os.kill(process, 0)
    session.close()
    assert all(map(has_ended, started))


def test_nothing_that_a_tool_started_outlives_its_process(config):
    session = Session(config)
    started = [run(session, name) for name in STARTED]
    assert run(session, "leave") == {"error": "the tool ended its process"}
    assert all(map(has_ended, started))
    session.close()


TRAINER = """
import json, sys, time
from tl_jax.calls.call import ToolCall
from tl_jax.config import EnvironmentConfig
from tl_jax.rl import tool_process
from tl_jax.rl.tool_process import Session
session = Session(EnvironmentConfig(path=sys.argv[1]))
print(session._process, *[session.call(ToolCall(name)) for name in sys.argv[2:]], flush=True)
session.call(ToolCall("spin"))
"""


def test_nothing_that_a_tool_started_outlives_a_trainer_that_is_killed(config):
    command = [sys.executable, "-c", TRAINER, config.path, *STARTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        started = list(map(int, trainer.stdout.readline().split()[1:]))
        children = Path(f"/proc/{trainer.pid}/task/{trainer.pid}/children").read_text().split()
        trainer.kill()
    assert len(started) == 3
    assert all(map(has_ended, (*started, *children)))


def test_a_request_that_nobody_reads_ends_in_time(config):
    session = Session(EnvironmentConfig(path=config.path, timeout_s=1.0))
    assert run(session, "deaf") is None
    time.sleep(0.3)
    began = time.monotonic()
    found = run(session, "add", x="x" * (1 << 20), y="")
    assert found == {"error": "the tool took more than 1 s"}
    assert time.monotonic() - began < 5
    session.close()


def test_tools_see_no_variables_but_the_usual_and_those_that_are_named(config, monkeypatch):
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_TOOL", "LANG"):
        monkeypatch.setenv(name, "x")
    named = EnvironmentConfig(path=config.path, variables=("MY_TOOL", "ABSENT"), result_chars=9999)
    session = Session(named)
    found = set(run(session, "seen"))
    session.close()
    assert {"PATH", "LANG", "MY_TOOL"} <= found
    assert not found & {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "ABSENT"}


@pytest.mark.parametrize("network", [False, True])
def test_tools_reach_no_network_unless_asked_or_the_log_says_so(config, network, caplog):
    tool_process._warn_of_network.cache_clear()
    session = Session(dataclasses.replace(config, network=network))
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = run(session, "reach", port=server.getsockname()[1])
    uid, there = run(session, "user")
    session.close()
    told = "can use the network" in caplog.text
    assert found == "reached" if network or told else "error" in found
    assert there and (uid == os.getuid()) and not (network and told)


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
