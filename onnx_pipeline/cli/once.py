"""Commands that refuse an option which is given twice with different values, instead of taking the last."""

from __future__ import annotations

from collections.abc import Iterator

import click


class Command(click.Command):
    """A command whose options each have one value; repeatable ones collect theirs as ever."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, then once more with every option collecting its values, and compare these."""
        given = list(args)
        rest = super().parse_args(ctx, args)
        options = [param for param in self.params if isinstance(param, click.Option) and not param.multiple]
        twins = {option: list(_twins(option, f"p{i}_")) for i, option in enumerate(options)}
        others = [param for param in self.params if param not in twins]
        shadow = click.Command(
            self.name,
            params=[*(twin for each in twins.values() for twin in each), *map(_plain, others)],
            add_help_option=False,
        )
        found = shadow.make_context(self.name, given, resilient_parsing=True).params
        for option, pair in twins.items():
            _compare(option, [found.get(str(twin.name)) for twin in pair], ctx)
        return rest


def _twins(option: click.Option, name: str) -> Iterator[click.Option]:
    """Yield an option that collects the values of another; of a flag, one per answer that counts it."""
    if option.is_flag or option.count:
        for i, flags in enumerate((option.opts, option.secondary_opts)):
            if flags:
                yield click.Option([*flags, f"{name}{i}"], count=True)
    else:
        kind = click.UNPROCESSED
        yield click.Option([*option.opts, name], multiple=True, nargs=option.nargs, type=kind)


def _plain(param: click.Parameter) -> click.Parameter:
    """Return a parameter that takes the same words and does nothing with them."""
    if isinstance(param, click.Option):
        return click.Option(
            [*param.opts, str(param.name)], multiple=True, nargs=param.nargs, type=click.UNPROCESSED
        )
    return click.Argument([str(param.name)], nargs=param.nargs, required=False, type=click.UNPROCESSED)


def _compare(option: click.Option, found: list[object], ctx: click.Context) -> None:
    if option.is_flag:
        if len(found) == 2 and all(found):
            flags = " and ".join((*option.opts, *option.secondary_opts))
            raise click.UsageError(f"{flags} contradict each other", ctx)
        return
    values = found[0] if isinstance(found[0], tuple) else ()
    for value in values:
        if value != values[0]:
            flag = max(option.opts, key=len)
            raise click.UsageError(f"{flag} is given as both {values[0]!r} and {value!r}", ctx)
