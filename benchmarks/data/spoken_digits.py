"""Spoken digits as images, for the question where nobody knows good views: log-mel spectrograms, speakers held out.

    python -m benchmarks.data.spoken_digits RECORDINGS IMAGES [--size 32] [--test-speakers theo,yweweler]

RECORDINGS holds wav files named DIGIT_SPEAKER_NUMBER.wav, as the Free Spoken Digit Dataset has them (CC BY-SA 4.0,
https://github.com/Jakobovski/free-spoken-digit-dataset). IMAGES becomes a data set of class folders: test/ has the
speakers that train/ lacks. `benchmarks/data/spoken-digits.yaml` is a preset for it:

    python tune/compare.py --tuned --preset benchmarks/data/spoken-digits.yaml --images 100 --no-ray data.root=IMAGES
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import wavfile

from synthcl.config.cli import main as with_one_line_errors
from synthcl.core.errors import UserError
from synthcl.core.progress import Progress

TEST_SPEAKERS = "theo,yweweler"
WINDOW_SECONDS = 0.032
LOWEST_HERTZ = 60.0
RANGE_DECIBELS = 60.0
"""what is quieter than the loudest point by more than this is black"""


class Recording(NamedTuple):
    """A wav file by what its name says."""

    file: Path
    digit: str
    speaker: str


def recordings(folder: Path) -> list[Recording]:
    """Every recording of a folder and the folders in it, in the order of their names.

    Raises:
        UserError: when there is none.
    """
    found = [
        Recording(file, *name.groups())
        for file in sorted(folder.rglob("*.wav"))
        if (name := re.fullmatch(r"(\d)_([^_]+)_\d+", file.stem))
    ]
    if not found:
        raise UserError(f"{str(folder)!r} has no file named as 7_theo_12.wav; unpack the recordings there")
    return found


def log_mel(samples: NDArray[np.float64], rate: int, size: int) -> NDArray[np.uint8]:
    """The spectrogram of a whole recording as a square image: time from left to right, low tones at the bottom.

    Windows are Hann's, as many as pixels, spread evenly over the recording; a longer one is thus shown faster.

    Args:
        samples: (n,) of the wave; one shorter than a window is padded with silence.
        rate: samples a second.
        size: pixels a side: mel bands and windows.

    Returns:
        (size, size) decibels, from RANGE_DECIBELS below the loudest point (0) to that (255).
    """
    window = round(WINDOW_SECONDS * rate)
    padded = np.pad(samples, (0, max(0, window - len(samples))))
    starts = np.linspace(0, len(padded) - window, size).round().astype(int)
    frames = padded[starts[:, None] + np.arange(window)] * np.hanning(window)  # (size, window)
    length = 4 * window  # bands at the bottom are narrower than a frequency of the window itself
    power = np.abs(np.fft.rfft(frames, length)) ** 2  # (size, length / 2 + 1)
    mel = power @ mel_bands(size, length, rate).T  # (windows, bands)
    decibels = 10 * np.log10(np.maximum(mel, 1e-12 * max(float(mel.max()), 1e-12)))
    shares = np.clip(1 + (decibels - decibels.max()) / RANGE_DECIBELS, 0, 1)
    return np.round(255 * shares.T[::-1]).astype(np.uint8)


def mel_bands(bands: int, length: int, rate: int) -> NDArray[np.float64]:
    """Triangular filters, evenly spaced in mel between LOWEST_HERTZ and half of the rate, each of sum 1.

    Args:
        bands: how many.
        length: of the Fourier transform.
        rate: samples a second.

    Returns:
        (bands, length / 2 + 1).

    Source: mel = 2595 log10(1 + f / 700), O'Shaughnessy, "Speech Communication", 1987.
    """
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (LOWEST_HERTZ, rate / 2))
    edges = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)[:, None]  # hertz
    hertz = np.fft.rfftfreq(length, 1 / rate)
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    weights = np.clip(np.minimum(rising, falling), 0, None)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)


def draw(folder: Path, target: Path, size: int, test_speakers: list[str]) -> Counter[str]:
    """Write every recording as an image into its class folder; images that are there are drawn anew.

    Args:
        folder: of the recordings.
        target: of the images.
        size: pixels a side.
        test_speakers: who is in test alone.

    Returns:
        How many images train and test have.

    Raises:
        UserError: when a speaker is unknown, or nobody is left to train on.
    """
    found = recordings(folder)
    speakers = {recording.speaker for recording in found}
    if unknown := [name for name in test_speakers if name not in speakers]:
        raise UserError(f"--test-speakers {unknown[0]!r} has no recording; choose of {', '.join(sorted(speakers))}")
    if not 0 < len({*test_speakers}) < len(speakers):
        raise UserError(f"--test-speakers must be some of {', '.join(sorted(speakers))}, and leave some to train on")
    counted: Counter[str] = Counter()
    with Progress("images", len(found), "image") as progress:
        for recording in found:
            part = "test" if recording.speaker in test_speakers else "train"
            place = target / part / recording.digit / f"{recording.file.stem}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            rate, samples = wavfile.read(recording.file)
            mono = samples if samples.ndim == 1 else samples.mean(axis=1)
            Image.fromarray(log_mel(mono.astype(np.float64), rate, size)).save(place)
            counted[part] += 1
            progress.advance()
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder of the wav files")
    parser.add_argument("images", type=Path, help="folder of the images; made if missing")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--test-speakers", default=TEST_SPEAKERS, help="who is in test alone")
    given = parser.parse_args()
    if given.size < 8:
        raise UserError(f"--size {given.size} must be at least 8 pixels")
    counted = draw(given.recordings, given.images, given.size, [n for n in given.test_speakers.split(",") if n])
    print(f"{counted['train']:,} images to train on and {counted['test']:,} to test on in {str(given.images)!r}")


if __name__ == "__main__":
    with_one_line_errors(main)
