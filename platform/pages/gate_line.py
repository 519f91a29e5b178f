"""What a gate said, in a line, and as JSON."""

from typing import Any

from ..gate.verdict import Gate


def gate_line(gate: Gate) -> str:
    """The verdict, in a sentence."""
    figures = ", ".join(f"{name} {miou:.2f}" for name, miou in gate.test.items())
    told = f"{gate.outcome}: {gate.reason}"
    return f"{told}; mIoU on test images: {figures}" if figures else told


def gate_json(gate: Gate) -> dict[str, Any]:
    """What is printed of it."""
    return {"outcome": gate.outcome, "reason": gate.reason, "trial": gate.ahead, "test": gate.test}
