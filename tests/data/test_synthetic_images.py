"""A folder of synthetic images: which real image each was made from, and nothing that an encoder is scored on."""

from pathlib import Path

import pytest
import torch
from image_files import folder_config, one_line, write_classes, write_image
from PIL import Image

from synthcl.core.errors import UserError
from synthcl.data import open_split, open_synthetic
from synthcl.data.copies import byte_copies, near_copies
from synthcl.data.images import convert_array
from synthcl.data.sources import SOURCES
from synthcl.method.synthetic.folder import FolderConfig

CPU = torch.device("cpu")


@pytest.fixture
def real(tmp_path: Path):
    """Ten cats and dogs to train on, two of each in validation, and three in the test part."""
    write_classes(tmp_path / "real" / "train", 10)
    for index, name in enumerate(("cat", "dog")):
        for image in range(3):
            write_image(tmp_path / "real" / "test" / name / f"t{image}.png", 5000 + 10 * index + image)
    return folder_config(tmp_path / "real")


def opened(config, folder: Path, **fields):
    return open_synthetic(config, "mine", FolderConfig(path=str(folder), **fields), CPU)


def names_of(config, split: str) -> list[str]:
    files = open_split(config, split, CPU).images.files
    return [f"{Path(name).parent.name}/{Path(name).stem}" for name in files.names]


def make(folder: Path, *names: str) -> Path:
    """Images of noise, unlike any other."""
    for index, name in enumerate(names):
        write_image(folder / name, 90_000 + index)
    return folder


def test_twins_are_found_by_the_names_of_images_or_folders(real, tmp_path):
    unlabelled = names_of(real, "unlabelled")
    first, second = unlabelled[:2]
    made = make(
        tmp_path / "made", f"{first}__warm.png", f"{first}__cold.jpg", f"{second}/1.png", f"train/{first}__x.png"
    )
    found = opened(real, made, pairs="names")
    assert (found.found, len(found.images), found.dropped) == (4, 4, {})
    assert found.twins.starts.tolist()[:3] == [0, 3, 4]
    assert found.twins.covered == 2
    assert "made from 2 of the 16 unlabelled images; left out: none" in found.describe()


@pytest.mark.parametrize("layout", ["names", "csv"])
def test_what_was_made_from_scored_images_is_left_out_and_counted_or_refused(real, tmp_path, layout):
    scored = [*names_of(real, "validation"), "test/cat/t1", "dog/t2"]
    kept = names_of(real, "unlabelled")[3]
    made = make(tmp_path / "made", f"{kept}__1.png", *(f"{name}__1.png" for name in scored))
    pairs = "names"
    if layout == "csv":
        pairs = "pairs.csv"
        lines = [f"{name}__1.png,{name}.png" for name in (kept, *scored)]
        (made / pairs).write_text("\n".join(["synthetic,real", *lines]))
    found = opened(real, made, pairs=pairs)
    assert found.dropped == {"validation": 4, "test": 2}
    assert "4 made from validation images, 2 made from test images" in found.describe()
    assert found.twins.starts.tolist() == [0] * 4 + [1] * 13
    with pytest.raises(UserError, match=r"was made from '.*', a (validation|test) image; .*leaks=drop"):
        opened(real, made, pairs=pairs, leaks="refuse")


def test_the_guard_follows_the_cut_of_a_seed_and_the_share_of_images(real, tmp_path):
    train = [f"{name}/{image}" for name in ("cat", "dog") for image in range(10)]
    made = make(tmp_path / "made", *(f"{name}__1.png" for name in train))
    left = []
    for seed in range(3):
        config = real.model_copy(update={"split_seed": seed, "image_fraction": 0.5})
        found, unlabelled = opened(config, made, pairs="names"), names_of(config, "unlabelled")
        assert found.dropped == {"validation": 4, "outside": 8}
        used = [str(Path(name).parent / Path(name).stem.split("__")[0]) for name in found.images.files.names]
        assert sorted(used) == sorted(unlabelled)
        for position, name in enumerate(unlabelled):
            file = found.twins.files[found.twins.starts[position]]
            assert found.images.files.names[file] == f"{name}__1.png"
        left.append(used)
    assert left[0] != left[1]


