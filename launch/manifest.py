"""Manifests: plain data as YAML that a person would have written."""

import shlex
from collections.abc import Sequence
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Block style, lists indented, no anchors, text of several lines as it is."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(value: Any, comments: Sequence[str] = ()) -> str:
    """Plain data as YAML, its keys in the order given, below comments."""
    above = "".join(f"# {line}\n" for comment in comments for line in comment.splitlines())
    return above + yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=2**20
    )


def command_line_of(module: str, arguments: Sequence[str]) -> str:
    """The command that makes a manifest, as one would type it."""
    return f"python -m {module} {shlex.join(arguments)}"
