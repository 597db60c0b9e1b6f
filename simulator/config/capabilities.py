"""The algorithms that can do what another one cannot, for the line that refuses it."""

from functools import cache

from simulator.config.composition import CONF


@cache
def algorithms_that(capability: str) -> str:
    """The words of ``conf/algorithm`` whose class has the capability: ``dsgd, qg_sgp or sgp``.

    Args:
        capability: a Boolean attribute of :class:`simulator.algorithms.base.Algorithm`.
    """
    from hydra.utils import get_class
    from omegaconf import OmegaConf

    files = sorted((CONF / "algorithm").glob("*.yaml"))
    targets = {file.stem: OmegaConf.select(OmegaConf.load(file), "_target_") for file in files}
    *first, last = [name for name, target in targets.items() if getattr(get_class(target), capability)]
    return f"{', '.join(first)} or {last}" if first else last
