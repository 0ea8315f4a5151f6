"""The bar that people see while something works: its step, the time spent and the time left."""

from __future__ import annotations

import math
from typing import TextIO

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from onnx_pipeline.cli.notebook import NotebookProgress
from onnx_pipeline.cli.phases import Course

BAR_WIDTH = 16


class _Step(ProgressColumn):
    def __init__(self, course: Course) -> None:
        super().__init__(Column(no_wrap=True, min_width=course.width))
        self._course = course

    def render(self, _task: Task) -> Text:
        """Return the step and its name."""
        return Text(self._course.step)


class _Done(ProgressColumn):
    def __init__(self, course: Course) -> None:
        super().__init__(Column(no_wrap=True))
        self._course = course

    def render(self, _task: Task) -> ProgressBar:
        """Return the share of the time that is over."""
        return ProgressBar(1.0, self._course.share(), width=BAR_WIDTH)


class _Time(ProgressColumn):
    def __init__(self, course: Course) -> None:
        super().__init__(Column(no_wrap=True))
        self._course = course

    def render(self, task: Task) -> Text:
        """Return the time since the command began, and what it may still take."""
        left = self._course.left()
        rest = f", {_clock(left)} left" if math.isfinite(left) else ""
        return Text(f"{_clock(task.elapsed or 0.0)}{rest}", style="progress.elapsed")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Bar:
    """One bar for a whole command.

    Parameters
    ----------
    course : Course
        Where the command is; it is asked whenever the bar is drawn.
    stream : text file
    notebook : bool
        Draw it in the cell that is running; the stream gets what is printed.
    """

    def __init__(self, course: Course, stream: TextIO, notebook: bool = False) -> None:
        message = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
        columns = (_Step(course), _Done(course), _Time(course), message)
        self._course = course
        kind = NotebookProgress if notebook else Progress
        self._progress = kind(*columns, console=Console(file=stream, force_jupyter=False), transient=True)
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def move(self, phase: str, fraction: float | None, message: str) -> None:
        """Show another phase, share or message; an empty one leaves that of the same phase."""
        stays = not message and phase == self._course.phase
        self._course.move(phase, fraction)
        self._progress.update(self._task, description=None if stays else message)

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bar away."""
        self._progress.stop()
