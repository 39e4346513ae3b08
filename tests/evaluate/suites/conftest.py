"""How replies in Python form are read and written, without a model."""

import dataclasses
import json

import pytest

from tl_jax.calls.render import render_calls
from tl_jax.evaluate.reading import reader


@dataclasses.dataclass
class Asked:
    """The items of a file and a suite that judges replies to them."""

    suite: object
    items: list

    def judge(self, *replies):
        """Judge one reply an item, in order."""
        return [
            self.suite.judge(item, reply, reader("python", item.tools))
            for item, reply in zip(self.items, replies, strict=True)
        ]

    def oracle(self):
        """The gold replies."""
        return [self.suite.oracle(item, render_calls) for item in self.items]

    def scores(self, *replies):
        """Percent by score."""
        found = self.suite.summary(self.items, self.judge(*replies))
        return {name: getattr(share, "percent", share) for name, share in found.items()}


@pytest.fixture(scope="session")
def ask():
    """Make the items that a suite reads from a file."""

    def asked(suite, path):
        return Asked(suite, list(suite.read(str(path))))

    return asked


@pytest.fixture(scope="session")
def write_lines():
    """Write rows as JSON lines."""

    def write(path, *rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
