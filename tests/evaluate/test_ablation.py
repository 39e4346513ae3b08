"""Cells of an ablation differ in what they are named after; a verdict needs tasks and seeds."""

import dataclasses
import json
from pathlib import Path

import pytest

from tl_jax.config import AblationConfig, MaeConfig, RunConfig, TrainConfig
from tl_jax.errors import ConfigError
from tl_jax.evaluate import ablation
from tl_jax.report.ablation import write_ablation

ITEMS = 60


@pytest.fixture
def config(tmp_path):
    return RunConfig(run_dir=str(tmp_path), ablation=AblationConfig((0, 1, 2)))


def write_answers(config, right):
    """Score every model: ``right(components, seed)`` tasks of it, half of them of a service."""
    for part in ablation.parts(config):
        for phase, more in (("supervised", ()), ("reward", ("IRM",))):
            count = right({*part.cell, *more}, part.seed)
            records = [
                {"set": "toy", "id": str(i), "group": ("service", "finish")[i % 2]}
                | dict.fromkeys(("ts", "pi", "cf"), i // 2 < count)
                for i in range(2 * ITEMS)
            ]
            folder = Path(part.config.run_dir) / "results" / phase
            folder.mkdir(parents=True)
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (folder / "toy.replies.jsonl").write_text(lines)


def test_a_part_differs_from_the_whole_in_its_components_alone(config):
    parts = ablation.parts(config)
    assert len(parts) == 12 and len({part.config.run_dir for part in parts}) == 12
    for part in parts:
        found = part.config
        assert (found.mae.rules == "off") == ("MAE" not in part.cell)
        assert (found.key_tokens.mode == "off") == ("PKT" not in part.cell)
        restored = dataclasses.replace(
            found,
            run_dir=config.run_dir,
            seed=config.seed,
            mae=config.mae,
            key_tokens=config.key_tokens,
            ablation=config.ablation,
        )
        assert restored == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ablation": AblationConfig((1, 1))}, "a seed twice"),
        ({"mae": MaeConfig(rules="off")}, "mae.rules"),
        ({"train": TrainConfig(steps=0)}, "config.train.steps is 0"),
    ],
)
def test_an_ablation_that_would_compare_nothing_is_refused(config, change, words):
    with pytest.raises(ConfigError, match=words):
        ablation.parts(dataclasses.replace(config, **change))


def test_a_component_helps_where_tasks_and_seeds_say_so(config, tmp_path):
    # PKT gains 10 tasks on every seed, IRM loses 10, MAE gains and loses by seed.
    def right(cell, seed):
        by_seed = (12, -12, 3)[seed]
        return 30 + 10 * ("PKT" in cell) - 10 * ("IRM" in cell) + by_seed * ("MAE" in cell)

    write_answers(config, right)
    content = ablation.compare(config)
    toy = content["sets"]["toy"]
    assert content["seeds"] == [0, 1, 2] and len(toy["cells"]) == 8
    assert toy["cells"]["none"]["items"] == 3 * ITEMS  # the calls of services
    assert toy["cells"]["none"]["cf"] == {"percent": 50, "low": 50, "high": 50}
    effects = {name: effect["cf"] for name, effect in toy["components"].items()}
    assert [effect["verdict"] for effect in effects.values()] == [
        "no difference seen",
        "helps",
        "hurts",
    ]
    assert effects["PKT"]["gain"] == pytest.approx(100 * 10 / ITEMS)
    assert (effects["PKT"]["better"], effects["PKT"]["worse"]) == (4 * 3 * 10, 0)
    assert effects["MAE"]["low"] < 0 < effects["MAE"]["high"]
    page = write_ablation(content, tmp_path / "ablation")[1].read_text()
    assert "no difference seen" in page and "MAE + PKT + IRM" in page and "<script" not in page


def test_what_is_scored_so_far_is_compared(config):
    with pytest.raises(ConfigError, match="no part"):
        ablation.compare(config)
    one = dataclasses.replace(config, ablation=AblationConfig((5,)))
    write_answers(one, lambda cell, seed: 6 if "IRM" in cell else 0)
    effect = ablation.compare(one)["sets"]["toy"]["components"]["IRM"]["cf"]
    assert (effect["low"], effect["verdict"], effect["better"]) == (None, "helps", 24)


def test_tasks_that_one_of_two_models_was_not_asked_are_left_out(config):
    write_answers(config, lambda cell, seed: ITEMS if "PKT" in cell else 0)
    for path in sorted((Path(config.run_dir) / "parts").glob("pkt-seed*/results/*/*.jsonl")):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    toy = ablation.compare(config)["sets"]["toy"]
    assert toy["cells"]["PKT"]["items"] == 3 * (ITEMS - 1)
    assert toy["components"]["PKT"]["cf"]["better"] == 3 * (2 * ITEMS + 2 * (ITEMS - 1))
    assert toy["components"]["PKT"]["cf"]["gain"] == 100
