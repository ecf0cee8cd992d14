"""A module whose import starts a thread, so that a process cannot be forked safely."""

import threading

threading.Thread(target=threading.Event().wait, daemon=True).start()
