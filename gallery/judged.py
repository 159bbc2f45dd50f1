"""What scores without labels said of training on the photos of a gallery. It is kept in the gallery, for the page.

scripts/search_folder.sh runs this; it prints 1 if training helped, else 0:
python -m gallery.judged training/select.json READY-MADE [TRAINED]       # select.json: of test.py --select, two nets
"""

import json
import os
import sys
from typing import NamedTuple

from gallery.folder import GalleryFolder, read_json
from utils.errors import exit_on_error
from utils.files import write_json


class Judgement(NamedTuple):
    """The evidence (see evaluations/label_free.py) for the net of a gallery before and after training on its photos."""

    before: float
    after: float
    untrained: str  # the model of the gallery that the ready-made net made
    trained: str  # the model of the gallery that the trained net made; "" if there is none, because training did not help

    @property
    def helped(self) -> bool:
        return self.after > self.before


def read(place: GalleryFolder) -> Judgement | None:
    """Read what was said of training on a gallery's photos; None if nothing is known."""
    try:
        judgement = Judgement(**read_json(place.judged))
        before, after = float(judgement.before), float(judgement.after)
    except (OSError, ValueError, TypeError):
        return None
    return judgement._replace(before=before, after=after)


def keep(scores: tuple[float, float], ready_made: str, trained: str | None) -> Judgement:
    """Keep the evidence before and after training in the gallery of the ready-made net. Returns it.

    trained: the gallery of the trained net, if it is there by now. Raises InputError for a folder that is no gallery.
    """
    place = GalleryFolder(ready_made)
    of_trained = GalleryFolder(trained).read_about()["model"] if trained else ""
    judgement = Judgement(*scores, place.read_about()["model"], of_trained)
    write_json(place.judged, judgement._asdict())
    return judgement


def main() -> None:
    file, ready_made, *trained = sys.argv[1:]
    with open(file, encoding="utf-8") as results:
        before, after = (entry["label_free"]["evidence"] for entry in json.load(results))
    print(int(keep((before, after), ready_made, next(filter(os.path.isdir, trained), None)).helped))


if __name__ == "__main__":
    exit_on_error(main)
