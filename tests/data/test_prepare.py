"""The converters, on small archives with the structure of the official ones, built here."""

import functools
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from scipy.io import savemat

from data.prepare import archives, car, cub, download, product, shop
from data.prepare.__main__ import main
from utils.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


# ---- building archives ----------------------------------------------------------------------------------------------


def picture(name):
    """Return content that differs for each name, and is longer than a block of a tar."""
    return (name.encode() + b"\0") * (700 // len(name) + 1)


def make_tar(path, files, extra=()):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return path


def make_zip(path, files, extra=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for info, content in extra:
            archive.writestr(info, content)
    return path


def mat(**columns):
    """Return a MATLAB file with the struct array `annotations` of shape (1, N), as in the official files."""
    rows = np.empty((1, len(columns["class"])), dtype=[(name, object) for name in columns])
    for name, values in columns.items():
        for i, value in enumerate(values):
            rows[0, i][name] = value
    out = io.BytesIO()
    savemat(out, {"annotations": rows})
    return out.getvalue()


CUB_ROWS = [
    ("001.Black_footed_Albatross/a_1.jpg", 1),
    ("001.Black_footed_Albatross/a_2.jpg", 1),
    ("100.Brown_Pelican/b 1.jpg", 100),
    ("101.White Pelican/c_1.jpg", 101),
    ("200.Yellowthroat/d_1.jpg", 200),
    ("200.Yellowthroat/d_2.jpg", 200),
]
CUB_LISTS = {
    "train": [
        "train/001.Black_footed_Albatross/a_1.jpg 0",
        "train/001.Black_footed_Albatross/a_2.jpg 0",
        "train/100.Brown_Pelican/b 1.jpg 1",
    ],
    "test": ["test/101.White Pelican/c_1.jpg 2", "test/200.Yellowthroat/d_1.jpg 3", "test/200.Yellowthroat/d_2.jpg 3"],
}
CUB_COUNTS = {"train": (3, 2), "test": (3, 2)}


def cub_files(rows=CUB_ROWS, top="CUB_200_2011/"):
    images = {f"{top}images/{path}": picture(path) for path, _ in rows}
    return {
        f"{top}README": b"read me",
        **images,  # the index may come after the images, as in the official archive
        f"{top}images.txt": "".join(f"{i} {path}\n" for i, (path, _) in enumerate(rows, 1)).encode(),
        f"{top}image_class_labels.txt": "".join(f"{i} {c}\n" for i, (_, c) in enumerate(rows, 1)).encode(),
        f"{top}parts/parts.txt": b"1 beak\n",
    }


@pytest.fixture
def cub_tgz(tmp_path):
    return make_tar(tmp_path / "CUB_200_2011.tgz", cub_files())


def run(name, root, *paths, check=False):
    main([name, "--data_root", str(root), "--archive", *map(str, paths)] + ([] if check else ["--no_check"]))


def error_of(*args, **kwargs):
    """Run the command, and return the message of its InputError, which must be one line."""
    with pytest.raises(InputError) as caught:
        run(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lists(folder):
    return {path.stem: path.read_text().splitlines() for path in Path(folder).glob("*.txt")}


def tree(folder):
    """Return {relative path: content} of every file."""
    folder = Path(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def unpack(files, folder):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


# ---- formats --------------------------------------------------------------------------------------------------------


def check_images(folder, expected_lists, content_of):
    """Check that the lists are as expected, that every image has its own content, and that the folder holds nothing else."""
    assert lists(folder) == expected_lists
    targets = {line.rsplit(" ", 1)[0] for lines in expected_lists.values() for line in lines}
    found = tree(folder)
    assert set(found) == targets | {f"{split}.txt" for split in expected_lists}
    for target in targets:
        assert found[target] == content_of(target), target


def cub_content(target):
    return picture(target.split("/", 1)[1])


def test_cub(tmp_path, cub_tgz, capsys):
    run("cub", tmp_path / "out", cub_tgz)
    check_images(tmp_path / "out/CUB_200_2011", CUB_LISTS, cub_content)
    assert "train 3 images of 2 classes, test 3 images of 2 classes" in capsys.readouterr().out


@pytest.mark.parametrize("top", ["", "./CUB_200_2011/", "mirror/CUB_200_2011/"])
def test_cub_packed_below_other_folders(tmp_path, top):
    run("cub", tmp_path / "out", make_tar(tmp_path / "again.tar.gz", cub_files(top=top)))
    check_images(tmp_path / "out/CUB_200_2011", CUB_LISTS, cub_content)


@pytest.mark.parametrize("given", ["", "CUB_200_2011"])
def test_cub_from_an_extracted_folder(tmp_path, given):
    unpack(cub_files(), tmp_path / "extracted")
    run("cub", tmp_path / "out", tmp_path / "extracted" / given)
    check_images(tmp_path / "out/CUB_200_2011", CUB_LISTS, cub_content)


def test_cub_extracted_where_the_result_goes(tmp_path):
    unpack(cub_files(), tmp_path)
    run("cub", tmp_path, tmp_path / "CUB_200_2011")
    found = tree(tmp_path / "CUB_200_2011")
    for line in CUB_LISTS["train"] + CUB_LISTS["test"]:
        assert found[line.rsplit(" ", 1)[0]] == cub_content(line.rsplit(" ", 1)[0])


CAR_ROWS = [("000001.jpg", 1), ("000002.jpg", 98), ("000003.jpg", 99), ("000004.jpg", 196), ("000005.jpg", 1)]


def test_car_in_one_piece(tmp_path):
    ims = make_tar(tmp_path / "car_ims.tgz", {f"car_ims/{name}": picture(name) for name, _ in CAR_ROWS})
    annos = tmp_path / "cars_annos.mat"
    annos.write_bytes(
        mat(
            relative_im_path=[f"car_ims/{name}" for name, _ in CAR_ROWS],
            bbox_x1=[1] * 5,
            **{"class": [category for _, category in CAR_ROWS]},
            test=[0] * 5,
        )
    )
    run("car", tmp_path / "out", ims, annos)
    expected = {
        "train": ["train/000001.jpg 0", "train/000002.jpg 1", "train/000005.jpg 0"],
        "test": ["test/000003.jpg 2", "test/000004.jpg 3"],
    }
    check_images(tmp_path / "out/Cars196", expected, lambda target: picture(target.split("/")[1]))
    assert "cars_annos.mat not found" in error_of("car", tmp_path / "other", ims)


def car_parts(folder):
    """Write cars_train and cars_test with the same file names, and with the same classes on both sides of the split."""
    make_tar(folder / "cars_train.tgz", {f"cars_train/{i:05d}.jpg": picture(f"train{i}") for i in (1, 2)})
    make_tar(folder / "cars_test.tgz", {f"cars_test/{i:05d}.jpg": picture(f"test{i}") for i in (1, 2, 3)})
    unlabelled = mat(bbox_x1=[1, 1, 1], fname=["00001.jpg", "00002.jpg", "00003.jpg"], **{"class": [0, 0, 0]})
    make_tar(
        folder / "car_devkit.tgz",
        {
            "devkit/cars_train_annos.mat": mat(bbox_x1=[1, 1], **{"class": [14, 150]}, fname=["00001.jpg", "00002.jpg"]),
            "devkit/cars_test_annos.mat": unlabelled,
        },
    )
    (folder / "cars_test_annos_withlabels.mat").write_bytes(
        mat(**{"class": [150, 14, 3]}, fname=["00001.jpg", "00002.jpg", "00003.jpg"])
    )
    return [folder / name for name in ("cars_train.tgz", "cars_test.tgz", "car_devkit.tgz")]


def test_car_in_parts(tmp_path):
    parts = car_parts(tmp_path)
    expected = {
        "train": ["train/cars_train/00001.jpg 1", "train/cars_test/00002.jpg 1", "train/cars_test/00003.jpg 0"],
        "test": ["test/cars_train/00002.jpg 2", "test/cars_test/00001.jpg 2"],
    }
    run("car", tmp_path / "out", *parts, tmp_path / "cars_test_annos_withlabels.mat")
    check_images(
        tmp_path / "out/Cars196", expected, lambda target: picture(re.sub(r"\w+/cars_(\w+)/0*(\d)\.jpg", r"\1\2", target))
    )
    assert "cars_test_annos_withlabels.mat not found" in error_of("car", tmp_path / "other", *parts)


def test_car_annotations_of_one_image_and_of_none(tmp_path):
    (tmp_path / "cars_annos.mat").write_bytes(mat(relative_im_path=["car_ims/1.jpg"], **{"class": [2]}))
    ims = make_tar(tmp_path / "car_ims.tgz", {"car_ims/1.jpg": b"one"})
    run("car", tmp_path / "out", ims, tmp_path / "cars_annos.mat")
    assert lists(tmp_path / "out/Cars196") == {"train": ["train/1.jpg 0"], "test": []}
    (tmp_path / "cars_annos.mat").write_bytes(b"<html>not found</html>" * 20)
    assert "cars_annos.mat: not a MATLAB file" in error_of("car", tmp_path / "other", ims, tmp_path / "cars_annos.mat")


def product_zip(path, extra=()):
    header, top = "image_id class_id super_class_id path\n", "Stanford_Online_Products/"
    files = {
        f"{top}Ebay_train.txt": header + "1 1 1 bicycle_final/1_0.JPG\n2 1 1 bicycle_final/1 1.JPG\n"
        "3 7 2 chair_final/1_0.JPG\n",
        f"{top}Ebay_test.txt": header + "4 11319 1 bicycle_final/4_0.JPG\n5 11320 3 sofa_final/5_0.JPG\n",
    }
    names = [
        "bicycle_final/1_0.JPG",
        "bicycle_final/1 1.JPG",
        "chair_final/1_0.JPG",
        "bicycle_final/4_0.JPG",
        "sofa_final/5_0.JPG",
    ]
    return make_zip(path, {**files, **{top + name: picture(name) for name in names}}, extra)


PRODUCT_LISTS = {
    "train": ["train/bicycle_final/1_0.JPG 0", "train/bicycle_final/1 1.JPG 0", "train/chair_final/1_0.JPG 1"],
    "test": ["test/bicycle_final/4_0.JPG 2", "test/sofa_final/5_0.JPG 3"],
}


def test_product(tmp_path):
    run("product", tmp_path / "out", product_zip(tmp_path / "Stanford_Online_Products.zip"))
    check_images(tmp_path / "out/Products", PRODUCT_LISTS, cub_content)


def test_shop(tmp_path):
    rows = [
        ("img/WOMEN/Dresses/id_00000002/02_1_front.jpg", "id_00000002", "train"),
        ("img/WOMEN/Dresses/id_00000001/01_1_front.jpg", "id_00000001", "query"),
        ("img/WOMEN/Dresses/id_00000001/01_2_side.jpg", "id_00000001", "gallery"),
        ("img/MEN/Tees Tanks/id_00000009/01_1_front.jpg", "id_00000009", "train"),
    ]
    (tmp_path / "list_eval_partition.txt").write_text(
        f"{len(rows)}\nimage_name item_id evaluation_status\n" + "".join(f"{a:<60} {b} {c}\n" for a, b, c in rows)
    )
    images = make_zip(tmp_path / "img.zip", {path: picture(path) for path, _, _ in rows})
    run("shop", tmp_path / "out", images, tmp_path / "list_eval_partition.txt")
    expected = {
        "train": ["train/WOMEN/Dresses/id_00000002/02_1_front.jpg 0", "train/MEN/Tees Tanks/id_00000009/01_1_front.jpg 1"],
        "query": ["test/WOMEN/Dresses/id_00000001/01_1_front.jpg 2"],
        "gallery": ["test/WOMEN/Dresses/id_00000001/01_2_side.jpg 2"],
    }
    check_images(tmp_path / "out/InShopClothes", expected, lambda target: picture("img/" + target.split("/", 1)[1]))


def test_the_official_counts():
    assert cub.COUNTS == {"train": (5864, 100), "test": (5924, 100)}
    assert car.COUNTS == {"train": (8054, 98), "test": (8131, 98)}
    assert product.COUNTS == {"train": (59551, 11318), "test": (60502, 11316)}
    assert {split: images for split, (images, _) in shop.COUNTS.items()} == {
        "train": 25882,
        "query": 14218,
        "gallery": 12612,
    }


# ---- counts and missing pieces --------------------------------------------------------------------------------------


def test_wrong_counts_name_both_numbers_and_leave_no_list(tmp_path, cub_tgz):
    message = error_of("cub", tmp_path / "out", cub_tgz, check=True)
    assert "3 images of 2 classes" in message and "5,864 images of 100 classes" in message and "--no_check" in message
    assert not (tmp_path / "out").exists()


def test_images_that_the_archive_lacks(tmp_path, monkeypatch, capsys):
    files = cub_files()
    del files["CUB_200_2011/images/200.Yellowthroat/d_2.jpg"]
    archive = make_tar(tmp_path / "CUB.tgz", files)
    monkeypatch.setattr(cub, "COUNTS", CUB_COUNTS)
    message = error_of("cub", tmp_path / "out", archive, check=True)
    assert "1 of 6 listed images" in message and "images/200.Yellowthroat/d_2.jpg" in message
    assert not lists(tmp_path / "out/CUB_200_2011")
    run("cub", tmp_path / "out", archive)  # a deliberate subset: the lists leave missing images out, and the log says so
    assert "left out of the lists" in capsys.readouterr().out
    assert lists(tmp_path / "out/CUB_200_2011")["test"] == CUB_LISTS["test"][:2]


def test_right_counts_pass_and_a_second_run_does_nothing(tmp_path, cub_tgz, monkeypatch, capsys):
    monkeypatch.setattr(cub, "COUNTS", CUB_COUNTS)
    run("cub", tmp_path / "out", cub_tgz, check=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    capsys.readouterr()
    cub_tgz.unlink()  # the second run must not open the archive
    main(["cub", "--data_root", str(tmp_path / "out")])
    assert "already prepared" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


def test_a_deleted_image_comes_back(tmp_path, cub_tgz):
    run("cub", tmp_path / "out", cub_tgz)
    whole = tree(tmp_path / "out")
    (tmp_path / "out/CUB_200_2011/train/100.Brown_Pelican/b 1.jpg").unlink()
    run("cub", tmp_path / "out", cub_tgz)
    assert tree(tmp_path / "out") == whole


def test_missing_archive(tmp_path):
    assert str(tmp_path / "nowhere.tgz") in error_of("cub", tmp_path / "out", tmp_path / "nowhere.tgz")


def test_the_wrong_archive(tmp_path, cub_tgz):
    assert "Ebay_train.txt and Ebay_test.txt not found" in error_of("product", tmp_path / "out", cub_tgz)


def test_a_damaged_index_names_file_and_line(tmp_path):
    files = cub_files()
    files["CUB_200_2011/image_class_labels.txt"] = b"1 1\n2 one\n"
    archive = make_tar(tmp_path / "CUB.tgz", files)
    assert "image_class_labels.txt:2" in error_of("cub", tmp_path / "out", archive)


def test_no_data_root(monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    with pytest.raises(InputError, match="DATA_ROOT"):
        main(["cub"])


def test_data_root_from_the_environment(tmp_path, cub_tgz, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "env"))
    main(["cub", "--no_check", "--archive", str(cub_tgz)])
    assert lists(tmp_path / "env/CUB_200_2011") == CUB_LISTS


def test_data_root_that_is_a_file(tmp_path, cub_tgz):
    (tmp_path / "file").write_text("not a folder")
    assert str(tmp_path / "file") in error_of("cub", tmp_path / "file", cub_tgz)


# ---- interruption ---------------------------------------------------------------------------------------------------


def interrupt_after(monkeypatch, images, blow):
    """Call `blow()` in the middle of writing image number `images` + 1."""
    original, calls = archives._write, []

    def write(archive, member, target):
        calls.append(target)
        if len(calls) <= images:
            return original(archive, member, target)

        class Breaking(io.BytesIO):
            def read(self, *size):
                return super().read(*size) or blow()

        return original(archive, member._replace(open=lambda: Breaking(member.open().read(100))), target)

    monkeypatch.setattr(archives, "_write", write)


def ctrl_c():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "name, make",
    [("cub", lambda path: make_tar(path / "a.tgz", cub_files())), ("product", lambda path: product_zip(path / "a.zip"))],
)
def test_interrupted_and_run_again(tmp_path, monkeypatch, capsys, name, make):
    archive = make(tmp_path)
    run(name, tmp_path / "whole", archive)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        interrupt_after(patch, 3, ctrl_c)
        run(name, tmp_path / "out", archive)
    assert stopped.value.code == 130 and "again" in capsys.readouterr().err
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert len(done) == 3 and not list((tmp_path / "out").rglob("*.txt"))

    run(name, tmp_path / "out", archive)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_killed_without_a_chance_to_clean_up(tmp_path, cub_tgz):
    """The process ends at once in the middle of a file, as after SIGKILL or a power cut."""
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "import pytest\nfrom tests_prepare import interrupt_after, run\n"
        "interrupt_after(pytest.MonkeyPatch(), 2, lambda: os._exit(9))\n"
        "run('cub', sys.argv[2], sys.argv[3])\n"
    )
    shutil.copy(__file__, tmp_path / "tests_prepare.py")
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path), str(tmp_path / "out"), str(cub_tgz)], cwd=ROOT)
    assert ended.returncode == 9
    assert len(tree(tmp_path / "out")) == 3  # two images and a temporary file
    run("cub", tmp_path / "out", cub_tgz)
    check_images(tmp_path / "out/CUB_200_2011", CUB_LISTS, cub_content)


