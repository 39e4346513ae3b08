"""A process that prepares data: ``python -m tl_jax.data.prepare.worker DESCRIPTOR``.

It reads a job and then tasks from the descriptor, and answers each with None or its error. It ends
when the other side closes.
"""

from __future__ import annotations

import multiprocessing.connection
import signal
import sys
import traceback
from typing import Any

from tl_jax.data.prepare.maker import Maker, rare_collection
from tl_jax.errors import TlJaxError


def main(descriptor: int) -> None:
    """Do tasks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process ends it
    connection: Any = multiprocessing.connection.Connection(descriptor)
    try:
        job = connection.recv()
        maker: Maker | None = None
        with rare_collection():
            while True:
                task = connection.recv()
                try:
                    maker = maker or Maker(job)
                    maker.do(task)
                except TlJaxError as error:
                    connection.send(error)
                except Exception as error:
                    # Not every error can be sent; what it says can.
                    connection.send(RuntimeError("".join(traceback.format_exception(error))))
                else:
                    connection.send(None)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]))
