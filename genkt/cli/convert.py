"""``genkt convert FILE``."""

from __future__ import annotations

from genkt.cli.app import read_config
from genkt.cli.positional import with_positionals
from genkt.config.command_settings import ConvertConfig


def run(words: list[str]) -> None:
    """Write the generator's folder and say what it is."""
    settings = read_config(ConvertConfig, "convert", with_positionals(words, "checkpoint"))
    from genkt.generative.convert import CheckpointFacts, convert

    given = CheckpointFacts(
        settings.size, settings.num_heads, settings.num_conditions, settings.sos_token
    )
    done = convert(
        settings.checkpoint, settings.out, kind=settings.kind, config=settings.config,
        given=given, overwrite=settings.overwrite,
    )  # fmt: skip
    height, width = done.vqgan.grid
    print(
        f"{done.folder / 'vqgan'}: pictures of {done.vqgan.size} x {done.vqgan.size} as "
        f"{height} x {width} tokens of {done.vqgan.num_codes} codes"
    )
    if shape := done.transformer:
        classes = f"{shape.num_conditions} classes" if shape.num_conditions else "unconditional"
        print(
            f"{done.folder / 'transformer'}: {shape.num_layers} layers of width {shape.width} "
            f"with {shape.num_heads} heads, {classes}"
        )
