"""The command line as a whole: its commands, and how one of them is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from onnx_pipeline.cli import (
    check_commands,
    emit_commands,
    explore_commands,
    host_commands,
    report_commands,
    run_commands,
    split_commands,
)
from onnx_pipeline.errors import UsageError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
EXIT_CODES = (
    "Exit codes: 0 success, 2 bad command line, 3 unusable file, 4 infeasible, 5 verification failed, "
    "130 interrupted."
)


def run(arguments: Sequence[str] | None, program: str) -> int:
    """Parse the arguments, run the command and return its exit code.

    Raises
    ------
    UsageError
        For every error that click reports, in one line.
    """
    complete = os.environ.get("_ONNX_PIPELINE_COMPLETE")
    if complete:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, program, "_ONNX_PIPELINE_COMPLETE", complete)
    try:
        with cli.make_context(program, list(sys.argv[1:] if arguments is None else arguments)) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else program
        raise UsageError(error.format_message().rstrip("."), f"see `{command} --help`") from None
    return code if isinstance(code, int) else 0


class Program(click.Group):
    """Commands whose short descriptions are folded instead of cut."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one row per command."""
        rows = [(name, self.commands[name].get_short_help_str(1000)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=Program, context_settings=CONTEXT, invoke_without_command=True, epilog=EXIT_CODES)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.pass_context
def cli(context: click.Context, version: bool) -> None:
    """Split an ONNX model into k pipeline stages with a certified bottleneck."""
    if version:
        from onnx_pipeline import __version__

        click.echo(f"onnx-pipeline {__version__}")
        context.exit()
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


for command in (
    split_commands.split,
    split_commands.profile,
    split_commands.plan,
    emit_commands.emit,
    explore_commands.explore,
    check_commands.verify,
    run_commands.run,
    run_commands.bench,
    check_commands.show,
    report_commands.report,
    host_commands.calibrate,
    host_commands.cache,
):
    cli.add_command(command)
