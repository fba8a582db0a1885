"""The name of our method, and what is added to a name for predictions with guides, and for those made of predictions."""

OURS = "splathead"
"""Our network; its variants' names begin with it"""

GUIDED = "_guided"
"""Of a network that works with and without guides: with them"""

FUSED = "_fused"
"""Moved to the surface that the predictions of all views agree on, see :mod:`splathead.multiview`"""
PREDICTED_AGAIN = "_multiview"
"""Predicted again from an input that was moved likewise"""
INTERVAL = "_interval"
"""Within the intervals of its input's code, see :mod:`splathead.intervals`"""


def single_view_method(name: str) -> str:
    """The method that a method of several views is made of; any other method itself."""
    return name.removesuffix(PREDICTED_AGAIN).removesuffix(FUSED)


def base_method(name: str) -> str:
    """The method that a method is made of; any other method itself."""
    return single_view_method(name).removesuffix(INTERVAL)
