"""Parts of the duplicates view, as tests find them."""

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
