"""The comparisons that the papers are known for, all at one short schedule.

    python benchmarks/ablations.py --data-dir DATA --output RUNS [--epochs 20] [--seeds 1 2 3] [--only TEXT]
                                   [--jobs 2]

Trains one network after the other, or several at once, each as ``onebit train`` does, in a folder of its own: stopped
and started again, it goes on where it was; one that fails does not keep the others from their turn. Whatever is
finished goes into ``benchmarks/ablations.json``, from which ``benchmarks/report.py`` writes ``docs/ablations.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs import number_of_jobs, run_all
from rows import write_rows
from train_shipped import TEACHER

FILE = Path(__file__).with_suffix(".json")

Change = Callable[[Any], Any]
"""Returns the layer to use instead of a layer, or ``None`` to keep it."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A recipe with a change.

    Attributes:
        study: What is compared, the table's first column.
        name: What this one has.
        recipe: Name of the recipe.
        settings: Of the recipe.
        change: What becomes of the network's layers: a name in `changes`.
    """

    study: str
    name: str
    recipe: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    change: str | None = None


IRNET, SIGN, REACT, FTBNN = (
    "IR-Net ResNet-20: what is retained",
    "IR-Net ResNet-20: gradient of the activations' sign",
    "ReActNet-20: from Bi-Real Net, step by step",
    "FTBNN-20: non-linearity",
)
# The papers' larger batches are ImageNet's: of CIFAR-10 they would leave a short schedule too few steps.
BATCH = {"batch_size": 128}
VARIANTS = [
    Variant(IRNET, "neither", "irnet", change="ste_ste"),
    Variant(IRNET, "Libra-PB", "irnet", change="libra_ste"),
    Variant(IRNET, "EDE", "irnet", change="ede_ede"),
    Variant(IRNET, "both", "irnet"),
    Variant(SIGN, "straight-through", "irnet", change="ste"),
    Variant(SIGN, "ApproxSign", "irnet", change="approx"),
    Variant(SIGN, "EDE", "irnet"),
    Variant(REACT, "neither", "reactnet", BATCH, change="no_rsign_no_rprelu"),
    Variant(REACT, "RSign", "reactnet", BATCH, change="no_rprelu"),
    Variant(REACT, "RSign and RPReLU", "reactnet", BATCH),
    Variant(REACT, "and distillation", "reactnet", {"teacher": f"{TEACHER}:cifar10", **BATCH}),
    *(Variant(FTBNN, name, "ftbnn", {"nonlinearity": name, **BATCH}) for name in ("none", "relu", "prelu", "fprelu")),
]


def changes() -> dict[str, Change]:
    """Return the changes by name."""
    import larq as lq
    import tensorflow as tf

    from onebit.quantizers import EDE, ApproxSign, LibraPB, RPReLU, RSign

    @lq.utils.register_keras_custom_object
    class LibraSTE(LibraPB):
        """Libra-PB whose sign has the straight-through gradient, clipped at 1."""

        def sign(self, x: tf.Tensor) -> tf.Tensor:
            return lq.quantizers.ste_sign(x)

    def rebuilt(layer: Any, **new: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), **new})

    def quantizers(kernel: Callable[[], Any] | None, activation: Callable[[], Any]) -> Change:
        def change(layer: Any) -> Any:
            if not isinstance(layer, lq.layers.QuantConv2D) or layer.input_quantizer is None:
                return None
            new = {"kernel_quantizer": kernel()} if kernel else {}
            return rebuilt(layer, input_quantizer=activation(), **new)

        return change

    def without_rprelu(layer: Any) -> Any:
        if not isinstance(layer, RPReLU):
            return None
        start = tf.keras.initializers.Constant(0.25)
        return tf.keras.layers.PReLU(start, shared_axes=[1, 2], name=layer.name)

    def without_both(layer: Any) -> Any:
        if isinstance(getattr(layer, "input_quantizer", None), RSign):
            return rebuilt(layer, input_quantizer=ApproxSign())
        return without_rprelu(layer)

    ste = lq.quantizers.SteSign
    return {
        "ste_ste": quantizers(ste, ste),
        "libra_ste": quantizers(LibraSTE, ste),
        "ede_ede": quantizers(EDE, EDE),
        "ste": quantizers(None, ste),
        "approx": quantizers(None, ApproxSign),
        "no_rsign_no_rprelu": without_both,
        "no_rprelu": without_rprelu,
    }


def changed(recipe: Any, name: str) -> Any:
    """Return a recipe whose networks have another quantizer or activation."""
    import tensorflow as tf

    change = changes()[name]

    def stage_of(stage: Any) -> Any:
        def build(classes: int, shape: tuple[int, ...]) -> tf.keras.Model:
            model = stage.build(classes, shape)
            return tf.keras.models.clone_model(
                model, clone_function=lambda layer: change(layer) or type(layer).from_config(layer.get_config())
            )

        return dataclasses.replace(stage, build=build)

    return dataclasses.replace(
        recipe, stages=[stage_of(each) for each in recipe.stages], settings={**recipe.settings, "change": name}
    )


def train(variant: Variant, folder: Path, data_dir: str | None, epochs: int, seed: int, limit: int | None) -> None:
    """Run one variant to its end."""
    from onebit import recipes

    recipe = recipes.get_recipe(variant.recipe, epochs=epochs, **variant.settings)
    if variant.change:
        recipe = changed(recipe, variant.change)
    recipes.train(recipe, folder, data_dir=data_dir, seed=seed, limit=limit)


def collect(output: Path, epochs: int, seeds: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return earlier figures of this length, and those of all runs that are finished, in the order of the studies."""
    found = {(row["study"], row["variant"], row["seed"]): row for row in rows if row["epochs"] == epochs}
    for number, variant in enumerate(VARIANTS):
        for seed in seeds:
            record = folder_of(output, number, epochs, seed, None) / "record.json"
            if record.exists():
                run = json.loads(record.read_text(encoding="utf-8"))
                found[variant.study, variant.name, seed] = {
                    "study": variant.study,
                    "variant": variant.name,
                    "seed": seed,
                    "epochs": epochs,
                    "top1": round(run["test"]["top1"], 2),
                    "seconds": run["seconds"],
                }
    places = {(variant.study, variant.name): place for place, variant in enumerate(VARIANTS)}
    return [found[key] for key in sorted(found, key=lambda key: (places[key[:2]], key[2]))]