def test_a_file_of_another_size_is_written_again(tmp_path, cub_tgz):
    half = tmp_path / "out/CUB_200_2011/train/100.Brown_Pelican/b 1.jpg"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    run("cub", tmp_path / "out", cub_tgz)
    check_images(tmp_path / "out/CUB_200_2011", CUB_LISTS, cub_content)


# ---- malicious and damaged archives ---------------------------------------------------------------------------------


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "info, reason",
    [
        (special("CUB_200_2011/../../evil.jpg", tarfile.REGTYPE), "path with .."),
        (special("../evil", tarfile.DIRTYPE), "path with .."),
        (special("..\\evil.jpg", tarfile.REGTYPE), "path with .."),
        (special("/tmp/evil.jpg", tarfile.REGTYPE), "absolute path"),
        (special("C:\\evil.jpg", tarfile.REGTYPE), "absolute path"),
        (special("CUB_200_2011/images/link.jpg", tarfile.SYMTYPE, "/etc/passwd"), "symbolic link"),
        (special("CUB_200_2011/images", tarfile.SYMTYPE, "../.."), "symbolic link"),
        (special("CUB_200_2011/images/link.jpg", tarfile.LNKTYPE, "../../outside.txt"), "hard link"),
        (special("CUB_200_2011/images/link.jpg", tarfile.LNKTYPE, "/etc/passwd"), "hard link"),
        (special("CUB_200_2011/images.txt", tarfile.SYMTYPE, "images/a.txt"), "symbolic link"),  # its target is inside
        (
            special("../" + "n" * 300 + "é/evil.jpg", tarfile.REGTYPE),
            "path with ..",
        ),  # this long path gets a header of its own
        (special("CUB_200_2011/images/..", tarfile.REGTYPE), "path with .."),
        (special("CUB_200_2011/device", tarfile.CHRTYPE), "device file"),
        (special("CUB_200_2011/pipe", tarfile.FIFOTYPE), "device file"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_unsafe_tar(tmp_path, info, reason):
    (tmp_path / "outside.txt").write_text("mine")
    archive = make_tar(tmp_path / "CUB.tgz", cub_files(), [info])
    before = tree(tmp_path)
    message = error_of("cub", tmp_path / "a/b/out", archive)
    assert str(archive) in message and repr(info.name) in message and reason in message
    assert tree(tmp_path) == before


def zip_link(name, target, mode=0o120777):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info, target


@pytest.mark.parametrize(
    "extra, reason",
    [
        (("Stanford_Online_Products/../../evil.JPG", b"x"), "path with .."),
        (("/evil.JPG", b"x"), "absolute path"),
        (("c:/evil.JPG", b"x"), "absolute path"),
        (zip_link("bicycle_final/link.JPG", "/etc/passwd"), "symbolic link"),
        (zip_link("bicycle_final", "../.."), "symbolic link"),
        (("..\\evil.JPG", b"x"), "path with .."),
        (("\\\\host\\evil.JPG", b"x"), "absolute path"),
        (zip_link("bicycle_final/null", "", 0o020666), "special file"),
        (zip_link("bicycle_final/pipe", "", 0o010666), "special file"),
    ],
    ids=["dots", "absolute", "drive", "symlink", "symlink-up", "backslash", "host", "device", "pipe"],
)
def test_unsafe_zip(tmp_path, extra, reason):
    archive = product_zip(tmp_path / "products.zip", [extra])
    before = tree(tmp_path)
    message = error_of("product", tmp_path / "a/b/out", archive)
    assert str(archive) in message and reason in message and repr(getattr(extra[0], "filename", extra[0])) in message
    assert tree(tmp_path) == before


@pytest.mark.parametrize("path", ["../../../evil.jpg", "x/../../../../evil.jpg", "new\x85line/evil.jpg"])
def test_unsafe_paths_in_the_index(tmp_path, path):
    files = cub_files(CUB_ROWS + [(path, 1)])
    if ".." in path:
        del files[f"CUB_200_2011/images/{path}"]  # the archive is harmless, but its index is malicious
    else:
        files["CUB_200_2011/images.txt"] = files["CUB_200_2011/images.txt"].replace(b"\xc2\x85", b"\x01")
    before = tree(tmp_path)
    assert "refused" in error_of("cub", tmp_path / "a/b/out", make_tar(tmp_path / "CUB.tgz", files))
    (tmp_path / "CUB.tgz").unlink()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.9, 0.99])
