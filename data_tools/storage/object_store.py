"""A place in a bucket, of S3 or whatever speaks like it."""

import functools
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from huetune.data_tools.common.errors import StorageError, UserError, in_a_line

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

SCHEME = "s3://"
QUERY = ("endpoint_override", "scheme", "region")
PATIENCE = 30.0
"""Seconds for which a store that refuses, hangs or breaks off is asked again."""
SILENCE = 5.0
"""Seconds without a byte after which a store hangs."""
_AWS_ERROR = re.compile(r"AWS Error ([A-Z0-9_]+)(?: \(HTTP status \d+\))? during \w+ operation:")
"""Where pyarrow puts the AWS SDK's code of an error. It raises an OSError without errno or attributes for each of them
(read in pyarrow 26.0.1): this sentence is all there is."""
_NO_BUCKET = "NO_SUCH_BUCKET"
_REFUSALS = (
    *("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID"),
    *("SIGNATURE_DOES_NOT_MATCH", "INVALID_SIGNATURE", "INCOMPLETE_SIGNATURE"),
)
"""The AWS SDK's codes of a store that refuses an account: asking again does not help."""

T = TypeVar("T")


class Stored(NamedTuple):
    """What is known of an object without reading it.

    Attributes:
        size: bytes.
        time: when it was written, by the store's clock: nanoseconds since 1970.
    """

    size: int
    time: int


