"""Makes features.json: what scikit-learn makes of small features, by logistic regression and by nearest neighbours.

    python crates/rust-train/tests/references/features.py > crates/rust-train/tests/references/features.json

Needs scikit-learn 1.9.
"""

import json

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

IMAGES, WIDTH, CLASSES = 60, 5, 3


def features(count, phase):
    """Rows of numbers that are not centred, and differ in size from column to column."""
    numbers = np.arange(count * WIDTH, dtype=np.float64)
    rows = np.sin(numbers * numbers * 0.013 + phase).reshape(count, WIDTH)
    return (rows * [1.0, 3.0, 0.2, 1.0, 0.5] + [0.5, -2.0, 0.0, 1.0, 0.1]).astype(np.float32)


def labels(rows):
    """Classes that follow from the features, but for every seventh image."""
    told = np.digitize(rows[:, 0] + 0.3 * rows[:, 3], [0.4, 1.1])
    noise = np.arange(len(rows)) % 7 == 0
    return np.where(noise, (told + 1) % CLASSES, told)


train, asked = features(IMAGES, 0.0), features(9, 1.0)
known = labels(train)
probes = []
for penalty in (1e-3, 1e-1, 10.0):
    model = LogisticRegression(C=1 / (penalty * IMAGES), tol=1e-12, max_iter=100_000).fit(train.astype(np.float64), known)
    probabilities = model.predict_proba(train.astype(np.float64))
    loss = -np.log(probabilities[np.arange(IMAGES), known]).mean()
    probes.append(dict(penalty=penalty, weight=model.coef_.flatten().tolist(), bias=(model.intercept_ - model.intercept_.mean()).tolist(), loss=loss))
neighbours = []
for count in (1, 5, 60):
    votes = lambda distances: np.exp((1 - distances) / 0.07)
    model = KNeighborsClassifier(count, metric="cosine", weights=votes).fit(train.astype(np.float64), known)
    neighbours.append(dict(count=count, shares=model.predict_proba(asked.astype(np.float64)).flatten().tolist()))
print(json.dumps({"labels": known.tolist(), "probes": probes, "neighbours": neighbours}, indent=1))
