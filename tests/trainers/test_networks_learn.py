"""Every network that is not the paper's learns, resumes, is judged, and is the same as a model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from advseg.models.architectures import DeepLabV3PlusSettings, SegmenterSettings
from advseg.models.bundle import load
from advseg.trainers.loop import Training
from advseg.trainers.optimizers import SGDSettings
from advseg.trainers.reporter import Reporters

NETWORKS: dict[str, SegmenterSettings] = {
    "v3+ at 16": DeepLabV3PlusSettings(architecture="deeplab_v3plus_resnet50"),
    "v3+ at 8, frozen": DeepLabV3PlusSettings(
        architecture="deeplab_v3plus_resnet50", output_stride=8, batch_norm="frozen"
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_it_ends_in_the_same_bits_when_it_was_stopped_and_is_the_same_as_a_model(network, program, shapes, tmp_path):
    recipe = program.recipe_of(
        steps=4, evaluate_every=2, semi_start=2, segmenter_optimizer=SGDSettings(lr=1e-3), collapse_patience=None
    )
    recipe = replace(recipe, segmenter=NETWORKS[network])

    def trained(name: str, stops_at: int | None = None) -> Training:
        with program.small_deeplab():
            training = Training(recipe, shapes, tmp_path / name)
        if stops_at is None:
            training.run(Reporters())
        else:
            reports = training.reports()
            while next(reports).step < stops_at:
                pass
            reports.close()
        return training

    whole = trained("whole")
    trained("stopped", stops_at=4)
    stopped = trained("stopped")
    with program.small_deeplab():
        stopped.export(tmp_path / "model", {})
        model = load(tmp_path / "model")

    segmenter = whole.method.segmenter
    torch.testing.assert_close(stopped.method.segmenter.state_dict(), segmenter.state_dict(), rtol=0, atol=0)
    pixels = shapes.validation[0].read_image()
    with torch.inference_mode():
        logits = segmenter.eval()(model.card.normalisation(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]))
    assert np.array_equal(model.predict(pixels), logits.argmax(1)[0].numpy())
