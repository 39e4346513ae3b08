"""The rules of the house, read from the source with ``ast``."""

import ast
import collections
import functools
import pathlib
import statistics
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tl_jax"
TESTS = ROOT / "tests"

LEVELS = (
    ("errors", "types", "screen"),
    ("config",),
    ("parallel", "ops", "calls"),
    ("models", "rewards", "data"),
    ("convert", "sampling", "report"),
    ("run",),
    ("rl", "evaluate", "publish"),
    ("train",),
    ("aot",),
    ("cli", "api"),
)

# Room -> rooms it may import. Every other arrow is an error.
ALLOWED = {
    "errors": set(),
    "types": set(),
    "screen": set(),
    "config": {"errors"},
    "parallel": {"errors", "types", "config"},
    "ops": {"parallel"},
    "calls": {"errors"},
    "models": {"errors", "types", "config", "parallel", "ops"},
    "rewards": {"errors", "config", "calls"},
    "data": {"errors", "config", "calls"},
    "convert": {"errors", "types", "config", "parallel", "models"},
    "sampling": {"errors", "types", "config", "parallel", "ops", "calls", "models", "data"},
    "report": {"errors", "screen", "config", "calls", "data", "rewards"},
}
_BELOW = {
    "errors",
    "types",
    "screen",
    "config",
    "parallel",
    "ops",
    "calls",
    "models",
    "rewards",
    "data",
}
ALLOWED["run"] = _BELOW | {"convert", "sampling", "report"}
ALLOWED["rl"] = _BELOW | {"sampling", "run"}
ALLOWED["evaluate"] = _BELOW | {"sampling", "report", "run"}
ALLOWED["publish"] = _BELOW | {"convert", "report", "run"}
ALLOWED["train"] = _BELOW | {"convert", "sampling", "run", "rl", "evaluate"}
ALLOWED["aot"] = ALLOWED["train"] | {"convert", "evaluate", "train"}
ALLOWED["cli"] = set(ALLOWED)
ALLOWED["api"] = ALLOWED["aot"] | {"evaluate", "publish"}

# Arrows inside a level, and the only module that may be imported along them.
SIDEWAYS = {
    ("ops", "parallel"): "parallel.sharding",
}

