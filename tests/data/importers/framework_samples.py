"""One dialogue as frameworks, tracers and providers write it: a call that fails, an answer."""

import json

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "W.", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": FUNCTION}]
CITY = {"city": "Oslo"}
TEXT = json.dumps(CITY)
QUESTION = {"role": "user", "content": "Oslo?"}
CALLS = [{"id": "c", "type": "function", "function": {"name": "weather", "arguments": TEXT}}]
CALL = {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": CALLS}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "down", "is_error": True}
ANSWER = {"role": "assistant", "content": "I cannot."}
DIALOGUE = [QUESTION, CALL, RESULT, ANSWER]

CONVERSE = {
    "messages": [
        {"role": "user", "content": [{"text": "Oslo?"}]},
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm."}}},
                {"text": "I look."},
                {"toolUse": {"toolUseId": "c", "name": "weather", "input": CITY}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "c", "content": [{"text": "down"}], "status": "error"}}
            ],
        },
        {"role": "assistant", "content": [{"text": "I cannot."}]},
    ],
    "toolConfig": {
        "tools": [
            {
                "toolSpec": {
                    "name": "weather",
                    "description": "W.",
                    "inputSchema": {"json": SCHEMA},
                }
            }
        ]
    },
}
VERCEL = {
    "tools": TOOLS,
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Oslo?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "reasoning", "text": "Hm."},
                {"type": "text", "text": "I look."},
                {"type": "tool-call", "toolCallId": "c", "toolName": "weather", "input": CITY},
            ],
        },
        {
            "role": "tool",
            "content": [
                {
                    "type": "tool-result",
                    "toolCallId": "c",
                    "toolName": "weather",
                    "output": {"type": "error-text", "value": "down"},
                }
            ],
        },
        ANSWER,
    ],
}
VERCEL_UI = {
    "tools": TOOLS,
    "messages": [
        {"role": "user", "parts": [{"type": "text", "text": "Oslo?"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "step-start"},
                {"type": "reasoning", "text": "Hm."},
                {"type": "text", "text": "I look."},
                {
                    "type": "tool-weather",
                    "toolCallId": "c",
                    "state": "output-error",
                    "input": CITY,
                    "errorText": "down",
                },
                {"type": "step-start"},
                {"type": "text", "text": "I cannot."},
            ],
        },
    ],
}
TELEMETRY = [
    {"role": "user", "parts": [{"type": "text", "content": "Oslo?"}]},
    {
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "Hm."},
            {"type": "text", "content": "I look."},
            {"type": "tool_call", "id": "c", "name": "weather", "arguments": CITY},
        ],
    },
    {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "id": "c", "response": "down", "is_error": True}],
    },
    {"role": "assistant", "parts": [{"type": "text", "content": "I cannot."}]},
]
HAYSTACK = {
    "tools": TOOLS,
    "messages": [
        {"role": "user", "content": [{"text": "Oslo?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "reasoning", "text": "Hm."},
                {"text": "I look."},
                {"tool_call": {"tool_name": "weather", "arguments": CITY, "id": "c"}},
            ],
        },
        {
            "role": "tool",
            "content": [
                {
                    "tool_call_result": {
                        "result": "down",
                        "origin": {"tool_name": "weather", "arguments": CITY, "id": "c"},
                        "error": True,
                    }
                }
            ],
        },
        {"role": "assistant", "content": [{"text": "I cannot."}]},
    ],
}
PYDANTIC = {
    "tools": TOOLS,
    "messages": [
        {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Oslo?"}]},
        {
            "kind": "response",
            "parts": [
                {"part_kind": "thinking", "content": "Hm."},
                {"part_kind": "text", "content": "I look."},
                {
                    "part_kind": "tool-call",
                    "tool_name": "weather",
                    "args": TEXT,
                    "tool_call_id": "c",
                },
            ],
        },
        {
            "kind": "request",
            "parts": [
                {
                    "part_kind": "retry-prompt",
                    "tool_name": "weather",
                    "content": "down",
                    "tool_call_id": "c",
                }
            ],
        },
        {"kind": "response", "parts": [{"part_kind": "text", "content": "I cannot."}]},
    ],
}
LLAMA_INDEX = {
    "tools": TOOLS,
    "messages": [
        {"role": "user", "blocks": [{"block_type": "text", "text": "Oslo?"}]},
        {
            "role": "assistant",
            "additional_kwargs": {"tool_calls": CALLS},
            "blocks": [
                {"block_type": "thinking", "content": "Hm."},
                {"block_type": "text", "text": "I look."},
            ],
        },
        {
            "role": "tool",
            "additional_kwargs": {"tool_call_id": "c"},
            "is_error": True,
            "blocks": [{"block_type": "text", "text": "down"}],
        },
        {"role": "assistant", "blocks": [{"block_type": "text", "text": "I cannot."}]},
    ],
}
AUTOGEN = {
    "tools": TOOLS,
    "messages": [
        {"source": "user", "type": "TextMessage", "content": "Oslo?"},
        {"source": "a", "type": "ThoughtEvent", "content": "Hm."},
        {"source": "a", "type": "TextMessage", "content": "I look."},
        {
            "source": "a",
            "type": "ToolCallRequestEvent",
            "content": [{"id": "c", "name": "weather", "arguments": TEXT}],
        },
        {
            "source": "a",
            "type": "ToolCallExecutionEvent",
            "content": [{"content": "down", "name": "weather", "call_id": "c", "is_error": True}],
        },
        {"source": "a", "type": "TextMessage", "content": "I cannot."},
    ],
}
ATIF = {
    "schema_version": "ATIF-v1.7",
    "agent": {"name": "a", "version": "1", "tool_definitions": TOOLS},
    "steps": [
        {"step_id": 1, "source": "user", "message": "Oslo?"},
        {
            "step_id": 2,
            "source": "agent",
            "message": "I look.",
            "reasoning_content": "Hm.",
            "tool_calls": [
                {"tool_call_id": "c", "function_name": "weather", "arguments": CITY},
            ],
            "observation": {
                "results": [{"source_call_id": "c", "content": "down", "is_error": True}]
            },
        },
        {"step_id": 3, "source": "agent", "message": "I cannot."},
    ],
}
FRAMEWORKS = {
    "converse": ("parts", CONVERSE),
    "vercel": ("parts", VERCEL),
    "vercel_ui": ("parts", VERCEL_UI),
    "telemetry": ("parts", {"messages": TELEMETRY, "tools": TOOLS}),
    "haystack": ("parts", HAYSTACK),
    "pydantic_ai": ("parts", PYDANTIC),
    "llama_index": ("parts", LLAMA_INDEX),
    "autogen": ("autogen", AUTOGEN),
    "atif": ("atif", ATIF),
    "trajectory": ("wrapped", {"trajectory": DIALOGUE, "tools": TOOLS}),
    "as_text": ("wrapped", {"conversation": json.dumps(DIALOGUE), "tools": json.dumps(TOOLS)}),
    "inside": ("wrapped", {"data": {"messages": DIALOGUE}, "tools": TOOLS}),
    "events": ("wrapped", {"events": [{"message": m} for m in DIALOGUE], "tools": TOOLS}),
}
"""The format and a row by form."""

REQUEST = {"model": "m", "messages": [QUESTION], "tools": TOOLS, "temperature": 0}
COMPLETION = {"choices": [{"message": CALL, "finish_reason": "tool_calls"}], "usage": {"n": 1}}
CLAUDE = {
    "messages": [QUESTION],
    "tools": [{"name": "weather", "description": "W.", "input_schema": SCHEMA}],
}
CLAUDE_REPLY = {
    "type": "message",
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c", "name": "weather", "input": CITY},
    ],
    "stop_reason": "tool_use",
}
GEMINI = {
    "contents": [{"role": "user", "parts": [{"text": "Oslo?"}]}],
    "tools": [{"functionDeclarations": [FUNCTION]}],
}
GEMINI_REPLY = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "Hm.", "thought": True},
                    {"text": "I look."},
                    {"functionCall": {"name": "weather", "args": CITY}},
                ],
            },
            "finishReason": "STOP",
        }
    ]
}
RESPONSES = {"model": "m", "input": "Oslo?", "tools": [{"type": "function", **FUNCTION}]}
RESPONSES_REPLY = {
    "object": "response",
    "status": "completed",
    "output": [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I look."}],
        },
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": TEXT},
    ],
}
_CONVERSE_REPLY = {"output": {"message": CONVERSE["messages"][1]}, "stopReason": "tool_use"}
_LANGCHAIN = {"lc": 1, "type": "constructor", "id": ["schema", "AIMessage"]}
_LANGCHAIN_REPLY = {
    **_LANGCHAIN,
    "kwargs": {
        "content": "I look.",
        "additional_kwargs": {"reasoning_content": "Hm."},
        "tool_calls": [{"name": "weather", "args": CITY, "id": "c"}],
    },
}
_HUMAN = {**_LANGCHAIN, "id": ["schema", "HumanMessage"], "kwargs": {"content": "Oslo?"}}
_DOTTED = "llm.output_messages.0.message."
LOGS = {
    "request_response": {"request": REQUEST, "response": COMPLETION},
    "as_text": {"request": json.dumps(REQUEST), "response": json.dumps(COMPLETION)},
    "batch": {
        "custom_id": "1",
        "body": REQUEST,
        "response": {"status_code": 200, "body": COMPLETION},
        "error": None,
    },
    "proxy": {
        "messages": [QUESTION],
        "optional_params": {"tools": TOOLS},
        "response": COMPLETION,
    },
    "observation": {"input": {"messages": [QUESTION], "tools": TOOLS}, "output": CALL},
    "anthropic": {"custom_id": "1", "params": CLAUDE, "result": {"message": CLAUDE_REPLY}},
    "gemini": {"key": "1", "request": GEMINI, "response": GEMINI_REPLY},
    "responses": {"request": RESPONSES, "response": RESPONSES_REPLY},
    "converse": {
        "input": {
            "inputBodyJson": {
                "messages": CONVERSE["messages"][:1],
                "toolConfig": CONVERSE["toolConfig"],
            }
        },
        "output": {"outputBodyJson": _CONVERSE_REPLY},
    },
    "tracer": {
        "inputs": {"messages": [[_HUMAN]]},
        "outputs": {"generations": [[{"message": _LANGCHAIN_REPLY}]]},
        "extra": {"invocation_params": {"tools": TOOLS}},
    },
    "span": {
        "attributes": {
            "gen_ai.input.messages": json.dumps(TELEMETRY[:1]),
            "gen_ai.output.messages": json.dumps([{**TELEMETRY[1], "finish_reason": "tool_call"}]),
            "gen_ai.tool.definitions": json.dumps(TOOLS),
        }
    },
    "span_of_values": {
        "attributes": [
            {"key": "gen_ai.input.messages", "value": {"stringValue": json.dumps(TELEMETRY[:1])}},
            {"key": "gen_ai.output.messages", "value": {"stringValue": json.dumps(TELEMETRY[1:2])}},
            {"key": "gen_ai.tool.definitions", "value": {"stringValue": json.dumps(TOOLS)}},
        ]
    },
    "dotted_span": {
        "attributes": {
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "Oslo?",
            f"{_DOTTED}role": "assistant",
            f"{_DOTTED}content": "I look.",
            f"{_DOTTED}reasoning_content": "Hm.",
            f"{_DOTTED}tool_calls.0.tool_call.id": "c",
            f"{_DOTTED}tool_calls.0.tool_call.function.name": "weather",
            f"{_DOTTED}tool_calls.0.tool_call.function.arguments": TEXT,
            "llm.tools.0.tool.json_schema": json.dumps(TOOLS[0]),
        }
    },
}
"""A request of the dialogue's question, and the call as its reply, by form."""
