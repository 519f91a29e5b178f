"""What a gate found of a model, in Markdown: a section of its README.md, and the description of its version."""

from ..gate.paired import TOLD
from ..gate.plan import trial_arm
from ..gate.verdict import Candidate, Comparison, Gate
from .markdown import table, text

CONFIRMED = "On fresh seeds"
UNCONFIRMED = (
    "No confirmation on fresh seeds was known of when this was written. What was found since tells "
    "`advseg models show`."
)
_REASON = 400
"""Characters of a reason."""


def confirmed(key: str | None, gate: Gate | None) -> str:
    """The verdict on the trial with a key."""
    trial = (key or "").rpartition("/")[2]
    judged = next((each for each in gate.candidates if str(each.trial) == trial), None) if gate else None
    if gate is None or judged is None:
        return UNCONFIRMED
    return "\n\n".join([*_test_figure(gate, judged), *_verdict(gate, judged)])


def _test_figure(gate: Gate, judged: Candidate) -> list[str]:
    name = trial_arm(judged.trial).told
    if name not in gate.test:
        return []
    others = ", ".join(f"{text(rival)} {miou:.2f}" for rival, miou in gate.test.items() if rival != name)
    return [
        f"**The figure to quote: a mean IoU of {gate.test[name]:.2f} percent on the test images**, which no "
        f"training and no choice reads. On the same images: {others}."
    ]


def _verdict(gate: Gate, judged: Candidate) -> list[str]:
    confirm, several = gate.confirm, len(gate.candidates)
    holm = f" Adjusted for {several} candidates its p is {judged.adjusted:.3g}." if several > 1 else ""
    looked = gate.looked.get(judged.trial)
    looks = (
        f" This was look {looked.times} at it; all looks together share that p." if looked and looked.times > 1 else ""
    )
    return [
        f"The gate says: {gate.outcome}. {text(gate.reason, _REASON)}.",
        f"The settings of the model, and those of each rival, were trained anew on the seeds "
        f"{', '.join(map(str, judged.values))}, which its sweep did not use, and judged by the validation images after "
        "the last step. In percentage points of mean IoU:",
        table(
            ("rival", "above it by", f"interval of {confirm.level:.0%}", "pairs", "p"),
            map(_row, judged.comparisons),
        ),
        f"A trial passes if {TOLD[confirm.test]} gives p of at most {confirm.alpha:g} for a lead of more than "
        f"{confirm.margin:g} points over every rival.{holm}{looks}",
    ]


def _row(compared: Comparison) -> list[str]:
    rival, pairs, estimate = text(compared.rival), str(len(compared.differences)), compared.estimate
    if estimate is None:
        return [rival, "-", "-", pairs, "-"]
    interval = "-" if estimate.low is None else f"{estimate.low:+.2f} to {estimate.high:+.2f}"
    return [rival, f"{estimate.mean:+.2f}", interval, pairs, f"{estimate.p:.3g}"]