# Inside a room: a module may import those before it in its chain, never those after it.
CHAINS = {
    "config": [("fields", "model", "run", "presets"), ("user_file", "presets")],
    "ops": [
        ("rope", "attention", "kernels"),
        ("splash", "kernels"),
        ("cudnn", "kernels"),
        ("attention", "spread", "kernels"),
        ("seen_blocks", "block_attention", "kernels"),
        ("seen_blocks", "tree_blocks", "tree_forward", "tree_kernel", "kernels"),
        ("tree_blocks", "tree_backward", "tree_kernel"),
    ],
    "calls": [
        (
            "references",
            "call",
            "syntax",
            "call_text",
            "json_values",
            "marks",
            "json_style",
            "named_style",
        ),
        ("call_text", "python_style", "python_form", "styles"),
        ("python_style", "text_values", "tagged_style", "styles"),
        ("marks", "text_form", "tagged_style", "styles"),
        ("text_values", "brace_style", "styles"),
        ("call", "compare", "json_style"),
        ("named_style", "styles", "parse", "render"),
        ("text_form", "style", "json_styles", "styles"),
        ("named_style", "json_styles"),
        ("style", "text_styles", "styles"),
        ("tagged_style", "text_styles"),
        ("brace_style", "text_styles"),
        ("python_form", "text_styles"),
    ],
    "models": [
        ("nf4", "lora", "layers", "heads", "decoder", "functional", "critic"),
        ("rotary", "functional"),
        ("remat", "functional"),
        ("windows", "registry", "functional"),
        ("rope_fields", "registry", "known"),
    ],
    "data": [
        ("trajectory", "importers", "prepare"),
        ("importers.custom", "importers.read"),
        ("trajectory", "mae", "examples", "prepare", "loader"),
        ("tokenize", "render", "examples"),
        ("synthetic", "prepare"),
        ("mae.feedback_rules", "mae.feedback", "mae.policy", "mae.schema_checks", "mae.labels"),
        (
            "render.paper_template",
            "render.call_spans",
            "render.dialogue",
            "render.chat_template",
            "render.trial",
            "render.probe",
            "render.renderer",
        ),
        ("render.chat_turns", "render.dialogue"),
        ("render.trial_dialogues", "render.trial"),
        ("render.template_text", "render.probe"),
        ("render.paper_template", "render.encode", "render.renderer"),
        ("render.control_tokens", "render.dialogue"),
        ("render.paper_template", "render.reply_cache", "render.chat_template"),
        ("render.chatml_tools", "render.probe"),
        ("tokenize.word_cache", "tokenize.prefix_cache", "tokenize.tokenizer"),
        ("examples.truncate", "examples.build", "examples.jsonl"),
        ("examples.alternative_tokens", "examples.key_tokens", "examples.build"),
        ("examples.alternative_tokens", "examples.annotations", "examples.build"),
        ("examples.truncate", "examples.repair_pairs"),
        ("prepare.ngrams", "prepare.dedup", "prepare.dataset"),
        ("prepare.ngrams", "prepare.contamination", "prepare.dataset"),
        ("prepare.files", "prepare.sources", "prepare.dataset"),
        ("prepare.split", "prepare.dataset"),
        ("prepare.statistics", "prepare.dataset"),
        ("loader.packing", "loader.loader"),
        ("loader.host_shards", "loader.loader"),
        ("loader.prefix_trees", "loader.samples", "loader.loader"),
        ("examples.record", "examples.shards", "examples.order"),
    ],
    "rewards": [
        ("taxonomy", "reference", "rules"),
        ("taxonomy", "free_text", "strict", "rules"),
        ("taxonomy", "penalties", "rules"),
        ("answers", "rules"),
        ("matching", "rules"),
        ("no_call", "rules"),
    ],
    "convert": [
        ("names", "from_hf"),
        ("names", "to_hf"),
        ("safetensors_file", "hf_directory", "from_hf"),
        ("hf_directory", "to_hf"),
        ("hf_directory", "hub"),
        ("names", "peft"),
        ("hf_directory", "peft"),
    ],
    "sampling": [
        ("next_token", "decode", "sampler", "grammar"),
        ("python_grammar", "json_grammar", "grammar"),
    ],
    "report": [
        ("read", "figures", "run"),
        ("html", "run"),
        ("figures", "gains"),
        ("html", "gains"),
        ("mae", "run"),
        ("html", "example"),
        ("read", "suites"),
        ("html", "suites"),
    ],
    "run": [
        ("checkpoint", "directory", "prepare"),
        ("record", "metrics"),
        ("directory", "chat"),
    ],
    "rl": [
        ("episode", "tool_loop", "rollout"),
        ("tool_worker", "tool_process", "tool_loop"),
        ("tool_loop", "tools_check"),
        ("advantages", "rollout"),
        ("custom_reward", "scoring", "rollout_metrics", "rollout"),
        ("batch", "rollout"),
        ("logprobs", "rollout"),
    ],
    "evaluate": [
        ("intervals", "scores", "suites", "reading", "results", "tasks", "run"),
        ("suites.suite", "suites.rotbench_rules", "suites.rotbench", "suites.choose"),
        ("suites.suite", "suites.embedded_world", "suites.choose"),
        ("suites.suite", "suites.own_data", "suites.choose"),
        ("suites.bfcl_checker", "suites.bfcl", "suites.bfcl_executable", "suites.choose"),
        ("suites.json_lines", "suites.bfcl_files", "suites.bfcl", "suites.bfcl_multi_turn"),
        ("suites.gold_calls", "suites.bfcl_executable"),
        ("suites.gold_calls", "suites.bfcl_multi_turn", "suites.choose"),
        ("suites.bfcl", "suites.acebench_checker", "suites.acebench", "suites.choose"),
        ("suites.suite", "suites.tooleyes", "suites.choose"),
        ("scores", "compare_runs"),
    ],
    "publish": [("model_card", "export", "conversions")],
    "train": [
        ("step", "sft", "ppo"),
        ("optimizer", "step"),
        ("held_out", "sft"),
        ("loop", "sft"),
        ("ppo_step", "ppo"),
        ("prompt_pools", "ppo"),
    ],
    "aot": [("programs", "roofline", "compile", "plan"), ("hlo", "compile")],
}

