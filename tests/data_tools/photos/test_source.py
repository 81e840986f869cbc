"""Sources of photos: a folder or the synthetic garden."""

import numpy as np
import pytest

from huetune.data_tools.datasets.synthetic_garden import garden, write_garden
from huetune.data_tools.photos.source import Source


@pytest.mark.parametrize("on_disk", [True, False])
def test_read_rgb_returns_pixels_of_any_photos(on_disk, tmp_path):
    write_garden(4, tmp_path / "photos")
    (tmp_path / "photos" / "garden-0000 is no picture.png").write_text(
        "it comes before garden-0000.png", encoding="utf-8"
    )
    source = Source(tmp_path / "photos") if on_disk else Source(scenes=4)
    photos, _ = source.read()
    scenes = garden(4)
    np.testing.assert_array_equal(source.read_rgb(photos), scenes)
    np.testing.assert_array_equal(source.read_rgb(photos.take([3, 1, 1])), scenes[[3, 1, 1]])
    assert source.read_rgb(photos.take([])).shape == (0, 112, 112, 3)
