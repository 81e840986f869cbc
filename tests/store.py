"""An S3 server in a process of its own, and a proxy in front of it that can be made to fail."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "hue",
    "AWS_SECRET_ACCESS_KEY": "sentinel-51c07d",
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class S3Server:
    """moto's S3 server, which keeps its objects in memory.

    Args:
        log: File for the server's output.
        host: Address that it listens on.
    """

    def __init__(self, log: Path, host: str = "127.0.0.1"):
        self.host, self.port = host, free_port()
        server = Path(sys.executable).with_name("moto_server")
        command = [str(server), "-H", host, "-p", str(self.port)]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **ENVIRONMENT})
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                socket.create_connection((host, self.port), 1).close()
                return
            time.sleep(0.1)
        raise TimeoutError(log.read_text(encoding="utf-8"))

    def make_bucket(self, name: str) -> None:
        from pyarrow import fs

        endpoint = f"{self.host}:{self.port}"
        fs.S3FileSystem(
            access_key="hue", secret_key="any", endpoint_override=endpoint, scheme="http", allow_bucket_creation=True
        ).create_dir(name)

    def uri(self, path: str, port: int | None = None) -> str:
        """Return the s3:// URI of `BUCKET/KEY`, at the server or at a proxy's port."""
        return f"s3://{path}?endpoint_override={self.host}:{port or self.port}&scheme=http"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class FaultyProxy:
    """A proxy between a program and an S3 server.

    Args:
        port: Port of the server.

    Attributes:
        state: "fine", "refuses" (connections), "hangs" (never answers), "cut" (answers are truncated) or "forbids"
            (answers 403).
        code: S3's error code in the answers of the state "forbids".
        cuts: Number of truncated answers so far. From `max_cuts` on answers are complete again.
    """

    def __init__(self, port: int):
        self._target = port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.state, self.cuts, self.max_cuts, self.code = "fine", 0, 10**9, "AccessDenied"
        self.port = free_port()
        self._listener: socket.socket | None = None
        self._listen()

    def set_state(self, state: str) -> None:
        """Change the state and break off all open connections."""
        self.state = state
        if state == "refuses":
            self._close_listener()
        elif self._listener is None:
            self._listen()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.set_state("refuses")

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _close_listener(self) -> None:
        if self._listener:
            # Without a shutdown, the thread that waits in accept() would take one more connection.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        with contextlib.suppress(OSError), connection:
            if self.state == "hangs":
                while connection.recv(65536):
                    pass
                return
            if self.state == "forbids":
                connection.recv(65536)
                body = f"<Error><Code>{self.code}</Code><Message>Not yours, for all we know.</Message></Error>"
                head = f"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}"
                connection.sendall(f"{head}\r\nConnection: close\r\n\r\n{body}".encode())
                return
            with socket.create_connection(("127.0.0.1", self._target)) as store:
                threading.Thread(target=self._pass, args=(connection, store), daemon=True).start()
                answered = 0
                while data := store.recv(65536):
                    answered += len(data)
                    if self.state == "cut" and answered > 2000 and self.cuts < self.max_cuts:
                        self.cuts += 1
                        connection.sendall(data[: len(data) // 2])
                        # Without a shutdown, it would stay open while the other thread reads from it.
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    connection.sendall(data)
        with self._lock:
            self._open.discard(connection)

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
