"""20 Newsgroups: features against scikit-learn's own, on a made-up corpus in the real one's file, and on the real one.

Where the real posts are is said by HYPERGOSSIP_NEWSGROUPS, a folder with sklearn/20news-bydate_py3.pkz.
"""

import codecs
import logging
import os
import pickle
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import fetch_20newsgroups
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize
from sklearn.utils import Bunch

from simulator.data.loading import load_node_data
from simulator.data.newsgroups import POSTS, Newsgroups
from simulator.data.partitions.class_skew import ClassSkew
from simulator.data.sparse import to_scipy
from simulator.problems.base import Setting
from simulator.problems.coefficient_tuning import CoefficientTuning

REAL = "HYPERGOSSIP_NEWSGROUPS"
WORDS = (
    *("the", "of", "and", "orbit", "engine", "goalie", "hockey", "puck", "rocket", "moon", "shuttle", "graphics"),
    *("pixel", "render", "rink", "skate", "faith", "church", "image", "score", "launch", "season", "team", "colour"),
)


def make(root, **changes):
    arguments = {"download": False, "timeout_s": 1.0, "num_features": None, "weighting": "counts", "remove": []}
    return Newsgroups(**{"root": str(root), **arguments, **changes})


def write_corpus(root, seed=0):
    """Sixty training and thirty test posts in three groups, as scikit-learn keeps the real ones."""
    rng = np.random.default_rng(seed)
    cache = {}
    for subset, count in (("train", 60), ("test", 30)):
        labels = rng.integers(0, 3, count)
        posts = []
        for label in labels:
            chances = 1.0 + 4.0 * (np.arange(len(WORDS)) % 3 == label)
            text = " ".join(rng.choice(WORDS, 20, p=chances / chances.sum()))
            extra = "" if subset == "train" else " Unseen"
            posts.append(f"From: person{label}\nSubject: {text[:9]}\n\n{text.title()}{extra}\n")
        posts[0] = "From: nobody\n\n"
        cache[subset] = Bunch(data=posts, target=labels, target_names=["a", "b", "c"], filenames=np.arange(count))
    folder = Path(root) / "sklearn"
    folder.mkdir()
    (folder / POSTS).write_bytes(codecs.encode(pickle.dumps(cache), "zlib_codec"))
    return root


@pytest.fixture(params=["made up", *(["real"] if REAL in os.environ else [])])
def corpus(request, tmp_path):
    """A folder with posts that may be written to."""
    if request.param == "made up":
        return write_corpus(tmp_path)
    (tmp_path / "sklearn").mkdir()
    shutil.copy(Path(os.environ[REAL]) / "sklearn" / POSTS, tmp_path / "sklearn")
    return tmp_path


def posts_of(root, remove=()):
    return [
        fetch_20newsgroups(data_home=f"{root}/sklearn", subset=subset, shuffle=False, remove=remove)
        for subset in ("train", "test")
    ]


@pytest.mark.parametrize("weighting", ["counts", "tfidf"])
def test_all_words_are_those_of_scikit_learn(corpus, weighting):
    dataset = make(corpus, weighting=weighting)
    dataset.prepare()
    samples = dataset.load()
    train, test = posts_of(corpus)
    if weighting == "tfidf":
        vectorizer = TfidfVectorizer()
        expected = [vectorizer.fit_transform(train.data), vectorizer.transform(test.data)]
    else:
        vectorizer = CountVectorizer()
        counts = [vectorizer.fit_transform(train.data), vectorizer.transform(test.data)]
        expected = [normalize(part.astype(float)) for part in counts]
    found = to_scipy(samples.inputs)
    assert found.shape == (len(train.data) + len(test.data), len(vectorizer.vocabulary_))
    assert samples.num_train == len(train.data)
    assert samples.num_classes == len(train.target_names)
    np.testing.assert_array_equal(samples.labels.numpy(), np.concatenate([train.target, test.target]))
    for part, block in ((found[: len(train.data)], expected[0]), (found[len(train.data) :], expected[1])):
        assert abs(part - block).max() < 1e-12


def test_the_words_in_most_posts_are_kept_and_stop_words_are_not(corpus):
    samples = make(corpus, num_features=7).load()
    train, test = posts_of(corpus)
    vectorizer = CountVectorizer(stop_words=sorted(ENGLISH_STOP_WORDS), binary=True)
    in_posts = np.asarray(vectorizer.fit_transform(train.data).sum(0)).ravel()
    names = vectorizer.get_feature_names_out()
    best = sorted(range(len(names)), key=lambda j: (-in_posts[j], names[j]))[:7]
    chosen = CountVectorizer(vocabulary=sorted(names[best]))
    expected = normalize(chosen.transform([*train.data, *test.data]).astype(float))
    assert abs(to_scipy(samples.inputs) - expected).max() < 1e-12


