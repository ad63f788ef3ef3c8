"""Certificates that sign themselves, for servers of this machine."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


def certificate(folder: Path) -> Path:
    """A file with a key and a certificate of 127.0.0.1; the test is skipped where none can be made."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not there")
    key, cert, both = (folder / name for name in ("key.pem", "cert.pem", "both.pem"))
    words = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        ["openssl", *words.split(), "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=60
    )
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return both


def server_context(both: Path, protocol: str) -> ssl.SSLContext:
    """What a server of `protocol` (a name of ALPN) shows to its clients."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(both)
    context.set_alpn_protocols([protocol])
    return context
