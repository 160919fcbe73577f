"""The command line: verbs that only parse, call the library, and print.

Exit codes: 0 done; 1 done, with failures shown; 2 nothing done, the request was wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

import diarbench
from diarbench.cli import cards, compare, compress, corpora, count, data, measure, report, run, score, timeline
from diarbench.errors import DiarbenchError

app = typer.Typer(
    name="diarbench",
    help="Benchmarks and leaderboards for speaker diarization: what does making a system smaller or faster cost, "
    "and what does it buy?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("score")(score.score)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("timeline")(timeline.timeline)
app.command("count")(count.count)
app.command("compress")(compress.compress)
app.command("measure")(measure.measure)
app.command("list")(cards.list_cards)
app.command("check")(cards.check)
app.add_typer(cards.new_app, name="new")
app.add_typer(data.data_app, name="data")
data.data_app.command("list")(corpora.list_data)
data.data_app.command("get")(corpora.get)
data.data_app.command("verify")(corpora.verify)
data.data_app.command("stats")(corpora.stats)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"diarbench {diarbench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of all verbs."""


def main() -> None:
    """Run the command line; a wrong request is one line on standard error and exit code 2."""
    # Not app(...): that prints a wrong option in four lines, and takes Ctrl-C and closed pipes for itself.
    command = typer.main.get_command(app)
    try:
        with command.make_context("diarbench", spread(sys.argv[1:])) as context:
            command.invoke(context)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except _USAGE_ERROR as error:
        sys.stderr.write(_usage(error))
        sys.exit(2)
    except DiarbenchError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; what is done is kept: the same command goes on from here\n")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`diarbench list | head`); nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)


# Typer may bring click along or import it; either way what it raises for wrong options is its BadParameter's parent.
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]


def _usage(error: Any) -> str:
    """What is wrong with options, in a line; the help as it is, where a verb that needs one has no argument."""
    context = error.ctx
    if context is not None and error.message == context.get_help():
        return f"{error.message}\n"
    text = " ".join(error.format_message().split()).removesuffix(".")
    verb = [word for word in sys.argv[1:2] if not word.startswith("-")]
    path = context.command_path if context is not None else " ".join(["diarbench", *verb])
    end = "" if text.endswith("?") else ";"
    return f"error: {text[:1].lower()}{text[1:]}{end} `{path} --help` shows what it takes\n"


# Options of verbs that take files of turns, with several words, so that a shell's wildcard works: -r ref/*.rttm
_SPREADING = {"-r", "--reference", "-y", "--hypothesis", "-u", "--uem", "--recording"}


def spread(arguments: Sequence[str]) -> list[str]:
    """`score -r a b -y c` as `score -r a -r b -y c`.

    >>> spread(["score", "-r", "a.rttm", "b.rttm", "-y", "c"])
    ['score', '-r', 'a.rttm', '-r', 'b.rttm', '-y', 'c']
    >>> spread(["compare", "-r", "a.rttm", "b.rttm", "--system", "A=c"])
    ['compare', '-r', 'a.rttm', '-r', 'b.rttm', '--system', 'A=c']
    """
    if not arguments or arguments[0] not in ("score", "compare", "timeline"):
        return list(arguments)
    result: list[str] = []
    option, taken = "", 0
    for word in arguments:
        if word.startswith("-") and word != "-":
            option, taken = word, 0
            result.append(word)
            continue
        if option in _SPREADING:
            if taken:
                result.append(option)
            taken += 1
        result.append(word)
    return result
