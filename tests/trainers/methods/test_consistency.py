"""Weak-to-strong consistency against a plain implementation, in float64; its teacher, and what it refuses."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from advseg.models import load
from advseg.models.compact import Compact
from advseg.models.discriminator import Discriminator, DiscriminatorSettings
from advseg.models.weights import read_weights
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.distributed import World
from advseg.trainers.errors import UserError
from advseg.trainers.loop import Training
from advseg.trainers.methods.consistency import ConsistencySettings
from advseg.trainers.methods.consistency_step import Consistency
from advseg.trainers.methods.method import Batch, Wants
from advseg.trainers.methods.table import build_method
from advseg.trainers.methods.teacher import Follower
from advseg.trainers.optimizers import AdamSettings, SGDSettings
from advseg.trainers.recipe import Recipe
from advseg.trainers.reporter import RecordingReporter
from advseg.trainers.settings import TrainerSettings
from advseg.trainers.speed import SpeedSettings

CLASSES, SIDE, IGNORE, STEPS = 3, 16, 255, 5
SETTINGS = ConsistencySettings(
    threshold=0.4,
    lambda_semi=0.7,
    ema_decay=0.6,
    views=2,
    lambda_adv=0.3,
    discriminator=DiscriminatorSettings(widths=(4, 8), classifier="dense"),
    discriminator_optimizer=AdamSettings(lr=1e-3),
)
TRAINER = TrainerSettings(
    steps=STEPS,
    segmenter_optimizer=SGDSettings(lr=0.05, weight_decay=0.01),
    head_lr_factor=2.0,
    augmentation=AugmentationSettings(crop=(SIDE, SIDE)),
)


def networks() -> tuple[Compact, Discriminator]:
    """With running statistics, which the teacher follows, too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = Compact(CLASSES, 8).double()
        discriminator = Discriminator(CLASSES, (4, 8), "dense").double()
    segmenter.stem = nn.Sequential(segmenter.stem, nn.BatchNorm2d(8)).double()
    return segmenter, discriminator


def method_of(settings: ConsistencySettings, trainer: TrainerSettings, device: str = "cpu") -> Consistency:
    segmenter, discriminator = (network.to(device) for network in networks())
    critic = discriminator if settings.lambda_adv else None
    return Consistency(settings, trainer, segmenter, critic, ignore_index=IGNORE, world=World())


def there(batch: Batch, device: str) -> Batch:
    return Batch(**{name: part.to(device) for name, part in vars(batch).items()})


def batch_of(seed: int, views: int = 2) -> Batch:
    """Three images and their partners, the other way round; some pixels are void or padding."""
    rng = torch.Generator().manual_seed(seed)

    def labels() -> Tensor:
        drawn = torch.randint(0, CLASSES, (3, SIDE, SIDE), generator=rng)
        return drawn.masked_fill(torch.rand(drawn.shape, generator=rng) < 0.2, IGNORE)

    def images(*shape: int) -> Tensor:
        return torch.randn(*shape, 3, SIDE, SIDE, generator=rng, dtype=torch.float64)

    boxes = torch.tensor([[[0, 2, 9, 12], [0, 0, 0, 0], [3, 0, 4, 16]], [[0, 0, 0, 0], [1, 1, 7, 5], [8, 8, 16, 16]]])
    return Batch(
        images=images(3),
        labels=labels(),
        real_labels=labels(),
        unlabelled=images(3),
        unlabelled_valid=torch.rand(3, SIDE, SIDE, generator=rng) < 0.9,
        unlabelled_labels=labels(),
        strong=images(views, 3),
        boxes=boxes[:views],
        partners=torch.tensor([2, 1, 0]),
        channels=torch.tensor([11, -1, 12]),
    )