def test_parts_of_posts_can_be_left_out(tmp_path):
    write_corpus(tmp_path)
    whole, bare = make(tmp_path), make(tmp_path, remove=["headers", "quotes"])
    for dataset in (whole, bare):
        dataset.prepare()
    train, _ = posts_of(tmp_path, ("headers", "quotes"))
    num_words = len(CountVectorizer().fit(train.data).vocabulary_)
    assert bare.load().inputs.shape[1] == num_words < whole.load().inputs.shape[1]
    # Its first post has nothing but a header.
    assert to_scipy(bare.load().inputs)[0].nnz == 0
    assert torch.isfinite(bare.load().inputs.values()).all()


def test_words_are_counted_once_and_kept(tmp_path):
    write_corpus(tmp_path)
    dataset = make(tmp_path)
    without = dataset.load()
    dataset.prepare()
    (tmp_path / "sklearn" / POSTS).unlink()
    dataset.prepare()
    for kept, fresh in zip(dataset.load().inputs.to_dense(), without.inputs.to_dense(), strict=True):
        assert torch.equal(kept, fresh)
    (counts,) = (tmp_path / "sklearn").glob("*.npz")
    counts.write_bytes(counts.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"dataset newsgroups: .*counts.npz cannot be read .*; delete it"):
        dataset.load()


def test_a_folder_that_cannot_be_written_to_is_a_warning(tmp_path, monkeypatch, caplog):
    write_corpus(tmp_path)

    def refuse(*_, **__):
        raise PermissionError("read-only file system")

    monkeypatch.setattr("simulator.data.newsgroups.np.savez", refuse)
    with caplog.at_level(logging.WARNING):
        make(tmp_path).prepare()
    assert "could not be kept (read-only file system)" in caplog.text
    assert make(tmp_path).load().num_train == 60


def test_missing_posts_are_one_error_that_says_what_to_do(tmp_path, monkeypatch):
    expected = rf"^dataset newsgroups: {POSTS} not found .*; copy it there .* set data_root .*dataset\.download=true$"
    with pytest.raises(ValueError, match=expected) as caught:
        make(tmp_path).prepare()
    assert "dataset.download is false" in str(caught.value)
    with pytest.raises(ValueError, match="was not prepared"):
        make(tmp_path, download=True).load()

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "create_connection", offline)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(ValueError, match="no route to host") as caught:
        make(tmp_path, download=True).prepare()
    assert "\n" not in str(caught.value)


def test_a_broken_file_is_the_same_error(tmp_path):
    write_corpus(tmp_path)
    (tmp_path / "sklearn" / POSTS).write_bytes(b"not a zlib file")
    with pytest.raises(ValueError, match="not found or not readable"):
        make(tmp_path).prepare()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_features": 0}, "dataset.num_features=0: expected at least 1, or null"),
        ({"weighting": "binary"}, "dataset.weighting='binary': expected counts or tfidf"),
        ({"remove": ["titles"]}, r"dataset.remove=\['titles'\]: expected any of headers, footers, quotes"),
        ({"timeout_s": 0.0}, "dataset.timeout_s=0.0: a positive number"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **change)


PARTITION = {"heterogeneity": 0.5, "valid_fraction": 0.5, "test_fraction": 0.0, "test": "shared", "seed": 0}


@pytest.mark.parametrize("keep_sparse", [True, False])
def test_nodes_get_their_rows_sparse_or_written_out(tmp_path, keep_sparse):
    dataset, partition = make(write_corpus(tmp_path)), ClassSkew(**PARTITION)
    samples, indices = dataset.load(), partition.split(dataset.load(), 4)
    device = torch.device("cpu")
    data = load_node_data(dataset, partition, 4, range(1, 3), torch.float32, device, keep_sparse=keep_sparse)
    assert (data.train.inputs.layout == torch.sparse_csr) is keep_sparse
    assert data.train.inputs.dtype == torch.float32
    rows = np.concatenate([indices[1].train, indices[2].train])
    found = data.train.inputs.to_dense() if keep_sparse else data.train.inputs
    torch.testing.assert_close(found.double(), samples.inputs.to_dense()[rows], rtol=1e-6, atol=0)
    assert data.test.sizes.tolist() == [30, 30]
    assert data.test.inputs.shape[0] == 30


def test_coefficients_of_a_corpus_are_tuned(corpus):
    """A few dozen gradient steps on the mean objective find the classes."""
    problem = CoefficientTuning(
        batch_size=None, drop_last=False, regularization=1.0, scale_regularization=True, outer_regularization=0.0
    )
    problem.setup(
        Setting(
            nodes=range(3),
            num_nodes=3,
            seed=0,
            dtype=torch.float64,
            device=torch.device("cpu"),
            dataset=make(corpus),
            partition=ClassSkew(**PARTITION),
        )
    )
    params, hparams = problem.init_params(), problem.init_hparams()
    before = problem.evaluate(params, hparams)
    for _ in range(20):
        params = params - 20.0 * problem.grad(params, hparams, None).mean(0)
    after = problem.evaluate(params, hparams)
    assert (after["test/loss"] < before["test/loss"]).all()
    assert (after["test/accuracy"] > 2 * before["test/accuracy"]).all()
