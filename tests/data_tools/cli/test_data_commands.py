"""The commands `data check` and `data garden`."""

from PIL import Image

from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.dataset import load, prepare
from huetune.data_tools.photos.discovery import find_photos


def test_data_check_lists_skipped_photos_with_reasons(in_process, tmp_path):
    Image.fromarray(garden(1)[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_text("no picture", encoding="utf-8")
    done = in_process("data", "check", tmp_path)
    assert done.returncode == 0
    assert "bad.jpg': its content is not JPEG" in done.stdout and "2 files: 1 usable photo (" in done.stdout


def test_data_check_caches_once_and_not_with_empty_variable(in_process, tmp_path, monkeypatch):
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    photos.mkdir()
    Image.fromarray(garden(1)[0]).save(photos / "good.png")
    (photos / "bad.jpg").write_text("no picture", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("HUETUNE_CACHE", "")
    plain = in_process("data", "check", photos)
    assert plain.returncode == 0 and not cache.exists()
    monkeypatch.delenv("HUETUNE_CACHE")
    assert [in_process("data", "check", photos).stdout for _ in range(2)] == [plain.stdout] * 2
    assert len(list((cache / "huetune" / "prepared").iterdir())) == 1


def test_data_garden_writes_the_scenes_that_a_search_uses(in_process, tmp_path):
    assert in_process("data", "garden", "--count", 3, "--out", tmp_path / "g").returncode == 0
    photos, left_out = load(find_photos(tmp_path / "g"))
    assert photos.digests == prepare(garden(3), ["a", "b", "c"]).digests and not left_out
