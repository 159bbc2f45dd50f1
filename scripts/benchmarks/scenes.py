"""Pictures that are almost copies: one scene in which something moved, and copies with a caption or other tones."""

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

NEAREST_TO_EDGE = 0.05  # of the side: things are pasted further inside
CAMERA_NOISE = 4  # grey levels, of each pixel
EXPOSURE = 0.07  # the second shot is brighter or darker by this share, at most
SHIFT = 0.01  # of the side: the second shot shows another part of the scene, at most this far off
SIDES = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3)  # of the picture's side: a thing's width and height


def shot(image, rng, left=0.0, top=0.0, light=1.0):
    """Photograph a picture: cut off SHIFT at two sides in all, change its light, add noise."""
    width, height = image.size
    image = image.crop((left * width, top * height, (1 - SHIFT + left) * width, (1 - SHIFT + top) * height))
    noise = rng.normal(0, CAMERA_NOISE, (image.height, image.width, 1))
    return Image.fromarray((np.asarray(image, np.float32) * light + noise).clip(0, 255).astype(np.uint8))


def shots(first, second, rng):
    """Return the shots of two states of a scene."""
    return shot(first, rng), shot(second, rng, *rng.uniform(0, SHIFT, 2), rng.uniform(1 - EXPOSURE, 1 + EXPOSURE))


def places(side, rng, step=None):
    """Return two places, as shares of width and height, for a thing: apart, or `step` sides from each other."""
    while True:
        one, other = rng.uniform(NEAREST_TO_EDGE, 1 - NEAREST_TO_EDGE - side, (2, 2))
        if step is not None:
            angle = rng.uniform(0, 2 * np.pi)
            other = one + step * side * np.array([np.cos(angle), np.sin(angle)])
        inside = NEAREST_TO_EDGE <= other.min() and other.max() <= 1 - NEAREST_TO_EDGE - side
        if inside and (step is not None or np.abs(one - other).max() >= side):
            return one, other


def cut(image, place, side):
    width, height = image.size
    return image.crop((place[0] * width, place[1] * height, (place[0] + side) * width, (place[1] + side) * height))


def with_thing(image, thing, place, side, is_round=True):
    """Paste a thing into a picture, as an ellipse or as a rectangle."""
    image = image.copy()
    size = [max(2, round(side * length)) for length in image.size]
    mask = Image.new("L", (4 * size[0], 4 * size[1]), 0 if is_round else 255)
    if is_round:
        ImageDraw.Draw(mask).ellipse((0, 0, mask.width - 1, mask.height - 1), 255)
    corner = [round(share * length) for share, length in zip(place, image.size)]
    image.paste(thing.resize(size, Image.Resampling.BICUBIC), corner, mask.resize(size))
    return image


def moved_thing(image, other, side, rng, step=None):
    one, two = places(side, rng, step)
    thing = cut(other, (0.25, 0.25), 0.5)
    return with_thing(image, thing, one, side), with_thing(image, thing, two, side)


def entering_thing(image, other, side, rng):
    return image, with_thing(image, cut(other, (0.25, 0.25), 0.5), places(side, rng)[0], side)


def moved_patch(image, other, side, rng):
    one, two = places(side, rng)
    return image, with_thing(image, cut(image, one, side), two, side, is_round=False)


def moved_disc(image, other, side, rng):
    one, two = places(side, rng)
    disc = Image.new("RGB", (8, 8), tuple(rng.integers(0, 256, 3).tolist()))
    return with_thing(image, disc, one, side), with_thing(image, disc, two, side)


CHANGES = {  # name -> two states of a scene
    "part of another picture, moved": moved_thing,
    "the same, moved by half its size": lambda *given: moved_thing(*given, step=0.5),
    "the same, in one of the two": entering_thing,
    "part of the picture, there again": moved_patch,
    "disc of any colour, moved": moved_disc,
}


def scene(name, image, other, side, rng):
    """Return two shots of a scene in which something changes. other: a picture that a thing is cut from."""
    return shots(*CHANGES[name](image, other, side, rng), rng)


def lettered(image, words, height, place, opacity=1.0, on_bar=False):
    """Write white words onto a picture. height: of the letters, as a share of the picture's. place: "corner", "top" ..."""
    image, layer = image.convert("RGBA"), Image.new("RGBA", image.size, (255, 255, 255, 0))
    draw, font = ImageDraw.Draw(layer), ImageFont.load_default(size=max(4, height * image.height))
    _, _, width, below = draw.textbbox((0, 0), words, font=font)
    margin = 0.02 * image.width
    left = image.width - width - margin if place == "corner" else (image.width - width) / 2
    lowest = image.height - below - margin
    top = {"top": margin, "middle": (image.height - below) / 2}.get(place, lowest)
    if on_bar:
        draw.rectangle((0, top - margin, image.width, top + below + margin), (0, 0, 0, 255))
    draw.text((left, top), words, (255, 255, 255, round(255 * opacity)), font=font)
    return Image.alpha_composite(image, layer).convert("RGB")


def harder(image):
    return ImageEnhance.Contrast(image.convert("L").convert("RGB")).enhance(1.4)


ALTERED = {  # name -> a copy with a mark or other tones
    "date in a corner, 4 % high": lambda image: lettered(image, "2024-05-01", 0.04, "corner"),
    "date in a corner, 6 % high": lambda image: lettered(image, "2024-05-01", 0.06, "corner"),
    "watermark in the middle, 12 % high, 30 % opaque": lambda image: lettered(image, "(c) Photo", 0.12, "middle", 0.3),
    "watermark in the middle, 12 % high, 50 % opaque": lambda image: lettered(image, "(c) Photo", 0.12, "middle", 0.5),
    "caption at the bottom, 8 % high": lambda image: lettered(image, "WHEN IT IS MONDAY", 0.08, "bottom"),
    "caption at the top, 10 % high": lambda image: lettered(image, "MONDAY AGAIN", 0.1, "top"),
    "caption on a black bar, 10 % high": lambda image: lettered(image, "MONDAY AGAIN", 0.1, "bottom", on_bar=True),
    "black and white, harder": harder,
    "brighter (gamma 0.7)": lambda image: image.point(lambda value: 255 * (value / 255) ** 0.7),
    "darker (gamma 1.5)": lambda image: image.point(lambda value: 255 * (value / 255) ** 1.5),
    "sharpened": lambda image: image.filter(ImageFilter.UnsharpMask(2, 100, 0)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "colours twice as strong": lambda image: ImageEnhance.Color(image).enhance(2),
}
