"""Import tau2-bench simulations and its samples for supervised training.

A simulation is ``{"domain", "policy_id", "task", "agent", "simulation": {"messages", ...}}``; its
tools and its policy (the system text) are in ``tools.json`` and ``policies.json`` beside it. The
user may call tools of a device of their own, which the agent does not see: those calls and their
results are left out. An agent that works alone (``llm_agent_solo``) has the device's tools itself
and is asked by the task's ticket. A sample is an OpenAI chat with its tools in the row.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.chat import dialogue
from tl_jax.data.importers.schemas import normalised_tools, repair_tags, without_repeats
from tl_jax.data.importers.side_files import read_table, read_tool_table, tools_of
from tl_jax.data.importers.unread import changed
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "tau2_bench"
TOOLS_FILES = ("tools.json", "policies.json")

_ALONE = "llm_agent_solo"


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if not isinstance(row, Mapping):
        return ""
    if {"domain", "policy_id", "simulation"} <= row.keys():
        return "domain, policy_id and simulation"
    if {"messages", "tools", "task_id", "simulation_id"} <= row.keys():
        return "messages, tools, task_id and simulation_id"
    return ""


def load_tools(path: str | os.PathLike[str]) -> Any:
    """Return the tools by domain, and the policies by id from the file beside."""
    policies = Path(path).with_name("policies.json")
    return read_tool_table(path), read_table(policies) if policies.is_file() else {}


def trajectory(row: Mapping[str, Any], *, source: str, line: int, tools: Any = None) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: An unknown domain or policy, or messages that cannot be read.
    """
    declared, policies = tools or (None, {})
    if "simulation" not in row:
        return _sample(row, declared, source, line)
    simulation = row["simulation"]
    if not isinstance(simulation, Mapping) or not isinstance(simulation.get("messages"), list):
        raise RowError("'simulation' must hold a list of messages")
    domain = row.get("domain")
    offered, repairs = tools_of(declared, domain, "domain")
    policy = policies.get(str(row.get("policy_id")))
    if not isinstance(policy, str):
        raise RowError(
            f"policy {row.get('policy_id')!r} is not in policies.json beside the tools file"
        )
    entries = [{"role": "system", "content": policy}]
    if row.get("agent") == _ALONE:
        device, _ = tools_of(declared, f"{domain}_user_device", "domain")
        offered = without_repeats((*offered, *device), Counter())
        entries.append({"role": "user", "content": _ticket(row.get("task"))})
    entries += [entry for entry in simulation["messages"] if not _of_device(entry)]
    reward = simulation.get("reward_info")
    counts: Counter[str] = Counter()
    return Trajectory(
        id=f"tau2_bench:{domain}/{simulation.get('id')}/{line}",
        tools=offered,
        messages=dialogue(entries, tools=offered, repairs=counts),
        source=source,
        line=line,
        repairs=+counts,
        tags={
            "domain": str(domain),
            "task": f"{domain}/{simulation.get('task_id')}",
            "model": str(row.get("agent_llm")),
            "success": _success(reward.get("reward") if isinstance(reward, Mapping) else None),
            **repairs,
        },
    )


def _sample(row: Mapping[str, Any], declared: Any, source: str, line: int) -> Trajectory:
    repairs: Counter[str] = Counter()
    tools = normalised_tools(row.get("tools"), repairs, keep_names=True)
    counts: Counter[str] = Counter()
    # A sample does not name its domain, but only one domain has all its tools.
    domains = (
        key for key, (offered, _) in (declared or {}).items() if _names(tools) <= _names(offered)
    )
    entries = row.get("messages")
    if isinstance(entries, list):
        entries = [_with_status(entry) for entry in entries]
    return Trajectory(
        id=f"tau2_bench:{row.get('simulation_id')}/{line}",
        tools=tools,
        messages=dialogue(entries, tools=tools, repairs=counts),
        source=source,
        line=line,
        repairs=+counts,
        tags={
            "task": f"{next(domains, 'tau2')}/{row.get('task_id')}",
            "success": _success(row.get("reward")),
            **repair_tags(repairs),
        },
    )


def _names(tools: Iterable[ToolSpec]) -> set[str]:
    return {tool.name for tool in tools}


def _with_status(entry: Any) -> Any:
    """Say which results are errors, as the benchmark writes the text of an exception."""
    content = entry.get("content") if isinstance(entry, Mapping) else None
    if not isinstance(content, str) or entry.get("role") != "tool":
        return entry
    return changed(entry, error=content.startswith("Error"))


def _of_device(entry: Any) -> bool:
    """Return whether a message is a call of the user's device, or its result."""
    if not isinstance(entry, Mapping):
        return False
    if entry.get("role") == "tool":
        return entry.get("requestor") == "user"
    return (
        entry.get("role") == "user" and bool(entry.get("tool_calls")) and not entry.get("content")
    )


def _ticket(task: Any) -> str:
    ticket = task.get("ticket") if isinstance(task, Mapping) else None
    if not isinstance(ticket, str) or not ticket.strip():
        raise RowError("an agent that works alone, but no ticket in 'task'")
    return ticket


def _success(reward: Any) -> str:
    return str(isinstance(reward, (int, float)) and reward >= 1).lower()