def test_truncated_tar(tmp_path, cub_tgz, keep):
    content = cub_tgz.read_bytes()
    cub_tgz.write_bytes(content[: int(len(content) * keep)])
    message = error_of("cub", tmp_path / "out", cub_tgz)
    assert str(cub_tgz) in message and "not a whole archive" in message
    assert not (tmp_path / "out").exists()


def test_truncated_zip(tmp_path):
    archive = product_zip(tmp_path / "products.zip")
    archive.write_bytes(archive.read_bytes()[:-100])
    assert "not a whole archive" in error_of("product", tmp_path / "out", archive)


def test_flipped_bit_in_a_zip(tmp_path):
    """The zip's directory is intact, so only the image's checksum shows the damage. A damaged image never gets its final
    name."""
    archive = product_zip(tmp_path / "products.zip")
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        info = opened.getinfo("Stanford_Online_Products/chair_final/1_0.JPG")
    content[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 255
    archive.write_bytes(content)
    assert "not a whole archive" in error_of("product", tmp_path / "out", archive)
    assert not (tmp_path / "out/Products/train/chair_final/1_0.JPG").exists()
    assert not list(tmp_path.rglob("*.part"))


def test_flipped_checksum_of_a_tar(tmp_path, cub_tgz):
    content = bytearray(cub_tgz.read_bytes())
    content[-6] ^= 255
    cub_tgz.write_bytes(content)
    assert "CRC" in error_of("cub", tmp_path / "out", cub_tgz)


def test_encrypted_zip(tmp_path):
    archive = product_zip(tmp_path / "products.zip")
    content = archive.read_bytes().replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0")
    archive.write_bytes(content)
    assert "password" in error_of("product", tmp_path / "out", archive)


def test_a_web_page_in_place_of_the_archive(tmp_path):
    (tmp_path / "CUB.tgz").write_text("<html>please sign in</html>")
    assert "not a whole archive" in error_of("cub", tmp_path / "out", tmp_path / "CUB.tgz")


# ---- download -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, form", [("cub", cub), ("car", car), ("product", product)])
def test_offline(tmp_path, monkeypatch, name, form):
    def no_network(request, timeout):
        assert timeout == 20
        raise URLError("Name or service not known")

    monkeypatch.setattr(download, "urlopen", no_network)
    with pytest.raises(InputError) as caught:
        main([name, "--data_root", str(tmp_path)])
    message = str(caught.value)
    assert form.URLS[0] in message and form.ARCHIVE_HINT in message and "Name or service not known" in message
    assert "\n" not in message


def test_shop_has_no_download(tmp_path):
    with pytest.raises(InputError, match=f"{shop.PAGE}.*--archive img.zip list_eval_partition.txt"):
        main(["shop", "--data_root", str(tmp_path)])


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server for one file.

    .content: the file. .ranges: whether it understands ranges. .limit: bytes until it hangs up. .asked: requested ranges.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            server.asked.append(asked)
            start = int(asked[len("bytes=") : -1]) if asked and server.ranges else 0
            if start and start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            body = server.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
            self.send_header("Content-Type", server.kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: server.limit])

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.ranges, server.limit, server.asked = b"", True, None, []
    server.kind = "application/gzip"
    server.url = f"http://127.0.0.1:{server.server_port}/files/CUB_200_2011.tgz"
    threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("ranges", [True, False])
