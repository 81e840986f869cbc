"""Download of the archive from a real server on this machine."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from huetune.data_tools.common.errors import PhotoError
from huetune.data_tools.datasets.tf_flowers import fetch_flowers
from huetune.data_tools.photos.discovery import find_photos

FLOWERS = ("flower_photos/roses/1.jpg", "flower_photos/roses/2.jpg", "flower_photos/tulips/1.jpg")


class CountingHandler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.paths.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Shop:
    """A file server for the archives that a test puts into its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(CountingHandler, directory=str(folder)))
        self.asked: list[str] = []
        self.server.paths = self.asked  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.server.server_port}/flowers.tgz"
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def offer(self, *names: str) -> str:
        """Pack photos with these names and a license file; return the sha256 of the archive."""
        photo = io.BytesIO()
        Image.new("RGB", (20, 20), "red").save(photo, "JPEG")
        with tarfile.open(self.folder / "flowers.tgz", "w:gz") as archive:
            for name in ("flower_photos/LICENSE.txt", *names):
                member = tarfile.TarInfo(name)
                data = photo.getvalue() if name.endswith(".jpg") else b"CC-BY"
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return hashlib.sha256((self.folder / "flowers.tgz").read_bytes()).hexdigest()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    shop = Shop(tmp_path / "shop")
    yield shop
    shop.close()


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_fetch_flowers_unpacks_classes(tmp_path: Path, shop: Shop) -> None:
    folder = fetch_flowers(tmp_path / "out", shop.url, shop.offer(*FLOWERS))
    assert folder == tmp_path / "out" / "flower_photos"
    assert find_photos(folder, ["roses"]) == [folder / "roses" / "1.jpg", folder / "roses" / "2.jpg"]
    assert len(find_photos(folder)) == 3
    assert (folder / "LICENSE.txt").read_bytes() == b"CC-BY"


def test_fetch_flowers_again_downloads_nothing(tmp_path: Path, shop: Shop) -> None:
    sha256 = shop.offer(*FLOWERS)
    first = fetch_flowers(tmp_path / "out", shop.url, sha256)
    assert shop.asked == ["/flowers.tgz"]
    assert fetch_flowers(tmp_path / "out", shop.url, sha256) == first
    assert shop.asked == ["/flowers.tgz"]


def test_fetch_flowers_again_restores_missing_photos(tmp_path: Path, shop: Shop) -> None:
    sha256 = shop.offer(*FLOWERS)
    folder = fetch_flowers(tmp_path / "out", shop.url, sha256)
    (folder / "roses" / "2.jpg").unlink()
    assert len(find_photos(fetch_flowers(tmp_path / "out", shop.url, sha256))) == 3
    assert len(shop.asked) == 1


def test_fetch_flowers_downloads_damaged_archive_again(tmp_path: Path, shop: Shop) -> None:
    sha256 = shop.offer(*FLOWERS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "flower_photos.tgz").write_bytes(b"half of it")
    assert len(find_photos(fetch_flowers(tmp_path / "out", shop.url, sha256))) == 3


def test_fetch_flowers_ignores_existing_photos(tmp_path: Path, shop: Shop) -> None:
    out = tmp_path / "out"
    (out / "holiday" / "beach").mkdir(parents=True)
    for name in ("mine.jpg", "holiday/beach/1.jpg"):
        Image.new("RGB", (9, 9)).save(out / name)
    assert fetch_flowers(out, shop.url, shop.offer(*FLOWERS)) == out / "flower_photos"


def test_fetch_flowers_overwrites_no_user_files(tmp_path: Path, shop: Shop) -> None:
    mine = tmp_path / "out" / "flower_photos" / "roses" / "1.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(PhotoError, match="exists and is another file"):
        fetch_flowers(tmp_path / "out", shop.url, shop.offer(*FLOWERS))
    assert mine.read_bytes() == b"mine"
    assert files(tmp_path / "out") == ["flower_photos.tgz", "flower_photos/roses/1.jpg"]


def test_fetch_flowers_of_flat_archive_returns_out(tmp_path: Path, shop: Shop) -> None:
    assert fetch_flowers(tmp_path / "out", shop.url, shop.offer("a.jpg", "b.jpg")) == tmp_path / "out"


def test_fetch_flowers_with_wrong_checksum_unpacks_nothing(tmp_path: Path, shop: Shop) -> None:
    shop.offer(*FLOWERS)
    with pytest.raises(PhotoError, match=r"flowers\.tgz': cannot be fetched .*does not match.*" + "0" * 64):
        fetch_flowers(tmp_path / "out", shop.url, "0" * 64)
    assert files(tmp_path / "out") == []


def test_fetch_flowers_from_silent_server_raises(tmp_path: Path, shop: Shop) -> None:
    sha256 = shop.offer(*FLOWERS)
    shop.close()
    with pytest.raises(PhotoError, match=r"^'http://127\.0\.0\.1.*': cannot be fetched .*refused.*; try again"):
        fetch_flowers(tmp_path / "out", shop.url, sha256)
    assert files(tmp_path / "out") == []


def test_fetch_flowers_of_missing_file_raises(tmp_path: Path, shop: Shop) -> None:
    with pytest.raises(PhotoError, match=r"cannot be fetched .*404"):
        fetch_flowers(tmp_path / "out", shop.url, "0" * 64)


def test_fetch_flowers_of_other_file_raises(tmp_path: Path, shop: Shop) -> None:
    (shop.folder / "flowers.tgz").write_bytes(b"a rose")
    with pytest.raises(PhotoError, match="cannot be fetched"):
        fetch_flowers(tmp_path / "out", shop.url, hashlib.sha256(b"a rose").hexdigest())


def test_fetch_flowers_of_archive_without_photos_raises(tmp_path: Path, shop: Shop) -> None:
    with pytest.raises(PhotoError, match="there are no photos in the archive"):
        fetch_flowers(tmp_path / "out", shop.url, shop.offer())


@pytest.mark.parametrize("escape", ["../escaped.jpg", "{outside}/escaped.jpg", "flower_photos/../../escaped.jpg"])
def test_fetch_flowers_writes_nothing_outside_of_folder(tmp_path: Path, shop: Shop, escape: str) -> None:
    outside = tmp_path / "outside"
    out = outside / "out"
    outside.mkdir()
    sha256 = shop.offer(*FLOWERS, escape.format(outside=outside))
    fetch_flowers(out, shop.url, sha256)
    inside = sorted(["flower_photos.tgz", "flower_photos/LICENSE.txt", *FLOWERS])
    assert files(outside) == [f"out/{name}" for name in inside]
