import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advseg.models.architectures import CompactSettings, DeepLabSettings
from advseg.platform.spec.spec import Spec, spec_from
from advseg.platform.spec.spec_file import SpecError, load_spec, parse_spec
from advseg.trainers.data.layouts import TREES
from advseg.trainers.methods.supervised import SupervisedSettings
from advseg.trainers.optimizers import AdamSettings, SGDSettings

DEMO = Path(__file__).parents[3] / "jobs" / "specs" / "demo.yaml"

MakeSpec = Callable[..., Spec]
WriteSpec = Callable[[dict[str, Any]], Path]

names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)

GRAPHS = "trainer.speed.graphs"


def problems(path: Path, *overrides: str) -> list[str]:
    """The lines of a spec's problems, without their head."""
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides)
    head, *lines = str(caught.value).split("\n")
    assert head == f"{len(lines)} problem{'s' if len(lines) > 1 else ''} in {path}:"
    return [line.strip() for line in lines]


def refusal(path: Path, *overrides: str) -> str:
    """The one line of an error that is about the file or an override as a whole."""
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestFile:
    def test_the_demo_is_valid_once_its_dataset_exists(self, tmp_path: Path) -> None:
        copied = tmp_path / "jobs" / "specs" / "demo.yaml"
        copied.parent.mkdir(parents=True)
        copied.write_text(DEMO.read_text())
        data = tmp_path / ".advseg" / "data" / "shapes"
        assert problems(copied) == [
            f"dataset.root: folder {data} does not exist: put {TREES['voc']} there, or name where it lies"
        ]
        data.mkdir(parents=True)
        assert load_spec(copied).name == "shapes-demo"

    def test_is_missing(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "no.yaml") == f"spec {tmp_path / 'no.yaml'} does not exist"

    def test_is_a_directory(self, tmp_path: Path) -> None:
        assert refusal(tmp_path) == f"spec {tmp_path} is a folder: name a YAML file"
        (tmp_path / "mine.yaml").touch()
        assert refusal(tmp_path) == f"spec {tmp_path} is a folder: name a YAML file in it, as mine.yaml"

    def test_is_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "latin.yaml"
        path.write_bytes("name: Äpfel".encode("latin-1"))
        assert "cannot be read" in refusal(path)

    @pytest.mark.parametrize(
        ("text", "kind"), [("", "is empty"), ("- a\n- b", "is a list"), ("hello", "is a str"), ("3", "is a int")]
    )
    def test_is_no_mapping(self, tmp_path: Path, text: str, kind: str) -> None:
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        assert refusal(path).endswith(f"must be a YAML mapping of keys to values, but {kind}")

    @pytest.mark.parametrize(
        "text",
        [
            "a: [1",
            "a: !!python/object/apply:os.getcwd []",
            "a: 2026-02-30",
            "? [1]\n: 2",
            "[" * 5000,
        ],
        ids=["cut short", "code", "no date", "list as key", "too deep"],
    )
    def test_is_no_plain_yaml(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        assert refusal(path).startswith(f"spec {path} cannot be read: ")

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("a:\n\tb: 1", "line 2, column 1: a tab, where YAML takes spaces alone"),
            (
                "a:\n   b: 1\n  c: 1",
                "line 3, column 3: a line that is indented neither as the one before it nor as any section that it "
                "may be in",
            ),
            (
                "a: b: c",
                "line 1, column 5: a second colon, or a line that is indented too far: quote text that holds `: `",
            ),
            ("a: [1", "line 1, column 6: expected ',' or ']', but got '<stream end>'"),
        ],
        ids=["tab", "indent", "colon", "bracket"],
    )
    def test_says_where_it_is_no_yaml(self, tmp_path: Path, text: str, reason: str) -> None:
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        assert refusal(path) == f"spec {path} cannot be read: {reason}"

    def test_gives_a_key_twice(self, tmp_path: Path) -> None:
        path = tmp_path / "spec.yaml"
        path.write_text("job: train\ntrainer:\n  steps: 1\n  seed: 2\n  steps: 3\n")
        assert refusal(path) == f"spec {path} cannot be read: key steps is given twice, on lines 3 and 5: remove one"

    def test_may_replace_what_it_merges_in(self, document: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "spec.yaml"
        del document["trainer"]["segmenter_optimizer"]
        trainer, method = (yaml.safe_dump({name: document.pop(name)}) for name in ("trainer", "method"))
        trainer += "  segmenter_optimizer: &adam {name: adam, lr: 0.1, weight_decay: 0.5}\n"
        method += "  discriminator_optimizer: {<<: *adam, lr: 0.2}\n"
        path.write_text(yaml.safe_dump(document) + trainer + method)
        assert load_spec(path).method.discriminator_optimizer == AdamSettings(lr=0.2, weight_decay=0.5)

    @pytest.mark.parametrize("text", ["a: &a [*a]", "dataset: &d {root: *d}", "1: 2", "null: 3", "[1, 2]: 3"])
    def test_may_be_odd_but_is_answered_in_words(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        with pytest.raises(SpecError):
            load_spec(path)


class TestProblems:
    def test_are_told_all_at_once_with_key_rule_value_and_nearest_name(
        self, document: dict[str, Any], write_spec: WriteSpec
    ) -> None:
        document["trainer"] |= {"stepz": 3, "batch_size": 0}
        document["method"]["threshold"] = 1.5
        del document["trainer"]["steps"]
        document["dataset"]["root"] = "nowhere"
        document["model"]["width"] = "wide"
        document["name"] = "A Name"
        document["sweep"]["space"]["method.lambda_sem"] = {"low": 0, "high": 1}
        path = write_spec(document)
        assert sorted(problems(path)) == [
            f"dataset.root: folder {path.parent}/nowhere does not exist: "
            f"put {TREES['voc']} there, or name where it lies",
            "method.threshold: must be in [0, 1], but is 1.5",
            "model.width: must be a whole number, but is 'wide'",
            "name: must be 2 to 63 lower-case letters, digits and hyphens, starting with no hyphen, but is 'A Name'",
            "sweep.space.method.lambda_sem: unknown key; did you mean method.lambda_semi?",
            "trainer.batch_size: must be at least 1, but is 0",
            "trainer.steps: is missing: add it",
            "trainer.stepz: unknown key; did you mean steps?",
        ]

    def test_of_a_spec_of_an_older_version_say_where_its_keys_are_now(
        self, document: dict[str, Any], write_spec: WriteSpec
    ) -> None:
        knobs = document.pop("method")
        document["discriminator"] = knobs["discriminator"]
        document["trainer"] |= {"lambda_adv": 0.1, "threshold": 0.3, "speed": {"augment_on_device": True}}
        document["sweep"] |= {
            "space": {"trainer.lambda_semi": {"low": 0, "high": 1}},
            "first": [{"trainer.lambda_semi": 0.5}],
        }
        assert sorted(problems(write_spec(document))) == [
            "discriminator is method.discriminator now",
            "sweep.first.0: trainer.lambda_semi is method.lambda_semi now",
            "sweep.space: trainer.lambda_semi is method.lambda_semi now",
            "trainer.lambda_adv is method.lambda_adv now",
            "trainer.speed.augment_on_device: is gone: processes of trainer.speed.workers draw batches instead",
            "trainer.threshold is method.threshold now",
        ]

    def test_name_the_known_keys_where_none_is_near(self, document: dict[str, Any], write_spec: WriteSpec) -> None:
        path = write_spec(document)
        assert problems(path, "model.colour=red") == [
            "model.colour: unknown key; known here: architecture, weights, width"
        ]

    @pytest.mark.parametrize(
        ("override", "problem"),
        [
            ("model.architecture=compct", "but is 'compct'; did you mean compact?"),
            ("trainer.segmenter_optimizer.name=SGD", "but is 'SGD'; did you mean sgd?"),
            ("model.architecture=foo", "must be one of 'compact', 'deeplab_v2_resnet50', 'deeplab_v2_resnet101'"),
            ("model={architecture: deeplab_v3plus_resnet50, output_stride: 4}", "model.output_stride: must be 8 or 16"),
            ("model={width: 8}", "model.architecture: is missing: add it"),
            ("model={architecture: deeplab_v2_resnet50, width: 8}", "model.width: unknown key"),
            ("model.width=9", "model: width must be a multiple of 8, but is 9"),
            ("model.width=64", "model.width: must be in [8, 56], but is 64"),
            ("model=[1]", "model: must be a mapping of keys to values, but is [1]"),
            ("trainer.segmenter_optimizer.name=sdg", "trainer.segmenter_optimizer.name: must be one of"),
            ("trainer.segmenter_optimizer.momentum=0.9", "trainer.segmenter_optimizer.momentum: unknown key; known"),
            ("trainer.segmenter_optimizer.betas=[0.9, 2]", "trainer.segmenter_optimizer.betas.1: must be in [0, 1"),
            ("trainer.segmenter_optimizer={lr: 1}", "trainer.segmenter_optimizer.name: is missing: add it"),
            ("method.discriminator_optimizer={name: adam, lr: 0}", "must be above 0, but is 0"),
            ("trainer.augmentation.crop=[16]", "trainer.augmentation.crop.1: is missing: add it"),
            ("trainer.augmentation.crop=[1, 2, 3]", "trainer.augmentation.crop: must have at most 2 values"),
            ("trainer.augmentation={crop: [8, 9], rotate: true}", "trainer.augmentation: rotate needs a square crop"),
            ("trainer.class_weights=[1, -1]", "trainer.class_weights.1: must be at least 0, but is -1.0"),
            ("trainer.class_weights=inverse", "trainer.class_weights: must be a list or 'balanced', but is 'inverse'"),
            ("trainer.resize=640", "trainer.resize: must be a list or a mapping of keys to values, but is 640"),
            ("trainer.resize=[64]", "trainer.resize.1: is missing: add it"),
            ("trainer.resize=[64, 7]", "trainer.resize.1: must be at least 8, but is 7"),
            ("trainer.resize=[1, 2, 3]", "trainer.resize: must have at most 2 values, but is [1, 2, 3]"),
            ("trainer.resize=[{longer: 64}, 64]", "trainer.resize.0: must be a whole number"),
            ("trainer.resize=[9000, 9000]", "trainer: resize must be of at most 64,000,000 pixels, but is 9000 x 9000"),
            ("trainer.resize={}", "trainer.resize.longer: is missing: add it"),
            ("trainer.resize={longer: 0}", "trainer.resize.longer: must be in [8, 8000], but is 0"),
            ("trainer.resize={longer: 1000000000}", "trainer.resize.longer: must be in [8, 8000], but is 1000000000"),
            (
                "trainer.resize={longer: 64, multiple: 7}",
                "trainer.resize: longer must be a multiple of multiple",
            ),
            ("trainer.resize={longer: 64, size: [8, 8]}", "trainer.resize.size: unknown key; known here: longer, mult"),
            ("method.lambda_adv=.nan", "method.lambda_adv: must be at least 0, but is nan"),
            ("method.lambda_adv=.inf", "method.lambda_adv: must be at least 0, but is inf"),
            ("trainer.steps=1.5", "trainer.steps: must be a whole number, but is 1.5"),
            ("trainer.steps=", "trainer.steps: must be a whole number, but is None"),
            ("trainer.precision=float16", "trainer.precision: must be 'float32' or 'float64', but is 'float16'"),
            ("trainer.augmentation.mirror=maybe", "trainer.augmentation.mirror: must be true or false"),
            ("dataset.root=3", "dataset.root: must be a path, but is 3"),
            ("dataset.pack=3", "dataset.pack: must be a text, but is 3"),
            ("dataset.classes=thing", "dataset.classes: must be a list, but is 'thing'"),
            ("dataset.classes=[yes]", "dataset.classes.0: must be a text, but is True"),
            ("dataset.ignore_index=65536", "dataset.ignore_index: must be in [0, 65535], but is 65536"),
            ("keep.newest=0", "keep.newest: must be at least 1, but is 0"),
            ("keep.best=-1", "keep.best: must be at least 0, but is -1"),
            ("keep.worst=1", "keep.worst: unknown key; known here: best, newest"),
            ("resources.workers=0", "resources.workers: must be at least 1, but is 0"),
            ("resources.workers=5", "resources.workers: must be at most trainer.batch_size / accumulation, 4"),
            ("trainer.unlabelled_batch_size=0", "trainer.unlabelled_batch_size: must be at least 1, but is 0"),
            ("resources.cpus_per_worker=0", "resources.cpus_per_worker: must be above 0"),
            (
                "resources.cpus_per_worker=1e-320",
                "resources.cpus_per_worker: must be from 0.0001, below which Ray does",
            ),
            ("resources.gpus_per_worker=.inf", "resources.gpus_per_worker: must be from 0.0001, below which Ray does"),
            ("sweep.concurrency=1000000000000", "sweep.concurrency: must be at most 10000, but is 1000000000000"),
            (
                "resources={workers: 2, gpus_per_worker: 0.5}",
                "resources.gpus_per_worker: must be a whole number where several workers train, for no two can share a "
                "GPU, but is 0.5: raise it, or use one worker",
            ),
            ("resources.placement=anywhere", "resources.placement: must be 'pack' or 'spread', but is 'anywhere'"),
            (
                "resources.accelerator='NVIDIA L4'",
                "resources.accelerator: must be the name of an accelerator, as A100, but is 'NVIDIA L4'",
            ),
            ("resources.node_labels={zone: 1}", "resources.node_labels.zone: must be a text, but is 1"),
            (
                "resources.node_labels={zone: '!in(a, b)'}",
                "resources.node_labels: keys and values must be labels, as in zone: eu-1, but one is zone: '!in(a, b)'",
            ),
            ("runtime_env={}", "runtime_env: must name requirements in either uv or pip: leave it out to install none"),
            (
                "runtime_env={uv: [a], pip: [b]}",
                "runtime_env: must name requirements in either uv or pip: leave it out",
            ),
            ("runtime_env={env_vars: {KEY: v}}", "runtime_env.env_vars: unknown key; known here: pip, uv"),
            (
                "runtime_env.pip=['--extra-index-url https://me:secret@host/']",
                "runtime_env: must name requirements alone, but one is the option --extra-index-url: set it up on the",
            ),
            (
                "runtime_env.uv=['probe @ git+https://secret@host/probe']",
                "runtime_env: probe holds a user or a secret, which a spec must not: set its index up on the nodes",
            ),
            (
                "sweep.baseline_workers=5",
                "sweep.baseline_workers: must be at most trainer.batch_size / accumulation, 4",
            ),
            ("sweep.register_as=a/b", "sweep.register_as: must be 2 to 63 lower-case letters"),
            (
                "sweep.pruner={name: medain}",
                "sweep.pruner.name: must be one of 'successive_halving', 'hyperband', 'median', 'patient', but is "
                "'medain'; did you mean median?",
            ),
            ("sweep.pruner={min_resource: 2}", "sweep.pruner.name: is missing: add it"),
            ("sweep.pruner={name: median, min_resource: 2}", "sweep.pruner.min_resource: unknown key; known here:"),
            ("sweep.pruner={name: hyperband}", "sweep.pruner.min_resource: is missing: add it"),
            ("sweep.pruner={name: patient, patience: -1}", "sweep.pruner.patience: must be at least 0, but is -1"),
            (
                "sweep.pruner={name: patient, patience: 1, wrapped: {name: patient, patience: 1}}",
                "sweep.pruner.wrapped.name: must be one of 'successive_halving', 'hyperband', 'median', but is",
            ),
            ("sweep.sampler={name: grid}", "sweep.sampler.values: is missing: add it"),
            ("sweep.sampler={name: grid, values: 1}", "sweep.sampler.values: must be at least 2, but is 1"),
            ("sweep.sampler={name: random, startup_trials: 3}", "sweep.sampler.startup_trials: unknown key"),
            (
                "sweep.sampler={name: sobol}",
                "sweep.sampler.name: must be one of 'tpe', 'random', 'grid', 'quasi_random'",
            ),
            ("sweep.retry.max_attempts=0", "sweep.retry.max_attempts: must be at least 1, but is 0"),
            ("sweep.retry.hang_timeout=0", "sweep.retry.hang_timeout: must be above 0"),
            ("sweep.retry.trial_timeout=-1", "sweep.retry.trial_timeout: must be above 0"),
            ("sweep.fork=A b", "sweep.fork: must be 2 to 63 lower-case letters"),
            ("ledger=runs/ledger.db", "ledger: must be postgresql://user@host/database, but is runs/ledger.db"),
            ("sweep.trials=0", "sweep.trials: must be at least 1, but is 0"),
            ("sweep.trails=3", "sweep.trails: unknown key; did you mean trials?"),
            ("sweep.space={}", "sweep.space: is empty: name at least one key, such as method.lambda_adv"),
            (
                "sweep.space={trainer.steps: {low: 1, high: 2}}",
                "sweep.space.trainer.steps: cannot be varied: the trials of a sweep are compared step by step",
            ),
            ("sweep.space.method.threshold.low=0.95", "low must be below high, but low is 0.95 and high is 0.9"),
            ("sweep.space.method.threshold.high=1.5", "sweep.space.method.threshold.high: must be in [0, 1]"),
            ("sweep.space.method.lambda_adv.low=0", "a logarithmic range must lie above 0, but low is 0"),
            (
                "sweep.space.method.lambda_adv.lo=0",
                "sweep.space.method.lambda_adv.lo: unknown key; did you mean low?",
            ),
            (
                "sweep.first=[{method.lambda_adv: 2, method.threshold: 0}]",
                "sweep.first.0.method.lambda_adv: must lie",
            ),
            ("sweep.first=[{method.lambda_adv: 1}]", "sweep.first.0: lacks a value for method.threshold"),
            ("sweep.first=[{method.treshold: 1}]", "unknown key; did you mean method.threshold?"),
            ("sweep.first=[3]", "sweep.first.0: must be a mapping of keys to values, but is 3"),
            ("method.discriminator={}", "a discriminator of 4 strided stages needs 32 pixels each way"),
            ("job=train", "job is train, but there is a section sweep: remove it or set job to sweep"),
            ("sweep=", "job is sweep, but there is no section sweep: add one or set job to train"),
            ("job=tune", "job: must be 'train' or 'sweep', but is 'tune'"),
            (
                "method.name=advesarial",
                "must be one of 'adversarial', 'consistency', 'supervised', but is 'advesarial'; did you",
            ),
            ("sweep.fork=probe", "sweep.fork names this very sweep, probe: name another, or remove it to go on"),
            ("method=[adversarial]", "method: must be a mapping of keys to values"),
            ("method={name: supervised, lambda_adv: 1}", "method.lambda_adv: unknown key"),
            (
                "method.semi_start=8",
                "method.semi_start must be below trainer.steps, 8, as method.lambda_semi is 0.1, but is 8: lower it",
            ),
            ("method.semi_adv_start=9", "method.semi_adv_start must be below trainer.steps, 8"),
        ],
    )
    def test_of_one_value_name_its_key_and_rule(
        self, document: dict[str, Any], write_spec: WriteSpec, override: str, problem: str
    ) -> None:
        assert any(problem in line for line in problems(write_spec(document), override))

    def test_echo_no_password(self, document: dict[str, Any], write_spec: WriteSpec) -> None:
        (problem,) = problems(write_spec(document), "ledger=postgresql://me:hunter2@host/database")
        assert problem.startswith("ledger: postgresql://...@host/database holds a password, which a spec must not")
        assert "hunter2" not in problem

    @pytest.mark.parametrize("key", ["storage", "dataset.root", "dataset.pack", "dataset.labelled", "model.weights"])
    @pytest.mark.parametrize("address", ["gs://bucket/x", "http://host/x", "file:///x", "hdfs://me:hunter2@host/x"])
    def test_tell_addresses_where_there_has_to_be_a_path(
        self, document: dict[str, Any], write_spec: WriteSpec, key: str, address: str
    ) -> None:
        section, _, name = key.rpartition(".")
        (document[section] if section else document)[name] = address
        for problem in (*problems(write_spec(document)), *problems(write_spec(document), f"{key}={address}")):
            assert problem.startswith(f"{key}: must be a ")
            assert "is the address " in problem and "name where it is mounted" in problem
            assert "hunter2" not in problem

    def test_tell_that_no_images_are_read_from_a_bucket(self, make_spec: MakeSpec) -> None:
        with pytest.raises(SpecError, match=r"dataset\.root: must be a path, but is the address s3://bucket/x: na"):
            make_spec("dataset.root=s3://bucket/x")

    @pytest.mark.parametrize("key", ["storage", "dataset.pack"])
    @pytest.mark.parametrize(
        ("address", "reason"),
        [
            ("s3:/bucket/x", "must be a folder or s3://bucket/prefix, but is the address"),
            ("S3://bucket/x", "must be a folder or s3://bucket/prefix, but is the address S3://bucket/x"),
            ("s3://", "names the bucket '', but a bucket's name has 3 to 63 lower-case letters"),
            ("s3://Bucket/x", "names the bucket 'Bucket'"),
            ("s3://b/x", "names the bucket 'b'"),
            ("s3://bucket//x", "has the prefix '/x', but a prefix is names with one slash between them"),
            ("s3://bucket/x/../y", "has the prefix 'x/../y'"),
            ("s3://bucket/x?region=eu", "s3://bucket/x holds more than a bucket and a prefix: remove it, and set AWS_"),
            ("s3://bucket/x#y", "s3://bucket/x holds more than a bucket and a prefix"),
            ("s3://hunter2@bucket/x", "s3://...@bucket/x holds more than a bucket and a prefix"),
            ("s3://me:hunter2@bucket/x", "s3://...@bucket/x holds more than a bucket and a prefix"),
            ("s3://bucket/x?X-Amz-Signature=hunter2", "s3://bucket/x holds more than a bucket and a prefix"),
            ("s3://bucket/x/token=hunter2", "s3://bucket/x/ holds more than a bucket and a prefix"),
            ("s3://bucket/x\ny", r"s3://bucket has the prefix 'x\ny'"),
            ("s3://bucket/x%3Fsecret=hunter2", "s3://bucket/x holds more than a bucket and a prefix"),
        ],
    )
    def test_tell_what_is_no_place_in_a_bucket(
        self, document: dict[str, Any], write_spec: WriteSpec, key: str, address: str, reason: str
    ) -> None:
        section, _, name = key.rpartition(".")
        (document[section] if section else document)[name] = address
        (problem,) = problems(write_spec(document))
        assert problem.startswith(f"{key}: ")
        assert reason in problem
        assert "hunter2" not in problem

    def test_tell_a_sweep_in_a_bucket_that_it_needs_a_ledger(
        self, document: dict[str, Any], make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(SpecError, match="storage is s3://bucket/x, where no SQLite file can be: add ledger: "):
            make_spec("storage=s3://bucket/x")
        with monkeypatch.context() as patch:
            patch.setenv("ADVSEG_LEDGER", "postgresql://team@host/advseg")
            make_spec("storage=s3://bucket/x")
        del document["sweep"]
        make_spec("storage=s3://bucket/x", "job=train")

    @pytest.mark.parametrize(
        "weights",
        [
            "s3://AKIAhunter2:hunter2@bucket/key",
            "s3://hunter2@bucket/key",
            "s3://bucket/key?AWSAccessKeyId=hunter2&Signature=hunter2",
            "s3://bucket/key?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2",
            "s3://bucket/key?X-Amz-Security-T%6fken=hunter2",
        ],
    )
    def test_echo_no_key_of_a_bucket(self, document: dict[str, Any], write_spec: WriteSpec, weights: str) -> None:
        (problem,) = problems(write_spec(document), f"model.weights={weights}")
        assert "holds a key or a signature, which a spec must not" in problem
        assert "hunter2" not in problem

    @pytest.mark.parametrize(
        ("override", "kind"),
        [
            ("model={architecture: compact}", CompactSettings),
            ("model={architecture: deeplab_v2_resnet101}", DeepLabSettings),
        ],
    )
    def test_do_not_arise_from_any_member_of_a_union(self, make_spec: MakeSpec, override: str, kind: type) -> None:
        assert isinstance(make_spec(override).model, kind)

    def test_do_not_arise_from_either_kind_of_optimizer(self, make_spec: MakeSpec) -> None:
        spec = make_spec("trainer.segmenter_optimizer={name: sgd}", "method.discriminator_optimizer={name: adamw}")
        assert isinstance(spec.trainer.segmenter_optimizer, SGDSettings)
        assert isinstance(spec.method.discriminator_optimizer, AdamSettings)


class TestShortForms:
    def test_are_the_long_ones(self, document: dict[str, Any], write_spec: WriteSpec) -> None:
        document["sweep"]["sampler"] = {"name": "random"}
        long = load_spec(write_spec(document))
        document["sweep"]["sampler"] = "random"
        assert load_spec(write_spec(document)) == long
        document["sweep"]["sampler"] = "tpe"
        assert load_spec(write_spec(document), ["sweep.sampler=random"]) == long
        given = ["sweep.sampler=grid", "sweep.sampler.values=3"]
        grid = load_spec(write_spec(document), given).sweep
        assert grid
        assert grid.sampler.model_dump() == {"name": "grid", "values": 3}

    def test_of_what_needs_more_say_so(self, document: dict[str, Any], write_spec: WriteSpec) -> None:
        document["sweep"]["pruner"] = "hyperband"
        assert problems(write_spec(document)) == ["sweep.pruner.min_resource: is missing: add it"]

    def test_may_have_keys_set_beside_them(self, document: dict[str, Any], write_spec: WriteSpec) -> None:
        document["method"] = "supervised"
        (problem,) = problems(
            write_spec(document), "method.lambda_adv=1", "sweep.space={trainer.seed: {low: 0, high: 9}}"
        )
        assert problem.startswith("method.lambda_adv: unknown key; ")


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "value"),
        [
            ("method.lambda_adv=0.02", 0.02),
            ("method.lambda_adv=1e-4", 1e-4),
            (" method.lambda_adv = 0.5 ", 0.5),
            ("method.lambda_adv='0.25'", 0.25),
        ],
    )
    def test_set_a_value(self, make_spec: MakeSpec, override: str, value: float) -> None:
        assert make_spec(override).method.lambda_adv == value

    def test_of_the_method_are_of_the_papers_where_the_file_names_none(
        self, document: dict[str, Any], write_spec: WriteSpec
    ) -> None:
        del document["method"]
        small = ("method.semi_start=0", "method.discriminator={widths: [4], classifier: dense}")
        spec = load_spec(write_spec(document), ["method.lambda_adv=0.5", *small])
        assert (spec.method.name, spec.method.lambda_adv) == ("adversarial", 0.5)

    def test_set_a_key_of_a_section_that_the_file_lacks(self, make_spec: MakeSpec) -> None:
        assert make_spec("resources.workers=2").resources.workers == 2

    def test_meet_keys_that_hold_dots(self, make_spec: MakeSpec) -> None:
        spec = make_spec("sweep.space.method.lambda_adv.low=0.5", "sweep.space.method.lambda_semi={low: 1, high: 2}")
        assert spec.sweep
        assert spec.sweep.space["method.lambda_adv"].low == 0.5
        assert spec.sweep.space["method.lambda_adv"].high == 1
        assert spec.sweep.space["method.lambda_semi"].low == 1

    def test_make_a_key_that_holds_dots(self, document: dict[str, Any], write_spec: WriteSpec) -> None:
        del document["sweep"]["space"]
        set_ = [f"sweep.space.method.lambda_adv.{end}" for end in ("low=1", "high=2")]
        spec = load_spec(write_spec(document), set_)
        assert spec.sweep
        assert list(spec.sweep.space) == ["method.lambda_adv"]

    def test_replace_a_whole_section(self, make_spec: MakeSpec) -> None:
        spec = make_spec("sweep.space={method.lambda_semi: {low: 1, high: 2}}")
        assert spec.sweep
        assert list(spec.sweep.space) == ["method.lambda_semi"]

    def test_the_last_of_equals_wins(self, make_spec: MakeSpec) -> None:
        assert make_spec("trainer.steps=1", "trainer.steps=2").trainer.steps == 2

    def test_may_hold_equals_signs_in_their_value(self, document: dict[str, Any], write_spec: WriteSpec) -> None:
        assert problems(write_spec(document), "name=a=b")[0].endswith("but is 'a=b'")

    @pytest.mark.parametrize("override", ["trainer.steps", "=3", "trainer.=3", "trainer..steps=3", ".=1", ""])
    def test_of_another_form_are_refused(self, document: dict[str, Any], write_spec: WriteSpec, override: str) -> None:
        expected = f"--set {override} must have the form key=value, as in --set method.lambda_adv=0.02"
        assert refusal(write_spec(document), override) == expected

    @pytest.mark.parametrize("value", ["[1", "{a: b", "2026-02-30", "{a: 1, a: 2}", "!!python/name:os.getcwd x"])
    def test_whose_value_is_not_yaml_are_refused(
        self, document: dict[str, Any], write_spec: WriteSpec, value: str
    ) -> None:
        message = refusal(write_spec(document), f"trainer.steps={value}")
        assert message.startswith(f"--set trainer.steps={value} has a value that is not YAML: ")

    def test_below_a_value_that_is_no_section_are_refused(
        self, document: dict[str, Any], write_spec: WriteSpec
    ) -> None:
        assert problems(write_spec(document), "trainer.steps.more=3") == ["trainer.steps: must be a whole number"]

    @pytest.mark.parametrize(
        ("overrides", "key"),
        [
            (["trainer.speed.graphs=true"], GRAPHS),
            (["trainer.speed.graphs=true", "resources.gpus_per_worker=1"], None),
            (["trainer.speed.graphs=true", "resources.gpus_per_worker=0.5"], None),
            (["trainer.speed.graphs=true", "resources.gpus_per_worker=1", "sweep.baseline_workers=2"], GRAPHS),
            (["sweep.space.trainer.speed.graphs.choices=[false,true]"], f"sweep.space.{GRAPHS}.choices.1"),
            (["resources.gpus_per_worker=1.5"], "resources.gpus_per_worker"),
        ],
    )
    def test_what_no_worker_could_begin_is_refused_before_one_does(
        self, document: dict[str, Any], write_spec: WriteSpec, overrides: list[str], key: str | None
    ) -> None:
        path = write_spec(document)
        if key is None:
            assert load_spec(path, overrides).trainer.speed.graphs
        else:
            (problem,) = problems(path, *overrides)
            assert problem.startswith(f"{key}: ")

    def test_of_a_version_before_are_read_where_they_were_stored(self, make_spec: MakeSpec) -> None:
        spec = make_spec("trainer.speed.compile=true")
        stored = spec.model_dump(mode="json")
        stored["trainer"]["speed"]["augment_on_device"] = False
        later = {
            "save_every",
            "schedule",
            "warmup_steps",
            "class_weights",
            "ohem",
            "unlabelled_batch_size",
            "graphs",
            "workers",
        }
        for key in later:
            (section,) = (part for part in (stored["trainer"], stored["trainer"]["speed"]) if key in part)
            del section[key]
        assert spec_from(stored) == spec
        trainer = spec.identity()["trainer"]
        assert not later & {*trainer, *trainer["speed"]}

    @pytest.mark.parametrize(
        ("overrides", "refused"),
        [
            (["resources.workers=2"], True),
            (["sweep.baseline_workers=2"], True),
            (["resources.workers=2", "resources.gpus_per_worker=1"], False),
            ([], False),
        ],
    )
    def test_synchronised_batch_norm_of_several_workers_needs_gpus(
        self, document: dict[str, Any], write_spec: WriteSpec, overrides: list[str], refused: bool
    ) -> None:
        model = {"architecture": "deeplab_v2_resnet50", "batch_norm": "synchronised"}
        path = write_spec({**document, "model": model})
        if refused:
            (problem,) = problems(path, *overrides)
            assert problem.startswith("model.batch_norm: synchronised needs GPUs where several workers train")
        else:
            assert load_spec(path, overrides).resources.workers in (1, 2)

    def test_image_pooling_needs_two_images_of_each_worker(
        self, document: dict[str, Any], write_spec: WriteSpec
    ) -> None:
        path = write_spec({**document, "model": {"architecture": "deeplab_v3plus_resnet50"}})
        assert load_spec(path, ["resources.workers=2"])
        assert problems(path, "resources.workers=3") == [
            "resources.workers: must be at most trainer.batch_size / accumulation / 2, 2, but is 3, as "
            "deeplab_v3plus_resnet50 learns from 2 at once"
        ]


class TestPaths:
    def test_in_the_file_are_relative_to_the_file(
        self, document: dict[str, Any], write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        spec = load_spec(write_spec({**document, "storage": "runs"}))
        assert (spec.dataset.root, spec.storage) == (tmp_path / "data", str(tmp_path / "runs"))

    def test_of_storage_in_a_bucket_are_left(self, make_spec: MakeSpec) -> None:
        ledger = "ledger=postgresql://me@host/database"
        assert make_spec("storage=s3://bucket/some/where/", ledger).storage == "s3://bucket/some/where"
        assert make_spec("storage=s3://bucket", ledger).storage == "s3://bucket"

    def test_in_overrides_are_relative_to_the_working_folder(
        self, make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "elsewhere" / "data").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "elsewhere")
        spec = make_spec("dataset.root=data", "storage=runs")
        assert (spec.dataset.root, spec.storage) == (
            tmp_path / "elsewhere" / "data",
            str(tmp_path / "elsewhere" / "runs"),
        )

    @pytest.mark.parametrize("key", ["labelled", "unlabelled", "validation", "order"])
    def test_of_list_files_are_anchored_too_and_names_of_lists_are_not(
        self, make_spec: MakeSpec, tmp_path: Path, key: str
    ) -> None:
        for written in ("splits/a", "a.txt", "a.pkl"):
            spec = make_spec(f"dataset.{key}={tmp_path}/{written}")
            assert getattr(spec.dataset, key) == str(tmp_path / written)
        assert getattr(make_spec(f"dataset.{key}=train_aug").dataset, key) == "train_aug"

    def test_of_list_files_are_relative_to_the_file(self, document: dict[str, Any], write_spec: WriteSpec) -> None:
        document["dataset"]["labelled"] = "splits/1_8/labeled.txt"
        path = write_spec(document)
        assert load_spec(path).dataset.labelled == str(path.parent / "splits/1_8/labeled.txt")

    def test_of_a_pack_are_relative_to_the_file_and_it_takes_the_place_of_the_images(
        self, document: dict[str, Any], write_spec: WriteSpec, tmp_path: Path
    ) -> None:
        (tmp_path / "packed").mkdir()
        document["dataset"] |= {"pack": "packed", "root": "nowhere"}
        dataset = load_spec(write_spec(document)).dataset
        assert (dataset.pack, dataset.root) == (str(tmp_path / "packed"), tmp_path / "nowhere")

    def test_of_a_pack_in_a_bucket_are_left_and_it_takes_the_place_of_the_images(
        self, document: dict[str, Any], write_spec: WriteSpec
    ) -> None:
        document["dataset"] |= {"pack": "s3://bucket/packs/voc", "root": "nowhere"}
        assert load_spec(write_spec(document)).dataset.pack == "s3://bucket/packs/voc"

    def test_of_a_pack_that_is_not_there_are_told(
        self, document: dict[str, Any], write_spec: WriteSpec, tmp_path: Path
    ) -> None:
        document["dataset"] |= {"pack": "packed", "root": "nowhere"}
        remedy = "write it by `advseg data pack`, or remove the key to read the images of dataset.root"
        assert problems(write_spec(document)) == [
            f"dataset.pack: folder {tmp_path}/packed does not exist: {remedy}",
        ]

    def test_of_start_weights_are_relative_to_the_file_and_addresses_are_left(
        self, document: dict[str, Any], write_spec: WriteSpec, tmp_path: Path
    ) -> None:
        (tmp_path / "start.pth").touch()
        document["model"]["weights"] = "start.pth"
        assert load_spec(write_spec(document)).model.weights == str(tmp_path / "start.pth")
        document["model"]["weights"] = "s3://bucket/start.pth"
        assert load_spec(write_spec(document)).model.weights == "s3://bucket/start.pth"

    def test_of_start_weights_that_are_not_there_are_told(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match=r"model\.weights: file .*/nowhere.pth does not exist: put "):
            make_spec(f"model.weights={tmp_path}/nowhere.pth")

    def test_may_start_at_the_users_home(
        self, make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert make_spec("storage=~/runs").storage == str(tmp_path / "runs")


class TestDigest:
    @pytest.mark.parametrize(
        "override",
        [
            "sweep.trials=9",
            "sweep.concurrency=7",
            "sweep.register_as=model",
            "sweep.retry.hang_timeout=5",
            "sweep.fork=other",
            "storage=runs",
            "ledger=postgresql://me@host/database",
            "profile=true",
            "dataset.pack=.",
            "resources.workers=2",
            "resources.gpus_per_worker=1",
            "resources.node_labels={zone: a}",
            "runtime_env.uv=[albumentations]",
            "keep={best: 3, newest: 1}",
            "export=best",
            # The same points, whatever the order of the keys.
            "sweep.space={method.threshold: {low: 0, high: 0.9}, method.lambda_adv: {low: 1e-3, high: 1, log: true}}",
        ],
    )
    def test_ignores_how_long_and_where_a_sweep_runs(self, make_spec: MakeSpec, override: str) -> None:
        assert make_spec(override).digest() == make_spec().digest()

    @pytest.mark.parametrize(
        "override",
        [
            "name=other",
            "dataset.ignore_index=0",
            "dataset.classes=[a, b]",
            "model.width=16",
            "method.discriminator.widths=[8]",
            "trainer.seed=1",
            "trainer.steps=9",
            "trainer.precision=float64",
            "trainer.evaluation.images=3",
            "trainer.augmentation.mirror=false",
            "trainer.segmenter_optimizer.lr=0.5",
            "sweep.space.method.threshold.high=0.8",
            "sweep.first=[{method.lambda_adv: 0.1, method.threshold: 0.1}]",
            "trainer.resize={longer: 64}",
            "sweep.sampler={name: tpe, startup_trials: 3}",
            "sweep.sampler={name: quasi_random}",
            "sweep.pruner={name: median}",
            "sweep.pruner={name: successive_halving, min_resource: 2}",
        ],
    )
    def test_changes_with_all_that_determines_its_results(self, make_spec: MakeSpec, override: str) -> None:
        assert make_spec(override).digest() != make_spec().digest()

    def test_has_nothing_of_keys_that_came_later_while_they_are_at_their_defaults(self, make_spec: MakeSpec) -> None:
        identity = make_spec().identity()
        assert "export" not in identity
        assert "images" not in identity["trainer"]["evaluation"]

    def test_holds_one_size_for_all_images_as_ever(self, make_spec: MakeSpec) -> None:
        resized = make_spec("trainer.resize=[40, 56]").identity()
        assert make_spec().identity()["trainer"]["resize"] is None
        assert resized["trainer"]["resize"] == [40, 56]

    def test_exists_for_a_training_too(self, make_spec: MakeSpec) -> None:
        assert make_spec("job=train", "sweep=").digest() != make_spec().digest()


class TestSpec:
    def test_with_values_sets_them_and_nothing_else(self, make_spec: MakeSpec) -> None:
        spec = make_spec()
        changed = spec.with_values({"method.lambda_adv": 0.5, "method.threshold": 0.75})
        assert (changed.method.lambda_adv, changed.method.threshold) == (0.5, 0.75)
        assert changed.with_values({"method.lambda_adv": 0.01, "method.threshold": 0.2}) == spec

    def test_supervised_is_the_same_training_without_the_method(self, make_spec: MakeSpec) -> None:
        spec = make_spec()
        assert spec.supervised().method == SupervisedSettings()
        assert spec.supervised().trainer == spec.trainer
        assert spec.variant("supervised") == spec.supervised()

    def test_variants_set_what_the_ablations_of_the_method_say(self, make_spec: MakeSpec) -> None:
        spec = make_spec()
        lambdas = {name: vars(spec.variant(name).method) for name in ("adversarial", "pseudo-label")}
        assert (lambdas["adversarial"]["lambda_semi"], lambdas["adversarial"]["lambda_adv"]) == (0, 0.01)
        assert (lambdas["pseudo-label"]["lambda_semi"], lambdas["pseudo-label"]["lambda_adv"]) == (0.1, 0)
        assert spec.variant("semi") == spec
        with pytest.raises(ValueError, match="method supervised has no variant semi: name one of supervised"):
            spec.supervised().variant("semi")

    def test_recipe_holds_what_the_trainer_needs(self, make_spec: MakeSpec) -> None:
        spec = make_spec("method.discriminator.widths=[8, 16]")
        assert spec.recipe().trainer == spec.trainer
        assert spec.recipe().method == spec.method
        assert spec.method.discriminator.widths == (8, 16)

    # The fixture is read only.
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        steps=st.integers(1, 2**31),
        lambda_adv=st.floats(0, 1e30),
        lr=st.floats(0, 1, exclude_min=True),
        classes=st.lists(names, min_size=2, max_size=4, unique=True),
        crop=st.tuples(st.integers(32, 999), st.integers(32, 999)),
        seed=st.integers(0, 2**63 - 1),
    )
    def test_survives_the_way_to_yaml_and_back(
        self,
        document: dict[str, Any],
        tmp_path: Path,
        steps: int,
        lambda_adv: float,
        lr: float,
        classes: list[str],
        crop: tuple[int, int],
        seed: int,
    ) -> None:
        drawn = copy.deepcopy(document)
        drawn["dataset"] = {"root": str(tmp_path / "data"), "classes": classes}
        drawn["trainer"] |= {"steps": steps, "seed": seed}
        drawn["method"]["lambda_adv"] = lambda_adv
        drawn["trainer"]["augmentation"] = {"crop": list(crop)}
        drawn["trainer"]["segmenter_optimizer"] = {"name": "adam", "lr": lr}
        spec = parse_spec(drawn, source="here")
        path = tmp_path / "again.yaml"
        # As a submitted job travels.
        path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=False))
        assert load_spec(path) == spec
