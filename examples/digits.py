"""Trains a classifier on scikit-learn's bundled handwritten digits and prints its accuracy.

Run it anywhere in the team:  causeway run --image causeway/python -- python3 - < examples/digits.py
"""

import time

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

EPOCHS = 20

digits = load_digits()
train_x, test_x, train_y, test_y = train_test_split(
    digits.data / 16.0, digits.target, test_size=0.25, random_state=7, stratify=digits.target
)
print(f"{len(train_x)} images to learn from, {len(test_x)} to be judged on", flush=True)

model = MLPClassifier(hidden_layer_sizes=(64,), learning_rate_init=0.005, batch_size=64, random_state=7)
for epoch in range(1, EPOCHS + 1):
    started = time.monotonic()
    model.partial_fit(train_x, train_y, classes=range(10))
    seconds = time.monotonic() - started
    print(f"epoch {epoch:2d}  loss {model.loss_:.4f}  ({seconds:.2f} s)", flush=True)
    time.sleep(max(0.0, 0.25 - seconds))  # slow enough to watch, and to pull a plug

print(f"accuracy {model.score(test_x, test_y):.4f}", flush=True)
