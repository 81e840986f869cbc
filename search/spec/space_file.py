"""Space files: TOML that describes a search space, read with the line of each error."""

import codecs
import re
import tomllib
from pathlib import Path

from huetune.data_tools.common.errors import UserError
from huetune.model.config import Config
from huetune.search.spec.space import Space
from huetune.search.spec.space_parser import SpaceError, parse_space

MAX_SPACE_FILE_BYTES = 1_000_000


def read_space(path: Path, base: Config) -> Space:
    """Read a space from a TOML file.

    Each setting is a table with `low` and `high`, and optionally `log` or `step`; or with `choices`; or with a fixed
    `value`. A setting with `where` is searched only where other settings have certain values, and has its value of
    `base` elsewhere. A range that its `step` does not divide ends at the last step within it, and `Space.notes` has a
    line about it.

        [mse_weight]
        low = 1.0
        high = 8.0
        log = true

        [activation]
        choices = ["relu", "silu"]

        [merge_units]
        low = 64
        high = 160
        step = 32
        where = { skip = true }

        [positions]
        value = 7

    Raises:
        UserError: the file cannot be read or is not a space.
    """
    try:
        if not path.is_file() and path.exists():
            raise UserError(f"space {str(path)!r}: is not a file")
        with path.open("rb") as file:
            content = file.read(MAX_SPACE_FILE_BYTES + 1)
        if len(content) > MAX_SPACE_FILE_BYTES:
            raise UserError(f"space {str(path)!r}: is larger than {MAX_SPACE_FILE_BYTES:,} bytes, so it is not a space")
        if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or (len(content) > 1 and b"\0" in content[:2]):
            raise UserError(f"space {str(path)!r}: is not UTF-8, perhaps UTF-16; save it as UTF-8")
        # Some editors write a byte order mark before the first letter.
        text = content.decode("utf-8-sig")
        record = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"space {str(path)!r}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"space {str(path)!r}, line {line}: is not UTF-8; save it as UTF-8") from None
    except RecursionError:
        raise UserError(f"space {str(path)!r}: not TOML: nested too deep") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"space {str(path)!r}: not TOML: {error}") from None
    try:
        return parse_space(record, base)
    except SpaceError as error:
        raise UserError(f"space {str(path)!r}, line {_line_of(text, error.setting, error.key)}: {error}") from None
    except UserError as error:
        raise UserError(f"space {str(path)!r}: {error}") from None


def _line_of(text: str, setting: str, key: str | None) -> int:
    """Return the line of a key in a TOML text, or of its table if the key has no line of its own.

    tomllib does not report where a value was.
    """

    def quoted_or_bare(name: str) -> str:
        return rf"[\"']?{re.escape(name)}[\"']?"

    table = re.compile(rf"\s*(\[\s*{quoted_or_bare(setting)}\s*\]|{quoted_or_bare(setting)}\s*[.=])")
    table_line = 0
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if table.match(line):
            table_line, inside = table_line or number, True
        elif re.match(r"\s*\[", line):
            inside = False
        if inside and key and re.match(rf"\s*({quoted_or_bare(setting)}\s*\.\s*)?{quoted_or_bare(key)}\s*[.=]", line):
            return number
    return table_line or 1
