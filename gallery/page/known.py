"""The line on the start view about the quality of the results, and how this is known."""

from collections.abc import Sequence

from gallery import judged
from gallery.page.gallery_view import GalleryView

SMOOTHED = "A photo is compared together with the photos most like it. In four test folders, this found more of the same"
HOW_SMOOTHED = (
    "Search, groups and the map do so; it is called smoothing, and needs no training. In four labelled folders, 4 to 20 "
    "more of 100 results among the ten nearest showed the same thing. The very nearest gained less, or nothing. It cannot "
    "be measured in a folder without labels."
)
TRAINED = "“{trained}” is judged better than “{ready_made}”: by scores without labels, on this folder"
NO_HELP = "Training on this folder did not help: judged by scores without labels"
HOW_JUDGED = (
    "A net scores high if two random crops of an image find the same other images. On images of this folder the score is "
    "{after:.3f} after training and {before:.3f} before. Labels would say it more surely."
)
COLLAPSED = "A score of 0 means that training has made all images nearly alike."
TRAIN = "To try training: TRAIN=1 scripts/search_folder.sh trains on the folder, and keeps the net if it is judged better."
ENOUGH = 100  # images that scripts/search_folder.sh trains on, at least


def known(views: Sequence[GalleryView]) -> dict[str, str]:
    """Return {"line": ..., "how": ...}: the line, and how it is known. Both are empty if there is nothing to say."""
    smoothed = any(view.index.neighbours is not None for view in views)
    how = [HOW_SMOOTHED] if smoothed else []
    by_model = {view.model: view for view in views}
    for view in views:
        judgement = judged.read(view.gallery.place)
        if judgement is None or judgement.untrained != view.model:
            continue
        trained = by_model.get(judgement.trained)
        if judgement.helped and trained:
            line = TRAINED.format(trained=trained.name, ready_made=view.name)
        elif not judgement.helped and len(views) == 1:
            line = NO_HELP
        else:
            continue
        measured = HOW_JUDGED.format(after=judgement.after, before=judgement.before)
        collapsed = [COLLAPSED] if judgement.after == 0 else []
        return {"line": line, "how": " ".join([measured, *collapsed, *how])}
    if len(views) > 1:
        how.append("Nobody has judged which of these embeddings is better on this folder.")
    elif views and len(views[0].gallery.paths) >= ENOUGH:
        how.append(TRAIN)
    return {"line": SMOOTHED, "how": " ".join(how)} if smoothed else {"line": "", "how": ""}
