"""The YAML of readmes, which strangers have written."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_DEEPEST = 100
_LARGEST = 1 << 18  # characters; a readme of that size is data, and is not parsed


def parse_yaml(text: str) -> tuple[Any, str | None]:
    """Return what a YAML text says, and None; or None, and why it is no YAML."""
    if len(text) > _LARGEST:
        return None, f"it has more than {_LARGEST} characters"
    import yaml

    loader = _loader()
    try:
        reason = _dangerous(yaml.scan(text, Loader=loader))
        if reason is not None:
            return None, reason
        return yaml.load(text, Loader=loader), None  # noqa: S506 - derived from a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return None, " ".join(str(error).split())
    except (LookupError, AttributeError, TypeError, ArithmeticError) as error:
        # "!!bool maybe", "!!int ''", "!!timestamp today": the loader stumbles over values that are not of their tag.
        return None, f"a value can't be what its tag says ({type(error).__name__})"


@cache
def _loader() -> Any:
    """Return the safe loader, to which 10:20:30 is a text and not the number 37230 that YAML 1.1 makes of it."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("ReadmeLoader", (base,), {})

    def number(kind: str, loading: Any, node: Any) -> Any:
        text = loading.construct_scalar(node)
        return text if ":" in text else getattr(loading, f"construct_yaml_{kind}")(node)

    for kind in ("int", "float"):
        loader.add_constructor(f"tag:yaml.org,2002:{kind}", partial(number, kind))
    return loader


def _dangerous(tokens: Iterable[Any]) -> str | None:
    """Return why a YAML text must not be loaded.

    A short text with aliases of aliases can stand for gigabytes, and no readme needs them. One that is nested deeply ends
    the process: the C parser calls itself for each level.
    """
    import yaml

    deeper = (yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken, yaml.BlockSequenceStartToken,
              yaml.BlockMappingStartToken)  # fmt: skip
    back = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
    depth = 0
    for token in tokens:
        if isinstance(token, yaml.AliasToken):
            return "it has aliases"
        depth += isinstance(token, deeper) - isinstance(token, back)
        if depth > _DEEPEST:
            return f"it is nested more than {_DEEPEST} deep"
    return None
