"""Masked parallel decoding: all hidden tokens are predicted at once, the most certain stay.

On diffusers' ``UVit2DModel`` (aMUSEd); the steps are those of MaskGIT, see ``mask_steps``.

As in ``sampling``, completions equal those of the network in float64. If an error of the logits
within the slack could change a code or the choice of kept tokens, that row's step is computed again
in float64. So no batch size or order changes a token.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from genkt.files import require_sealed, sealed_folder
from genkt.generative.completer import Seeds
from genkt.generative.decoding.sampling import Sampling, uniforms_for
from genkt.generative.mask_steps import MaskSchedule, MaskStep
from genkt.io import fingerprint, fingerprint_tensors, read_json, write_json
from genkt.precision import full_precision
from genkt.types import UserError

if TYPE_CHECKING:
    from diffusers import UVit2DModel

SLACK = 2.0**-15
"""How far a float32 logit may lie from the float64 one, as a share of the grid's largest |logit|.

Seen in networks of 2 to 22 layers: 2**-20.5 to 2**-19.3, and 2**-17.7 where all weights were three
times as large as at the start of a training."""

ROWS = 64
"""Grids that go through the network at once."""


@dataclass(frozen=True)
class Conditioning:
    """The network's other inputs, the same for every picture.

    Args:
        text: [L, encoder_hidden_size] states of a text encoder.
        pooled: [cond_embed_dim] its pooled state.
        micro: [M] numbers (aMUSEd: height, width, crop corner, aesthetic score).
    """

    text: Tensor
    pooled: Tensor
    micro: Tensor

    @staticmethod
    def null(config: Any) -> Conditioning:
        """Zeros for a network that was trained without text."""
        return Conditioning(
            torch.zeros(1, config.encoder_hidden_size),
            torch.zeros(config.cond_embed_dim),
            torch.zeros(config.micro_cond_embed_dim // config.micro_cond_encode_dim),
        )


class MaskedTransformer(nn.Module):
    """A bidirectional transformer that completes token grids in a few steps (``TokenCompleter``).

    It handles all masks equally well. Its mask token is the last of its vocabulary.

    Args:
        model: a ``UVit2DModel``; ``sample_size`` is the side of its grids in tokens.
        schedule: steps and noise.
        conditioning: what stands for the text; None: zeros.

    Raises:
        UserError: no room for a mask token, or conditioning of another size.

    Example:
        >>> from diffusers import UVit2DModel
        >>> sizes = dict(hidden_size=8, cond_embed_dim=8, encoder_hidden_size=8, in_channels=8,
        ...              block_out_channels=8, num_res_blocks=1, block_num_heads=2,
        ...              num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        ...              micro_cond_encode_dim=4, micro_cond_embed_dim=20)
        >>> model = UVit2DModel(vocab_size=17, codebook_size=16, sample_size=4, **sizes)
        >>> tokens = torch.zeros(1, 4, 4, dtype=torch.long)
        >>> hidden = torch.ones(1, 4, 4, dtype=torch.bool)
        >>> MaskedTransformer(model).complete(tokens, hidden, [[1, 2]], Sampling()).shape
        torch.Size([1, 2, 4, 4])
    """

    def __init__(
        self, model: UVit2DModel, schedule: MaskSchedule | None = None,
        conditioning: Conditioning | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model: Any = cast(Any, model).eval().requires_grad_(False)
        self.schedule = schedule or MaskSchedule()
        self.conditioning = conditioning or Conditioning.null(self.model.config)
        self._copies: dict[tuple[torch.dtype, torch.device], Any] = {}
        if self.model.config.vocab_size <= self.num_codes:
            raise UserError.of(
                "masked transformer",
                (
                    f"a vocabulary of more than its {self.num_codes} codes (the last token is the "
                    "mask)"
                ),
                self.model.config.vocab_size,
            )
        expected = asdict(Conditioning.null(self.model.config))
        for name, given in asdict(self.conditioning).items():
            if given.ndim != expected[name].ndim or given.shape[-1:] != expected[name].shape[-1:]:
                raise UserError.of(
                    "conditioning",
                    f"{name} of shape {list(expected[name].shape)}",
                    list(given.shape),
                )

    @property
    def num_codes(self) -> int:
        """Tokens it draws: 0 to num_codes - 1."""
        return int(self.model.config.codebook_size)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the tokens."""
        return (int(self.model.config.sample_size),) * 2

    @torch.no_grad()
    def complete(
        self, tokens: Tensor, hidden: Tensor, seeds: Seeds, sampling: Sampling,
        conditions: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See ``TokenCompleter``; ``conditions`` must be None.

        Raises:
            UserError: grids of another size, tokens that are no codes, or conditions.
        """
        self._check(tokens, hidden, seeds, conditions)
        num_samples = len(seeds[0]) if len(seeds) else 1
        device = next(self.model.parameters()).device
        grids = tokens.masked_fill(hidden, self.model.config.vocab_size - 1).to(device)
        rows = grids.flatten(1).repeat_interleave(num_samples, dim=0)
        unknown = hidden.to(device).flatten(1).repeat_interleave(num_samples, dim=0)
        flat = [[seed] for row in seeds for seed in row]
        with full_precision(device):
            for start in range(0, len(rows), ROWS):
                part = slice(start, start + ROWS)
                self._fill(rows[part], unknown[part], flat[part], sampling)
        return rows.to(tokens.device).view(len(tokens), num_samples, *self.grid)

    def _fill(self, rows: Tensor, unknown: Tensor, seeds: Seeds, sampling: Sampling) -> None:
        """Complete ``rows`` [R, T] in place; ``unknown`` [R, T] becomes all False."""
        counts = [self.schedule.num_unknown(count) for count in unknown.sum(dim=1).tolist()]
        num_steps = self.schedule.num_steps
        uniforms = uniforms_for(seeds, num_steps * 2 * rows.shape[1]).to(rows.device)
        uniforms = uniforms.view(len(rows), num_steps, 2, rows.shape[1])
        for step in range(max(len(count) for count in counts) - 1):
            going_on = [row for row, count in enumerate(counts) if len(count) > step + 1]
            num_left = [counts[row][step + 1] for row in going_on]
            active, left = torch.tensor([going_on, num_left]).to(rows.device, non_blocking=True)
            state = MaskStep(
                rows[active],
                unknown[active],
                uniforms[active, step],
                left,
                self.schedule.order_noise * (1 - (step + 1) / num_steps),
            )
            rows[active], unknown[active] = self._advance(state, sampling)

    def _advance(self, state: MaskStep, sampling: Sampling) -> tuple[Tensor, Tensor]:
        """The rows and what is unknown in them after a step."""
        mask_token = self.model.config.vocab_size - 1
        if sampling.precision == "bfloat16":
            logits = self._logits(state.rows, torch.bfloat16)
            codes, left, _ = state.outcome(logits, sampling, logits.new_zeros(len(logits)))
        else:
            logits = self._logits(state.rows, torch.float32)
            codes, left, certain = state.outcome(logits, sampling, SLACK * _largest(logits))
            # One row at a time, so that no other row can change its arithmetic.
            for row in (~certain).nonzero()[:, 0].tolist():
                alone = state.only(row)
                exact = self._logits(alone.rows, torch.float64)
                some = alone.outcome(exact, sampling, exact.new_zeros(1))
                codes[row], left[row] = some[0][0], some[1][0]
        drawn = torch.where(state.unknown, codes, state.rows)
        return drawn.masked_fill(left, mask_token), left

    def _logits(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """[R, T] tokens -> [R, T, num_codes], computed in ``dtype``."""
        count, model = len(rows), self._in(dtype)
        text, pooled, micro = (
            part.to(rows.device, dtype, non_blocking=True).expand(count, *part.shape)
            for part in (self.conditioning.text, self.conditioning.pooled, self.conditioning.micro)
        )
        logits: Tensor = model(
            rows.view(count, *self.grid), encoder_hidden_states=text, pooled_text_emb=pooled,
            micro_conds=micro,
        )  # fmt: skip
        return logits.flatten(2).transpose(1, 2)

    def _in(self, dtype: torch.dtype) -> Any:
        """The network in ``dtype``; a copy made once per device."""
        parameter = next(self.model.parameters())
        if parameter.dtype == dtype:
            return self.model
        key = (dtype, parameter.device)
        if key not in self._copies:
            self._copies[key] = nn.Module.to(copy.deepcopy(self.model), dtype)
        return self._copies[key]

    def save(self, directory: str | Path) -> Path:
        """Write diffusers' files, ``schedule.json`` and ``conditioning.safetensors``."""
        from safetensors.torch import save

        num_bytes = sum(value.nbytes for value in self.model.state_dict().values())
        with sealed_folder(directory, num_bytes) as temporary:
            self.model.save_pretrained(temporary, safe_serialization=True)
            write_json(temporary / "schedule.json", asdict(self.schedule))
            parts = {name: part.contiguous() for name, part in asdict(self.conditioning).items()}
            (temporary / "conditioning.safetensors").write_bytes(save(parts))
        return Path(directory)

    @staticmethod
    def load(directory: str | Path) -> MaskedTransformer:
        """Read a folder that ``save`` wrote, or the ``transformer`` of an aMUSEd pipeline.

        Without ``schedule.json`` the schedule is the default one, without
        ``conditioning.safetensors`` the conditioning is zeros.

        Raises:
            UserError: no such folder, or files that do not fit together.
        """
        from diffusers import UVit2DModel
        from safetensors.torch import load_file

        path = Path(directory)
        if not (path / "config.json").is_file():
            raise UserError(f"{path}: expected a masked transformer (config.json), found none")
        require_sealed(path)
        try:
            named = read_json(path / "config.json").get("_class_name")
            if named != "UVit2DModel":
                raise UserError(f"expected a UVit2DModel, got a {named}")
            read: Any = UVit2DModel.from_pretrained
            model = read(str(path), local_files_only=True, low_cpu_mem_usage=False).float()
            file = path / "schedule.json"
            schedule = MaskSchedule(**read_json(file)) if file.is_file() else None
            file = path / "conditioning.safetensors"
            conditioning = Conditioning(**load_file(file)) if file.is_file() else None
            return MaskedTransformer(model, schedule, conditioning)
        except Exception as error:  # a damaged file raises anything
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path}: not a readable masked transformer: {reason}") from error

    def fingerprint(self) -> str:
        """Hash of everything that decides its tokens: weights, schedule, conditioning."""
        return fingerprint(
            fingerprint_tensors(self.model.state_dict()),
            fingerprint_tensors(asdict(self.conditioning)),
            asdict(self.schedule),
        )

    def _check(
        self, tokens: Tensor, hidden: Tensor, seeds: Seeds, conditions: Tensor | None
    ) -> None:
        expected = (len(tokens), *self.grid)
        for name, grid in (("tokens", tokens), ("hidden", hidden)):
            if tuple(grid.shape) != expected:
                raise UserError.of(name, f"shape {expected}", tuple(grid.shape))
        visible = tokens[~hidden]
        wrong = visible[(visible < 0) | (visible >= self.num_codes)]
        if len(wrong):
            raise UserError.of("tokens", f"0 to {self.num_codes - 1}", int(wrong[0]))
        if len(seeds) != len(tokens) or len({len(row) for row in seeds}) > 1:
            raise UserError(f"seeds: expected {len(tokens)} rows of one length, one row per grid")
        if conditions is not None:
            raise UserError("conditions: this masked transformer knows no classes; expected none")


def _largest(logits: Tensor) -> Tensor:
    """[R] the largest |logit| of each row."""
    return logits.abs().amax(dim=(1, 2))