def plain(settings: ConsistencySettings, batches: list[list[Batch]]) -> Iterator[tuple[dict, nn.Module, nn.Module]]:
    """The figures of each step, and student and teacher after it: sums of logarithms, loops over pixels, copies."""
    student, critic = networks()
    teacher = deepcopy(student) if settings.teacher == "ema" else student
    head = {id(parameter) for parameter in student.branches.parameters()}
    groups = [[p for p in student.parameters() if id(p) not in head], [*student.branches.parameters()]]
    optimizer = torch.optim.SGD([{"params": group} for group in groups], lr=0.05, momentum=0.9, weight_decay=0.01)
    critics = torch.optim.Adam(critic.parameters(), betas=(0.9, 0.99))
    for step, parts in enumerate(batches):
        rate = (1 - step / STEPS) ** 0.9
        for scale, group in zip((0.05, 0.1), optimizer.param_groups, strict=True):
            group["lr"] = scale * rate
        critics.param_groups[0]["lr"] = 1e-3 * rate
        total, d_total, figures = torch.zeros(()), torch.zeros(()), {}
        for batch in parts:
            semi, share, accuracy = plain_semi(settings, student, teacher, batch)
            probabilities = student(batch.images).softmax(1)
            known = batch.labels != IGNORE
            ce = surprises(probabilities, batch.labels, known).mean()
            real_ones = torch.zeros(3, CLASSES, SIDE, SIDE, dtype=torch.float64)
            for n, y, x in (batch.real_labels != IGNORE).nonzero().tolist():
                real_ones[n, batch.real_labels[n, y, x], y, x] = 1
            truth = critic(real_ones).sigmoid().squeeze(1)[batch.real_labels != IGNORE]
            fake = critic(probabilities).sigmoid().squeeze(1)[known]
            detached = critic(probabilities.detach()).sigmoid().squeeze(1)[known]
            adversarial = -fake.log().mean() if settings.lambda_adv else torch.zeros(())
            d = -0.5 * truth.log().mean() - 0.5 * (1 - detached).log().mean()
            total = total + (ce + settings.lambda_adv * adversarial + settings.lambda_semi * semi) / 2 / len(parts)
            d_total = d_total + d / len(parts)
            found = {"loss/ce": ce, "loss/semi": semi, "loss/adv": adversarial, "loss/d": d}
            for name, value in {**found, "selected/share": share, "selected/accuracy": accuracy}.items():
                figures[name] = figures.get(name, 0) + float(torch.as_tensor(value).detach()) / len(parts)
        gradients = torch.autograd.grad(total, [*student.parameters()])
        for parameter, gradient in zip(student.parameters(), gradients, strict=True):
            parameter.grad = gradient
        for parameter, gradient in zip(
            critic.parameters(), torch.autograd.grad(d_total, [*critic.parameters()]), strict=True
        ):
            parameter.grad = gradient
        optimizer.step()
        critics.step()
        if teacher is not student:
            keeps = min(1 - 1 / (step + 1), settings.ema_decay)
            ours = student.state_dict()
            theirs = teacher.state_dict()
            averages = {name: keeps * theirs[name] + (1 - keeps) * ours[name] for name in ours if "num_" not in name}
            teacher.load_state_dict(averages, strict=False)
        yield figures, student, teacher