def test_rows_of_an_array_are_named_by_published_part_and_row(tmp_path):
    config = folder_config(tmp_path, source="fashion-mini", channels=1, image_size=28, split_seed=1)
    made = make(tmp_path / "made", *(f"train-{row:05d}__a.png" for row in range(50)), "test-7__a.png", "train-3/b.png")
    found = opened(config, made, pairs="names")
    assert found.dropped.pop("test") == 1
    validation = found.dropped.pop("validation")
    assert 0 < validation < 25
    assert found.dropped == {}
    assert len(found.images) == 52 - 1 - validation
    pixels = open_split(config, "unlabelled", CPU).images.fetch(torch.arange(found.real))
    published = convert_array(SOURCES["fashion-mini"].train(config).pixels[:50], 28, 1)
    for row in range(50):
        files = [at for at, name in enumerate(found.images.files.names) if name.startswith(f"train-{row:05d}__")]
        positions = [
            position
            for position in range(found.real)
            if {*files} & {*found.twins.files[found.twins.starts[position] : found.twins.starts[position + 1]].tolist()}
        ]
        assert len(positions) == len(files)
        assert all(torch.equal(pixels[position], published[row]) for position in positions)


def test_copies_of_scored_images_are_left_out_whatever_they_are_called(real, tmp_path):
    made = make(tmp_path / "made", "fresh.png")
    scored = next((tmp_path / "real" / "test" / "cat").glob("t0.png"))
    (made / "bytes.png").write_bytes(scored.read_bytes())
    with Image.open(scored) as image:
        image.save(made / "again.bmp")
        image.point(lambda level: min(255, level + 1)).save(made / "brighter.png")
    found = opened(real, made)
    assert (len(found.images), found.dropped) == (1, {"copy": 3})
    assert "10 validation and test images" in found.describe()
    assert opened(real, made, copy_distance=0).dropped == {"copy": 2}
    with pytest.raises(UserError, match=r"is a copy of a validation or test image"):
        opened(real, made, leaks="refuse")
    streamed = opened(real.model_copy(update={"resident_limit_mib": 1e-6}), made)
    assert (len(streamed.images), streamed.dropped) == (3, {"copy": 1})
    assert "by bytes alone" in streamed.describe()


def test_near_copies_are_those_within_the_distance_by_a_slow_count():
    draw = torch.Generator().manual_seed(0)
    others = torch.randint(0, 256, (40, 3, 32, 32), generator=draw, dtype=torch.uint8)
    noise = torch.linspace(0, 12, 20)[:, None, None, None] * torch.randn(20, 3, 32, 32, generator=draw)
    fresh = torch.randint(0, 256, (20, 3, 32, 32), generator=draw, dtype=torch.uint8)
    images = torch.cat([(others[:20] + noise).round().clamp(0, 255).byte(), fresh])
    small = [torch.nn.functional.avg_pool2d(part.double(), 2).flatten(1) for part in (images, others)]
    distances = torch.cdist(*small, compute_mode="donot_use_mm_for_euclid_dist") / (3 * 16 * 16) ** 0.5
    for distance in (0.5, 2.0, 3.0):
        expected = distances.amin(dim=1) <= distance
        assert torch.equal(near_copies(images, others, distance), expected)
        assert expected.any()
        assert not expected[20:].any()


def test_files_of_the_same_bytes_are_found(tmp_path):
    for name, content in {"a": b"one", "b": b"two", "c": b"one", "d": b"three"}.items():
        (tmp_path / name).write_bytes(content)
    files = {name: tmp_path / name for name in "abcd"}
    assert byte_copies([files["a"], files["b"], files["d"]], [files["c"]]) == [True, False, False]


