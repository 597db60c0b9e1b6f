"""20 Newsgroups by date: 11,314 training and 7,532 test posts, twenty classes, as sparse bags of words.

**Source.** K. Lang, "NewsWeeder: learning to filter netnews", ICML 1995; the by-date version as scikit-learn's
``fetch_20newsgroups`` downloads it, and counted as its ``CountVectorizer`` counts: words of the training posts, of at
least two letters or digits, in lower case.

**Features.** All words, or the ``num_features`` words that occur in most training posts, without English stop words
(ties in alphabetical order). ``counts`` are word counts; ``tfidf`` multiplies them with
1 + log((1 + posts) / (1 + posts with the word)), over the training posts. Every post is then scaled to length 1.

**Departures.** None. The counts are kept beside the download, because counting takes several seconds.
"""

import logging
import os
import tarfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zipfile import BadZipFile

import numpy as np
import torch

from simulator.arrays import BoolArray, IntArray
from simulator.data.base import Dataset, Samples
from simulator.data.download import quiet_and_timed, require_timeout
from simulator.data.sparse import to_torch

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

POSTS = "20news-bydate_py3.pkz"
PARTS = ("headers", "footers", "quotes")


@dataclass(frozen=True)
class _Counts:
    """Word counts [S, F] of all posts, training posts first; which words are stop words, [F]; labels [S]."""

    words: "csr_matrix"
    is_stop_word: BoolArray
    labels: IntArray
    num_train: int
    num_classes: int

    def write(self, path: Path) -> None:
        """Writes everything to an .npz file."""
        arrays = {name: getattr(self.words, name) for name in ("data", "indices", "indptr", "shape")}
        np.savez(path, **arrays, **{field.name: getattr(self, field.name) for field in fields(self)[1:]})

    @staticmethod
    def read(path: Path) -> "_Counts":
        """Reads what :meth:`write` has written; raises ValueError when it is broken."""
        from scipy.sparse import csr_matrix

        try:
            with path.open("rb") as opened, np.load(opened) as file:
                words = csr_matrix((file["data"], file["indices"], file["indptr"]), shape=tuple(file["shape"]))
                num_train, num_classes = int(file["num_train"]), int(file["num_classes"])
                return _Counts(words, file["is_stop_word"], file["labels"], num_train, num_classes)
        except (OSError, KeyError, BadZipFile, EOFError) as error:
            raise ValueError(f"dataset newsgroups: {path} cannot be read ({error}); delete it") from error


class Newsgroups(Dataset):
    """Posts of 20 Newsgroups below ``root``/sklearn.

    Args:
        root: folder that holds ``sklearn``; relative paths start at the working directory.
        download: whether missing posts are downloaded.
        timeout_s: longest wait for an answer of a server, in seconds.
        num_features: words that are kept; None for all of them.
        weighting: ``counts`` or ``tfidf``.
        remove: parts of the posts that are left out, any of headers, footers and quotes.

    Raises:
        ValueError: for strings or numbers that are not allowed.
    """

    def __init__(
        self,
        *,
        root: str,
        download: bool,
        timeout_s: float,
        num_features: int | None,
        weighting: Literal["counts", "tfidf"],
        remove: Sequence[str],
    ) -> None:
        require_timeout(timeout_s)
        if num_features is not None and num_features < 1:
            raise ValueError(f"dataset.num_features={num_features}: expected at least 1, or null for all words")
        if weighting not in ("counts", "tfidf"):
            raise ValueError(f"dataset.weighting={weighting!r}: expected counts or tfidf")
        if not set(remove) <= set(PARTS):
            raise ValueError(f"dataset.remove={list(remove)}: expected any of {', '.join(PARTS)}")
        self.root = root
        self.download = download
        self.timeout_s = timeout_s
        self.num_features = num_features
        self.weighting = weighting
        self.remove = tuple(part for part in PARTS if part in remove)

    @property
    def folder(self) -> Path:
        """The folder that scikit-learn calls ``data_home``."""
        return Path(self.root).expanduser().absolute() / "sklearn"

    @property
    def _counts_file(self) -> Path:
        return self.folder / f"{'-'.join(['20news-bydate-counts', *self.remove])}.npz"

    def prepare(self) -> None:
        """Downloads the posts where they are missing, and counts their words once; raises ValueError offline."""
        if self._counts_file.is_file():
            return
        counts = self._count(self.download)
        # Renamed when it is complete. If the folder is not writable, every process counts by itself.
        temporary = self._counts_file.with_name(f"{self._counts_file.stem}.{os.getpid()}.npz")
        try:
            counts.write(temporary)
            temporary.replace(self._counts_file)
        except OSError as error:
            log.warning("dataset newsgroups: the word counts could not be kept (%s)", error)

    def load(self) -> Samples:
        """Reads the counts, or the posts where no counts were kept; raises ValueError when neither is there."""
        counts = _Counts.read(self._counts_file) if self._counts_file.is_file() else self._count(download=False)
        features = counts.words.astype(np.float64)
        num_posts = np.bincount(counts.words[: counts.num_train].indices, minlength=features.shape[1])
        if self.num_features is not None:
            candidates = np.flatnonzero(~counts.is_stop_word)
            ranked = candidates[np.argsort(-num_posts[candidates], kind="stable")]
            kept = np.sort(ranked[: self.num_features])
            features, num_posts = features[:, kept], num_posts[kept]
        if self.weighting == "tfidf":
            features.data *= (1 + np.log((1 + counts.num_train) / (1 + num_posts)))[features.indices]
        lengths = np.sqrt(np.asarray(features.multiply(features).sum(axis=1)).ravel())
        features.data /= np.repeat(lengths, np.diff(features.indptr))
        return Samples(
            inputs=to_torch(features, torch.float64),
            labels=torch.from_numpy(counts.labels),
            num_classes=counts.num_classes,
            num_train=counts.num_train,
        )

    def _count(self, download: bool) -> _Counts:
        """Counts words in the posts, which are downloaded where that is allowed."""
        if not download and not (self.folder / POSTS).is_file():
            raise self._not_found("dataset.download is false" if not self.download else "it was not prepared")
        from scipy.sparse import vstack
        from sklearn.datasets import fetch_20newsgroups
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

        try:
            # Of several attempts, the error of the last one is reported.
            with quiet_and_timed(self.timeout_s), warnings.catch_warnings(action="ignore"):
                train, test = (
                    fetch_20newsgroups(
                        data_home=str(self.folder),
                        subset=subset,
                        shuffle=False,
                        remove=self.remove,
                        download_if_missing=download,
                    )
                    for subset in ("train", "test")
                )
        except (OSError, HTTPException, EOFError, tarfile.TarError) as error:
            raise self._not_found(" ".join(str(error).split()) or type(error).__name__) from error
        vectorizer = CountVectorizer(dtype=np.int32)
        words = vstack([vectorizer.fit_transform(train.data), vectorizer.transform(test.data)], format="csr")
        vocabulary = vectorizer.get_feature_names_out()
        return _Counts(
            words=words,
            is_stop_word=np.isin(vocabulary, sorted(ENGLISH_STOP_WORDS)),
            labels=np.concatenate([train.target, test.target]).astype(np.int64),
            num_train=len(train.data),
            num_classes=len(train.target_names),
        )

    def _not_found(self, reason: str) -> ValueError:
        return ValueError(
            f"dataset newsgroups: {POSTS} not found or not readable in {self.folder} ({reason}); copy it there from a "
            "machine on which sklearn.datasets.fetch_20newsgroups() has run, set data_root to a folder that has "
            f"sklearn/{POSTS}, or run once with internet access and dataset.download=true"
        )
