"""The Hugging Face hub, as far as models and data have the same question: may it be asked, and does it answer?"""

from __future__ import annotations

import os
import socket
import threading
from urllib.parse import urlsplit

WAIT = 3.0  # seconds to find out whether there is a network at all; the hub's own clients try for minutes


def forbidden() -> bool:
    """Whether HF_HUB_OFFLINE keeps everybody off the network, read as the hub's own client reads it."""
    told = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return told.upper() in ("1", "TRUE", "YES", "ON")


def answers() -> bool:
    """Whether the hub, or the proxy before it, takes a connection within `WAIT` seconds; never where forbidden."""
    if forbidden():
        return False
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    url = urlsplit(proxy or os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = url.port or (80 if url.scheme == "http" else 443)
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((url.hostname or "", port), timeout=WAIT).close()
            answered.set()
        except OSError:
            pass

    # In a thread, because looking the name up may take longer than any timeout.
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(WAIT)
    return answered.is_set()
