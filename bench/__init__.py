"""The benchmark suite: `python -m bench run` prints every figure that the README states."""
