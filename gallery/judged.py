"""Keeps in a gallery how scores without labels judged training on its photos. The page reads it."""

import math
from typing import NamedTuple

from evaluations.label_free import CHOOSES
from gallery.folder import GalleryFolder, read_json
from utils.files import write_json


class Judgement(NamedTuple):
    """The score (see evaluations/label_free.py) of the net of a gallery before and after training on its photos."""

    score: str  # its name; files of earlier versions have none, and are not read
    before: float
    after: float
    untrained: str  # the model of the gallery that the ready-made net made
    trained: str  # the model of the gallery that the trained net made; "" if there is none, because training did not help

    @property
    def helped(self) -> bool:
        return self.after > self.before


def read(place: GalleryFolder) -> Judgement | None:
    """Read how training on a gallery's photos was judged; None if nothing is known, or the file is damaged."""
    try:
        judgement = Judgement(**read_json(place.judged))
        numbers, words = judgement[1:3], (judgement.score, *judgement[3:])
        is_whole = all(map(math.isfinite, numbers)) and all(isinstance(word, str) for word in words)
    except (OSError, ValueError, TypeError, OverflowError):
        return None
    return judgement if is_whole else None


def keep(scores: tuple[float, float], ready_made: str, trained: str | None) -> Judgement:
    """Keep the score before and after training in the gallery of the ready-made net. Return the judgement.

    trained: the gallery of the trained net, if it is there by now. Raises InputError for a folder that is no gallery.
    """
    place = GalleryFolder(ready_made)
    of_trained = GalleryFolder(trained).read_about()["model"] if trained else ""
    judgement = Judgement(CHOOSES, *scores, place.read_about()["model"], of_trained)
    write_json(place.judged, judgement._asdict())
    return judgement
