"""Start weights: state dicts from anywhere, read without running code, matched by name and shape."""

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .architectures import (
    DeepLabSettings,
    DeepLabV3PlusSettings,
    Dinov2Settings,
    SegmenterSettings,
    TransformersSettings,
)
from .bundle import SEGMENTER, read_card
from .files import one_line, open_regular
from .manifest import MANIFEST, checksum_of, file_digest, verify_directory
from .pretrained import WEIGHTS, PretrainedError, folder_of
from .segmenter import Segmenter
from .transformer import Pretrained

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs keep a state dict beside other things."""
_UNCOUNTED = "num_batches_tracked"
"""Of batch norm; nothing here reads it, and older state dicts lack it."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SHOWN = 3
_WRAPPED = 3
"""State dicts that are looked for in each other."""


class WeightsError(ValueError):
    """Weights that cannot be read, or that are another network's: one line."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """How given weights fit a network: names of tensors, with both shapes where those differ."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    """Of the network's body, absent from the given weights."""
    mismatched: tuple[str, ...]
    """Of the network's body, of another shape there."""
    unexpected: tuple[str, ...]
    """Of the given weights, in parts of the body that the network has without them: those of a deeper one."""
    fresh: tuple[str, ...]
    """Of the head, which is taken whole or not at all."""
    ignored: tuple[str, ...]
    """Of the given weights, in parts that the network does not have, such as torchvision's `fc`."""

    @property
    def fits(self) -> bool:
        """Whether the body is the network's own."""
        return not (self.missing or self.mismatched or self.unexpected)


def match(network: Mapping[str, Tensor], head: Collection[str], given: Mapping[str, Tensor]) -> Match:
    """Compare the state dict of a network, whose head has the names `head`, with given weights."""
    ours, theirs = _shapes(network), _shapes(given)
    body = [name for name in ours if name not in head]
    parts = {_part(name) for name in body}
    takes_head = all(theirs.get(name) == ours[name] for name in head)
    beyond = [name for name in theirs if name not in ours]

    def told(name: str) -> str:
        return f"{name} {theirs[name]} for {ours[name]}" if theirs.get(name, ours[name]) != ours[name] else name

    return Match(
        matched=tuple(name for name in ours if theirs.get(name) == ours[name] and (takes_head or name not in head)),
        missing=tuple(name for name in body if name not in theirs),
        mismatched=tuple(told(name) for name in body if theirs.get(name, ours[name]) != ours[name]),
        unexpected=tuple(name for name in beyond if _part(name) in parts),
        fresh=() if takes_head else tuple(told(name) for name in head),
        ignored=tuple(name for name in beyond if _part(name) not in parts),
    )


def load_weights(network: Segmenter, settings: SegmenterSettings, path: Path) -> str:
    """Copy weights into the network of the settings; return in one line what was taken and what was not.

    They come from one of our model directories, from a file, see `read_weights`, or for a network of transformers from
    a folder as it keeps them. The head keeps its own weights
    if the given ones have none of its shape. Raises WeightsError, and leaves the network as it was, unless every
    other parameter and running statistic is there, in its shape and finite.
    """
    given = _read_folder(network, settings, path) if path.is_dir() else read_weights(path)
    state = network.state_dict()
    found = match(state, [name for name in _shapes(state) if network.in_head(name)], given)
    if not found.fits:
        wrong = {"missing": found.missing, "of other shapes": found.mismatched, "too many": found.unexpected}
        raise WeightsError(
            f"weights {path} do not fit the body of {settings.architecture}: {_listed(wrong)}; "
            f"name weights of this architecture, or the architecture of these weights"
        )
    floats = [name for name in found.matched if given[name].dtype in _FLOATS]
    taken = {name: given[name].to(state[name].dtype) for name in floats}
    finite = {name for name, tensor in taken.items() if tensor.isfinite().all()}
    if broken := [name for name in found.matched if name not in finite]:
        raise WeightsError(
            f"weights {path} hold other than finite floating-point numbers in "
            f"{_some(broken, f' of {len(found.matched)} tensors')}: take another copy, or an earlier one"
        )
    network.load_state_dict(taken, strict=False)
    values = sum(tensor.numel() for tensor in taken.values())
    summary = f"weights {path}: {len(taken)} of {len(_shapes(state))} tensors matched ({values:,} values)"
    return "; ".join(filter(None, [summary, _listed({"kept fresh": found.fresh, "ignored": found.ignored})]))


