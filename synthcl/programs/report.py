"""The page of a search, running or finished: one file, which works offline.

synthcl report runs/fashion-mini                       writes runs/fashion-mini/report.html anew
synthcl report runs/fashion-mini --open                and opens it in the browser
synthcl report s3://YOUR-BUCKET/synthcl/cifar10        of a run in a bucket, brought here

A search writes the page itself as it goes on. No run is touched.
"""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path
from urllib.parse import urlsplit

from synthcl.config.presets import load_preset
from synthcl.core.errors import UserError
from synthcl.runs.location import is_uri
from synthcl.runs.storage import Storage


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("folder", help="of the run, or its URI")
    made.add_argument("--open", action="store_true", help="open the page in the browser")
    made.add_argument("--trust-code", action="store_true", help="import the module that an encoder of yours names")
    return made


def main() -> None:
    arguments = parser().parse_args()
    folder = _fetched(arguments.folder)
    if not (folder / "config.json").is_file() or not (folder / "state.json").is_file():
        raise UserError(f"run {arguments.folder!r} has no config.json and state.json of a search; {_NAME_ONE}")

    from synthcl.search import run_page

    file = run_page.write_anew(load_preset(str(folder / "config.json")), folder, trust_code=arguments.trust_code)
    print(f"Page: {file}")
    if arguments.open and not webbrowser.open(file.absolute().as_uri()):
        print("No browser was found; open the file in one of yours.")


_NAME_ONE = "give the folder that a search wrote, such as runs/fashion-mini"


def _fetched(place: str) -> Path:
    """The run's folder on this machine; of a URI, what is new there is brought first."""
    if not is_uri(place):
        return Path(place)
    whole = urlsplit(place)
    root, _, name = whole.path.rstrip("/").rpartition("/")
    if not name:
        raise UserError(f"run {place!r} names no run; {_NAME_ONE}, or s3://bucket/folder/name")
    storage = Storage(whole._replace(path=root).geturl(), name)
    storage.pull()
    return storage.folder
