"""What the commands share: arguments, start-up, and how they end."""

import argparse
import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, final

from research.errors import NonFiniteError, UserError
from research.suggestion import did_you_mean

DONE, UNEXPECTED, MISTAKE, NON_FINITE, STOPPED = 0, 1, 2, 3, 75

EXIT_CODES = """exit codes:
  0   done
  1   unexpected error, with its traceback
  2   something you can mend (config, usage, data, disk), with one message
  3   the loss or a gradient became NaN or infinite
  75  stopped by SIGTERM, SIGUSR2 or Ctrl-C after saving; the same command goes on
"""


@final
class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are UserErrors, with a did-you-mean for options."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The options; UserError for an unknown one, before anything else is missed."""
        for argument in args or ():
            option = argument.partition("=")[0]
            if option.startswith("--") and option not in self._option_string_actions:
                self.error(f"{option}: no such option{self._meant(option)}")
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}\n`{self.prog} --help` shows every option and examples.")

    def _meant(self, option: str) -> str:
        known = self._option_string_actions
        if "--config" not in known:
            return did_you_mean(option, known)
        setting = f"; a setting of the experiment is written --config.{option.lstrip('-')}=VALUE"
        return did_you_mean(option, known, listed=True) or setting


class _SetDataDir(argparse.Action):
    """Sets RESEARCH_DATA_DIR: what a tokenizer in an objective reads is found there, too."""

    def __call__(self, _parser: Any, _namespace: Any, value: Any, _option: Any = None) -> None:
        os.environ["RESEARCH_DATA_DIR"] = value


def make_parser(module: str, description: str, epilog: str = "") -> Parser:
    """A parser of `python -m MODULE`, whose help ends with the exit codes."""
    return Parser(
        prog=f"python -m {module}",
        description=description,
        epilog=f"{epilog}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_config(parser: Parser) -> None:
    """Adds --config; `split_overrides` takes what belongs to it."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE.py[:VARIANT]",
        help="the experiment; --config.PATH=VALUE sets one of its settings, such as "
        "--config.optimizer.learning_rate=3e-4, --config.data.batch_size=32, "
        "--config.duration='2 epochs' or --config.objective.model.channels.0=8; "
        "`python -m research.train --settings` lists them all",
    )


def add_data_dir(parser: Parser) -> None:
    """Adds --data_dir."""
    parser.add_argument(
        "--data_dir",
        action=_SetDataDir,
        metavar="DIR",
        help="where data sets are; default: RESEARCH_DATA_DIR, else ~/research_data",
    )


def add_distributed(parser: Parser) -> None:
    """Adds what joins several processes into one run."""
    group = parser.add_argument_group("several processes")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="find the other processes from the environment (Slurm, TPU pods, MPI)",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    group.add_argument("--num_processes", type=int)
    group.add_argument("--process_id", type=int)


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Arguments without those of the form --config.PATH=VALUE or --config.PATH VALUE, and these.

    Raises:
      UserError: for an override without a path or a value.
    """
    rest: list[str] = []
    overrides: list[tuple[str, str]] = []
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("--config."):
            rest.append(argument)
            continue
        path, equals, value = argument.removeprefix("--config.").partition("=")
        if not path:
            raise UserError(f"{argument}: write the path of a setting, --config.PATH=VALUE")
        if not equals:
            following = next(remaining, None)
            if following is None or following.startswith("--"):
                raise UserError(f"--config.{path}: give it a value, --config.{path}=VALUE")
            value = following
        overrides.append((path, value))
    return rest, overrides


def start_jax(arguments: argparse.Namespace | None = None) -> None:
    """Configures JAX: a persistent compilation cache, and other processes where there are any."""
    import jax

    from research.data.cache import cache_dir

    # Unset by the user, programs that took a moment to compile are kept between runs.
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    # JAX's own service would swallow a SIGTERM that comes before the first step.
    jax.config.update("jax_enable_preemption_service", False)
    if arguments is None:
        return
    given = (arguments.coordinator, arguments.num_processes, arguments.process_id)
    if arguments.distributed:
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise UserError(
                f"--distributed: the environment does not name the other processes ({error}); "
                "give --coordinator, --num_processes and --process_id instead"
            ) from error
    elif given != (None, None, None):
        if None in given:
            raise UserError("--coordinator, --num_processes and --process_id go together")
        if not re.fullmatch(r".+:\d+", arguments.coordinator):
            raise UserError(f"--coordinator={arguments.coordinator}: write HOST:PORT")
        if not 0 <= arguments.process_id < arguments.num_processes:
            raise UserError(
                f"--process_id={arguments.process_id}: must be at least 0 and below "
                f"--num_processes={arguments.num_processes}"
            )
        jax.distributed.initialize(*given)


def main(command: Callable[[Sequence[str]], int]) -> None:
    """Runs a command on the process's arguments and exits with its code."""
    code = UNEXPECTED
    try:
        code = command(sys.argv[1:])
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        code = MISTAKE
    except NonFiniteError as error:
        print(f"Stopped: {error}", file=sys.stderr)
        code = NON_FINITE
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    except Exception:
        if not _one_of_several():
            raise
        traceback.print_exc()
    if code not in (DONE, STOPPED) and _one_of_several():
        # JAX would wait for the other processes, which do not know yet: minutes, or for ever.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _one_of_several() -> bool:
    """Whether JAX has joined this process with others."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()
