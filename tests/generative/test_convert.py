"""Official checkpoints converted: the same tokens, pictures and logits as taming's own modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from safetensors.torch import save_file
from taming.modules.transformer.mingpt import sample
from taming_cases import (
    BY_CLASS,
    CLASSES,
    CODE_DIM,
    CODES,
    HEADS,
    SIZE,
    TamingTransformer,
    TamingVQ,
    assert_same_vqgan,
    convert_state,
    transformer_yaml,
    vqgan_yaml,
    write_yaml,
)
from test_safe_pickle import save_like_lightning, write_call
from tiny import run, tree
from torch import Tensor, nn

from genkt.generative.convert import CheckpointFacts, convert
from genkt.generative.decoding.sampling import Sampling
from genkt.generative.generator import load_generator
from genkt.generative.latent_transformer import LatentTransformer
from genkt.generative.vqgan import VQGAN
from genkt.types import UserError


@pytest.mark.parametrize("resolutions", [[], [8], [16], [16, 8]], ids=str)
@pytest.mark.parametrize("blocks", [1, 2])
def test_vqgan_tokens_latents_and_pictures(
    blocks: int, resolutions: list[int], tmp_path: Path
) -> None:
    taming = TamingVQ(attn_resolutions=resolutions, num_res_blocks=blocks)
    path = save_like_lightning(tmp_path / "x.ckpt", taming.state_dict())
    described = vqgan_yaml(attn_resolutions=resolutions, num_res_blocks=blocks)
    done = convert(path, tmp_path / "out", config=write_yaml(tmp_path / "x.yaml", described))
    assert done.transformer is None
    assert sorted(tree(tmp_path / "out")) == [
        "vqgan/config.json", "vqgan/diffusion_pytorch_model.safetensors", "vqgan/digests.json",
    ]  # fmt: skip
    assert done.vqgan.size == SIZE and done.vqgan.grid == (8, 8) and done.vqgan.num_codes == CODES
    assert_same_vqgan(VQGAN.load(tmp_path / "out" / "vqgan"), taming)


def test_vqgan_of_more_resolutions(tmp_path: Path) -> None:
    taming = TamingVQ(ch_mult=[1, 1, 2, 4], attn_resolutions=[4])
    convert_state(tmp_path, taming.state_dict())
    assert_same_vqgan(VQGAN.load(tmp_path / "out" / "vqgan"), taming)


def test_vqgan_without_attention_in_the_middle(tmp_path: Path) -> None:
    taming = TamingVQ(attn_resolutions=[])
    for part in (taming.encoder, taming.decoder):
        part.mid.attn_1 = nn.Identity()  # LDM's attn_type: none
    convert_state(tmp_path, taming.state_dict())
    assert_same_vqgan(VQGAN.load(tmp_path / "out" / "vqgan"), taming)


def test_other_files_of_the_same_weights(tmp_path: Path) -> None:
    state = TamingVQ().state_dict()
    convert_state(tmp_path, state)
    expected = tree(tmp_path / "out")
    save_file(state, tmp_path / "x.safetensors")
    convert(tmp_path / "x.safetensors", tmp_path / "two", given=CheckpointFacts(SIZE))
    assert tree(tmp_path / "two") == expected
    save_like_lightning(tmp_path / "old.ckpt", state, legacy=True)
    convert(tmp_path / "old.ckpt", tmp_path / "three", given=CheckpointFacts(SIZE))
    assert tree(tmp_path / "three") == expected
    trained = {f"first_stage_model.{name}": value for name, value in state.items()}
    trained["model.diffusion_model.out.weight"] = torch.zeros(2, 2)  # an LDM: its VQGAN is taken
    torch.save(trained, tmp_path / "ldm.ckpt")
    convert(tmp_path / "ldm.ckpt", tmp_path / "four", given=CheckpointFacts(SIZE))
    assert tree(tmp_path / "four") == expected
    averaged = {**state, "quantize.embedding.cluster_size": torch.ones(CODES)}
    averaged["quantize.embedding.embed_avg"] = torch.ones(CODES, CODE_DIM)
    torch.save(averaged, tmp_path / "averaged.ckpt")
    convert(tmp_path / "averaged.ckpt", tmp_path / "five", given=CheckpointFacts(SIZE))
    assert tree(tmp_path / "five") == expected


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    taming = TamingVQ().half()
    convert_state(tmp_path, taming.state_dict())
    loaded = VQGAN.load(tmp_path / "out" / "vqgan")
    assert loaded.codebook.dtype == torch.float32
    assert_same_vqgan(loaded, taming.float())


@pytest.mark.parametrize("condition", ["class", "start"])
def test_transformer_logits_and_completions(condition: str, tmp_path: Path) -> None:
    taming = TamingTransformer()
    path = save_like_lightning(tmp_path / "x.ckpt", taming.state_dict())
    if condition == "class":
        described = transformer_yaml(BY_CLASS)
    else:
        described = transformer_yaml("__is_unconditional__", sos_token=5)
    config = write_yaml(tmp_path / "x.yaml", described)
    done = convert(path, tmp_path / "out", config=config)
    assert done.transformer is not None
    assert done.transformer.num_conditions == (CLASSES if condition == "class" else 0)

    loaded = LatentTransformer.load(tmp_path / "out" / "transformer")
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, CODES, (3, 64), generator=generator)
    assert torch.equal(loaded.gpt(tokens)[0], taming.transformer(tokens)[0])
    classes = torch.tensor([0, 3, 9]) if condition == "class" else None
    starts = loaded.start_tokens(torch.zeros(3, dtype=torch.long), classes)
    assert starts.tolist() == ([0, 3, 9] if condition == "class" else [5, 5, 5])

    whole = load_generator(tmp_path / "out")
    assert_same_vqgan(whole.vqgan, taming.first_stage_model)
    hidden = torch.zeros(3, 8, 8, dtype=torch.bool)
    hidden[:, 5:] = True
    grid = tokens.view(3, 8, 8)
    drawn = whole.draw(grid, hidden, [[0]] * 3, Sampling(temperature=0.0), classes)
    visible = torch.cat([starts[:, None], tokens[:, :40]], dim=1)
    expected = sample(taming.transformer, visible, steps=24)[:, 1:]
    assert torch.equal(drawn.view(3, 64), expected)


def test_explicit_facts_go_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save(TamingTransformer().state_dict(), path)
    given = CheckpointFacts(SIZE, num_heads=2, num_conditions=0, sos_token=3)
    done = convert(path, tmp_path / "a", given=given)
    assert done.transformer is not None
    assert (done.transformer.num_heads, done.transformer.sos_offset) == (2, 3)
    config = write_yaml(tmp_path / "x.yaml", transformer_yaml(BY_CLASS))
    done = convert(path, tmp_path / "b", config=config, given=CheckpointFacts(num_heads=8))
    assert done.transformer is not None
    assert (done.transformer.num_heads, done.transformer.num_conditions) == (8, CLASSES)


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not any(n in key for n in names)}


def renamed(state: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {key.replace(old, new): value for key, value in state.items()}


UNFIT = {
    "a Gumbel VQGAN": renamed(TamingVQ().state_dict(), "quantize.embedding.", "quantize.embed."),
    r"without a codebook \(KL\)": without(TamingVQ().state_dict(), "quantize."),
    "no VQGAN: expected quantize.embedding.weight": {"fc.weight": torch.zeros(2, 2)},
    "remapped codebook": {**TamingVQ().state_dict(), "quantize.used": torch.zeros(3)},
    "linear attention": renamed(TamingVQ().state_dict(), ".attn_1.q.", ".attn_1.fn.to_qkv."),
    r"encoder.down.1 has attention after 1 of its 2 blocks": without(
        TamingVQ(num_res_blocks=2).state_dict(), "encoder.down.1.attn.1"
    ),
    "only one of encoder and decoder has attention": without(
        TamingVQ().state_dict(), "encoder.mid.attn_1"
    ),
    "ch_mult: expected to start with 1, got 2": TamingVQ(ch_mult=[2, 4]).state_dict(),
    "num_res_blocks: expected 1 blocks at each of 2": without(
        TamingVQ().state_dict(), "decoder.up.0.block.1"
    ),
    r"in_channels: expected 3 \(RGB pictures\), got 4": TamingVQ(in_channels=4).state_dict(),
    "double_z: expected false": TamingVQ(double_z=True).state_dict(),
    "1 of .* missing, 0 unknown .first: decoder.conv_out.bias": without(
        TamingVQ().state_dict(), "decoder.conv_out.bias"
    ),
    "0 of .* missing, 1 unknown .first: encoder.extra": {
        **TamingVQ().state_dict(), "encoder.extra": torch.zeros(1),
    },
    "expected floats": {**TamingVQ().state_dict(), "encoder.conv_in.bias": torch.zeros(33)},
    "expected encoder.down.0": renamed(TamingVQ().state_dict(), "down.0", "down.7"),
}  # fmt: skip


@pytest.mark.parametrize("expected", UNFIT, ids=str)
def test_networks_that_do_not_fit(expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=expected):
        convert_state(tmp_path, UNFIT[expected])
    assert not (tmp_path / "out").exists()


NETWORK = TamingTransformer().state_dict()
UNFIT_NETWORKS: dict[str, tuple[dict[str, Tensor], dict[str, int]]] = {
    "n_unmasked": (TamingTransformer(n_unmasked=3).state_dict(), {}),
    "output of another network": ({**NETWORK, "cond_stage_model.x": torch.zeros(1)}, {}),
    "permuter": ({**NETWORK, "permuter.idx": torch.zeros(1)}, {}),
    "a divisor of the width 16, got 5": (NETWORK, {"num_heads": 5}),
    "vocab_size: expected at least 25": (NETWORK, {"num_conditions": 25}),
    "size: expected a multiple of 2": (NETWORK, {"size": 15}),
    "block_size: expected at least 256": (NETWORK, {"size": 32}),
    "not taming's GPT over tokens": (without(NETWORK, "pos_emb"), {}),
    "not a GPT of this layout": (without(NETWORK, "ln_f.bias"), {}),
    "expected transformer.tok_emb.weight": (without(NETWORK, "tok_emb"), {}),
    "no VQGAN": (without(NETWORK, "first_stage"), {}),
}


@pytest.mark.parametrize("expected", UNFIT_NETWORKS, ids=str)
def test_transformers_that_do_not_fit(expected: str, tmp_path: Path) -> None:
    state, given = UNFIT_NETWORKS[expected]
    facts = CheckpointFacts(**{"size": SIZE, "num_heads": HEADS, "num_conditions": 0, **given})
    with pytest.raises(UserError, match=expected):
        convert_state(tmp_path, state, facts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (transformer_yaml({"target": "taming.modules.misc.coord.CoordStage"}), "by .*CoordStage"),
        (transformer_yaml("__is_first_stage__"), "by __is_first_stage__"),
        (transformer_yaml(BY_CLASS, permuter_config={"target": "a.b.Spiral"}), "permuter"),
        ({"model": {"target": "x"}}, "expected model.params"),
        (["x"], "expected model.params"),
        (vqgan_yaml(ch=64), "config: ch is 64 there and 32 in the checkpoint"),
        (vqgan_yaml(resolution="big"), "size: the checkpoint does not say it"),
        (vqgan_yaml(tanh_out=True), "tanh_out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_descriptions_that_do_not_fit(content: Any, expected: str, tmp_path: Path) -> None:
    config = write_yaml(tmp_path / "x.yaml", content)
    known = CheckpointFacts(num_heads=HEADS, num_conditions=0)
    with pytest.raises(UserError, match=expected):
        convert_state(tmp_path, TamingTransformer().state_dict(), known, config=config)


def test_the_vqgan_of_a_transformer_that_does_not_fit(tmp_path: Path) -> None:
    described = transformer_yaml({"target": "taming.modules.misc.coord.CoordStage"})
    config = write_yaml(tmp_path / "x.yaml", described)
    done = convert_state(tmp_path, NETWORK, CheckpointFacts(), kind="vqgan", config=config)
    assert done.transformer is None and done.vqgan.size == SIZE
    (tmp_path / "file").touch()
    with refused("file"):
        convert(tmp_path / "x.ckpt", tmp_path / "file", given=CheckpointFacts(SIZE))


_IMPORTS = """
import sys
from genkt.generative.convert import CheckpointFacts, convert
convert({path!r}, {out!r}, given=CheckpointFacts(16, 4, 0))
print([name for name in ("pytorch_lightning", "lightning", "omegaconf") if name in sys.modules])
"""


def test_converting_imports_no_lightning_and_no_omegaconf(tmp_path: Path) -> None:
    path = save_like_lightning(tmp_path / "x.ckpt", NETWORK)
    code = _IMPORTS.format(path=str(path), out=str(tmp_path / "out"))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "out" / "transformer" / "model.safetensors").is_file()


def test_a_description_that_is_no_plain_yaml(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    config = tmp_path / "x.yaml"
    config.write_text(f"model: !!python/object/apply:os.system ['touch {canary}']")
    with refused("x.yaml"):
        convert_state(tmp_path, TamingVQ().state_dict(), config=config)
    assert not canary.exists()
    with refused("none.yaml"):
        convert_state(tmp_path, TamingVQ().state_dict(), config=tmp_path / "none.yaml")


def test_the_command(tmp_path: Path) -> None:
    path = save_like_lightning(tmp_path / "x.ckpt", TamingTransformer().state_dict())
    out = tmp_path / "out, here"
    words = ["convert", str(path), f"out={out}"]
    ran = run(*words)
    assert ran.code == 2 and not out.exists()
    assert [line.split(":")[1].strip() for line in ran.lines] == [
        "size", "num_heads", "num_conditions",
    ]  # fmt: skip
    config = write_yaml(tmp_path / "x.yaml", transformer_yaml(BY_CLASS))
    ran = run(*words, f"config={config}")
    assert ran.code == 0, ran.err
    assert "pictures of 16 x 16 as 8 x 8 tokens of 24 codes" in ran.out
    assert "2 layers of width 16 with 4 heads, 10 classes" in ran.out
    expected = tree(out)
    ran = run(*words, f"config={config}")
    assert ran.code == 2 and "exists; give another out= or overwrite=true" in ran.err
    assert run(*words, f"config={config}", "overwrite=true").code == 0 and tree(out) == expected
    assert run(*words, f"config={config}", "kind=vqgan", "overwrite=true").code == 0
    assert sorted(tree(out)) == sorted(name for name in expected if name.startswith("vqgan/"))

    torch.save(TamingVQ().state_dict(), tmp_path / "v.ckpt")
    ran = run("convert", str(tmp_path / "v.ckpt"), "kind=transformer", "out=y", "size=16")
    assert ran.code == 2 and "holds no transformer" in ran.err
    assert run("convert", "x.ckpt", "out=y", "kind=vqgn").code == 2


def test_the_command_refuses_code_in_one_line(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = write_call(tmp_path / "x.ckpt", "os", "system", f"touch {canary}")
    ran = run("convert", str(path), f"out={tmp_path / 'out'}", "size=16")
    assert ran.code == 2 and len(ran.err.splitlines()) == 1
    assert "it names os.system" in ran.err.replace("posix", "os")
    assert not canary.exists() and not (tmp_path / "out").exists()
