#!/usr/bin/env bash
# A parameter that is a map with free keys may hold nothing once SDKs have made its tool strict.
#
# Guess:  a dict[str, int] of a tool ("additionalProperties": {"type": "integer"}) stays a map of
#         numbers in the strict form of its schema, or is refused, as strict forms allow no such maps.
# Seen:   transform_schema of anthropic 2.14.0 and convert_to_openai_tool(strict=True) of
#         langchain-core 1.8.3 write "additionalProperties": false over it without a word: the type of
#         the values is gone, not even in the description, and the one value left is {}. A right call
#         of the tool is invalid by the schema that the model saw. pydantic_function_tool of openai
#         3.57.0, strict too, keeps the map as it was.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet anthropic==2.14.0 openai==3.57.0 \
    langchain-core==1.8.3 pydantic==2.14.4 jsonschema==4.26.0
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import json
import sys

import anthropic
import jsonschema
import openai
import pydantic
from langchain_core.utils.function_calling import convert_to_openai_tool

for name in ("anthropic", "openai", "langchain-core"):
    print(name, importlib.metadata.version(name))


class Order(pydantic.BaseModel):
    """Orders dishes."""

    dishes: dict[str, int] = pydantic.Field(description="How many of each dish.")


schemas = {
    "pydantic": Order.model_json_schema(),
    "anthropic": anthropic.transform_schema(Order),
    "langchain": convert_to_openai_tool(Order, strict=True)["function"]["parameters"],
    "openai": openai.pydantic_function_tool(Order)["function"]["parameters"],
}
seen = {}
for name, schema in schemas.items():
    check = jsonschema.Draft202012Validator(schema)
    seen[name] = check.is_valid({"dishes": {"soup": 2}}), check.is_valid({"dishes": {}})
    print(f"{name}: {json.dumps(schema['properties']['dishes'])}")
    print(f"    two soups are valid: {seen[name][0]}, no dish is valid: {seen[name][1]}")
if seen != {
    "pydantic": (True, True),
    "anthropic": (False, True),
    "langchain": (False, True),
    "openai": (True, True),
}:
    sys.exit("the behaviour has changed: what strict schemas make of a map")
PYTHON
