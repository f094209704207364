"""Hook of the documentation's site (``make site``): scripts from npm, and the network that runs in the browser.

The site serves the scripts itself: its pages load nothing from other hosts. They are fetched once, as npm publishes
them, and must have the hashes that stand here.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from onebit import zoo

BUILD = Path(__file__).resolve().parents[1] / "build"
# Of each package, its hash and the files that the site serves. To renew one: npm view NAME version dist.integrity
SCRIPTS = {
    "onnxruntime-web@1.30.0": (
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"),
    ),
    "tablesort@5.7.1": (
        "sha512-wm+xSponmlN1spiuwGlrvNGoG8fEso+y86OOjS+Pl0Qsje/cOVSfUvELcXILWc8/sgEdY/NGMPo0qhFGyYKnwQ==",
        ("dist/tablesort.min.js", "LICENCE"),
    ),
}
LARGEST = 100_000  # bytes of a packed file: the network is to load, and to run, at once on a phone


def on_files(files: Files, config: Any) -> Files:
    """Add the scripts, and what the page of the browser loads."""
    for package, (integrity, names) in SCRIPTS.items():
        content = packed(package, integrity)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for name in names:
                member = archive.extractfile(f"package/{name}")
                assert member is not None
                target = Path(name).name if Path(name).suffix else f"{package.partition('@')[0]}-{name}.txt"
                files.append(File.generated(config, f"vendor/{target}", content=member.read()))
    for name, content in network().items():
        files.append(File.generated(config, f"browser/{name}", content=content))
    return files


def packed(package: str, integrity: str) -> bytes:
    """Return a package of npm, from ``build/npm`` if it is there.

    Raises:
        PluginError: It has another hash, or npm is missing or fails.
    """
    file = BUILD / "npm" / f"{package.replace('@', '-')}.tgz"
    if not file.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise PluginError("The site needs npm for the scripts of its pages (Debian and Ubuntu: apt install npm).")
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            command = [npm, "pack", package, "--silent", "--pack-destination", folder]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                raise PluginError(f"npm could not fetch {package}: {result.stderr.strip()}")
            (Path(folder) / file.name).replace(file)
    content = file.read_bytes()
    if (found := "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()) != integrity:
        file.unlink()
        raise PluginError(
            f"{package} has the hash {found} instead of {integrity}: it is not what the site is made with."
        )
    return content


def best() -> zoo.Weights:
    """Return the most accurate weights in the package of a small network for CIFAR-10 that have 1 bit each.

    Its activations are real: where they are signs, rounding decides on values that lie on a threshold, and two engines
    differ by more than rounding for one image in a hundred.
    """
    counts = zoo.recorded_counts()
    small = [row for row in zoo.list_weights() if row.shipped and row.dataset == "cifar10" and row.size <= LARGEST]
    fitting = [row for row in small if counts[row.model].binary_parameters and not counts[row.model].binary_macs]
    return max(fitting, key=lambda row: row.metrics["top1"])


def network() -> dict[str, bytes]:
    """Return the files of that network: its export, what a script must know of it, and a picture of each class."""
    from PIL import Image

    row = best()
    model = zoo.load(row.model, weights=row.tag)
    preprocessing = zoo.preprocessing_of(model)
    sample = zoo.sample_images()
    height, width, _ = model.input_shape[1:]
    facts = {
        "model": row.model,
        "top1": row.metrics["top1"],
        "classes": sample.class_names,
        "height": height,
        "width": width,
        **{name: value for name, value in preprocessing.to_dict().items() if name in ("crop", "mean", "std")},
    }
    with tempfile.TemporaryDirectory() as folder:
        exported = zoo.export(model, Path(folder) / "network.onnx")
        found = {"network.onnx": Path(exported.file).read_bytes(), "network.json": json.dumps(facts).encode()}
    for label, name in enumerate(sample.class_names):
        file = io.BytesIO()
        Image.fromarray(sample.images[sample.labels == label][0]).save(file, "PNG")
        found[f"samples/{name}.png"] = file.getvalue()
    return found
