"""What differs between Hydra 1.3 and 1.4. Configurations are trusted: they name classes of the user's own as well."""

import warnings
from typing import Any


def version_base() -> dict[str, str]:
    """Keyword arguments that ask for the behaviour of Hydra 1.3; 1.4 has it and warns when it is asked."""
    import hydra

    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


def trust_callbacks() -> None:
    """Leaves out the warning of Hydra 1.4 that it builds callbacks by the names of their classes."""
    warnings.filterwarnings("ignore", message=r"hydra\.utils\.instantiate\(\) resolved _target_=", category=UserWarning)


def store(name: str, node: Any) -> None:
    """Puts a node into Hydra's store, in the place of an earlier one, which 1.4 wants to be said."""
    import hydra
    from hydra.core.config_store import ConfigStore

    replaces: dict[str, Any] = {} if hydra.__version__.startswith("1.3.") else {"replace": True}
    ConfigStore.instance().store(name=name, node=node, **replaces)


def instantiate(config: Any, **further: Any) -> Any:
    """``hydra.utils.instantiate``, which from 1.4 on must be told that the configuration is trusted."""
    import hydra.utils

    trusted = getattr(hydra.utils, "UNSAFE_DISABLE_EXECUTION_CHECKS", None)
    if trusted is not None:
        further["_execution_whitelist_"] = trusted
    return hydra.utils.instantiate(config, **further)
