"""The line at the end of the start view about the quality of the results, and how this is known."""

from collections.abc import Sequence

from gallery import judged
from gallery.page.gallery_view import GalleryView

SMOOTHED = "Each photo is compared together with those most like it: this finds more of the same"
HOW_SMOOTHED = (
    "Comparing photos together with those most like them was measured in four folders with labels. Among the ten nearest, "
    "4 to 20 more of 100 results showed the same thing; the very nearest gained less, or nothing. Without labels, it cannot "
    "be measured in this folder."
)
TRAINED = "“{trained}” is judged better than “{ready_made}”: by scores without labels, on this folder"
NO_HELP = "Training on this folder did not help: judged by scores without labels"
HOW_JUDGED = (
    "A net scores high if it finds the same neighbours as the untrained net finds in larger pictures. On images of this "
    "folder the score is {after:.3f} after training and {before:.3f} before. Labels would say it more surely."
)


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
        return {"line": line, "how": " ".join([measured, *how])}
    if len(views) > 1:
        how.append("Nobody has judged which of these embeddings is better on this folder.")
    return {"line": SMOOTHED, "how": " ".join(how)} if smoothed else {"line": "", "how": ""}
