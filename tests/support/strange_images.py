"""Image files as people have them: every mode, size and name that the folder source must take as it is."""

from pathlib import Path

import numpy as np
from PIL import Image

ROTATED = 6
"""EXIF orientation: the camera was turned a quarter"""


def write_strange_images(root: Path) -> int:
    """Write `root/train/<class>/` of two classes, without a test folder.

    Returns:
        How many images they hold; beside them lie files that are none.
    """
    count = 0
    for seed, name in enumerate(("Zoë's cats", "犬 and wolves")):
        folder = root / "train" / name
        (folder / "2024" / "deeper").mkdir(parents=True)
        images = _images(np.random.default_rng(seed))
        for file, (image, options) in images.items():
            image.save(folder / file, **options)
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        (folder / "read me.txt").write_text("photos of the summer")
        count += len(images)
    (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    return count


def _images(generator: np.random.Generator) -> dict[str, tuple[Image.Image, dict[str, object]]]:
    def noise(*shape: int) -> np.ndarray:
        return generator.integers(0, 256, shape, dtype=np.uint8)

    colour = Image.fromarray(noise(70, 90, 3))
    palette = colour.convert("P", palette=Image.Palette.ADAPTIVE)
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    return {
        "transparent.png": (Image.fromarray(noise(80, 80, 4)), {}),
        "grey with alpha.png": (Image.fromarray(noise(80, 80, 2)), {}),
        "palette.PNG": (palette, {"transparency": bytes(range(256))}),
        "x-ray.png": (Image.fromarray(generator.integers(0, 2**16, (96, 64), dtype=np.uint16)), {}),
        "print.jpg": (Image.fromarray(noise(64, 80, 3)).convert("CMYK"), {}),
        "turned.JPG": (colour, {"exif": exif}),
        "scan.TIFF": (colour, {"compression": "tiff_lzw"}),
        "fax.tif": (Image.fromarray(noise(66, 66) > 127), {}),
        "été, 夏.jpeg": (colour, {}),
        "icon.bmp": (Image.fromarray(noise(5, 5, 3)), {}),
        "panorama.png": (Image.fromarray(noise(10, 2000, 3)), {}),
        "2024/deeper/phone.webp": (colour, {}),
        "2024/grey.pgm": (Image.fromarray(noise(72, 72)), {}),
    }
