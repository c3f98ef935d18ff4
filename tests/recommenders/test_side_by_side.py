"""--embedding A+B: each scaled alone, of equal weight, cold tracks by train's numbers."""

import numpy as np
import pytest

from core.options import InputError
from knn import KnnConfig
from recommenders.interactions import load_split
from recommenders.vectors import embedding_hash, load_item_vectors


@pytest.fixture
def root(toy_root):
    root = toy_root()
    rng = np.random.default_rng(0)
    wide = 1e4 * rng.normal(size=(160, 40)) + 7
    np.save(root / "embeddings" / "wide.npy", wide.astype(np.float32))
    return root


@pytest.mark.parametrize("scale", ["rms", "standardize", "whiten"])
def test_each_is_scaled_alone_and_has_the_same_weight(root, scale):
    split = load_split(root)
    config = KnnConfig(root=root, embedding="toy+wide", scale=scale)
    vectors = load_item_vectors(root, "toy+wide", split)
    assert vectors.shape == (split.n_items, 48)
    found = config.arranged(vectors)
    squares = np.square(found).sum(axis=0)
    assert squares[:8].sum() == pytest.approx(squares[8:].sum(), rel=0.15)
    alone = KnnConfig(root=root, embedding="toy", scale=scale).arranged(vectors[:, :8].copy())
    ratio = found[:, :8] / alone
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)
    np.testing.assert_allclose(config.arranged(vectors, vectors[:5]), found[:5], rtol=1e-4)


def test_a_run_of_two_embeddings_has_both_names_and_follows_both_files(root, call):
    call("knn", "--root", root, "--embedding", "toy+wide")
    assert (root / "runs" / "knn-toy+wide-s1" / "metrics.json").exists()
    call("table", "--root", root)
    assert "| toy+wide |" in (root / "tables" / "results.md").read_text()
    before = embedding_hash(root, "toy+wide", 128)
    assert before == f"{embedding_hash(root, 'toy', 1)}+{embedding_hash(root, 'wide', 1)}"
    for name in ("toy+toy", "toy+random"):
        with pytest.raises(InputError, match="needs different embeddings that have vectors"):
            call("knn", "--root", root, "--embedding", name)
