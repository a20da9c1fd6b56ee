"""Whether a value keeps what the API model says of it, and AWS's sentences where it does not: pure functions.

botocore checks only types and required members before it sends; patterns, lengths, ranges and enumerations are judged by the service.
Patterns are Java's and hold for the whole value.
"""

import functools
from collections.abc import Iterator

import regex

# Java writes characters beyond the first plane as a range of surrogate pairs.
ASTRAL = (r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")
SCALARS = ("string", "integer", "long", "float", "double")


def violations(shape, value) -> list[str]:
    """AWS's sentence for each member of a request that breaks a constraint; empty if none does.

    Parameters
    ----------
    shape : botocore.model.Shape
        The input shape of an operation.
    value : dict
        The parsed request.
    """
    return list(_walk(shape, value, ""))


def _walk(shape, value, path: str) -> Iterator[str]:
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _walk(member, value[name], f"{path}.{_lowered(name)}" if path else _lowered(name))
        return
    yield from (_sentence(shape, value, path, text) for text in _broken(shape, value))
    if shape.type_name == "list" and isinstance(value, list):
        yield from _elements(shape, value, path)
    if shape.type_name == "map" and isinstance(value, dict):
        yield from _entries(shape, value, path)


def _elements(shape, value: list, path: str) -> Iterator[str]:
    if shape.member.type_name not in SCALARS:
        for number, element in enumerate(value, 1):
            yield from _walk(shape.member, element, f"{path}.{number}.member")
    elif any(_broken(shape.member, element) for element in value):
        yield _sentence(shape, value, path, f"Member must satisfy constraint: [{_all(shape.member)}]")


def _entries(shape, value: dict, path: str) -> Iterator[str]:
    if any(_broken(shape.key, key) for key in value):
        yield _sentence(shape, value, path, f"Map keys must satisfy constraint: [{_all(shape.key)}]")
    if shape.value.type_name not in SCALARS:
        for key, element in value.items():
            yield from _walk(shape.value, element, f"{path}.{key}.member")
    elif any(_broken(shape.value, element) for element in value.values()):
        yield _sentence(shape, value, path, f"Map value must satisfy constraint: [{_all(shape.value)}]")


def _sentence(shape, value, path: str, text: str) -> str:
    shown = "" if shape.metadata.get("sensitive") else f" '{_shown(value)}'"
    return f"Value{shown} at '{path}' failed to satisfy constraint: {text}"


def _broken(shape, value) -> list[str]:
    """The constraints of this shape, not of what is inside, that the value breaks. A value of another type is the parser's business."""
    return [text for text, holds in _constraints(shape, value) if not holds]


def _all(shape) -> str:
    """AWS lists all constraints of an element, also those that hold."""
    return ", ".join(text for text, _ in _constraints(shape, "" if shape.type_name == "string" else 0))


def _constraints(shape, value) -> Iterator[tuple[str, bool]]:
    least, most, rules = shape.metadata.get("min"), shape.metadata.get("max"), shape.metadata
    if shape.type_name in ("string", "list", "map", "blob") and isinstance(value, (str, list, dict, bytes)):
        if most is not None:
            yield f"Member must have length less than or equal to {most}", len(value) <= most
        if least is not None:
            yield f"Member must have length greater than or equal to {least}", len(value) >= least
    elif shape.type_name in SCALARS and isinstance(value, (int, float)) and not isinstance(value, bool):
        if most is not None:
            yield f"Member must have value less than or equal to {most}", value <= most
        if least is not None:
            yield f"Member must have value greater than or equal to {least}", value >= least
    if isinstance(value, str) and rules.get("enum"):
        yield f"Member must satisfy enum value set: [{', '.join(rules['enum'])}]", value in rules["enum"]
    if isinstance(value, str) and rules.get("pattern"):
        yield f"Member must satisfy regular expression pattern: {rules['pattern']}", matches(rules["pattern"], value)


def matches(pattern: str, text: str) -> bool:
    """Whether all of a text fits a pattern of an API model."""
    return _compiled(pattern).fullmatch(text) is not None


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> regex.Pattern:
    return regex.compile(pattern.replace(*ASTRAL))


def _lowered(name: str) -> str:
    return name[:1].lower() + name[1:]


def _shown(value) -> str:
    """As Java prints it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_shown(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return str(value)
