"""Child processes of a command: started with their own log, watched by the JSON lines they write, ended politely."""

import json
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

INTERRUPT_TIMEOUT_S = 20.0
LOG_TAIL_LINES = 12


class ChildProcess:
    """One running child. What it writes goes into a log file; JSON lines are kept as its newest facts."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log_folder: Path) -> None:
        """Start ``command``."""
        self.name = name
        self.facts: dict[str, Any] = {}
        self.log_path = log_folder / f"{name}.log"
        # A child of a background job would ignore SIGINT; each program restores the default itself.
        self._process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"log of {name}", daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C does."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGINT)

    def wait_until_ended(self, timeout_s: float = INTERRUPT_TIMEOUT_S) -> None:
        """Wait for its end; kill it when that takes too long."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _read(self) -> None:
        output: IO[str] | None = self._process.stdout
        if output is None:
            return
        with output, self.log_path.open("w", encoding="utf-8") as log:
            for line in output:
                self._keep(line, log)

    def _keep(self, line: str, log: IO[str]) -> None:
        if line.startswith("{"):
            try:
                self.facts.update(json.loads(line))
                return
            except ValueError:
                pass
        log.write(line)
        log.flush()
