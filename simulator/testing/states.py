"""What an algorithm's docstring says of its state: the ``State:`` line, see simulator/algorithms/base.py."""

import re
import sys
from collections.abc import Mapping

from torch import Tensor

from simulator.algorithms.base import Algorithm

_LINE = re.compile(r"^ *State: (.*?)(?=^ *(?:Needs|Sends|Source|Departures|Shapes|Args):|^ *$|\Z)", re.M | re.S)
_ENTRY = re.compile(r"``([\w/]+)``\s+\[([^\]]+)\]")


def stated(kind: type[Algorithm]) -> tuple[dict[str, str], dict[str, str]]:
    """The keys and shapes of the ``State:`` line of a class, of its module, or of the nearest base that has one.

    Returns:
        The keys that are always there, and those that only some settings have.

    Raises:
        AssertionError: when there is none.
    """
    for base in kind.__mro__:
        for text in (base.__doc__ or "", sys.modules[base.__module__].__doc__ or ""):
            found = _LINE.search(text)
            if found and base is not Algorithm:
                always, *sometimes = found[1].split(";")
                return dict(_ENTRY.findall(always)), dict(_ENTRY.findall(";".join(sometimes)))
    raise AssertionError(f"neither {kind.__name__} nor its module has a State: line in its docstring")


def check_shapes(state: Mapping[str, Tensor], kind: type[Algorithm], known: Mapping[str, int]) -> None:
    """Checks keys and shapes of a state against the docstring.

    Args:
        state: to be checked.
        kind: the algorithm's class.
        known: what letters stand for. Any other letter is one number in all shapes.

    Raises:
        AssertionError: naming the key.
    """
    always, sometimes = stated(kind)
    expected, letters = {**sometimes, **always}, dict(known)
    for key in set(always) - set(state):
        raise AssertionError(f"State: says {key} is always there, and the state has no such key")
    for key in set(state) - set(expected):
        raise AssertionError(f"the state has a key {key} that State: does not name")
    dims = []
    for key, rows in state.items():
        names = [name.strip() for name in expected[key].split(",")]
        assert len(names) == rows.dim(), f"{key}: State: says [{expected[key]}], and its shape is {tuple(rows.shape)}"
        dims += [(name, size, key) for name, size in zip(names, rows.shape, strict=True)]
    for name, size, key in dims:
        if name.isidentifier():
            assert letters.setdefault(name, size) == size, f"{key}: {name} is {size}, and elsewhere {letters[name]}"
    for name, size, key in dims:
        if not name.isidentifier():
            value = eval(re.sub(r"(\w) (?=\w)", r"\1*", name), {}, letters)  # "2 D" means 2*D
            assert value == size, f"{key}: {name} is {value} by State:, and {size} in the state"
