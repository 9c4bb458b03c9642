"""Writes what a run's objective generates: `python -m research.generate --workdir DIR`."""

import inspect
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from research import command_line
from research.command_line import DONE
from research.errors import UserError
from research.evaluate import add_step
from research.suggestion import did_you_mean

TEXTS = str | tuple[str, ...]

_EXAMPLES = """examples:
  python -m research.generate --workdir runs/vae --output samples/ --num_samples=100
  python -m research.generate --workdir runs/gpt --output samples/ --prompt="ROMEO:" \\
      --temperature=0.8 --top_k=40
  python -m research.generate --workdir runs/gpt --stream --prompt="ROMEO:" --top_p=0.9 \\
      --stop="('JULIET',)"
  # several prompts at once, three samples of each
  python -m research.generate --workdir runs/gpt --output samples/ --num_samples=3 \\
      --prompt="ROMEO:" --prompt="JULIET:"
  # the likeliest text that a beam finds
  python -m research.generate --workdir runs/gpt --output samples/ --prompt="ROMEO:" \\
      --num_beams=4 --length_penalty=1 --max_new_tokens=100
  python -m research.generate --workdir runs/translator --output samples/ \\
      --prompt="A man rides a red bike.\\nTwo dogs run."

Options other than those below are the objective's own; --list names them. Those of texts are
  --prompt          \\n in it is a new line; a language model takes several, each behind a
                    --prompt of its own, a translator a text a line
  --max_new_tokens  the most that are written
  --stop            strings before the first of which a text ends; it also ends at the objective's
                    end_token
  --temperature, --top_k, --top_p, --min_p, --repetition_penalty
                    how tokens are drawn: of a language model the default, at a temperature
                    of 1; 0 takes the most likely one
  --num_beams, --length_penalty
                    a beam search for the likeliest text: of a translator the default
"""


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = command_line.make_parser(
        "research.generate",
        "Generate from a run: images as PNG grids, texts as .txt, music as .mid and .wav.",
        _EXAMPLES,
    )
    parser.add_argument("--workdir", type=Path, required=True, help="the run's folder")
    parser.add_argument("--output", type=Path, help="folder for what is generated")
    add_step(parser)
    command_line.add_data_dir(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the samples; default: 0")
    parser.add_argument("--stream", action="store_true", help="print one text while it is written")
    parser.add_argument("--list", action="store_true", help="list the objective's options and exit")
    options, rest = parser.parse_known_args(arguments)

    from research.engine.objective import HasGenerate, HasStream
    from research.engine.restore import load_run, read_experiment

    experiment = read_experiment(options.workdir)
    constructor: Any = experiment.objective.constructor
    if not issubclass(constructor, HasGenerate):
        raise UserError(f"{options.workdir}: {experiment.objective.path} does not generate")
    method = constructor.generate
    if options.stream:
        if not issubclass(constructor, HasStream):
            raise UserError(
                f"--stream: {experiment.objective.path} does not stream; leave it out and name an "
                "--output"
            )
        method = constructor.stream
    parameters = _options_of(method)
    if options.list:
        for name, parameter in parameters.items():
            print(f"--{name}={parameter.default!r}")
        return DONE
    if options.output is None and not options.stream:
        raise UserError("--output: name a folder for what is generated")
    chosen = _parse(rest, parameters, typing.get_type_hints(method))
    command_line.start_jax()

    import jax

    from research.engine.display import Text
    from research.engine.draw import save_displays

    loaded = load_run(options.workdir, options.step)
    objective: Any = loaded.objective
    trained = (loaded.params, loaded.collections, jax.random.key(options.seed))
    if options.stream:
        displays = {"sample": Text([_print(objective.stream(*trained, **chosen))])}
        if options.output is None:
            return DONE
    else:
        displays = objective.generate(*trained, **chosen)
    for path in save_displays(options.output, displays):
        print(path)
    return DONE


def _print(texts: Iterator[str]) -> str:
    """The last of the texts, each of which begins with what is printed of the one before."""
    printed = ""
    for text in texts:
        if not text.startswith(printed):  # some tokenizers join again what they took apart
            print()
            printed = ""
        print(text[len(printed) :], end="", flush=True)
        printed = text
    print()
    return printed


def _options_of(generate: Any) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(generate).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def _parse(
    arguments: Sequence[str], parameters: dict[str, inspect.Parameter], hints: dict[str, Any]
) -> dict[str, Any]:
    """--name=value or --name value pairs, each of the type its option declares. One that takes a
    text or several may come again."""
    from research.engine.checks import check
    from research.engine.config import parse_value

    chosen: dict[str, Any] = {}
    remaining = iter(arguments)
    for argument in remaining:
        match = re.fullmatch(r"--(\w+)(?:=(.*))?", argument, re.DOTALL)
        name = match[1] if match else argument
        if match is None or name not in parameters:
            raise UserError(f"{argument}: no such option{did_you_mean(name, parameters)}")
        text = match[2] if match[2] is not None else next(remaining, None)
        if text is None:
            raise UserError(f"{argument}: give it a value, {argument}=VALUE")
        # A prompt such as 1 is text, and \n in it is a new line.
        is_text = hints[name] in (str, TEXTS)
        value = text.replace("\\n", "\n") if is_text else parse_value(text)
        value = check(value, hints[name], f"--{name}")
        if name not in chosen:
            chosen[name] = value
        elif hints[name] == TEXTS:
            before = chosen[name]
            chosen[name] = (*(before if isinstance(before, tuple) else (before,)), value)
        else:
            raise UserError(f"--{name}: is there twice, and takes one value here")
    return chosen


if __name__ == "__main__":
    command_line.main(run)