WITHOUT_JAX = ("calls", "data", "rewards")
NEEDS_JAX = {"tl_jax.data.loader.loader"}

NNX_SURFACE = {
    "Module", "Param", "Rngs", "initializers", "split", "merge", "to_flat_state", "to_pure_dict",
    "List",
}  # fmt: skip

MAX_LINES = 400
MAX_MEDIAN_LINES = 200


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
SCRIPTS = [p for folder in ("tools", "configs") for p in sorted((ROOT / folder).rglob("*.py"))]


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_of(path):
    """Full names of what a file imports, wherever in the file the statement stands."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    names = set()
    tree = tree_of(path)
    if path == PACKAGE / "__init__.py":
        # The public names are imported when they are used; this is for the type checker.
        tree = ast.Module([node for node in tree.body if not _is_for_types(node)], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def _is_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def inner_imports(path):
    """Modules of this package that a file imports (the longest prefix that is a module)."""
    found = set()
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == PACKAGE.name:
            prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
            found.add(next(prefix for prefix in prefixes if prefix in FILES))
    return found


def inside(module):
    return module.partition(".")[2]


def room_of(module):
    return inside(module).partition(".")[0]


def where(path, node):
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def test_the_table_points_downwards_or_along_a_declared_arrow():
    level = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
    assert set(ALLOWED) == set(level)
    wrong = [
        (room, target)
        for room, targets in ALLOWED.items()
        for target in targets
        if room != target and level[target] >= level[room] and (room, target) not in SIDEWAYS
    ]
    assert not wrong


def test_every_import_between_rooms_is_in_the_table():
    wrong = []
    for module, path in FILES.items():
        room = room_of(module)
        for target in inner_imports(path):
            other = room_of(target)
            if not room or not other:
                # Only the version may be asked of the package itself, and it imports nothing.
                allowed = bool(room)
            else:
                allowed = other == room or other in ALLOWED.get(room, set())
                only = SIDEWAYS.get((room, other))
                if only:
                    allowed &= inside(target) == only or inside(target).startswith(f"{only}.")
            if not allowed:
                wrong.append(f"{module} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_operations_take_nothing_but_layouts_from_parallel():
    taken = {
        name
        for module, path in FILES.items()
        if room_of(module) == "ops"
        for name in imports_of(path)
        if name.startswith("tl_jax.parallel")
    }
    allowed = ("constrain", "cut", "parts", "spec")
    assert taken <= {f"tl_jax.parallel.sharding.{name}" for name in allowed}


def test_files_of_a_room_import_along_its_chain():
    wrong = []
    for room, chains in CHAINS.items():
        for chain in chains:
            for number, earlier in enumerate(chain):
                here = f"tl_jax.{room}.{earlier}"
                assert here in FILES, f"{here} is in CHAINS but there is no such module"
                files = [p for m, p in FILES.items() if m == here or m.startswith(f"{here}.")]
                targets = set().union(*map(inner_imports, files))
                for later in chain[number + 1 :]:
                    bad = f"tl_jax.{room}.{later}"
                    if any(t == bad or t.startswith(f"{bad}.") for t in targets):
                        wrong.append(f"{here} imports {bad}")
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: inner_imports(path) - {module} for module, path in FILES.items()}
    while graph:
        leaves = [module for module, targets in graph.items() if not targets & graph.keys()]
        assert leaves, f"circle among {sorted(graph)}"
        for module in leaves:
            del graph[module]


def test_data_calls_and_rewards_import_without_jax():
    modules = [m for m in FILES if room_of(m) in WITHOUT_JAX and m not in NEEDS_JAX]
    program = f"""
import importlib, sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "jaxlib", "flax"):
            raise ImportError(f"forbidden import of {{name}}")

sys.meta_path.insert(0, Forbid())
for module in {modules!r}:
    try:
        importlib.import_module(module)
    except ImportError as error:
        sys.exit(f"{{module}}: {{error}}")
