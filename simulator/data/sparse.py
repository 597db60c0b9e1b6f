"""Sparse features as torch CSR tensors [S, F], and their rows; scipy does the operations that torch lacks."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from simulator.arrays import IntArray
from simulator.uploads import upload

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def is_sparse(features: Tensor) -> bool:
    """Whether ``features`` is a CSR tensor."""
    return features.layout == torch.sparse_csr


def to_torch(matrix: "csr_matrix", dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """A scipy CSR matrix as a CSR tensor."""
    matrix.sort_indices()
    with warnings.catch_warnings():
        # torch warns once per process that CSR tensors are in beta; only products with them are used here.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            upload(matrix.indptr.astype(np.int64), torch.device(device)),
            upload(matrix.indices.astype(np.int64), torch.device(device)),
            upload(matrix.data, torch.device(device), dtype),
            size=matrix.shape,
            check_invariants=False,
        )


def to_scipy(features: Tensor) -> "csr_matrix":
    """A CSR tensor as a scipy CSR matrix on the CPU."""
    from scipy.sparse import csr_matrix

    parts = (features.values(), features.col_indices(), features.crow_indices())
    return csr_matrix(tuple(part.cpu().numpy() for part in parts), shape=tuple(features.shape))


def take_rows(features: Tensor, rows: IntArray) -> Tensor:
    """Rows of a CSR tensor as another one, of the same dtype and on the same device."""
    return to_torch(to_scipy(features)[rows], features.dtype, features.device)
