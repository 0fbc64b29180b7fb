"""Views: what they depend on, what they show, and that each model gets timm's own pixels."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from refusals import refused

from genkt.data.images import ImageSet, from_arrays
from genkt.data.views import (
    FIXED_VIEW,
    ImageTransform,
    ViewDataset,
    ViewSpec,
    _border_color,
    render_view,
    view_index_for,
)

HALF = (0.5, 0.5, 0.5)
PLAIN = ImageTransform((16, 16), HALF, HALF)
ALL = ViewSpec(
    num_views=4,
    seed=3,
    crop_scale=(0.3, 1.0),
    crop_ratio=(0.75, 4 / 3),
    hflip=True,
    rotate_degrees=15,
    translate=0.1,
    scale=(0.9, 1.1),
)


def picture(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def image_set(num: int = 6) -> ImageSet:
    pixels = np.random.default_rng(1).integers(0, 256, (num, 20, 24, 3), dtype=np.uint8)
    return from_arrays(pixels, [-1] * num, (), "toy")


class CountingOpener:
    """Opens pictures of another set and counts how often."""

    def __init__(self, images: ImageSet) -> None:
        self.images, self.num_opened = images, 0

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        self.num_opened += 1
        return self.images.open_item(sample_id, item)


def counting(images: ImageSet) -> tuple[ImageSet, CountingOpener]:
    opener = CountingOpener(images)
    opened = ImageSet(images.ids, images.labels, images.classes, images.items, opener)
    return opened, opener


specs = st.builds(
    ViewSpec,
    num_views=st.integers(1, 6),
    seed=st.integers(0, 2**40),
    crop_scale=st.tuples(st.floats(0.05, 0.5), st.floats(0.5, 1)),
    crop_ratio=st.tuples(st.floats(0.5, 1), st.floats(1, 2)),
    hflip=st.booleans(),
    rotate_degrees=st.floats(0, 45),
    translate=st.floats(0, 0.3),
    scale=st.tuples(st.floats(0.7, 1), st.floats(1, 1.3)),
)


@settings(max_examples=25, deadline=None)
@given(spec=specs, sample_id=st.text(max_size=8), size=st.tuples(*[st.integers(2, 40)] * 2))
def test_a_view_depends_only_on_seed_id_and_index(
    spec: ViewSpec, sample_id: str, size: tuple[int, int]
) -> None:
    image, last = picture(*size), spec.num_views - 1
    first = render_view(image, spec, sample_id, last)
    for index in range(last):  # other views drawn in between must not move it
        render_view(image, spec, "another", index)
    again = render_view(image, pickle.loads(pickle.dumps(spec)), sample_id, last)
    assert first.size == again.size and first.tobytes() == again.tobytes()
    assert first.mode == "RGB" and min(first.size) >= 1


def test_views_differ_by_seed_id_and_index() -> None:
    image = picture()
    base = render_view(image, ALL, "a", 0)
    others = [
        render_view(image, ALL, "a", 1),
        render_view(image, ALL, "b", 0),
        render_view(image, ViewSpec(**{**ALL.as_dict(), "seed": 4}), "a", 0),
    ]
    assert all((base.size, base.tobytes()) != (o.size, o.tobytes()) for o in others)


@settings(max_examples=25, deadline=None)
@given(spec=specs, sample_id=st.text(max_size=8), cycle=st.integers(0, 3))
def test_every_view_is_used_once_in_k_epochs(spec: ViewSpec, sample_id: str, cycle: int) -> None:
    epochs = range(cycle * spec.num_views, (cycle + 1) * spec.num_views)
    used = [view_index_for(spec, sample_id, epoch) for epoch in epochs]
    assert sorted(used) == list(range(spec.num_views))


def test_the_order_of_views_is_the_samples_own_and_fresh_views_follow_the_epoch() -> None:
    orders = {tuple(view_index_for(ALL, str(i), e) for e in range(4)) for i in range(20)}
    assert len(orders) > 5
    fresh = ViewSpec(num_views=0, hflip=True)
    assert [view_index_for(fresh, "a", epoch) for epoch in (0, 5, 70)] == [0, 5, 70]
    assert render_view(picture(), fresh, "a", 70).size == (40, 30)


@settings(max_examples=25, deadline=None)
@given(low=st.floats(0.2, 0.8), seed=st.integers(0, 1000))
def test_a_crop_keeps_the_area_and_the_shape_it_was_asked_for(low: float, seed: int) -> None:
    spec = ViewSpec(seed=seed, crop_scale=(low, low + 0.05), crop_ratio=(0.8, 1.25))
    width, height = render_view(picture(200, 180), spec, "a", 0).size
    assert low - 0.02 < width * height / (200 * 180) < low + 0.07
    assert 0.78 < width / height < 1.28


def test_a_crop_that_cannot_fit_is_the_largest_of_the_nearest_shape() -> None:
    spec = ViewSpec(crop_scale=(0.9, 1.0), crop_ratio=(1.0, 1.0))
    assert render_view(picture(200, 50), spec, "a", 0).size == (50, 50)


def test_flips_are_half_and_exact() -> None:
    spec, image = ViewSpec(num_views=200, hflip=True), picture()
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
    views = [render_view(image, spec, "a", index).tobytes() for index in range(200)]
    assert set(views) == {image.tobytes(), mirrored}
    assert 70 < views.count(mirrored) < 130


def test_rotation_turns_counter_clockwise_about_the_centre_and_fills_with_the_ground() -> None:
    pixels = np.full((41, 41, 3), (7, 20, 9), dtype=np.uint8)
    pixels[18:23, :] = 250  # a stroke that touches both borders
    image = Image.fromarray(pixels)
    spec = ViewSpec(num_views=200, rotate_degrees=90)
    views = [np.asarray(render_view(image, spec, "a", index)) for index in range(200)]
    corners = np.array([view[[0, 0, -1, -1], [0, -1, 0, -1]] for view in views])
    dark = (corners == (7, 20, 9)).all(axis=-1)
    assert dark.mean() > 0.9  # the rest: the stroke itself, turned into a corner
    assert all(view[20, 20, 0] == 250 for view in views)  # the centre stays
    upright = [v for v in views if v[2, 20, 0] > 200 and v[38, 20, 0] > 200]
    assert upright and not any(v[20, 0, 0] > 200 for v in upright)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.tuples(*[st.integers(2, 9)] * 2))
def test_the_ground_is_the_median_of_the_border(seed: int, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    edge = np.ones(size, dtype=bool)
    edge[1:-1, 1:-1] = False
    median = np.median(pixels[edge], axis=0).astype(int)
    assert _border_color(Image.fromarray(pixels)) == tuple(median)


def test_translation_moves_by_at_most_its_share() -> None:
    pixels = np.zeros((50, 100, 3), dtype=np.uint8)
    pixels[20:30, 40:60] = 255
    spec = ViewSpec(num_views=100, translate=0.2)
    moves = []
    for index in range(100):
        view = np.asarray(render_view(Image.fromarray(pixels), spec, "a", index))[..., 0] / 255
        ys, xs = np.mgrid[:50, :100]
        moves.append(((view * xs).sum() / view.sum() - 49.5, (view * ys).sum() / view.sum() - 24.5))
    reach = np.abs(moves).max(axis=0)
    assert 15 < reach[0] < 20.1 and 7.5 < reach[1] < 10.1


def test_magnification_follows_its_range() -> None:
    pixels = np.zeros((60, 60, 3), dtype=np.uint8)
    pixels[20:40, 20:40] = 255
    spec = ViewSpec(num_views=2, scale=(1.4999, 1.5001))
    view = np.asarray(render_view(Image.fromarray(pixels), spec, "a", 0))[..., 0] / 255
    assert view.sum() == pytest.approx(30 * 30, rel=0.03)


def test_warp_and_crop_compose_to_the_crop_of_the_warped_picture() -> None:
    image = picture(64, 48)
    warped = render_view(image, ViewSpec(seed=5, rotate_degrees=20, translate=0.1), "a", 0)
    both = ViewSpec(
        seed=5, rotate_degrees=20, translate=0.1, crop_scale=(0.4, 0.5), crop_ratio=(0.9, 1.1)
    )
    plain_crop = ViewSpec(seed=5, crop_scale=(0.4, 0.5), crop_ratio=(0.9, 1.1))
    grid = np.stack(np.broadcast_arrays(np.arange(64), np.arange(48)[:, None], 0), axis=-1)
    corner = np.asarray(render_view(Image.fromarray(grid.astype(np.uint8)), plain_crop, "a", 0))
    view = render_view(image, both, "a", 0)
    left, top = int(corner[0, 0, 0]), int(corner[0, 0, 1])
    expected = warped.crop((left, top, left + view.width, top + view.height))
    difference = np.abs(np.asarray(view).astype(int) - np.asarray(expected).astype(int))
    assert view.size == corner.shape[1::-1] and difference.max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize("size", [(32, 32), (48, 24), (31, 45)])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0, 1.15])
@pytest.mark.parametrize("crop_mode", ["center", "squash"])
def test_the_transform_is_timms_own(
    interpolation: str, size: tuple[int, int], crop_pct: float, crop_mode: str
) -> None:
    from timm.data import create_transform

    mean, std = (0.48, 0.45, 0.4), (0.27, 0.26, 0.28)
    own = ImageTransform(size, mean, std, interpolation, crop_pct, crop_mode)
    reference = create_transform(
        (3, *size), is_training=False, interpolation=interpolation, mean=mean, std=std,
        crop_pct=crop_pct, crop_mode=crop_mode,
    )  # fmt: skip
    for width, height in ((50, 37), (37, 91), (20, 20), (13, 64), (33, 32)):
        image = picture(width, height)
        pixels = own.to_uint8(image, cropped=False)
        assert pixels.dtype == torch.uint8 and pixels.shape == (3, *size)
        assert torch.equal(own.normalize(pixels[None])[0], reference(image)), (width, height)


def test_a_crop_is_resized_straight_to_the_input() -> None:
    transform = ImageTransform((10, 20), HALF, HALF, "bilinear", 0.5)
    image = picture(50, 37)
    expected = np.asarray(image.resize((20, 10), Image.Resampling.BILINEAR))
    assert np.array_equal(transform.to_uint8(image, cropped=True).permute(1, 2, 0), expected)


def test_from_timm_reads_what_a_model_declares() -> None:
    import timm
    from timm.data import resolve_data_config

    config = resolve_data_config({}, model=timm.create_model("test_vit"))
    transform = ImageTransform.from_timm(config)
    assert transform.input_size == config["input_size"][1:]
    assert (transform.mean, transform.std) == (tuple(config["mean"]), tuple(config["std"]))
    assert ImageTransform.from_timm({**config, "crop_mode": "squash"}).crop_mode == "squash"
    with refused("border", key="crop_mode"):
        ImageTransform.from_timm({**config, "crop_mode": "border"})
    with refused(3, 1):
        ImageTransform.from_timm({**config, "input_size": (1, 8, 8)})


def test_normalize_can_be_used_for_training_after_inference_mode() -> None:
    transform = ImageTransform((4, 4), (0.1, 0.2, 0.3), HALF)
    pixels = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    with torch.inference_mode():
        transform.normalize(pixels)
    weight = torch.ones(1, requires_grad=True)
    (transform.normalize(pixels) * weight).sum().backward()
    assert weight.grad is not None
    assert transform.normalize(pixels)[0, :, 0, 0].tolist() == pytest.approx([1.8, 1.6, 1.4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_views": -1}, "num_views"),
        ({"num_views": 2.5}, "num_views"),
        ({"num_views": True}, "num_views"),
        ({"num_views": 4}, "num_views"),
        ({"seed": -3}, "seed"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio"),
        ({"crop_ratio": 3}, "crop_ratio"),
        ({"hflip": 1}, "hflip"),
        ({"rotate_degrees": 200}, "rotate_degrees"),
        ({"translate": 1.0}, "translate"),
        ({"translate": float("nan")}, "translate"),
        ({"scale": (0.0, 2.0)}, "scale"),
    ],
)
def test_a_spec_refuses_values_out_of_range(options: dict[str, object], message: str) -> None:
    with refused(message):
        ViewSpec(**options)  # type: ignore[arg-type]


def test_transform_refuses_values_out_of_range() -> None:
    with refused("bicubik", key="interpolation"):
        ImageTransform((4, 4), HALF, HALF, "bicubik")
    with refused("0.0", key="crop_pct"):
        ImageTransform((4, 4), HALF, HALF, crop_pct=0.0)
    with refused("3 channels", key="mean"):
        ImageTransform((4, 4), (0.5, 0.5), HALF)  # type: ignore[arg-type]
    with refused("view 4", "a", "4 views"):
        render_view(picture(), ALL, "a", 4)


def test_kinds_of_spec() -> None:
    assert FIXED_VIEW.is_fixed and not FIXED_VIEW.is_random
    assert not ALL.is_fixed and ALL.is_random and ALL.crops and ALL.warps
    assert ViewSpec(**{**ALL.as_dict()}) == ALL  # lists, as YAML and JSON give them
    image = picture()
    assert render_view(image, FIXED_VIEW, "a", 0) is image


def test_every_model_gets_the_same_view_at_its_own_size() -> None:
    images = image_set()
    small, large = PLAIN, ImageTransform((24, 20), HALF, HALF, "bilinear", 0.9)
    dataset = ViewDataset(images, ALL, [small, large, small])
    for key in ((0, 0), (3, 2)):
        view = render_view(images.load(key[0]), ALL, images.ids[key[0]], key[1])
        first, second, third = dataset[key]
        assert torch.equal(first, small.to_uint8(view, cropped=True))
        assert torch.equal(second, large.to_uint8(view, cropped=True))
        assert torch.equal(first, third)
    columns = dataset.batch([(0, 0), (3, 2)])
    assert [tuple(column.shape) for column in columns] == [
        (2, 3, 16, 16), (2, 3, 24, 20), (2, 3, 16, 16),
    ]  # fmt: skip
    assert torch.equal(columns[1][1], dataset[3, 2][1])


def test_views_are_decoded_once() -> None:
    images, opener = counting(image_set())
    dataset = ViewDataset(images, ALL, [PLAIN])
    keys = [(i, v) for i in range(6) for v in range(4)]
    first = dataset.batch(keys)[0]
    assert opener.num_opened == 6  # K views of one picture share its decoding
    assert torch.equal(dataset.batch(keys)[0], first)
    assert torch.equal(dataset[5, 3][0], first[-1])
    assert opener.num_opened == 6
    opener.num_opened = 0
    spec = ViewSpec(num_views=0, rotate_degrees=20.0)
    fresh = ViewDataset(images, spec, [PLAIN])
    for epoch in range(3):
        (pixels,) = fresh.batch([(5, epoch), (0, epoch), (5, epoch + 3)])
        for row, key in enumerate([(5, epoch), (0, epoch), (5, epoch + 3)]):
            alone = ViewDataset(images, spec, [PLAIN], memory_bytes=0)
            assert torch.equal(pixels[row], alone[key][0])  # what is kept is not drawn upon
    assert opener.num_opened == 2 + 9 and not fresh._kept


def test_memory_limit_is_kept() -> None:
    images, opener = counting(image_set())
    dataset = ViewDataset(images, FIXED_VIEW, [PLAIN], memory_bytes=2 * 3 * 16 * 16 + 5)
    for _ in range(3):
        for index in range(6):
            dataset[index, 0]
    assert opener.num_opened == 6 + 4 + 4
    opener.num_opened = 0
    sides = [image.size for image in map(images.load, range(6))]
    room = sum(4 * width * height for width, height in sides[:2])
    fresh = ViewDataset(images, ViewSpec(num_views=0, hflip=True), [PLAIN], memory_bytes=room)
    opener.num_opened = 0
    for epoch in range(3):
        fresh.batch([(index, epoch) for index in range(6)])
    assert opener.num_opened == 6 + 4 + 4


def test_worker_processes_render_the_same_pictures() -> None:
    images = image_set()
    dataset = ViewDataset(images, ALL, [PLAIN])
    keys = [[(i, i % 4)] for i in range(6)]
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=keys, num_workers=2)
    for key, (pixels,) in zip(keys, loader, strict=True):
        assert torch.equal(pixels[0], dataset[key[0]][0])
    revived = pickle.loads(pickle.dumps(dataset))
    assert not revived._kept and torch.equal(revived[2, 2][0], dataset[2, 2][0])
