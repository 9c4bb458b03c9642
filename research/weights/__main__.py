"""Converts weights: `python -m research.weights convert SRC DST --model vision.ResNet50`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from research import command_line
from research.command_line import DONE
from research.errors import UserError

_EXAMPLES = """examples:
  # torchvision's, timm's or Hugging Face's names to our own
  python -m research.weights convert resnet50.safetensors ours.safetensors --model vision.ResNet50
  python -m research.weights convert vit.safetensors ours.npz --model vision.ViT \\
      --model.variant=small --model.num_classes=10
  # ours, or a run's newest checkpoint, to theirs
  python -m research.weights convert runs/resnet resnet.safetensors --to torchvision
  # from a model in several files, by their index
  python -m research.weights convert llama/model.safetensors.index.json llama.safetensors \\
      --model sequence.Llama
  # what is in a file
  python -m research.weights show resnet50.safetensors

A number at the end of --model is the depth: vision.VGG16, vision.DenseNet121. Other settings of
the model are --model.NAME=VALUE. The file's names are found out, or given by --naming:
torchvision, timm, huggingface, or research, which are paths such as params/stem/conv/kernel.
"""


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    arguments, settings = _split_settings(arguments)
    parser = command_line.make_parser(
        "research.weights", "Convert published weights to ours and back, or list them.", _EXAMPLES
    )
    parser.add_argument("command", choices=("convert", "show"))
    parser.add_argument("source", type=Path, metavar="SRC", help="a file, or a run's folder")
    parser.add_argument(
        "target", type=Path, nargs="?", metavar="DST", help="of convert: .safetensors or .npz"
    )
    parser.add_argument(
        "--model", metavar="NAME", help="such as vision.ResNet50; a run has its own"
    )
    parser.add_argument("--naming", help="of SRC; default: that whose names it has")
    parser.add_argument("--to", default="research", help="naming of DST; default research")
    parser.add_argument(
        "--image_shape", type=_shape, metavar="HEIGHT,WIDTH,CHANNELS", help="of the images to come"
    )
    parser.add_argument(
        "--resize_positions", action="store_true", help="of a ViT, to those of --image_shape"
    )
    parser.add_argument(
        "--drop_head", action="store_true", help="initialise a classifier that does not fit"
    )
    command_line.add_data_dir(parser)
    options = parser.parse_args(arguments)
    if options.command == "show":
        return _show(options.source)
    if options.target is None:
        parser.error("convert SRC DST: name the file to write")
    return _convert(options, settings)


def _show(source: Path) -> int:
    from research.engine.progress import table
    from research.weights.files import read_arrays

    arrays = read_arrays(source)
    rows = [(name, str(x.shape), x.dtype.name) for name, x in arrays.items()]
    table(str(source), ("name", "shape", "dtype"), rows)
    print(f"{len(arrays)} arrays, {sum(x.size for x in arrays.values()):,} numbers")
    return DONE


def _convert(options: Any, settings: dict[str, Any]) -> int:
    from research.weights.convert import load, save

    if options.source.is_dir():
        model, variables = _of_run(options, settings)
    else:
        model = _model(options.model, settings)
        variables = load(
            options.source,
            model,
            naming=options.naming,
            image_shape=options.image_shape,
            resize_positions=options.resize_positions,
            drop_head=options.drop_head,
        )
    save(options.target, model, variables, naming=options.to)
    print(f"{options.target}: {type(model).__name__} in the names of {options.to}")
    return DONE


def _of_run(options: Any, settings: dict[str, Any]) -> tuple[Any, Any]:
    """The model of a run and its evaluated variables."""
    from research.engine.restore import load_run

    if options.model is not None or settings:
        raise UserError(f"--model: {options.source} is a run, whose config names its model")
    for name in ("naming", "image_shape", "resize_positions", "drop_head"):
        if getattr(options, name):
            raise UserError(f"--{name}: {options.source} is a run, which is converted as it is")
    loaded = load_run(options.source)
    model = getattr(loaded.objective, "model", None)
    if model is None:
        kind = type(loaded.objective).__name__
        raise UserError(f"{options.source}: {kind} has no single model to convert")
    return model, loaded.variables


def _model(name: str | None, settings: dict[str, Any]) -> Any:
    from research.engine.checks import check
    from research.engine.component import Component, build

    if name is None:
        raise UserError("--model: name the model of the file, such as vision.ResNet50")
    place, number = re.fullmatch(r"(.*?)(\d*)", name).groups()  # type: ignore[union-attr]
    depth = {"depth": int(number)} if number and place.rpartition(".")[2] in _DEEP else {}
    plain = {"name": place if depth else name, **depth, **settings}
    return build(check(plain, Component, "--model"), "--model")


# Models that are called by their depth.
_DEEP = ("CifarResNet", "DenseNet", "ResNet", "VGG", "WideResNet")


def _split_settings(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Arguments without those of the form --model.NAME=VALUE, and these."""
    from research.engine.config_file import parse_value

    rest: list[str] = []
    settings: dict[str, Any] = {}
    for argument in arguments:
        match = re.fullmatch(r"--model\.(\w+)=(.*)", argument)
        if match is None:
            rest.append(argument)
        else:
            settings[match[1]] = parse_value(match[2])
    return rest, settings


def _shape(text: str) -> tuple[int, ...]:
    height, width, channels = map(int, text.split(","))
    return height, width, channels


if __name__ == "__main__":
    command_line.main(run)
