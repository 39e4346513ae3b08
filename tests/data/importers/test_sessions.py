"""Sessions of agents and exports of chats, which keep a dialogue as events or as a tree."""

import json
from typing import Any

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.data.importers import BadRow, read
from tl_jax.data.trajectory import Message

LS, PWD = ToolCall("bash", {"command": "ls"}), ToolCall("bash", {"command": "pwd"})
TOOL = {"type": "function", "function": {"name": "bash", "parameters": {"properties": {}}}}
ASKED, ANSWERED = Message("user", "Which files?"), Message("assistant", "One file.")


@pytest.fixture
def imported(tmp_path):
    def imported(*rows, name="session.jsonl", after=""):
        path = tmp_path / name
        whole = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
        path.write_text(whole + after)
        source = read(path)
        return source.format, list(source)

    return imported


# Claude Code.


def event(name, parent, kind, content, message="", **more):
    inner = {"role": kind, "content": content, **({"id": message, "model": "m"} if message else {})}
    event = {"uuid": name, "parentUuid": parent, "type": kind, "message": inner, "sessionId": "s"}
    return {**event, "isSidechain": False, "cwd": "/w", "timestamp": "t", **more}


def asked(name, parent, content: Any = "Which files?", **more):
    return event(name, parent, "user", content, **more)


def replied(name, parent, message, block, **more):
    return event(name, parent, "assistant", [block], message, **more)


def text(value):
    return {"type": "text", "text": value}


def use(name, command):
    return {"type": "tool_use", "id": name, "name": "bash", "input": {"command": command}}


def result(name, value, **more):
    return [{"type": "tool_result", "tool_use_id": name, "content": value, **more}]


def test_the_blocks_of_a_reply_are_one_turn(imported):
    form, (found,) = imported(
        {"type": "summary", "summary": "Files", "leafUuid": "6"},
        asked("1", None),
        replied("2", "1", "a", {"type": "thinking", "thinking": "Hm.", "signature": "x"}),
        replied("3", "2", "a", text("I look.")),
        replied("4", "3", "a", use("t", "ls")),
        asked("5", "4", result("t", "no", is_error=True), toolUseResult={"stdout": "no"}),
        replied("6", "5", "b", text("One file.")),
        {"type": "system", "subtype": "turn_duration", "uuid": "7", "parentUuid": "6"},
    )
    assert form == "claude_code" and not found.unread
    call = Message("assistant", "I look.", (LS,), thoughts="Hm.")
    assert found.messages == (ASKED, call, Message("tool", "no", status="error"), ANSWERED)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3)])
def test_results_of_parallel_calls_stand_beside_the_way(imported, order):
    middle = [
        replied("2", "1", "a", use("t", "ls")),
        replied("3", "2", "a", use("u", "pwd")),
        asked("4", "2", result("t", "a.txt")),
        asked("5", "3", result("u", "/w")),
    ]
    last = replied("6", "5", "b", text("One file."))
    _, (found,) = imported(asked("1", None), *(middle[place] for place in order), last)
    results = (Message("tool", "a.txt"), Message("tool", "/w"))
    assert found.messages == (ASKED, Message("assistant", "", (LS, PWD)), *results, ANSWERED)


def test_branches_are_counted_and_other_agents_and_shortened_contexts_are_dialogues(imported):
    _, (rewound,) = imported(
        asked("1", None),
        replied("2", "1", "a", text("Old.")),
        asked("4", "1", "Now?"),
        replied("5", "4", "b", text("One file.")),
    )
    assert rewound.messages == (ASKED, Message("user", "Now?"), ANSWERED)
    assert sum(rewound.unread.values()) and "session[].message" in rewound.unread
    _, (main, agent, later) = imported(
        asked("1", None),
        asked("a", None, "Look.", isSidechain=True),
        replied("b", "a", "x", text("Looked."), isSidechain=True),
        replied("2", "1", "y", text("One file.")),
        {"type": "system", "uuid": "3", "parentUuid": None, "logicalParentUuid": "2"},
        asked("4", "3", "What was said: ...", isCompactSummary=True),
        replied("5", "4", "z", text("One file.")),
    )
    assert main.messages == (ASKED, ANSWERED)
    assert [m.content for m in agent.messages] == ["Look.", "Looked."]
    assert [m.content for m in later.messages] == ["What was said: ...", "One file."]


def test_what_the_program_says_in_place_of_the_model_is_not_trained(imported):
    failed = replied("2", "1", "a", text("API Error"), isApiErrorMessage=True)
    _, (found,) = imported(asked("1", None), failed, replied("3", "2", "b", text("One file.")))
    assert [m.weight for m in found.messages[1:]] == [0, 1]