def test_download_cut_off_and_continued(tmp_path, cub_tgz, server, monkeypatch, ranges):
    monkeypatch.setattr(cub, "URLS", (server.url,))
    server.content, server.ranges, server.limit = cub_tgz.read_bytes(), ranges, 300
    command = ["cub", "--data_root", str(tmp_path / "out"), "--no_check"]
    with pytest.raises(InputError, match="after 300 of .* run again"):
        main(command)
    assert sorted(tree(tmp_path / "out")) == ["downloads/CUB_200_2011.tgz.part"]

    server.limit = None
    main(command)
    assert server.asked == [None, "bytes=300-"]
    assert (tmp_path / "out/downloads/CUB_200_2011.tgz").read_bytes() == server.content
    check_images(tmp_path / "out/CUB_200_2011", CUB_LISTS, cub_content)


@pytest.mark.parametrize("extra", [b"", b"of another file"])
def test_download_with_nothing_left_to_ask_for(tmp_path, server, extra):
    """The partial file is already complete (the last run ended before the renaming), or it belongs to another file."""
    server.content = b"whole file"
    (tmp_path / "CUB_200_2011.tgz.part").write_bytes(server.content + extra)
    assert download.fetch(server.url, tmp_path, "--archive FILE").read_bytes() == server.content
    assert len(server.asked) == (2 if extra else 1)


