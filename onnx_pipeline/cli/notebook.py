"""A progress bar in a notebook: one output of the cell, replaced as work goes on; no widgets are needed."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import Progress, TaskID

#: Seconds between two pictures.
_EVERY = 0.1


class NotebookProgress(Progress):
    """rich's bar as rich renders it in notebooks, where its own live display needs ipywidgets."""

    _output: Any = None
    _shown = 0.0

    def start(self) -> None:
        """Add the output to the cell."""
        from IPython import display

        show: Any = display.display  # which has no types
        self._output = show(self, display_id=True)

    def update(self, task_id: TaskID, *args: Any, **kwargs: Any) -> None:
        """Move the bar."""
        super().update(task_id, *args, **kwargs)
        self.refresh()

    def refresh(self) -> None:
        """Replace the output, ten times a second at most."""
        now = time.monotonic()
        if self._output is not None and now - self._shown >= _EVERY:
            self._shown = now
            self._output.update(self)

    def stop(self) -> None:
        """Leave nothing behind."""
        if self._output is not None:
            self._output.update({"text/plain": ""}, raw=True)
            self._output = None