@dataclass(frozen=True)
class Bucket:
    """A place in a bucket, and what is beneath it.

    Each object is there whole or not at all. Credentials are found where all of Amazon's tools find them: in the
    environment, in `~/.aws`, or as the machine's role.

    Args:
        path: `BUCKET/KEY`.
        query: what `of` finds after the "?".
    """

    path: str
    query: str = ""

    @classmethod
    def of(cls, uri: str) -> "Bucket":
        """Return the place that a URI means.

        Args:
            uri: s3://BUCKET/KEY; after a "?" what Ray and pyarrow understand there, too: `endpoint_override=HOST:PORT`
                of another store than Amazon's, `scheme=http`, `region=REGION`; of several with a "&" between.

        Raises:
            UserError: it is no such URI, or holds a password.
        """
        place, _, query = uri.removeprefix(SCHEME).partition("?")
        path = place.rstrip("/")
        if "@" in path.partition("/")[0]:
            raise UserError(
                "the storage's URI holds a key, which would be written down; use AWS_ACCESS_KEY_ID or ~/.aws"
            )
        if not uri.startswith(SCHEME) or "#" in path or not uri.isprintable() or not _inside(path):
            raise UserError(f"{uri!r}: not a place in a bucket such as s3://bucket/runs")
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in QUERY or not value:
                raise UserError(f"{uri!r}: after the '?' may be {', '.join(QUERY)}, each with a value, not {name!r}")
            if name == "scheme" and value not in ("http", "https"):
                raise UserError(f"{uri!r}: the scheme is http or https, not {value!r}")
        return cls(path, "&".join(sorted(query.split("&"))))

    def __str__(self) -> str:
        return f"{SCHEME}{self.path}{self.query and '?'}{self.query}"

    def __truediv__(self, key: str) -> "Bucket":
        """Return the place of a key beneath this one."""
        return Bucket(f"{self.path}/{key}", self.query)

    @property
    def name(self) -> str:
        """The last part of the place."""
        return self.path.rpartition("/")[2]

    def reach(self) -> None:
        """Make sure that the store answers, without patience: somebody waits at the terminal.

        Raises:
            StorageError: it does not, or has no such bucket.
        """

        def reach(store: "S3FileSystem") -> None:
            from pyarrow.fs import FileType

            bucket = self.path.partition("/")[0]
            if store.get_file_info(bucket).type == FileType.NotFound:
                raise StorageError(f"{str(self)!r}: there is no bucket {bucket!r}; make it first")

        self._tried("reached", reach, patience=0)

    def read(self) -> bytes:
        """Return the object here.

        Raises:
            FileNotFoundError: there is none.
            StorageError: the store does not give it.
        """

        def read(store: "S3FileSystem") -> bytes:
            with store.open_input_stream(self.path) as stream:
                size = int(stream.metadata()["Content-Length"])
                content = stream.read()
            if len(content) != size:
                raise OSError(f"broke off after {len(content)} of {size} bytes")
            return content

        return self._tried("read", read)

    def write(self, content: bytes) -> None:
        """Put an object here, in place of any other.

        Raises:
            StorageError: the store does not take it.
        """

        def write(store: "S3FileSystem") -> None:
            # In one piece: a stream that is closed early would leave a short object.
            with store.open_output_stream(self.path) as stream:
                stream.write(content)

        self._tried("written", write)

    def tag(self) -> str | None:
        """Return what tells this object from any other that was ever here; None where there is none."""

        def tag(store: "S3FileSystem") -> str | None:
            try:
                with store.open_input_stream(self.path) as stream:
                    about = stream.metadata()
            except FileNotFoundError:
                return None
            return f"{about['ETag'].decode()} {about['Last-Modified'].decode()}"

        return self._tried("read", tag)

    def names(self) -> list[str]:
        """Return the names right beneath this place."""

        def names(store: "S3FileSystem") -> list[str]:
            from pyarrow.fs import FileSelector

            found = store.get_file_info(FileSelector(self.path, allow_not_found=True))
            return sorted(info.base_name for info in found)

        return self._tried("listed", names)

    def objects(self) -> dict[str, Stored]:
        """Return all objects beneath this place by their keys from here on; "" is one right here.

        Raises:
            StorageError: the store does not say, or a key is no path that leads further down.
        """

        def objects(store: "S3FileSystem") -> dict[str, Stored]:
            from pyarrow.fs import FileSelector, FileType

            here = store.get_file_info(self.path)
            if here.type == FileType.File:
                return {"": Stored(here.size, here.mtime_ns)}
            found = store.get_file_info(FileSelector(self.path, recursive=True, allow_not_found=True))
            stored = {
                info.path.removeprefix(f"{self.path}/"): Stored(info.size, info.mtime_ns)
                for info in found
                if info.type == FileType.File
            }
            for key in stored:
                # Anything may be a key, and a file of such a name would be written elsewhere.
                if not _inside(key):
                    raise StorageError(f"{str(self / key)!r}: a key that is no path; remove it")
            return stored

        return self._tried("listed", objects)

    def remove(self) -> None:
        """Take away the object here, and all beneath; none there is no error."""

        def remove(store: "S3FileSystem") -> None:
            from pyarrow.fs import FileType

            kind = store.get_file_info(self.path).type
            if kind == FileType.File:
                store.delete_file(self.path)
            elif kind == FileType.Directory:
                store.delete_dir(self.path)

        self._tried("removed", remove)

    def _tried(self, done: str, action: Callable[["S3FileSystem"], T], patience: float | None = None) -> T:
        """Do something with the store, again and again where it may yet work."""
        end = time.monotonic() + (PATIENCE if patience is None else patience)
        pause = 0.25
        bucket = self.path.partition("/")[0]
        try:
            store = _store(bucket, *(dict(parse_qsl(self.query)).get(name) for name in QUERY))
        except ValueError as error:
            raise UserError(f"{str(self)!r}: is no such store ({in_a_line(error)})") from None
        while True:
            try:
                return action(store)
            except (FileNotFoundError, StorageError):
                raise
            except OSError as error:
                reason = _reason(error)
                code = _code(error)
                if code == _NO_BUCKET:
                    raise StorageError(f"{str(self)!r}: there is no bucket {bucket!r}; make it first") from None
                if code in _REFUSALS:
                    raise StorageError(f"{str(self)!r}: cannot be {done}, the store forbids it ({reason})") from None
                if time.monotonic() + pause > end:
                    raise StorageError(f"{str(self)!r}: cannot be {done} ({reason})") from None
            # Many workers that lost one store must not all come back in the same moment.
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, 5.0)


@functools.cache
def _store(bucket: str, endpoint: str | None, scheme: str | None, region: str | None) -> "S3FileSystem":
    from pyarrow import fs

    if region is None and endpoint is None:
        try:
            region = fs.resolve_s3_region(bucket)
        except OSError as error:
            raise StorageError(f"{SCHEME + bucket!r}: the store cannot be reached ({_reason(error)})") from None
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        scheme=scheme or "https",
        region=region or "us-east-1",
        connect_timeout=2,
        request_timeout=SILENCE,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        allow_delayed_open=True,
    )


def _code(error: OSError) -> str | None:
    """Return the AWS SDK's code of an error that pyarrow raised; None where there is none."""
    found = _AWS_ERROR.search(str(error))
    return found and found[1]


def _reason(error: OSError) -> str:
    """What a store said, without the request's number and the like."""
    text = in_a_line(error)
    for start in ("Message: ", "Details: ", "operation: "):
        text = text.partition(start)[2] or text
    return text.partition(" (Request ID")[0].strip().rstrip(".")


def _inside(key: str) -> bool:
    """Whether a key is a path that leads down."""
    return not any(part in ("", ".", "..") for part in key.split("/")) and "\0" not in key
