"""The VQGAN: tokens that never depend on company, files that diffusers reads, clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from refusals import refused
from torch import Tensor

from genkt.files import SEALS
from genkt.generative.vqgan import VQGAN, build_vqmodel, to_signed, to_uint8
from genkt.types import DamagedError


def tiny(seed: int = 0, *, num_codes: int = 32, unit: bool = True) -> VQGAN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_vqmodel(num_codes=num_codes, code_dim=4, channels=(8, 8, 8), size=16)
        codes = torch.randn(num_codes, 4)
    model.quantize.embedding.weight.data = (
        torch.nn.functional.normalize(codes, dim=1) if unit else codes
    )
    return VQGAN(model)


def pictures(num: int, size: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num, 3, size, size), generator=generator, dtype=torch.uint8)


def test_a_token_does_not_depend_on_the_batch() -> None:
    vqgan, images = tiny(), pictures(33)
    whole = vqgan.encode(images)
    one_by_one = torch.cat([vqgan.encode(image[None]) for image in images])
    order = torch.randperm(33, generator=torch.Generator().manual_seed(1))
    assert torch.equal(whole, one_by_one)
    assert torch.equal(vqgan.encode(images[order]), whole[order])


def test_a_pixel_does_not_depend_on_threads_or_company() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vqgan = VQGAN(build_vqmodel(num_codes=64, code_dim=8, channels=(32, 64, 64), size=32))
    tokens = torch.randint(64, (20, 8, 8), generator=torch.Generator().manual_seed(0))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(vqgan.decode(tokens))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert torch.equal(vqgan.decode(tokens[3:5]), found[0][3:5])


def test_near_ties_are_decided_in_float64() -> None:
    vqgan, images = tiny(), pictures(64)
    codes = vqgan.codebook
    apart = 1e-6 * torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    codes.data[1::2] = codes.data[::2] + apart  # pairs float32 cannot part
    exact = vqgan._in_float64()
    latents = vqgan._latents(exact, images)
    expected = (latents[..., None, :] - codes.double()).square().sum(-1).argmin(-1)
    undecided = vqgan._latents(vqgan.model, images)
    plain = (undecided[..., None, :] - codes).square().sum(-1).argmin(-1)
    assert torch.equal(vqgan.encode(images), expected)
    assert not torch.equal(plain, expected)  # without the second look it would differ


def test_with_unit_codes_the_euclidean_lookup_is_the_cosine_one() -> None:
    vqgan, images = tiny(), pictures(5)
    latents = vqgan._latents(vqgan.model, images)
    cosine = torch.nn.functional.normalize(latents, dim=-1) @ vqgan.codebook.T
    assert torch.equal(vqgan.encode(images), cosine.argmax(dim=-1))


def test_tokens_are_those_of_diffusers() -> None:
    vqgan, images = tiny(unit=False), pictures(5)
    with torch.no_grad():
        latents = vqgan.model.encode(to_signed(images)).latents
        quantised, _, (_, _, indices) = vqgan.model.quantize(latents)
        decoded = vqgan.model.decode(quantised, force_not_quantize=True).sample
    tokens = vqgan.encode(images)
    assert torch.equal(tokens.flatten(), indices)
    assert (vqgan.decode(tokens).int() - to_uint8(decoded).int()).abs().max() <= 1


def test_sizes() -> None:
    vqgan = tiny()
    assert (vqgan.size, vqgan.downsampling, vqgan.grid, vqgan.num_codes) == (16, 4, (4, 4), 32)
    assert vqgan.encode(pictures(2, size=24)).shape == (2, 6, 6)  # any multiple of 4


def test_files_come_back_and_diffusers_reads_them(tmp_path: Path) -> None:
    from diffusers import VQModel

    vqgan, images = tiny(), pictures(4)
    again = VQGAN.load(vqgan.save(tmp_path / "vqgan"))
    assert again.fingerprint() == vqgan.fingerprint()
    assert torch.equal(again.encode(images), vqgan.encode(images))
    assert VQModel.from_pretrained(str(tmp_path / "vqgan")).config.sample_size == 16
    half = VQGAN.load(vqgan.save(tmp_path / "half", half=True))
    assert half.codebook.dtype == torch.float32
    assert (tmp_path / "half").stat().st_mode & 0o777 == (tmp_path / "vqgan").stat().st_mode & 0o777
    sizes = [
        (tmp_path / name / "diffusion_pytorch_model.safetensors").stat().st_size
        for name in ("half", "vqgan")
    ]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(2, 3, 16, 16), "images"),
        (torch.zeros(2, 1, 16, 16, dtype=torch.uint8), "images"),
        (torch.zeros(2, 3, 15, 16, dtype=torch.uint8), "images"),
    ],
)
def test_wrong_pictures_are_refused(images: Tensor, said: str) -> None:
    with refused(said):
        tiny().encode(images)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (torch.full((1, 4, 4), 32), "tokens"),
        (torch.full((1, 4, 4), -1), "tokens"),
        (torch.zeros(4, 4, dtype=torch.long), "tokens"),
        (torch.zeros(1, 4, 4), "tokens"),
    ],
)
def test_wrong_tokens_are_refused(tokens: Tensor, said: str) -> None:
    with refused(said):
        tiny().decode(tokens)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with refused("VQGAN"):
        VQGAN.load(tmp_path)
    folder = tiny().save(tmp_path / "vqgan")
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with refused(weights.name, kind=DamagedError):
        VQGAN.load(folder)
    (folder / SEALS).unlink()
    with refused("VQGAN"):
        VQGAN.load(folder)


def test_pixels_survive_the_range() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_signed(images)), images)
