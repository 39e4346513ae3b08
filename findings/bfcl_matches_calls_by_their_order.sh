#!/usr/bin/env bash
# BFCL's checker takes 2024-11-1 for 2024-1-11, and judges parallel calls by the order they came in.
#
# Guess:  of texts the checker of BFCL ignores what no value hangs on (case, spaces), and calls in
#         parallel are right in any order, if each can be given a gold call of its own.
# Seen:   with bfcl-eval 2026.3.23 points, commas, hyphens, slashes, stars, underscores and ^ are left
#         out of texts before they are compared: "2024-11-1" is right for "2024-1-11", "-5" for "5",
#         "1.5" for "15", one address for another. Calls go to the gold calls one by one, each to the
#         first that it fits, without a second try: with the gold calls n in {1, 2} and n in {1}, the
#         calls n=2, n=1 are right, and the same calls as n=1, n=2 are wrong.
#
# Of the package only the checker is run; its table of models, which needs every vendor's SDK, is left
# out. Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-deps bfcl-eval==2026.3.23
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys
import types

print("bfcl-eval", importlib.metadata.version("bfcl-eval"))
models = types.ModuleType("bfcl_eval.constants.model_config")
models.MODEL_CONFIG_MAPPING = {"model": types.SimpleNamespace(underscore_to_dot=False)}
sys.modules[models.__name__] = models
from bfcl_eval.constants.enums import Language
from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker


def judge(kind, values, gold, category):
    parameters = {"type": "dict", "properties": {"n": {"type": kind}}, "required": ["n"]}
    function = {"name": "find", "description": "Finds.", "parameters": parameters}
    calls = [{"find": {"n": value}} for value in values]
    right = [{"find": {"n": choices}} for choices in gold]
    valid = ast_checker([function], calls, right, Language.PYTHON, category, "model")["valid"]
    print(f"{values} for {gold}: {'right' if valid else 'wrong'}")
    return valid


texts = [("2024-11-1", "2024-1-11"), ("-5", "5"), ("1.5", "15"), ("10.1.1.1", "1.0.11.1")]
alike = [judge("string", [found], [[gold]], "simple_python") for found, gold in texts]
other = judge("string", ["2024-11-2"], [["2024-1-11"]], "simple_python")
if not all(alike) or other:
    sys.exit("the behaviour has changed: which texts are alike")
GOLD = [[1, 2], [1]]
if not judge("integer", [2, 1], GOLD, "parallel") or judge("integer", [1, 2], GOLD, "parallel"):
    sys.exit("the behaviour has changed: how calls are matched with gold calls")
PYTHON
