"""Objects in S3 and in stores that are compatible with it, read and written with retries."""

import functools
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from huetune.data_tools.common.errors import StorageError, UserError, first_line

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

SCHEME = "s3://"
QUERY_OPTIONS = ("endpoint_override", "scheme", "region")
RETRY_SECONDS = 30.0
"""How long a request is repeated while the store refuses connections, does not answer or truncates answers."""
REQUEST_TIMEOUT_SECONDS = 5.0
"""Time without a byte after which a request counts as unanswered."""
_AWS_ERROR = re.compile(r"AWS Error ([A-Z0-9_]+)(?: \(HTTP status \d+\))? during \w+ operation:")
"""Finds the AWS SDK's error code in pyarrow's message. pyarrow raises an OSError without errno or attributes for all
errors (as of 26.0.1), so the message is the only place that has it."""
_NO_BUCKET = "NO_SUCH_BUCKET"
_REFUSALS = (
    *("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID"),
    *("SIGNATURE_DOES_NOT_MATCH", "INVALID_SIGNATURE", "INCOMPLETE_SIGNATURE"),
)
"""The AWS SDK's codes for an account without permission: retrying does not help."""

T = TypeVar("T")


class ObjectInfo(NamedTuple):
    """Metadata of an object.

    Attributes:
        size_bytes: Size.
        modified_ns: When it was written, by the store's clock, in nanoseconds since 1970.
    """

    size_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class BucketPath:
    """A path in a bucket: of one object, or of a folder with the objects whose keys begin with it.

    Objects are written completely or not at all. Credentials are found as by all of Amazon's tools: in the environment,
    in `~/.aws`, or from the machine's role.

    Args:
        path: `BUCKET/KEY`.
        query: The part of the URI after the "?", see `of`.
    """

    path: str
    query: str = ""

    @classmethod
    def of(cls, uri: str) -> "BucketPath":
        """Parse a URI.

        Args:
            uri: `s3://BUCKET/KEY`. After a "?" it may have the options that Ray and pyarrow also accept, joined by "&":
                `endpoint_override=HOST:PORT` for a store that is not Amazon's, `scheme=http`, `region=REGION`.

        Raises:
            UserError: The URI is not valid or contains a password.
        """
        path, _, query = uri.removeprefix(SCHEME).partition("?")
        path = path.rstrip("/")
        if "@" in path.partition("/")[0]:
            raise UserError(
                "the storage's URI contains a key, which would be stored with the run; use AWS_ACCESS_KEY_ID or ~/.aws"
            )
        if not uri.startswith(SCHEME) or "#" in path or not uri.isprintable() or not _is_relative(path):
            raise UserError(f"{uri!r}: is not a path in a bucket such as s3://bucket/runs")
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in QUERY_OPTIONS or not value:
                raise UserError(
                    f"{uri!r}: after the '?' must be {', '.join(QUERY_OPTIONS)}, each with a value, not {name!r}"
                )
            if name == "scheme" and value not in ("http", "https"):
                raise UserError(f"{uri!r}: the scheme must be http or https, not {value!r}")
        return cls(path, "&".join(sorted(query.split("&"))))

    def __str__(self) -> str:
        return f"{SCHEME}{self.path}{self.query and '?'}{self.query}"

    def __truediv__(self, key: str) -> "BucketPath":
        """Return the path of a key below this one."""
        return BucketPath(f"{self.path}/{key}", self.query)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def check_reachable(self) -> None:
        """Check that the store answers and has the bucket. It is asked once, because a user is waiting.

        Raises:
            StorageError: The store does not answer or has no such bucket.
        """

        def reach(store: "S3FileSystem") -> None:
            from pyarrow.fs import FileType

            bucket = self.path.partition("/")[0]
            if store.get_file_info(bucket).type == FileType.NotFound:
                raise StorageError(f"{str(self)!r}: there is no bucket {bucket!r}; create it first")

        self._retry("reached", reach, retry_seconds=0)

    def read(self) -> bytes:
        """Return the content of the object.

        Raises:
            FileNotFoundError: There is no object at this path.
            StorageError: The store cannot be read.
        """

        def read(store: "S3FileSystem") -> bytes:
            with store.open_input_stream(self.path) as stream:
                size = int(stream.metadata()["Content-Length"])
                content = stream.read()
            if len(content) != size:
                raise OSError(f"the answer ended after {len(content)} of {size} bytes")
            return content

        return self._retry("read", read)

    def write(self, content: bytes) -> None:
        """Write the object, replacing any other at this path.

        Raises:
            StorageError: The store refuses it.
        """

        def write(store: "S3FileSystem") -> None:
            # With a single write: a stream that is closed before all is written leaves a truncated object.
            with store.open_output_stream(self.path) as stream:
                stream.write(content)

        self._retry("written", write)

    def version_tag(self) -> str | None:
        """Return a text that differs for each version of the object; None if there is no object."""

        def tag(store: "S3FileSystem") -> str | None:
            try:
                with store.open_input_stream(self.path) as stream:
                    about = stream.metadata()
            except FileNotFoundError:
                return None
            return f"{about['ETag'].decode()} {about['Last-Modified'].decode()}"

        return self._retry("read", tag)

    def list_names(self) -> list[str]:
        """Return the names of objects and folders directly below this path, sorted.

        Raises:
            StorageError: The store cannot be listed.
        """

        def names(store: "S3FileSystem") -> list[str]:
            from pyarrow.fs import FileSelector

            found = store.get_file_info(FileSelector(self.path, allow_not_found=True))
            return sorted(info.base_name for info in found)

        return self._retry("listed", names)

    def list_objects(self) -> dict[str, ObjectInfo]:
        """Return all objects below this path by their keys relative to it; the key of an object at this path is "".

        Raises:
            StorageError: The store cannot be listed, or a key cannot be used as a relative path.
        """

        def objects(store: "S3FileSystem") -> dict[str, ObjectInfo]:
            from pyarrow.fs import FileSelector, FileType

            here = store.get_file_info(self.path)
            if here.type == FileType.File:
                return {"": ObjectInfo(here.size, here.mtime_ns)}
            found = store.get_file_info(FileSelector(self.path, recursive=True, allow_not_found=True))
            stored = {
                info.path.removeprefix(f"{self.path}/"): ObjectInfo(info.size, info.mtime_ns)
                for info in found
                if info.type == FileType.File
            }
            for key in stored:
                # A key may be any text, such as ../x, and its local copy would be written outside of the mirror.
                if not _is_relative(key):
                    raise StorageError(f"{str(self / key)!r}: the key cannot be used as a path; remove the object")
            return stored

        return self._retry("listed", objects)

    def remove(self) -> None:
        """Remove the object at this path and all objects below it, if there are any.

        Raises:
            StorageError: The store refuses it.
        """

        def remove(store: "S3FileSystem") -> None:
            from pyarrow.fs import FileType

            kind = store.get_file_info(self.path).type
            if kind == FileType.File:
                store.delete_file(self.path)
            elif kind == FileType.Directory:
                store.delete_dir(self.path)

        self._retry("removed", remove)

    def _retry(self, done: str, action: Callable[["S3FileSystem"], T], retry_seconds: float | None = None) -> T:
        """Run an action on the store, and repeat it after errors that may be temporary.

        Args:
            done: Past participle for the error message, as "written".
            action: Function of the file system.
            retry_seconds: How long it is repeated, by default RETRY_SECONDS.
        """
        end = time.monotonic() + (RETRY_SECONDS if retry_seconds is None else retry_seconds)
        pause = 0.25
        bucket = self.path.partition("/")[0]
        try:
            store = _open_store(bucket, *(dict(parse_qsl(self.query)).get(name) for name in QUERY_OPTIONS))
        except ValueError as error:
            raise UserError(f"{str(self)!r}: is not a valid store ({first_line(error)})") from None
        while True:
            try:
                return action(store)
            except (FileNotFoundError, StorageError):
                raise
            except OSError as error:
                reason = _reason(error)
                code = _code(error)
                if code == _NO_BUCKET:
                    raise StorageError(f"{str(self)!r}: there is no bucket {bucket!r}; create it first") from None
                if code in _REFUSALS:
                    raise StorageError(f"{str(self)!r}: cannot be {done}, access is denied ({reason})") from None
                if time.monotonic() + pause > end:
                    raise StorageError(f"{str(self)!r}: cannot be {done} ({reason})") from None
            # Random, so that workers that lost the store at the same time do not all retry at the same time.
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, 5.0)


@functools.cache
def _open_store(bucket: str, endpoint: str | None, scheme: str | None, region: str | None) -> "S3FileSystem":
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
        request_timeout=REQUEST_TIMEOUT_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        allow_delayed_open=True,
    )


def _code(error: OSError) -> str | None:
    """Return the AWS SDK's code of an error that pyarrow raised; None if it has none."""
    found = _AWS_ERROR.search(str(error))
    return found and found[1]


def _reason(error: OSError) -> str:
    """Return the store's own message, without the ID of the request and other details."""
    text = first_line(error)
    for start in ("Message: ", "Details: ", "operation: "):
        text = text.partition(start)[2] or text
    return text.partition(" (Request ID")[0].strip().rstrip(".")


def _is_relative(key: str) -> bool:
    """Return whether a key is a relative path without "..", which stays inside of a folder."""
    return not any(part in ("", ".", "..") for part in key.split("/")) and "\0" not in key
