"""Small rows of the sets that keep their tools or their dialogues in odd forms."""

import json

SEAL = {
    "id": "dev-1",
    "query": "Grow tomatoes.",
    "calling": [
        {"api": "plant", "parameters": {"crop": "tomato"}, "responses": ["API_call_0"]},
        {"api": "tell me", "parameters": {"about": "API_call_0"}, "responses": ["API_call_1"]},
    ],
}
SEAL_TOOLS = [
    {
        "api_name": name,
        "api_description": f"To {name}",
        "parameters": {"crop": {"type": "str"}, "about": {"type": "str"}},
        "required": ["crop"] if name == "plant" else [],
        "responses": {"result": {"type": "str"}},
    }
    for name in ("plant", "tell me", *(f"other{n}" for n in range(30)))
]
NESTFUL = {
    "input": "Fly to London.",
    "output": [
        {"name": "airport", "arguments": {"query": "London"}, "label": "var1"},
        {"name": "fly", "arguments": {"to": "$var1.id$", "sort": "best"}, "label": "var2"},
        {"name": "var_result", "arguments": {"flights": "$var2$"}},
    ],
}
NESTFUL_TOOLS = [
    {"name": "airport", "description": "Find.", "path_parameters": {"query": {"type": "String"}}},
    {
        "name": "fly",
        "description": "Fly",
        "query_parameters": {
            "to": {"type": "String", "required": True},
            "sort": {"type": "Enum", "allowed_values": ["best", "cheap"], "required": False},
            "page": {"type": "Number", "allowed_values": "1-100", "optional": True},
        },
        "output_parameters": {"price": {}, "time": {}},
    },
]
SEARCH = (
    '{"apiCode": "ToolSearcher", "description": "Find tools.", '
    '"parameters": {"keywords": {"type": "str"}}, "response": {}}'
)
FOUND = "{'name': 'Clinic', 'description': 'C.', 'input_parameters': {'city': {'type': 'str'}}}"
LV3 = {
    "instruction": "Generate an API request\nAPI-Request: [ApiName(key1='value1')]\n",
    "input": f"{SEARCH}\nUser: Find a clinic.TIME: 10\nAPI-Request: [ToolSearcher(keywords='x')]->"
    f"{FOUND}\nGenerate API Request: ",
    "output": "API-Request: [Clinic(city='LA')]",
}
TOOLRL = {
    "instruction": "You help.\n\n**Available Tools**\nUse these:\n1. Name: Search Managers\n"
    "Description: Search\nwell.\nParameters: "
    '{"name": {"description": "N.", "type": "str", "default": ""}, '
    '"page": {"type": "int, optional", "default": 1}}\n2. Name: Now\nDescription: Time.\n'
    "Parameters: {}\n\n**Steps for Each Turn**\n1. **Think**",
    "input": "**Dialogue Records History**\n<user> Who? </user>\n\n<think> T. </think>\n"
    '<tool_call>\n{"name": "Now", "parameters": {}}\n</tool_call>\n'
    '<obs> [{"name": "Now", "results": 3}] </obs>\n\n<think> Y. </think>\n'
    "<response> I am <b>. </response>\n\n<user> And then? </user>",
    "output": "<think> I look\nwell. </think>\n<tool_call>\n"
    '{"name": "Search Managers", "parameters": {"name": "A"}}\n'
    '{"name": "Now", "parameters": {}}\n</tool_call>',
}


