"""What a model says of itself, read from JSON that nobody vouches for."""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from .architectures import (
    ARCHITECTURES,
    LEAST_SIDE,
    Dinov2Settings,
    Normalisation,
    SegmenterSettings,
    TransformersSettings,
)
from .decoding import HIGHEST, PLAIN, Decoding
from .discriminator import DiscriminatorSettings
from .files import shown
from .pretrained import Config, checked_config
from .resize import MAX_PIXELS, MAX_SIDE, LongerSide, Resize, refuse_huge

MAX_CLASSES = 2**16
"""As many ids as a mask of 16 bits tells apart."""
MAX_STAGES = 16
"""Of a discriminator: it would halve 65,536 pixels to one."""
_MAX_WHOLE = 2**31 - 1
_MAX_WORD = 1000
"""Characters of a setting that is text."""
_MEANS, _SPREADS = (-1e6, 1e6), (1e-6, 1e6)

T = TypeVar("T", dict, list, str)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a user needs to know of a model beside its weights."""

    segmenter: SegmenterSettings
    discriminator: DiscriminatorSettings | None
    """None for a supervised model, which has none."""
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """RGB in 0...255, one a class."""
    ignore_index: int
    normalisation: Normalisation
    decoding: Decoding = PLAIN
    """How image files are read."""
    config: Config | None = None
    """Of a network of transformers, what builds it; None of others."""
    resize: Resize | None = None
    """At what size the network reads whole images; None is their own."""
    metrics: dict[str, float] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    """Where it comes from: trial key, spec, dataset digest, images of each of its parts, code version."""


def card_of(document: Any) -> Card:
    """The card in a JSON document. Raises ValueError, in one line, with the place, the rule and the value."""
    given = _the(dict, document, "the card")
    classes = tuple(_text(name, f"classes[{id}]") for id, name in enumerate(_entry(list, given, "classes")))
    if not 1 <= len(classes) <= MAX_CLASSES or len(set(classes)) < len(classes):
        raise ValueError(f"classes must be 1 to {MAX_CLASSES:,} different names, but are {shown(classes)}")
    palette = tuple(_colour(colour, f"palette[{id}]") for id, colour in enumerate(_entry(list, given, "palette")))
    if len(palette) != len(classes):
        raise ValueError(f"palette must have a colour for each of {len(classes)} classes, but has {len(palette)}")
    discriminator = _present(given, "discriminator")
    segmenter = _segmenter(_entry(dict, given, "segmenter"))
    return Card(
        segmenter=segmenter,
        config=_config(given.get("config"), segmenter),
        discriminator=None if discriminator is None else _discriminator(_the(dict, discriminator, "discriminator")),
        classes=classes,
        palette=palette,
        ignore_index=_whole(_present(given, "ignore_index"), "ignore_index", 0, MAX_CLASSES - 1),
        normalisation=_normalisation(_entry(dict, given, "normalisation")),
        decoding=_decoding(_the(dict, given.get("decoding", {}), "decoding")),
        resize=resize_of(given.get("resize")),
        metrics={
            _text(name, "metrics"): _number(value, f"metrics[{shown(name)}]")
            for name, value in _entry(dict, given, "metrics").items()
        },
        lineage=_lineage(_entry(dict, given, "lineage")),
    )


def _segmenter(given: dict[str, Any]) -> SegmenterSettings:
    architecture = _text(_present(given, "architecture"), "segmenter.architecture")
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {shown(architecture)}; this version knows {', '.join(ARCHITECTURES)}")
    kind = ARCHITECTURES[architecture]
    values = _settings(kind, given, "segmenter")
    if issubclass(kind, TransformersSettings):
        _present(values, "pretrained")
    return kind(**values)  # pyright: ignore[reportReturnType]: all that are in the table


def _config(given: Any, segmenter: SegmenterSettings) -> Config | None:
    """What builds a network that is not ours, which is looked for nowhere else."""
    if not isinstance(segmenter, TransformersSettings | Dinov2Settings):
        return None
    try:
        return checked_config(given)
    except ValueError as error:
        raise ValueError(f"config of {segmenter.architecture}: {error}") from None


def _discriminator(given: dict[str, Any]) -> DiscriminatorSettings:
    values = _settings(DiscriminatorSettings, given, "discriminator")
    if "widths" in values:
        widths = values["widths"]
        if not 1 <= len(widths) <= MAX_STAGES:
            raise ValueError(f"discriminator.widths must be 1 to {MAX_STAGES}, but are {len(widths)}")
        values["widths"] = tuple(_whole(width, "discriminator.widths", 1, _MAX_WHOLE) for width in widths)
    return DiscriminatorSettings(**values)


def _settings(kind: type, given: dict[str, Any], place: str) -> dict[str, Any]:
    """Values for the fields of settings, each of the type of its default; ranges the settings check themselves."""
    defaults = {field.name: field.default for field in fields(kind)}
    for name, value in given.items():
        if name not in defaults:
            raise ValueError(f"{place} has no setting {shown(name)}; this version knows {', '.join(defaults)}")
        where = f"{place}.{name}"
        match defaults[name]:
            case bool():
                if not isinstance(value, bool):
                    raise ValueError(f"{where} must be true or false, but is {shown(value)}")
            case int():
                _whole(value, where, 0, _MAX_WHOLE)
            case tuple():
                _the(list, value, where)
            case default if not (default is None and value is None) and len(_text(value, where)) > _MAX_WORD:
                raise ValueError(f"{where} must be at most {_MAX_WORD} characters, but is {shown(value)}")
    return dict(given)


def _normalisation(given: dict[str, Any]) -> Normalisation:
    return Normalisation(mean=_channels(given, "mean", *_MEANS), std=_channels(given, "std", *_SPREADS))


def _decoding(given: dict[str, Any]) -> Decoding:
    """By default that of cards of before there was a choice."""
    scale, orientation = given.get("scale"), given.get("orientation", "exif")
    if orientation not in ("exif", "ignore"):
        raise ValueError(f"decoding.orientation must be exif or ignore, but is {shown(orientation)}")
    if scale is None:
        return Decoding(orientation=orientation)
    if len(ends := _the(list, scale, "decoding.scale")) != 2:
        raise ValueError(f"decoding.scale must be two numbers, but is {shown(scale)}")
    low, high = (_whole(end, "decoding.scale", 0, HIGHEST) for end in ends)
    try:
        return Decoding(scale=(low, high), orientation=orientation)
    except ValueError as error:
        raise ValueError(f"decoding.{error}") from None


def _channels(given: dict[str, Any], key: str, low: float, high: float) -> tuple[float, float, float]:
    place = f"normalisation.{key}"
    red, green, blue = (_number(value, place) for value in _three(_entry(list, given, key), place))
    for value in (red, green, blue):
        if not low <= value <= high:
            raise ValueError(f"{place} must be in [{low:g}, {high:g}], but is {value:g}")
    return red, green, blue


def resize_of(given: Any) -> Resize | None:
    """What JSON says of a size at which a network reads images. Raises ValueError for what is none."""
    if given is None:
        return None
    if isinstance(given, dict):
        return _longer_side(given)
    if len(sides := _the(list, given, "resize")) != 2:
        raise ValueError(f"resize must be a height and a width, but is {shown(given)}")
    height, width = (_whole(side, "resize", LEAST_SIDE, MAX_PIXELS) for side in sides)
    refuse_huge((height, width))
    return height, width


def _longer_side(given: dict[str, Any]) -> LongerSide:
    names = [field.name for field in fields(LongerSide)]
    if given.keys() != {*names}:
        raise ValueError(f"resize must be an object of {' and '.join(names)}, but is {shown(given)}")
    try:
        return LongerSide(**{name: _whole(given[name], name, 1, MAX_SIDE) for name in names})
    except ValueError as error:
        raise ValueError(f"resize.{error}") from None


def _lineage(given: dict[str, Any]) -> dict[str, Any]:
    """Anything, but of its own kind what is read of it."""
    for name in ("key", "dataset_digest"):
        if name in given:
            _text(given[name], f"lineage.{name}")
    for name in ("step", "judged_by"):
        if name in given:
            _whole(given[name], f"lineage.{name}", 0, 2**63 - 1)
    for part, images in _the(dict, given.get("images", {}), "lineage.images").items():
        _whole(images, f"lineage.images[{shown(_text(part, 'lineage.images'))}]", 0, 2**63 - 1)
    if "spec" in given and "name" in _the(dict, given["spec"], "lineage.spec"):
        _text(given["spec"]["name"], "lineage.spec.name")
    return given


def _colour(given: Any, place: str) -> tuple[int, int, int]:
    red, green, blue = (_whole(value, place, 0, 255) for value in _three(given, place))
    return red, green, blue


def _three(given: Any, place: str) -> tuple[Any, Any, Any]:
    if len(values := _the(list, given, place)) != 3:
        raise ValueError(f"{place} must be three numbers, but is {shown(given)}")
    return values[0], values[1], values[2]


def _present(given: dict[str, Any], key: str) -> Any:
    if key not in given:
        raise ValueError(f"there is no {key}")
    return given[key]


def _entry(kind: type[T], given: dict[str, Any], key: str) -> T:
    return _the(kind, _present(given, key), key)


def _the(kind: type[T], value: Any, place: str) -> T:
    if not isinstance(value, kind):
        words = {dict: "an object", list: "a list", str: "text"}
        raise ValueError(f"{place} must be {words[kind]}, but is {shown(value)}")
    return value


def _text(value: Any, place: str) -> str:
    """A text that can be printed where UTF-8 is."""
    text = _the(str, value, place)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{place} must be text, but is {shown(text)}")
    return text


def _whole(value: Any, place: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{place} must be a whole number in [{low}, {high}], but is {shown(value)}")
    return value


def _number(value: Any, place: str) -> float:
    """A number, which may be NaN: a figure of nothing."""
    try:
        if type(value) in (int, float):
            return float(value)
    except OverflowError:
        pass
    raise ValueError(f"{place} must be a number, but is {shown(value)}")
