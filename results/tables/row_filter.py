"""Filters the rows of a table by a condition, as `--where` does: comparisons of columns with values."""

import ast
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from huetune.data_tools.common.errors import UserError, did_you_mean
from huetune.results.tables.trial_table import Row, column_name

EXAMPLE = 'as in "skip == true and epochs >= 5"'
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}


def where(table: list[Row], condition: str) -> list[Row]:
    """Return the rows that meet a condition.

    Args:
        table: rows.
        condition: comparisons of columns with values, combined with `and`, `or`, `not` and brackets, as in
            "skip == true and epochs >= 5" or "activation in ('silu', 'gelu')". A missing value meets only `== none`
            and `!=`.

    Raises:
        UserError: the condition has a syntax error, names an unknown column, or compares a column with a value of a
            type that it never contains.
    """
    try:
        tree = ast.parse(condition, mode="eval").body
    except SyntaxError as error:
        raise UserError(f"--where {condition!r:.200}: {_fault(condition, error.offset)}; {EXAMPLE}") from None
    except (ValueError, RecursionError, MemoryError):  # The text is not UTF-8, or has hundreds of brackets.
        raise UserError(f"--where {condition!r:.200}: not understood; {EXAMPLE}") from None
    if not table:
        return []
    _check(tree, table, condition)
    return [row for row in table if _holds(tree, row, condition)]


