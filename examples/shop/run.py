"""The shop in one go: two worker processes and the producer, as one would start them in two terminals."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SITQ = [sys.executable, "-m", "sitq"]
WORKER = [*SITQ, "worker", "tasks:queue", "--queues=default,mails", "--processes=2", "--log-level=warning"]


def main() -> None:
    """Run it in a folder of its own, where `shop.db` will be."""
    here = Path(__file__).parent
    everywhere = {**os.environ, "PYTHONPATH": str(here), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        with subprocess.Popen(WORKER, cwd=folder, env=everywhere) as workers:
            try:
                subprocess.run([sys.executable, here / "produce.py"], cwd=folder, env=everywhere, check=True)
            finally:
                workers.send_signal(signal.SIGTERM)
        print("the workers stopped with exit code", workers.returncode)


if __name__ == "__main__":
    main()
