"""A camera's raw file, written by hand: a DNG with a JPEG preview."""

import io
import struct

import numpy as np


def tiff_directory(entries, offset, following=0):
    """(the bytes of a TIFF directory that starts at `offset`, with its values behind it). entries: {tag: (type, values)}."""
    codes = {1: "B", 3: "H", 4: "I", 5: "I", 10: "i"}
    head, tail, values_at = struct.pack("<H", len(entries)), b"", offset + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        if kind == 2:
            content, count = values.encode() + b"\0", len(values) + 1
        else:
            flat = np.ravel(values).tolist()
            content = struct.pack(
                f"<{len(flat) * codes[kind][0] if kind not in (5, 10) else len(flat) * codes[kind][0]}", *flat
            )
            count = len(flat) // (2 if kind in (5, 10) else 1)
        if len(content) <= 4:
            head += struct.pack("<HHI", tag, kind, count) + content.ljust(4, b"\0")
        else:
            head += struct.pack("<HHII", tag, kind, count, values_at + len(tail))
            tail += content + b"\0" * (len(content) % 2)
    return head + struct.pack("<I", following) + tail


def dng(preview, orientation=1, taken="2024:05:01 12:30:00", side=64):
    """The bytes of a DNG. preview: a PIL image, whose rows lie as the sensor's. The raw pixels are a grey ramp."""
    file = io.BytesIO()
    preview.save(file, "JPEG", quality=95)
    jpeg = file.getvalue() + b"\0" * (len(file.getvalue()) % 2)
    raw = (np.arange(side * side) % 4096).astype("<u2").tobytes()
    jpeg_at, raw_at = 8, 8 + len(jpeg)
    exif_at = raw_at + len(raw)
    exif = tiff_directory({0x9003: (2, taken)}, exif_at)
    sensor_at = exif_at + len(exif)
    sensor = tiff_directory(
        {
            254: (4, [0]), 256: (4, [side]), 257: (4, [side]), 258: (3, [16]), 259: (3, [1]), 262: (3, [32803]),
            273: (4, [raw_at]), 277: (3, [1]), 278: (4, [side]), 279: (4, [len(raw)]), 33421: (3, [2, 2]),
            33422: (1, [0, 1, 1, 2]), 50717: (4, [4095]),
        },
        sensor_at,
    )  # fmt: skip
    first_at = sensor_at + len(sensor)
    matrix = [10000, 10000, 0, 10000, 0, 10000, 0, 10000, 10000, 10000, 0, 10000, 0, 10000, 0, 10000, 10000, 10000]
    first = tiff_directory(
        {
            254: (4, [1]), 256: (4, [preview.width]), 257: (4, [preview.height]), 258: (3, [8, 8, 8]), 259: (3, [7]),
            262: (3, [6]), 271: (2, "Maker"), 272: (2, "Maker X100"), 273: (4, [jpeg_at]), 274: (3, [orientation]),
            277: (3, [3]), 278: (4, [preview.height]), 279: (4, [len(jpeg)]), 330: (4, [sensor_at]), 34665: (4, [exif_at]),
            50706: (1, [1, 4, 0, 0]), 50707: (1, [1, 1, 0, 0]), 50708: (2, "Maker X100"), 50721: (10, matrix),
            50728: (5, [1, 1, 1, 1, 1, 1]), 50778: (3, [21]),
        },
        first_at,
    )  # fmt: skip
    return b"II*\0" + struct.pack("<I", first_at) + jpeg + raw + exif + sensor + first