def test_a_session_that_is_cut_off_is_read_up_to_there(imported):
    whole = (asked("1", None), replied("2", "1", "a", text("One file.")))
    _, (found, cut) = imported(*whole, after='\n{"type": "us')
    assert found.messages == (ASKED, ANSWERED)
    assert isinstance(cut, BadRow) and cut.line == 2 and "not JSON" in cut.reason
    _, (nothing,) = imported(whole[0])
    assert "no reply among the events" in nothing.reason


# Codex.


def item(**payload):
    return {"timestamp": "t", "type": "response_item", "payload": payload}


def spoken(role, kind, said):
    return item(type="message", role=role, content=[{"type": kind, "text": said}])


def test_items_of_a_rollout_are_a_dialogue(imported):
    user = spoken("user", "input_text", "Which files?")
    answer = spoken("assistant", "output_text", "One file.")
    rules = {"timestamp": "t", "type": "session_meta", "payload": {"id": "x", "instructions": "R."}}
    form, (found, later) = imported(
        rules,
        user,
        {"timestamp": "t", "type": "event_msg", "payload": {"type": "user_message"}},
        item(type="reasoning", summary=[{"text": "Hm."}], encrypted_content="z"),
        item(type="function_call", name="bash", arguments='{"command": "ls"}', call_id="c"),
        item(type="function_call_output", call_id="c", output="a.txt"),
        item(type="local_shell_call", call_id="d", action={"type": "exec", "command": ["ls"]}),
        item(type="function_call_output", call_id="d", output="a.txt"),
        answer,
        {"timestamp": "t", "type": "compacted", "payload": {"message": "So far."}},
        user,
        answer,
    )  # fmt: skip
    assert form == "codex" and not found.unread
    system, shell = Message("system", "R."), ToolCall("local_shell", {"command": ["ls"]})
    assert found.messages == (
        system,
        ASKED,
        Message("assistant", "", (LS,), thoughts="Hm."),
        Message("tool", "a.txt"),
        Message("assistant", "", (shell,)),
        Message("tool", "a.txt"),
        ANSWERED,
    )
    assert later.messages == (system, Message("user", "So far."), ASKED, ANSWERED)


# ChatGPT.


def tree(*nodes):
    mapping, parent = {}, None
    for number, (role, content, more) in enumerate(nodes):
        message = {"author": {"role": role, "name": more.pop("name", None)}, "content": content}
        message |= {"recipient": "all", "weight": 1.0, "status": "finished_successfully", **more}
        name, parent = f"n{number}", parent
        mapping[name] = {"id": name, "message": message, "parent": parent, "children": []}
        parent = name
    return {"title": "T", "mapping": mapping, "current_node": parent, "conversation_id": "c"}


def parts(*values):
    return {"content_type": "text", "parts": list(values)}


def test_the_way_to_the_current_node_is_a_dialogue(imported):
    thoughts = [{"summary": "Plan", "content": "I look."}]
    row = tree(
        ("system", parts(""), {"weight": 0.0}),
        ("user", {"content_type": "user_editable_context", "user_instructions": "Be terse."}, {}),
        ("user", parts("Which files?"), {}),
        ("assistant", {"content_type": "thoughts", "thoughts": thoughts}, {}),
        ("assistant", {"content_type": "reasoning_recap", "content": "Thought for 3s"}, {}),
        ("assistant", {"content_type": "code", "text": "import os"}, {"recipient": "python"}),
        ("tool", {"content_type": "system_error", "text": "no"}, {"name": "python"}),
        ("assistant", {"content_type": "code", "text": '{"command": "ls"}'}, {"recipient": "bash"}),
        ("tool", {"content_type": "execution_output", "text": "a.txt"}, {"name": "bash"}),
        ("assistant", parts("One file."), {}),
    )
    row["mapping"]["other"] = {"id": "other", "message": {"content": "Old."}, "parent": "n2"}
    form, found = imported(row, {**row, "conversation_id": "d"}, name="conversations.json")
    assert form == "chatgpt" and len(found) == 2
    code = ToolCall("python", {"input": "import os"})
    assert found[0].messages == (
        Message("system", "Be terse."),
        ASKED,
        Message("assistant", "", (code,), thoughts="Plan\nI look."),
        Message("tool", "no", status="error"),
        Message("assistant", "", (LS,)),
        Message("tool", "a.txt"),
        ANSWERED,
    )
    assert found[0].unread == {"mapping.other": 1}
    image = {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}]}
    _, (bad,) = imported(tree(("user", image, {})), name="conversations.json")
    assert "holds no text" in bad.reason


