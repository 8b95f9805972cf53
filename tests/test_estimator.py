"""The scikit-learn estimator: its own checks where they suit texts, and what it is used in."""

import inspect
import io
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks as checks

import kshot
from contract import learner as toy_learner
from kshot.errors import KshotError
from kshot.estimator import FewShotClassifier
from kshot.meta_learner import MetaLearner
from kshot.tasks.tagging import Tagging
from toy import scratch
from users import LABELS, QUERIES, TEXTS, meta_learner

X, Y = np.array(TEXTS), np.array(LABELS)


def classifier(**settings: Any) -> FewShotClassifier:
    return FewShotClassifier(meta_learner(), **settings)


def fitted(**settings: Any) -> FewShotClassifier:
    return classifier(**settings).fit(X, Y)


# -- scikit-learn's checks ---------------------------------------------------------------------------------------------

# For an estimator of texts check_estimator runs the first of these alone, since most others make tables of numbers.
# Those that fit nothing are run here by name; the others are written out for texts below.
APPLICABLE = [
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
]


@pytest.mark.parametrize("name", APPLICABLE)
@pytest.mark.parametrize("make", [classifier, FewShotClassifier])
def test_scikit_learn_check(name: str, make: Any) -> None:
    getattr(checks, name)("FewShotClassifier", make())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning", "ignore:Can't test estimator")
def test_check_estimator() -> None:
    results = checks.check_estimator(classifier())
    assert {result["status"] for result in results} <= {"passed", "skipped"}


def test_fit_and_score_take_y() -> None:  # check_fit_score_takes_y
    for method in ("fit", "score"):
        assert list(inspect.signature(getattr(classifier(), method)).parameters)[:2] == ["X", "y"]


def test_it_must_be_fitted_first() -> None:  # check_estimators_unfitted
    for method in ("predict", "predict_proba", "decision_function", "out_of_scope"):
        with pytest.raises(NotFittedError):
            getattr(classifier(), method)(X)


def test_fitting_changes_no_setting_and_returns_itself() -> (
    None
):  # check_estimators_overwrite_params, ..._fit_returns_self
    estimator = classifier(name_weight=2.0)
    before = estimator.get_params()
    assert estimator.fit(X, Y) is estimator
    assert estimator.get_params() == before
    assert {name for name in vars(estimator) if name not in before} == {"classes_", "task_"}


def test_predicting_changes_nothing() -> None:  # check_dict_unchanged
    estimator = fitted()
    before = dict(vars(estimator))
    for method in ("predict", "predict_proba", "decision_function"):
        getattr(estimator, method)(X)
    assert vars(estimator) == before


def test_fitting_twice_is_fitting_once() -> None:  # check_fit_idempotent
    estimator = fitted()
    first = estimator.predict_proba(QUERIES)
    assert np.array_equal(estimator.fit(X, Y).predict_proba(QUERIES), first)


def test_the_order_and_the_company_of_texts_do_not_matter() -> None:  # check_methods_sample_order/subset_invariance
    estimator, order = fitted(), np.random.default_rng(0).permutation(len(QUERIES))
    together = estimator.predict_proba(QUERIES)
    assert np.allclose(estimator.predict_proba(np.array(QUERIES)[order]), together[order], atol=1e-6)
    assert np.allclose(np.concatenate([estimator.predict_proba([text]) for text in QUERIES]), together, atol=1e-6)


@pytest.mark.parametrize("as_object", [False, True])
@pytest.mark.parametrize(
    "labels", [[0, 1, 2, 3], [-1, 5, 7, 9], ["a", "b", "c", "d"], [" a", "b ", "c", "d"], [0.0, 1.0, 2.0, 3.0]]
)
def test_labels_come_back_as_they_were(labels: list[Any], as_object: bool) -> None:  # check_classifiers_classes
    y = np.array(labels, dtype=object if as_object else None)[np.unique(Y, return_inverse=True)[1]]
    estimator = classifier(class_names=False).fit(X, y)
    assert estimator.classes_.tolist() == labels
    assert estimator.predict(X).dtype == y.dtype
    assert set(estimator.predict(X)) <= set(labels)
    assert (estimator.predict(X) == y).mean() > 0.8


def test_one_column_for_each_class_in_order() -> None:
    estimator = fitted()
    probabilities = estimator.predict_proba(QUERIES)
    assert estimator.classes_.tolist() == sorted(set(LABELS))
    assert np.array_equal(estimator.classes_[probabilities.argmax(axis=1)], estimator.predict(QUERIES))
    assert np.array_equal(estimator.decision_function(QUERIES).argmax(axis=1), probabilities.argmax(axis=1))


def test_two_classes_have_one_decision() -> None:
    two = np.isin(Y, sorted(set(LABELS))[:2])
    estimator = classifier().fit(X[two], Y[two])
    decisions = estimator.decision_function(QUERIES)
    assert decisions.shape == (len(QUERIES),)
    assert np.array_equal(estimator.classes_[(decisions > 0).astype(int)], estimator.predict(QUERIES))


