"""A made-up run directory for the tests of the report."""

import json
import random

from tl_jax.data.examples.annotations import TurnAnnotation, to_tags
from tl_jax.data.examples.build import Example
from tl_jax.data.examples.shards import write_examples
from tl_jax.rewards import taxonomy

SETS = {"synthetic/seen": 200, "synthetic/unseen": 80, "rotbench/clean": 105}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def summary(items, base):
    entry = {"items": items}
    for metric, loss in (("ts", 0), ("pi", 6), ("cf", 15)):
        mean = max(base - loss, 1.0)
        entry[metric] = {"percent": mean, "low": max(mean - 5, 0), "high": min(mean + 4, 100)}
    return entry


def result(name, base):
    sets = {}
    for number, (key, count) in enumerate(SETS.items()):
        sets[key] = summary(count, base - 14 * number)
        if key.startswith("synthetic"):
            parts = {"finish": count // 4, "service": count // 2}
            sets[key]["groups"] = {n: summary(c, base - 14 * number - 2) for n, c in parts.items()}
    sets["rotbench/clean (released rule)"] = summary(105, base - 30)
    for entry in sets.values():
        entry |= {"tokens": 1625, "seconds": 2.0}
    return {"name": name, "sets": sets}


def write_results(folder, content):
    """Write one file a suite, in another order of names than that of tables."""
    for position, suite in enumerate(SETS):
        sets = {name: entry for name, entry in content["sets"].items() if name.startswith(suite)}
        write(
            folder / f"{suite.replace('/', '-')}.json",
            {**content, "position": position, "sets": sets},
        )


def make_run(path, word="call"):
    """Write a made-up run; ``word`` is put wherever a run may hold foreign text."""
    rng = random.Random(0)
    write(path / "config.json", {"seed": 0, "model": {"path": word}, "data": {"path": "synthetic"}})
    write(path / "versions.json", {"python": "3.11", "device_kind": word, "packages": {"jax": "1"}})
    for name, base in (("before", 3), ("supervised", 93), ("reward", 97)):
        write_results(path / "results" / name, result(name, base))
    rows = []
    for step in range(1, 201):
        loss = 0.25 + 4 / (1 + step / 12) + rng.gauss(0, 0.06)
        row = {"stage": "supervised", "step": step, "time_s": 1e9 + step, "loss": loss}
        row |= {"ce_loss": loss, "tokens_per_s": 9000 + rng.gauss(0, 200), "skipped": 0}
        if step % 40 == 0:
            row["validation_loss"] = loss + 0.05
        rows.append(row)
    for step in range(1, 31):
        wrong = 0.5 / (1 + step / 9)
        shares = [wrong * share for share in (0.05, 0.03, 0.02, 0.12, 0.2, 0.08, 0.1, 0.1, 0.3)]
        shares.append(1 - sum(shares))
        row = {"stage": "reward", "step": step, "time_s": 2e9 + 3 * step}
        row |= {"reward_mean": 1 - 1.6 * wrong + rng.gauss(0, 0.05), "kl_k3": step / 900}
        row |= {f"category/{n}": s for n, s in zip(taxonomy.CATEGORIES, shares, strict=True)}
        rows.append(row | {"tokens_per_s": 700.0, "entropy": None})
    write_rows(path / "metrics.jsonl", rows)
    samples = [
        {
            "stage": "reward",
            "step": step,
            "prompt_id": f"{word}-{step % 20}",
            "sampled": f" {word}(city='Paris', days={step})",
            "gold": f"{word}(city='Lyon', days={step})",
            "category": rng.choice(taxonomy.CATEGORIES),
            "reward": rng.choice([-2.0, -1.5, -0.5, -0.25, 1.0]),
            "advantage": rng.gauss(0, 1),
        }
        for step in range(1, 31)
        for _ in range(4)
    ]
    write_rows(path / "samples.jsonl", samples)
    counts = {"turns": 1000, "kept": 800, "rows": 260, "examples": {"train": 780, "validation": 20}}
    counts["verdicts"] = {"keep": 800, "error": 170, "no_feedback": 30}
    counts["reasons"] = {f"error: {word}": 120, "error: status given": 50, "no_feedback": 30}
    counts["categories"] = {"service": 60, "parameter_missing": 50, "content_filling": 40}
    counts["categories"] |= {"tool_hallucination": 20}
    counts["calls"] = {"all_right": 700, "nothing_found": 60, "no_feedback": 70}
    counts["calls"] |= counts["categories"]
    write(path / "data" / "mae_report.json", counts)
    write_examples(path / "data" / "examples", [example(word)] * 50)
    write_replies(path / "results" / "reward", word)
    noisy = {"suite": word, "scores": {"cf": 70.0}, "intervals": {"cf": [60.0, 80.0]}}
    for noise, cf in (("clean", 70.0), ("union", 41.2)):
        content = {**noisy, "noise": noise, "scores": {"cf": cf}, "counts": {"cf": [7, 10]}}
        write(path / "results" / "noise" / f"{noise}.json", content)


def example(word):
    """Return an example of six tokens: a request, a turn that is left out, and one that is not."""
    wrong = TurnAnnotation(1, 1, 3, False, 0.0, "error", word, word)
    right = TurnAnnotation(2, 3, 6, True, 1.0, "keep", "all_right", "status given by the source")
    tags = {"line": "0", "source": word, "trajectory": "t0", **to_tags([3], [wrong, right])}
    return Example(word, [0, 1, 2, 3, 4, 5], [0.0, 0.0, 0.0, 9.0, 1.0, 1.0], tags)


class Words:
    """Stands for a tokenizer: token 0 is ``word``, the others are letters."""

    def __init__(self, word):
        self.word, self.backend = word, self

    def get_added_tokens_decoder(self):
        return {}

    def pieces(self, ids):
        return [self.word if token == 0 else f" {chr(96 + token)}" for token in ids]


def write_replies(folder, word):
    """Write replies to one suite, of which all but one are wrong, and the scores by tool."""
    right = {"set": "own", "id": "0", "reply": "f(a=1)", "gold": ["f(a=1)"], "cf": True}
    wrong = {"set": word, "request": f"{word}: weather in Oslo?", "detail": word, "cf": False}
    rows = [right] + [
        {
            **wrong,
            "id": f"{word}-{number}",
            "reply": f"{word}(city = 'Paris', days = {number})",
            "gold": ["other()", f"{word}(city = 'Oslo', days = {number})"],
            "category": category,
        }
        for number in range(9)
        for category in ("content_filling", "wrong_tool", word)
    ]
    write_rows(folder / "own.replies.jsonl", rows)
    tools = {word: summary(20, 97), "worst": summary(5, 20), "few": summary(1, 20)}
    sets = {"own": summary(26, 80)}
    write(folder / "own.json", {"suite": "own", "position": 9, "sets": sets, "tools": tools})