def test_download_of_a_web_page(tmp_path, server):
    server.content, server.kind = b"<html>moved</html>", "text/html; charset=utf-8"
    with pytest.raises(InputError, match="web page.*--archive FILE"):
        download.fetch(server.url, tmp_path, "--archive FILE")
    assert not tree(tmp_path)


# ---- the script -----------------------------------------------------------------------------------------------------


def prepare_script(tmp_path, *args, **env):
    """scripts/prepare_data.sh beside a setup_env.sh that installs nothing."""
    scripts = tmp_path / "scripts"
    scripts.mkdir(exist_ok=True)
    shutil.copy(ROOT / "scripts/prepare_data.sh", scripts)
    (scripts / "setup_env.sh").write_text(f'cd "{ROOT}"\nexport PYTHON="{sys.executable}"\n')
    return subprocess.run(
        ["bash", "scripts/prepare_data.sh", *args], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, **env}
    )


def test_script(tmp_path, cub_tgz):
    usage = prepare_script(tmp_path)
    assert usage.returncode == 2 and "usage" in usage.stderr and "cub|car|product|shop" in usage.stderr
    done = prepare_script(tmp_path, "cub", "--no_check", "--archive", cub_tgz.name, DATA_ROOT=str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # without a terminal there is no progress bar
    assert lists(tmp_path / "out/CUB_200_2011") == CUB_LISTS
    wrong = prepare_script(tmp_path, "cub", "--archive", "nothing.tgz", DATA_ROOT=str(tmp_path / "other"))
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: ") and wrong.stderr.count("\n") == 1
