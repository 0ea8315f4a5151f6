"""Output files: complete or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_pipeline.files.atomic import new_file


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files have no paths here")
def test_a_link_to_an_open_file_is_written_through(tmp_path: Path) -> None:
    """As /dev/stdout is one, also where it is redirected to a file: the link itself must stay."""
    link = tmp_path / "stdout"
    with (tmp_path / "redirected").open("w") as target:
        link.symlink_to(f"/proc/self/fd/{target.fileno()}")
        for output in (link, Path(f"/proc/self/fd/{target.fileno()}")):
            with new_file(output) as temporary:
                temporary.write_text("text", encoding="utf-8")
    assert link.is_symlink()
    assert (tmp_path / "redirected").read_text(encoding="utf-8") == "text"
