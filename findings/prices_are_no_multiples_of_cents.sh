#!/usr/bin/env bash
# For jsonschema 4.35 is no multiple of 0.01, and neither is every seventh price under 100.
#
# Guess:  {"type": "number", "multipleOf": 0.01}, the usual schema of a price, holds every number of two
#         decimals, for jsonschema as for other validators.
# Seen:   with jsonschema 4.26.0 1,363 of the 9,999 prices from 0.01 to 99.99 are refused, 0.07 and 4.35
#         among them: the quotient in floats has to be whole. fastjsonschema 2.22.3 refuses none. A right
#         call that is checked by jsonschema, as by servers and harnesses of tools, comes back as an
#         error by the chance of its digits, and so counts as wrong in data and rewards. Decimals
#         (json.loads with parse_float=decimal.Decimal, for the schema, too) are judged rightly.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet jsonschema==4.26.0 fastjsonschema==2.22.3
"$folder/env/bin/python" - <<'PYTHON'
import decimal
import importlib.metadata
import json
import sys

import fastjsonschema
import jsonschema

for name in ("jsonschema", "fastjsonschema"):
    print(name, importlib.metadata.version(name))
TEXT = '{"type": "number", "multipleOf": 0.01}'
PRICES = [f"{cents // 100}.{cents % 100:02}" for cents in range(1, 10000)]
plain = jsonschema.Draft202012Validator(json.loads(TEXT))
exact = jsonschema.Draft202012Validator(json.loads(TEXT, parse_float=decimal.Decimal))
quick = fastjsonschema.compile(json.loads(TEXT))


def taken(price):
    try:
        quick(float(price))
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


refused = [price for price in PRICES if not plain.is_valid(float(price))]
by_quick = [price for price in PRICES if not taken(price)]
by_exact = [price for price in PRICES if not exact.is_valid(decimal.Decimal(price))]
print(f"of {len(PRICES)} prices jsonschema refuses {len(refused)}, as {refused[:8]}")
print(f"fastjsonschema refuses {len(by_quick)}, jsonschema with decimals {len(by_exact)}")
if "4.35" not in refused or len(refused) != 1363 or by_quick or by_exact:
    sys.exit("the behaviour has changed: which prices are multiples of 0.01")
PYTHON
