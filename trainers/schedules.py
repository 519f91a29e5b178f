"""Learning-rate schedules."""


def poly(step: int, steps: int, power: float) -> float:
    """Factor in [0, 1] of the base rate at a step counted from 0: (1 - step / steps) ** power (Chen et al., 2017)."""
    return (1 - step / steps) ** power
