"""A store that speaks S3, as a process of its own, and a network before it that can be broken."""

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


class Store:
    """moto's server, which keeps its objects in memory.

    Args:
        log: file for what it says.
        host: address that it listens on.
    """

    def __init__(self, log: Path, host: str = "127.0.0.1"):
        self.host, self.port = host, free_port()
        server = Path(sys.executable).with_name("moto_server")
        words = [str(server), "-H", host, "-p", str(self.port)]
        with log.open("wb") as file:
            self.process = subprocess.Popen(words, stdout=file, stderr=file, env={**os.environ, **ENVIRONMENT})
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

    def uri(self, place: str, port: int | None = None) -> str:
        return f"s3://{place}?endpoint_override={self.host}:{port or self.port}&scheme=http"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Network:
    """What is between a program and a store.

    Attributes:
        state: "fine", "refuses", "hangs", "cut" (an answer ends in its middle) or "forbids".
        code: of S3's errors, which it answers where it forbids.
        cuts: answers that were cut; after so many of `most_cuts` it is fine again.
    """

    def __init__(self, port: int):
        self._target = port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.state, self.cuts, self.most_cuts, self.code = "fine", 0, 10**9, "AccessDenied"
        self.port = free_port()
        self._listener: socket.socket | None = None
        self._listen()

    def become(self, state: str) -> None:
        """Whatever goes on is broken off, too."""
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
        self.become("refuses")

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _close_listener(self) -> None:
        if self._listener:
            # Closed alone it would still take the connection that its thread waits for.
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
                    if self.state == "cut" and answered > 2000 and self.cuts < self.most_cuts:
                        self.cuts += 1
                        connection.sendall(data[: len(data) // 2])
                        # Closed alone it would stay open while the other thread reads from it.
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
