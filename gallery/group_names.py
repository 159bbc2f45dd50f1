"""Names groups of images by what most of their images share: a folder, or words of the file names."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from utils.arrays import evenly

SAMPLE = 200  # images of a group that are read, at most
TIMES, TIMES_FOR_WORDS = 1.5, 2  # a name is so many times as frequent in its group as in the gallery, or more
WORDS = 4  # words of a name, at most
WORD = re.compile(r"[^\W\d_]{3,}")  # three letters or more; shorter ones and numbers say little


def group_names(paths: Sequence[str], groups: Sequence[np.ndarray]) -> list[str]:
    """Return a name for each group. paths: of all images, as they are shown. groups: rows, int64, the most central first.

    More than half of a group's images share its name. The name, and each word of it, is more frequent there than in the
    gallery. A folder goes before words, a deeper folder before the one around it, more words before fewer. A group without
    such a name has its number.
    """
    shared = [Counter(key for row in rows[evenly(len(rows), SAMPLE)] for key in keys_of(paths[row])) for rows in groups]
    everywhere, total = defaultdict[tuple[str, ...], float](float), sum(map(len, groups))
    for counts, rows in zip(shared, groups):
        for key, count in counts.items():
            everywhere[key] += count * len(rows) / min(len(rows), SAMPLE)
    used, names = Counter[str](), []
    for number, (counts, rows) in enumerate(zip(shared, groups), 1):
        size = min(len(rows), SAMPLE)
        times = {key: n / size / everywhere[key] * total for key, n in counts.items() if n > size / 2}
        typical = {key for key, more in times.items() if more >= (TIMES if key[0] == "/" else TIMES_FOR_WORDS)}
        keys = [key for key in counts if key in typical and (key[0] == "/" or typical.issuperset((word,) for word in key))]
        best = max(keys, key=lambda key: (key[0] == "/", len(key), counts[key]), default=None)
        name = f"Group {number}" if best is None else folder_name(best) if best[0] == "/" else " ".join(best)
        used[name] += 1
        names.append(name if used[name] == 1 else f"{name} ({used[name]})")
    return names


def folder_name(folder: tuple[str, ...]) -> str:
    """Return the last name of ("/", "a", "b"), with the names before it as long as there is no word: "summer/01"."""
    start = len(folder) - 1
    while start > 1 and not WORD.search("/".join(folder[start:])):
        start -= 1
    return "/".join(folder[start:])


def keys_of(path: str) -> Iterator[tuple[str, ...]]:
    """Yield what a path may share with others, each once: folders such as ("/", "a", "b"), runs of words ("red", "car")."""
    folder, name = os.path.split(path)
    folders = ("/", *filter(None, folder.split("/")))
    yield from (folders[:end] for end in range(2, len(folders) + 1))
    words = tuple(WORD.findall(os.path.splitext(name)[0]))
    yield from {words[i : i + size] for size in range(1, WORDS + 1) for i in range(len(words) - size + 1)}
