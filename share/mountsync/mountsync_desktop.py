"""What file managers' extensions ask of running mounts. Needs Python 3.9 and nothing else.

A file's state is the extended attribute `user.mountsync.state`, which never starts a download. What is to
be done is told to the mount over its control socket, one JSON object per line.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

PATIENCE_S = 10
EMBLEMS = {
    "synced": "emblem-default",
    "pending": "emblem-synchronizing",
    "uploading": "emblem-synchronizing",
    "cloud": "emblem-web",
    "partial": "emblem-web",
    "conflict": "emblem-important",
    "problem": "emblem-important",
}
"""Icons of the usual themes by state; a file that stays on this machine has none."""
WORDS = {
    "synced": "On this device and on the remote",
    "pending": "Not on the remote yet",
    "uploading": "Uploading",
    "cloud": "On the remote only",
    "partial": "Partly on this device",
    "conflict": "Changed on both sides",
    "problem": "Could not be synced",
    "local-only": "On this device only",
}


class Action:
    """One entry of a context menu."""

    def __init__(self, name, label, tip, command, **args):
        self.name = name
        self.label = label
        self.tip = tip
        self.command = command
        self.args = args


PIN = Action("pin", "Keep on this device", "Download it now and keep it here", "pin")
UNPIN = Action("unpin", "No longer keep on this device", "Its room may be taken when needed", "unpin")
EVICT = Action("evict", "Free its space", "Forget the copy here; the remote has it", "evict")
RESOLVE = [
    Action("both", "Keep both versions", "Yours gets a conflict name", "resolve", keep="both"),
    Action("local", "Keep the version of this device", "The other one goes", "resolve", keep="local"),
    Action("remote", "Keep the version of the remote", "The other one goes", "resolve", keep="remote"),
]


def state_root():
    """Where running mounts are listed."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return Path(base if base.startswith("/") else os.path.expanduser("~/.local/state")) / "mountsync"


def mounts():
    """Every mount that runs: mount point to socket."""
    found = {}
    for file in (state_root() / "running").glob("*.json"):
        try:
            record = json.loads(file.read_bytes())
            if _start_of(record["pid"]) == record["started"]:
                found[record["mountpoint"]] = record["socket"]
        except (OSError, ValueError, KeyError):
            continue  # it has just ended, or is not ours
    return found


def _start_of(pid):
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[19].decode("ascii")


def holder(path):
    """The socket of the mount that holds a path, and the path in it; None for any other path.

    Only text is compared: a folder that hangs is not touched.
    """
    inside = [(place, at) for place, at in mounts().items() if path == place or path.startswith(place + "/")]
    if not inside:
        return None
    place, at = max(inside, key=lambda each: len(each[0]))
    return at, path[len(place) + 1 :]


def state(path):
    """The state of a file; None when it has none."""
    try:
        return os.getxattr(path, "user.mountsync.state").decode("ascii", "replace")
    except OSError:
        return None


def actions(paths):
    """What a menu for these files offers; nothing when one of them is in no mount."""
    if not paths or any(holder(path) is None for path in paths):
        return []
    found = {state(path) for path in paths}
    offered = RESOLVE if found == {"conflict"} else []
    return [*offered, PIN, UNPIN, EVICT]


def tell(path, command, **args):
    """One command about a path, carried out when it returns. Raises OSError, or RuntimeError with why not."""
    held = holder(path)
    if held is None:
        raise RuntimeError(f"{path}: no mount of mountsync is there")
    at, relative = held
    request = {"id": 1, "cmd": command, "args": {"path": relative, **args}}
    with _connected(at) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(_line(connection))
    if "error" in answer:
        raise RuntimeError(answer["error"]["message"])
    return answer["result"]


def _connected(at):
    """A socket; its folder's path may be longer than an address can be."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(os.path.dirname(at), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        made.settimeout(PATIENCE_S)
        made.connect(f"/proc/self/fd/{folder}/{os.path.basename(at)}")
    except BaseException:
        made.close()
        raise
    finally:
        os.close(folder)
    return made


def _line(connection):
    data = b""
    while not data.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError("the mount ended before it answered")
        data += piece
    return data


def carry_out(action, paths):
    """Tells the mount in the background; what goes wrong is shown as a notification."""
    worker = threading.Thread(target=_carry_out, args=(action, list(paths)), daemon=True)
    worker.start()
    return worker


def _carry_out(action, paths):
    for path in paths:
        try:
            tell(path, action.command, **action.args)
        except (OSError, RuntimeError, ValueError) as error:
            notify(f"{action.label}: {error}")


def notify(text):
    """Shows a sentence, where notifications can be shown."""
    command = ["notify-send", "--app-name=mountsync", "mountsync", text]
    try:
        subprocess.run(command, check=False, timeout=10)  # noqa: S603 - a list of words, no shell
    except (OSError, subprocess.TimeoutExpired):
        sys.stderr.write(f"mountsync: {text}\n")  # the file manager's own log


def path_of(file):
    """The local path of a file manager's file; None for what is not on this machine."""
    place = file.get_location()
    return None if place is None else place.get_path()


def decorate(file):
    """Puts the emblem and the words of its state on a file."""
    path = path_of(file)
    if path is None or holder(path) is None:
        return
    found = state(path)
    if found in EMBLEMS:
        file.add_emblem(EMBLEMS[found])
    file.add_string_attribute("mountsync_state", WORDS.get(found, ""))


def menu(make_item, files):
    """Entries for these files; `make_item(name, label, tip, pressed)` makes one of the host's."""
    paths = [path_of(file) for file in files]
    if None in paths:
        return []
    return [
        make_item(
            f"Mountsync::{each.name}", each.label, each.tip, lambda *_, each=each: carry_out(each, paths)
        )
        for each in actions(paths)
    ]