def test_the_order_of_a_listing_changes_nothing_and_a_limit_takes_a_fixed_draw(real, tmp_path):
    made = make(tmp_path / "made", *(f"{index:02d}.png" for index in range(12)))
    names = opened(real, made).images.files.names
    assert names == tuple(f"{index:02d}.png" for index in range(12))
    few = opened(real, made, limit=5)
    assert (few.dropped, len(few.images)) == ({"limit": 7}, 5)
    assert {*few.images.files.names} < {*names}
    assert few.images.files.names == opened(real, made, limit=5).images.files.names
    assert few.images.files.names != names[:5]


@pytest.mark.parametrize(
    ("files", "pairs", "says"),
    [
        (["stray.png"], "names", r"'stray\.png' names no real image \(1 of 1 such images\)"),
        (["cat/99__a.png"], "names", r"'cat/99__a\.png' names 'cat/99', which is no real image"),
        (["3__a.png"], "names", r"'3' stands for '.*/3\.png' and for '.*/3\.png'; write more of the path"),
        (["a.png"], "none.csv", r"synthetic\.mine\.pairs '.*none\.csv' cannot be read: No such file"),
        (["a.png"], "columns.csv", r"has no column 'real' \(it has: synthetic\)"),
        (["a.png"], "missing.csv", r"line 2: 'b\.png' is none of the images"),
        (["a.png"], "nothing.csv", r"line 2: 'a\.png' names no real image"),
        (["a.png"], "twice.csv", r"line 3: 'a\.png' was made from 'dog/1' here and 'cat/1' above"),
        (["a.png"], "unknown.csv", r"'a\.png' names 'fox/1', which is no real image"),
    ],
)
def test_images_of_unknown_origin_are_refused(real, tmp_path, files, pairs, says):
    made = make(tmp_path / "made", *files)
    tables = {
        "columns.csv": "synthetic\na.png\n",
        "missing.csv": "synthetic,real\nb.png,cat/1\n",
        "nothing.csv": "synthetic,real\na.png,\n",
        "twice.csv": "synthetic,real\na.png,cat/1\na.png,dog/1\n",
        "unknown.csv": "synthetic,real\na.png,fox/1\n",
    }
    if pairs in tables:
        (made / pairs).write_text(tables[pairs])
    with pytest.raises(UserError, match=says) as error:
        opened(real, made, pairs=pairs)
    one_line(error)


def test_a_folder_without_usable_images_is_refused_and_so_is_one_among_the_real_ones(real, tmp_path):
    with pytest.raises(UserError, match=r"synthetic\.mine\.path .* is not a folder"):
        opened(real, tmp_path / "nowhere")
    scored = names_of(real, "validation")[0]
    with pytest.raises(UserError, match=r"none of its images can be used: .*1 made from validation images"):
        opened(real, make(tmp_path / "made", f"{scored}__1.png"), pairs="names")
    with pytest.raises(UserError, match=r"is one of the real images of data\.root"):
        opened(real, tmp_path / "real" / "train" / "cat")


def test_images_that_a_csv_file_does_not_name_are_counted(real, tmp_path):
    made = make(tmp_path / "made", "a.png", "b.png")
    (made / "pairs.csv").write_text(f"synthetic,real\na.png,{names_of(real, 'unlabelled')[0]}\n")
    found = opened(real, made, pairs="pairs.csv")
    assert found.dropped == {"unnamed": 1}
    assert "1 that the CSV file does not name" in found.describe()


@pytest.mark.parametrize("source", ["files", "array"])
def test_names_hold_where_a_run_trains_on_all_images_there_are(real, tmp_path, source):
    if source == "files":
        config, names = real, ["cat/3__a.png", "test/dog/t1__a.png", f"{names_of(real, 'validation')[0]}__b.png"]
    else:
        config = folder_config(tmp_path, source="fashion-mini", channels=1, image_size=28)
        names = ["train-3__a.png", "test-5__a.png"]
    config = config.model_copy(update={"pretrain_on": "all"})
    found = opened(config, make(tmp_path / "made", *names), pairs="names")
    assert (len(found.images), found.dropped) == (len(names), {})
    assert "no validation or test images to compare with" in found.describe()
    if source == "array":
        positions = found.twins.starts.diff().nonzero().flatten().tolist()
        assert positions == [3, len(SOURCES["fashion-mini"].train(config)) + 5]