def start_of(settings: SegmenterSettings) -> Path | None:
    """Where the weights lie that a network starts from, unless they were brought elsewhere; None: it starts fresh.

    Raises PretrainedError.
    """
    if settings.weights is not None:
        return Path(settings.weights)
    match settings:
        case TransformersSettings() | Dinov2Settings():
            return folder_of(settings.pretrained, settings.revision)
        case _:
            return None


def digest_of(path: Path) -> str | None:
    """Identity of weights: the SHA-256 of a file, or what a model directory's manifest stands for it by.

    That of a folder of transformers is of its file of weights. Raises OSError; None of any other directory.
    """
    if not path.is_dir():
        return file_digest(path)
    files = [*path.glob(WEIGHTS)]
    return file_digest(files[0]) if len(files) == 1 and not (path / MANIFEST).exists() else checksum_of(path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict, on the CPU, of a .safetensors file or one of torch.save.

    It may stand under one of `WRAPPERS`. Components that begin all names, such as `module.`, are taken off.
    Raises WeightsError for what is none, and for a file that could run code when it is read.
    """
    try:
        open_regular(path).close()
    except FileNotFoundError:
        raise WeightsError(f"weights {path} do not exist: put them there or name where they lie") from None
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read ({error.strerror}): name a file of weights") from None
    loaded = _load_safetensors(path) if path.suffix == ".safetensors" else _load_tensors(path)
    for _ in range(_WRAPPED):
        wrapped = [inner for key in WRAPPERS if isinstance(inner := _entry(loaded, key), dict)]
        loaded = wrapped[0] if wrapped else loaded
    if not (isinstance(loaded, dict) and loaded and all(map(_is_plain, loaded.values()))):
        raise WeightsError(
            f"weights {path} are no state dict: save one by torch.save(network.state_dict(), path), "
            f"bare or under the key {' or '.join(WRAPPERS)}"
        )
    return _without_prefix({str(name): tensor for name, tensor in loaded.items()})


def _read_folder(network: Segmenter, settings: SegmenterSettings, path: Path) -> dict[str, Tensor]:
    """The state dict of a directory of ours, or of transformers."""
    if not isinstance(network, Pretrained) or (path / MANIFEST).exists():
        return _read_model(path, settings)
    try:
        return network.given(path)
    except PretrainedError as error:
        raise WeightsError(str(error)) from None


def _read_model(path: Path, settings: SegmenterSettings) -> dict[str, Tensor]:
    """The state dict of a model directory, whose network must read images as that of the settings does."""
    try:
        trained = read_card(path, alone=True).segmenter
        verify_directory(path, needs=[SEGMENTER])
    except ValueError as error:
        raise WeightsError(f"weights {path} are no model: {error}: name another, or its file of weights") from None
    theirs, ours = (
        each.backbone if isinstance(each, DeepLabSettings | DeepLabV3PlusSettings) else None
        for each in (trained, settings)
    )
    if theirs and ours and theirs != ours:
        raise WeightsError(f"weights {path} have backbone {theirs}, but the network's is {ours}: take the same")
    return _load_safetensors(path / SEGMENTER)


def _entry(loaded: object, key: str) -> object:
    return loaded.get(key) if isinstance(loaded, dict) else None


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"weights {path} are damaged, or no safetensors file ({one_line(error)})") from None


def _load_tensors(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            # Of pickle protocols that torch does not write; what it cannot read, it refuses.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Bytes that are no weights make torch fail in many ways.
        if needed := re.search(r"GLOBAL ([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s", str(error)):
            raise WeightsError(
                f"weights {path} hold more than tensors ({needed[1]}), and reading that could run code: if you trust "
                f"them, read them with torch.load(path, weights_only=False) and torch.save the state dict alone"
            ) from None
        raise WeightsError(f"weights {path} are damaged, or no file of torch.save") from None


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"


def _without_prefix(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, without the first components that all their names share."""
    while all("." in name for name in given) and len({_part(name) for name in given}) == 1:
        given = {name.partition(".")[2]: tensor for name, tensor in given.items()}
    return given


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(_UNCOUNTED)}


def _part(name: str) -> str:
    return name.partition(".")[0]


def _listed(names: Mapping[str, Sequence[str]]) -> str:
    """Counts and the first few names, of kinds that have any."""
    return ", ".join(_some(those, f" {kind}") for kind, those in names.items() if those)


def _some(names: Sequence[str], kind: str) -> str:
    return f"{len(names)}{kind} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
