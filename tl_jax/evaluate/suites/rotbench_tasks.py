"""RoTBench's items as prompts of a run."""

from __future__ import annotations

from tl_jax.calls.call import ToolCall
from tl_jax.data.examples.build import Prompt
from tl_jax.evaluate.scores import TurnScore
from tl_jax.evaluate.suites import rotbench
from tl_jax.run.directory import Run


def rotbench_prompts(run: Run, items: list[rotbench.Item]) -> list[Prompt]:
    """Return one prompt per RoTBench item in the text form of the run."""
    return [
        Prompt(
            id=item.id,
            ids=run.renderer.prompt_ids(item.tools, item.messages),
            text="",
            tools=item.tools,
            golds=item.golds,
            tags={},
        )
        for item in items
    ]


def rotbench_score(
    items: dict[str, rotbench.Item],
    call: ToolCall | None,
    prompt: Prompt,
    *,
    count_empty_arguments: bool = True,
) -> TurnScore:
    """Score a call on the RoTBench item of its prompt."""
    return rotbench.score_item(call, items[prompt.id], count_empty_arguments=count_empty_arguments)
