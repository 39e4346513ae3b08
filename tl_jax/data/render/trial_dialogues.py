"""The dialogues of known words on which a chat template is tried.

Words that no template has make sure that what is found in a text came from the dialogue.
"""

from __future__ import annotations

from tl_jax.calls.call import ToolCall, tool_from_schema
from tl_jax.data.trajectory import Message

TOOL = tool_from_schema(
    {
        "name": "probe_tool_qx",
        "description": "Explains qxdescription.",
        "parameters": {
            "type": "object",
            "properties": {
                "probe_text_qx": {"type": "string", "description": "The qxtext."},
                "probe_count_qx": {"type": "integer", "description": "The qxcount."},
            },
            "required": ["probe_text_qx", "probe_count_qx"],
        },
    }
)
TYPED = tool_from_schema(
    {
        "name": "probe_typed_qx",
        "description": "Takes qxmany.",
        "parameters": {
            "type": "object",
            "properties": {
                "probe_flag_qx": {"type": "boolean", "description": "The qxflag."},
                "probe_none_qx": {"type": "null", "description": "The qxnone."},
                "probe_list_qx": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"qxkey": {"type": "number"}}},
                    "description": "The qxlist.",
                },
            },
        },
    }
)
LISTED = tool_from_schema(
    {
        "name": "probe_listed_qx",
        "description": "Takes qxeither.",
        "parameters": {
            "type": "object",
            "properties": {
                "probe_either_qx": {"type": ["string", "null"], "description": "The qxeither."}
            },
        },
    }
)
TOOLS = (TOOL, TYPED)
CALL = ToolCall("probe_tool_qx", {"probe_text_qx": "qxvalue", "probe_count_qx": 70417})
QUOTING_CALL = ToolCall("probe_tool_qx", {"probe_text_qx": "it's 'ä\" \\\n", "probe_count_qx": 3})
OTHER_CALL = ToolCall("probe_tool_qx", {"probe_text_qx": "qxother", "probe_count_qx": 3})
TYPED_CALL = ToolCall(
    "probe_typed_qx",
    {
        "probe_flag_qx": True,
        "probe_none_qx": None,
        "probe_list_qx": [{"qxkey": 1.5}, {"qxkey": "qxtext", "qxdeep": [False, []]}],
    },
)
QUERY, RESULT, ANSWER, THOUGHT = "qxquery", "qxresult", "qxanswer", "qxthought"
SYSTEM, AGAIN, OTHER_RESULT = "qxsystem", "qxagain", "qxsecond"
ASKING = (Message("user", QUERY),)
CALLING = (*ASKING, Message("assistant", "", (CALL,)), Message("tool", RESULT))
ANSWERED = Message("assistant", ANSWER)
PARALLEL = (*ASKING, Message("assistant", "", (CALL, OTHER_CALL)))