def test_chats_that_have_senders_and_blocks_are_read(imported):
    called, answered = use("t", "ls"), result("t", "a.txt")[0]
    blocks = [called, answered, text("One file.")]
    form, (found,) = imported(
        {
            "chat_messages": [
                {"sender": "human", "text": "Which files?", "content": [text("Which files?")]},
                {"sender": "assistant", "text": "One file.", "content": blocks},
            ]
        }
    )
    call = Message("assistant", "", (LS,))
    assert found.messages == (ASKED, call, Message("tool", "a.txt"), ANSWERED)
    assert form == "wrapped" and not found.unread


def test_a_generation_in_a_trace_is_a_log(imported):
    asked = [{"role": "user", "content": "Which files?"}]
    said = [{"role": "assistant", "content": "One file."}]
    held = {"type": "generation", "input": asked, "output": said, "model": "m"}
    form, (found,) = imported({"object": "trace.span", "id": "s", "span_data": held})
    assert form == "logs" and found.messages == (ASKED, ANSWERED) and not found.unread


# OpenHands.


def sdk(kind, source="agent", **more):
    return {"id": "e", "timestamp": "t", "source": source, "kind": kind, **more}


def test_events_of_the_sdk_are_a_dialogue(imported):
    prompt = {"type": "text", "text": "Rules."}
    call = {"tool_name": "bash", "llm_response_id": "r", "action": {"command": "ls"}}
    calls = [
        {"id": i, "name": "bash", "arguments": json.dumps({"command": i})} for i in ("ls", "pwd")
    ]
    question = {"role": "user", "content": [text("Which files?")]}
    events = [
        sdk("SystemPromptEvent", system_prompt=prompt, tools=[TOOL]),
        sdk("MessageEvent", "user", llm_message=question),
        sdk("ConversationStateUpdateEvent", "environment", key="k", value="v"),
        sdk("ActionEvent", thought=[text("I look.")], reasoning_content="Hm.", tool_call=calls[0],
            tool_call_id="ls", **call),
        sdk("ActionEvent", thought=[], tool_call=calls[1], tool_call_id="pwd", **call),
        sdk("AgentErrorEvent", error="no", tool_name="bash", tool_call_id="pwd"),
        sdk("ObservationEvent", "environment", tool_name="bash", tool_call_id="ls",
            observation={"content": [text("a.txt")], "is_error": False}),
        sdk("MessageEvent", llm_message={"role": "assistant", "content": [text("One file.")]}),
    ]  # fmt: skip
    wanted = (
        Message("system", "Rules."),
        ASKED,
        Message("assistant", "I look.", (LS, PWD), thoughts="Hm."),
        Message("tool", "a.txt"),
        Message("tool", "no", status="error"),
        ANSWERED,
    )
    for rows, name in ((events, "e.jsonl"), (events, "e.json"), ([{"history": events}], "h.jsonl")):
        form, (found,) = imported(*rows, name=name)
        assert form == "openhands" and found.messages == wanted
        assert [tool.name for tool in found.tools] == ["bash"] and not found.unread


def test_events_of_earlier_versions_are_what_the_model_wrote(imported):
    calls = [
        {
            "id": "c",
            "type": "function",
            "function": {"name": "bash", "arguments": '{"command": "ls"}'},
        }
    ]
    message = {"role": "assistant", "content": "I look.", "tool_calls": calls}
    meta = {"function_name": "bash", "tool_call_id": "c", "total_calls_in_response": 1}
    meta["model_response"] = {"id": "r", "choices": [{"message": message}], "usage": {"n": 1}}
    old = {"timestamp": "t", "message": "m"}
    events = [
        {**old, "source": "agent", "action": "system", "args": {"content": "R.", "tools": [TOOL]}},
        {**old, "source": "user", "action": "message", "args": {"content": "Which files?"}},
        {**old, "source": "environment", "observation": "agent_state_changed", "extras": {"x": 1}},
        {**old, "source": "agent", "action": "run", "args": {"command": "ls"},
         "tool_call_metadata": meta},
        {**old, "source": "agent", "observation": "run", "content": "no", "cause": 3,
         "extras": {"metadata": {"exit_code": 1}}, "tool_call_metadata": meta},
        {**old, "source": "agent", "action": "message", "args": {"content": "One file."}},
    ]  # fmt: skip
    _, (found,) = imported(*events, name="e.json")
    assert found.messages == (
        Message("system", "R."),
        ASKED,
        Message("assistant", "I look.", (LS,)),
        Message("tool", "no", status="error"),
        ANSWERED,
    )
    assert [tool.name for tool in found.tools] == ["bash"] and not found.unread
    events[3].pop("tool_call_metadata")
    _, (bad,) = imported(*events, name="e.json")
    assert "event 3: an action 'run' without the message" in bad.reason