loaded = {{"jax", "jaxlib", "flax"}} & set(sys.modules)
sys.exit(f"loaded {{loaded}}" if loaded else 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_only_the_declared_surface_of_nnx_is_used():
    wrong = []
    for path in FILES.values():
        names = imports_of(path)
        wrong += [f"{path.name} imports {n}" for n in names if n.startswith("flax.nnx.")]
        wrong += [f"{path.name} imports {n}" for n in names if n.startswith("flax.linen")]
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "nnx" and node.attr not in NNX_SURFACE:
                    wrong.append(f"{where(path, node)}: nnx.{node.attr}")
    assert not wrong, "\n".join(wrong)


def test_nnx_stays_in_the_rooms_that_define_the_model():
    rooms = {room_of(m) for m, path in FILES.items() if "flax.nnx" in imports_of(path)}
    assert rooms == {"models"}


RUNS_CODE = {"eval", "exec", "compile", "__import__"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"os.system", "os.popen", "torch.load", "yaml.load", "yaml.unsafe_load"}
UNSAFE_KEYWORDS = {"trust_remote_code", "allow_pickle", "shell"}


@pytest.mark.parametrize("path", [*FILES.values(), *SCRIPTS], ids=lambda p: p.stem)
def test_nothing_read_from_a_file_can_run(path):
    wrong = [n for n in imports_of(path) if n.partition(".")[0] in UNSAFE_MODULES]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in RUNS_CODE | UNSAFE_CALLS:
                wrong.append(f"{where(path, node)}: {name}()")
            wrong += [
                f"{where(path, node)}: {keyword.arg}"
                for keyword in node.keywords
                if keyword.arg in UNSAFE_KEYWORDS and ast.unparse(keyword.value) != "False"
            ]
    assert not wrong


def _is_broad(kind):
    return kind is None or any(
        isinstance(node, ast.Name) and node.id in ("Exception", "BaseException")
        for node in ast.walk(kind)
    )


@pytest.mark.parametrize("path", [*FILES.values(), *SCRIPTS], ids=lambda p: p.stem)
def test_no_broad_handler_swallows_an_error(path):
    wrong = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type):
            parts = [part for statement in node.body for part in ast.walk(statement)]
            raises = any(isinstance(part, ast.Raise) for part in parts)
            names = {part.id for part in parts if isinstance(part, ast.Name)}
            if not raises and (node.name is None or node.name not in names):
                wrong.append(where(path, node))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            if any(_is_broad(argument) for argument in node.args):
                wrong.append(where(path, node))
    assert not wrong


def test_modules_of_tests_have_names_of_their_own():
    """Outside of packages pytest imports them by their name alone."""
    modules = [p for p in TESTS.rglob("test_*.py") if not (p.parent / "__init__.py").exists()]
    names = collections.Counter(path.name for path in modules)
    assert not [name for name, count in names.items() if count > 1]


def test_files_stay_short():
    lengths = {m: len(p.read_text(encoding="utf-8").splitlines()) for m, p in FILES.items()}
    assert {m: n for m, n in lengths.items() if n > MAX_LINES} == {}
    assert statistics.median(n for n in lengths.values() if n) <= MAX_MEDIAN_LINES


def test_torch_is_never_imported():
    users = [m for m, p in FILES.items() if any(n.split(".")[0] == "torch" for n in imports_of(p))]
    assert users == []


# An attribute that happens to be computed explains itself like other attributes do.
PROPERTIES = {"property", "functools.cached_property", "cached_property"}


def test_every_public_name_has_a_docstring():
    missing = []

    def visit(path, node):
        for child in node.body:
            if not isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            decorators = {ast.unparse(decorator) for decorator in child.decorator_list}
            if child.name.startswith("_") or decorators & PROPERTIES:
                continue
            if ast.get_docstring(child) is None:
                missing.append(f"{where(path, child)}: {child.name}")
            protocol = isinstance(child, ast.ClassDef) and any(
                ast.unparse(base).startswith(("Protocol", "typing.Protocol"))
                for base in child.bases
            )
            if isinstance(child, ast.ClassDef) and not protocol:
                visit(path, child)

    for path in FILES.values():
        tree = tree_of(path)
        if tree.body and ast.get_docstring(tree) is None:
            missing.append(f"{path.relative_to(ROOT)}: the module")
        visit(path, tree)
    assert not missing, "\n".join(missing)
