"""Heads: how the support's vectors become a classifier. They know vectors and label numbers only.

x_i, y_i   a support vector and its label        w_i   how many examples it counts for
q          a query vector                        C     the number of labels
c_k        the prototype of label k              s     a scale, learned as log s
"""

from kshot.meta.heads.anchored import Anchored, AnchoredSettings
from kshot.meta.heads.base import Head, Metric, class_means, label_maximum, similarity
from kshot.meta.heads.datastore import Datastore, DatastoreSettings
from kshot.meta.heads.induction import Induction, InductionSettings, squash
from kshot.meta.heads.linear import Linear, LinearSettings, PrototypeLinear
from kshot.meta.heads.logistic import Logistic, LogisticSettings
from kshot.meta.heads.matching import Matching, MatchingSettings
from kshot.meta.heads.nearest import Nearest, NearestSettings
from kshot.meta.heads.output import Output, OutputSettings
from kshot.meta.heads.prototypes import Prototypes, PrototypeSettings
from kshot.meta.heads.relation import Relation, RelationSettings
from kshot.meta.heads.ridge import Ridge, RidgeSettings

__all__ = [
    "Anchored",
    "AnchoredSettings",
    "Datastore",
    "DatastoreSettings",
    "Head",
    "Induction",
    "InductionSettings",
    "Linear",
    "LinearSettings",
    "Logistic",
    "LogisticSettings",
    "Matching",
    "MatchingSettings",
    "Metric",
    "Nearest",
    "NearestSettings",
    "Output",
    "OutputSettings",
    "PrototypeLinear",
    "PrototypeSettings",
    "Prototypes",
    "Relation",
    "RelationSettings",
    "Ridge",
    "RidgeSettings",
    "class_means",
    "label_maximum",
    "similarity",
    "squash",
]
