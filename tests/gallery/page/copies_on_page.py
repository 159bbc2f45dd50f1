"""Parts of the duplicates view, as tests find them, and the scripts that it saves."""

import subprocess
import zipfile

COUNT = 24  # groups of the folder that `tidy_site` shows; the view shows 20 at first


def selected(page):
    """Return the paths that are selected in the view."""
    return sorted(page.locator(".tile.selected .name").all_inner_texts())


def bar(page):
    return page.get_by_role("region", name="Selection")


def look_again(page):
    page.wait_for_timeout(2100)  # the page looks at the disk every 2 s at most
    page.evaluate("dispatchEvent(new Event('focus'))")


def box(tile):
    return tile.get_by_role("checkbox")


def save(page, folder):
    """Save the script and unpack it. Returns the folder of its files."""
    with page.expect_download() as download:
        bar(page).get_by_role("button", name="Save script").click()
    name = download.value.suggested_filename
    download.value.save_as(folder / name)
    with zipfile.ZipFile(folder / name) as zipped:
        zipped.extractall(folder)
    return folder / name.removesuffix(".zip")


def run(script):
    subprocess.run(["sh", script], input=b"y\n", stdout=-1, check=True, timeout=60)


def press(page, name):
    bar(page).get_by_role("button", name=name, exact=True).click()
