"""A line through points by gradient descent, with numpy where it is installed and with lists elsewhere."""

import math
import random

try:
    import numpy
except ImportError:
    numpy = None

ENGINE = "lists" if numpy is None else "numpy"
TRUE_WEIGHTS = (2.0, -1.0, 0.5)
WEIGHTS = len(TRUE_WEIGHTS)


def make_points(seed, count):
    """Rows of inputs, of which the first is 1, and an output near the true line."""
    source = random.Random(seed)
    points = []
    for _ in range(count):
        inputs = [1.0] + [source.uniform(-1, 1) for _ in range(WEIGHTS - 1)]
        output = sum(weight * each for weight, each in zip(TRUE_WEIGHTS, inputs))
        points.append((*inputs, output + source.gauss(0, 0.05)))
    return points


def loss_of(weights, points):
    """The mean squared error."""
    if numpy is not None:
        table = numpy.asarray(points)
        return float(numpy.mean((table[:, :-1] @ numpy.asarray(weights) - table[:, -1]) ** 2))
    return sum(_miss(weights, point) ** 2 for point in points) / len(points)


def descend(weights, points, rate):
    """One step down the slope of the loss."""
    if numpy is not None:
        table = numpy.asarray(points)
        misses = table[:, :-1] @ numpy.asarray(weights) - table[:, -1]
        return (numpy.asarray(weights) - rate * 2 * misses @ table[:, :-1] / len(points)).tolist()
    slope = [0.0] * WEIGHTS
    for point in points:
        miss = _miss(weights, point)
        for at in range(WEIGHTS):
            slope[at] += 2 * miss * point[at] / len(points)
    return [weight - rate * each for weight, each in zip(weights, slope)]


def mean(counted):
    """Of pairs of weights and how many examples they count for."""
    total = sum(count for _, count in counted)
    return [sum(weights[at] * count for weights, count in counted) / total for at in range(len(counted[0][0]))]


def are_finite(numbers):
    return all(math.isfinite(each) for each in numbers)


def _miss(weights, point):
    return sum(weight * each for weight, each in zip(weights, point)) - point[-1]
