"""The source of photos, a folder, a bucket or the synthetic garden, from which a run can read them again."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huetune.data_tools.common.errors import PhotoError, StorageError, UserError, did_you_mean
from huetune.data_tools.photos.versions import READER_VERSION
from huetune.data_tools.storage.bucket_cache import bucket_path, local_path, location_of, pull

if TYPE_CHECKING:  # a command that only names its photos should not wait for SciPy
    import numpy as np
    from numpy.typing import NDArray

    from huetune.data_tools.photos.dataset import PhotoSet, RgbFilter

DEFAULT_SCENES = 48
"""Scenes of the synthetic garden if no number is given."""
MAX_SCENES = 20_000
"""Scenes of the largest synthetic garden, which take 1 GB of memory."""

ProgressBar = Callable[[str, int], Callable[[Iterable], Iterable]]
"""Takes a description and the number of steps; returns a function that wraps the steps to show progress."""


def _no_progress_bar(description: str, total: int) -> Callable[[Iterable], Iterable]:
    return iter


@dataclass(frozen=True)
class Source:
    """A folder of photos, or the synthetic garden, and the selection of its photos.

    Args:
        folder: folder of photos, read with its subfolders; None for the synthetic garden.
        scenes: number of scenes of the garden; None for `DEFAULT_SCENES`.
        classes: use only photos whose own folder has one of these names; empty for all.
        limit: largest number of photos to use.
        seed: draws `limit` photos evenly from the classes; None, as in earlier runs, takes the first by name.
        reader_version: how files become photos, see `versions.READER_VERSION`.

    Raises:
        UserError: the arguments contradict one another.
    """

    folder: Path | None = None
    scenes: int | None = None
    classes: tuple[str, ...] = ()
    limit: int | None = None
    seed: int | None = None
    reader_version: int = READER_VERSION

    def __post_init__(self) -> None:
        if self.folder and self.scenes:
            raise UserError("--photos and --garden: choose one of them")
        if self.classes and not self.folder:
            raise UserError("--classes: goes with --photos")

    def __str__(self) -> str:
        return location_of(self.folder) if self.folder else "the synthetic garden"

    @property
    def record(self) -> dict[str, Any]:
        """The source as a manifest stores it. The folder is absolute, for commands that run in another folder."""
        return {
            "folder": self.folder and location_of(self.folder.absolute()),
            "scenes": self.scenes,
            "classes": list(self.classes),
            "limit": self.limit,
            "seed": self.seed,
            "reading": self.reader_version,
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Source":
        """Return the source that `record` stored in a manifest.

        Raises:
            StorageError: the photos were read by a newer reader version.
        """
        reader_version = record.get("reading", 1)
        if reader_version not in range(1, READER_VERSION + 1):
            raise StorageError(
                f"photos were read by reader version {reader_version!r}, expected 1 to {READER_VERSION}; update huetune"
            )
        folder = local_path(record["folder"]) if record["folder"] else None
        classes, seed = tuple(record["classes"]), record.get("seed")
        return cls(folder, record["scenes"], classes, record["limit"], seed, reader_version)

    def check(self) -> None:
        """Check, without decoding anything, that the folder and its classes exist or that the bucket can be reached.

        Raises:
            PhotoError: the folder or one of the classes does not exist.
            StorageError: the bucket cannot be reached.
        """
        from huetune.data_tools.photos.discovery import check_classes

        if not self.folder:
            return
        if bucket := bucket_path(self.folder):
            bucket.check_reachable()
        else:
            check_classes(self.folder, self.classes)

    def read(
        self, bar: ProgressBar = _no_progress_bar, keep_rgb: "RgbFilter | None" = None
    ) -> "tuple[PhotoSet, list[str]]":
        """Read the photos.

        Args:
            bar: makes progress bars.
            keep_rgb: selects the photos whose RGB pixels are kept, so that `read_rgb` does not decode them again; None
                keeps none.

        Returns:
            The photos, and a line with the reason for each skipped photo or each format that is not supported.

        Raises:
            PhotoError: there are no photos.
        """
        from huetune.data_tools.photos.discovery import find_photos
        from huetune.data_tools.photos.file_types import skipped_kinds

        if not self.folder:
            from huetune.data_tools.photos.dataset import prepare

            scenes, names = self._scenes()
            return prepare(scenes, names, keep_rgb), []
        others = self._fetch(bar)
        # Which other files are in the mirror of a bucket depends on the machine, so only suffixes are compared there.
        by_content = not bucket_path(self.folder)
        paths = find_photos(
            self.folder,
            self.classes,
            self.limit,
            seed=self.seed,
            reader_version=self.reader_version,
            by_content=by_content,
            others=others,
        )

        from huetune.data_tools.photos.dataset import load
        from huetune.data_tools.photos.prepared_cache import default_cache_folder

        progress = bar("reading photos", len(paths))
        cache = default_cache_folder()
        photos, skipped = load(
            paths, progress=progress, cache=cache, reader_version=self.reader_version, keep_rgb=keep_rgb
        )
        return photos, [*skipped_kinds(others), *skipped]

    def _fetch(self, bar: ProgressBar) -> Counter[str]:
        """Copy the photos of a bucket to its mirror on this machine; return the number of other files by kind."""
        from huetune.data_tools.photos.discovery import missing_class, normalized
        from huetune.data_tools.photos.file_types import PHOTO, SUFFIXES_OF_READER_1, kind_of

        assert self.folder
        root, classes = self.folder, set(map(normalized, self.classes))
        if not (bucket := bucket_path(root)):
            return Counter()

        def photo(key: str) -> bool:
            return (
                Path(key).suffix.lower() in SUFFIXES_OF_READER_1 if self.reader_version == 1 else kind_of(key) == PHOTO
            )

        def chosen(key: str) -> bool:
            return not classes or normalized((root / key).parent.name) in classes

        def wanted(key: str) -> bool:
            # The prefix may also contain runs, whose study and lock exist only in the mirror and must not be touched.
            return photo(key) and chosen(key)

        bucket.check_reachable()
        keys = pull(root, wanted, progress=lambda files: bar("fetching photos", len(files))(files))
        found = {(root / key).parent.name for key in keys if photo(key)}
        if missing := missing_class(classes, found):
            remedy = did_you_mean(missing, sorted(found - {root.name}), "it has") if found else "there are no photos"
            raise PhotoError(f"no photos of class {missing!r} in {str(self)!r}: {remedy}")
        if not found:
            raise PhotoError(f"no photos in {str(self)!r}: no file there has the suffix of a photo")
        return Counter(kind_of(key) for key in keys if chosen(key) and not photo(key))

    def read_rgb(self, photos: "PhotoSet", bar: ProgressBar = _no_progress_bar) -> "NDArray[np.uint8]":
        """Return the RGB pixels of photos of this source; those that the set does not keep are decoded again.

        Args:
            photos: n photos, read from this source.
            bar: makes progress bars.

        Returns:
            uint8 [n, 112, 112, 3].
        """
        import numpy as np

        from huetune.data_tools.photos.dataset import read_squares

        pairs = zip(photos.names, photos.digests, strict=True)
        missing = [name for name, digest in pairs if digest not in photos.rgb]
        if missing and not self.folder:
            scenes, names = self._scenes()
            decoded = scenes[[names.index(name) for name in missing]]
        else:
            decoded = read_squares(list(map(Path, missing)), bar("reading colors", len(missing)), self.reader_version)
        if len(missing) == len(photos):
            return decoded
        remaining = iter(decoded)
        return np.stack([photos.rgb[key] if key in photos.rgb else next(remaining) for key in photos.digests])

    def _scenes(self) -> "tuple[NDArray[np.uint8], list[str]]":
        from huetune.data_tools.datasets import synthetic_garden

        count = self.scenes or DEFAULT_SCENES
        count = min(count, self.limit or count)
        return synthetic_garden.garden(count), [synthetic_garden.scene_name(number) for number in range(count)]
