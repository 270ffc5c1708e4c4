"""Error messages about invalid input, worded for people: msgspec's own name Python's types. Pure."""

import re
from collections.abc import Iterable

import msgspec
from msgspec import inspect

SHOWN = 60
"""Maximum characters of an invalid value in a message."""

Step = str | int
"""A key, or an index into a list."""


def expected(kind: object, *, null: bool = False) -> str:
    """Describe the values of a type: `a whole number from 1 to 20`. `null`: mention null where it is allowed."""
    return _described(inspect.type_info(kind), null)


def shown(value: object) -> str:
    """Return a value as text, cut if it is long."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError):
        text = str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def not_readable(wrong: Exception, raw: bytes | str, kind: object) -> str:
    """Return a sentence about why JSON cannot be read as `kind`: where, what was expected, what was found."""
    if not isinstance(wrong, msgspec.ValidationError):
        return f"invalid JSON ({wrong})" if isinstance(wrong, msgspec.MsgspecError) else "invalid JSON"
    what, _, where = str(wrong).partition(" - at `$")
    steps: list[Step] = [int(at) if at else key for key, at in re.findall(r"\.([^.\[`]+)|\[(\d+)\]", where)]
    if missing := re.fullmatch(r"Object missing required field `(.+)`", what):
        return f"{_location([*steps, missing[1]])} is missing"
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", what)
    try:
        value = msgspec.json.decode(raw)
        found = inspect.type_info(kind)
        for step in steps:
            found, value = _within(found, step, value), value[step]
        if unknown:
            return f"unknown field {shown(unknown[1])}; expected {', '.join(_fields(found, value)) or 'none'}"
    except (LookupError, TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return f"{_location(steps)}: unexpected value"
    if isinstance(value, str) and (most := _longest(found)) and len(value) > most:
        return f"{_location(steps)}: expected at most {most} characters, not {len(value)}; shorten {shown(value)}"
    return f"{_location(steps)}: expected {_described(found, null=True)}, not {shown(value)}"


def _location(steps: Iterable[Step]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".") or "the message"


def _kinds(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    """Return the types that a value may have, without what only JSON Schema shows."""
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return tuple(each.type if isinstance(each, inspect.Metadata) else each for each in kinds)


def _within(kind: inspect.Type, step: Step, value: object) -> inspect.Type:
    """Return the type of the value at `step` within `kind`. Raises LookupError."""
    kinds = _kinds(kind)
    tags = [each.tag for each in kinds if isinstance(each, inspect.StructType) and each.tag_field == step]
    if tags:
        return inspect.LiteralType(tuple(str(tag) for tag in tags))
    for each in kinds:
        if isinstance(each, inspect.StructType) and (not each.tag_field or _tag(value, each) == each.tag):
            for field in each.fields:
                if field.encode_name == step:
                    return field.type
        if isinstance(each, inspect.ListType | inspect.VarTupleType) and isinstance(step, int):
            return each.item_type
    raise LookupError(step)


def _fields(kind: inspect.Type, value: object) -> list[str]:
    """Return the names of the fields that an object may have."""
    kinds = _kinds(kind)
    structs = [each for each in kinds if isinstance(each, inspect.StructType)]
    return [
        field.encode_name
        for each in structs
        if not each.tag_field or _tag(value, each) == each.tag
        for field in each.fields
    ]


def _longest(kind: inspect.Type) -> int:
    """Return the maximum length of a text; 0: there is none."""
    kinds = _kinds(kind)
    return max((each.max_length or 0 for each in kinds if isinstance(each, inspect.StrType)), default=0)


def _tag(value: object, kind: inspect.StructType) -> object:
    return value.get(kind.tag_field) if isinstance(value, dict) else None


def _described(kind: inspect.Type, null: bool) -> str:
    match kind:
        case inspect.Metadata(type=plain):
            return _described(plain, null)
        case inspect.UnionType(types=types):
            words = [_described(each, null) for each in types if null or not isinstance(each, inspect.NoneType)]
            return " or ".join(dict.fromkeys(words))
        case inspect.IntType():
            return f"a whole number{_bounds(kind)}"
        case inspect.FloatType():
            return f"a number{_bounds(kind)}"
        case inspect.StrType(max_length=most):
            return f"text of at most {most} characters" if most else "text"
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}" if len(values) > 1 else str(values[0])
        case inspect.TupleType(item_types=items):
            return f"a list of {len(items)}, each {_described(items[0], null)}"
        case inspect.ListType(item_type=item, max_length=most) | inspect.VarTupleType(item_type=item, max_length=most):
            return f"a list{f' of at most {most}' if most else ''}, each {_described(item, null)}"
    return "an object"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    least, most = kind.ge, kind.le
    if kind.gt is not None:
        return f" above {_number(kind.gt)}" + (f", at most {_number(most)}" if most is not None else "")
    if least is not None:
        return f" from {_number(least)}" + (f" to {_number(most)}" if most is not None else " on")
    return ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
