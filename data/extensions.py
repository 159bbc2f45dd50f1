"""Tells images by their extensions alone. data/formats.py then looks at the content.

Free of torch, as formats.py.
"""

from data.formats import HEIF, JXL, PACKAGES, RAW, installed

# In upper or lower case. HEIF, RAW and JXL count where their package is installed.
JPEG = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")
PLAIN = (*JPEG, *".png .bmp .dib .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .j2k .tga .ico .qoi .psd".split())
EXTENSIONS = (*PLAIN, *HEIF)  # what messages name
FORMATS = {**dict.fromkeys(HEIF, "HEIC"), **dict.fromkeys(RAW, "camera raw"), **dict.fromkeys(JXL, "JPEG XL")}
INSTALL = "which needs: pip install"
GROUPS = {  # extensions that lie among photos and are not read
    "video": "3g2 3gp avi flv insv lrv m2ts m4v mkv mod mov mp4 mpeg mpg mts ogv ts vob webm wmv",
    "sidecar": "aae cos dop json on1 pp3 thm vrd xmp",
    "SVG": "svg svgz",
    "PDF": "pdf",
    "PostScript": "ai eps epsf ps",
}
GROUP_OF = {f".{extension}": group for group, extensions in GROUPS.items() for extension in extensions.split()}
NO_EXTENSION = "no extension"
LONGEST = 8  # characters of an extension; what follows the last dot of a longer name is part of a sentence

_plain = frozenset(PLAIN)


def extension(name: str) -> str:
    """Return the extension of a file's name in lower case, ".jpg", or "" if it has none."""
    _, dot, end = name.rpartition("/")[2].lower().rpartition(".")
    return dot + end if dot and end.isalnum() and len(end) <= LONGEST else ""


def why_not_read(name: str) -> str | None:
    """Return None if a file's extension marks it as an image that can be read here; else the reason why it is left out.

    The reason is a key of GROUPS, or names the command that installs a package, or is the extension itself.
    """
    end = extension(name)
    if end in _plain:
        return None
    if end in PACKAGES:
        package = PACKAGES[end]
        return None if installed(package) else f"{FORMATS[end]}, {INSTALL} {package}"
    return GROUP_OF.get(end) or end or NO_EXTENSION
