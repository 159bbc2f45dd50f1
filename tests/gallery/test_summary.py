"""The table at the end of embed.py."""

from gallery.summary import lines
from gallery.table import Bad, File, LeftOut


def test_every_file_is_in_the_table():
    bad = [
        Bad(File("/p/a (1).jpg", 1, 1), "/p/a (1).jpg: cannot be read as an image (the file is cut off)"),
        Bad(File("/p/b.jpg", 1, 1), "/p/b.jpg: cannot be read as an image (the file is cut off)"),
        Bad(File("/p/c.jpg", 1, 0), "/p/c.jpg: No such file or directory"),
    ]
    left_out = [
        *(LeftOut(f"/p/{i}.mp4", "not read", "video") for i in range(5)),
        LeftOut("/p/notes.txt", "not read", ".txt"),
        LeftOut("/p/@eaDir", "excluded", "@eaDir"),
        LeftOut("/elsewhere/link", "link that leads nowhere", ""),
    ]
    noted = [("/p/x.jpg", ("incomplete",)), ("/p/y.jpg", ("incomplete", "profile"))]
    assert lines(120, noted, bad, left_out, "/p") == [
        "embedded                                          120",
        "  cut off: the missing rows are grey                2  x.jpg, y.jpg",
        "  with a broken colour profile, which is ignored    1  y.jpg",
        "unreadable: the file is cut off                     2  a (1).jpg, b.jpg",
        "unreadable: No such file or directory               1  c.jpg",
        "excluded: @eaDir                                    1  @eaDir",
        "link that leads nowhere                             1  /elsewhere/link",
        "not read: other files (.txt)                        1  notes.txt",
        "not read: video                                     5  0.mp4, 1.mp4, 2.mp4, ...",
    ]


def test_without_remarks_it_is_one_line():
    assert lines(7, [], [], []) == ["embedded  7"]
