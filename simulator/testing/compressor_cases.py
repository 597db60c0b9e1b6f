"""Compressors as conf/ has them, with changed settings."""

from typing import Any

from omegaconf import OmegaConf

from simulator.compressors.base import Compressor
from simulator.config.composition import CONF
from simulator.config.hydra_versions import instantiate

FOLDER = CONF / "compressor"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "none")

# (name, changed settings) of everything that the battery runs on; a compressor without an entry runs as it is in conf/.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "cast": [{"dtype": "float16"}, {"dtype": "bfloat16"}],
    "qsgd": [
        *({"levels": levels, "bucket_size": None} for levels in (1, 2, 3, 8, 20, 50, 127)),
        {"levels": 8, "bucket_size": 512},
        {"levels": 3, "bucket_size": 7, "wire_dtype": "float64"},
        {"levels": 8, "bucket_size": 64, "unbiased": True, "wire_dtype": None},
    ],
    "random_k": [
        *({"fraction": fraction} for fraction in (0.5, 0.03, 1.0)),
        {"fraction": 0.4, "unbiased": True, "wire_dtype": "float64"},
        {"fraction": 0.7, "wire_dtype": None},
    ],
    "sign": [{"wire_dtype": word} for word in ("float32", "float64", None)],
    "top_k": [
        *({"index_coding": coding} for coding in ("smallest", "int32", "bitmap", "golomb", "auto")),
        {"fraction": 0.004, "index_coding": "golomb"},
        {"fraction": 0.7, "index_coding": "golomb"},
        {"fraction": 1.0},
        {"fraction": 0.2, "wire_dtype": "float64"},
        {"fraction": 0.2, "wire_dtype": None},
    ],
}
CASES = [(name, changes) for name in NAMES for changes in VARIANTS.get(name, [dict[str, Any]()])]
CASE_NAMES = ["-".join([name, *map(str, changes.values())]) for name, changes in CASES]


def build(name: str, **changes: object) -> Compressor:
    """A compressor as ``conf/compressor`` has it, with some settings changed."""
    made: Compressor = instantiate({**OmegaConf.load(FOLDER / f"{name}.yaml"), **changes})
    return made
