"""Judge calls with bfcl-eval's own checker: one side of ``tools/bench/bfcl_agreement.py``.

    PYTHONPATH=PACKAGE python tools/bench/bfcl_side.py < CASES > VERDICTS

PACKAGE is a folder with ``pip install --no-deps --target=PACKAGE bfcl-eval``. Only the checker is
imported: the table of models beside it, which imports the clients of all vendors, is replaced by
one model whose names of functions keep their dots. Calls come as JSON, so that nothing is parsed.
"""

from __future__ import annotations

import importlib
import json
import sys
import types

_MODEL = "plain"


def main() -> None:
    """Read one case a line, ``{category, functions, answers, calls}``, and print its verdict."""
    table = types.ModuleType("bfcl_eval.constants.model_config")
    config = types.SimpleNamespace(underscore_to_dot=False)
    table.__dict__["MODEL_CONFIG_MAPPING"] = {_MODEL: config}
    sys.modules[table.__name__] = table
    python = importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON
    checker = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker").ast_checker
    for line in sys.stdin:
        case = json.loads(line)
        calls = [{name: arguments} for name, arguments in case["calls"]]
        try:
            found = checker(
                case["functions"], calls, case["answers"], python, case["category"], _MODEL
            )
            print("right" if found["valid"] else "wrong")
        except (AttributeError, IndexError, KeyError, TypeError):
            print("raised")


if __name__ == "__main__":
    main()
