"""Commands that refuse an option which is given twice with different values, instead of taking the last."""

from __future__ import annotations

from typing import Any

import click


class Command(click.Command):
    """A command whose options each have one value; repeatable ones collect theirs as ever."""

    def make_parser(self, ctx: click.Context) -> Any:
        """Return click's parser, which compares what it would overwrite."""
        parser: Any = super().make_parser(ctx)
        options = {id(option): option for option in (*parser._long_opt.values(), *parser._short_opt.values())}
        for option in options.values():
            if option.action in ("store", "store_const"):
                _compare(option, ctx)
        return parser


def _compare(option: Any, ctx: click.Context) -> None:
    process = option.process

    def once(value: Any, state: Any) -> None:
        before = state.opts.get(option.dest, _NOTHING)
        process(value, state)
        after = state.opts[option.dest]
        if before is _NOTHING or before == after:
            return
        if option.action == "store":
            flag = max(option.obj.opts, key=len)
            raise click.UsageError(f"{flag} is given as both {before!r} and {after!r}", ctx)
        flags = " and ".join((*option.obj.opts, *option.obj.secondary_opts))
        raise click.UsageError(f"{flags} contradict each other", ctx)

    option.process = once


_NOTHING = object()
