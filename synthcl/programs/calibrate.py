"""Which scores without labels may choose encoders: how each has chosen in comparisons that had labels.

As `synthcl calibrate` where the package is installed, or from a checkout:

python tune/calibrate.py                                      on the published records of this project
python tune/calibrate.py runs/birds --out birds.json          on a comparison or a search of yours; the file is what a
                                                              search reads: search.calibration=birds.json
python tune/calibrate.py --arms frozen-gan,hard-only,pairs-only,joint     among some arms

Scores beside those of every run are measured where evaluation.label_free names them, such as [lidar, clid, rotation].
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from synthcl.comparison.calibration import RULE, Calibration, calibrate
from synthcl.comparison.records import Record, read_all
from synthcl.config.schema import Config, validated
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.core.tables import fitted, markdown, terminal_columns
from synthcl.evaluation.panel import SCORES
from synthcl.runs.feature_file import require_writable

PUBLISHED = Path(__file__).parents[2] / "benchmarks/recorded/cifar10-weak-views-records.tar.xz"
RECORDS_IN = ("", "evidence", "confirm")
"""where records lie in the folder of records itself, of a comparison, and of a search"""


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "records", nargs="*", type=Path, help="folders of comparisons or searches, or archives of records"
    )
    made.add_argument("--arms", help="only these, such as frozen-gan,joint; all if left out")
    made.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    made.add_argument("--out", type=Path, help="also write what was found, as a JSON file for search.calibration")
    return made


def main() -> None:
    arguments = parser().parse_args()
    if arguments.out:
        require_writable("--out", arguments.out, (".json",))
    places = arguments.records or [PUBLISHED]
    if not arguments.records and not PUBLISHED.exists():
        raise UserError("calibrate: the published records are in a checkout alone; give the folder of a comparison")
    comparisons = {str(place): read_place(place) for place in places}
    arms = arguments.arms.split(",") if arguments.arms else []
    known = sorted({record.arm for _, records in comparisons.values() for record in records})
    for arm in arms:
        if arm not in known:
            raise UserError(f"--arms {arguments.arms!r}: {arm!r} has no record; choose {', '.join(known)}")
    found = calibrate(comparisons, arms)
    if not found.records:
        raise UserError(
            f"calibrate: {', '.join(comparisons)} has no two arms with the same images and seed and a score of a "
            "probe; give a finished comparison of several arms"
        )
    print("\n\n".join(told(found, markdown if arguments.markdown else lambda table: fitted(table, terminal_columns()))))
    if arguments.out:
        write_whole(arguments.out, json.dumps(found.as_json(), indent=1) + "\n")
        print(f"\n{arguments.out}")


def told(found: Calibration, form: Callable[[list[list[str]]], str]) -> list[str]:
    """The table and what it means, in paragraphs.

    Args:
        found: of some records.
        form: makes text of a table whose heading comes first.
    """
    choices = [choice for choice in found.choices.values() if choice]
    most = max(choices, key=lambda choice: choice.groups) if choices else None
    scope = (
        f"{found.records} runs of {len(found.arms)} arms ({', '.join(found.arms)}) in {most.groups} groups of equal "
        f"images and seed, {most.kendall.n} seeds; the probe is {found.probe}. Brackets: 95 % intervals over seeds, "
        "Student's."
        if most
        else f"{found.records} runs; none has a score without labels."
    )
    absent = [name for name in SCORES if f"label_free/{name}" not in found.choices]
    missing = f"Not measured in these runs: {', '.join(absent)} (evaluation.label_free)." if absent else ""
    return [part for part in (form(found.table()), scope, RULE, missing) if part]


def read_place(place: Path) -> tuple[Config, list[Record]]:
    """The records of a comparison, of a search's confirm runs, or in an archive of them, and their configuration.

    Raises:
        UserError: when there is none, or one is unreadable.
    """
    if place.is_file():
        try:
            with tempfile.TemporaryDirectory() as folder, tarfile.open(place) as archive:
                archive.extractall(folder, filter="data")
                return read_place(Path(folder))
        except tarfile.TarError:
            raise UserError(f"records {str(place)!r} are no archive; give a folder or a .tar.xz") from None
    for below in RECORDS_IN:
        if files := [file for file in sorted((place / below).glob("*.json")) if _is_record(file)]:
            written = json.loads(files[0].read_text())["config"]
            for section in ("data", "compute"):  # published records name no places
                written[section] = {field: value for field, value in written[section].items() if value is not None}
            config = validated(written, f"record {str(files[0])!r}")
            return config, read_all(place / below, config)
    raise UserError(f"records {str(place)!r}: there is none; give the folder of a comparison or search, runs/NAME")


def _is_record(file: Path) -> bool:
    try:
        tree = json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(tree, dict) and {"config", "metrics", "seconds"} <= tree.keys()
