"""Downloads an official archive. After an interruption it continues the file that is there."""

from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from utils.errors import InputError

TIMEOUT = 20  # seconds without a byte
CHUNK = 1 << 18


def fetch(url: str, folder: str | Path, remedy: str) -> Path:
    """Download `url` into `folder` and return the file's path. An existing file is kept.

    Bytes go to `<name>.part`, which is renamed when complete. The next call requests only the missing bytes (HTTP Range).
    remedy: the flags that the error advises in place of the download.
    """
    target = Path(folder) / Path(urlsplit(url).path).name
    if target.is_file():
        print(f"using {target}")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        if not _download(url, part):  # the part does not fit the file on the server
            part.unlink()
            _download(url, part)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"cannot download {url} ({reason}); get it another way and give {remedy}") from error
    part.replace(target)
    return target


def _download(url: str, part: Path) -> bool:
    """Bring `part` to its full length. False where it cannot be continued; OSError if the network fails."""
    have = part.stat().st_size if part.exists() else 0
    try:
        reply = urlopen(Request(url, headers={"Range": f"bytes={have}-"} if have else {}), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and have:  # no byte after our last one: the part is complete, or of another file
            return error.headers.get("Content-Range") == f"bytes */{have}"
        raise
    with reply:
        if reply.headers.get_content_type() == "text/html":
            raise OSError("the server answered with a web page")
        if reply.status != 206:
            have = 0  # the server sends the whole file again
        elif not reply.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            return False
        length = reply.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(total=total, initial=have, desc=part.stem, unit="B", unit_scale=True, disable=None)
        with bar, open(part, "ab" if have else "wb") as out:
            while chunk := reply.read(CHUNK):
                out.write(chunk)
                bar.update(len(chunk))
    size = part.stat().st_size
    if total is not None and size < total:
        raise OSError(f"the connection ended after {size:,} of {total:,} bytes; run again to go on")
    return True
