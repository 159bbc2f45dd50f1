"""What the page says while embed.py makes or renews a gallery."""

from contextlib import suppress
from typing import Any

from gallery.folder import GalleryFolder
from gallery.page.gallery_view import GalleryView
from gallery.progress import EMBEDDING, FITTING, Now, at_work
from utils.errors import InputError


def before_the_first(place: GalleryFolder) -> str:
    """Return a sentence for a gallery without any image."""
    now = at_work(place)
    if now is None:
        return "Reading the folder. Nothing is embedded yet"
    if now.images:
        return f"Embedding the first images of {now.images:,}"
    return now.what[:1].upper() + now.what[1:]


def work_on(view: GalleryView) -> dict[str, Any] | None:
    """Return what is done for a gallery at the moment: a sentence, and how many images of how many; None for nothing.

    0 of 0 images: they are not counted.
    """
    now, gallery = at_work(view.gallery.place), view.gallery
    is_embedding = now is not None and now.what == EMBEDDING
    if gallery.of:
        sentence = f"The first {view.count:,} of {gallery.of:,} images"
        sentence += ", compared by plain features until the net is fitted to your photos. " if gallery.plain else ". "
        sentence += _next(view, now)
    elif now and is_embedding:
        sentence = f"Embedding: {now.done:,} of {now.images:,} images. The new ones come when all are embedded."
    elif now and now.what == FITTING:
        sentence = "Fitting the net to your photos anew. New photos come when all are embedded."
    else:
        return None
    done, images = (now.done, now.images) if now and is_embedding else (0, 0)
    return {"sentence": sentence, "done": done, "images": images}


def _next(view: GalleryView, now: Now | None) -> str:
    """Say what an unfinished gallery waits for."""
    if now is None:
        with suppress(InputError):
            if view.gallery.place.read_about()["stamp"] != view.stamp:
                return "All others are embedded, and come in a moment."
        return "embed.py was stopped: the same command goes on."
    doing = f"Embedding: {now.done:,} by now" if now.what == EMBEDDING else f"{now.what[:1].upper()}{now.what[1:]}"
    return f"{doing}. Groups and the map come last."