def surprises(probabilities: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Of each pixel of a mask, -log of the probability of its label."""
    return -probabilities.movedim(1, -1)[mask][range(int(mask.sum())), labels[mask]].log()


def plain_semi(
    settings: ConsistencySettings, student: nn.Module, teacher: nn.Module, batch: Batch
) -> tuple[Tensor, float, float]:
    """The pseudo-label loss, and share and accuracy of what is selected in the weak view."""
    teacher.eval()
    with torch.no_grad():
        weak = teacher(batch.unlabelled).softmax(1).numpy()
    teacher.train()
    confidence, classes, valid = weak.max(1), weak.argmax(1), batch.unlabelled_valid.numpy()
    chosen = (confidence >= settings.threshold) & valid
    truth = batch.unlabelled_labels.numpy()
    judged = chosen & (truth != IGNORE)
    shown, targets = [], []
    for view in range(settings.views):
        images = batch.strong[view].clone()
        label, sure, counts = classes.copy(), confidence.copy(), valid.copy()
        for n, box in enumerate(batch.boxes[view].tolist()):
            top, left, bottom, right = box
            for y in range(top, bottom):
                for x in range(left, right):
                    images[n, :, y, x] = batch.strong[view][2 - n, :, y, x]
                    label[n, y, x] = classes[2 - n, y, x]
                    sure[n, y, x] = confidence[2 - n, y, x]
                    counts[n, y, x] = valid[2 - n, y, x]
        shown.append(images)
        targets.append((label, sure, counts))
    both = torch.cat(shown)
    logits = plain_dropped(student, both, batch.channels) if settings.feature_dropout else student(both)
    losses = []
    for probabilities, (label, sure, counts) in zip(logits.softmax(1).chunk(settings.views), targets, strict=True):
        learnt = torch.from_numpy(counts & (sure >= settings.threshold))
        losses.append(surprises(probabilities, torch.from_numpy(label), learnt).sum() / int(counts.sum()))
    return torch.stack(losses).mean(), chosen.sum() / valid.sum(), (classes == truth)[judged].mean()


def plain_dropped(student: nn.Module, images: Tensor, keys: Tensor) -> Tensor:
    """Of two views of each image, half of the channels each."""

    def bits(number: int) -> int:
        number = ((number ^ number >> 16) * 0x7FEB352D) % 2**32
        number = ((number ^ number >> 15) * 0x846CA68B) % 2**32
        return number ^ number >> 16

    features = [maps.clone() for maps in student.encode(images)]
    for maps in features:
        factors = torch.ones_like(maps)
        for n, key in enumerate(keys.tolist()):
            for channel in range(maps.shape[1]) if key >= 0 else ():
                half = 2 * (bits(bits(key) + channel) % 2)
                factors[n, channel], factors[n + len(keys), channel] = half, 2 - half
        maps *= factors
    return student.decode(tuple(features), images)


CASES = pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (SETTINGS, 1),
        (replace(SETTINGS, feature_dropout=True), 2),
        (replace(SETTINGS, teacher="self", views=1, lambda_adv=0.0), 1),
    ],
    ids=["two views, adversarial", "dropout, micro-batches", "self-taught"],
)


@CASES
def test_five_steps_are_those_of_a_plain_implementation(settings, parts):
    assert_plain(settings, parts, "cpu")


@pytest.mark.gpu
@CASES
@pytest.mark.parametrize("speed", [{}, {"graphs": True}])
def test_five_steps_on_a_gpu_are_those_of_a_plain_implementation(settings, parts, speed):
    assert_plain(settings, parts, "cuda", **speed)


def assert_plain(settings: ConsistencySettings, parts: int, device: str, **speed: bool) -> None:
    batches = [[batch_of(10 * step + part, settings.views) for part in range(parts)] for step in range(STEPS)]
    trainer = replace(TRAINER, batch_size=3 * parts, accumulation=parts, speed=SpeedSettings(**speed))
    method = method_of(settings, trainer, device)

    for step, (figures, student, teacher) in enumerate(plain(settings, batches)):
        method.step(step, [there(batch, device) for batch in batches[step]])
        found = method.meter.take()
        assert 0.1 < figures["selected/share"] < 0.99
        # The plain one has a discriminator in any case, and of micro-batches means of ratios.
        compared = [name for name in found if name.startswith("loss" if parts > 1 else ("loss", "selected"))]
        assert set(compared) >= {"loss/ce", "loss/semi"}
        assert [found[name] for name in compared] == pytest.approx([figures[name] for name in compared], rel=1e-9)
        assert_equal(method.student, student)
        assert_equal(method.segmenter, teacher)


def assert_equal(ours: nn.Module, expected: nn.Module) -> None:
    for name, tensor in ours.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.cpu(), expected.state_dict()[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dropped", [False, True])
def test_images_that_go_through_together_teach_the_same(dropped):
    """Of a network that does not mix them."""
    states = []
    for joint in (False, True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            segmenter = Compact(CLASSES, 8).double()
        settings = replace(SETTINGS, feature_dropout=dropped, lambda_adv=0.0)
        trainer = replace(TRAINER, speed=SpeedSettings(joint_forward=joint))
        method = Consistency(settings, trainer, segmenter, None, ignore_index=IGNORE, world=World())
        for step in range(2):
            method.step(step, [batch_of(step)])
        states.append(method.state_dict()["segmenter"]["network"])
    torch.testing.assert_close(*states, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("speed", [{"recompute": True}, {"joint_forward": True}])
def test_a_teacher_that_follows_has_a_life_of_its_own(speed):
    """Also where blocks of the student were patched before it was copied."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = Compact(CLASSES, 8).double()
    method = Consistency(
        SETTINGS,
        replace(TRAINER, speed=SpeedSettings(**speed)),
        segmenter,
        networks()[1],
        ignore_index=IGNORE,
        world=World(),
    )
    ours, theirs = (dict(network.named_parameters()) for network in (method.student, method.segmenter))
    assert not {tensor.data_ptr() for tensor in ours.values()} & {tensor.data_ptr() for tensor in theirs.values()}
    assert not any(tensor.requires_grad for tensor in theirs.values())
    with torch.no_grad():
        for tensor in theirs.values():
            tensor.zero_()
    assert not method.segmenter(batch_of(0).images).any()
    assert method.student(batch_of(0).images).any()


def test_a_teacher_begins_as_the_student_and_ends_slower():
    student = nn.Linear(2, 1, bias=False)
    teacher = Follower(student, 0.75, SpeedSettings())
    seen = []
    for step, value in enumerate([4.0, 2.0, 2.0, 6.0, 2.0]):
        nn.init.constant_(student.weight, value)
        teacher.follow(step)
        seen.append(teacher.network.weight[0, 0].item())
    # 1 - 1 / (step + 1) is 0, 1/2, 2/3, 3/4, 4/5.
    assert seen == pytest.approx([4, 3, 8 / 3, 3.5, 3.125])


def test_start_weights_are_the_students_and_the_teachers(program, shapes, tmp_path):
    first = Training(program.recipe_of("supervised", steps=1), shapes, tmp_path / "first")
    first.run(RecordingReporter())
    torch.save(first.method.segmenter.state_dict(), tmp_path / "weights.pth")
    recipe = program.recipe_of("consistency", steps=1)
    recipe = replace(recipe, segmenter=replace(recipe.segmenter, weights=str(tmp_path / "weights.pth")))
    training = Training(recipe, shapes, tmp_path / "second")
    judged, labels = [], training.method._teacher.labels

    def looking(images: Tensor) -> tuple[Tensor, Tensor]:
        judged.append({name: tensor.clone() for name, tensor in training.method.segmenter.state_dict().items()})
        return labels(images)

    training.method._teacher.labels = looking
    training.run(RecordingReporter())

    torch.testing.assert_close(judged[0], read_weights(tmp_path / "weights.pth"), rtol=0, atol=0)


def test_what_is_reported_and_exported_is_the_teacher_with_the_student_beside_it(program, shapes, tmp_path):
    training = Training(program.recipe_of("consistency", steps=3), shapes, tmp_path / "run")
    reporter = RecordingReporter()
    training.run(reporter)
    training.export(tmp_path / "model", {})

    metrics = reporter.reports[-1].metrics
    torch.testing.assert_close(
        load(tmp_path / "model").segmenter.state_dict(), training.method._teacher.network.state_dict(), rtol=0, atol=0
    )
    assert training.method.student is not training.method.segmenter
    alone = training._evaluated(training.method.student).metrics["val/miou"]
    assert metrics["val/student_miou"] == alone
    assert metrics["val/miou"] == training._evaluated(training.method.segmenter).metrics["val/miou"]
    assert load(tmp_path / "model").discriminator is not None


def test_a_teacher_that_is_the_student_is_evaluated_once(program, shapes, tmp_path):
    recipe = program.recipe_of("consistency", steps=1, teacher="self", lambda_adv=0.0)
    training, reporter = Training(recipe, shapes, tmp_path), RecordingReporter()
    training.run(reporter)

    assert training.method.student is training.method.segmenter
    assert "val/student_miou" not in reporter.reports[-1].metrics
    assert training.method.state_dict().keys() == {"segmenter"}


def test_with_the_adversarial_loss_alone_it_is_the_adversarial_method_without_unlabelled_images():
    settings = replace(SETTINGS, lambda_semi=0.0)

    segmenter, _ = networks()
    method = build_method(settings, TRAINER, segmenter, classes=CLASSES, ignore_index=IGNORE, world=World())

    assert method.wants(0) == Wants(real=True)
    assert method.settings.lambda_adv == 0.3


@pytest.mark.parametrize(
    ("fields_", "message"),
    [
        ({"threshold": 1.5}, r"threshold must be in \[0, 1\], but is 1.5"),
        ({"ema_decay": 1.0}, r"ema_decay must be in \[0, 1\), but is 1.0"),
        ({"views": 3}, "views must be one of 1, 2, but is 3"),
        ({"teacher": "mean"}, "teacher must be one of ema, self, but is mean"),
        ({"lambda_semi": -1}, "lambda_semi must be at least 0, but is -1"),
        (
            {"views": 1, "feature_dropout": True},
            "feature_dropout divides channels between 2 views, but views is 1: set",
        ),
    ],
)
def test_values_that_it_cannot_take_are_refused_in_a_line(fields_, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **fields_)


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (
            {"augmentation": AugmentationSettings(crop=(3, 3))},
            "trainer.augmentation.crop is 3 x 3, but a discriminator",
        ),
        (
            {"speed": SpeedSettings(compile=True)},
            "method.feature_dropout reaches into the network, which trainer.speed",
        ),
    ],
)
def test_a_trainer_that_it_does_not_go_with_is_refused_in_a_line(program, trainer, message):
    recipe = program.recipe_of("consistency")
    with pytest.raises(ValueError, match=message):
        Recipe(segmenter=recipe.segmenter, method=recipe.method, trainer=replace(recipe.trainer, **trainer))


def test_a_dataset_without_unlabelled_images_is_refused_in_a_line(shapes):
    with pytest.raises(UserError, match=r"no unlabelled images, but method.lambda_semi is above 0: name a list"):
        SETTINGS.check_dataset(replace(shapes, unlabelled=()))
