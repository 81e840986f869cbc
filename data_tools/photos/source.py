"""Where photos come from: a folder or the built-in garden, so that the same ones can be read again."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huetune.data_tools.common.errors import PhotoError, StorageError, UserError, did_you_mean
from huetune.data_tools.storage.bucket_cache import bucket_path, local_path, location_of, pull

if TYPE_CHECKING:  # a command that only says which photos should not wait for SciPy
    import numpy as np
    from numpy.typing import NDArray

    from huetune.data_tools.photos.dataset import PhotoSet, RgbFilter

DEFAULT_SCENES = 48
"""Scenes of the built-in garden that are taken unless told otherwise."""
READING = 2
"""How files become photos. A run records it, to read its photos again as it did, whatever huetune reads by then.

1, which nothing records, found photos by fewer endings, ignored color profiles, and skipped gray photos alone.
"""
MAX_SCENES = 20_000
"""Scenes that fit in memory: 1 GB."""

Bar = Callable[[str, int], Callable[[Iterable], Iterable]]
"""From what is done and how many times to what wraps these, to show how far it is."""


def _no_bar(what: str, total: int) -> Callable[[Iterable], Iterable]:
    return iter


@dataclass(frozen=True)
class Source:
    """What photos are meant.

    Args:
        folder: of photos, searched through its subfolders; None for the garden.
        scenes: of the garden; None for as many as usual.
        classes: only these subfolders; none for all.
        limit: only so many.
        seed: draws these evenly from the classes; None, as in an older record, takes the first by their names.
        reading: how files become photos, see `READING`.

    Raises:
        UserError: words that contradict one another.
    """

    folder: Path | None = None
    scenes: int | None = None
    classes: tuple[str, ...] = ()
    limit: int | None = None
    seed: int | None = None
    reading: int = READING

    def __post_init__(self) -> None:
        if self.folder and self.scenes:
            raise UserError("--photos and --garden: choose one of them")
        if self.classes and not self.folder:
            raise UserError("--classes: goes with --photos")

    def __str__(self) -> str:
        return location_of(self.folder) if self.folder else "the built-in garden"

    @property
    def record(self) -> dict[str, Any]:
        """What a manifest keeps; the folder is absolute, for whoever reads the photos again may stand elsewhere."""
        return {
            **asdict(self),
            "classes": list(self.classes),
            "folder": self.folder and location_of(self.folder.absolute()),
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Source":
        """Return the source that a manifest describes.

        Raises:
            StorageError: a newer huetune read its photos in another way.
        """
        reading = record.get("reading", 1)
        if reading not in range(1, READING + 1):
            raise StorageError("a newer huetune read these photos, in another way than this one; update huetune")
        folder = local_path(record["folder"]) if record["folder"] else None
        classes, seed = tuple(record["classes"]), record.get("seed")
        return cls(folder, record["scenes"], classes, record["limit"], seed, reading)

    def check(self) -> None:
        """Make sure, as far as that is quick, that there are such photos.

        Raises:
            PhotoError: there are none.
            StorageError: the bucket that they are in cannot be reached.
        """
        from huetune.data_tools.photos.discovery import check_classes

        if not self.folder:
            return
        if bucket := bucket_path(self.folder):
            bucket.check_reachable()
        else:
            check_classes(self.folder, self.classes)

    def read(self, bar: Bar = _no_bar, wanted: "RgbFilter | None" = None) -> "tuple[PhotoSet, list[str]]":
        """Return the photos, and for each that is skipped, or each kind of them, a line that says why.

        Args:
            bar: shows how far it is.
            wanted: which colors `colors` will be asked for, so that these photos are decoded once; None for none.

        Raises:
            PhotoError: there are none.
        """
        from huetune.data_tools.photos.discovery import find_photos
        from huetune.data_tools.photos.file_types import skipped_kinds

        if not self.folder:
            from huetune.data_tools.photos.dataset import prepare

            pictures, names = self._scenes()
            return prepare(pictures, names, wanted), []
        others = self._fetch(bar)
        # What else lies in a mirror depends on the machine: there endings decide.
        by_content = not bucket_path(self.folder)
        paths = find_photos(
            self.folder,
            self.classes,
            self.limit,
            seed=self.seed,
            reading=self.reading,
            by_content=by_content,
            others=others,
        )

        from huetune.data_tools.photos.dataset import load
        from huetune.data_tools.photos.prepared_cache import default_cache_folder

        progress = bar("reading photos", len(paths))
        cache = default_cache_folder()
        photos, skipped = load(paths, progress=progress, cache=cache, reading=self.reading, wanted=wanted)
        return photos, [*skipped_kinds(others), *skipped]

    def _fetch(self, bar: Bar) -> Counter[str]:
        """Have the photos on this machine, if they are in a bucket; and count what else is there, by its kind."""
        from huetune.data_tools.photos.discovery import missing_class, normalized
        from huetune.data_tools.photos.file_types import PHOTO, SUFFIXES_OF_READER_1, kind_of

        assert self.folder
        root, classes = self.folder, set(map(normalized, self.classes))
        if not (bucket := bucket_path(root)):
            return Counter()

        def photo(key: str) -> bool:
            return Path(key).suffix.lower() in SUFFIXES_OF_READER_1 if self.reading == 1 else kind_of(key) == PHOTO

        def chosen(key: str) -> bool:
            return not classes or normalized((root / key).parent.name) in classes

        def wanted(key: str) -> bool:
            # Runs may lie beneath, too, whose study and lock are here alone: they are to be let be.
            return photo(key) and chosen(key)

        bucket.check_reachable()
        keys = pull(root, wanted, progress=lambda files: bar("fetching photos", len(files))(files))
        found = {(root / key).parent.name for key in keys if photo(key)}
        if missing := missing_class(classes, found):
            has = did_you_mean(missing, sorted(found - {root.name}), "it has") if found else "there are no photos"
            raise PhotoError(f"no photos of class {missing!r} in {str(self)!r}: {has}")
        if not found:
            raise PhotoError(f"{str(self)!r}: there is nothing")
        return Counter(kind_of(key) for key in keys if chosen(key) and not photo(key))

    def colors(self, photos: "PhotoSet", bar: Bar = _no_bar) -> "NDArray[np.uint8]":
        """Return the colors of any of its photos, uint8 [n, 112, 112, 3]; those not kept are read from their files."""
        import numpy as np

        from huetune.data_tools.photos.dataset import read_squares

        both = zip(photos.names, photos.digests, strict=True)
        missing = [name for name, digest in both if digest not in photos.colors]
        if missing and not self.folder:
            pictures, names = self._scenes()
            again = pictures[[names.index(name) for name in missing]]
        else:
            again = read_squares(list(map(Path, missing)), bar("reading colors", len(missing)), self.reading)
        if len(missing) == len(photos):
            return again
        others = iter(again)
        return np.stack([photos.colors[one] if one in photos.colors else next(others) for one in photos.digests])

    def _scenes(self) -> "tuple[NDArray[np.uint8], list[str]]":
        from huetune.data_tools.datasets import synthetic_garden

        count = self.scenes or DEFAULT_SCENES
        count = min(count, self.limit or count)
        return synthetic_garden.garden(count), [synthetic_garden.scene_name(number) for number in range(count)]
