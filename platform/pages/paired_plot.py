"""What the gate looked at: the mean IoU of candidates and rivals, seed by seed."""

from plotly.graph_objects import Figure, Scatter

from ..gate.verdict import Gate


def paired_plot(gate: Gate) -> Figure:
    """A line for each of those that were compared, over the seeds; where two lines never cross, all pairs agree."""
    figure = Figure()
    named = {**gate.rivals, **{f"trial {each.trial}": each.values for each in gate.candidates}}
    for name, values in named.items():
        dash = "dot" if name in gate.rivals else "solid"
        seeds = [str(seed) for seed in values]
        figure.add_trace(Scatter(x=seeds, y=list(values.values()), name=name, mode="lines+markers", line_dash=dash))
    seeds = sorted({seed for values in named.values() for seed in values})
    figure.update_xaxes(type="category", title_text="seed", categoryarray=[str(seed) for seed in seeds])
    return figure.update_layout(yaxis_title="mIoU, %", height=420)