API_BANK = {
    "source_path": "x/QueryStock-Now-level-1-1.jsonl",
    "level": "level-1-given-desc",
    "turns": [
        {"role": "User", "text": "Price?"},
        {"role": "AI", "text": "One moment."},
        {
            "role": "API",
            "api_name": "QueryStock",
            "param_dict": {"code": "A", "count": "2"},
            "result": {"input": {"code": "A", "count": 2}, "output": [1.5], "exception": None},
        },
        {
            "role": "API",
            "api_name": "QueryStock",
            "param_dict": {"code": "B", "count": "x"},
            "result": {"input": None, "output": None, "exception": "ValueError: count"},
        },
        {"role": "AI", "text": "It is 1.5."},
        {"role": "AI", "text": "Anything else?"},
    ],
}
API_BANK_TABLE = [
    {
        "类名": "QueryStock",
        "input_parameters": "(code: str)",
        "api_info": "description = \"Query 'stocks'.\"\ninput_parameters = {\n"
        "    'code': {'type': 'str', 'description': 'Code.'},\n"
        "    'time': {'type': 'str', 'description': 'T.'},\n}\noutput_parameters = {\n}",
    },
    {"类名": "Now", "input_parameters": "(zone: str)", "api_info": ". "},
]
TOOLTALK = {
    "name": "Login-0",
    "metadata": {"location": "Rome", "session_token": "t1"},
    "apis_used": ["AddAlarm"],
    "conversation": [
        {"role": "user", "text": "Wake me."},
        {
            "role": "assistant",
            "text": "Done.",
            "apis": [
                {
                    "request": {"api_name": "AddAlarm", "parameters": {"session_token": "t1"}},
                    "response": {"id": "a"},
                    "exception": None,
                },
                {
                    "request": {"api_name": "AddAlarm", "parameters": {"session_token": ""}},
                    "response": None,
                    "exception": "No session.",
                },
            ],
        },
    ],
}
TOOLTALK_TOOLS = [
    {
        "suite_file": suite,
        "name": name,
        "description": "D.",
        "parameters": {},
        "requires_auth": auth,
    }
    for suite, name, auth in (
        ("alarm", "AddAlarm", True),
        ("alarm", "FindAlarms", None),
        ("mail", "SendMail", True),
    )
]
STAR_FORMS = {
    "search": {
        "input": [
            {"Name": "Day", "Type": "Categorical", "Categories": ["Friday", "Sunday"]},
            {"Name": "Price", "Type": "Integer", "Min": 1, "ReadableName": "Top Price"},
            {"Name": "Code", "Type": "ShortString"},
            {"Name": "Near", "Type": "CategoricalMultiple", "Categories": ["Park", "Club"]},
            {"Name": "Lift", "Type": "Boolean"},
            {"Name": "RequestType", "Type": "RequestType", "Categories": ["Book", "Check"]},
        ],
        "required": ["Day"],
    }
}


def star_row(*constraints, **item):
    event = {"APIName": "search"}
    return {
        "DialogueID": 3,
        "Scenario": {
            "UserTask": "Find.",
            "WizardTask": "Help.",
            "WizardCapabilities": [{"Task": "search"}],
        },
        "Events": [
            {"Agent": "UserGuide", "Action": "instruct", "Text": "Be rude."},
            {"Agent": "User", "Action": "utter", "Text": "Hi"},
            {"Agent": "Wizard", "Action": "request_suggestions", "Text": "draft"},
            {**event, "Agent": "Wizard", "Action": "query", "Constraints": list(constraints)},
            {**event, "Agent": "KnowledgeBase", "Action": "return_item", "TotalItems": -1, **item},
            {"Agent": "Wizard", "Action": "pick_suggestion", "Text": "There you are."},
        ],
    }


INTERCODE = {
    "source_path": "data/results/sql/gpt-4/x.json",
    "environment": "ic_sql",
    "dataset": "./data/spider/dev_spider.json",
    "task_id": 7,
    "query": "How many?",
    "turn_history": {
        "actions": ["SELECT 1", "blocked"],
        "observations": ["[(1,)]"],
        "rewards": [0, 0],
        "valid_action": [True],
    },
    "summary": {"max_reward": 1},
}
REACT = {
    **INTERCODE,
    "environment": "ic_bash",
    "turn_history": {
        "actions": ["execute[ls [a-z]*]", "execute[ls", "submit"],
        "observations": ["a", "bad", "a"],
        "thoughts": ["I look.", "Again.", "Done."],
        "valid_action": [True, False, None],
    },
}
SPEC = {
    "paths": {
        "/find/{kind}": {
            "get": {
                "description": "Find.",
                "parameters": [
                    {
                        "name": "kind",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "enum": ["a", "b"]},
                    }
                ],
            },
            "post": {
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/N"}}}
                }
            },
        }
    },
    "components": {
        "schemas": {
            "N": {
                "properties": {
                    "size": {"type": "integer"},
                    "more": {"$ref": "#/components/schemas/N"},
                },
                "required": ["size"],
            }
        }
    },
}
ALPACA = {
    "Name": "Zoo",
    "Category": "Animals",
    "Documentation": json.dumps(SPEC),
    "Function_Projection": {"find": ["/find/{kind}", "get"], "make": ["/find/{kind}", "post"]},
    "Function_Description": {"find": "F.", "make": "Make one.\nParameters: {}"},
    "Instances": [
        {
            "input": "Show a.\nHint: use find",
            "output": "Here.",
            "Final Thought": "I know.",
            "intermediate_steps": [
                [
                    ["find", '{"kind": "a"}', " I look.\nAction: find\nAction Input: {}"],
                    "Status: 200",
                ],
                [["find", "{broken", " Hm.\nAction: find\nAction Input: {broken"], "Invalid JSON"],
            ],
        },
        {"input": "x", "output": "Agent stopped.", "intermediate_steps": []},
        "error",
    ],
}


def _mcp(role, **more):
    return {"role": role, "content": "", **more}


