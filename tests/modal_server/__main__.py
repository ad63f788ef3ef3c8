"""`scripts/modal-server DIR [--port N] [--volume NAME]`: serves until it is interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from tests.modal_server.server import ModalServer


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="modal-server",
        description="A local server that speaks Modal's volume protocol. It prints the environment that "
        "makes mountsync and Modal's own command line use it, and serves until Ctrl-C.",
    )
    parser.add_argument("directory", type=Path, help="where volumes and blocks are kept")
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    parser.add_argument("--volume", default="data", help="made when missing (default: data)")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ModalServer(arguments.directory, port=arguments.port) as server:
        server.volume(arguments.volume)
        for name, value in server.environment(str(arguments.directory / "modal.toml")).items():
            print(f"export {name}={value}", flush=True)
        print(f"# serving {arguments.directory}; Ctrl-C ends it", file=sys.stderr, flush=True)
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
