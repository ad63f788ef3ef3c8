"""Emblems and a context menu in Nemo for files in mounts of mountsync."""

import sys
from pathlib import Path

from gi.repository import GObject, Nemo

sys.path.append(str(Path(__file__).resolve().parents[2] / "mountsync"))
import mountsync_desktop as desktop


def _item(name, label, tip, pressed):
    made = Nemo.MenuItem(name=name, label=label, tip=tip)
    made.connect("activate", pressed)
    return made


class MountsyncExtension(GObject.GObject, Nemo.InfoProvider, Nemo.MenuProvider):
    """What Nemo asks for. It gets no column: making one damages the memory of Nemo 5.6."""

    def update_file_info(self, file):
        """The emblem of one file."""
        desktop.decorate(file)

    def get_file_items(self, *given):
        """The menu of the chosen files, which are the last argument; older hosts give the window first."""
        return desktop.menu(_item, given[-1])

    def get_background_items(self, *_):
        """Nothing for the folder as a whole."""
        return []