_TOKEN = re.compile(
    r"""\s*(?:
    (?P<word>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<quote>["'])
    | (?P<value>[^\W\d]\w*|\.?\d[\w.]*(?:(?<=[eE])[+-]\d+)?)
    | (?P<open>[(\[]) | (?P<close>[)\]])
    | (?P<foreign>&&?|\|\|?|<>|=>|=<|=(?!=)|!(?!=))
    | (?P<sign>==|!=|<=|>=|<|>)
    | (?P<other>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"(0|[1-9][\d_]*|\d*\.\d+|\d+\.\d*)([eE][+-]?\d+)?")
_INSTEAD = {"=": "==", "&&": "and", "&": "and", "||": "or", "|": "or", "!": "not", "<>": "!=", "=>": ">=", "=<": "<="}


def _fault(condition: str, offset: int | None) -> str:
    """Return the first mistake, from the left, in a condition that Python's grammar refuses, and its position."""
    opened: list[tuple[str, int]] = []
    # What precedes the token: nothing or an opening bracket, a value, or a sign that needs a value on its right.
    before, text, at = "start", "", 1
    for token in _TOKEN.finditer(condition.rstrip()):
        kind, last, last_at = token.lastgroup, text, at
        text, at = token[kind or 0], token.start(kind or 0) + 1
        if kind == "value" and text in ("and", "or", "in", "is"):
            kind = "sign"
        if kind == "quote":
            return f"the quote at character {at} is not closed"
        if kind == "foreign":
            return f"write {_INSTEAD[text]!r} instead of {text!r} at character {at}"
        if kind == "open":
            opened.append((text, at))
            if before == "value":
                return f"an operator such as == is missing before {text!r} at character {at}"
            before = "start"
        elif kind == "close":
            if not opened or opened.pop()[0] + text not in ("()", "[]"):
                return f"the bracket {text!r} at character {at} was not opened"
            if before == "sign":
                return f"{last!r} at character {last_at} has no value on its right"
            before = "value"
        elif kind == "sign":
            if before == "sign" and text != "in":
                return f"{last!r} at character {last_at} has no value on its right"
            if before == "start":
                return f"{text!r} at character {at} has nothing on its left"
            before = "sign"
        elif kind == "value" and text == "not":
            before = "sign"
        elif kind in ("value", "word"):
            if before == "value":
                return f"an operator such as == is missing between {last!r} and {text!r} at character {at}"
            before = "value"
            if text[:1].isdigit() and not _NUMBER.fullmatch(text):
                return f"{text!r} at character {at} is not a number"
        elif text == ",":
            before = "start"
        elif text != "-":
            return f"{text!r} at character {at} is not understood"
    if before == "sign":
        return f"{text!r} at character {at} has no value on its right"
    if opened:
        return f"the bracket {opened[-1][0]!r} at character {opened[-1][1]} is not closed"
    return f"not understood at character {offset or len(condition)}" if condition.strip() else "the condition is empty"


def _check(tree: ast.expr, table: list[Row], condition: str) -> None:
    """Refuse names that are not columns, and text that is compared with a column that contains no text."""
    columns = table[0]
    for node in ast.walk(tree):
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        typed = [column_name(side.id, columns) for side in sides if isinstance(side, ast.Name)]
        names = [name for name in typed if name in columns]
        for side in (part for one in sides for part in (one.elts if isinstance(one, (ast.Tuple, ast.List)) else [one])):
            if names and isinstance(side, ast.Name) and not _known(side.id, columns):
                raise UserError(f"--where {condition!r:.200}: {_unknown(side.id, columns, names[0], table)}")
            if names and isinstance(side, ast.Constant) and isinstance(side.value, str):
                held = [row[names[0]] for row in table if row[names[0]] is not None]
                if held and not any(isinstance(value, str) for value in held):
                    hint = f"{names[0]!r} holds {_kind(held)}, and {side.value!r} is text; write it without quotes"
                    raise UserError(f"--where {condition!r:.200}: {hint}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not _known(node.id, columns) and not _called(node, tree):
            raise UserError(f"--where {condition!r:.200}: {_unknown(node.id, columns)}")


def _kind(held: Sequence[Any]) -> str:
    """Return what a column without text contains, in words."""
    return "true or false" if all(isinstance(value, bool) for value in held) else "numbers"


def _called(name: ast.Name, tree: ast.expr) -> bool:
    """Return whether a name is part of a call, attribute or subscript, which are refused as a whole."""
    return any(
        name in ast.walk(node) for node in ast.walk(tree) if isinstance(node, (ast.Call, ast.Attribute, ast.Subscript))
    )


def _known(name: str, columns: Row) -> bool:
    return column_name(name, columns) in columns or name.lower() in _WORDS


def _unknown(name: str, columns: Row, beside: str | None = None, table: list[Row] | None = None) -> str:
    """Return the message for a name that is not a column.

    Args:
        name: the name.
        columns: columns of the table.
        beside: column that the name is compared with; None if there is none.
        table: rows; needed with `beside`.
    """
    if beside is None:
        return f"no column {name!r}: {did_you_mean(name, columns, 'the columns are')}"
    held = [row[beside] for row in table or () if row[beside] is not None]
    if held and not any(isinstance(value, str) for value in held):
        return f"{beside!r} holds {_kind(held)}, and {name!r} is neither that nor a column"
    return f"no column {name!r}: put text in quotes, as in {beside} == '{name}'"


def _holds(node: ast.expr, row: Row, condition: str) -> bool:
    def inner(child: ast.expr) -> bool:
        return _holds(child, row, condition)

    if isinstance(node, ast.BoolOp):
        return (all if isinstance(node.op, ast.And) else any)(inner(child) for child in node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not inner(node.operand)
    if isinstance(node, ast.Compare):
        values = [_value(child, row, condition) for child in (node.left, *node.comparators)]
        pairs = zip(values, node.ops, values[1:], strict=False)
        return all(_compare(op, left, right, condition) for left, op, right in pairs)
    return bool(_value(node, row, condition))


def _compare(op: ast.cmpop, left: Any, right: Any, condition: str) -> bool:
    if type(op) not in _COMPARISONS:
        raise UserError(f"--where {condition!r}: use ==, !=, <, <=, >, >=, in or not in")
    if not isinstance(op, (ast.Eq, ast.NotEq)) and (left is None or right is None):
        return False
    try:
        return bool(_COMPARISONS[type(op)](left, right))
    except TypeError:
        raise UserError(f"--where {condition!r}: {left!r} and {right!r} cannot be compared in this way") from None


def _value(node: ast.expr, row: Row, condition: str) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        # A column named like one of the words takes precedence.
        name = column_name(node.id, row)
        return row[name] if name in row else _WORDS[name.lower()]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        negated = _value(node.operand, row, condition)
        if isinstance(negated, (int, float)):
            return -negated
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_value(child, row, condition) for child in node.elts]
    raise UserError(f"--where {condition!r}: {ast.unparse(node)!r} is neither a column nor a value")