@pytest.mark.parametrize(
    ("texts", "labels", "sentence"),
    [
        (TEXTS, LABELS[:-1], "There are 16 texts and 15 labels; give one label for each text."),
        (TEXTS[:2], ["a", "a"], 'There is one class only, "a"; give examples of at least two.'),
        (TEXTS[:2], ["a", None], "Label 2 is None, not a name or a number; name the class or leave the text out."),
        (
            TEXTS[:3],
            ["balance", "card", "balance "],
            'The labels "balance" and "balance " are one class, since white space around a label does not count; write '
            "them alike.",
        ),
        (np.zeros((2, 3)), [0, 1], "The texts have 2 dimensions; give a list, or one column of a table."),
        (np.zeros(2), [0, 1], "Text 1 is the number 0.0, not a text; turn it into a text or leave it out."),
    ],
)
def test_what_cannot_be_fitted(texts: Any, labels: Any, sentence: str) -> None:
    with pytest.raises(KshotError) as caught:
        classifier().fit(texts, labels)
    assert str(caught.value) == sentence


# -- what it is used in ------------------------------------------------------------------------------------------------


def test_it_is_the_learners_own_task() -> None:
    expected = meta_learner().adapt(TEXTS, LABELS, classes=sorted(set(LABELS)))
    assert np.array_equal(fitted().predict_proba(QUERIES), expected.predict_proba(QUERIES))
    assert np.array_equal(fitted().out_of_scope(QUERIES), expected.out_of_scope(QUERIES))


def test_a_learner_may_be_a_folder(tmp_path: Path) -> None:
    MetaLearner(toy_learner("prototypical", scratch("cnn"))).save(tmp_path / "run")
    for path in (tmp_path / "run", str(tmp_path / "run")):
        assert np.array_equal(FewShotClassifier(path).fit(X, Y).predict(QUERIES), fitted().predict(QUERIES))


def test_a_table_of_one_column_is_a_column() -> None:
    assert np.array_equal(classifier().fit(X[:, None], Y[:, None].ravel()).predict(X[:, None]), fitted().predict(X))


def test_clones_share_the_learner() -> None:
    estimator = fitted(head={"scale": 5.0})
    copy = clone(estimator)
    assert copy.learner is estimator.learner
    assert copy.head == {"scale": 5.0}
    assert not hasattr(copy, "task_")


def test_in_a_pipeline() -> None:
    pipeline = make_pipeline(FunctionTransformer(lambda texts: [text.lower() for text in texts]), classifier())
    assert isinstance(pipeline.fit([text.upper() for text in TEXTS], Y), Pipeline)
    assert np.array_equal(pipeline.predict(X), fitted().predict(X))


def test_cross_validation() -> None:
    scores = cross_val_score(classifier(), X, Y, cv=StratifiedKFold(4), error_score="raise")
    assert scores.shape == (4,)
    assert scores.mean() > 0.3  # of four classes


def test_a_grid_search_over_heads_and_algorithms() -> None:
    grid = {"algorithm": ["prototypical", "ridge"], "class_names": [True, False], "head": [None, {"scale": 5.0}]}
    search = GridSearchCV(classifier(), grid, cv=2, error_score="raise", scoring="neg_log_loss").fit(X, Y)
    assert len(search.cv_results_["params"]) == 8
    assert len(set(search.cv_results_["mean_test_score"].round(6))) > 3
    assert search.predict(QUERIES).shape == (len(QUERIES),)


def test_a_setting_that_is_not_there() -> None:
    with pytest.raises(
        KshotError, match=r'The setting "sclae" of prototypical\'s head is unknown\. Did you mean "scale"\?'
    ):
        classifier(head={"sclae": 1}).fit(X, Y)


@pytest.mark.parametrize("algorithm", ["prototypical", "maml"])
def test_joblib_takes_a_fitted_one(algorithm: str) -> None:
    estimator = FewShotClassifier(meta_learner(algorithm)).fit(X, Y)
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    buffer.seek(0)
    assert np.array_equal(joblib.load(buffer).predict_proba(QUERIES), estimator.predict_proba(QUERIES))


def test_it_is_a_public_name() -> None:
    assert kshot.FewShotClassifier is FewShotClassifier
    assert repr(FewShotClassifier()) == "FewShotClassifier()"


def test_a_tagger_is_no_classifier() -> None:
    tagger = MetaLearner(toy_learner("ridge", scratch("cnn"), task=Tagging()), {})
    with pytest.raises(KshotError) as caught:
        FewShotClassifier(tagger).fit(TEXTS, LABELS)
    assert str(caught.value) == "This learner learns tagging; give FewShotClassifier one of classification."
