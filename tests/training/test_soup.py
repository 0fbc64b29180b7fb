"""Soups: means by hand, batch-norm statistics by hand, and what must not move."""

from __future__ import annotations

import pytest
import torch
from refusals import refused
from torch import Tensor, nn
from training_cases import TRANSFORM, assert_same, tiny_net, tiny_resnet

from genkt.models.backbone import Backbone
from genkt.training.soup import average_weights, recalibrate_batch_norm


def batches(count: int = 3, rows: int = 4, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, 3, 16, 16)
    return [torch.randint(0, 256, shape, generator=generator).byte() for _ in range(count)]


class Normed(nn.Module):
    """Batch norm at the entrance, and again after a convolution; dropout between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3, momentum=0.1)
        self.mix = nn.Conv2d(3, 5, 3)
        self.second = nn.BatchNorm2d(5, momentum=0.3)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.second(self.mix(self.dropout(self.first(images))))
        return self.head(self.dropout(maps.mean(dim=(2, 3))))  # type: ignore[no-any-return]


def normed() -> Backbone:
    torch.manual_seed(0)
    return Backbone(Normed(), TRANSFORM, "normed")


def test_the_mean_by_hand() -> None:
    states = [tiny_resnet(seed).state_dict() for seed in range(3)]
    for number, state in enumerate(states):
        state["model.bn1.num_batches_tracked"] = torch.tensor(7 + number)
    found = average_weights(states)
    assert found.keys() == states[0].keys()
    for name, value in found.items():
        assert value.dtype == states[0][name].dtype
        if not value.is_floating_point():
            assert torch.equal(value, states[0][name]), name
            continue
        rows = [state[name].flatten().tolist() for state in states]
        mean = [sum(numbers) / 3 for numbers in zip(*rows, strict=True)]
        assert torch.equal(value.flatten(), torch.tensor(mean, dtype=torch.float64).float()), name
    assert found["model.bn1.num_batches_tracked"].item() == 7
    tiny_resnet().load_state_dict(found)


def test_the_mean_is_taken_in_float64() -> None:
    states = [{"w": torch.tensor([value])} for value in (2.0**25, 1.0, 1.0, 1.0)]
    assert average_weights(states)["w"].item() == torch.tensor((2.0**25 + 3) / 4).item()
    narrow = [{"w": torch.tensor([value]).half()} for value in (60000.0, 60000.0)]
    mean = average_weights(narrow)["w"]
    assert mean.dtype == torch.float16 and mean.item() == narrow[0]["w"].item()


def test_one_student_is_its_own_soup_and_shares_no_memory() -> None:
    state = tiny_resnet().state_dict()
    found = average_weights([state])
    assert_same(found, dict(state))
    addresses = {value.data_ptr() for value in state.values()}
    assert addresses.isdisjoint(value.data_ptr() for value in found.values())


def test_students_of_different_models_are_refused() -> None:
    state = tiny_net().state_dict()
    with refused(key="soup"):
        average_weights([])
    wide = tiny_net(width=9).state_dict()
    with refused("model.stem.weight", 8, 0, 9):
        average_weights([state, wide])
    less = {name: value for name, value in state.items() if name != "model.head.bias"}
    with refused("model.head.bias", 0, 2):
        average_weights([state, state, less])
    with refused("model.head.bias", 1, 0):
        average_weights([less, state])


def test_statistics_by_hand() -> None:
    """Plain averages over the batches of batch means and unbiased variances, layer by layer."""
    model = normed()
    layers, pictures = model.model, batches()
    with torch.no_grad():
        layers.first.weight.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
        layers.first.running_mean.fill_(9)  # type: ignore[union-attr, operator]
    recalibrate_batch_norm(model, pictures)
    inputs = [model.normalize(batch).double() for batch in pictures]
    twin = normed().double().model
    twin.load_state_dict({k: v.double() for k, v in layers.state_dict().items()})
    for name in ("first", "second"):
        layer = getattr(layers, name)
        means = [x.mean(dim=(0, 2, 3)) for x in inputs]
        variances = [x.transpose(0, 1).flatten(1).var(dim=1, correction=1) for x in inputs]
        for found, expected in ((layer.running_mean, means), (layer.running_var, variances)):
            torch.testing.assert_close(found.double(), sum(expected) / 3, rtol=1e-5, atol=1e-6)
        assert layer.num_batches_tracked.item() == 3
        own = getattr(twin, name).train()  # normalises by the batch, as the layer did
        with torch.no_grad():
            inputs = [twin.mix(own(x)) for x in inputs] if name == "first" else inputs


def test_only_statistics_move_and_nothing_is_random() -> None:
    model, again = normed(), normed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    recalibrate_batch_norm(model, batches())
    assert torch.equal(torch.get_rng_state(), random_state)
    recalibrate_batch_norm(again, iter(batches()))
    assert_same(model.state_dict(), again.state_dict())
    recalibrate_batch_norm(again, batches())  # what was there before does not count
    assert_same(model.state_dict(), again.state_dict())
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"model.{layer}.{kind}" for layer in ("first", "second") for kind in kinds}
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (model.model.first.momentum, model.model.second.momentum) == (0.1, 0.3)  # type: ignore[union-attr]


@pytest.mark.parametrize("frozen", [False, True])
def test_modes_are_restored_part_by_part(frozen: bool) -> None:
    model = normed()
    model.train()
    model.model.second.eval()  # type: ignore[union-attr, operator]
    if frozen:
        model.freeze()
    modes = [module.training for module in model.modules()]
    assert any(modes) != frozen
    recalibrate_batch_norm(model, batches())
    assert [module.training for module in model.modules()] == modes

    def broken() -> object:
        yield batches(1)[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        recalibrate_batch_norm(model, broken())  # type: ignore[arg-type]
    assert [module.training for module in model.modules()] == modes
    assert model.model.first.momentum == 0.1  # type: ignore[union-attr]


def test_a_model_without_batch_norm_is_left_alone() -> None:
    model = tiny_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def pictures() -> object:
        raise AssertionError("nothing is read")
        yield

    recalibrate_batch_norm(model, pictures())  # type: ignore[arg-type]
    assert_same(model.state_dict(), before)


def test_timms_own_batch_norm_counts() -> None:
    """Its BatchNormAct2d is a batch norm with an activation."""
    import timm

    torch.manual_seed(0)
    net = timm.create_model("mobilenetv3_small_050", num_classes=3)
    model = Backbone(net, TRANSFORM, "mobilenet")
    before = model.model.bn1.running_mean.clone()  # type: ignore[union-attr, operator]
    recalibrate_batch_norm(model, batches())
    assert model.model.bn1.num_batches_tracked.item() == 3  # type: ignore[union-attr, operator]
    assert not torch.equal(model.model.bn1.running_mean, before)  # type: ignore[union-attr]


def test_no_images_are_refused_and_change_nothing() -> None:
    model = tiny_resnet()
    recalibrate_batch_norm(model, batches())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with refused(key="soup"):
        recalibrate_batch_norm(model, [])
    assert_same(model.state_dict(), before)


def test_a_frozen_model_does_not_move_by_itself() -> None:
    model = tiny_resnet().freeze()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    model(model.normalize(batches()[0]))
    assert_same(model.state_dict(), before)


def test_batch_norm_of_one_value_is_told() -> None:
    with refused(key="soup", got="1"):
        recalibrate_batch_norm(tiny_resnet(), [torch.zeros(1, 3, 16, 16, dtype=torch.uint8)])