def folder_of(output: Path, number: int, epochs: int, seed: int, limit: int | None) -> Path:
    """Return the folder of a run; a variant that two studies share has one."""
    same = [(each.recipe, each.settings, each.change) for each in VARIANTS]
    first = same.index(same[number])
    parts = (VARIANTS[first].recipe, first, epochs, seed, *([limit] if limit else []))
    return output / "-".join(map(str, parts))


def record(options: argparse.Namespace) -> None:
    """Write the figures of whatever is finished; a trial on some of the images has none."""
    if options.limit is None:
        before = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []
        write_rows(FILE, collect(options.output, options.epochs, options.seeds, before))


def main() -> None:
    """Train what is not finished, one process for each run, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where TensorFlow Datasets finds CIFAR-10")
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--epochs", type=int, default=20, help="of each stage (default: 20)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="(default: 1)")
    parser.add_argument("--only", default="", help="what has this in 'study: variant'")
    parser.add_argument("--limit", type=int, help="so many images only, for a trial; records nothing")
    parser.add_argument("--jobs", type=number_of_jobs, default=1, help="so many at once (default: 1)")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        folder = folder_of(options.output, options.run, options.epochs, options.seeds[0], options.limit)
        train(VARIANTS[options.run], folder, options.data_dir, options.epochs, options.seeds[0], options.limit)
        return
    commands = {}
    for seed in options.seeds:
        for number, variant in enumerate(VARIANTS):
            folder = folder_of(options.output, number, options.epochs, seed, options.limit)
            if options.only in f"{variant.study}: {variant.name}" and not (folder / "record.json").exists():
                same = ["--epochs", options.epochs, "--output", options.output, "--seeds", seed, "--run", number]
                given = [("--data-dir", options.data_dir), ("--limit", options.limit)]
                same += [word for pair in given if pair[1] is not None for word in pair]
                print(f"{folder.name} is {variant.study}: {variant.name}, seed {seed}", flush=True)
                # A process each: TensorFlow keeps what one training made until the process ends.
                commands[folder.name] = [sys.executable, __file__, *map(str, same)]
    failed = 0
    for _, succeeded in run_all(commands, options.jobs, options.output):
        failed += not succeeded
        record(options)
    record(options)
    sys.exit(f"{failed} runs failed." if failed else 0)


if __name__ == "__main__":
    main()
