import torch

from advseg.models.compact import Compact
from advseg.trainers.methods.feature_dropout import factors, forward

KEYS = torch.tensor([5, 5, -1, 2**24 - 1, 0])
OTHER = torch.tensor([False, True, True, False, False])


def test_two_views_of_a_key_share_the_channels_out():
    found = factors(KEYS, OTHER, 64)

    assert torch.equal(found[0] + found[1], torch.full((64,), 2))
    assert torch.equal(found[2], torch.ones(64, dtype=torch.int64))
    for row in (0, 1, 3, 4):
        assert set(found[row].tolist()) == {0, 2}
    assert not torch.equal(found[3], found[4])


def test_about_half_of_the_channels_go_and_neighbouring_keys_have_nothing_in_common():
    kept = factors(torch.arange(4000), torch.zeros(4000, dtype=torch.bool), 64).double() - 1

    assert kept.mean().abs() < 0.01
    assert kept.mean(0).abs().max() < 0.08  # of each channel
    assert (kept[1:] * kept[:-1]).mean(1).abs().mean() < 0.15  # of 64 coins: 0.1
    assert (kept[:, 1:] * kept[:, :-1]).mean(0).abs().max() < 0.08


def test_more_channels_have_the_first_ones_of_fewer():
    assert torch.equal(factors(KEYS, OTHER, 96)[:, :32], factors(KEYS, OTHER, 32))


def test_a_network_decodes_what_is_left_of_its_features():
    torch.manual_seed(0)
    network, images = Compact(3, 8).double(), torch.randn(5, 3, 16, 16, dtype=torch.float64)

    found = forward(network, KEYS, OTHER, images)

    for place, image in enumerate(images.split(1)):
        features = network.encode(image)
        left = tuple(maps * factors(KEYS, OTHER, maps.shape[1])[place].view(1, -1, 1, 1) for maps in features)
        torch.testing.assert_close(found[place : place + 1], network.decode(left, image))
    torch.testing.assert_close(found[2:3], network(images[2:3]))
