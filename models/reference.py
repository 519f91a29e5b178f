"""What people call a registered model."""

MODELS = "models:/"
"""How the address of one begins in MLflow."""

HISTORY = ".history"
"""How the name of the model ends that holds the moves of another's aliases. No name in a spec has a dot."""


def reference_of(address: str) -> str:
    """The reference in an address as MLflow has it, `models:/shapes@champion` or `models:/shapes/3`; or as we do."""
    name = address.removeprefix(MODELS)
    return name if name == address or "@" in name else name.replace("/", "@", 1)
