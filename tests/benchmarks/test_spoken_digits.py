"""Log-mel images show a tone where it lies, and a data set of them holds speakers out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from benchmarks.data.spoken_digits import LOWEST_HERTZ, draw, log_mel, mel_bands
from synthcl.config.presets import load_preset
from synthcl.core.errors import UserError
from synthcl.data import open_split

RATE, SIZE = 8000, 32
PRESET = Path(__file__).parents[2] / "benchmarks/data/spoken-digits.yaml"


def tone(hertz: float, seconds: float = 0.5) -> np.ndarray:
    return 1000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def row_of(hertz: float) -> float:
    """Where the equation of mel puts a tone, in rows from the top."""
    low, own, high = (2595 * np.log10(1 + value / 700) for value in (LOWEST_HERTZ, hertz, RATE / 2))
    return SIZE - (own - low) / (high - low) * (SIZE + 1)


@pytest.mark.parametrize("hertz", [200.0, 440.0, 1000.0, 3000.0])
def test_a_tone_is_brightest_at_its_place_all_along(hertz: float) -> None:
    image = log_mel(tone(hertz), RATE, SIZE)
    assert image.shape == (SIZE, SIZE)
    assert np.abs(image.argmax(axis=0) - row_of(hertz)).max() <= 1
    assert image.max() == 255


def test_time_goes_from_left_to_right_and_loudness_does_not_matter() -> None:
    rising = np.concatenate([tone(300), tone(2500)])
    image = log_mel(rising, RATE, SIZE)
    assert image[:, 0].argmax() > image[:, -1].argmax()
    assert np.array_equal(log_mel(8 * rising, RATE, SIZE), image)


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(4000), tone(440, 0.01)])
def test_silence_and_a_recording_shorter_than_a_window_are_images(samples: np.ndarray) -> None:
    assert log_mel(samples, RATE, SIZE).shape == (SIZE, SIZE)


def test_every_band_has_sum_one() -> None:
    bands = mel_bands(SIZE, 1024, RATE)
    assert bands.shape == (SIZE, 513)
    assert np.allclose(bands.sum(axis=1), 1)


def test_speakers_of_test_are_in_no_other_part_and_the_preset_opens_them(tmp_path: Path) -> None:
    source, target = tmp_path / "wav", tmp_path / "images"
    source.mkdir()
    for digit in range(2):
        for speaker in ("ada", "bob", "cy"):
            for number in range(5):
                samples = tone(300 + 100 * digit + 10 * number).astype(np.int16)
                wavfile.write(source / f"{digit}_{speaker}_{number}.wav", RATE, samples)
    assert draw(source, target, SIZE, ["bob"]) == {"train": 20, "test": 10}
    parts = {part: {file.stem.split("_")[1] for file in (target / part).rglob("*.png")} for part in ("train", "test")}
    assert parts == {"train": {"ada", "cy"}, "test": {"bob"}}
    assert Image.open(target / "test" / "1" / "1_bob_3.png").size == (SIZE, SIZE)
    config = load_preset(str(PRESET)).with_overrides({"data.root": str(target)})
    counts = {part: len(open_split(config.data, part, "cpu").images) for part in ("train", "validation", "test")}
    assert counts == {"train": 16, "validation": 4, "test": 10}


@pytest.mark.parametrize("speakers", [["eve"], [], ["ada"]])
def test_speakers_that_leave_nothing_to_train_or_to_test_on_are_refused(tmp_path: Path, speakers: list[str]) -> None:
    with pytest.raises(UserError, match="has no file named as 7_theo_12"):
        draw(tmp_path, tmp_path, SIZE, speakers)
    wavfile.write(tmp_path / "0_ada_0.wav", RATE, tone(300).astype(np.int16))
    with pytest.raises(UserError, match="--test-speakers"):
        draw(tmp_path, tmp_path, SIZE, speakers)