_ASKED = _mcp(
    "assistant",
    tool_calls=[{"id": "c", "function": {"name": "route", "arguments": '{"query": "pdf"}'}}],
)
LIVE = {
    "task_id": "t",
    "Question": "q",
    "category": "work",
    "task_success": "success",
    "messages": [
        _mcp("user", content="q"),
        _ASKED,
        _mcp("tool", tool_call_id="c", content="meta=None content=[] isError=True"),
        _ASKED,
        _mcp("tool", tool_call_id="c", content="meta=None content=[] isError=False"),
        _mcp("assistant", content="a"),
    ],
}


_WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ANTHROPIC = {
    "system": [{"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "weather", "description": "W.", "input_schema": _WEATHER}],
    "messages": [
        {"role": "user", "content": "Oslo or Rome?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Both.", "signature": "x"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "b", "name": "weather", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "b", "content": "down", "is_error": True},
                {
                    "type": "tool_result",
                    "tool_use_id": "a",
                    "content": [{"type": "text", "text": "3"}],
                },
                {"type": "text", "text": "Hurry."},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "3 in Oslo."}]},
    ],
}
_CALL = {"type": "function_call", "name": "weather"}
RESPONSES = {
    "instructions": "You help.",
    "tools": [{"type": "function", "name": "weather", "description": "W.", "parameters": _WEATHER}],
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Oslo or Rome?"}]},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Both."}]},
        {
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
        },
        {**_CALL, "call_id": "a", "arguments": '{"city": "Oslo"}'},
        {**_CALL, "call_id": "b", "arguments": '{"city": "Rome"}'},
        {"type": "function_call_output", "call_id": "b", "output": "down", "status": "error"},
        {"type": "function_call_output", "call_id": "a", "output": "3"},
        {"role": "user", "content": "Hurry."},
    ],
    "output": [
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "3 in Oslo."}],
        }
    ],
}
LANGCHAIN = {
    "tools": [{"name": "weather", "description": "W.", "args": {"city": {"type": "string"}}}],
    "messages": [
        {"type": "system", "content": "You help."},
        {"type": "human", "data": {"content": "Oslo or Rome?"}},
        {
            "type": "ai",
            "content": "I look.",
            "tool_calls": [
                {"name": "weather", "args": {"city": "Oslo"}, "id": "a", "type": "tool_call"},
                {"name": "weather", "args": {"city": "Rome"}, "id": "b", "type": "tool_call"},
            ],
            "additional_kwargs": {
                "reasoning_content": "Both.",
                "tool_calls": [{"id": "a", "function": {"name": "weather", "arguments": "{}"}}],
            },
        },
        {"type": "tool", "content": "down", "tool_call_id": "b", "status": "error"},
        {"type": "tool", "content": "3", "tool_call_id": "a", "status": "success"},
        {"type": "human", "content": "Hurry."},
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "schema", "messages", "AIMessage"],
            "kwargs": {"content": [{"type": "text", "text": "3 in Oslo."}]},
        },
    ],
}
GEMINI = {
    "systemInstruction": {"parts": [{"text": "You help."}]},
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "W.",
                    "parameters": {
                        "type": "OBJECT",
                        "properties": {"city": {"type": "STRING"}},
                        "required": ["city"],
                    },
                }
            ]
        }
    ],
    "contents": [
        {"role": "user", "parts": [{"text": "Oslo or Rome?"}]},
        {
            "role": "model",
            "parts": [
                {"text": "Both.", "thought": True},
                {"text": "I look."},
                {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}},
                {"function_call": {"name": "weather", "args": {"city": "Rome"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"result": 3}}},
                {"function_response": {"name": "weather", "response": {"error": "down"}}},
                {"text": "Hurry."},
            ],
        },
        {"role": "model", "parts": [{"text": "3 in Oslo."}]},
    ],
}
_SAID = {"role": "assistant", "content": "I look.", "reasoning_content": "Both."}
PROMPT_COMPLETION = {
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": _WEATHER}}],
    "prompt": [
        {"role": "system", "content": "You help."},
        {"role": "user", "content": "Oslo or Rome?"},
    ],
    "completion": [
        {
            **_SAID,
            "tool_calls": [
                {"id": "a", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
                {"id": "b", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "b", "content": "down", "is_error": True},
        {"role": "tool", "tool_call_id": "a", "content": "3"},
        {"role": "user", "content": "Hurry."},
        {"role": "assistant", "content": "3 in Oslo."},
    ],
}
VENDORS = {
    "anthropic": ANTHROPIC,
    "responses": RESPONSES,
    "langchain": LANGCHAIN,
    "gemini": GEMINI,
    "prompt_completion": PROMPT_COMPLETION,
}
"""One dialogue in the form of each vendor: two calls at once, of which the second fails."""
